//! One thread that runs a model for many requests at once.
//!
//! Invariant: what a request may come to is reserved before it is taken, and a request that does not fit is refused at
//! once: nothing waits in a queue that grows. Each step takes tokens of all that runs; who came when changes no answer.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use crate::llama::Llama;
use crate::vocabulary::Vocabulary;

mod classification;
mod generation;
mod sequence;
mod worker;

pub(crate) use classification::{Classification, LabelTokens};
pub(crate) use generation::Generation;

/// What a request needs while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Sequences that go on side by side.
    pub(crate) sequences: usize,
    /// Pages of positions.
    pub(crate) pages: usize,
}

/// What an engine may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Sequences that go on side by side.
    pub(crate) sequences_max: usize,
    /// Pages of sequences that run.
    pub(crate) pages_max: usize,
    /// Pages of beginnings that are kept for others.
    pub(crate) prefix_pages_max: usize,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Others run.
    Busy,
    /// The thread has ended.
    Ended,
}

/// Work that was taken.
pub(crate) enum Task {
    Generation(Box<Generation>),
    Classification(Box<Classification>),
}

struct State {
    used: Need,
    /// Bounded by what may be reserved.
    arrived: Vec<Task>,
    is_ending: bool,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    capacity: Capacity,
}

/// What was reserved for a request, until it is dropped.
pub(crate) struct Reservation {
    shared: Arc<Shared>,
    need: Need,
}

impl Reservation {
    pub(crate) fn pages(&self) -> usize {
        self.need.pages
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.used.sequences -= self.need.sequences;
        state.used.pages -= self.need.pages;
    }
}

/// A thread that runs a model.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    pub(crate) fn start(
        llama: Arc<Llama>,
        vocabulary: Arc<Vocabulary>,
        capacity: Capacity,
        number: usize,
    ) -> io::Result<Self> {
        let state = State { used: Need { sequences: 0, pages: 0 }, arrived: Vec::new(), is_ending: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), capacity });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("model-{number}"))
            .spawn(move || worker::run(&of_thread, &llama, &vocabulary))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Pages that are free now.
    pub(crate) fn free_pages(&self) -> usize {
        self.shared.capacity.pages_max - self.shared.state.lock().used.pages
    }

    /// Reserves what `need` says, where it is free now: as many pages as it says at most, `pages_min` at least.
    pub(crate) fn reserve(&self, need: Need, pages_min: usize) -> Result<Reservation, Refusal> {
        let Capacity { sequences_max, pages_max, .. } = self.shared.capacity;
        let mut state = self.shared.state.lock();
        if state.is_ending {
            return Err(Refusal::Ended);
        }
        let pages = need.pages.min(pages_max - state.used.pages);
        if need.sequences > sequences_max - state.used.sequences || pages < pages_min {
            return Err(Refusal::Busy);
        }
        let need = Need { pages, ..need };
        state.used.sequences += need.sequences;
        state.used.pages += need.pages;
        Ok(Reservation { shared: Arc::clone(&self.shared), need })
    }

    /// Hands over work for which there is a reservation.
    pub(crate) fn run(&self, task: Task) -> Result<(), Refusal> {
        let mut state = self.shared.state.lock();
        if state.is_ending {
            drop(state);
            return Err(Refusal::Ended);
        }
        state.arrived.push(task);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.state.lock().is_ending = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so; its requests were told that the runtime failed.
            let _ = thread.join();
        }
    }
}
