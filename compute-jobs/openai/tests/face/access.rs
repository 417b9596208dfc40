//! Who gets in, and how far.

use std::collections::BTreeSet;

use ashlar_objects::api_keys::ApiKeySpec;
use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::world::World;

#[tokio::test]
async fn keys_and_pairs_get_in_and_nothing_else() {
    let world = World::new().await;
    let (access, secret) = world.pair().await;
    let pair = format!("{access}:{}", secret.expose());
    let status = async |value: String| {
        let mut request = world.request("GET", "/v1/models", "", Body::empty());
        request.headers_mut().insert(AUTHORIZATION, value.parse().unwrap());
        world.answer(request).await
    };
    let good = [
        format!("Bearer {}", world.key),
        format!("Bearer {pair}"),
        format!("Basic {}", STANDARD.encode(&pair)),
    ];
    for value in good {
        assert_eq!(status(value).await.status, 200);
    }
    let wrong = [
        "Bearer sk-proj-something".to_owned(),
        format!("Bearer {}x", world.key),
        format!("Bearer {access}:wrong-secret"),
        format!("Bearer nobody:{}", secret.expose()),
        "Bearer".to_owned(),
    ];
    for value in wrong {
        let answer = status(value.clone()).await;
        assert_eq!(answer.error(), (401, "invalid_api_key".into(), None), "{value}");
        assert!(
            answer.headers.contains_key("x-request-id") && answer.headers.contains_key("www-authenticate")
        );
        assert!(!answer.text.contains(&world.key));
    }
    let mut request = world.request("GET", "/v1/models", "", Body::empty());
    request.headers_mut().remove(AUTHORIZATION);
    assert_eq!(world.answer(request).await.status, 401);
}

#[tokio::test]
async fn a_scope_narrows_routes_and_models() {
    let mut world = World::new().await;
    let spec = ApiKeySpec {
        routes: Some(BTreeSet::from(["chat".to_owned(), "models".to_owned()])),
        models: Some(BTreeSet::from(["chat".to_owned()])),
        ..ApiKeySpec::default()
    };
    world.key = world.new_key(spec).await.secret.expose().to_owned();
    assert_eq!(world.chat("chat", "x", json!({})).await.status, 200);
    assert_eq!(world.chat("slow", "x", json!({})).await.error().1, "model_not_found");
    assert_eq!(world.get("/v1/models").await.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(world.get("/v1/models/slow").await.status, 404);
    assert_eq!(world.get("/v1/files").await.error().1, "insufficient_permissions");
    let body = json!({ "model": "chat", "prompt": "x" });
    assert_eq!(world.post("/v1/completions", body).await.status, 403);
}

#[tokio::test]
async fn a_key_that_is_removed_opens_nothing_at_once() {
    let mut world = World::new().await;
    let key = world.new_key(ApiKeySpec::default()).await;
    world.key = key.secret.expose().to_owned();
    assert_eq!(world.get("/v1/models").await.status, 200);
    world.test.store.api_keys().remove(&world.root, &key.facts.id).await.unwrap();
    assert_eq!(world.get("/v1/models").await.status, 401);
}
