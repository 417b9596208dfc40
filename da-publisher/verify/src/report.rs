//! A verification as JSON: the schema of `docs/formats/proof.md` §7.
//!
//! Invariant: fields are only ever added. Does not decide anything.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::verdict::{Failure, Level, Step, Steps, Verdict};

/// Collects steps, for texts and JSON.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Steps in order: which, whether it held, and a line about it.
    pub steps: Vec<(Step, bool, String)>,
}

impl Steps for Report {
    fn passed(&mut self, step: Step, detail: &str) {
        self.steps.push((step, true, detail.to_owned()));
    }

    fn failed(&mut self, step: Step, failure: &Failure) {
        self.steps.push((step, false, failure.to_string()));
    }
}

impl Report {
    /// The report of `verdict`, which these steps led to.
    pub fn to_json(&self, verdict: &Verdict) -> Value {
        let steps: Vec<Value> = (self.steps.iter())
            .map(|(step, ok, detail)| json!({ "step": step, "ok": ok, "detail": detail }))
            .collect();
        let mut report = Map::from_iter([
            ("format".to_owned(), json!("ashlar-verdict-1")),
            ("verdict".to_owned(), json!(verdict.name())),
            ("steps".to_owned(), Value::Array(steps)),
        ]);
        let fields = match verdict {
            Verdict::Committed(fields) => object(fields),
            Verdict::PromisedNotInLog(fields) => object(fields),
            Verdict::Failed(failed) => Map::from_iter([
                ("failed_step".to_owned(), json!(failed.step)),
                ("reason".to_owned(), json!(failed.reason)),
            ]),
        };
        report.extend(fields);
        Value::Object(report)
    }
}

fn object(fields: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(fields) {
        Ok(Value::Object(map)) => map,
        _ => unreachable!("a struct with string keys is an object"),
    }
}

impl Verdict {
    /// Its name in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Committed(_) => "committed",
            Self::PromisedNotInLog(_) => "promised-not-in-log",
            Self::Failed(_) => "failed",
        }
    }

    /// On whose word, if anything was shown.
    pub const fn level(&self) -> Option<Level> {
        match self {
            Self::Committed(fields) => Some(fields.level),
            Self::PromisedNotInLog(fields) => Some(fields.level),
            Self::Failed(_) => None,
        }
    }
}
