//! The seams between the query engine and the compute jobs: neither imports the other.
//!
//! Jobs are submitted through [`Jobs`]; what a job needs of SQL before and after its units are worked is behind
//! [`QueryStage`]. Does not know who implements which.

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::{Job, JobRefusal, JobSpec, SpecError, UnitInput};
use crate::bytes::{ContentRoot, JobId};

/// A submission's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The job as it stands.
    pub job: Job,
    /// Whether it was this submission that made it.
    pub is_new: bool,
}

/// Why something about a job was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobsError {
    /// The job cannot be taken as it is.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// It cannot happen to the job.
    #[error(transparent)]
    Refused(#[from] JobRefusal),
    /// There is no such job of this principal.
    #[error("there is no job {id}")]
    NotFound {
        /// The name.
        id: JobId,
    },
    /// Quotas or capacity are used up for now.
    #[error("too many jobs; again in {retry_after_seconds} s")]
    Busy {
        /// When it may be tried again.
        retry_after_seconds: u32,
    },
    /// The service could not find out, or not write. Whether it happened can be asked: names are idempotent.
    #[error("jobs are not available: {reason}")]
    Unavailable {
        /// For the log.
        reason: String,
    },
}

/// Jobs for those who submit them. Every call is for one principal, who sees his own jobs alone.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Submits a job durably, or finds it: the same name is the same job, whoever asks how often. Cancel-safe: a
    /// caller that vanished asks again.
    async fn submit(&self, spec: JobSpec) -> Result<Submitted, JobsError>;

    /// The job as it stands.
    async fn job(&self, principal: &str, id: JobId) -> Result<Job, JobsError>;

    /// Wants it no more. Units under way are told; what was receipted stays paid.
    async fn cancel(&self, principal: &str, id: JobId) -> Result<Job, JobsError>;
}

/// Why a stage did not end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// It will not, however often it is tried; the job fails.
    #[error("{reason}")]
    Final {
        /// For the job's owner.
        reason: String,
    },
    /// It may, later.
    #[error("{reason}")]
    Again {
        /// For the log.
        reason: String,
    },
}

/// How a unit ended, for the rows above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitResult {
    /// Number of the unit.
    pub number: u32,
    /// Content root of the output's bytes, or why there is none: each of its rows then says so.
    pub output: Result<ContentRoot, String>,
}

/// What the query engine does for a job, as the job's principal and with his rights.
#[async_trait]
pub trait QueryStage: Send + Sync {
    /// Runs what lies below the work and writes the inputs of units, in their order. Started anew it gives the same units
    /// again: inputs are pinned versions.
    async fn materialise(
        &self,
        job: &Job,
    ) -> Result<BoxStream<'static, Result<UnitInput, StageError>>, StageError>;

    /// Runs what lies above the work over all units' results, in their order, and makes the outcome visible at once or
    /// not at all. Again for the same job it answers the same.
    async fn publish(
        &self,
        job: &Job,
        results: BoxStream<'static, UnitResult>,
    ) -> Result<ContentRoot, StageError>;
}
