//! Low-rank adapters of a language model of the Llama family, trained on rows of tokens.
//!
//! [`Base`] is the frozen model, dequantised to 32-bit floats; [`Adapters`] are what is learnt; [`Trainer`] takes step after
//! step, tells metrics as they come, writes checkpoints and goes on from one. The result is a model object that is applied
//! unmerged, beside the base that it names.
//!
//! Invariants: every operation of the forward pass hands gradients on, so that every adapter of every layer has one; from
//! the same base, rows and options come the same bytes on the same kind of machine, whether or not a training was
//! interrupted. Does not know tokenizers, prompts, jobs or where rows come from.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod base;
mod error;
mod forward;
mod gguf;
mod lora;
mod operations;
mod trainer;

pub use base::{Base, Shape};
pub use error::TrainingError;
pub use lora::{Adapters, LoraOptions, Target};
pub use trainer::{Progress, Row, TOKENS_MAX, TrainOptions, Trained, Trainer};
