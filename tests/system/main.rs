//! Whole-system tests: the real binary, on loopback and on a folder of its own, seen only from outside.
//!
//! Invariant: a test ends what it started, by its own pid, and leaves nothing behind. Knows the command line,
//! the API and S3; nothing of what is inside.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

mod commands;
mod configuration;
mod disks;
mod lifecycle;
mod metrics;
mod publishing;
mod recovering;
mod server;
mod sigv4;
