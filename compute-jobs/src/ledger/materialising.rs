//! Units of a job, written page by page before it runs.
//!
//! Invariant: a job runs only after the commit that knows all its units; what an interrupted try left is removed before the
//! next. A unit whose input an earlier attempt answered has that answer from the beginning.

use ashlar_compute_api::jobs::{JobEvent, JobRefusal, JobState, Output, Unit, UnitEnd, UnitInput, UnitState};
use ashlar_compute_api::terms::Shard;
use ashlar_compute_api::{ContentRoot, InputRoot, JobId};
use ashlar_metadata::KeyRange;

use super::{Ledger, LedgerError, job};
use crate::rows::{self, JobRow, Present, ResultRow, UnitRow};
use crate::turn::{RowsError, TURNS_MAX, Term, Turn, back_off};

/// Rows that one commit removes.
const FORGET_STEP: usize = 1_000;

/// A unit as its stage wrote it, read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewUnit {
    pub(crate) input: UnitInput,
    pub(crate) model: ContentRoot,
    pub(crate) determinism: Option<ContentRoot>,
    pub(crate) usage_max: u64,
}

impl Ledger {
    async fn materialising(&self, turn: &mut Turn, id: JobId) -> Result<JobRow, LedgerError> {
        let row = job(turn, id).await?;
        // The row is got, and so checked: a job that is cancelled meanwhile gets no more units.
        if row.state == JobState::Materialising { Ok(row) } else { Err(JobRefusal::Stage.into()) }
    }

    /// Removes the units of an earlier try.
    pub(crate) async fn forget_units(&self, term: Term, id: JobId) -> Result<(), LedgerError> {
        for prefix in [rows::units_open_prefix(id), rows::units_prefix(id)] {
            loop {
                let mut turn = Turn::of_term(&self.kv, term).await?;
                self.materialising(&mut turn, id).await?;
                let page = turn.scan(KeyRange::prefix(prefix.clone()), FORGET_STEP).await?;
                if page.rows.is_empty() {
                    break;
                }
                page.rows.iter().for_each(|(key, _)| turn.delete(key.clone()));
                turn.commit().await?;
            }
        }
        Ok(())
    }

    /// Adds units from this number on; answers how many of them have their answers already.
    pub(crate) async fn add_units(
        &self,
        term: Term,
        id: JobId,
        first: u32,
        units: &[NewUnit],
    ) -> Result<u32, LedgerError> {
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let row = self.materialising(&mut turn, id).await?;
            let mut kept = 0;
            for (number, new) in (first..).zip(units) {
                let unit = Unit::new(Shard { job: id, number }, new.input, row.limits.attempts_max);
                let NewUnit { model, determinism, usage_max, .. } = *new;
                let mut of =
                    UnitRow { unit, model, determinism, usage_max, checkpoint: None, terms: Vec::new() };
                match self.known(&mut turn, row.family, new.input.content_root).await? {
                    Some(ResultRow::Whole { content_root, usage }) => {
                        of.unit.state = UnitState::Done(Output { fence: 0, content_root, usage });
                        kept += 1;
                    }
                    Some(ResultRow::Part(checkpoint)) => of.checkpoint = Some(checkpoint),
                    None => {}
                }
                if !of.unit.has_ended() {
                    turn.put(rows::unit_open(id, number), &Present);
                }
                turn.put(rows::unit(id, number), &of);
            }
            if turn.commit().await?.is_some() {
                return Ok(kept);
            }
        }
        Err(RowsError::Contended.into())
    }

    /// All units are written, of which so many have their answers: the job runs.
    pub(crate) async fn materialised(
        &self,
        term: Term,
        id: JobId,
        input_root: InputRoot,
        units: u32,
        kept: u32,
    ) -> Result<JobRow, LedgerError> {
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let mut row = self.materialising(&mut turn, id).await?;
            self.apply(&mut turn, id, &mut row, JobEvent::Materialised { input_root, units }).await?;
            for _ in 0..kept {
                self.apply(&mut turn, id, &mut row, JobEvent::UnitEnded(UnitEnd::Done)).await?;
            }
            turn.put(rows::job(id), &row);
            if turn.commit().await?.is_some() {
                return Ok(row);
            }
        }
        Err(RowsError::Contended.into())
    }
}
