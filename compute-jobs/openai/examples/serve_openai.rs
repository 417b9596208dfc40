//! Serves the face with models that say back what they were told, over a store on memory: for `ops/conformance/openai/run`.
//!
//! The first line on standard output says where, and how to sign in. Ends by a signal.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ashlar_objects::api_keys::ApiKeySpec;
use ashlar_objects::clock::Clock;
use ashlar_objects::testing::{TestStore, request_of};
use ashlar_objects::users::SecretKey;
use ashlar_openai::{BatchRunner, Gateway, GatewayParts, Ignored, Limits, ModelKind, router};
use axum::Router;
use serde_json::json;
use support::runtime::{Manner, MemoryJobs, Registry, SharedJobs};
use tokio::net::TcpListener;

mod support {
    //! What tests and this share.
    pub(crate) mod runtime;
}

const ACCESS: &str = "conformance-root";
const SECRET: &str = "conformance-secret-key-0123456789";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let test = TestStore::new().await;
    let root = test
        .store
        .users()
        .bootstrap_root(Some((ACCESS.to_owned(), SecretKey::new(SECRET.to_owned()))))
        .await?;
    let cx = request_of(&root.identity.id, true);
    let keys = test.store.api_keys();
    let spec =
        |name: &str, spend_cap| ApiKeySpec { name: name.to_owned(), spend_cap, ..ApiKeySpec::default() };
    let key = keys.create(&cx, "root", spec("conformance", None)).await?;
    let poor = keys.create(&cx, "root", spec("poor", Some(3))).await?;
    let registry = Registry::default()
        .with("test-chat", ModelKind::Language, Manner::Honest, 64)
        .with("test-slow", ModelKind::Language, Manner::Slow(Duration::from_millis(50)), 2)
        .with("test-liar", ModelKind::Language, Manner::Inflates, 8)
        .with("test-gone", ModelKind::Language, Manner::Honest, 0)
        .with("test-embed", ModelKind::Embedding, Manner::Honest, 8);
    let jobs = Arc::new(MemoryJobs::default());
    let gateway = Gateway::new(GatewayParts {
        store: test.store.clone(),
        models: Arc::new(registry),
        jobs: Some(Arc::new(SharedJobs(Arc::clone(&jobs)))),
        watch: Arc::new(Ignored),
        limits: Limits::default(),
        clock: Clock::System,
    });
    jobs.run_by(BatchRunner::new(gateway.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
    let told = json!({
        "base_url": format!("http://{}/v1", listener.local_addr()?),
        "api_key": key.secret.expose(),
        "poor_key": poor.secret.expose(),
        "access_key": ACCESS,
        "secret_key": SECRET,
    });
    println!("{told}");
    axum::serve(listener, Router::new().nest("/v1", router(gateway))).await?;
    Ok(())
}
