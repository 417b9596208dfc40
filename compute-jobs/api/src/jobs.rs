//! Jobs, their units, leases and fences: what they are and how they go on (docs/formats/job.md).
//!
//! A job's statement names it, so that the same statement is the same job. Its work is cut into units; a unit's number is
//! the shard that vouchers name. Both [`Job`] and [`Unit`] are values: `apply` gives the next one or says why
//! there is none, and the caller commits it with a check that nobody else did.
//!
//! Invariants: fences of a unit strictly grow; a unit has one result; of two that work on it, none goes unpaid that was
//! not told before; what has ended stays so; a job spends no more than its cap. Does not know providers, matching,
//! metadata or SQL: the last is behind [`QueryStage`].

mod job;
mod service;
mod statement;
#[cfg(test)]
mod tests;
mod unit;
mod unit_objects;

pub use job::{End, Job, JobEvent, JobRefusal, JobState, Progress, UnitEnd};
pub use service::{Jobs, JobsError, QueryStage, StageError, Submitted, UnitResult};
pub use statement::{
    ITEMS_MAX, Input, JobSpec, Kind, Limits, SpecError, Statement, TEXT_BYTES_MAX, UnitInput, input_root,
};
pub use unit::{Attempt, AttemptEnd, Effect, Hedge, Lease, Output, Unit, UnitEvent, UnitRefusal, UnitState};
pub use unit_objects::{UnitObjects, UnitObjectsError};
