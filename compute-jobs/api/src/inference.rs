//! What a model's runtime does for who calls it: generate, embed, classify.
//!
//! Invariant: answers come as the events of a transcript, so that what is hashed is what is sent. Does not know where
//! models run, how requests arrive, or who pays.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::bytes::ContentRoot;
use crate::transcript::Event;

/// What a runtime runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Content root of the model's bytes. Of an upstream that only claims a model, see `is_claimed`.
    pub root: ContentRoot,
    /// The model is what an upstream calls by its name; nobody checked its bytes.
    pub is_claimed: bool,
    /// BLAKE3 of the class's name (runtime build, kernel set, weight format); zero where none is claimed.
    pub determinism_class: ContentRoot,
    /// The most units of request and answer together.
    pub context_units_max: u64,
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What holds for the whole conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
    /// A tool that the model called.
    Tool,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who.
    pub role: Role,
    /// What.
    pub text: String,
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// At least 0; 0 takes the likeliest.
    pub temperature: f32,
    /// Share of probability that is drawn from, above 0 and at most 1.
    pub top_p: f32,
    /// Of the draws; the same seed draws the same within a determinism class.
    pub seed: u64,
}

/// What is asked of a language model.
#[derive(Clone, Debug, PartialEq)]
pub struct Generate {
    /// BLAKE3 of the request as it was given; the first event names it.
    pub request_hash: ContentRoot,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Answers that are wanted, at most [`crate::transcript::CHOICES_MAX`].
    pub choices: u32,
    /// The most units of each answer.
    pub units_max: u64,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// An answer ends before one of these.
    pub stop: Vec<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferenceError {
    /// The request cannot be answered by this model, ever.
    #[error("{reason}")]
    Invalid {
        /// For who asked.
        reason: String,
    },
    /// Request and answer do not fit.
    #[error("{units} units, and {maximum} are the most")]
    TooLong {
        /// Of the request and what it wants.
        units: u64,
        /// The model's.
        maximum: u64,
    },
    /// No capacity now; nothing is queued.
    #[error("no capacity; again in {retry_after_seconds} s")]
    Busy {
        /// When it may be tried again.
        retry_after_seconds: u32,
    },
    /// The runtime failed.
    #[error("the runtime failed: {reason}")]
    Failed {
        /// For the log.
        reason: String,
    },
}

/// A model that runs. Dropping a call's future or stream ends its work; what it told until then stays owed.
#[async_trait]
pub trait Inference: Send + Sync {
    /// What it runs.
    fn model(&self) -> &Model;

    /// Answers, as the events of one request in a transcript: from its request to its usage.
    async fn generate(
        &self,
        request: Generate,
    ) -> Result<BoxStream<'static, Result<Event, InferenceError>>, InferenceError>;

    /// One vector for each text, in their order, all of one length.
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, InferenceError>;

    /// For each text the log-probability of each label, in nats, in their order.
    async fn classify(
        &self,
        texts: Vec<String>,
        labels: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, InferenceError>;
}
