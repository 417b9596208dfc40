//! The declarations here against what the compiler made of the contracts.

use std::collections::BTreeMap;

use alloy_primitives::keccak256;
use alloy_sol_types::SolInterface;
use serde_json::Value;

use super::{ICommitmentRegistry, IComputeMarket, IDaQuorum};

/// A type as selectors write it.
fn canonical(of: &Value) -> String {
    let kind = of["type"].as_str().unwrap();
    let Some(array) = kind.strip_prefix("tuple") else { return kind.to_owned() };
    let parts: Vec<String> = of["components"].as_array().unwrap().iter().map(canonical).collect();
    format!("({}){array}", parts.join(","))
}

/// Names by the hash of their signature, of one kind of what an artifact declares.
fn declared(artifact: &str, kind: &str) -> BTreeMap<[u8; 32], String> {
    let artifact: Value = serde_json::from_str(artifact).unwrap();
    let of_kind = artifact["abi"].as_array().unwrap().iter().filter(|item| item["type"] == kind);
    let signature = |item: &Value| {
        let inputs: Vec<String> = item["inputs"].as_array().unwrap().iter().map(canonical).collect();
        format!("{}({})", item["name"].as_str().unwrap(), inputs.join(","))
    };
    of_kind.map(signature).map(|text| (keccak256(&text).0, text)).collect()
}

fn check<Calls: SolInterface, Errors: SolInterface>(artifact: &str, events: &[[u8; 32]]) {
    let starts = |kind: &str| -> BTreeMap<[u8; 4], String> {
        let all = declared(artifact, kind).into_iter();
        all.map(|(hash, text)| (hash[..4].try_into().unwrap(), text)).collect()
    };
    let functions = starts("function");
    for selector in Calls::selectors() {
        assert!(functions.contains_key(&selector), "no function has the selector {selector:02x?}");
    }
    let errors = starts("error");
    for (selector, text) in &errors {
        assert!(Errors::valid_selector(*selector), "{text} is not declared");
    }
    for selector in Errors::selectors() {
        assert!(errors.contains_key(&selector), "no error has the selector {selector:02x?}");
    }
    let topics = declared(artifact, "event");
    for event in events {
        assert!(topics.contains_key(event), "no event has the topic {event:02x?}");
    }
}

#[test]
fn the_registry_is_declared_as_it_was_compiled() {
    use ICommitmentRegistry as I;
    check::<I::ICommitmentRegistryCalls, I::ICommitmentRegistryErrors>(
        include_str!("../../artifacts/CommitmentRegistry.json"),
        I::ICommitmentRegistryEvents::SELECTORS,
    );
}

#[test]
fn the_quorum_is_declared_as_it_was_compiled() {
    use IDaQuorum as I;
    check::<I::IDaQuorumCalls, I::IDaQuorumErrors>(include_str!("../../artifacts/DaQuorum.json"), &[]);
}

#[test]
fn the_market_is_declared_as_it_was_compiled() {
    use IComputeMarket as I;
    check::<I::IComputeMarketCalls, I::IComputeMarketErrors>(
        include_str!("../../artifacts/ComputeMarket.json"),
        I::IComputeMarketEvents::SELECTORS,
    );
}
