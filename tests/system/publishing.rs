//! What was put is in the log, anybody can check it without the server's word, and a crash loses nothing of it.

use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;

use crate::server::{Server, Stand, pattern, refusal, remove};
use crate::sigv4::Answer;

pub(crate) fn committed(server: &Server, key: &str) -> Value {
    let keys = format!("authorization: Bearer {}:{}\r\n", server.root.access, server.root.secret);
    let answer = server.api("GET", &format!("/api/objects/log?key={key}"), &keys, "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

pub(crate) fn wait_anchored(server: &Server, key: &str) -> u64 {
    server.wait_for("anchor", || committed(server, key)["anchored"] == true);
    committed(server, key)["sequence"].as_u64().unwrap()
}

fn receipt(answer: &Answer) -> String {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("x-ashlar-receipt: "));
    line.unwrap_or_else(|| panic!("no receipt in {}", answer.head)).trim().to_owned()
}

pub(crate) fn verify(stand: &Stand, server: &Server, rpc: &str, object: &str, more: &[&str]) -> Output {
    let trust = stand.data().join("trust.json");
    let trust = trust.to_str().unwrap();
    let arguments = ["verify", object, "--trust", trust, "--chain-rpc", rpc];
    server.command(&server.root, &[&arguments[..], more].concat())
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn write(path: &Path, bytes: &[u8]) -> String {
    std::fs::write(path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_was_put_can_be_checked_by_anybody() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    let rpc = format!("http://{}", server.chain());
    server.put("/log", b"");
    let bytes = pattern(1, 700_000);
    let answer = server.s3("PUT", "/log/stone", &bytes);
    assert_eq!(answer.status, 200);
    let promise = receipt(&answer);
    server.put("/log/other", b"other");
    wait_anchored(&server, "stone");
    wait_anchored(&server, "other");

    let file = write(&stand.path("stone"), &bytes);
    let output = verify(&stand, &server, &rpc, "s3://log/stone", &["--file", &file]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("committed at sequence"), "{}", said(&output));
    assert!(said(&output).contains("self-attested"), "{}", said(&output));

    // Every row of it is served.
    let sample = server.command(&server.root, &["da", "sample", "--json"]);
    let sample: Value =
        serde_json::from_slice(&sample.stdout).unwrap_or_else(|_| panic!("{}", said(&sample)));
    assert!(sample["served"] == sample["asked"] && sample["asked"].as_u64() > Some(3), "{sample}");
    let status = server.command(&server.root, &["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(status["log"]["anchored"].as_u64() >= Some(1) && status["log"]["stopped"] == false, "{status}");

    // Saved, the proof needs the chain only, and says what it is about.
    let proof = server.command(&server.root, &["proof", "s3://log/stone", "--receipt", &promise]);
    assert!(proof.status.success(), "{}", said(&proof));
    let saved = write(&stand.path("p.json"), &proof.stdout);
    let with = |object: &str, file: &str| {
        verify(&stand, &server, &rpc, object, &["--proof", &saved, "--file", file, "--json"])
    };
    let output = with("s3://log/stone", &file);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["verdict"].as_str(), output.status.code()), (Some("committed"), Some(0)), "{report}");
    assert_eq!(report["content_checked"], true);

    // Other bytes, fewer bytes, another object: each fails at its step.
    let mut changed = bytes.clone();
    changed[650_000] ^= 1;
    let changed = write(&stand.path("changed"), &changed);
    let short = write(&stand.path("short"), &bytes[..bytes.len() - 1]);
    for (object, file, step) in [
        ("s3://log/stone", &changed, "content"),
        ("s3://log/stone", &short, "content"),
        ("s3://log/other", &file, "record"),
    ] {
        let output = with(object, file);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{report}");
        assert_eq!(report["failed_step"], step, "{report}");
    }
    // A trust file of somebody else.
    let trust = std::fs::read_to_string(stand.data().join("trust.json")).unwrap();
    let mut other: Value = serde_json::from_str(&trust).unwrap();
    let namespace = other["namespace"].as_str().unwrap().replace(['a', '1'], "b");
    other["namespace"] = namespace.into();
    let other = write(&stand.path("other.json"), other.to_string().as_bytes());
    let output = server.command(
        &server.root,
        &["verify", "s3://log/stone", "--trust", &other, "--chain-rpc", &rpc, "--proof", &saved],
    );
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for (object, word) in [("s3://log/nothing", "NoSuchKey"), ("s3://nowhere/k", "NoSuchBucket")] {
        assert!(refusal(&server.command(&server.root, &["proof", object])).contains(word), "{object}");
    }
    let none = server
        .command(&server.root, &["verify", "s3://log/stone", "--trust", "/nonexistent", "--proof", &saved]);
    assert!(refusal(&none).contains("trust file"), "{}", said(&none));
    assert!(server.stop().success());
}

#[test]
fn nothing_that_was_promised_is_lost_by_kills() {
    let stand = Stand::new();
    let mut sequences = Vec::new();
    let mut promises = Vec::new();
    for round in 0..4 {
        let server = stand.start(&[]);
        let rpc = format!("http://{}", server.chain());
        if round == 0 {
            server.put("/log", b"");
        } else {
            // What was acknowledged before the kill is anchored now.
            sequences.push(wait_anchored(&server, &format!("k{}", round - 1)));
            let (object, promise): &(String, String) = &promises[round - 1];
            let output = verify(&stand, &server, &rpc, object, &["--receipt", promise]);
            assert!(output.status.success(), "{}", said(&output));
        }
        let answer = server.s3("PUT", &format!("/log/k{round}"), &pattern(round as u64, 5000));
        assert_eq!(answer.status, 200);
        promises.push((format!("s3://log/k{round}"), receipt(&answer)));
        // Somewhere between commit and anchor.
        std::thread::sleep(std::time::Duration::from_millis(400 * round as u64));
        server.signal(Signal::KILL);
        server.kill();
    }
    assert!(sequences.is_sorted() && sequences.len() == 3, "{sequences:?}");
}

#[test]
fn a_bucket_may_wait_for_its_anchor() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    server.put("/log", b"");
    let level = |arguments: &[&str]| {
        let output = server.command(&server.root, &[&["buckets", "durable-when", "log"], arguments].concat());
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    assert!(level(&[]).contains("quorum"));
    assert!(level(&["anchored"]).contains("anchored") && level(&[]).contains("anchored"));
    server.put("/log/stone", b"stone");
    assert_eq!(committed(&server, "stone")["anchored"], true, "it was anchored before it was answered");
    level(&["certified"]);
    let other = server.command(&server.root, &["buckets", "durable-when", "log", "sometimes"]);
    assert!(refusal(&other).contains("quorum, certified and anchored"));
    let nowhere = server.command(&server.root, &["buckets", "durable-when", "nowhere"]);
    assert!(refusal(&nowhere).contains("NoSuchBucket"));
    assert!(server.stop().success());
}

#[test]
fn a_server_that_does_not_publish_says_so() {
    let stand = Stand::new();
    let mut command = stand.up(&[]);
    command.env("ASHLAR_PUBLISH_ENABLED", "false");
    let server = stand.start_command(command);
    server.put("/log", b"");
    let answer = server.s3("PUT", "/log/k", b"x");
    assert!(!answer.head.contains("x-ashlar-receipt"), "{}", answer.head);
    assert!(refusal(&server.command(&server.root, &["proof", "s3://log/k"])).contains("does not publish"));
    let anchored = server.command(&server.root, &["buckets", "durable-when", "log", "anchored"]);
    assert!(refusal(&anchored).contains("needs a store that publishes"));
    server.stop();
}

#[test]
fn the_log_goes_on_when_two_nodes_come_back_empty() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    server.put("/log", b"");
    server.put("/log/before", b"before");
    wait_anchored(&server, "before");
    assert!(server.stop().success());
    // One loses everything, one what its DA node had signed.
    remove(&stand.data().join("nodes/node-1"));
    let promises = stand.data().join("nodes/node-2/da");
    for entry in std::fs::read_dir(&promises).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let length = std::fs::metadata(&path).unwrap().len();
            std::fs::write(&path, vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
        }
    }
    let server = stand.start(&[]);
    server.put("/log/after", b"after");
    wait_anchored(&server, "after");
    let sample = server.command(&server.root, &["da", "sample"]);
    assert!(sample.status.success(), "{}", said(&sample));
    assert!(server.stop().success());
}
