//! The encoder behind the trait `Inference`, on threads of its own.
//!
//! Requests are cut into pieces of some texts each, which the threads take in turn. Invariants: what waits is bounded
//! in texts and in bytes, and beyond it a request hears `Busy` at once; a request whose caller has gone is worked on no
//! further than the piece under way; threads end with the runtime. Does not know HTTP, jobs or money.

use std::sync::Arc;

use ashlar_compute_api::inference::{
    Classifications, Classify, Embeddings, Generate, Inference, InferenceError, Model, Piece, Prompt,
};
use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::encoder::Encoder;
use crate::head::{Head, HeadError};

mod pool;

pub use pool::RuntimeLimits;
use pool::{Pool, Work};

fn invalid(reason: impl Into<String>) -> InferenceError {
    InferenceError::Invalid { reason: reason.into() }
}

/// A model that embeds. Dropping it ends its threads, after the piece that each is at.
#[derive(Debug)]
pub struct EmbeddingRuntime {
    model: Model,
    pool: Pool,
}

fn model(encoder: &Encoder) -> Model {
    Model {
        root: encoder.root(),
        is_claimed: false,
        determinism_class: encoder.determinism_class(),
        context_units_max: encoder.configuration().tokens_max.try_into().unwrap_or(u64::MAX),
    }
}

/// Units of a text; a conversation is nothing that such a model reads.
async fn units(pool: &Pool, prompt: &Prompt) -> Result<u64, InferenceError> {
    match prompt {
        Prompt::Text(text) => Ok(pool.run(vec![text.clone()], Work::Count).await?.units),
        Prompt::Chat(_) => Err(invalid("this model embeds texts; it takes part in no conversation")),
    }
}

impl EmbeddingRuntime {
    /// Starts the threads.
    pub fn start(encoder: Arc<Encoder>, limits: RuntimeLimits) -> std::io::Result<Self> {
        Ok(Self { model: model(&encoder), pool: Pool::start(encoder, limits)? })
    }
}

#[async_trait]
impl Inference for EmbeddingRuntime {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn units(&self, prompt: &Prompt) -> Result<u64, InferenceError> {
        units(&self.pool, prompt).await
    }

    async fn generate(
        &self,
        _: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError> {
        Err(invalid("this model embeds texts and generates none"))
    }

    async fn embed(&self, texts: Vec<String>) -> Result<Embeddings, InferenceError> {
        let embedded = self.pool.run(texts, Work::Embed).await?;
        Ok(Embeddings { vectors: embedded.vectors, units: embedded.units })
    }

    async fn classify(&self, _: Classify) -> Result<Classifications, InferenceError> {
        Err(invalid("this model embeds texts; to classify, train a head on it or ask a language model"))
    }
}

/// A head on the model that it was trained on. Its root is the head's, which names the model.
#[derive(Debug)]
pub struct ClassifyingRuntime {
    model: Model,
    head: Head,
    pool: Pool,
}

impl ClassifyingRuntime {
    /// Starts the threads; a head that stands on another model is refused.
    pub fn start(encoder: Arc<Encoder>, head: Head, limits: RuntimeLimits) -> Result<Self, HeadError> {
        head.stands_on(&encoder)?;
        let model = Model { root: head.root(), ..model(&encoder) };
        let pool =
            Pool::start(encoder, limits).map_err(|error| HeadError::Threads { reason: error.to_string() })?;
        Ok(Self { model, head, pool })
    }
}

#[async_trait]
impl Inference for ClassifyingRuntime {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn units(&self, prompt: &Prompt) -> Result<u64, InferenceError> {
        units(&self.pool, prompt).await
    }

    async fn generate(
        &self,
        _: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError> {
        Err(invalid("this model classifies texts and generates none"))
    }

    async fn embed(&self, _: Vec<String>) -> Result<Embeddings, InferenceError> {
        Err(invalid("this model classifies texts; ask the model that it stands on for vectors"))
    }

    /// A head knows its labels: a request may name all of them in any order, and no other.
    async fn classify(&self, request: Classify) -> Result<Classifications, InferenceError> {
        if request.instructions.is_some() {
            return Err(invalid("a trained head reads texts alone, without instructions"));
        }
        let order = self.head.order_of(&request.labels).map_err(|error| invalid(error.to_string()))?;
        let embedded = self.pool.run(request.texts, Work::Embed).await?;
        let log_probabilities = embedded.vectors.iter().map(|vector| {
            let all = self.head.log_probabilities(vector);
            order.iter().map(|at| all[*at]).collect()
        });
        Ok(Classifications { log_probabilities: log_probabilities.collect(), units: embedded.units })
    }
}
