//! Files as objects of their owner, and batches over them.

use ashlar_objects::requests::{CreateBucket, ListObjects};
use ashlar_objects::testing::request_of;
use ashlar_openai::bucket_of;
use serde_json::{Value, json};

use super::world::{Answer, World, chat_body};

/// A form, its fields in this order.
fn form(fields: &[(&str, Option<&str>, &str)]) -> String {
    let mut text = String::new();
    for (name, file, value) in fields {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        text += &format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n");
    }
    text + "--b--\r\n"
}

async fn upload_form(world: &World, form: String) -> Answer {
    world.answer(world.request("POST", "/v1/files", "multipart/form-data; boundary=b", form)).await
}

async fn upload(world: &World, content: &str) -> Answer {
    upload_form(world, form(&[("purpose", None, "batch"), ("file", Some("in.jsonl"), content)])).await
}

async fn ann(world: &World) -> String {
    world.test.store.users().by_name("ann").await.unwrap().unwrap().id
}

async fn keys(world: &World) -> Vec<String> {
    let request = ListObjects {
        bucket: bucket_of(&ann(world).await),
        prefix: String::new(),
        delimiter: None,
        after: None,
        max: 100,
    };
    let page = world.test.store.list_objects(&world.root, request).await;
    page.map(|page| page.objects.into_iter().map(|object| object.key).collect()).unwrap_or_default()
}

fn line(id: &str, model: &str, said: &str) -> String {
    let body = chat_body(model, said, json!({}));
    json!({ "custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body }).to_string()
}

async fn batch(world: &World, file: &str) -> Answer {
    let body = json!({
        "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h",
        "metadata": { "for": "test" },
    });
    world.post("/v1/batches", body).await
}

#[tokio::test]
async fn a_file_lives_as_an_object_of_its_owner() {
    let world = World::new().await;
    assert_eq!(world.get("/v1/files").await.json()["data"], json!([]));
    let content = "{\"a\": 1}\n{\"b\": \"ü\"}\n";
    let file = upload(&world, content).await.json();
    let id = file["id"].as_str().unwrap();
    assert_eq!((file["object"].as_str(), file["filename"].as_str()), (Some("file"), Some("in.jsonl")));
    assert_eq!(
        (file["purpose"].as_str(), file["bytes"].as_u64()),
        (Some("batch"), Some(content.len() as u64))
    );
    assert_eq!(keys(&world).await, [format!("files/{id}/batch/in.jsonl")]);
    assert_eq!(world.get(&format!("/v1/files/{id}")).await.json(), file);
    assert_eq!(world.get(&format!("/v1/files/{id}/content")).await.text, content);
    assert_eq!(world.get("/v1/files").await.json()["data"], json!([file]));
    assert_eq!(world.get("/v1/files?purpose=fine-tune").await.json()["data"], json!([]));
    let removed = world.answer(world.request("DELETE", &format!("/v1/files/{id}"), "", "")).await;
    assert_eq!(removed.json(), json!({ "id": id, "object": "file", "deleted": true }));
    assert_eq!(world.get(&format!("/v1/files/{id}/content")).await.status, 404);
    assert!(keys(&world).await.is_empty());
}

#[tokio::test]
async fn a_form_may_name_its_purpose_last() {
    let world = World::new().await;
    let late = form(&[("file", Some("C:\\data\\a b%.jsonl"), "{}\n"), ("purpose", None, "fine-tune")]);
    let file = upload_form(&world, late).await.json();
    let id = file["id"].as_str().unwrap();
    assert_eq!(
        (file["filename"].as_str(), file["purpose"].as_str()),
        (Some("a b%.jsonl"), Some("fine-tune"))
    );
    assert_eq!(keys(&world).await, [format!("files/{id}/fine-tune/a b%25.jsonl")]);
    assert_eq!(world.get(&format!("/v1/files/{id}")).await.json()["filename"], "a b%.jsonl");
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let world = World::new().await;
    let cases = [
        (form(&[("purpose", None, "batch"), ("file", Some("x"), "{}\nnope\n{}\n\n")]), "file"),
        (form(&[("file", Some("x"), "{}\nnope\n{}\n\n"), ("purpose", None, "batch")]), "file"),
        (form(&[("purpose", None, "batch"), ("file", Some("x"), "")]), "file"),
        (form(&[("purpose", None, "vision"), ("file", Some("x"), "{}")]), "purpose"),
        (form(&[("file", Some("x"), "{}"), ("purpose", None, "vision")]), "purpose"),
        (form(&[("file", Some("x"), "{}")]), "purpose"),
        (form(&[("purpose", None, "batch")]), "file"),
        (form(&[("purpose", None, "batch"), ("file", Some("x"), "{}"), ("odd", None, "1")]), "odd"),
    ];
    for (form, param) in cases {
        let answer = upload_form(&world, form.clone()).await;
        let (status, _, found) = answer.error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{form}");
        if form.contains("nope") {
            let lines = answer.json()["error"]["lines"].clone();
            let numbers: Vec<&Value> = lines.as_array().unwrap().iter().map(|line| &line["line"]).collect();
            assert_eq!(numbers, [&json!(2), &json!(4)]);
        }
        assert!(keys(&world).await.is_empty(), "{form}");
    }
    let cut = form(&[("purpose", None, "batch"), ("file", Some("x"), "{}\n{}")]).replace("--b--", "");
    assert_eq!(upload_form(&world, cut).await.status, 400);
    assert!(keys(&world).await.is_empty());
}

#[tokio::test]
async fn nobody_reaches_anothers_files_nor_makes_his_bucket() {
    let mut world = World::new().await;
    let id = upload(&world, "{}").await.json()["id"].as_str().unwrap().to_owned();
    world.test.store.users().add_user(&world.root, "bob").await.unwrap();
    let bob = world.test.store.users().by_name("bob").await.unwrap().unwrap().id;
    let spec = ashlar_objects::api_keys::ApiKeySpec { name: "b".into(), ..Default::default() };
    let key = world.test.store.api_keys().create(&world.root, "bob", spec).await.unwrap();
    // Ann takes the name of bob's bucket before he uploads anything.
    let squat = CreateBucket {
        bucket: bucket_of(&bob),
        acl: None,
        ownership: None,
        location: None,
        object_lock: false,
    };
    let ann = request_of(&ann(&world).await, false);
    world.key = key.secret.expose().to_owned();
    assert_eq!(world.get(&format!("/v1/files/{id}/content")).await.status, 404);
    world.test.store.create_bucket(&ann, squat).await.unwrap();
    assert_eq!(upload(&world, "{}").await.error().1, "access_denied");
}

#[tokio::test]
async fn a_batch_is_answered_line_by_line() {
    let world = World::new().await;
    let lines =
        [line("one", "chat", "a"), line("two", "chat", &"w ".repeat(600)), line("three", "slow", "c")];
    let file = upload(&world, &lines.join("\n")).await.json()["id"].as_str().unwrap().to_owned();
    let made = batch(&world, &file).await.json();
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!((made["status"].as_str(), &made["request_counts"]["total"]), (Some("validating"), &json!(3)));
    world.jobs.settle().await;
    let done = world.get(&format!("/v1/batches/{id}")).await.json();
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["request_counts"], json!({ "total": 3, "completed": 2, "failed": 1 }));
    assert_eq!(done["metadata"], json!({ "for": "test" }));
    let content = async |file: &Value| {
        let text = world.get(&format!("/v1/files/{}/content", file.as_str().unwrap())).await.text;
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let answers = content(&done["output_file_id"]).await;
    let said = |of: &Value| of["response"]["body"]["choices"][0]["message"]["content"].clone();
    assert_eq!(
        answers.iter().map(|of| &of["custom_id"]).collect::<Vec<_>>(),
        [&json!("one"), &json!("three")]
    );
    assert_eq!((said(&answers[0]), said(&answers[1])), (json!("You said: a"), json!("You said: c")));
    let errors = content(&done["error_file_id"]).await;
    assert_eq!(
        (errors[0]["custom_id"].as_str(), &errors[0]["response"]["status_code"]),
        (Some("two"), &json!(400))
    );
    assert_eq!(world.get("/v1/batches").await.json()["data"], json!([done]));
    // 2 + 2 · 3 wei for each of the two answers.
    assert_eq!(world.spent().await, 16);
}

#[tokio::test]
async fn a_batch_that_cannot_be_is_refused_by_line() {
    let world = World::new().await;
    let lines =
        [line("a", "chat", "x"), line("a", "chat", "y"), line("b", "chat", "z").replace("role", "rule")];
    let file = upload(&world, &lines.join("\n")).await.json()["id"].as_str().unwrap().to_owned();
    let refused = batch(&world, &file).await;
    assert_eq!(refused.error(), (400, "invalid_jsonl".into(), Some("input_file_id".into())));
    let lines = refused.json()["error"]["lines"].clone();
    assert_eq!((&lines[0]["line"], &lines[1]["line"]), (&json!(2), &json!(3)));
    let file =
        upload(&world, &format!("{}\n{}", line("a", "chat", "x"), line("b", "nobody", "y"))).await.json();
    let refused = batch(&world, file["id"].as_str().unwrap()).await;
    assert_eq!(refused.json()["error"]["lines"][0]["line"], 2);
    assert_eq!(world.get("/v1/batches").await.json()["data"], json!([]));
    let wrong = json!({ "input_file_id": file["id"], "endpoint": "/v1/files", "completion_window": "24h" });
    assert_eq!(world.post("/v1/batches", wrong).await.error().2.as_deref(), Some("endpoint"));
    assert_eq!(batch(&world, "file-0123").await.status, 404);
}

#[tokio::test]
async fn a_batch_is_cancelled_whole() {
    let world = World::new().await;
    let lines: Vec<String> = (0..20).map(|n| line(&n.to_string(), "slow", &"w ".repeat(100))).collect();
    let file = upload(&world, &lines.join("\n")).await.json()["id"].as_str().unwrap().to_owned();
    let id = batch(&world, &file).await.json()["id"].as_str().unwrap().to_owned();
    let cancelled = world.post(&format!("/v1/batches/{id}/cancel"), json!({})).await.json();
    assert!(matches!(cancelled["status"].as_str(), Some("cancelling" | "cancelled")), "{cancelled}");
    world.jobs.settle().await;
    let ended = world.get(&format!("/v1/batches/{id}")).await.json();
    assert_eq!((ended["status"].as_str(), &ended["output_file_id"]), (Some("cancelled"), &Value::Null));
    assert!(!keys(&world).await.iter().any(|key| key.contains("batch_output")));
    assert_eq!(world.post("/v1/batches/batch_x/cancel", json!({})).await.status, 404);
}
