//! docs/formats/vectors/job.json, made by another implementation: every name of it comes out here as well.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use std::str::FromStr;

use ashlar_compute_api::JobId;
use ashlar_compute_api::jobs::{Input, JobSpec, Kind, Limits, Statement, UnitInput, input_root};
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/vectors/job.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text(of: &Value) -> String {
    of.as_str().unwrap().to_owned()
}

fn fixed<T>(of: &Value) -> T
where
    T: FromStr,
    T::Err: std::fmt::Debug,
{
    format!("0x{}", of.as_str().unwrap()).parse().unwrap()
}

fn list<T>(of: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
    of.as_array().unwrap().iter().map(item).collect()
}

fn spec(of: &Value) -> JobSpec {
    let kinds = [Kind::Inference, Kind::Embedding, Kind::Labeling, Kind::FineTuning];
    let number = of["kind"].as_u64().unwrap();
    let input = |of: &Value| Input {
        bucket: text(&of["bucket"]),
        key: text(&of["key"]),
        version: hex::decode(text(&of["version"])).unwrap().try_into().unwrap(),
        content_root: fixed(&of["content_root"]),
    };
    JobSpec {
        statement: Statement {
            kind: kinds.into_iter().find(|kind| u64::from(kind.number()) == number).unwrap(),
            principal: text(&of["principal"]),
            target: text(&of["target"]),
            text: text(&of["question"]),
            // Backwards: what has no order is sorted.
            inputs: list(&of["inputs"], input).into_iter().rev().collect(),
            models: list(&of["models"], fixed).into_iter().rev().collect(),
            options: list(&of["options"], |pair| (text(&pair[0]), text(&pair[1])))
                .into_iter()
                .rev()
                .collect(),
            seed: text(&of["seed"]).parse().unwrap(),
        },
        client_key: of["client_key"].as_str().map(str::to_owned),
        limits: Limits { deadline: None, spend_cap: 0.into(), attempts_max: 1 },
    }
}

#[test]
fn jobs_have_the_names_of_the_vectors() {
    for of in vectors()["jobs"].as_array().unwrap() {
        let spec = spec(of);
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(hex::encode(spec.statement.digest()), text(&of["statement"]));
        assert_eq!(spec.id(), fixed(&of["job"]));
    }
}

#[test]
fn attempts_have_the_names_of_the_vectors() {
    for of in vectors()["attempts"].as_array().unwrap() {
        let job: JobId = fixed(&of["job"]);
        let number = u32::try_from(of["number"].as_u64().unwrap()).unwrap();
        assert_eq!(job.attempt(number), fixed(&of["name"]));
    }
}

#[test]
fn inputs_have_the_roots_of_the_vectors() {
    for of in vectors()["inputs"].as_array().unwrap() {
        let unit = |of: &Value| UnitInput {
            rows: text(&of["rows"]).parse().unwrap(),
            content_root: fixed(&of["content_root"]),
        };
        assert_eq!(input_root(&list(&of["units"], unit)), fixed(&of["input_root"]));
    }
}
