//! docs/formats/vectors/unit.json, made by another implementation: every file of it is read, judged and written alike.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::unit_data::{Answers, Questions, UnitDataError};
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/vectors/unit.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn root(bytes: &str) -> ContentRoot {
    ContentRoot(*blake3::hash(bytes.as_bytes()).as_bytes())
}

#[test]
fn units_read_as_the_vectors_say() {
    for of in vectors()["units"].as_array().unwrap() {
        let text = |name: &str| of[name].as_str().unwrap();
        let questions = Questions::parse(text("questions").as_bytes()).unwrap();
        assert_eq!(questions.encode().unwrap(), text("questions").as_bytes());
        assert_eq!(root(text("questions")).to_string(), text("questions_root"));
        assert_eq!(questions.usage_max().to_string(), text("usage_max"));
        let answers = Answers::parse(text("answers").as_bytes()).unwrap();
        assert_eq!(answers.encode().unwrap(), text("answers").as_bytes());
        assert_eq!(root(text("answers")).to_string(), text("answers_root"));
        let usage = answers.judge(&questions, root(text("questions"))).unwrap();
        assert_eq!(usage.to_string(), text("usage"));
    }
}

#[test]
fn what_is_no_unit_is_refused_at_its_line() {
    for of in vectors()["wrong"].as_array().unwrap() {
        let error = Questions::parse(of["questions"].as_str().unwrap().as_bytes()).unwrap_err();
        let found = match error {
            UnitDataError::Line { line, .. } | UnitDataError::Unfinished { line } => line,
            _ => 0,
        };
        assert_eq!(Some(found), of["line"].as_u64(), "{error}: {of}");
    }
}
