//! Chats, completions and embeddings, and what becomes of them where a provider or a client does not keep its part.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ashlar_compute_api::transcript::{Event, FinishReason, Transcript};
use ashlar_compute_api::{ContentRoot, JobId, LockId};
use ashlar_objects::api_keys::ApiKeySpec;
use ashlar_openai::{Limits, Misdeed};
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::world::{World, chat_body};

#[tokio::test]
async fn a_chat_is_answered_and_says_what_answered() {
    let world = World::new().await;
    let answer = world.chat("chat", "one two three", json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let value = answer.json();
    assert_eq!(value["choices"][0]["message"]["content"], "You said: one two three");
    assert_eq!(value["choices"][0]["finish_reason"], "stop");
    assert_eq!(value["usage"], json!({ "prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9 }));
    assert!(value["system_fingerprint"].as_str().unwrap().starts_with("0x"));
    let root = ContentRoot(*blake3::hash(b"chat").as_bytes());
    assert_eq!(answer.headers["x-ashlar-model-root"], root.to_string());
    for name in ["x-request-id", "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens"] {
        assert!(answer.headers.contains_key(name), "{name}");
    }
    let by_root = world.chat(&root.to_string(), "x", json!({})).await;
    assert_eq!(by_root.json()["model"], "chat");
}

#[tokio::test]
async fn the_transcript_is_that_of_what_was_passed_on() {
    let world = World::new().await;
    let body = chat_body("chat", "a b", json!({ "max_tokens": 3 }));
    let answer = world.post("/v1/chat/completions", body.clone()).await;
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "length");
    let id = |word: &str| {
        let digest = blake3::hash(word.as_bytes());
        u32::from_be_bytes([0, digest.as_bytes()[0], digest.as_bytes()[1], digest.as_bytes()[2]])
    };
    let mut transcript = Transcript::begin(LockId::ZERO, JobId::ZERO, 0, 0);
    let request_hash = ContentRoot(*blake3::hash(body.to_string().as_bytes()).as_bytes());
    transcript.push(&Event::Request { request_hash }).unwrap();
    transcript.tokens(0, &["You ", "said: ", "a "].map(id)).unwrap();
    transcript.push(&Event::Finish { choice: 0, reason: FinishReason::Length }).unwrap();
    transcript.push(&Event::Usage { asked: 3, answered: 3 }).unwrap();
    let heard = world.heard.delivered.lock();
    assert_eq!(heard[0].head, transcript.head());
    assert_eq!(*answer.headers["x-request-id"].to_str().unwrap(), *heard[0].request_id);
}

#[tokio::test]
async fn a_stream_tells_the_same_in_pieces() {
    let world = World::new().await;
    let more =
        json!({ "stream": true, "stream_options": { "include_usage": true }, "n": 2, "stop": " three" });
    let answer = world.chat("chat", "one two three four", more).await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let (events, is_done) = answer.events();
    assert!(is_done);
    let mut texts = [String::new(), String::new()];
    let mut finishes = Vec::new();
    for event in &events[..events.len() - 1] {
        assert_eq!((&event["usage"], &event["object"]), (&Value::Null, &json!("chat.completion.chunk")));
        let choice = &event["choices"][0];
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        finishes.extend(choice["finish_reason"].as_str().map(str::to_owned));
    }
    assert_eq!(texts, ["You said: one two", "Choice 1: one two"]);
    assert_eq!(finishes, ["stop", "stop"]);
    let last = events.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(10)));
}

#[tokio::test]
async fn completions_and_log_probabilities() {
    let world = World::new().await;
    let body = json!({ "model": "chat", "prompt": "x y", "logprobs": 2, "max_tokens": 3 });
    let value = world.post("/v1/completions", body).await.json();
    assert_eq!(
        (&value["object"], &value["choices"][0]["text"]),
        (&json!("text_completion"), &json!("You said: x "))
    );
    assert_eq!(value["choices"][0]["logprobs"]["text_offset"], json!([0, 4, 10]));
    let more = json!({ "logprobs": true, "top_logprobs": 2 });
    let value = world.chat("chat", "x", more).await.json();
    let content = value["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!((content.len(), content[0]["token"].as_str()), (3, Some("You ")));
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn vectors_come_in_both_forms() {
    let world = World::new().await;
    let body = json!({ "model": "embed", "input": ["a b", "c"], "encoding_format": "float" });
    let floats = world.post("/v1/embeddings", body).await;
    assert_eq!(floats.status, 200, "{}", floats.text);
    let value = floats.json();
    assert_eq!(value["usage"], json!({ "prompt_tokens": 3, "total_tokens": 3 }));
    assert!(floats.headers.contains_key("x-ashlar-model-root"));
    let body = json!({ "model": "embed", "input": "c", "encoding_format": "base64" });
    let encoded = world.post("/v1/embeddings", body).await.json();
    let bytes = STANDARD.decode(encoded["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let numbers: Vec<f64> =
        bytes.chunks(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap()))).collect();
    assert_eq!(json!(numbers), value["data"][1]["embedding"]);
    assert_eq!(world.heard.delivered.lock().len(), 2);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_openais_shape() {
    let world = World::new().await;
    let messages = json!([{ "role": "user", "content": "x" }]);
    let long = "word ".repeat(600);
    let cases = [
        (chat_body("nobody", "x", json!({})), (404, "model_not_found", "model")),
        (chat_body("embed", "x", json!({})), (400, "invalid_value", "model")),
        (chat_body("chat", &long, json!({})), (400, "context_length_exceeded", "messages")),
        (chat_body("chat", "x", json!({ "max_tokens": 600 })), (400, "context_length_exceeded", "messages")),
        (chat_body("chat", "x", json!({ "colour": 1 })), (400, "unknown_parameter", "colour")),
        (chat_body("chat", "x", json!({ "temperature": 3 })), (400, "invalid_value", "temperature")),
        (chat_body("chat", "x", json!({ "tools": [1] })), (400, "unsupported_parameter", "tools")),
        (
            chat_body("chat", "x", json!({ "response_format": { "type": "json_object" } })),
            (400, "unsupported_parameter", "response_format"),
        ),
        (json!({ "messages": messages }), (400, "missing_required_parameter", "model")),
    ];
    for (body, (status, code, param)) in cases {
        let error = world.post("/v1/chat/completions", body.clone()).await.error();
        assert_eq!(error, (status, code.to_owned(), Some(param.to_owned())), "{body}");
    }
    let cases = [
        (json!({ "model": "embed", "input": "x", "dimensions": 4 }), "dimensions"),
        (json!({ "model": "embed", "input": [1, 2] }), "input"),
        (json!({ "model": "embed", "input": [] }), "input"),
        (json!({ "model": "embed", "input": ["x", long] }), "input[1]"),
        (json!({ "model": "embed", "input": "x", "encoding_format": "hex" }), "encoding_format"),
    ];
    for (body, param) in cases {
        let (status, _, found) = world.post("/v1/embeddings", body.clone()).await.error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{body}");
    }
    let broken = world.answer(world.request("POST", "/v1/chat/completions", "application/json", "{")).await;
    assert_eq!(broken.error().0, 400);
    assert_eq!(world.get("/v1/nothing").await.error(), (404, "unknown_url".into(), None));
    assert_eq!(world.get("/v1/embeddings").await.error().0, 405);
    let tuning = world.post("/v1/fine_tuning/jobs", json!({})).await;
    assert_eq!(tuning.error(), (501, "not_implemented".into(), None));
    assert_eq!(world.get("/v1/fine_tuning/jobs/x/events").await.error().0, 501);
}

#[tokio::test]
async fn models_are_listed_with_their_roots() {
    let world = World::new().await;
    let value = world.get("/v1/models").await.json();
    assert_eq!((value["object"].as_str(), value["data"].as_array().unwrap().len()), (Some("list"), 8));
    let one = world.get("/v1/models/embed").await.json();
    assert_eq!((one["id"].as_str(), one["kind"].as_str()), (Some("embed"), Some("embedding")));
    assert_eq!(world.get("/v1/models/some/other").await.error().1, "model_not_found");
}

#[tokio::test]
async fn a_provider_that_counts_too_much_is_not_paid_and_reported() {
    let world = World::new().await;
    let whole = world.chat("liar", "a b c", json!({})).await;
    assert_eq!(whole.error(), (502, "provider_misconduct".into(), None));
    let (events, is_done) = world.chat("liar", "a b c", json!({ "stream": true })).await.events();
    assert!(!is_done, "an answer that is not whole does not end as one");
    assert_eq!(events.last().unwrap()["error"]["code"], "provider_misconduct");
    let body = json!({ "model": "embed-liar", "input": "x" });
    assert_eq!(world.post("/v1/embeddings", body).await.error().1, "provider_misconduct");
    let misdeeds: Vec<Misdeed> = world.heard.misconduct.lock().iter().map(|of| of.misdeed.clone()).collect();
    assert_eq!(misdeeds.len(), 3);
    assert!(misdeeds.iter().all(|misdeed| matches!(misdeed, Misdeed::OtherUsage { .. })));
    assert!(world.heard.delivered.lock().is_empty());
    assert_eq!(world.spent().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_or_falls_silent_ends_the_answer() {
    let world = World::new().await;
    assert_eq!(
        world.chat("fails", "a b c d", json!({})).await.error(),
        (502, "provider_failed".into(), None)
    );
    let (events, is_done) = world.chat("silent", "a b c d", json!({ "stream": true })).await.events();
    assert!(!is_done && events.len() > 2);
    assert_eq!(events.last().unwrap()["error"]["code"], "provider_failed");
    let gone = world.chat("gone", "x", json!({})).await;
    assert_eq!((gone.status, gone.headers["retry-after"].to_str().unwrap()), (503, "3"));
    // What was told is owed: four units asked and something of the answer, in both cases.
    assert!(world.spent().await > 8);
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_work_and_pays_what_it_was_told() {
    let world = World::new().await;
    let body = chat_body("slow", &"word ".repeat(200), json!({ "stream": true }));
    let request = world.request("POST", "/v1/chat/completions", "application/json", body.to_string());
    let mut response = world.send(request).await;
    for _ in 0..4 {
        response.body_mut().frame().await.unwrap().unwrap();
    }
    assert_eq!(world.slow.given_up.load(Ordering::SeqCst), 0);
    drop(response);
    assert_eq!(world.slow.given_up.load(Ordering::SeqCst), 1);
    let spent = world.spent().await;
    assert!((201..260).contains(&spent), "{spent} wei for 201 units asked and a few told");
}

#[tokio::test]
async fn no_capacity_is_said_at_once() {
    let world = World::new().await;
    let body = || chat_body("slow", &"word ".repeat(200), json!({ "stream": true }));
    let request = || world.request("POST", "/v1/chat/completions", "application/json", body().to_string());
    let (one, two) = (world.send(request()).await, world.send(request()).await);
    let three = world.answer(request()).await;
    assert_eq!((three.status, three.headers["retry-after"].to_str().unwrap()), (429, "2"));
    drop((one, two));
    assert_eq!(world.send(request()).await.status(), 200);
}

#[tokio::test]
async fn a_key_has_so_many_answers_at_once() {
    let world = World::with(Limits { answers_per_key_max: 1, ..Limits::default() }).await;
    let body = chat_body("slow", "a b c", json!({ "stream": true }));
    let held =
        world.send(world.request("POST", "/v1/chat/completions", "application/json", body.to_string())).await;
    assert_eq!(world.chat("chat", "x", json!({})).await.error().1, "rate_limit_exceeded");
    drop(held);
    assert_eq!(world.chat("chat", "x", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_by_comments() {
    let world = World::with(Limits { keep_alive: Duration::from_millis(5), ..Limits::default() }).await;
    let answer = world.chat("slow", "a b", json!({ "stream": true })).await;
    assert!(answer.text.lines().any(|line| line.starts_with(':')), "{}", answer.text);
    assert!(answer.events().1);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let world =
        World::with(Limits { body_bytes_max: 2_000, bodies_bytes_max: 4_096, ..Limits::default() }).await;
    let mut request = world.request("POST", "/v1/chat/completions", "application/json", Body::empty());
    request.headers_mut().insert("content-length", "100000000".parse().unwrap());
    // A body that never comes: an answer shows that nobody waited for it.
    *request.body_mut() =
        Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let answer = world.answer(request).await;
    assert_eq!(answer.error(), (413, "request_too_large".into(), None));
    assert_eq!(answer.headers["connection"], "close");
    let pieces =
        futures::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b' '; 512])));
    let request = world.request("POST", "/v1/embeddings", "application/json", Body::from_stream(pieces));
    assert_eq!(world.answer(request).await.status, 413);
    assert_eq!(world.chat("chat", "x", json!({})).await.status, 200, "what was reserved is free again");
}

#[tokio::test]
async fn a_cap_holds_and_the_rest_of_it_can_be_spent() {
    let mut world = World::new().await;
    let spec = ApiKeySpec { spend_cap: Some(20), ..ApiKeySpec::default() };
    world.key = world.new_key(spec).await.secret.expose().to_owned();
    // 2 units asked and 3 answered: 2 + 2 · 3 = 8 wei each time.
    let ask = |max: u64| world.chat("chat", "x", json!({ "max_tokens": max }));
    assert_eq!(ask(3).await.status, 200);
    assert_eq!(world.spent().await, 8);
    assert_eq!(ask(30).await.error().1, "insufficient_quota");
    assert_eq!(ask(5).await.status, 200);
    assert_eq!(ask(1).await.status, 200);
    assert_eq!(ask(1).await.error().1, "insufficient_quota");
    assert_eq!(world.spent().await, 20);
}
