//! Works a unit of a job: questions in, calls of a runtime, answers and a transcript's events out.
//!
//! Invariants: every row that was asked has one answer or one error, in order; the same question is computed once; one bad row
//! is one error, whatever else was in its batch; what is told as events is what the answers say; dropping the
//! future ends the work. Knows a runtime by its trait alone, and nothing of leases, networks, payment or storage.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod batches;
mod generation;
mod plan;
#[cfg(test)]
mod tests;
mod work;

pub use plan::Sheet;
pub use work::{Effort, Step, WorkError, work};
