//! Leases given: the right to work, with what it may cost reserved.

use ashlar_compute_api::jobs::{JobRefusal, JobState, Lease, UnitEvent, UnitRefusal};
use ashlar_compute_api::{Address, Amount};

use super::units::{UnitId, unit};
use super::{Ledger, LedgerError, job};
use crate::rows::{self, JobRow, LeaseTerms};
use crate::turn::{RowsError, TURNS_MAX, Term, Turn, back_off};

/// To whom, and under which terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) provider: Address,
    pub(crate) seconds: u64,
    pub(crate) price: Amount,
    pub(crate) allowance: Amount,
    /// Beside another, who was told.
    pub(crate) is_hedge: bool,
}

impl JobRow {
    /// What is left of the cap beside what is spent and reserved.
    pub(crate) fn left(&self) -> Amount {
        self.limits.spend_cap.saturating_sub(self.progress.spent).saturating_sub(self.reserved)
    }
}

impl Ledger {
    /// Gives a lease, if the job runs and has the means.
    pub(crate) async fn lease(&self, term: Term, id: UnitId, grant: Grant) -> Result<Lease, LedgerError> {
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let mut row = job(&mut turn, id.job).await?;
            if row.state != JobState::Running {
                return Err(JobRefusal::Stage.into());
            }
            let left = row.left();
            if grant.allowance > left {
                return Err(LedgerError::Budget { allowance: grant.allowance, left });
            }
            let mut unit = unit(&mut turn, id).await?;
            let Grant { provider, seconds, price, allowance, is_hedge } = grant;
            let event = match is_hedge {
                true => UnitEvent::Hedge { provider, seconds },
                false => UnitEvent::Lease { provider, seconds },
            };
            let (next, _) = unit.unit.apply(event, self.now())?;
            unit.unit = next;
            let fence = unit.unit.last_fence;
            let given = unit.unit.leases().iter().find(|lease| lease.fence == fence).copied();
            let lease = given.ok_or(UnitRefusal::Fenced { fence })?;
            unit.terms.push(LeaseTerms { fence, price, allowance, paid: Amount::ZERO });
            if allowance > Amount::ZERO || is_hedge {
                row.reserved = row.reserved.checked_add(allowance).unwrap_or(Amount::MAX);
                row.hedges += u32::from(is_hedge);
                turn.put(rows::job(id.job), &row);
            }
            turn.put(rows::unit(id.job, id.number), &unit);
            if turn.commit().await?.is_some() {
                return Ok(lease);
            }
        }
        Err(RowsError::Contended.into())
    }
}
