//! Stages at work, beside the loop: materialising and publishing.

use std::sync::Arc;

use ashlar_compute_api::jobs::{Job, Kind, StageError, UnitInput, UnitResult, UnitState, input_root};
use ashlar_compute_api::unit_data::ROWS_MAX;
use ashlar_compute_api::{ContentRoot, InputRoot, JobId};
use futures::stream::{self, StreamExt};

use super::CoordinatorParts;
use super::judging::{self, JudgeError};
use crate::ledger::LedgerError;
use crate::ledger::materialising::NewUnit;
use crate::turn::Term;

/// Most units of a job.
pub(crate) const UNITS_MAX: usize = 100_000;
/// Units that one commit adds, or one read lists.
const UNITS_STEP: usize = 500;
/// Units that are read at once.
const READS_MAX: usize = 4;

/// All units of a job, as they were written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Materialised {
    pub(super) input_root: InputRoot,
    pub(super) units: u32,
    pub(super) kept: u32,
}

/// Why a stage has not ended.
pub(super) enum StageTrouble {
    Stage(StageError),
    Ledger(LedgerError),
}

impl From<LedgerError> for StageTrouble {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<StageError> for StageTrouble {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<JudgeError> for StageTrouble {
    fn from(error: JudgeError) -> Self {
        let reason = error.to_string();
        Self::Stage(match error {
            JudgeError::Store(_) => StageError::Again { reason },
            JudgeError::Questions(_) | JudgeError::Answers(_) => StageError::Final { reason },
        })
    }
}

fn never(reason: String) -> StageTrouble {
    StageTrouble::Stage(StageError::Final { reason })
}

/// Has a job's units written, and writes their rows.
pub(super) async fn materialise(
    parts: Arc<CoordinatorParts>,
    term: Term,
    id: JobId,
) -> Result<Materialised, StageTrouble> {
    let ledger = &parts.ledger;
    let (_, job) = ledger.load(id).await?;
    let statement = &job.spec.statement;
    if statement.kind == Kind::FineTuning {
        return Err(never("jobs that train models are not built yet".to_owned()));
    }
    let stage = parts.stages.of(&statement.text);
    let stage = stage.ok_or_else(|| never("no stage here takes this statement".to_owned()))?;
    ledger.forget_units(term, id).await?;
    let units = stage.materialise(&job).await?;
    let (family, kind) = (job.family(), statement.kind);
    let read = units.map(|unit| {
        let parts = Arc::clone(&parts);
        async move { read_unit(&parts, family, kind, unit?).await }
    });
    let mut read = std::pin::pin!(read.buffered(READS_MAX));
    let (mut all, mut page, mut kept): (Vec<UnitInput>, Vec<NewUnit>, u32) = Default::default();
    let number = |count: usize| u32::try_from(count).expect("a job has at most 100,000 units");
    loop {
        let next = read.next().await.transpose()?;
        let is_last = next.is_none();
        if let Some(unit) = next {
            if all.len() >= UNITS_MAX {
                return Err(never(format!("a job has at most {UNITS_MAX} units")));
            }
            all.push(unit.input);
            page.push(unit);
        }
        if page.len() >= UNITS_STEP || (is_last && !page.is_empty()) {
            let first = number(all.len() - page.len());
            kept += ledger.add_units(term, id, first, &page).await?;
            page.clear();
        }
        if is_last {
            return Ok(Materialised { input_root: input_root(&all), units: number(all.len()), kept });
        }
    }
}

/// Looks at what a stage wrote before anybody is asked to work on it.
async fn read_unit(
    parts: &CoordinatorParts,
    family: JobId,
    kind: Kind,
    input: UnitInput,
) -> Result<NewUnit, StageTrouble> {
    let questions = judging::questions(&parts.objects, family, input.content_root).await?;
    let rows = questions.rows.len();
    if u64::try_from(rows) != Ok(input.rows) || rows == 0 || rows > ROWS_MAX {
        return Err(never(format!("a unit has {rows} rows, and {} were announced", input.rows)));
    }
    if questions.header.ask.kind() != kind {
        return Err(never("a unit asks for another kind of work than the job".to_owned()));
    }
    let usage_max = questions.usage_max();
    let (model, determinism) = (questions.header.model, questions.header.determinism);
    Ok(NewUnit { input, model, determinism, usage_max })
}

/// Has a job's result made visible.
pub(super) async fn publish(parts: Arc<CoordinatorParts>, id: JobId) -> Result<ContentRoot, StageTrouble> {
    let (_, job) = parts.ledger.load(id).await?;
    let stage = parts.stages.of(&job.spec.statement.text);
    let stage = stage.ok_or_else(|| never("no stage here takes this statement".to_owned()))?;
    let results = results(&parts, &job).await?;
    Ok(stage.publish(&job, stream::iter(results).boxed()).await?)
}

async fn results(parts: &CoordinatorParts, job: &Job) -> Result<Vec<UnitResult>, StageTrouble> {
    let (mut results, mut from) = (Vec::new(), Some(0));
    while let Some(first) = from {
        let (units, next) = parts.ledger.unit_rows(job.id, first, UNITS_STEP).await?;
        for unit in units {
            let output = match &unit.unit.state {
                UnitState::Done(output) => output.content_root,
                UnitState::Failed { reason } => {
                    judging::failure(&parts.objects, job.family(), &unit, reason).await?
                }
                UnitState::Open | UnitState::Leased(_) | UnitState::Cancelled => {
                    return Err(never("a unit has no result".to_owned()));
                }
            };
            results.push(UnitResult { number: unit.unit.shard.number, output: Ok(output) });
        }
        from = next;
    }
    Ok(results)
}
