//! What a unit asks: a header that says which model and how, then one line a row.
//!
//! Invariant: rows ascend, and each fits what the header asks for. Numbers are whole: temperatures and shares are counted in
//! millionths, so that they have one spelling in every language.

use serde::{Deserialize, Serialize};

use super::lines::{self, LineError, UnitDataError};
use super::{LABELS_MAX, MILLION, QUESTIONS_BYTES_MAX, STOPS_MAX, VERSION};
use crate::bytes::ContentRoot;
use crate::jobs::Kind;
use crate::transcript::CHOICES_MAX;

const FORMAT: &str = "unit-questions";
/// What a template may add to a text, in units of usage.
const TEMPLATE_UNITS_MAX: u64 = 1_024;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionsHeader {
    ashlar: String,
    version: u16,
    /// Content root of the model that is to answer.
    pub model: ContentRoot,
    /// The class in which answers must be given; `None`: any.
    pub determinism: Option<ContentRoot>,
    /// What is asked of each row.
    pub ask: Ask,
}

/// What is asked of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// To go on from it.
    Generate(Generation),
    /// Its vector.
    Embed(Embedding),
    /// How likely labels are.
    Classify(Classification),
}

/// How answers are generated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Answers to each row, at least 1.
    pub choices: u32,
    /// The most units of each, at least 1.
    pub units_max: u64,
    /// In millionths; 0 takes the likeliest.
    pub temperature: u32,
    /// In millionths, above 0.
    pub top_p: u32,
    /// In millionths, -2 to 2 million.
    pub presence_penalty: i32,
    /// In millionths, -2 to 2 million.
    pub frequency_penalty: i32,
    /// Of the draws.
    pub seed: u64,
    /// An answer ends before one of these.
    pub stop: Vec<String>,
}

/// How vectors are made: as the model makes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {}

/// What texts are classified by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// At least two, no two equal.
    pub labels: Vec<String>,
    /// What the model is told before each text, in place of the runtime's own words.
    pub instructions: Option<String>,
}

/// Who says a line of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// What holds for the whole conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
    /// A tool that the model called.
    Tool,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Who.
    pub role: Speaker,
    /// What.
    pub text: String,
}

/// What a row asks about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// Text as it is.
    Text(String),
    /// A conversation; of generations alone.
    Chat(Vec<Line>),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its number in the job.
    pub row: u64,
    /// What it asks about.
    pub input: Input,
    /// What is asked of it instead of what the header asks; of the same kind, and not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Ask>,
}

/// Questions of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    /// What holds for all rows.
    pub header: QuestionsHeader,
    /// The rows.
    pub rows: Vec<Question>,
}

impl Ask {
    /// The kind of work that it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Generate(_) => Kind::Inference,
            Self::Embed(_) => Kind::Embedding,
            Self::Classify(_) => Kind::Labeling,
        }
    }

    fn check(&self) -> Result<(), LineError> {
        let wrong = |reason| Err(LineError::Value { reason });
        match self {
            Self::Generate(of) => {
                if of.choices == 0 || of.choices > CHOICES_MAX {
                    return wrong("choices are 1 to 128");
                }
                if of.units_max == 0 {
                    return wrong("units_max is at least 1");
                }
                if of.top_p == 0 || of.top_p > MILLION {
                    return wrong("top_p is 1 to 1000000 millionths");
                }
                if of.temperature > 100 * MILLION {
                    return wrong("temperature is at most 100000000 millionths");
                }
                let most = 2 * MILLION;
                if of.presence_penalty.unsigned_abs() > most || of.frequency_penalty.unsigned_abs() > most {
                    return wrong("penalties are -2000000 to 2000000 millionths");
                }
                if of.stop.len() > STOPS_MAX || of.stop.iter().any(String::is_empty) {
                    return wrong("stop has at most 16 texts, none empty");
                }
                Ok(())
            }
            Self::Embed(Embedding {}) => Ok(()),
            Self::Classify(of) => {
                if of.labels.len() < 2 || of.labels.len() > LABELS_MAX {
                    return wrong("labels are 2 to 1000");
                }
                let mut sorted: Vec<&String> = of.labels.iter().collect();
                sorted.sort_unstable();
                if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
                    return wrong("a label stands there twice");
                }
                Ok(())
            }
        }
    }

    /// The most units of usage that a row of so many bytes of text may come to: no tokenizer makes more tokens of a
    /// text than it has bytes.
    fn usage_max(&self, bytes: u64) -> u64 {
        let asked = bytes.saturating_add(TEMPLATE_UNITS_MAX);
        match self {
            Self::Generate(of) => asked.saturating_add(of.units_max.saturating_mul(of.choices.into())),
            Self::Embed(_) => asked,
            Self::Classify(of) => {
                let words = of.labels.iter().chain(&of.instructions);
                asked.saturating_add(words.map(|word| length(word).saturating_add(1)).sum())
            }
        }
    }
}

impl Input {
    /// Bytes of its texts.
    pub fn text_bytes(&self) -> u64 {
        match self {
            Self::Text(text) => length(text),
            // A message's frame is a few tokens.
            Self::Chat(lines) => lines.iter().map(|line| length(&line.text).saturating_add(16)).sum(),
        }
    }
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

impl QuestionsHeader {
    /// A header of this version.
    pub fn new(model: ContentRoot, determinism: Option<ContentRoot>, ask: Ask) -> Self {
        Self { ashlar: FORMAT.to_owned(), version: VERSION, model, determinism, ask }
    }

    /// Reads the first line, without its end.
    pub fn read(line: &[u8]) -> Result<Self, LineError> {
        let header: Self = lines::read(line)?;
        header.check().map(|()| header)
    }

    /// The first line, without its end.
    pub fn text(&self) -> String {
        lines::text(self)
    }

    fn check(&self) -> Result<(), LineError> {
        if self.ashlar != FORMAT || self.version != VERSION {
            return Err(LineError::Value { reason: "not the header of questions, version 1" });
        }
        self.ask.check()
    }
}

impl Question {
    /// Reads a row's line, without its end, of the file with this header.
    pub fn read(line: &[u8], header: &QuestionsHeader) -> Result<Self, LineError> {
        let row: Self = lines::read(line)?;
        row.check(header).map(|()| row)
    }

    /// Its line, without its end.
    pub fn text(&self) -> String {
        lines::text(self)
    }

    /// What is asked of it.
    pub fn asks<'a>(&'a self, header: &'a QuestionsHeader) -> &'a Ask {
        self.ask.as_ref().unwrap_or(&header.ask)
    }

    fn check(&self, header: &QuestionsHeader) -> Result<(), LineError> {
        if let Some(ask) = &self.ask {
            ask.check()?;
            if ask.kind() != header.ask.kind() || *ask == header.ask {
                let reason = "a row asks otherwise than its header, and of the same kind, or says nothing";
                return Err(LineError::Value { reason });
            }
        }
        match (&self.input, header.ask.kind()) {
            (Input::Chat(lines), Kind::Inference) if lines.is_empty() => {
                Err(LineError::Value { reason: "a conversation has a message at least" })
            }
            (Input::Chat(_), Kind::Inference) | (Input::Text(_), _) => Ok(()),
            (Input::Chat(_), _) => Err(LineError::Value { reason: "conversations are generated from alone" }),
        }
    }
}

impl Questions {
    /// Reads a unit's questions.
    pub fn parse(bytes: &[u8]) -> Result<Self, UnitDataError> {
        let lines = lines::split(bytes, QUESTIONS_BYTES_MAX)?;
        let mut lines = lines.into_iter();
        let (line, first) = lines.next().ok_or(UnitDataError::Empty)?;
        let at = |line| move |error| UnitDataError::Line { line, error };
        let header = QuestionsHeader::read(first).map_err(at(line))?;
        let mut rows: Vec<Question> = Vec::with_capacity(lines.len());
        for (line, text) in lines {
            let row = Question::read(text, &header).map_err(at(line))?;
            check_order(rows.last(), row.row).map_err(at(line))?;
            rows.push(row);
        }
        Ok(Self { header, rows })
    }

    /// The bytes, if they are within bounds and read back.
    pub fn encode(&self) -> Result<Vec<u8>, UnitDataError> {
        let at = |line| move |error| UnitDataError::Line { line, error };
        self.header.check().map_err(at(1))?;
        for (line, (row, before)) in (2..).zip(self.rows.iter().zip(before(&self.rows))) {
            row.check(&self.header).and_then(|()| check_order(before, row.row)).map_err(at(line))?;
        }
        lines::join(self.header.text(), self.rows.iter().map(Question::text), QUESTIONS_BYTES_MAX)
    }

    /// The most units of usage that answering it may come to.
    pub fn usage_max(&self) -> u64 {
        let of = |row: &Question| row.asks(&self.header).usage_max(row.input.text_bytes());
        self.rows.iter().map(of).fold(0, u64::saturating_add)
    }
}

fn before(rows: &[Question]) -> impl Iterator<Item = Option<&Question>> {
    std::iter::once(None).chain(rows.iter().map(Some))
}

fn check_order(before: Option<&Question>, row: u64) -> Result<(), LineError> {
    match before {
        Some(before) if row <= before.row => Err(LineError::Order { row, before: before.row }),
        _ => Ok(()),
    }
}
