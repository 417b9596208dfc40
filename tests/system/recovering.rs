//! A store of which only nodes and keys are left comes back from the published log.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::publishing::{committed, said, verify, wait_anchored};
use crate::server::{Server, Stand, ashlar, pattern, refusal, remove};

/// Everything burns but nodes, master key and root's credentials.
fn burn(stand: &Stand) {
    for entry in std::fs::read_dir(stand.data()).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().unwrap().to_str().unwrap() {
            "nodes" | "master-key" | "root-credentials" => {}
            _ if path.is_dir() => remove(&path),
            _ => std::fs::remove_file(&path).unwrap(),
        }
    }
}

fn recover(stand: &Stand, more: &[&str]) -> Output {
    let mut command = ashlar();
    command.arg("recover").arg("--data-dir").arg(stand.data()).args(more);
    command.env("ASHLAR_STORAGE_LOG", "1MiB").env("ASHLAR_STORAGE_SEGMENT", "8MiB");
    command.output().unwrap()
}

fn recovered(stand: &Stand) -> Value {
    let output = recover(stand, &["--json"]);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn status(server: &Server, path: &str) -> u16 {
    server.s3("GET", path, b"").status
}

/// Waits until all of it is in the log and certified, with the object last written.
fn settle(server: &Server, number: u32) {
    let key = format!("last-{number}");
    server.put(&format!("/log/{key}"), b"last");
    wait_anchored(server, &key);
}

fn remove_node(data: &Path, node: u32) {
    remove(&data.join(format!("nodes/node-{node}")));
}

#[test]
fn a_burned_store_comes_back_twice() {
    let stand = Stand::new();
    let large = pattern(3, 9_000_000);
    let server = stand.start(&[]);
    server.put("/log", b"");
    server.put("/other", b"");
    server.put("/log/large", &large);
    for number in 0..200 {
        server.put(&format!("/log/small/{number:03}"), &pattern(number, 100 + 37 * number as usize));
    }
    server.put("/log/replaced", b"first");
    settle(&server, 0);
    server.put("/log/replaced", b"second");
    server.put("/log/gone", b"gone");
    settle(&server, 1);
    assert_eq!(server.s3("DELETE", "/log/gone", b"").status, 204);
    assert_eq!(server.s3("DELETE", "/log/small/007", b"").status, 204);
    let policy = br#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": "s3:GetObject", "Resource": "arn:aws:s3:::other/*"}]}"#;
    assert_eq!(server.s3("PUT", "/other?policy", policy).status, 204);
    server.put("/other/seen", b"by everybody");
    assert_eq!(server.s3("DELETE", "/other?policy", b"").status, 204);
    let ann = server.command(&server.root, &["users", "add", "ann", "--json"]);
    assert!(ann.status.success(), "{}", said(&ann));
    settle(&server, 2);
    let before = committed(&server, "large");
    assert!(refusal(&recover(&stand, &[])).contains("in use"), "a running server is left alone");
    assert!(server.stop().success());

    assert!(refusal(&recover(&stand, &[])).contains("there is metadata"));
    burn(&stand);
    // Nothing begins beside nodes that hold data; and parity stands in for a lost node.
    let refused = stand.up(&[]).output().unwrap();
    assert!(refusal(&refused).contains("ashlar recover"), "{}", said(&refused));
    remove_node(&stand.data(), 4);
    let report = recovered(&stand);
    assert_eq!((report["objects"].as_u64(), report["buckets"].as_u64()), (Some(205), Some(2)), "{report}");
    assert_eq!(
        (&report["lost"], report["generation"].as_u64()),
        (&Value::Array(vec![]), Some(1)),
        "{report}"
    );
    assert!(refusal(&recover(&stand, &[])).contains("there is metadata"));

    let check = |server: &Server| {
        assert_eq!(server.get_object("/log/large"), large);
        for number in (0..200).filter(|number| *number != 7) {
            let bytes = pattern(number, 100 + 37 * number as usize);
            assert_eq!(server.get_object(&format!("/log/small/{number:03}")), bytes);
        }
        assert_eq!(server.get_object("/log/replaced"), b"second");
        assert_eq!((status(server, "/log/gone"), status(server, "/log/small/007")), (404, 404));
        let stranger = server.s3_as(None, "GET", "/other/seen", b"");
        assert_eq!(stranger.status, 403, "a policy that was removed stays removed");
    };
    let server = stand.start(&[]);
    check(&server);
    let users = server.command(&server.root, &["users", "list", "--json"]);
    assert!(said(&users).contains("ann"), "{}", said(&users));
    // What came back is an entry of the new log, which anybody can check.
    wait_anchored(&server, "large");
    let after = committed(&server, "large");
    assert_eq!(
        (&before["content_root"], &before["object_root"]),
        (&after["content_root"], &after["object_root"])
    );
    let rpc = format!("http://{}", server.chain());
    let output = verify(&stand, &server, &rpc, "s3://log/large", &[]);
    assert!(output.status.success(), "{}", said(&output));
    server.wait_redundant();
    server.put("/log/after", b"after the fire");
    assert_eq!(server.s3("DELETE", "/log/small/008", b"").status, 204);
    settle(&server, 3);
    assert_eq!(status(&server, "/log/small/008"), 404);
    server.put("/log/small/008", &pattern(8, 100 + 37 * 8));
    settle(&server, 4);
    // It burns again, without an orderly end.
    server.kill();
    burn(&stand);
    let report = recovered(&stand);
    assert_eq!((report["objects"].as_u64(), report["generation"].as_u64()), (Some(208), Some(2)), "{report}");
    let server = stand.start(&[]);
    check(&server);
    assert_eq!(server.get_object("/log/after"), b"after the fire");
    assert!(server.stop().success());
}

#[test]
fn what_cannot_come_back_is_said_and_nothing_is_made_up() {
    let stand = Stand::new();
    let server = stand.start(&[]);
    server.put("/log", b"");
    server.put("/log/stone", &pattern(1, 300_000));
    settle(&server, 0);
    assert!(server.stop().success());
    burn(&stand);
    // Another master key opens nothing, and none is not made.
    let kept = std::fs::read(stand.data().join("master-key")).unwrap();
    std::fs::remove_file(stand.data().join("master-key")).unwrap();
    assert!(refusal(&recover(&stand, &[])).contains("master-key"));
    std::fs::write(stand.data().join("master-key"), "11".repeat(32)).unwrap();
    std::process::Command::new("chmod").arg("600").arg(stand.data().join("master-key")).status().unwrap();
    assert!(refusal(&recover(&stand, &[])).contains("opens with this master key"));
    std::fs::write(stand.data().join("master-key"), kept).unwrap();
    // Too few nodes hold the log's rows: refused, and nothing is left behind.
    let aside = stand.path("aside");
    std::fs::create_dir(&aside).unwrap();
    for node in 0..5 {
        let da = stand.data().join(format!("nodes/node-{node}/da"));
        std::fs::rename(da, aside.join(format!("da-{node}"))).unwrap();
    }
    let refused = refusal(&recover(&stand, &[]));
    assert!(refused.contains("nodes") || refused.contains("master key"), "{refused}");
    assert!(!stand.data().join("metadata.recovering").exists());
    for node in 0..5 {
        let da = stand.data().join(format!("nodes/node-{node}/da"));
        std::fs::rename(aside.join(format!("da-{node}")), da).unwrap();
    }
    // The promises of all nodes are gone, the rows are not.
    for node in 0..6 {
        std::fs::remove_file(stand.data().join(format!("nodes/node-{node}/da/promises"))).unwrap();
    }
    let report = recovered(&stand);
    assert_eq!(report["objects"].as_u64(), Some(2), "{report}");
    let server = stand.start(&[]);
    assert_eq!(server.get_object("/log/stone"), pattern(1, 300_000));
    settle(&server, 1);
    assert!(server.stop().success());
}
