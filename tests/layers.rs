//! Who may import whom: the arrows of ARCHITECTURE.md, held against what Cargo says.
//!
//! Invariant: an internal dependency that is not listed here fails the build's tests, and so does one that
//! is listed and gone, so that the picture stays true.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each internal crate with what it may import. `ashlar-disk` is a leaf under the two that write to disks.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "ashlar",
        &[
            "ashlar-chain",
            "ashlar-chunker",
            "ashlar-compute-api",
            "ashlar-da-publisher",
            "ashlar-dev-chain",
            "ashlar-disk",
            "ashlar-embedding",
            "ashlar-metadata",
            "ashlar-models",
            "ashlar-objects",
            "ashlar-openai",
            "ashlar-query",
            "ashlar-query-doors",
            "ashlar-runtime",
            "ashlar-s3-gateway",
            "ashlar-storage-node",
            "ashlar-verify",
        ],
    ),
    ("ashlar-s3-gateway", &["ashlar-objects"]),
    ("ashlar-query", &["ashlar-objects"]),
    ("ashlar-query-doors", &["ashlar-objects", "ashlar-query"]),
    ("ashlar-objects", &["ashlar-chunker", "ashlar-metadata", "ashlar-storage-node"]),
    ("ashlar-storage-node", &["ashlar-chunker", "ashlar-disk"]),
    ("ashlar-metadata", &["ashlar-disk"]),
    ("ashlar-chain", &["ashlar-disk"]),
    ("ashlar-dev-chain", &["ashlar-disk"]),
    (
        "ashlar-da-publisher",
        &[
            "ashlar-chain",
            "ashlar-chunker",
            "ashlar-disk",
            "ashlar-metadata",
            "ashlar-objects",
            "ashlar-rsema1d",
        ],
    ),
    ("ashlar-verify", &["ashlar-chunker"]),
    ("ashlar-rsema1d", &[]),
    ("ashlar-disk", &[]),
    ("ashlar-chunker", &[]),
    ("ashlar-compute-api", &[]),
    ("ashlar-runtime", &["ashlar-compute-api", "ashlar-kernels"]),
    ("ashlar-kernels", &[]),
    ("ashlar-openai", &["ashlar-compute-api", "ashlar-objects"]),
    ("ashlar-compute-jobs", &["ashlar-compute-api", "ashlar-metadata", "ashlar-objects", "ashlar-worker"]),
    ("ashlar-worker", &["ashlar-compute-api"]),
    ("ashlar-fleet", &["ashlar-chain", "ashlar-compute-api", "ashlar-disk"]),
    ("ashlar-models", &["ashlar-compute-api"]),
    ("ashlar-embedding", &["ashlar-compute-api", "ashlar-models"]),
    ("ashlar-training", &["ashlar-compute-api", "ashlar-models"]),
];

/// What tests alone may import besides: doubles of the layers below, to stand on.
const TEST_ARROWS: &[(&str, &[&str])] = &[
    ("ashlar-compute-jobs", &["ashlar-disk"]),
    ("ashlar-fleet", &["ashlar-dev-chain"]),
    ("ashlar-s3-gateway", &["ashlar-chunker", "ashlar-metadata", "ashlar-storage-node"]),
    ("ashlar-objects", &["ashlar-disk"]),
    // What buyers and providers sign, to settle it.
    ("ashlar-chain", &["ashlar-compute-api", "ashlar-dev-chain"]),
];

/// The store: what a heavy crate must never reach, not even through another of ours.
const STORE: [&str; 6] = [
    "ashlar-s3-gateway",
    "ashlar-objects",
    "ashlar-storage-node",
    "ashlar-metadata",
    "ashlar-disk",
    "ashlar-chunker",
];

/// What may import heavy crates, and which; of other families these are as clean as the store.
const MAY_BE_HEAVY: &[(&str, &[&str])] = &[
    ("ashlar-fleet", &["alloy"]),
    ("ashlar", &["alloy"]),
    ("ashlar-query", &["datafusion", "arrow", "parquet"]),
    // Its tests are a client of the PostgreSQL protocol.
    ("ashlar-query-doors", &["datafusion", "arrow", "tokio-postgres"]),
    ("ashlar-chain", &["alloy"]),
    ("ashlar-dev-chain", &["alloy", "revm"]),
    ("ashlar-runtime", &["tokenizers"]),
    ("ashlar-embedding", &["pulp", "tokenizers"]),
    ("ashlar-training", &["candle", "gemm"]),
];

/// Heavy crates that must stay above the store: SQL, EVM, ML.
const HEAVY: [&str; 10] = [
    "datafusion",
    "arrow",
    "parquet",
    "revm",
    "alloy",
    "candle",
    "gemm",
    "pulp",
    "tokenizers",
    "tokio-postgres",
];

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
    for &(name, allowed) in ARROWS {
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
        let may = MAY_BE_HEAVY.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, families)| families);
        for (on, _) in on {
            let is_of = |family: &str| on == family || on.starts_with(&format!("{family}-"));
            let heavy = HEAVY.iter().find(|heavy| is_of(heavy));
            assert!(heavy.is_none_or(|heavy| may.contains(heavy)), "{name} imports {on}");
        }
    }
    for name in STORE {
        assert!(MAY_BE_HEAVY.iter().all(|(heavy, _)| *heavy != name), "{name} is of the store");
        let (_, imports) =
            ARROWS.iter().find(|(of, _)| *of == name).expect("the store's crates are in the picture");
        assert!(imports.iter().all(|import| STORE.contains(import)), "{name} imports from above the store");
    }
}
