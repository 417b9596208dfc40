//! Every change of jobs' rows, each as one commit.
//!
//! Invariants J1 to J7 of docs/adr/0006-durable-jobs.md are kept here: which rows change together, and under whose
//! right. Knows rows and the state machines of `ashlar-compute-api`; does not know providers, stages or waiting.

pub(crate) mod ending;
pub(crate) mod leasing;
mod listing;
pub(crate) mod materialising;
mod purging;
mod role;
mod submitting;
pub(crate) mod units;

use std::sync::Arc;

use ashlar_compute_api::jobs::{Job, JobEvent, JobRefusal, JobSpec, UnitRefusal};
use ashlar_compute_api::{Amount, JobId};
use ashlar_metadata::OrderedKv;
use ashlar_metadata::namespace::RowError;
use bytes::Bytes;

use crate::rows::{self, JobRow};
use crate::turn::{RowsError, TURNS_MAX, Term, Turn, back_off, peek};

pub use listing::{JobPage, JobSummary, UnitPage, UnitSummary};
pub use submitting::Quotas;
pub(crate) use submitting::jobs_error as submitting_error;

/// The time of day in Unix seconds.
pub type UnixSecondsClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Longest reason that a row keeps.
const REASON_BYTES_MAX: usize = 2_048;

/// Why something did not happen to a job.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// Rows.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// It cannot happen to the job now.
    #[error(transparent)]
    Job(#[from] JobRefusal),
    /// It cannot happen to the unit now.
    #[error(transparent)]
    Unit(#[from] UnitRefusal),
    /// There is no such job or unit.
    #[error("there is no job {id}, or no such unit of it")]
    NotFound {
        /// The job.
        id: JobId,
    },
    /// More would be reserved than the job may cost.
    #[error("{allowance} wei would be reserved, and {left} are left")]
    Budget {
        /// Asked for.
        allowance: Amount,
        /// Of the cap, beside what is spent and reserved.
        left: Amount,
    },
}

macro_rules! into_ledger_error {
    ($($error:ty),*) => {$(
        impl From<$error> for LedgerError {
            fn from(error: $error) -> Self {
                Self::Rows(error.into())
            }
        }
    )*};
}
into_ledger_error!(RowError, ashlar_metadata::ReadError);

/// The rows of jobs.
#[derive(Clone)]
pub struct Ledger {
    kv: Arc<dyn OrderedKv>,
    clock: UnixSecondsClock,
}

impl Ledger {
    /// Jobs in this metadata.
    pub fn new(kv: Arc<dyn OrderedKv>, clock: UnixSecondsClock) -> Self {
        Self { kv, clock }
    }

    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Happens to a job, as its coordinator.
    pub(crate) async fn job_event(
        &self,
        term: Term,
        id: JobId,
        event: JobEvent,
    ) -> Result<JobRow, LedgerError> {
        for turn in 0..TURNS_MAX {
            back_off(turn).await;
            let mut turn = Turn::of_term(&self.kv, term).await?;
            let mut row = job(&mut turn, id).await?;
            let before = row.clone();
            self.apply(&mut turn, id, &mut row, event.clone()).await?;
            if row == before {
                return Ok(row);
            }
            turn.put(rows::job(id), &row);
            if turn.commit().await?.is_some() {
                return Ok(row);
            }
        }
        Err(RowsError::Contended.into())
    }

    /// Applies an event to a job's row, and writes what else changes when it ends.
    async fn apply(
        &self,
        turn: &mut Turn,
        id: JobId,
        row: &mut JobRow,
        event: JobEvent,
    ) -> Result<(), LedgerError> {
        let now = self.now();
        let next = row.lean(id).apply(bounded(event), now)?;
        let has_changed = next.state != row.state || next.progress != row.progress;
        let has_ended = next.has_ended() && !row.state.has_ended();
        (row.state, row.progress) = (next.state, next.progress);
        if has_changed {
            row.changed_at = now;
            row.waiting = None;
        }
        if has_ended {
            ending::close(turn, id, row, now).await?;
        }
        Ok(())
    }

    /// Says what a job waits for, if that is something new.
    pub(crate) async fn set_waiting(
        &self,
        term: Term,
        id: JobId,
        waiting: Option<&str>,
    ) -> Result<(), LedgerError> {
        let mut turn = Turn::of_term(&self.kv, term).await?;
        let mut row = job(&mut turn, id).await?;
        if row.waiting.as_deref() == waiting || row.state.has_ended() {
            return Ok(());
        }
        row.waiting = waiting.map(rows::excerpt);
        turn.put(rows::job(id), &row);
        // Who loses the race has nothing new to say.
        turn.commit().await?;
        Ok(())
    }

    /// A job with its statement.
    pub(crate) async fn load(&self, id: JobId) -> Result<(JobRow, Job), LedgerError> {
        let snapshot = self.kv.snapshot().await.map_err(RowsError::from)?;
        let row = peek::<JobRow>(&*snapshot, &rows::job(id)).await?.ok_or(LedgerError::NotFound { id })?;
        let mut bytes = Vec::new();
        for page in 0..row.spec_pages {
            let found = snapshot.get(&rows::spec_page(id, page)).await.map_err(RowsError::from)?;
            let found = found.ok_or_else(|| torn("a page is not there"))?;
            bytes.extend_from_slice(&found.value);
        }
        let spec: JobSpec = postcard::from_bytes(&bytes).map_err(|error| torn(&error.to_string()))?;
        let job = row.whole(id, spec);
        Ok((row, job))
    }

    /// Reputation of a provider.
    pub(crate) async fn reputation(
        &self,
        provider: ashlar_compute_api::Address,
    ) -> Result<rows::Reputation, LedgerError> {
        let snapshot = self.kv.snapshot().await.map_err(RowsError::from)?;
        Ok(peek(&*snapshot, &rows::provider(provider)).await?.unwrap_or_default())
    }
}

impl JobRow {
    /// The job without what its statement says: enough for what happens to it.
    fn lean(&self, id: JobId) -> Job {
        let statement = ashlar_compute_api::jobs::Statement {
            kind: self.kind,
            principal: String::new(),
            target: String::new(),
            text: String::new(),
            inputs: Default::default(),
            models: Default::default(),
            options: Default::default(),
            seed: 0,
        };
        self.whole(id, JobSpec { statement, client_key: None, limits: self.limits })
    }

    fn whole(&self, id: JobId, spec: JobSpec) -> Job {
        Job { id, attempt: self.attempt, spec, state: self.state.clone(), progress: self.progress }
    }
}

async fn job(turn: &mut Turn, id: JobId) -> Result<JobRow, LedgerError> {
    turn.get::<JobRow>(&rows::job(id)).await?.ok_or(LedgerError::NotFound { id })
}

fn torn(reason: &str) -> RowsError {
    RowError { kind: "statement of a job", reason: reason.to_owned() }.into()
}

/// A reason as a row has room for it.
pub(crate) fn bounded_reason(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

fn bounded(event: JobEvent) -> JobEvent {
    match event {
        JobEvent::Fail { reason } => JobEvent::Fail { reason: bounded_reason(reason) },
        event => event,
    }
}

/// Pages of a statement's bytes.
fn spec_pages(spec: &JobSpec) -> Vec<Bytes> {
    let bytes = postcard::to_stdvec(spec).expect("a statement is plain data");
    bytes.chunks(rows::SPEC_PAGE_BYTES).map(Bytes::copy_from_slice).collect()
}
