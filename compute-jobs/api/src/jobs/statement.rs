//! What a job is asked to do, and the ids that follow from it.
//!
//! Invariant: equal statements have one id, different ones two: every field is in it, with its length before it, and what
//! has no order is sorted. Does not know what a statement means.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::bytes::{ContentRoot, InputRoot, JobId};
use crate::digest::keccak;

/// Most bytes of each text of a statement.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most inputs, models and options of a statement, each.
pub const ITEMS_MAX: usize = 10_000;

const STATEMENT: u8 = 0x16;
const CLIENT_KEY: u8 = 0x17;
const INPUT: u8 = 0x18;
const ATTEMPT: u8 = 0x19;

/// Kinds of work, numbered as the contract's offers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u16)]
pub enum Kind {
    /// Answers of a language model; a unit of price is a token.
    Inference = 1,
    /// Vectors of texts.
    Embedding = 2,
    /// Labels of rows.
    Labeling = 3,
    /// A model made of another and data.
    FineTuning = 4,
}

impl Kind {
    /// As in an offer.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// One version of an object that a job reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Its version, as `x-amz-version-id` shows it in hexadecimal; zero for the null version.
    pub version: [u8; 16],
    /// BLAKE3 of its bytes.
    pub content_root: ContentRoot,
}

/// What is to be done: everything that the result depends on, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// What kind of work.
    pub kind: Kind,
    /// Id of the user who asks.
    pub principal: String,
    /// Where the result goes.
    pub target: String,
    /// What is asked, in the one spelling that the asking side gives equal questions.
    pub text: String,
    /// What it reads.
    pub inputs: BTreeSet<Input>,
    /// Content roots of the models.
    pub models: BTreeSet<ContentRoot>,
    /// Options by name.
    pub options: BTreeMap<String, String>,
    /// Of everything random.
    pub seed: u64,
}

/// How a job may run; not part of what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Unix seconds after which nothing of it runs any more.
    pub deadline: Option<u64>,
    /// The most that it may cost.
    pub spend_cap: Amount,
    /// Leases that a unit may have, hedges among them; at least 1.
    pub attempts_max: u32,
}

/// A job as it is submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// What is to be done.
    pub statement: Statement,
    /// The client's own idempotency key, which then names the job instead of its statement.
    pub client_key: Option<String>,
    /// How it may run.
    pub limits: Limits,
}

/// Why a job is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Something that must be there is empty.
    #[error("{what} is empty")]
    Empty {
        /// Which.
        what: &'static str,
    },
    /// A text is too long.
    #[error("{what} has more than {maximum} bytes")]
    TooLong {
        /// Which.
        what: &'static str,
        /// [`TEXT_BYTES_MAX`].
        maximum: usize,
    },
    /// Too many of something.
    #[error("more than {maximum} {what}")]
    TooMany {
        /// Of which.
        what: &'static str,
        /// [`ITEMS_MAX`].
        maximum: usize,
    },
}

impl JobSpec {
    /// Whether everything is there and within limits.
    pub fn check(&self) -> Result<(), SpecError> {
        let statement = &self.statement;
        let texts = [
            ("the principal", Some(&statement.principal)),
            ("the target", Some(&statement.target)),
            ("the statement", Some(&statement.text)),
            ("the client's key", self.client_key.as_ref()),
        ];
        for (what, text) in texts {
            match text.map(String::len) {
                Some(0) => return Err(SpecError::Empty { what }),
                Some(length) if length > TEXT_BYTES_MAX => {
                    return Err(SpecError::TooLong { what, maximum: TEXT_BYTES_MAX });
                }
                _ => {}
            }
        }
        let names = statement.inputs.iter().flat_map(|input| [&input.bucket, &input.key]);
        let mut names = names.chain(statement.options.iter().flat_map(|(name, value)| [name, value]));
        if names.any(|name| name.len() > TEXT_BYTES_MAX) {
            return Err(SpecError::TooLong { what: "an input or option", maximum: TEXT_BYTES_MAX });
        }
        let counts = [
            ("inputs", statement.inputs.len()),
            ("models", statement.models.len()),
            ("options", statement.options.len()),
        ];
        if let Some((what, _)) = counts.into_iter().find(|(_, count)| *count > ITEMS_MAX) {
            return Err(SpecError::TooMany { what, maximum: ITEMS_MAX });
        }
        if self.limits.attempts_max == 0 {
            return Err(SpecError::Empty { what: "the number of attempts" });
        }
        Ok(())
    }

    /// The job's name: of the client's key if there is one, else of the statement. Twice the same is the same job.
    pub fn id(&self) -> JobId {
        match &self.client_key {
            None => JobId(self.statement.digest()),
            Some(key) => {
                let mut bytes = vec![CLIENT_KEY];
                text(&mut bytes, &self.statement.principal);
                text(&mut bytes, key);
                JobId(keccak(&[&bytes]))
            }
        }
    }
}

impl JobId {
    /// The name of an attempt, of the job that the first attempt's name is: the first has that name itself.
    pub fn attempt(self, attempt: u32) -> Self {
        if attempt <= 1 { self } else { Self(keccak(&[&[ATTEMPT], &self.0, &attempt.to_be_bytes()])) }
    }
}

impl Statement {
    /// keccak of everything in it. Two jobs under one client's key are the same only if this is.
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = vec![STATEMENT];
        bytes.extend(self.kind.number().to_be_bytes());
        for of in [&self.principal, &self.target, &self.text] {
            text(&mut bytes, of);
        }
        count(&mut bytes, self.inputs.len());
        for input in &self.inputs {
            text(&mut bytes, &input.bucket);
            text(&mut bytes, &input.key);
            bytes.extend(input.version);
            bytes.extend(input.content_root.0);
        }
        count(&mut bytes, self.models.len());
        self.models.iter().for_each(|model| bytes.extend(model.0));
        count(&mut bytes, self.options.len());
        for (name, value) in &self.options {
            text(&mut bytes, name);
            text(&mut bytes, value);
        }
        bytes.extend(self.seed.to_be_bytes());
        keccak(&[&bytes])
    }
}

/// What one unit of a job works on: an object of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitInput {
    /// BLAKE3 of the object's bytes.
    pub content_root: ContentRoot,
    /// Rows in it.
    pub rows: u64,
}

/// Commits to a job's units in their order.
pub fn input_root(units: &[UnitInput]) -> InputRoot {
    let mut bytes = vec![INPUT];
    count(&mut bytes, units.len());
    for unit in units {
        bytes.extend(unit.rows.to_be_bytes());
        bytes.extend(unit.content_root.0);
    }
    InputRoot(keccak(&[&bytes]))
}

fn count(bytes: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("lists and texts are checked to be far shorter");
    bytes.extend(count.to_be_bytes());
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    count(bytes, text.len());
    bytes.extend(text.as_bytes());
}
