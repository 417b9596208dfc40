//! Which rows of a unit are computed, which take another's answer, and what is known by now.
//!
//! Invariant: each distinct question that no earlier answer covers is computed once, by its first row. Does not compute.

use std::collections::HashMap;

use ashlar_compute_api::unit_data::{AnswerLine, Answers, AnswersHeader, Ask, Input, Questions, Usage};

/// Where a row's answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// It is its own: given before, or computed.
    Own,
    /// It is that of the row at this index.
    SameAs(usize),
}

/// Questions of a unit with the answers that are known.
#[derive(Debug)]
pub struct Sheet<'a> {
    header: AnswersHeader,
    questions: &'a Questions,
    sources: Vec<Source>,
    done: Vec<Option<AnswerLine>>,
    /// How many rows have an answer as soon as this one has.
    weights: Vec<usize>,
    rows_done: usize,
}

impl<'a> Sheet<'a> {
    /// All questions, of which some have their answers. What else is given is left aside.
    pub(crate) fn new(header: AnswersHeader, questions: &'a Questions, given: Option<&Answers>) -> Self {
        let rows = given.map(|given| given.rows.as_slice()).unwrap_or_default();
        let given: HashMap<u64, &AnswerLine> = rows.iter().map(|row| (row.row, row)).collect();
        let mut first: HashMap<(&Input, &Ask), usize> = HashMap::new();
        // Given values first: a row that is computed may come before the one that was given.
        for (index, row) in questions.rows.iter().enumerate() {
            if given.get(&row.row).is_some_and(|answer| answer.result.is_ok()) {
                first.entry((&row.input, row.asks(&questions.header))).or_insert(index);
            }
        }
        let count = questions.rows.len();
        let mut sheet = Self {
            header,
            questions,
            sources: vec![Source::Own; count],
            done: vec![None; count],
            weights: vec![1; count],
            rows_done: 0,
        };
        for (index, row) in questions.rows.iter().enumerate() {
            if given.contains_key(&row.row) {
                continue;
            }
            let same = *first.entry((&row.input, row.asks(&questions.header))).or_insert(index);
            if same != index {
                sheet.sources[index] = Source::SameAs(same);
                sheet.weights[same] += 1;
            }
        }
        for (index, row) in questions.rows.iter().enumerate() {
            if let Some(answer) = given.get(&row.row) {
                sheet.set(index, (*answer).clone());
            }
        }
        sheet
    }

    pub(crate) fn questions(&self) -> &'a Questions {
        self.questions
    }

    /// Rows that have to be computed, by index.
    pub(crate) fn open(&self) -> Vec<usize> {
        let is_open = |index: &usize| self.sources[*index] == Source::Own && self.done[*index].is_none();
        (0..self.sources.len()).filter(is_open).collect()
    }

    pub(crate) fn set(&mut self, index: usize, answer: AnswerLine) {
        if self.done[index].replace(answer).is_none() {
            self.rows_done += self.weights[index];
        }
    }

    /// Rows that have an answer.
    pub fn rows_done(&self) -> usize {
        self.rows_done
    }

    /// Rows in all.
    pub fn rows(&self) -> usize {
        self.sources.len()
    }

    /// What is known by now: a checkpoint, and in the end all answers.
    pub fn answers(&self) -> Answers {
        let mut rows = Vec::with_capacity(self.rows_done);
        for (index, source) in self.sources.iter().enumerate() {
            let answer = match source {
                Source::Own => self.done[index].clone(),
                Source::SameAs(first) => {
                    self.done[*first].as_ref().map(|of| repeated(of, self.questions.rows[index].row))
                }
            };
            rows.extend(answer);
        }
        Answers { header: self.header.clone(), rows }
    }
}

/// The answer to a row whose question another row had as well.
fn repeated(of: &AnswerLine, row: u64) -> AnswerLine {
    let result = of.result.clone().map(|(value, _)| (value, Usage::default()));
    AnswerLine { row, result }
}
