//! A unit from its questions to its answers.
//!
//! Rows are computed in their order, some at once; a call that fails is cut in halves until the row is found that cannot be
//! answered. A runtime that has no capacity is waited for, for a bounded time; one that fails again and again is given up.

use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{Inference, InferenceError};
use ashlar_compute_api::transcript::Event;
use ashlar_compute_api::unit_data::{AnswerLine, Answers, AnswersHeader, Ask, Question, Questions, RowError};
use futures::{StreamExt, stream};

use crate::batches;
use crate::generation::{self, Generated, request_hash};
use crate::plan::Sheet;

/// Failures of a runtime one behind the other after which a unit is given up.
const FAILURES_MAX: u32 = 3;

/// How a runtime is used.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rows of one call, where a call takes several; at least 1.
    pub batch_rows_max: usize,
    /// Rows that are generated from at once; at least 1.
    pub generations_max: usize,
    /// How often a runtime without capacity is asked again, for each call.
    pub busy_waits_max: u32,
    /// The longest of these waits.
    pub busy_wait_max: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            batch_rows_max: 64,
            generations_max: 16,
            busy_waits_max: 20,
            busy_wait_max: Duration::from_secs(5),
        }
    }
}

/// How far a unit has come.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What is told now, in the order of the transcript.
    pub events: &'a [Event],
    /// What is known by now.
    pub sheet: &'a Sheet<'a>,
}

/// Why a unit has no answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// Another model is asked for than the runtime runs.
    #[error("the unit asks for model {asked}, and this is {runs}")]
    OtherModel {
        /// By the questions.
        asked: ContentRoot,
        /// By the runtime.
        runs: ContentRoot,
    },
    /// Answers are asked for in another determinism class.
    #[error("the unit asks for another determinism class")]
    OtherClass,
    /// The runtime had no capacity, however often it was asked.
    #[error("the runtime had no capacity")]
    Busy,
    /// The runtime fails.
    #[error("the runtime failed {times} times one behind the other, at last: {reason}")]
    Failed {
        /// So often.
        times: u32,
        /// What it said last.
        reason: String,
    },
}

/// Answers every question, the rows in `given` excepted, and tells each step as it comes.
///
/// `root` is the content root of the questions' bytes. Dropping the future ends the work; what was told until then can
/// be `given` to whoever goes on. Usage of given rows is part of the answers, and not told as events again.
pub async fn work(
    inference: &Arc<dyn Inference>,
    questions: &Questions,
    root: ContentRoot,
    given: Option<&Answers>,
    effort: Effort,
    told: &mut (dyn FnMut(Step<'_>) + Send),
) -> Result<Answers, WorkError> {
    let (model, asked) = (inference.model(), &questions.header);
    if model.root != asked.model {
        return Err(WorkError::OtherModel { asked: asked.model, runs: model.root });
    }
    let class = Some(model.determinism_class).filter(|class| !class.is_zero());
    if asked.determinism.is_some() && asked.determinism != class {
        return Err(WorkError::OtherClass);
    }
    let header = AnswersHeader::new(root, model.root, class);
    let mut unit = Unit {
        inference: Arc::clone(inference),
        effort,
        sheet: Sheet::new(header, questions, given),
        failures: 0,
        told,
    };
    let open = unit.sheet.open();
    if let Ask::Generate(_) = asked.ask {
        unit.generate(&open).await?
    } else {
        unit.batches(&open).await?
    }
    Ok(unit.sheet.answers())
}

struct Unit<'a> {
    inference: Arc<dyn Inference>,
    effort: Effort,
    sheet: Sheet<'a>,
    /// Of the runtime, one behind the other.
    failures: u32,
    told: &'a mut (dyn FnMut(Step<'_>) + Send),
}

impl<'a> Unit<'a> {
    fn question(&self, index: usize) -> &'a Question {
        &self.sheet.questions().rows[index]
    }

    async fn generate(&mut self, computed: &[usize]) -> Result<(), WorkError> {
        let (questions, effort) = (self.sheet.questions(), self.effort);
        let inference = Arc::clone(&self.inference);
        let rows = stream::iter(computed.to_vec()).map(|index| {
            let (inference, row) = (Arc::clone(&inference), &questions.rows[index]);
            async move {
                let Ask::Generate(of) = row.asks(&questions.header) else {
                    let reason = "a row asks for another kind of work".to_owned();
                    return (index, Err(InferenceError::Invalid { reason }));
                };
                let request = generation::request(&questions.header, row, of);
                let ask = || generation::generate(&inference, request.clone());
                (index, patiently(effort, ask).await)
            }
        });
        let mut rows = std::pin::pin!(rows.buffered(effort.generations_max.max(1)));
        while let Some((index, result)) = rows.next().await {
            let row = self.question(index).row;
            match result {
                Ok(Generated { value, usage, events }) => {
                    self.failures = 0;
                    self.sheet.set(index, AnswerLine { row, result: Ok((value, usage)) });
                    self.tell(&events);
                }
                Err(error) => self.fail(index, error)?,
            }
        }
        Ok(())
    }

    async fn batches(&mut self, computed: &[usize]) -> Result<(), WorkError> {
        let mut waiting: Vec<Vec<usize>> = Vec::new();
        let questions = self.sheet.questions();
        for &index in computed {
            // A batch asks one thing; rows that ask otherwise are in others.
            let ask = questions.rows[index].asks(&questions.header);
            match waiting.last_mut() {
                Some(batch)
                    if batch.len() < self.effort.batch_rows_max.max(1)
                        && questions.rows[batch[0]].asks(&questions.header) == ask =>
                {
                    batch.push(index);
                }
                _ => waiting.push(vec![index]),
            }
        }
        waiting.reverse();
        while let Some(batch) = waiting.pop() {
            let (questions, inference) = (self.sheet.questions(), Arc::clone(&self.inference));
            let ask = questions.rows[batch[0]].asks(&questions.header);
            let inputs: Vec<_> = batch.iter().map(|index| &questions.rows[*index].input).collect();
            match patiently(self.effort, || batches::call(&inference, ask, &inputs)).await {
                Ok(values) => {
                    self.failures = 0;
                    self.take(&batch, values);
                }
                Err(InferenceError::Busy { .. }) => return Err(WorkError::Busy),
                Err(error) if batch.len() == 1 => self.fail(batch[0], error)?,
                Err(_) => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    waiting.push(second.to_vec());
                    waiting.push(first.to_vec());
                }
            }
        }
        Ok(())
    }

    /// Takes the values of one call, and tells them as one request.
    fn take(&mut self, batch: &[usize], values: batches::Batch) {
        let mut lines = format!("{}\n", self.sheet.questions().header.text());
        let mut outputs = Vec::with_capacity(batch.len());
        let mut asked = 0_u64;
        for (&index, (value, usage)) in batch.iter().zip(values) {
            let question = self.question(index);
            lines.push_str(&question.text());
            lines.push('\n');
            asked = asked.saturating_add(usage.asked);
            let answer = AnswerLine { row: question.row, result: Ok((value, usage)) };
            outputs.push(Event::Output { row: answer.row, output_hash: request_hash(&answer.text()) });
            self.sheet.set(index, answer);
        }
        let mut events = vec![Event::Request { request_hash: request_hash(&lines) }];
        events.extend(outputs);
        events.push(Event::Usage { asked, answered: 0 });
        self.tell(&events);
    }

    /// A row cannot be answered.
    fn fail(&mut self, index: usize, error: InferenceError) -> Result<(), WorkError> {
        let reason = error.to_string();
        let (code, retryable) = match error {
            InferenceError::Invalid { .. } => ("invalid", false),
            InferenceError::TooLong { .. } => ("too_long", false),
            InferenceError::Busy { .. } => return Err(WorkError::Busy),
            InferenceError::Failed { reason } => {
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    return Err(WorkError::Failed { times: self.failures, reason });
                }
                ("failed", true)
            }
        };
        let row = self.question(index).row;
        self.sheet.set(index, AnswerLine { row, result: Err(RowError::new(code, &reason, retryable)) });
        self.tell(&[]);
        Ok(())
    }

    fn tell(&mut self, events: &[Event]) {
        (self.told)(Step { events, sheet: &self.sheet });
    }
}

/// Asks until there is capacity, for a bounded number of times.
async fn patiently<T, F>(effort: Effort, mut ask: impl FnMut() -> F) -> Result<T, InferenceError>
where
    F: Future<Output = Result<T, InferenceError>>,
{
    let mut waits = 0;
    loop {
        match ask().await {
            Err(InferenceError::Busy { retry_after_seconds }) if waits < effort.busy_waits_max => {
                waits += 1;
                let wait = Duration::from_secs(u64::from(retry_after_seconds.max(1)));
                tokio::time::sleep(wait.min(effort.busy_wait_max)).await;
            }
            result => return result,
        }
    }
}
