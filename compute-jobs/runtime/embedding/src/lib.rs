//! Embeddings by models of BERT's family, and classifiers that stand on them.
//!
//! [`Encoder`] computes: tokens, a forward pass in 32-bit floats over rows of many texts joined end to end without any
//! padding, pooling as sentence-transformers does it. [`EmbeddingRuntime`] puts it behind the trait `Inference` on threads
//! of its own. A [`Head`] is a classifier that was trained on embeddings; [`ClassifyingRuntime`] answers `classify` with it.
//!
//! Invariants: a text's vector is the same bytes alone and in any batch, within a determinism class; what a hostile
//! model's files claim is refused before anything is reserved for it; a full queue says so at once. Does not know where
//! models come from, who asks, or who pays.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod configuration;
mod encoder;
mod forward;
mod head;
mod kernel;
mod runtime;
mod tokens;
mod weights;

pub use configuration::{Configuration, ConfigurationError};
pub use encoder::{Embedded, Encoder, LoadError};
pub use forward::Workspace;
pub use head::{
    Example, Head, HeadError, Metrics, Split, TrainError, TrainOptions, TrainedHead, metrics, split_of, train,
};
pub use runtime::{ClassifyingRuntime, EmbeddingRuntime, RuntimeLimits};
pub use tokens::{TEXT_BYTES_MAX, TokenError, Tokens};
