//! What a unit asks and what comes back, as lines of JSON (docs/formats/unit.md).
//!
//! Invariant: a value has one spelling, and a reader takes no other, so that a content root names what is said and not how;
//! nothing is read or written above its bounds, and errors name the line. Does not know where the bytes lie, who
//! computes, or whether an answer is right: only whether it answers what was asked.

mod answers;
mod judging;
mod lines;
mod questions;
#[cfg(test)]
mod tests;

pub use answers::{AnswerLine, Answers, AnswersHeader, Finish, RowError, Said, Usage, Value, Vector};
pub use judging::Mismatch;
pub use lines::{LINE_BYTES_MAX, LineError, UnitDataError};
pub use questions::{
    Ask, Classification, Embedding, Generation, Input, Line, Question, Questions, QuestionsHeader, Speaker,
};

/// Most bytes of a unit's questions.
pub const QUESTIONS_BYTES_MAX: usize = 16 << 20;
/// Most bytes of a unit's answers.
pub const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// Most rows of a unit.
pub const ROWS_MAX: usize = 10_000;
/// Most labels of a classification.
pub const LABELS_MAX: usize = 1_000;
/// Most texts that an answer ends before.
pub const STOPS_MAX: usize = 16;
/// Parts in which temperatures and shares are counted: millionths.
pub const MILLION: u32 = 1_000_000;
/// The version of the format.
pub const VERSION: u16 = 1;
