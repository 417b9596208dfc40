//! A model that providers run, as a runtime: what the front doors call without knowing where it runs.
//!
//! Invariant: a call that nobody has room for is refused at once; a client that leaves is noticed, and what it heard is
//! paid all the same, by a task that it cannot cancel. Does not know who asks.

use std::sync::Arc;

use ashlar_compute_api::inference::{
    Classifications, Classify, Embeddings, Generate, Inference, InferenceError, Model, Piece, Prompt,
};
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::vouchers::Level;
use ashlar_compute_api::{Address, ContentRoot};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::{mpsc, oneshot};

use super::HubInner;
use super::request::{Placed, Question, Rows, Sink, Whom};
use crate::digest::root;
use crate::limits::{FIRST_FRAME_MAX, FRAMES_WAITING_MAX};
use crate::wire::{Ask, COUNT_PATH, CountAsk, Counted, Refused};

/// A model that is offered by providers of a hub.
#[derive(Clone)]
pub struct RemoteModel {
    hub: Arc<HubInner>,
    model: Model,
    level: Level,
    whom: Whom,
}

/// Rows of a job's unit, with who worked them and what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitAnswer {
    /// Who worked them.
    pub provider: Address,
    /// Vectors, or log-probabilities of labels, one row a text.
    pub rows: Vec<Vec<f32>>,
    /// What they cost.
    pub units: u64,
}

impl RemoteModel {
    pub(super) fn new(hub: Arc<HubInner>, model: Model) -> Self {
        Self { hub, model, level: Level::Bound, whom: Whom::Anybody }
    }

    /// The same, with receipts that name another level of verification.
    pub fn at_level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// The same, answered by this provider alone: one that the buyer trusts, to check another's work.
    pub fn on(self, provider: Address) -> Self {
        Self { whom: Whom::Only(provider), ..self }
    }

    /// The same, answered by any but this provider.
    pub fn except(self, provider: Address) -> Self {
        Self { whom: Whom::Not(provider), ..self }
    }

    /// Embeds the rows of a job's unit under its lease. What was receipted is paid under the unit's own shard.
    pub async fn embed_unit(&self, placed: Placed, texts: Vec<String>) -> Result<UnitAnswer, InferenceError> {
        self.unit(Kind::Embedding, Ask::embed(texts)?, placed).await
    }

    /// Classifies the rows of a job's unit under its lease.
    pub async fn classify_unit(&self, placed: Placed, asked: Classify) -> Result<UnitAnswer, InferenceError> {
        self.unit(Kind::Labeling, Ask::classify(asked)?, placed).await
    }

    async fn unit(&self, kind: Kind, ask: Ask, placed: Placed) -> Result<UnitAnswer, InferenceError> {
        let Rows { provider, rows, units } = self.rows(kind, ask, Some(placed)).await?;
        Ok(UnitAnswer { provider, rows, units })
    }

    fn question(
        &self,
        ask: Ask,
        name: Option<ContentRoot>,
        placed: Option<Placed>,
    ) -> Result<Question, InferenceError> {
        let bytes = ask.encode()?;
        let name = name.unwrap_or_else(|| root(&bytes));
        Ok(Question { ask, bytes, name, level: self.level, placed, whom: self.whom })
    }

    /// Rows are told whole: until then another provider can answer, and a caller that leaves has heard nothing.
    async fn rows(&self, kind: Kind, ask: Ask, placed: Option<Placed>) -> Result<Rows, InferenceError> {
        let question = self.question(ask, None, placed)?;
        let (done, answer) = oneshot::channel();
        let (hub, model) = (Arc::clone(&self.hub), self.model.root);
        self.hub.tasks.spawn(async move {
            let mut sink = Sink::rows(done);
            if let Err(error) = hub.answer(model, kind, &question, &mut sink).await {
                sink.fail(error).await;
            }
        });
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> InferenceError {
    InferenceError::Failed { reason: "the gateway is stopping".to_owned() }
}

#[async_trait]
impl Inference for RemoteModel {
    fn model(&self) -> &Model {
        &self.model
    }

    /// As a provider counts them, with a language model's form around a conversation. Nothing is paid for it.
    async fn units(&self, prompt: &Prompt) -> Result<u64, InferenceError> {
        let ask = Ask::generate(&Generate {
            request_hash: ContentRoot::ZERO,
            prompt: prompt.clone(),
            choices: 1,
            units_max: 1,
            sampling: ashlar_compute_api::inference::Sampling {
                temperature: 0.0,
                top_p: 1.0,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                seed: 0,
            },
            stop: Vec::new(),
            log_probabilities: None,
        })?;
        let question = CountAsk { model: self.model.root, ask: ask.encode()? };
        let kinds = [Kind::Inference, Kind::Labeling, Kind::Embedding];
        for (peer, _) in kinds.into_iter().flat_map(|kind| self.hub.ranked(self.model.root, kind.number())) {
            match peer.ask_once(COUNT_PATH, &question, FIRST_FRAME_MAX).await {
                Ok(Counted::Units(units)) => return Ok(units),
                Ok(Counted::Refused(Refused::Invalid { reason })) => {
                    return Err(InferenceError::Invalid { reason });
                }
                Ok(Counted::Refused(_)) | Err(_) => {}
            }
        }
        Err(InferenceError::Busy { retry_after_seconds: 1 })
    }

    async fn generate(
        &self,
        request: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError> {
        let question = self.question(Ask::generate(&request)?, Some(request.request_hash), None)?;
        let (pieces, mut told) = mpsc::channel(FRAMES_WAITING_MAX);
        let (hub, model) = (Arc::clone(&self.hub), self.model.root);
        self.hub.tasks.spawn(async move {
            let mut sink = Sink::pieces(pieces);
            if let Err(error) = hub.answer(model, Kind::Inference, &question, &mut sink).await {
                sink.fail(error).await;
            }
        });
        // The first piece or the reason why there is none: a refusal is the call's own.
        let first = told.recv().await.unwrap_or_else(|| Err(ended()))?;
        let rest = stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) });
        Ok(stream::once(async { Ok(first) }).chain(rest).boxed())
    }

    async fn embed(&self, texts: Vec<String>) -> Result<Embeddings, InferenceError> {
        let Rows { rows, units, .. } = self.rows(Kind::Embedding, Ask::embed(texts)?, None).await?;
        Ok(Embeddings { vectors: rows, units })
    }

    async fn classify(&self, request: Classify) -> Result<Classifications, InferenceError> {
        let Rows { rows, units, .. } = self.rows(Kind::Labeling, Ask::classify(request)?, None).await?;
        Ok(Classifications { log_probabilities: rows, units })
    }
}
