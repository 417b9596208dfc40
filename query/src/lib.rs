//! SQL over the store: names and paths become scans of pinned objects, DataFusion does the rest.
//!
//! A front door makes a [`Session`] for a caller who proved who he is, prepares a statement and executes it.
//! At execution every path is resolved at one moment to objects; a lease keeps these while the answer streams,
//! so what happens to the keys meanwhile changes nothing. Every object is authorised as S3 would.
//!
//! Invariants kept here: a query reads what one moment showed, or fails; nothing outside the store can be named;
//! SQL runs on threads and memory of its own. Deliberately knows nothing of HTTP, Postgres or Flight.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

pub mod answer;
mod catalog;
pub mod engine;
pub mod error;
pub mod location;
mod scan;
pub mod session;
mod system;
mod write;

pub use engine::{Engine, EngineConfig};
pub use error::{SqlError, SqlState};
pub use session::{Outcome, Prepared, Session};
pub use system::{NodeFacts, Surroundings};
