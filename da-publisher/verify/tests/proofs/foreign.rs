//! A proof whose state came from somebody else's node, so that tries and headers are not only our own.
//!
//! `docs/formats/vectors/proof_anvil.json` is made by `ops/verify/state_of_anvil.py` on anvil 1.7.

use serde_json::Value;

use crate::cases::{Case, Outcome};
use crate::vectors::{repository, second_verifier_agrees};

#[test]
fn state_of_anvil_is_state() {
    let file = repository().join("docs/formats/vectors/proof_anvil.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let [case] = cases["cases"].as_array().unwrap().as_slice() else { panic!("one case") };
    let case = Case::from_json(case);
    assert_eq!(case.judge(), Outcome::committed("header-verified", 1));
    let proof: Value = serde_json::from_str(&case.proof).unwrap();
    let nodes = proof["state"]["storage"][2]["nodes"].as_array().unwrap();
    let last = nodes[nodes.len() - 1].as_str().unwrap();
    let changed = if last.ends_with('0') { "1" } else { "0" };
    let changed = format!("{}{changed}", &last[..last.len() - 1]);
    let case = Case { proof: case.proof.replacen(last, &changed, 1), ..case };
    assert_eq!(case.judge(), Outcome::failed("state"));
    second_verifier_agrees(&file);
}
