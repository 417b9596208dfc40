//! Objects: the use cases of the store. Put, get, copy, multipart, delete, list, publish, and who may.
//!
//! A front door translates its wire form into [`requests`], calls [`Store`], and maps [`Error`] back. Here
//! bytes become blobs on storage nodes and one metadata transaction makes them a version: never the other
//! way round, so what is visible is durable. Every use case asks [`access::authorize`] itself.
//!
//! Invariants kept here: an acknowledged write is readable; of racing conditional writes one wins and an
//! unknown outcome is resolved, never guessed; GC takes only what nothing can reach.
//!
//! Deliberately knows nothing of HTTP, SQL or chains.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

pub mod access;
pub mod api_keys;
mod attributes;
mod buckets;
mod checksums;
pub mod clock;
pub mod compute_access;
mod conditions;
mod copy;
pub mod cors;
mod data;
mod delete;
pub mod error;
mod get;
mod housekeeping;
pub mod inspection;
pub mod leases;
pub mod lifecycle;
mod list;
pub mod log;
mod multipart;
pub mod object_lock;
mod object_settings;
mod payload;
pub mod pinning;
pub mod publish;
mod put;
pub mod requests;
pub mod restore;
mod standing;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transaction;
pub mod types;
#[cfg(test)]
mod use_case_tests;
pub mod users;
mod versions;

pub use data::{Adopted, DataConfig, DataStats};
pub use error::{Configuration, Error, Internal};
pub use standing::Standing;
pub use store::{Store, StoreParts};
