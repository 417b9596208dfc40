//! Labels of many texts, scored side by side.
//!
//! Invariant: a label's score is the log-probability of its tokens behind the text's, in which texts and labels beside it
//! have no part. So many texts go on at once as there were pages reserved for.

use std::collections::VecDeque;

use futures::channel::oneshot;

use super::Reservation;
use super::sequence::{Asked, Sequence};
use super::worker::Progress;
use crate::prefixes::Prefixes;

/// Tokens of each label; no label's are the beginning of another's.
#[derive(Clone, Debug)]
pub(crate) struct LabelTokens(pub(crate) Vec<Vec<u32>>);

/// A text that goes on.
struct Text {
    number: usize,
    prompt: Sequence,
    /// One for each label of more than one token, with the label's number; empty until the prompt is computed.
    branches: Vec<(usize, Sequence)>,
    /// So far, by label.
    scores: Vec<f64>,
    has_parted: bool,
}

/// A request whose texts are scored.
pub(crate) struct Classification {
    waiting: VecDeque<(usize, Vec<u32>)>,
    running: Vec<Text>,
    labels: LabelTokens,
    running_max: usize,
    scores: Vec<Vec<f64>>,
    answer: Option<oneshot::Sender<Vec<Vec<f64>>>>,
    _reservation: Reservation,
}

impl Classification {
    /// `prompts` are scored, of which one takes `pages_each` pages at most.
    pub(crate) fn new(
        prompts: Vec<Vec<u32>>,
        labels: LabelTokens,
        pages_each: usize,
        answer: oneshot::Sender<Vec<Vec<f64>>>,
        reservation: Reservation,
    ) -> Self {
        let running_max = (reservation.pages() / pages_each.max(1)).max(1);
        let scores = vec![Vec::new(); prompts.len()];
        let waiting = prompts.into_iter().enumerate().collect();
        let (running, answer) = (Vec::new(), Some(answer));
        Self { waiting, running, labels, running_max, scores, answer, _reservation: reservation }
    }

    pub(super) fn sequences(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.running.iter_mut().flat_map(|text| {
            let branches = text.branches.iter_mut().map(|(_, sequence)| sequence);
            std::iter::once(&mut text.prompt).chain(branches)
        })
    }

    /// Goes on with what the last step told.
    pub(super) fn advance(&mut self, prefixes: &mut Prefixes) -> Progress {
        let is_heard = self.answer.as_ref().is_some_and(|answer| !answer.is_canceled());
        if !is_heard || self.sequences().any(|sequence| sequence.has_failed()) {
            // Who waits for an answer that was dropped is told that the runtime failed.
            return Progress::Ended;
        }
        let labels = &self.labels;
        self.running.iter_mut().for_each(|text| text.advance(labels));
        let scores = &mut self.scores;
        self.running.retain_mut(|text| {
            let has_ended = text.has_ended();
            if has_ended {
                scores[text.number] = std::mem::take(&mut text.scores);
            }
            !has_ended
        });
        while self.running.len() < self.running_max
            && let Some((number, prompt)) = self.waiting.pop_front()
        {
            let first = self.labels.0.iter().filter_map(|label| label.first().copied()).collect();
            let asked = Asked::LogProbabilities { of: vec![first], told: Vec::new() };
            let prompt = Sequence::begin(prompt, asked, prefixes);
            let (branches, scores) = (Vec::new(), Vec::new());
            self.running.push(Text { number, prompt, branches, scores, has_parted: false });
        }
        if !self.running.is_empty() {
            return Progress::Open;
        }
        if let Some(answer) = self.answer.take() {
            // Who asked may have gone in this moment.
            let _ = answer.send(std::mem::take(&mut self.scores));
        }
        Progress::Ended
    }
}

impl Text {
    fn has_ended(&self) -> bool {
        self.has_parted && self.branches.is_empty()
    }

    fn advance(&mut self, labels: &LabelTokens) {
        if !self.has_parted && self.prompt.pending() == 0 {
            if let Asked::LogProbabilities { told, .. } = &self.prompt.asked {
                self.scores = told.concat();
            }
            for (number, label) in labels.0.iter().enumerate().filter(|(_, label)| label.len() > 1) {
                let of = label[1..].iter().map(|token| vec![*token]).collect();
                let asked = Asked::LogProbabilities { of, told: Vec::new() };
                self.branches.push((number, self.prompt.fork(&label[..label.len() - 1], asked)));
            }
            self.has_parted = true;
        }
        let scores = &mut self.scores;
        self.branches.retain_mut(|(number, branch)| {
            let is_open = branch.pending() > 0;
            if !is_open && let Asked::LogProbabilities { told, .. } = &branch.asked {
                scores[*number] += told.iter().flatten().sum::<f64>();
            }
            is_open
        });
    }
}
