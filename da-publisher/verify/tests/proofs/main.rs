//! Proofs against a small world made here: a chain's state, a log, objects; then vectors, attacks, mutations.
//!
//! Invariant: what is proven is made by code of its own (`patricia.rs`, `world.rs`), from the format texts, and
//! the verifier under test is only ever asked to judge.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod absences;
mod attacks;
mod cases;
mod foreign;
mod hostile;
mod mutations;
mod patricia;
mod vectors;
mod world;
