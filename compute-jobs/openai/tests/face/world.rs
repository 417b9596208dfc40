//! A gateway, its callers, and what a test asks it.

use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::access::RequestContext;
use ashlar_objects::api_keys::{ApiKeySpec, NewApiKey};
use ashlar_objects::clock::Clock;
use ashlar_objects::testing::{TestStore, request_of};
use ashlar_objects::users::SecretKey;
use ashlar_openai::{
    BatchRunner, Delivered, Gateway, GatewayParts, Limits, Misconduct, ModelKind, Watch, router,
};
use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::runtime::{Echo, Manner, MemoryJobs, Registry, SharedJobs};

/// What was heard of answers.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) delivered: Mutex<Vec<Delivered>>,
    pub(crate) misconduct: Mutex<Vec<Misconduct>>,
}

impl Watch for Heard {
    fn delivered(&self, answer: &Delivered) {
        self.delivered.lock().push(answer.clone());
    }

    fn misconduct(&self, misconduct: &Misconduct) {
        self.misconduct.lock().push(misconduct.clone());
    }
}

pub(crate) struct World {
    pub(crate) test: TestStore,
    pub(crate) router: Router,
    pub(crate) heard: Arc<Heard>,
    pub(crate) jobs: Arc<MemoryJobs>,
    pub(crate) slow: Arc<Echo>,
    pub(crate) root: RequestContext,
    /// An API key of the user ann that may do everything.
    pub(crate) key: String,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// Status, code and parameter of an error.
    pub(crate) fn error(&self) -> (u16, String, Option<String>) {
        let error = &self.json()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
        let of = |name: &str| error[name].as_str().map(str::to_owned);
        (self.status, of("code").unwrap_or_default(), of("param"))
    }

    /// The objects of a stream, and whether it ended as it should.
    pub(crate) fn events(&self) -> (Vec<Value>, bool) {
        let data: Vec<&str> = self.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let is_done = data.last() == Some(&"[DONE]");
        let objects = data.iter().filter(|data| **data != "[DONE]");
        (objects.map(|data| serde_json::from_str(data).unwrap()).collect(), is_done)
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let test = TestStore::new().await;
        let root = request_of("root", true);
        test.store.users().add_user(&root, "ann").await.unwrap();
        let registry = Registry::default()
            .with("chat", ModelKind::Language, Manner::Honest, 8)
            .with("slow", ModelKind::Language, Manner::Slow(Duration::from_millis(20)), 2)
            .with("liar", ModelKind::Language, Manner::Inflates, 8)
            .with("fails", ModelKind::Language, Manner::Fails, 8)
            .with("silent", ModelKind::Language, Manner::FallsSilent, 8)
            .with("gone", ModelKind::Language, Manner::Honest, 0)
            .with("embed", ModelKind::Embedding, Manner::Honest, 8)
            .with("embed-liar", ModelKind::Embedding, Manner::Inflates, 8);
        let slow = registry.echo("slow").unwrap();
        let (heard, jobs) = (Arc::new(Heard::default()), Arc::new(MemoryJobs::default()));
        let gateway = Gateway::new(GatewayParts {
            store: test.store.clone(),
            models: Arc::new(registry),
            jobs: Some(Arc::new(SharedJobs(Arc::clone(&jobs)))),
            watch: Arc::<Heard>::clone(&heard),
            limits,
            clock: Clock::System,
        });
        jobs.run_by(BatchRunner::new(gateway.clone()));
        let router = Router::new().nest("/v1", router(gateway));
        let mut world = Self { test, router, heard, jobs, slow, root, key: String::new() };
        world.key = world.new_key(ApiKeySpec::default()).await.secret.expose().to_owned();
        world
    }

    /// A key of ann's.
    pub(crate) async fn new_key(&self, spec: ApiKeySpec) -> NewApiKey {
        let spec = ApiKeySpec { name: "test".to_owned(), ..spec };
        self.test.store.api_keys().create(&self.root, "ann", spec).await.unwrap()
    }

    /// A pair of ann's.
    pub(crate) async fn pair(&self) -> (String, SecretKey) {
        let pair = self.test.store.users().add_key(&self.root, "ann").await.unwrap();
        (pair.access_key, pair.secret)
    }

    pub(crate) async fn spent(&self) -> u128 {
        let keys = self.test.store.api_keys().list(&self.root, Some("ann"), None).await.unwrap().0;
        keys.iter().map(|key| key.spent).sum()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.send(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: impl Into<Body>,
    ) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {}", self.key))
            .header(CONTENT_TYPE, kind)
            .body(body.into())
            .unwrap()
    }

    pub(crate) async fn post(&self, path: &str, value: Value) -> Answer {
        self.answer(self.request("POST", path, "application/json", value.to_string())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.answer(self.request("GET", path, "", Body::empty())).await
    }

    pub(crate) async fn chat(&self, model: &str, said: &str, more: Value) -> Answer {
        self.post("/v1/chat/completions", chat_body(model, said, more)).await
    }
}

/// A chat of one message, with other parameters.
pub(crate) fn chat_body(model: &str, said: &str, more: Value) -> Value {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": said }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}
