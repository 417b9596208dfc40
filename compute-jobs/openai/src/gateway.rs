//! What the face is made of, and its routes.

use std::sync::Arc;

use ashlar_compute_api::jobs::Jobs;
use ashlar_objects::Store;
use ashlar_objects::clock::Clock;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::middleware;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::admission::identify;
use crate::limits::Limits;
use crate::models::Models;
use crate::rates::Rates;
use crate::refusal::Refusal;
use crate::watch::Watch;
use crate::{batches, chat, completions, embeddings, files, fine_tuning, models};

/// What a gateway is made of.
pub struct GatewayParts {
    /// Users, API keys, files.
    pub store: Store,
    /// The models.
    pub models: Arc<dyn Models>,
    /// Runs batches; without it their routes say that there are none.
    pub jobs: Option<Arc<dyn Jobs>>,
    /// Hears of answers.
    pub watch: Arc<dyn Watch>,
    /// Bounds.
    pub limits: Limits,
    /// The time of day.
    pub clock: Clock,
}

/// The face. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    parts: GatewayParts,
    rates: Arc<Rates>,
    /// KiB of bodies that may still be taken.
    bodies: Arc<Semaphore>,
}

/// Bodies are counted in these.
pub(crate) const BODY_UNIT_BYTES: usize = 1 << 10;

impl Gateway {
    /// Puts it together. Nothing runs before a request comes.
    #[must_use]
    pub fn new(parts: GatewayParts) -> Self {
        let rates = Arc::new(Rates::new(&parts.limits));
        let units = (parts.limits.bodies_bytes_max / BODY_UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { inner: Arc::new(Inner { parts, rates, bodies: Arc::new(Semaphore::new(units)) }) }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.parts.store
    }

    pub(crate) fn models(&self) -> &dyn Models {
        &*self.inner.parts.models
    }

    pub(crate) fn jobs(&self) -> Result<&Arc<dyn Jobs>, Refusal> {
        self.inner.parts.jobs.as_ref().ok_or_else(|| Refusal::not_built("Running batches"))
    }

    pub(crate) fn watch(&self) -> &Arc<dyn Watch> {
        &self.inner.parts.watch
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.parts.limits
    }

    pub(crate) fn rates(&self) -> &Arc<Rates> {
        &self.inner.rates
    }

    pub(crate) fn bodies(&self) -> &Arc<Semaphore> {
        &self.inner.bodies
    }

    /// Unix milliseconds.
    pub(crate) fn now_millis(&self) -> i64 {
        self.inner.parts.clock.now().0
    }

    /// Unix seconds.
    pub(crate) fn now_seconds(&self) -> i64 {
        self.now_millis().div_euclid(1_000)
    }
}

/// Every route, to be nested at `/v1`. Who nests it puts an [`crate::Origin`] into requests' extensions where it knows more of
/// them than this does.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/chat/completions", post(chat::create))
        .route("/completions", post(completions::create))
        .route("/embeddings", post(embeddings::create))
        .route("/models", get(models::list))
        .route("/models/{*name}", get(models::show))
        .route("/files", get(files::list).post(files::upload))
        .route("/files/{id}", get(files::show).delete(files::remove))
        .route("/files/{id}/content", get(files::content))
        .route("/batches", get(batches::list).post(batches::create))
        .route("/batches/{id}", get(batches::show))
        .route("/batches/{id}/cancel", post(batches::cancel))
        .route("/fine_tuning/jobs", get(fine_tuning::refuse).post(fine_tuning::refuse))
        .route("/fine_tuning/jobs/{*rest}", get(fine_tuning::refuse).post(fine_tuning::refuse))
        .fallback(async |request: Request| Refusal::no_route(request.uri().path()))
        .method_not_allowed_fallback(async || Refusal::no_method())
        // Bodies are bounded where they are read, each by its own limit.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(identify))
        .with_state(gateway)
}
