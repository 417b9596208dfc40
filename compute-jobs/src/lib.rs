//! Durable jobs: kept as rows in metadata, moved on by one leased coordinator, worked under fences by providers.
//!
//! [`DurableJobs`] is what submitters hold; [`Coordinator`] moves jobs through their stages and gives units to
//! [`Workers`](ashlar_compute_api::workers::Workers), of which [`LocalWorkers`] are the first: this process's own
//! runtimes. Invariants, and who may do what when: docs/adr/0006-durable-jobs.md.
//!
//! Deliberately knows nothing of SQL, HTTP, models' insides, networks or chains.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod coordinator;
mod jobs;
mod ledger;
mod local_workers;
mod matching;
mod publication;
mod rows;
mod stages;
mod store_objects;
#[cfg(test)]
mod tests;
mod turn;

pub use coordinator::{Coordinator, CoordinatorConfig, CoordinatorParts, DataRules};
pub use jobs::DurableJobs;
pub use ledger::{JobPage, JobSummary, Ledger, LedgerError, Quotas, UnitPage, UnitSummary, UnixSecondsClock};
pub use local_workers::{LocalRuntime, LocalWorkers};
pub use rows::Reputation;
pub use stages::{ROWS_TEXT, RowsStage, Stages};
pub use store_objects::StoreObjects;
pub use turn::RowsError;
