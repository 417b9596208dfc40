//! All journal locations of an open store: one thread each, so that a group syncs everywhere at once.
//!
//! Invariant: a location that failed once takes no further part, and the others are told before anything
//! more is answered. Deliberately knows nothing of rows or of who commits.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::group::Group;
use super::location::JournalWriter;
use super::stats::LocationStats;
use super::superblock::{CheckpointRef, LocationId};
use crate::ordered_kv::Position;

/// Work for a location's thread.
enum Order {
    /// Answered with the time it took, or nothing when it failed.
    Append {
        group: Group,
        done: Sender<Option<Duration>>,
    },
    Members {
        members: Vec<LocationId>,
        done: Sender<bool>,
    },
    Checkpoint {
        checkpoint: CheckpointRef,
        done: Sender<bool>,
    },
    Truncate {
        sequence: u64,
        position: Position,
    },
}

struct LocationThread {
    id: LocationId,
    orders: Option<Sender<Order>>,
    stats: Arc<Mutex<LocationStats>>,
    thread: Option<JoinHandle<()>>,
}

impl LocationThread {
    fn is_in(&self) -> bool {
        self.stats.lock().out.is_none()
    }

    /// Hands work over; a thread that is gone counts as out.
    fn order(&self, order: Order) {
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        if !sent {
            self.stats.lock().out.get_or_insert_with(|| "its thread ended".to_owned());
        }
    }
}

/// The locations of an open store, in the order given at opening.
pub(crate) struct Journals {
    threads: Vec<LocationThread>,
    /// Whom the members know as members.
    told: Mutex<Vec<LocationId>>,
    /// Slots of locations that could not be used at opening.
    absent: Vec<(usize, LocationStats)>,
}

/// A group on its way into every location.
pub(crate) struct Appending {
    done: Receiver<Option<Duration>>,
}

/// What came of it.
pub(crate) struct Appended {
    /// Locations that have the group durable.
    pub(crate) durable: usize,
    /// What the slowest of them took.
    pub(crate) time: Duration,
}

impl Journals {
    /// Starts a thread for each writer.
    pub(crate) fn start(
        writers: Vec<(JournalWriter, LocationStats)>,
        absent: Vec<(usize, LocationStats)>,
    ) -> io::Result<Self> {
        let mut threads = Vec::new();
        for (index, (writer, stats)) in writers.into_iter().enumerate() {
            let id = writer.id();
            let stats = Arc::new(Mutex::new(stats));
            let (orders, inbox) = mpsc::channel();
            let shared = Arc::clone(&stats);
            let name = format!("journal-{index}");
            let thread = thread::Builder::new().name(name).spawn(move || serve(writer, &inbox, &shared))?;
            threads.push(LocationThread { id, orders: Some(orders), stats, thread: Some(thread) });
        }
        let told = Mutex::new(threads.iter().map(|thread| thread.id).collect());
        Ok(Self { threads, told, absent })
    }

    /// Begins to append `group` everywhere.
    pub(crate) fn append(&self, group: &Group) -> Appending {
        self.tell_members();
        let (done, answers) = mpsc::channel();
        for thread in self.threads.iter().filter(|thread| thread.is_in()) {
            thread.order(Order::Append { group: group.clone(), done: done.clone() });
        }
        Appending { done: answers }
    }

    /// Waits until every location answered. When one fell out, the others have noted it on return.
    pub(crate) fn wait(&self, appending: Appending) -> Appended {
        // The channel ends when every location answered or its thread died.
        let times: Vec<Duration> = appending.done.iter().flatten().collect();
        self.tell_members();
        Appended { durable: times.len(), time: times.into_iter().max().unwrap_or_default() }
    }

    /// Has the members write down who they are, if that changed.
    fn tell_members(&self) {
        let ids = || self.threads.iter().filter(|thread| thread.is_in()).map(|thread| thread.id).collect();
        let mut members: Vec<LocationId> = ids();
        // Whoever fails at this is out as well, and the rest are told again.
        while *self.told.lock() != members {
            let (done, answers) = mpsc::channel();
            for thread in self.threads.iter().filter(|thread| thread.is_in()) {
                thread.order(Order::Members { members: members.clone(), done: done.clone() });
            }
            drop(done);
            answers.iter().for_each(drop);
            *self.told.lock() = members;
            members = ids();
        }
    }

    /// How many locations take part.
    pub(crate) fn members(&self) -> usize {
        self.threads.iter().filter(|thread| thread.is_in()).count()
    }

    /// Names a finished checkpoint in the location of that id; `false` if that failed.
    pub(crate) fn set_checkpoint(&self, id: LocationId, checkpoint: CheckpointRef) -> bool {
        let (done, answer) = mpsc::channel();
        let thread = self.threads.iter().find(|thread| thread.id == id && thread.is_in());
        if let Some(thread) = thread {
            thread.order(Order::Checkpoint { checkpoint, done });
            answer.recv().unwrap_or(false)
        } else {
            false
        }
    }

    /// Lets the location of that id give up its journal up to a group.
    pub(crate) fn truncate(&self, id: LocationId, sequence: u64, position: Position) {
        if let Some(thread) = self.threads.iter().find(|thread| thread.id == id && thread.is_in()) {
            thread.order(Order::Truncate { sequence, position });
        }
    }

    /// Whether the location of that id takes part.
    pub(crate) fn is_member(&self, id: LocationId) -> bool {
        self.threads.iter().any(|thread| thread.id == id && thread.is_in())
    }

    /// The state of every location given at opening.
    pub(crate) fn stats(&self) -> Vec<LocationStats> {
        let mut stats: Vec<LocationStats> =
            self.threads.iter().map(|thread| thread.stats.lock().clone()).collect();
        for (index, absent) in &self.absent {
            stats.insert((*index).min(stats.len()), absent.clone());
        }
        stats
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.orders = None;
        }
        for thread in &mut self.threads {
            if let Some(thread) = thread.thread.take() {
                // A panic there was already counted as the location falling out.
                drop(thread.join());
            }
        }
    }
}

/// A location's thread: does as ordered until the first failure, and refuses from then on.
fn serve(mut writer: JournalWriter, inbox: &Receiver<Order>, stats: &Mutex<LocationStats>) {
    for order in inbox {
        let is_out = stats.lock().out.is_some();
        match order {
            Order::Append { group, done } => {
                let begun = Instant::now();
                let durable = !is_out && note(stats, "append", writer.append(&group));
                let time = begun.elapsed();
                if durable {
                    let mut stats = stats.lock();
                    stats.groups += 1;
                    stats.sync_time += time;
                }
                answer(&done, durable.then_some(time));
                if durable {
                    note(stats, "prepare a segment", writer.prepare(group.header.padded_bytes()));
                    stats.lock().journal_bytes = writer.journal_bytes();
                }
            }
            Order::Members { members, done } => {
                answer(&done, !is_out && note(stats, "note the members", writer.set_members(&members)));
            }
            Order::Checkpoint { checkpoint, done } => {
                let kept = !is_out && note(stats, "name a checkpoint", writer.set_checkpoint(checkpoint));
                if kept {
                    let mut stats = stats.lock();
                    stats.base = checkpoint.point.position;
                    stats.journal_bytes = writer.journal_bytes();
                }
                answer(&done, kept);
            }
            Order::Truncate { sequence, position } => {
                if !is_out && note(stats, "truncate", writer.truncate(sequence)) {
                    let mut stats = stats.lock();
                    stats.base = position;
                    stats.journal_bytes = writer.journal_bytes();
                }
            }
        }
    }
}

/// Whoever asked may be gone while the store closes; nothing depends on it.
fn answer<T>(done: &Sender<T>, value: T) {
    let _: Result<(), _> = done.send(value);
}

fn note(stats: &Mutex<LocationStats>, what: &str, result: io::Result<()>) -> bool {
    if let Err(error) = &result {
        stats.lock().out.get_or_insert_with(|| format!("failed to {what}: {error}"));
    }
    result.is_ok()
}
