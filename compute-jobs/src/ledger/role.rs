//! The coordinator's role: taken, renewed, given back.
//!
//! Invariant: the term's row changes only when the role changes hands, and every commit of a coordinator checks it. Times
//! say when another may try, and nothing more.

use std::time::Duration;

use super::{Ledger, LedgerError};
use crate::rows::{self, RenewalRow, TermRow};
use crate::turn::{Term, Turn};

impl Ledger {
    /// Takes the role, unless somebody has it and renews it. Who is `alone` on this metadata knows that nobody does.
    pub(crate) async fn take_role(
        &self,
        holder: u128,
        time: Duration,
        alone: bool,
    ) -> Result<Option<Term>, LedgerError> {
        let mut turn = Turn::begin(&self.kv).await?;
        let (term, renewal) = (rows::term(), rows::renewal());
        let found = turn.get::<TermRow>(&term).await?;
        let renewed = turn.get::<RenewalRow>(&renewal).await?;
        let now = self.now();
        if !alone && renewed.is_some_and(|renewed| now <= renewed.until) {
            return Ok(None);
        }
        let number = found.map_or(1, |found| found.number + 1);
        turn.put(term, &TermRow { number, holder });
        turn.put(renewal, &RenewalRow { until: now.saturating_add(time.as_secs()) });
        Ok(turn.commit().await?.map(|version| Term { version, number }))
    }

    /// Keeps the role for longer.
    pub(crate) async fn renew_role(&self, term: Term, time: Duration) -> Result<(), LedgerError> {
        self.set_renewal(term, self.now().saturating_add(time.as_secs())).await
    }

    /// Gives the role back, for anybody to take.
    pub(crate) async fn resign(&self, term: Term) -> Result<(), LedgerError> {
        self.set_renewal(term, 0).await
    }

    async fn set_renewal(&self, term: Term, until: u64) -> Result<(), LedgerError> {
        let mut turn = Turn::of_term(&self.kv, term).await?;
        turn.put(rows::renewal(), &RenewalRow { until });
        turn.commit().await?;
        Ok(())
    }
}
