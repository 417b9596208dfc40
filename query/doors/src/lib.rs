//! The front doors of SQL: the PostgreSQL protocol and Arrow Flight SQL.
//!
//! A door listens, finds out who comes, and gives what he says to a [`Session`](ashlar_query::Session) of his.
//! Access keys and secrets are those of S3.
//!
//! Invariants kept here: nobody comes in unproven, and nobody stays in whose access key was removed; no secret
//! crosses a network in clear unless somebody said so; connections, messages, statements and waiting bytes are
//! bounded, and a client that does not read is waited for, not buffered for. Deliberately plans nothing: but for
//! `pg_catalog`, which only clients of PostgreSQL know.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod catalog;
mod credentials;
pub mod flight;
pub mod pg;
mod tls;

pub use tls::{Tls, TlsError};
