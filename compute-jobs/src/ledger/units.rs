//! What happens to a unit, with everything that has to change in the same commit.
//!
//! Invariant: a unit's end, the job's count, what is paid, what is reserved no more and what is known of the provider are
//! one commit.

use ashlar_compute_api::jobs::{Effect, JobEvent, JobRefusal, Lease, Output, UnitEnd, UnitEvent, UnitState};
use ashlar_compute_api::{Amount, ContentRoot, JobId};

use super::{Ledger, LedgerError, bounded_reason, ending, job};
use crate::rows::{self, Checkpoint, JobRow, ResultRow, UnitRow};
use crate::turn::{RowsError, TURNS_MAX, Term, Turn, back_off};

/// Units that one commit cancels.
const CANCEL_STEP: usize = 500;

/// Which unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnitId {
    pub(crate) job: JobId,
    pub(crate) number: u32,
}

/// What is known beside an event.
#[derive(Clone, Copy, Debug, Default)]
struct Beside {
    /// What another attempt would begin with.
    kept: Option<ResultRow>,
    /// Nobody is at fault for leases that end by it.
    is_blameless: bool,
}

/// A unit and its job after something happened.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    pub(crate) job: JobRow,
    pub(crate) unit: UnitRow,
}

impl Ledger {
    /// A unit as it stands.
    pub(crate) async fn unit(&self, id: UnitId) -> Result<UnitRow, LedgerError> {
        let turn = Turn::begin(&self.kv).await?;
        let found = turn.peek::<UnitRow>(&rows::unit(id.job, id.number)).await?;
        found.ok_or(LedgerError::NotFound { id: id.job })
    }

    /// A unit has its answers; of them `kept` is what another attempt would begin with.
    pub(crate) async fn finish(
        &self,
        term: Term,
        id: UnitId,
        output: Output,
        kept: ResultRow,
    ) -> Result<Changed, LedgerError> {
        let beside = Beside { kept: Some(kept), ..Beside::default() };
        self.happen(term, id, UnitEvent::Finish(output), beside).await
    }

    /// Anything else happens to a unit.
    pub(crate) async fn unit_event(
        &self,
        term: Term,
        id: UnitId,
        event: UnitEvent,
    ) -> Result<Changed, LedgerError> {
        self.happen(term, id, event, Beside::default()).await
    }

    /// A lease ended for a reason that its provider is not at fault for.
    pub(crate) async fn end_blameless(
        &self,
        term: Term,
        id: UnitId,
        fence: u64,
        reason: String,
    ) -> Result<Changed, LedgerError> {
        let beside = Beside { is_blameless: true, ..Beside::default() };
        self.happen(term, id, UnitEvent::Fail { fence, reason, is_final: false }, beside).await
    }

    async fn happen(
        &self,
        term: Term,
        id: UnitId,
        event: UnitEvent,
        beside: Beside,
    ) -> Result<Changed, LedgerError> {
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let mut row = job(&mut turn, id.job).await?;
            let mut unit = unit(&mut turn, id).await?;
            let before = (row.clone(), unit.clone());
            self.apply_unit(&mut turn, id, &mut row, &mut unit, event.clone(), beside).await?;
            if (&row, &unit) != (&before.0, &before.1) {
                self.put_changed(&mut turn, id, &before.0, &row, &unit);
                if turn.commit().await?.is_none() {
                    continue;
                }
            }
            return Ok(Changed { job: row, unit });
        }
        Err(RowsError::Contended.into())
    }

    fn put_changed(&self, turn: &mut Turn, id: UnitId, before: &JobRow, row: &JobRow, unit: &UnitRow) {
        // A renewal alone leaves the job's row as it was.
        if before != row {
            turn.put(rows::job(id.job), row);
        }
        turn.put(rows::unit(id.job, id.number), unit);
    }

    /// Units that have not ended are cancelled, some of them; answers whether there may be more.
    pub(crate) async fn cancel_units(&self, term: Term, id: JobId) -> Result<bool, LedgerError> {
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let mut row = job(&mut turn, id).await?;
            let range = ashlar_metadata::KeyRange::prefix(rows::units_open_prefix(id));
            let page = turn.scan(range, CANCEL_STEP).await?;
            if page.rows.is_empty() {
                return Ok(false);
            }
            for (key, _) in &page.rows {
                let number = rows::parse_unit_open(key).ok_or(LedgerError::NotFound { id })?;
                let of = UnitId { job: id, number };
                let mut unit = unit(&mut turn, of).await?;
                self.apply_unit(&mut turn, of, &mut row, &mut unit, UnitEvent::Cancel, Beside::default())
                    .await?;
                turn.put(rows::unit(id, number), &unit);
            }
            turn.put(rows::job(id), &row);
            if turn.commit().await?.is_some() {
                return Ok(page.more);
            }
        }
        Err(RowsError::Contended.into())
    }

    async fn apply_unit(
        &self,
        turn: &mut Turn,
        id: UnitId,
        row: &mut JobRow,
        unit: &mut UnitRow,
        event: UnitEvent,
        beside: Beside,
    ) -> Result<(), LedgerError> {
        let now = self.now();
        if let UnitEvent::Finish(output) = &event {
            self.pay_for(turn, id, row, unit, output).await?;
        }
        let (next, effects) = unit.unit.apply(bounded(event), now)?;
        unit.unit = next;
        for effect in effects {
            let Effect::Ended(attempt) = effect else { continue };
            if !beside.is_blameless {
                ending::judge_provider(turn, &attempt, now).await?;
            }
            if let Some(index) = unit.terms.iter().position(|terms| terms.fence == attempt.fence) {
                let terms = unit.terms.swap_remove(index);
                row.reserved = row.reserved.saturating_sub(terms.allowance.saturating_sub(terms.paid));
            }
        }
        let end = match &unit.unit.state {
            UnitState::Open | UnitState::Leased(_) => return Ok(()),
            UnitState::Done(_) => UnitEnd::Done,
            UnitState::Failed { .. } => UnitEnd::Failed,
            UnitState::Cancelled => UnitEnd::Cancelled,
        };
        turn.delete(rows::unit_open(id.job, id.number));
        let kept = beside.kept.or(unit.checkpoint.map(ResultRow::Part));
        if let Some(kept) = kept {
            turn.put(rows::result(row.family, unit.unit.input.content_root), &kept);
        }
        self.apply(turn, id.job, row, JobEvent::UnitEnded(end)).await
    }

    /// What a finished lease costs beyond what was paid for it already.
    async fn pay_for(
        &self,
        turn: &mut Turn,
        id: UnitId,
        row: &mut JobRow,
        unit: &mut UnitRow,
        output: &Output,
    ) -> Result<(), LedgerError> {
        let Some(terms) = unit.terms.iter_mut().find(|terms| terms.fence == output.fence) else {
            return Err(ashlar_compute_api::jobs::UnitRefusal::Fenced { fence: output.fence }.into());
        };
        let cost = cost(terms.price, output.usage).filter(|cost| *cost <= terms.allowance);
        let (cap, spent) = (row.limits.spend_cap, row.progress.spent);
        let Some(cost) = cost else {
            return Err(JobRefusal::AboveSpendCap { cap, spent, more: Amount::MAX }.into());
        };
        let more = cost.saturating_sub(terms.paid);
        terms.paid = terms.paid.checked_add(more).unwrap_or(Amount::MAX);
        row.reserved = row.reserved.saturating_sub(more);
        if more > Amount::ZERO {
            self.apply(turn, id.job, row, JobEvent::Spend(more)).await?;
        }
        Ok(())
    }

    /// A provider is at work, and was paid so much in all.
    pub(crate) async fn heartbeat(
        &self,
        term: Term,
        id: UnitId,
        fence: u64,
        until: u64,
        paid: Amount,
    ) -> Result<Option<Lease>, LedgerError> {
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let mut unit = unit(&mut turn, id).await?;
            let now = self.now();
            let seconds = until.saturating_sub(now);
            let (next, _) = unit.unit.apply(UnitEvent::Heartbeat { fence, seconds }, now)?;
            unit.unit = next;
            let terms = unit.terms.iter_mut().find(|terms| terms.fence == fence);
            if let Some(terms) = terms.filter(|terms| paid > terms.paid && paid <= terms.allowance) {
                let more = paid.saturating_sub(terms.paid);
                terms.paid = paid;
                let mut row = job(&mut turn, id.job).await?;
                row.reserved = row.reserved.saturating_sub(more);
                self.apply(&mut turn, id.job, &mut row, JobEvent::Spend(more)).await?;
                turn.put(rows::job(id.job), &row);
            }
            let lease = unit.unit.leases().iter().find(|lease| lease.fence == fence).copied();
            turn.put(rows::unit(id.job, id.number), &unit);
            if turn.commit().await?.is_some() {
                return Ok(lease);
            }
        }
        Err(RowsError::Contended.into())
    }

    /// Keeps answers to some rows, from who has a lease, if they are more than are kept.
    pub(crate) async fn checkpoint(
        &self,
        term: Term,
        id: UnitId,
        fence: u64,
        checkpoint: Checkpoint,
    ) -> Result<(), LedgerError> {
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let mut unit = unit(&mut turn, id).await?;
            let has_lease = unit.unit.leases().iter().any(|lease| lease.fence == fence);
            if !has_lease || unit.checkpoint.is_some_and(|kept| kept.rows >= checkpoint.rows) {
                return Ok(());
            }
            unit.checkpoint = Some(checkpoint);
            turn.put(rows::unit(id.job, id.number), &unit);
            if turn.commit().await?.is_some() {
                return Ok(());
            }
        }
        Err(RowsError::Contended.into())
    }

    /// What earlier attempts know of a unit with this input.
    pub(super) async fn known(
        &self,
        turn: &mut Turn,
        family: JobId,
        input: ContentRoot,
    ) -> Result<Option<ResultRow>, LedgerError> {
        Ok(turn.get::<ResultRow>(&rows::result(family, input)).await?)
    }
}

/// What so much usage costs; `None` where it is more than can be paid.
pub(crate) fn cost(price: Amount, usage: u64) -> Option<Amount> {
    price.wei().checked_mul(usage.into()).and_then(|wei| Amount::try_from(wei).ok())
}

pub(super) async fn unit(turn: &mut Turn, id: UnitId) -> Result<UnitRow, LedgerError> {
    let found = turn.get::<UnitRow>(&rows::unit(id.job, id.number)).await?;
    found.ok_or(LedgerError::NotFound { id: id.job })
}

fn bounded(event: UnitEvent) -> UnitEvent {
    match event {
        UnitEvent::Fail { fence, reason, is_final } => {
            UnitEvent::Fail { fence, reason: bounded_reason(reason), is_final }
        }
        event => event,
    }
}
