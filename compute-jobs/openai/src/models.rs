//! Which models there are, for whom, and who runs them: a seam, and the routes `/v1/models`.
//!
//! Invariant: a key with a scope sees and asks only the models in it, by whatever name. Does not know where models run.

use std::sync::Arc;

use ashlar_compute_api::inference::Inference;
use ashlar_compute_api::transcript::Transcript;
use ashlar_compute_api::{Amount, ContentRoot};
use async_trait::async_trait;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::admission::answered;
use crate::credentials::{Caller, Route};
use crate::gateway::Gateway;
use crate::refusal::Refusal;

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// Generates text.
    Language,
    /// Makes vectors of texts.
    Embedding,
}

/// What a unit costs, in wei.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// A unit of the request.
    pub asked: Amount,
    /// A unit of the answer.
    pub answered: Amount,
}

impl Price {
    /// What so many units cost; as much as there can be, where that is too much to count.
    pub fn cost(&self, asked: u64, answered: u64) -> u128 {
        let asked = self.asked.wei().saturating_mul(asked.into());
        asked.saturating_add(self.answered.wei().saturating_mul(answered.into()))
    }
}

/// What is told of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// What callers name it by.
    pub name: String,
    /// Content root of its bytes.
    pub root: ContentRoot,
    /// Nobody checked its bytes: an upstream calls it so.
    pub is_claimed: bool,
    /// When it was registered, in Unix seconds.
    pub created: i64,
    /// Name of its owner.
    pub owned_by: String,
    /// What it is for.
    pub kind: ModelKind,
    /// The most units of request and answer together.
    pub context_units_max: u64,
    /// What it costs.
    pub price: Price,
}

/// A model that was found, and who runs it for this request.
#[derive(Clone)]
pub struct Served {
    /// What is told of it.
    pub facts: ModelFacts,
    /// Runs it.
    pub inference: Arc<dyn Inference>,
    /// The transcript that this request goes on; every request of a provider without escrow begins one anew.
    pub transcript: Transcript,
}

/// Why a model is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelRefusal {
    /// There is none of this name or root for this caller.
    #[error("there is no model '{name}'")]
    Unknown {
        /// As asked for.
        name: String,
    },
    /// It is registered, and nobody runs it now.
    #[error("no provider now; again in {retry_after_seconds} s")]
    NoProvider {
        /// When it may be tried again.
        retry_after_seconds: u32,
    },
    /// The registry could not find out.
    #[error("the models cannot be looked up: {reason}")]
    Unavailable {
        /// For the log.
        reason: String,
    },
}

/// The models that there are. Answers at once: it never waits for capacity.
#[async_trait]
pub trait Models: Send + Sync {
    /// The model with this name, or this content root as `0x` and 64 digits, for this caller, and who runs it now.
    async fn resolve(&self, name: &str, caller: &Caller) -> Result<Served, ModelRefusal>;

    /// The models that this caller may ask, served now or not, at most a few thousand.
    async fn list(&self, caller: &Caller) -> Result<Vec<ModelFacts>, ModelRefusal>;
}

/// Whether the caller's key has this model in its scope, by name or root.
fn is_in_scope(caller: &Caller, facts: &ModelFacts) -> bool {
    let scope = caller.key.as_ref().and_then(|key| key.spec.models.as_ref());
    scope.is_none_or(|models| models.contains(&facts.name) || models.contains(&facts.root.to_string()))
}

/// The model that a request names, for one kind of work.
pub(crate) async fn resolve(
    gateway: &Gateway,
    caller: &Caller,
    name: &str,
    kind: ModelKind,
) -> Result<Served, Refusal> {
    let served = gateway.models().resolve(name, caller).await?;
    if !is_in_scope(caller, &served.facts) {
        return Err(Refusal::no_model(name));
    }
    if served.facts.kind != kind {
        let is = match served.facts.kind {
            ModelKind::Language => "generates text; ask it by /v1/chat/completions or /v1/completions",
            ModelKind::Embedding => "makes embeddings; ask it by /v1/embeddings",
        };
        return Err(Refusal::invalid("model", format!("The model '{}' {is}.", served.facts.name)));
    }
    Ok(served)
}

/// `GET /v1/models`
pub(crate) async fn list(State(gateway): State<Gateway>, request: Request) -> Response {
    answered(gateway, Route::Models, request, |gateway, admitted, _| async move {
        let found = gateway.models().list(&admitted.caller).await?;
        let models: Vec<Value> =
            found.iter().filter(|facts| is_in_scope(&admitted.caller, facts)).map(describe).collect();
        Ok(Json(json!({ "object": "list", "data": models })).into_response())
    })
    .await
}

/// `GET /v1/models/{name}`
pub(crate) async fn show(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answered(gateway, Route::Models, request, |gateway, admitted, _| async move {
        let found = gateway.models().list(&admitted.caller).await?;
        let found = found.into_iter().find(|facts| facts.name == name || facts.root.to_string() == name);
        let found = found.filter(|facts| is_in_scope(&admitted.caller, facts));
        let facts = found.ok_or_else(|| Refusal::no_model(&name))?;
        Ok(Json(describe(&facts)).into_response())
    })
    .await
}

/// As OpenAI's, with what else a buyer wants to know.
fn describe(facts: &ModelFacts) -> Value {
    let kind = match facts.kind {
        ModelKind::Language => "language",
        ModelKind::Embedding => "embedding",
    };
    json!({
        "id": facts.name,
        "object": "model",
        "created": facts.created,
        "owned_by": facts.owned_by,
        "root": facts.root.to_string(),
        "claimed": facts.is_claimed,
        "kind": kind,
        "context_length": facts.context_units_max,
        "price": { "unit": "wei", "input": facts.price.asked, "output": facts.price.answered },
    })
}
