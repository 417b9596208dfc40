//! Families of jobs that ended long ago, removed.
//!
//! Invariant: a family is marked before anything of it goes, and what is submitted meanwhile waits; its own row goes
//! last, so that who dies half-way is followed by another.

use ashlar_compute_api::JobId;
use ashlar_metadata::KeyRange;

use super::{Ledger, LedgerError};
use crate::rows::{self, FamilyRow, JobRow, PrincipalRow};
use crate::turn::{Term, Turn};

/// Rows that one commit removes.
const PURGE_STEP: usize = 1_000;

impl Ledger {
    /// Families whose newest attempt ended before a time, the earliest first.
    pub(crate) async fn ended_before(&self, time: u64, limit: usize) -> Result<Vec<JobId>, LedgerError> {
        let turn = Turn::begin(&self.kv).await?;
        let page = turn.scan(KeyRange::prefix(rows::ended_prefix()), limit).await?;
        let ended = page.rows.iter().filter_map(|(key, _)| rows::parse_ended(key));
        Ok(ended.take_while(|(at, _)| *at < time).map(|(_, family)| family).collect())
    }

    /// Marks a family, unless somebody began a new attempt.
    pub(crate) async fn begin_purge(
        &self,
        term: Term,
        family: JobId,
        before: u64,
    ) -> Result<bool, LedgerError> {
        let mut turn = Turn::of_term(&self.kv, term).await?;
        let key = rows::family(family);
        let Some(row) = turn.get::<FamilyRow>(&key).await? else { return Ok(false) };
        if row.ended_at.is_none_or(|at| at >= before) {
            return Ok(false);
        }
        turn.put(key, &FamilyRow { is_leaving: true, ..row });
        Ok(turn.commit().await?.is_some())
    }

    /// Removes the rows of a marked family, whose objects are gone.
    pub(crate) async fn finish_purge(&self, term: Term, family: JobId) -> Result<(), LedgerError> {
        let turn = Turn::begin(&self.kv).await?;
        let Some(marked) = turn.peek::<FamilyRow>(&rows::family(family)).await? else { return Ok(()) };
        drop(turn);
        for attempt in 1..=marked.attempt {
            let id = family.attempt(attempt);
            self.remove_all(term, rows::units_open_prefix(id)).await?;
            self.remove_all(term, rows::units_prefix(id)).await?;
            self.remove_job(term, id, &marked.principal).await?;
        }
        self.remove_all(term, rows::results_prefix(family)).await?;
        let mut turn = Turn::of_term(&self.kv, term).await?;
        turn.delete(rows::family(family));
        turn.delete(rows::ended(marked.ended_at.unwrap_or_default(), family));
        turn.commit().await?;
        Ok(())
    }

    async fn remove_all(&self, term: Term, prefix: bytes::Bytes) -> Result<(), LedgerError> {
        loop {
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let page = turn.scan(KeyRange::prefix(prefix.clone()), PURGE_STEP).await?;
            if page.rows.is_empty() {
                return Ok(());
            }
            page.rows.iter().for_each(|(key, _)| turn.delete(key.clone()));
            turn.commit().await?;
        }
    }

    /// A job's own rows, and its place in what its principal has.
    async fn remove_job(&self, term: Term, id: JobId, principal: &str) -> Result<(), LedgerError> {
        loop {
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let Some(row) = turn.get::<JobRow>(&rows::job(id)).await? else { return Ok(()) };
            (0..row.spec_pages).for_each(|page| turn.delete(rows::spec_page(id, page)));
            turn.delete(rows::of_principal(principal, row.submitted_at, id));
            turn.delete(rows::job(id));
            let key = rows::principal(principal);
            let mut counts = turn.get::<PrincipalRow>(&key).await?.unwrap_or_default();
            counts.kept = counts.kept.saturating_sub(1);
            turn.put(key, &counts);
            if turn.commit().await?.is_some() {
                return Ok(());
            }
        }
    }
}
