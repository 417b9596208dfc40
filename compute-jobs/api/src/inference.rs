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
    /// Taken once from the logit of each token that the answer already has, -2 to 2.
    pub presence_penalty: f32,
    /// Taken from a token's logit for each time that the answer already has it, -2 to 2.
    pub frequency_penalty: f32,
    /// Of the draws; the same seed draws the same within a determinism class.
    pub seed: u64,
}

/// What an answer goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation, put into the form that the model was taught.
    Chat(Vec<Message>),
    /// Text as it is.
    Text(String),
}

/// What is asked of a language model.
#[derive(Clone, Debug, PartialEq)]
pub struct Generate {
    /// BLAKE3 of the request as it was given; the first event names it.
    pub request_hash: ContentRoot,
    /// What the answer goes on from.
    pub prompt: Prompt,
    /// Answers that are wanted, at most [`crate::transcript::CHOICES_MAX`].
    pub choices: u32,
    /// The most units of each answer.
    pub units_max: u64,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// An answer ends before one of these.
    pub stop: Vec<String>,
    /// Of each token of the answer its log-probability, and those of so many likeliest ones in its place.
    pub log_probabilities: Option<u8>,
}

/// A token with how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct LikelyToken {
    /// In the model's vocabulary.
    pub id: u32,
    /// What it stands for; alone not always whole characters.
    pub bytes: Vec<u8>,
    /// In nats.
    pub log_probability: f32,
}

/// The token of an answer, with those that could have stood there.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLikelihood {
    /// What was drawn.
    pub token: LikelyToken,
    /// The likeliest, most likely first, as many as were asked for.
    pub likeliest: Vec<LikelyToken>,
}

/// What a runtime says at once: events of the transcript in their order, and what a reader sees of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// What is hashed. Tokens of one choice at most.
    pub events: Vec<Event>,
    /// Whole characters that the tokens until now have made of that choice and that were not told before. Text that a
    /// stop sequence may begin in is told when it is known not to.
    pub text: String,
    /// Of each token among the events, where that was asked for.
    pub likelihoods: Vec<TokenLikelihood>,
}

/// Vectors of texts, with what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// One for each text in their order, all of one length.
    pub vectors: Vec<Vec<f32>>,
    /// Units of all texts together.
    pub units: u64,
}

/// How likely labels are, with what finding out cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifications {
    /// For each text the log-probability of each label, in nats, in their order.
    pub log_probabilities: Vec<Vec<f32>>,
    /// Units of all texts together, instructions among them.
    pub units: u64,
}

/// What texts are classified by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classify {
    /// What is classified.
    pub texts: Vec<String>,
    /// What they may be; at least two, no two equal.
    pub labels: Vec<String>,
    /// What the model is told before each text, in place of the runtime's own words.
    pub instructions: Option<String>,
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

    /// Units of a prompt as the model reads it.
    async fn units(&self, prompt: &Prompt) -> Result<u64, InferenceError>;

    /// Answers, as the events of one request in a transcript: from its request to its usage.
    async fn generate(
        &self,
        request: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError>;

    /// Texts as vectors.
    async fn embed(&self, texts: Vec<String>) -> Result<Embeddings, InferenceError>;

    /// How likely each label is for each text, the prior of a text without content taken off.
    async fn classify(&self, request: Classify) -> Result<Classifications, InferenceError>;
}
