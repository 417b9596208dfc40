//! What comes back of a unit: a header that says to what and of which model, then one line a row.
//!
//! Invariant: rows ascend; a row has a value with its usage, or an error. Numbers that are not whole are 32-bit floats,
//! written as base64 of their bytes, the lowest first, so that they are exact and have one spelling.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lines::{self, LineError, UnitDataError};
use super::{ANSWERS_BYTES_MAX, VERSION};
use crate::bytes::ContentRoot;
use crate::transcript::FinishReason;

const FORMAT: &str = "unit-answers";

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswersHeader {
    ashlar: String,
    version: u16,
    /// Content root of the questions.
    pub questions: ContentRoot,
    /// Content root of the model that answered.
    pub model: ContentRoot,
    /// BLAKE3 of the class's name; `None` where none is claimed.
    pub determinism: Option<ContentRoot>,
}

/// 32-bit floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector(pub Vec<f32>);

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|number| number.to_le_bytes()).collect();
        to.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'a> Deserialize<'a> for Vector {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(D::Error::custom("not a whole number of 32-bit floats"));
        }
        Ok(Self(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }
}

/// Why an answer says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended, or a stop sequence came.
    Stop,
    /// As many units as were asked for.
    Length,
    /// The model called a tool.
    Tool,
    /// What follows was withheld.
    Withheld,
}

impl Finish {
    /// Of a transcript's reason; nothing of those that end no answer.
    pub fn of(reason: FinishReason) -> Option<Self> {
        match reason {
            FinishReason::Stop => Some(Self::Stop),
            FinishReason::Length => Some(Self::Length),
            FinishReason::ToolCalls => Some(Self::Tool),
            FinishReason::ContentFilter => Some(Self::Withheld),
            FinishReason::Cancelled | FinishReason::Failed => None,
        }
    }
}

/// One of the answers to a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Its text.
    pub text: String,
    /// Why it ends.
    pub finish: Finish,
}

/// What was answered to a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// As many texts as were asked for.
    Said(Vec<Said>),
    /// A vector of finite numbers.
    Vector(Vector),
    /// For each label its log-probability in nats.
    LogProbabilities(Vector),
}

/// Units of usage of a row. A row whose input another row of the unit has as well was not computed again, and has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Of what was asked.
    pub asked: u64,
    /// Of what was answered.
    pub answered: u64,
}

impl Usage {
    /// Both together.
    pub fn units(self) -> u64 {
        self.asked.saturating_add(self.answered)
    }
}

/// Why a row has no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowError {
    /// A word for machines.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether it could go well another time.
    pub retryable: bool,
}

impl RowError {
    /// Longest code and message, in bytes.
    pub const TEXT_BYTES_MAX: usize = 1_024;

    /// An error whose message is cut to what a row has room for.
    pub fn new(code: &str, message: &str, retryable: bool) -> Self {
        let end = message.floor_char_boundary(Self::TEXT_BYTES_MAX);
        Self { code: code.to_owned(), message: message[..end].to_owned(), retryable }
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerLine {
    /// Its number in the job.
    pub row: u64,
    /// What was answered and what it took, or why not.
    pub result: Result<(Value, Usage), RowError>,
}

/// A row as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    row: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<RowError>,
}

/// Answers of a unit, or some of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// What holds for all rows.
    pub header: AnswersHeader,
    /// The rows.
    pub rows: Vec<AnswerLine>,
}

impl AnswersHeader {
    /// A header of this version.
    pub fn new(questions: ContentRoot, model: ContentRoot, determinism: Option<ContentRoot>) -> Self {
        Self { ashlar: FORMAT.to_owned(), version: VERSION, questions, model, determinism }
    }

    /// Reads the first line, without its end.
    pub fn read(line: &[u8]) -> Result<Self, LineError> {
        let header: Self = lines::read(line)?;
        if header.ashlar != FORMAT || header.version != VERSION {
            return Err(LineError::Value { reason: "not the header of answers, version 1" });
        }
        Ok(header)
    }

    /// The first line, without its end.
    pub fn text(&self) -> String {
        lines::text(self)
    }
}

impl AnswerLine {
    /// Reads a row's line, without its end.
    pub fn read(line: &[u8]) -> Result<Self, LineError> {
        let Written { row, value, usage, error } = lines::read(line)?;
        let result = match (value, usage, error) {
            (Some(value), Some(usage), None) => Ok((value, usage)),
            (None, None, Some(error)) => Err(error),
            _ => return Err(LineError::Value { reason: "a row has value and usage, or an error" }),
        };
        let row = Self { row, result };
        row.check().map(|()| row)
    }

    /// Its line, without its end.
    pub fn text(&self) -> String {
        let (value, usage, error) = match self.result.clone() {
            Ok((value, usage)) => (Some(value), Some(usage), None),
            Err(error) => (None, None, Some(error)),
        };
        lines::text(&Written { row: self.row, value, usage, error })
    }

    fn check(&self) -> Result<(), LineError> {
        let wrong = |reason| Err(LineError::Value { reason });
        match &self.result {
            Ok((Value::Vector(vector), _)) if vector.0.iter().any(|number| !number.is_finite()) => {
                wrong("a vector has finite numbers")
            }
            Ok((Value::LogProbabilities(of), _)) if of.0.iter().any(|number| number.is_nan()) => {
                wrong("a log-probability is a number")
            }
            Err(error) if error.code.len().max(error.message.len()) > RowError::TEXT_BYTES_MAX => {
                wrong("texts of an error have at most 1024 bytes")
            }
            Err(error) if error.code.is_empty() => wrong("an error has a code"),
            _ => Ok(()),
        }
    }
}

impl Answers {
    /// Reads a unit's answers.
    pub fn parse(bytes: &[u8]) -> Result<Self, UnitDataError> {
        let lines = lines::split(bytes, ANSWERS_BYTES_MAX)?;
        let mut lines = lines.into_iter();
        let (line, first) = lines.next().ok_or(UnitDataError::Empty)?;
        let at = |line| move |error| UnitDataError::Line { line, error };
        let header = AnswersHeader::read(first).map_err(at(line))?;
        let mut rows: Vec<AnswerLine> = Vec::with_capacity(lines.len());
        for (line, text) in lines {
            let row = AnswerLine::read(text).map_err(at(line))?;
            check_order(rows.last(), row.row).map_err(at(line))?;
            rows.push(row);
        }
        Ok(Self { header, rows })
    }

    /// The bytes, if they are within bounds and read back.
    pub fn encode(&self) -> Result<Vec<u8>, UnitDataError> {
        let mut before = None;
        for (line, row) in (2..).zip(&self.rows) {
            let checked = row.check().and_then(|()| check_order(before, row.row));
            checked.map_err(|error| UnitDataError::Line { line, error })?;
            before = Some(row);
        }
        lines::join(self.header.text(), self.rows.iter().map(AnswerLine::text), ANSWERS_BYTES_MAX)
    }
}

fn check_order(before: Option<&AnswerLine>, row: u64) -> Result<(), LineError> {
    match before {
        Some(before) if row <= before.row => Err(LineError::Order { row, before: before.row }),
        _ => Ok(()),
    }
}
