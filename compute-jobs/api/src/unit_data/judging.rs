//! Whether answers answer what was asked, and what they come to.
//!
//! Invariant: what passes has a value or an error for each row that it must have and for no other, each of the form that was
//! asked for, and usage that is no more than the questions allow. Says nothing about whether a value is right.

use std::iter::Peekable;
use std::slice::Iter;

use super::answers::{AnswerLine, Answers, Value};
use super::questions::{Ask, Question, Questions};
use crate::bytes::ContentRoot;

/// Why answers are not those to the questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// They answer other questions.
    #[error("answers to {found}, and {expected} was asked")]
    OtherQuestions {
        /// What the header says.
        found: ContentRoot,
        /// What was asked.
        expected: ContentRoot,
    },
    /// Another model answered.
    #[error("model {found} answered, and {expected} was asked")]
    OtherModel {
        /// What the header says.
        found: ContentRoot,
        /// What was asked.
        expected: ContentRoot,
    },
    /// They were given in another class.
    #[error("the answers are of another determinism class")]
    OtherClass,
    /// A row is not there.
    #[error("row {row} has no answer")]
    Missing {
        /// Its number.
        row: u64,
    },
    /// A row was not asked.
    #[error("row {row} was not asked")]
    NotAsked {
        /// Its number.
        row: u64,
    },
    /// A value is not of the form that was asked for.
    #[error("the answer to row {row} has another form than was asked for")]
    Form {
        /// The row's number.
        row: u64,
    },
    /// It says that it took more than it can have.
    #[error("{units} units of usage, and {maximum} are the most")]
    Usage {
        /// As counted from the rows.
        units: u64,
        /// What the questions allow.
        maximum: u64,
    },
}

impl Answers {
    /// Whether this answers every row, and with how many units of usage.
    pub fn judge(&self, questions: &Questions, root: ContentRoot) -> Result<u64, Mismatch> {
        self.judge_rows(questions, root, true)
    }

    /// Whether this answers some of the rows, and with how many units of usage.
    pub fn judge_checkpoint(&self, questions: &Questions, root: ContentRoot) -> Result<u64, Mismatch> {
        self.judge_rows(questions, root, false)
    }

    fn judge_rows(&self, questions: &Questions, root: ContentRoot, is_whole: bool) -> Result<u64, Mismatch> {
        let (header, asked) = (&self.header, &questions.header);
        if header.questions != root {
            return Err(Mismatch::OtherQuestions { found: header.questions, expected: root });
        }
        if header.model != asked.model {
            return Err(Mismatch::OtherModel { found: header.model, expected: asked.model });
        }
        if asked.determinism.is_some() && header.determinism != asked.determinism {
            return Err(Mismatch::OtherClass);
        }
        let mut answers = self.rows.iter().peekable();
        let (mut units, mut dimensions) = (0_u64, None);
        for question in &questions.rows {
            let Some(answer) = answer_to(question, &mut answers)? else {
                if is_whole {
                    return Err(Mismatch::Missing { row: question.row });
                }
                continue;
            };
            let Ok((value, usage)) = &answer.result else { continue };
            if !fits(value, question.asks(asked), &mut dimensions) {
                return Err(Mismatch::Form { row: question.row });
            }
            units = units.saturating_add(usage.units());
        }
        if let Some(answer) = answers.next() {
            return Err(Mismatch::NotAsked { row: answer.row });
        }
        let maximum = questions.usage_max();
        if units > maximum { Err(Mismatch::Usage { units, maximum }) } else { Ok(units) }
    }
}

fn answer_to<'a>(
    question: &Question,
    answers: &mut Peekable<Iter<'a, AnswerLine>>,
) -> Result<Option<&'a AnswerLine>, Mismatch> {
    match answers.peek() {
        Some(answer) if answer.row < question.row => Err(Mismatch::NotAsked { row: answer.row }),
        Some(answer) if answer.row == question.row => Ok(answers.next()),
        _ => Ok(None),
    }
}

fn fits(value: &Value, ask: &Ask, dimensions: &mut Option<usize>) -> bool {
    match (value, ask) {
        (Value::Said(said), Ask::Generate(of)) => u32::try_from(said.len()).is_ok_and(|n| n == of.choices),
        (Value::Vector(vector), Ask::Embed(_)) => {
            let length = vector.0.len();
            length > 0 && *dimensions.get_or_insert(length) == length
        }
        (Value::LogProbabilities(of), Ask::Classify(asked)) => of.0.len() == asked.labels.len(),
        _ => false,
    }
}
