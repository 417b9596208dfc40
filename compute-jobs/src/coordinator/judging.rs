//! Questions read, answers judged and stored; and what is said of rows that nobody answered.

use std::sync::Arc;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::JobId;
use ashlar_compute_api::jobs::{UnitObjects, UnitObjectsError};
use ashlar_compute_api::unit_data::{
    ANSWERS_BYTES_MAX, AnswerLine, Answers, AnswersHeader, QUESTIONS_BYTES_MAX, Questions, RowError,
};
use bytes::Bytes;

use crate::rows::{Checkpoint, ResultRow, UnitRow};

/// Why answers do not count.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum JudgeError {
    /// Whoever gave them is at fault.
    #[error("the answers are none: {0}")]
    Answers(String),
    /// The questions do not read: nobody can answer them.
    #[error("the unit's questions cannot be read: {0}")]
    Questions(String),
    /// The store; later it may.
    #[error("{0}")]
    Store(String),
}

impl From<UnitObjectsError> for JudgeError {
    fn from(error: UnitObjectsError) -> Self {
        match error {
            UnitObjectsError::Unavailable { reason } => Self::Store(reason),
            error => Self::Questions(error.to_string()),
        }
    }
}

/// Answers that count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) content_root: ContentRoot,
    pub(super) usage: u64,
    /// What another attempt begins with.
    pub(super) kept: ResultRow,
}

/// A unit's questions.
pub(super) async fn questions(
    objects: &Arc<dyn UnitObjects>,
    family: JobId,
    root: ContentRoot,
) -> Result<Questions, JudgeError> {
    let bytes = objects.get(family, root, QUESTIONS_BYTES_MAX).await?;
    Questions::parse(&bytes).map_err(|error| JudgeError::Questions(error.to_string()))
}

/// Holds all answers to a unit against its questions, and stores them.
pub(super) async fn judge(
    objects: &Arc<dyn UnitObjects>,
    family: JobId,
    input: ContentRoot,
    bytes: Bytes,
) -> Result<Judged, JudgeError> {
    let questions = questions(objects, family, input).await?;
    let answers = Answers::parse(&bytes).map_err(|error| JudgeError::Answers(error.to_string()))?;
    let usage = answers.judge(&questions, input).map_err(|error| JudgeError::Answers(error.to_string()))?;
    let content_root = objects.put(family, bytes).await?;
    let is_good = |row: &AnswerLine| row.result.as_ref().err().is_none_or(|error| !error.retryable);
    let kept = if answers.rows.iter().all(is_good) {
        ResultRow::Whole { content_root, usage }
    } else {
        let rows: Vec<AnswerLine> = answers.rows.into_iter().filter(is_good).collect();
        ResultRow::Part(store(objects, family, Answers { header: answers.header, rows }).await?)
    };
    Ok(Judged { content_root, usage, kept })
}

/// Holds answers to some rows against the questions, and stores them.
pub(super) async fn judge_checkpoint(
    objects: &Arc<dyn UnitObjects>,
    family: JobId,
    input: ContentRoot,
    bytes: Bytes,
) -> Result<Checkpoint, JudgeError> {
    let questions = questions(objects, family, input).await?;
    let answers = Answers::parse(&bytes).map_err(|error| JudgeError::Answers(error.to_string()))?;
    let judged = answers.judge_checkpoint(&questions, input);
    judged.map_err(|error| JudgeError::Answers(error.to_string()))?;
    store(objects, family, answers).await
}

async fn store(
    objects: &Arc<dyn UnitObjects>,
    family: JobId,
    answers: Answers,
) -> Result<Checkpoint, JudgeError> {
    let rows = u64::try_from(answers.rows.len()).unwrap_or(u64::MAX);
    let bytes = answers.encode().map_err(|error| JudgeError::Answers(error.to_string()))?;
    Ok(Checkpoint { content_root: objects.put(family, Bytes::from(bytes)).await?, rows })
}

/// What stands in the result for a unit that failed: what is known of it, and errors for the rest.
pub(super) async fn failure(
    objects: &Arc<dyn UnitObjects>,
    family: JobId,
    unit: &UnitRow,
    reason: &str,
) -> Result<ContentRoot, JudgeError> {
    let input = unit.unit.input.content_root;
    let questions = questions(objects, family, input).await?;
    let mut header = AnswersHeader::new(input, questions.header.model, questions.header.determinism);
    let mut known = Vec::new();
    if let Some(checkpoint) = unit.checkpoint {
        let bytes = objects.get(family, checkpoint.content_root, ANSWERS_BYTES_MAX).await?;
        let answers = Answers::parse(&bytes).map_err(|error| JudgeError::Answers(error.to_string()))?;
        (header, known) = (answers.header, answers.rows);
    }
    let mut known = known.into_iter().peekable();
    let error = RowError::new("unit_failed", reason, true);
    let rows = questions.rows.iter().map(|question| {
        let answer = known.next_if(|answer| answer.row == question.row);
        answer.unwrap_or_else(|| AnswerLine { row: question.row, result: Err(error.clone()) })
    });
    let answers = Answers { header, rows: rows.collect() };
    Ok(store(objects, family, answers).await?.content_root)
}
