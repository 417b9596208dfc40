//! The OpenAI-compatible face: what the OpenAI SDK says, answered by models that a registry knows and objects that the
//! caller owns. Mounted at `/v1`.
//!
//! The gateway is the buyer's agent and custodian: it signs in the caller, bounds what he may ask and spend, hands the work to an
//! [`ashlar_compute_api::inference::Inference`], recomputes the transcript from what it passes on, counts usage itself, and
//! ends an answer with an error where the provider's count is another (`audit.rs`). Files and batches are objects in the
//! caller's own bucket (`files.rs`), reached with his rights.
//!
//! Invariants: memory is bounded, because bodies and answers under way are counted before they are taken; there is no
//! queue, a request is answered or refused at once; a client that vanishes ends the work it asked for; a parameter that
//! would not be obeyed is refused by name. Deliberately knows no runtime, no chain, no SQL, and not where models run.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod admission;
mod answer;
mod aside;
mod audit;
mod batches;
mod chat;
mod completions;
mod credentials;
mod embeddings;
mod events;
mod files;
mod fine_tuning;
mod gateway;
mod generation;
mod likelihoods;
mod limits;
mod models;
mod parameters;
mod rates;
mod refusal;
mod watch;

pub use admission::Origin;
pub use audit::{Misdeed, Usage};
pub use batches::{BATCH_STATEMENT, BatchRunner};
pub use credentials::{Caller, Route};
pub use files::bucket_of;
pub use gateway::{Gateway, GatewayParts, router};
pub use limits::Limits;
pub use models::{ModelFacts, ModelKind, ModelRefusal, Models, Price, Served};
pub use watch::{Delivered, Ignored, Misconduct, Watch};
