//! What changes beside a job's or a lease's own row when it ends.

use ashlar_compute_api::JobId;
use ashlar_compute_api::jobs::{Attempt, AttemptEnd};

use super::LedgerError;
use crate::rows::{self, FamilyRow, JobRow, PrincipalRow, Reputation};
use crate::turn::Turn;

/// Failures in a row after which a provider gets no lease for a while.
const FAILURES_MAX: u32 = 3;
/// How long that is at first, and at most, in seconds.
const SUSPENSION_SECONDS: u64 = 60;
const SUSPENSION_SECONDS_MAX: u64 = 3_600;

/// Takes a job that has just ended out of what is under way.
pub(super) async fn close(turn: &mut Turn, id: JobId, row: &JobRow, now: u64) -> Result<(), LedgerError> {
    turn.delete(rows::open(id));
    let key = rows::principal(&row.principal);
    let mut counts = turn.get::<PrincipalRow>(&key).await?.unwrap_or_default();
    counts.open = counts.open.saturating_sub(1);
    counts.reserved = counts.reserved.saturating_sub(row.limits.spend_cap);
    counts.spent = counts.spent.checked_add(row.progress.spent).unwrap_or(ashlar_compute_api::Amount::MAX);
    turn.put(key, &counts);
    let key = rows::family(row.family);
    let family = turn.get::<FamilyRow>(&key).await?.ok_or(LedgerError::NotFound { id })?;
    turn.put(rows::ended(now, row.family), &rows::Present);
    turn.put(key, &FamilyRow { ended_at: Some(now), ..family });
    Ok(())
}

/// What a lease's end says of its provider.
pub(super) async fn judge_provider(turn: &mut Turn, attempt: &Attempt, now: u64) -> Result<(), LedgerError> {
    let key = rows::provider(attempt.provider);
    let mut of = turn.get::<Reputation>(&key).await?.unwrap_or_default();
    match attempt.end {
        AttemptEnd::Finished => {
            of.finished += 1;
            of.failures_in_a_row = 0;
        }
        AttemptEnd::Overtaken => of.overtaken += 1,
        AttemptEnd::Failed { .. } => {
            of.failed += 1;
            of.failures_in_a_row += 1;
        }
        AttemptEnd::Expired => {
            of.expired += 1;
            of.failures_in_a_row += 1;
        }
        AttemptEnd::Cancelled => return Ok(()),
    }
    let is_failure = matches!(attempt.end, AttemptEnd::Failed { .. } | AttemptEnd::Expired);
    if is_failure && of.failures_in_a_row >= FAILURES_MAX {
        let doublings = (of.failures_in_a_row - FAILURES_MAX).min(6);
        let seconds = (SUSPENSION_SECONDS << doublings).min(SUSPENSION_SECONDS_MAX);
        of.suspended_until = now.saturating_add(seconds);
    }
    turn.put(key, &of);
    Ok(())
}
