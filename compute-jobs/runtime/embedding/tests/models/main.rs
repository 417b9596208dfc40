//! The crate from outside: a tiny model drawn at random, hostile files, the runtime, and all-MiniLM-L6-v2 itself.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

mod hostile;
mod minilm;
mod runtime;
mod tiny;
