//! Who may import whom: the arrows of ARCHITECTURE.md, held against what Cargo says.
//!
//! Invariant: an internal dependency that is not listed here fails the build's tests, and so does one that
//! is listed and gone, so that the picture stays true.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each internal crate with what it may import. `ashlar-disk` is a leaf under the two that write to disks.
const ARROWS: [(&str, &[&str]); 8] = [
    (
        "ashlar",
        &[
            "ashlar-chunker",
            "ashlar-disk",
            "ashlar-metadata",
            "ashlar-objects",
            "ashlar-s3-gateway",
            "ashlar-storage-node",
        ],
    ),
    ("ashlar-s3-gateway", &["ashlar-objects"]),
    ("ashlar-objects", &["ashlar-chunker", "ashlar-metadata", "ashlar-storage-node"]),
    ("ashlar-storage-node", &["ashlar-chunker", "ashlar-disk"]),
    ("ashlar-metadata", &["ashlar-disk"]),
    ("ashlar-verify", &["ashlar-chunker"]),
    ("ashlar-disk", &[]),
    ("ashlar-chunker", &[]),
];

/// What tests alone may import besides: doubles of the layers below, to stand on.
const TEST_ARROWS: [(&str, &[&str]); 2] = [
    ("ashlar-s3-gateway", &["ashlar-chunker", "ashlar-metadata", "ashlar-storage-node"]),
    ("ashlar-objects", &["ashlar-disk"]),
];

/// Heavy crates that must stay above the store: SQL, EVM, ML.
const HEAVY: [&str; 7] = ["datafusion", "arrow", "parquet", "revm", "alloy", "candle-core", "tokio-postgres"];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("cargo runs, because it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

/// Dependencies of every workspace crate: (name, is for tests only).
fn dependencies() -> BTreeMap<String, Vec<(String, bool)>> {
    let metadata = metadata();
    let text = |value: &Value, key: &str| value[key].as_str().expect("a string").to_owned();
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages
        .map(|package| {
            let of = package["dependencies"].as_array().expect("dependencies").iter();
            (text(package, "name"), of.map(|on| (text(on, "name"), on["kind"] == "dev")).collect())
        })
        .collect()
}

#[test]
fn internal_dependencies_follow_the_arrows() {
    let found = dependencies();
    let names: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, listed, "a crate is missing in the picture, or gone");
    for (name, allowed) in ARROWS {
        let internal = |tests: bool| -> BTreeSet<&str> {
            let of = found[name].iter().filter(|(on, dev)| *dev == tests && names.contains(on.as_str()));
            of.map(|(on, _)| on.as_str()).collect()
        };
        assert_eq!(internal(false), allowed.iter().copied().collect(), "imports of {name}");
        let for_tests = TEST_ARROWS.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, more)| more);
        for on in internal(true) {
            let is_allowed = allowed.contains(&on) || for_tests.contains(&on) || on == name;
            assert!(is_allowed, "tests of {name} import {on}");
        }
    }
}

#[test]
fn heavy_crates_stay_above_the_store() {
    for (name, on) in dependencies() {
        for (on, _) in on {
            let heavy = HEAVY.iter().any(|heavy| on == *heavy || on.starts_with(&format!("{heavy}-")));
            assert!(!heavy, "{name} imports {on}");
        }
    }
}
