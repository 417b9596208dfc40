//! Metadata: an ordered transactional key-value store, and on it the namespace of the object store.
//!
//! Owns [`OrderedKv`] (point checks, atomic writes, commit positions, consistent snapshots), its in-memory
//! implementation for tests and simulation, and the embedded one. The invariant every implementation keeps:
//! a commit that was answered is seen whole by every later read, is never undone, and nothing ever appears
//! at or below [`OrderedKv::stable_position`].
//!
//! Deliberately knows nothing of bytes of objects, of nodes beyond a folder to write to, or of S3.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

pub mod commit;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod limits;
pub mod memory;
pub mod namespace;
pub mod ordered_kv;
mod plan;

pub use commit::{Check, Commit, CommitError, Outcome, TransactionId, Write};
pub use embedded::EmbeddedKv;
pub use limits::LimitError;
pub use memory::MemoryKv;
pub use ordered_kv::{Direction, KeyRange, OrderedKv, Page, Position, ReadError, Row, Snapshot};
