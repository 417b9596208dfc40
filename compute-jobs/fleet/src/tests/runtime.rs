//! A model that needs no weights: what it says follows from what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{
    Classifications, Classify, Embeddings, Generate, Inference, InferenceError, Model, Piece, Prompt,
};
use ashlar_compute_api::transcript::{Event, FinishReason};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::Semaphore;

pub(super) const CONTEXT: u64 = 4_096;

/// Answers with the numbers of its tokens.
pub(super) struct Counting {
    model: Model,
    /// Each token takes one of these, so that a test decides how far an answer goes.
    pub(super) allowed: Arc<Semaphore>,
    pub(super) said: AtomicU64,
    /// Added to the numbers of every so many-th call: a model that is not the one it should be.
    wrong_every: u64,
}

impl Counting {
    pub(super) fn new(root: ContentRoot) -> Self {
        let class = ContentRoot([0xc1; 32]);
        let model = Model { root, is_claimed: false, determinism_class: class, context_units_max: CONTEXT };
        Self {
            model,
            allowed: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            said: AtomicU64::new(0),
            wrong_every: 0,
        }
    }

    pub(super) fn wrong_every(calls: u64, root: ContentRoot) -> Self {
        Self { wrong_every: calls, ..Self::new(root) }
    }

    pub(super) fn held(root: ContentRoot) -> Self {
        Self { allowed: Arc::new(Semaphore::new(0)), ..Self::new(root) }
    }
}

pub(super) fn units_of(prompt: &Prompt) -> u64 {
    let texts: Vec<&str> = match prompt {
        Prompt::Text(text) => vec![text],
        Prompt::Chat(messages) => messages.iter().map(|message| message.text.as_str()).collect(),
    };
    texts.iter().map(|text| u64::try_from(text.split_whitespace().count()).unwrap()).sum()
}

#[async_trait]
impl Inference for Counting {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn units(&self, prompt: &Prompt) -> Result<u64, InferenceError> {
        Ok(units_of(prompt))
    }

    async fn generate(
        &self,
        request: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError> {
        let asked = units_of(&request.prompt);
        let piece = |events, text: String| Piece { events, text, likelihoods: Vec::new() };
        let mut pieces =
            vec![piece(vec![Event::Request { request_hash: request.request_hash }], String::new())];
        for choice in 0..request.choices {
            for id in 0..u32::try_from(request.units_max).unwrap() {
                pieces.push(piece(vec![Event::Token { choice, id }], format!("{id} ")));
            }
            pieces.push(piece(vec![Event::Finish { choice, reason: FinishReason::Length }], String::new()));
        }
        let answered = request.units_max * u64::from(request.choices);
        pieces.push(piece(vec![Event::Usage { asked, answered }], String::new()));
        self.said.fetch_add(1, Ordering::Relaxed);
        let allowed = Arc::clone(&self.allowed);
        let told = stream::iter(pieces).then(move |piece| {
            let allowed = Arc::clone(&allowed);
            async move {
                if matches!(piece.events[0], Event::Token { .. }) {
                    allowed.acquire().await.expect("it is never closed").forget();
                }
                Ok(piece)
            }
        });
        Ok(told.boxed())
    }

    async fn embed(&self, texts: Vec<String>) -> Result<Embeddings, InferenceError> {
        let units = texts.iter().map(|text| units_of(&Prompt::Text(text.clone()))).sum();
        let call = self.said.fetch_add(1, Ordering::Relaxed);
        let is_wrong = self.wrong_every > 0 && call.is_multiple_of(self.wrong_every);
        let by = if is_wrong { 1e-6 } else { 0.0 };
        let vectors = texts.iter().map(|text| vec![text.len() as f32, 0.5 + by]).collect();
        Ok(Embeddings { vectors, units })
    }

    async fn classify(&self, request: Classify) -> Result<Classifications, InferenceError> {
        let units = request.texts.iter().map(|text| units_of(&Prompt::Text(text.clone()))).sum();
        let score = |text: &String, label: &String| if text.contains(label.as_str()) { -0.1 } else { -2.0 };
        let rows = request.texts.iter();
        let log_probabilities =
            rows.map(|text| request.labels.iter().map(|label| score(text, label)).collect()).collect();
        Ok(Classifications { log_probabilities, units })
    }
}
