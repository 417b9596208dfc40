//! The :9001 listener: health, metrics, and the API that the command line talks to.
//!
//! Invariant: `/healthz`, `/readyz` and `/metrics` need no credentials and name no user, bucket or key;
//! `/sql` and everything under `/api/` need them, and users and nodes are root's. Deliberately decides nothing about
//! buckets: the store's own `authorize()` does.

pub(crate) mod answers;
mod buckets;
mod credentials;
mod health;
mod keys;
mod listener;
mod metrics_page;
mod models;
mod nodes;
mod objects;
mod refusal;
mod sql;
mod status;
mod users;

pub(crate) use self::nodes::describe as describe_node;

use std::sync::Arc;
use std::time::Instant;

use ashlar_metadata::EmbeddedKv;
use ashlar_objects::Store;
use ashlar_objects::access::{Principal, RequestContext};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

use crate::configuration::CodingChoice;
use crate::roles::models::OwnModels;
use crate::roles::publishing::Publishing;
use crate::roles::storage::StorageNodes;
use refusal::{REQUEST_ID, Refusal};

pub(crate) use buckets::BucketsPage;
pub(crate) use listener::serve;
pub(crate) use metrics_page::{Histograms, install as install_metrics, labels};
pub(crate) use objects::sequence_of;

/// Largest body that the API reads, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What the listener tells about.
pub(crate) struct Server {
    /// The store.
    pub(crate) store: Store,
    /// Its metadata.
    pub(crate) metadata: Arc<EmbeddedKv>,
    /// Its storage nodes.
    pub(crate) nodes: Arc<StorageNodes>,
    /// What was counted through the `metrics` facade.
    pub(crate) histograms: Histograms,
    /// When the process was up.
    pub(crate) started: Instant,
    /// Data and parity shards.
    pub(crate) coding: CodingChoice,
    /// Where S3 is.
    pub(crate) s3_endpoint: String,
    /// The log of commitments, where it is published.
    pub(crate) publishing: Option<Arc<Publishing>>,
    /// Models that this server runs itself, and those it knows of.
    pub(crate) models: Arc<OwnModels>,
    /// The OpenAI-compatible face.
    pub(crate) openai: ashlar_openai::Gateway,
    /// SQL over the store.
    pub(crate) sql: ashlar_query::Engine,
    /// Cancelled when a stop was asked for.
    pub(crate) stopping: CancellationToken,
}

impl Server {
    /// Why writes cannot be taken now; empty when they can.
    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if self.stopping.is_cancelled() {
            obstacles.push("the server is stopping".to_owned());
        }
        if self.metadata.stats().poisoned.is_some() {
            obstacles.push("metadata takes no commits until a restart; the log says why".to_owned());
        }
        let writable = self.store.stats().nodes_writable;
        let needed = u64::from(self.coding.m) + 1;
        if writable < needed {
            obstacles.push(format!("{writable} storage nodes take writes and {needed} are needed"));
        }
        obstacles
    }
}

/// Every route.
fn router(server: Arc<Server>) -> Router {
    let api = Router::new()
        .route("/status", get(status::show))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{node}", get(nodes::show))
        .route("/users", get(users::list).post(users::add))
        .route("/users/{name}", get(users::show).delete(users::remove))
        .route("/users/{name}/keys", get(users::list_keys).post(users::add_key))
        .route("/users/{name}/keys/{access_key}", delete(users::remove_key))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{id}", delete(keys::remove))
        .route("/buckets", get(buckets::list))
        .route("/buckets/{name}", get(buckets::show))
        .route("/buckets/{name}/durable-when", get(buckets::durability).put(buckets::set_durability))
        .route("/objects/{bucket}", get(objects::show))
        .route("/proofs/{bucket}", get(objects::prove))
        .route("/models", get(models::list))
        .route("/models/{name}", get(models::show).put(models::import))
        .route("/da/sample", get(objects::sample));
    let openai = ashlar_openai::router(server.openai.clone()).layer(middleware::from_fn(tell_origin));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics_page::show))
        .nest("/api", api)
        .route("/sql", post(sql::run).layer(DefaultBodyLimit::max(sql::BODY_BYTES_MAX)))
        .fallback(async || {
            Refusal::not_found("such page; /healthz, /readyz, /metrics, /sql and /api/… are here")
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "not with this method",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(identify))
        .with_state(server)
        // It bounds bodies itself, and answers in words of its own.
        .nest("/v1", openai)
}

/// Tells the OpenAI-compatible face what is known of a request.
async fn tell_origin(mut request: Request, next: Next) -> Response {
    let origin = ashlar_openai::Origin {
        request_id: format!("req_{:032x}", rand::random::<u128>()).into(),
        source_ip: listener::peer(),
        secure_transport: false,
    };
    request.extensions_mut().insert(origin);
    next.run(request).await
}

/// Gives every request an id that its answer and its log lines carry.
async fn identify(request: Request, next: Next) -> Response {
    let id = format!("{:016x}", rand::random::<u64>());
    let header = HeaderValue::from_str(&id).expect("hexadecimal digits are a header value");
    let mut response = REQUEST_ID.scope(id, next.run(request)).await;
    response.headers_mut().insert("x-request-id", header);
    response
}

/// A caller's request as the store knows requests. Its clients send none of the headers that policies ask for.
fn context(principal: Principal) -> RequestContext {
    RequestContext {
        principal,
        request_id: refusal::request_id().into(),
        source_ip: listener::peer(),
        secure_transport: false,
        user_agent: None,
        referer: None,
        keys: Vec::new(),
    }
}

/// The same for a caller who proved who he is.
fn of(credentials::Caller(identity): credentials::Caller) -> RequestContext {
    context(Principal::User(identity))
}

/// A JSON answer or why there is none.
type Answer<T> = Result<Json<T>, Refusal>;

/// A JSON body that was understood; what was not is answered as every other error is.
struct Body<T>(T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> axum::extract::FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Json::<T>::from_request(request, state).await;
        body.map(|Json(value)| Self(value)).map_err(|rejection| {
            Refusal::new(rejection.status(), "InvalidBody", rejection.body_text()).into_response()
        })
    }
}
