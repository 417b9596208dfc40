//! `docs/formats/vectors/proof.json`: every case with its outcome, and the second verifier's word on it.
//!
//! `ASHLAR_WRITE_VECTORS=1 cargo test -p ashlar-verify vectors` writes the file; without, it must be what is made.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::world::World;
use crate::{absences, attacks};

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The second verifier judges the cases of a file as this one did, or the test fails with what it says.
pub fn second_verifier_agrees(file: &Path) {
    let script = repository().join("ops/verify/check_vectors.py");
    let output = Command::new("python3").arg(script).arg(file).output().expect("python3 is there");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn vectors_are_as_committed_and_both_verifiers_agree() {
    let world = World::new();
    let cases: Vec<Value> = (attacks::all(&world).into_iter().chain(absences::all(&world)))
        .map(|(name, case, expect)| {
            assert_eq!(case.judge(), expect, "{name}");
            case.to_json(name, &expect)
        })
        .collect();
    let made = serde_json::to_string_pretty(&json!({ "cases": cases })).unwrap() + "\n";
    let file = repository().join("docs/formats/vectors/proof.json");
    if std::env::var_os("ASHLAR_WRITE_VECTORS").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    assert!(std::fs::read_to_string(&file).unwrap() == made, "the vectors differ from what is made");
    second_verifier_agrees(&file);
}
