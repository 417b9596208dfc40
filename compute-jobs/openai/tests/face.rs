//! The face from outside, in process: a router over a store on memory, with models that say back what they were told.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "../examples/support/runtime.rs"]
mod runtime;

#[path = "face/access.rs"]
mod access;
#[path = "face/answers.rs"]
mod answers;
#[path = "face/files.rs"]
mod files;
#[path = "face/world.rs"]
mod world;
