//! Words of the compute market that every side shares: what is signed, who may sign what, what was said, what a job is.
//!
//! Invariants kept here: a party that follows [`terms`] loses at most one increment of an escrow lock, whatever the
//! other does; the same statement is the same job; fences of a unit only grow.
//!
//! Deliberately knows nothing of SQL, HTTP, the chain's client, clocks and disks: everything is a value or a pure
//! state machine, times are arguments, and who calls makes durable what the state machines say must be.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod amount;
mod bytes;
mod digest;
pub mod inference;
pub mod jobs;
mod stored;
pub mod terms;
pub mod transcript;
pub mod unit_data;
pub mod vouchers;
pub mod workers;

pub use stored::{Stored, StoredError};

pub use amount::{Amount, AmountError};
pub use bytes::{
    Address, BytesParseError, ContentRoot, Digest, InputRoot, JobId, LockId, Salt, TranscriptHead,
    VoucherHash,
};
