//! The engine's thread: step after step while there is work.
//!
//! Invariant: tokens that answers wait for come first, then what requests begin with, answers before labels; so many
//! tokens a step at most. However the thread ends, all its requests hear of it.

use super::sequence::{Listener, Sequence};
use super::{Shared, Task};
use crate::llama::{Llama, STEP_ROWS_MAX, Scratch, Span};
use crate::prefixes::Prefixes;
use crate::vocabulary::Vocabulary;

/// Whether a task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Open,
    Ended,
}

impl Task {
    fn sequences(&mut self) -> Box<dyn Iterator<Item = &mut Sequence> + '_> {
        match self {
            Self::Generation(generation) => Box::new(generation.sequences()),
            Self::Classification(classification) => Box::new(classification.sequences()),
        }
    }

    fn advance(&mut self, vocabulary: &Vocabulary, prefixes: &mut Prefixes) -> Progress {
        match self {
            Self::Generation(generation) => generation.advance(vocabulary, prefixes),
            Self::Classification(classification) => classification.advance(prefixes),
        }
    }
}

/// Ends what arrives where the thread is gone.
struct Farewell<'a>(&'a Shared);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let arrived = {
            let mut state = self.0.state.lock();
            state.is_ending = true;
            std::mem::take(&mut state.arrived)
        };
        // Outside of the lock, because reservations give back what they had.
        drop(arrived);
    }
}

pub(super) fn run(shared: &Shared, llama: &Llama, vocabulary: &Vocabulary) {
    let farewell = Farewell(shared);
    let mut prefixes = Prefixes::new(shared.capacity.prefix_pages_max);
    let mut scratch = Scratch::default();
    let mut powers = Vec::new();
    let mut tasks: Vec<Task> = Vec::new();
    loop {
        {
            let mut state = shared.state.lock();
            while tasks.is_empty() && state.arrived.is_empty() && !state.is_ending {
                shared.changed.wait(&mut state);
            }
            if state.is_ending {
                break;
            }
            tasks.append(&mut state.arrived);
        }
        // Whose receiver is gone has nothing to wait for; who arrived begins.
        tasks.retain_mut(|task| task.advance(vocabulary, &mut prefixes) == Progress::Open);
        step(&mut tasks, llama, vocabulary, &mut scratch, &mut powers);
        for sequence in tasks.iter_mut().flat_map(Task::sequences) {
            sequence.keep(&mut prefixes);
        }
    }
    drop(tasks);
    drop(farewell);
}

/// One step of all that runs.
fn step(
    tasks: &mut [Task],
    llama: &Llama,
    vocabulary: &Vocabulary,
    scratch: &mut Scratch,
    powers: &mut Vec<f32>,
) {
    let mut waiting: Vec<(i32, &mut Sequence)> = Vec::new();
    for task in tasks {
        let is_generation = matches!(task, Task::Generation(_));
        for sequence in task.sequences().filter(|sequence| sequence.pending() > 0) {
            let urgency = match (sequence.pending(), is_generation) {
                (1, _) => 0,
                (_, true) => 1,
                (_, false) => 2,
            };
            waiting.push((urgency, sequence));
        }
    }
    waiting.sort_by_key(|(urgency, _)| *urgency);
    let (mut spans, mut listeners): (Vec<Span<'_>>, Vec<Listener<'_>>) = (Vec::new(), Vec::new());
    let mut rows_left = STEP_ROWS_MAX;
    for (_, sequence) in waiting {
        if rows_left == 0 {
            break;
        }
        let (span, listener) = sequence.next(rows_left);
        rows_left -= span.tokens.len();
        spans.push(span);
        listeners.push(listener);
    }
    if !spans.is_empty() {
        llama.step(&mut spans, scratch, |span, _, logits| {
            listeners[span].hear(llama, vocabulary, logits, powers);
        });
    }
}
