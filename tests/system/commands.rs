//! Commands against a running server: users and their rights, nodes, buckets, status; and the API's door.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::server::{Server, Stand, refusal};
use crate::sigv4::Keys;

fn json(server: &Server, keys: &Keys, arguments: &[&str]) -> Value {
    let output = server.command(keys, &[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn keys_of(answer: &Value) -> Keys {
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    Keys { access: text("access_key"), secret: text("secret_key") }
}

#[test]
fn a_user_goes_through_life() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    let root = server.root.clone();
    server.put("/of-root", b"");
    let ann = keys_of(&json(&server, &root, &["users", "add", "ann"]));
    let said = refusal(&server.command(&root, &["users", "add", "ann"]));
    assert!(said.contains("there is a user 'ann' already"), "{said}");

    // She has buckets of her own and sees no others.
    assert_eq!(server.s3_as(Some(&ann), "PUT", "/of-ann", b"").status, 200);
    assert_eq!(server.s3_as(Some(&ann), "PUT", "/of-ann/x", b"hers").status, 200);
    assert_eq!(server.s3_as(Some(&ann), "GET", "/of-root?list-type=2", b"").status, 403);
    assert_eq!(server.s3_as(Some(&ann), "PUT", "/of-root/x", b"").status, 403);
    assert_eq!(server.s3_as(None, "GET", "/of-ann/x", b"").status, 403);
    let seen = json(&server, &ann, &["buckets", "list"]);
    let names: Vec<&str> =
        seen.as_array().unwrap().iter().filter_map(|bucket| bucket["name"].as_str()).collect();
    assert_eq!(names, ["of-ann"]);
    // A policy may ask where she comes from, at this door too.
    let policy = br#"{"Statement":[{"Effect":"Allow","Principal":{"AWS":"ann"},"Action":"s3:ListBucket",
        "Resource":"arn:aws:s3:::of-root","Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}}]}"#;
    assert_eq!(server.s3("PUT", "/of-root?policy", policy).status, 204);
    assert_eq!(json(&server, &ann, &["buckets", "show", "of-root"])["name"], "of-root");
    assert!(refusal(&server.command(&ann, &["users"])).contains("only root"));
    assert!(refusal(&server.command(&ann, &["nodes"])).contains("only root"));

    // A second key works beside the first, and a removed one at once no more.
    let second = keys_of(&json(&server, &root, &["users", "keys", "add", "ann"]));
    assert_eq!(server.s3_as(Some(&second), "GET", "/of-ann/x", b"").body, b"hers");
    assert_eq!(json(&server, &root, &["users", "keys", "list", "ann"]).as_array().unwrap().len(), 2);
    let removed = server.command(&root, &["users", "keys", "remove", "ann", &ann.access]);
    assert!(removed.status.success());
    assert_eq!(server.s3_as(Some(&ann), "GET", "/of-ann/x", b"").status, 403);
    assert_eq!(server.s3_as(Some(&second), "GET", "/of-ann/x", b"").status, 200);

    // She outlives a restart, and goes only when she owns nothing.
    server.stop();
    let server = stand.start(&[]);
    assert_eq!(server.s3_as(Some(&second), "GET", "/of-ann/x", b"").body, b"hers");
    let said = refusal(&server.command(&root, &["users", "remove", "ann"]));
    assert!(said.contains("owns the bucket 'of-ann'"), "{said}");
    assert_eq!(server.s3("DELETE", "/of-ann/x", b"").status, 204);
    assert_eq!(server.s3("DELETE", "/of-ann", b"").status, 204);
    assert!(server.command(&root, &["users", "remove", "ann"]).status.success());
    assert_eq!(server.s3_as(Some(&second), "GET", "/", b"").status, 403);
    let users = json(&server, &root, &["users"]);
    assert_eq!(users.as_array().unwrap().len(), 1);
    assert!(users[0]["root"].as_bool().unwrap());
}

#[test]
fn api_keys_are_shown_once_and_managed_by_their_users() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    let root = server.root.clone();
    let ann = keys_of(&json(&server, &root, &["users", "add", "ann"]));
    let scope = [
        "--route",
        "chat,files",
        "--model",
        "small",
        "--spend-cap",
        "1000",
        "--expires",
        "2100-01-31T00:00:00Z",
    ];
    let made = json(&server, &ann, &[&["keys", "create", "notebook"][..], &scope].concat());
    let (id, secret) = (made["key"]["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert!(secret.starts_with("sk-ashlar-") && secret.len() == 53, "{secret}");
    let of_root = json(&server, &root, &["keys", "create", "of root's"]);
    let listed = json(&server, &ann, &["keys"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0], made["key"]);
    assert_eq!(
        (&listed[0]["user"], &listed[0]["spend_cap"], &listed[0]["spent"]),
        (&"ann".into(), &"1000".into(), &"0".into())
    );
    assert_eq!(json(&server, &root, &["keys"]).as_array().unwrap().len(), 2);
    assert_eq!(json(&server, &root, &["keys", "list", "--user", "ann"]).as_array().unwrap().len(), 1);
    let shown = server.command(&root, &["keys"]);
    assert!(!String::from_utf8_lossy(&shown.stdout).contains(secret));
    let refused = [
        (&["keys", "create", "x", "--user", "root"][..], "only root"),
        (&["keys", "create", "x", "--route", "everything"], "no route 'everything'"),
        (&["keys", "create", "x", "--expires", "tomorrow"], "RFC 3339"),
        (&["keys", "create", "x", "--expires", "2001-01-01T00:00:00Z"], "expired already"),
        (&["keys", "create", "x", "--spend-cap", "much"], "wei"),
        (&["keys", "list", "--user", "root"], "only root"),
        (&["keys", "delete", of_root["key"]["id"].as_str().unwrap()], "there is no API key"),
    ];
    for (command, reason) in refused {
        let said = refusal(&server.command(&ann, command));
        assert!(said.contains(reason), "{command:?}: {said}");
    }
    server.stop();
    let server = stand.start(&[]);
    assert!(server.command(&ann, &["keys", "delete", id]).status.success());
    assert_eq!(json(&server, &ann, &["keys"]).as_array().unwrap().len(), 0);
    assert!(server.command(&root, &["keys", "create", "n", "--user", "ann"]).status.success());
    assert!(server.command(&root, &["users", "remove", "ann"]).status.success());
    assert_eq!(json(&server, &root, &["keys"]).as_array().unwrap().len(), 1);
}

#[test]
fn status_nodes_and_buckets_tell_what_is_there() {
    let stand = Stand::new();
    let server = stand.start(&["--nodes", "5", "--coding", "3+2"]);
    let root = server.root.clone();
    server.put("/bucket", b"");
    server.put("/bucket/key", &[7; 300_000]);
    let status = json(&server, &root, &["status"]);
    assert_eq!((status["ready"].as_bool(), status["coding"].as_str()), (Some(true), Some("3+2")));
    assert_eq!((status["nodes"].as_u64(), status["nodes_writable"].as_u64()), (Some(5), Some(5)));
    assert!(status["shard_bytes"].as_u64().unwrap() >= 500_000, "{status}");
    assert!(status["resident_bytes"].as_u64().unwrap() > 1 << 20);
    let nodes = json(&server, &root, &["nodes"]);
    assert_eq!(nodes.as_array().unwrap().len(), 5);
    assert!(nodes.as_array().unwrap().iter().all(|node| node["health"] == "writable"));
    assert_eq!(json(&server, &root, &["nodes", "show", "3"])["node"], 3);
    assert_eq!(json(&server, &root, &["buckets", "show", "bucket"])["versioning"], "off");
    assert!(refusal(&server.command(&root, &["buckets", "show", "no-such-bucket"])).contains("NoSuchBucket"));
    assert!(refusal(&server.command(&root, &["nodes", "show", "9"])).contains("no storage node '9'"));
    for command in [&["status"][..], &["nodes"], &["users"], &["buckets"]] {
        let output = server.command(&root, command);
        assert!(output.status.success() && output.stdout.len() > 20, "{command:?}");
    }
    server.stop();
    // Nodes and coding are remembered.
    let server = stand.start(&[]);
    let status = json(&server, &root, &["status"]);
    assert_eq!((status["nodes"].as_u64(), status["coding"].as_str()), (Some(5), Some("3+2")));
}

#[test]
fn the_api_lets_nobody_in_without_the_right_pair() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    let Keys { access, secret } = server.root.clone();
    let basic = |pair: &str| format!("authorization: Basic {}\r\n", STANDARD.encode(pair));
    let right =
        [basic(&format!("{access}:{secret}")), format!("authorization: Bearer {access}:{secret}\r\n")];
    for header in &right {
        assert_eq!(server.api("GET", "/api/status", header, "").status, 200);
    }
    let wrong = [
        String::new(),
        basic(&format!("{access}:{secret}x")),
        basic(&format!("{access}:")),
        basic("nobody:whatever"),
        basic(":"),
        format!("authorization: Bearer {access}\r\n"),
        "authorization: Basic ???\r\n".to_owned(),
    ];
    for header in &wrong {
        for path in ["/api/status", "/api/users", "/api/nodes", "/api/buckets"] {
            let answer = server.api("GET", path, header, "");
            assert_eq!(answer.status, 401, "{header} {path}");
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["code"], "Unauthenticated");
            assert!(answer.head.contains(body["request_id"].as_str().unwrap()), "{}", answer.head);
        }
    }
    let posted = |body: &str| {
        let headers = format!("{}content-type: application/json\r\n", right[0]);
        server.api("POST", "/api/users", &headers, body)
    };
    for body in [
        "",
        "{",
        "[]",
        "{\"name\":7}",
        "{\"name\":\"a\",\"more\":1}",
        "{\"name\":\"a b\"}",
        "{\"name\":\"root\"}",
    ] {
        let answer = posted(body);
        assert!((400..500).contains(&answer.status), "{body}: {} {}", answer.status, answer.text());
        serde_json::from_slice::<Value>(&answer.body).unwrap()["code"].as_str().unwrap();
    }
    assert_eq!(posted(&format!("{{\"name\":\"{}\"}}", "x".repeat(100_000))).status, 413);
    assert_eq!(server.api("GET", "/api/nowhere", &right[0], "").status, 404);
    assert_eq!(server.api("PATCH", "/api/users", &right[0], "").status, 405);
}

#[test]
fn commands_say_what_is_missing() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    let mut command = crate::server::ashlar();
    command.arg("status").env("ASHLAR_ENDPOINT", format!("http://{}", server.api));
    assert!(refusal(&command.output().unwrap()).contains("AWS_SHARED_CREDENTIALS_FILE"));
    command.env("AWS_SHARED_CREDENTIALS_FILE", stand.data().join("root-credentials"));
    assert!(command.output().unwrap().status.success());
    command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "wrong-secret");
    assert!(refusal(&command.output().unwrap()).contains("does not know this pair"));
    command.env("ASHLAR_ENDPOINT", "http://192.0.2.1:9001");
    assert!(refusal(&command.output().unwrap()).contains("--allow-plaintext-auth"));
    command.env("ASHLAR_ENDPOINT", format!("http://{}", server.s3));
    assert!(refusal(&command.output().unwrap()).contains("S3 has a port of its own"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    command.env("ASHLAR_ENDPOINT", format!("http://{free}"));
    assert!(refusal(&command.output().unwrap()).contains("is `ashlar up` running there?"));
}
