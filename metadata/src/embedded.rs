//! [`EmbeddedKv`]: an [`OrderedKv`] in this process, whose truth is a journal in several folders.
//!
//! Owns opening, closing and the front that callers see. The invariant: a commit is answered after its
//! journal group is durable in every location that takes part, so that any one location, alone, brings back
//! every commit answered while it took part; the rows are the journal's replayable state and may be lost.
//! Deliberately knows nothing of what rows mean.

mod checkpoint;
mod checkpointer;
mod committer;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod group;
mod journals;
mod location;
mod opening;
mod recovery;
mod rows;
mod scan;
mod segment;
mod stats;
mod superblock;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

pub use location::JournalLocation;
pub use opening::OpenReport;
pub use recovery::OpenError;
pub use stats::{LocationStats, Stats};

use crate::commit::{Commit, CommitError, Outcome, TransactionId};
use crate::limits;
use crate::ordered_kv::{Direction, KeyRange, OrderedKv, Page, Position, ReadError, Row, Snapshot};
use crate::plan;
use checkpointer::{Bell, Checkpointer};
use committer::{Committer, Request, Shared, room_kib};
use journals::Journals;
use opening::{Opened, open};
use rows::{RowsError, View};

/// How an embedded store behaves; the defaults suit `ashlar up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Memory for the engine's pages, read and written ones together.
    pub cache_bytes: usize,
    /// Length of a journal segment; commits that do not fit get one of their own.
    pub segment_bytes: u64,
    /// Journal after which the rows are made durable and checkpoints are written. A checkpoint also waits
    /// until the journal is as long as the last one, so that writing them never outweighs the commits.
    pub checkpoint_journal_bytes_min: u64,
    /// Rate at which checkpoints are written, over all locations together.
    pub checkpoint_bytes_per_second: u64,
    /// Locations that must have a commit durable before it is answered; fewer, and the store stops.
    pub locations_min: usize,
    /// Bytes of commits that may wait; further callers wait for room.
    pub queue_bytes_max: usize,
    /// Whether a store is made where all locations are empty. Where something else refers to the store it
    /// must not be: a new one counts from the beginning.
    pub may_make: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            segment_bytes: 16 * 1024 * 1024,
            checkpoint_journal_bytes_min: 64 * 1024 * 1024,
            checkpoint_bytes_per_second: 64 * 1024 * 1024,
            locations_min: 1,
            queue_bytes_max: 64 * 1024 * 1024,
            may_make: true,
        }
    }
}

/// An [`OrderedKv`] in this process.
///
/// The first location is the metadata directory: it holds the rows besides its journal. Dropping the store
/// answers what waits, makes the rows durable and joins its threads, so drop it where blocking is allowed.
pub struct EmbeddedKv {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    bell: Arc<Bell>,
    threads: Vec<JoinHandle<()>>,
    report: OpenReport,
}

impl std::fmt::Debug for EmbeddedKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedKv").field("stable", &self.stable_position()).finish_non_exhaustive()
    }
}

impl EmbeddedKv {
    /// Opens the store in `locations`, or makes one where all are empty and it may. Blocks: replaying reads journals.
    ///
    /// Locations that are empty, damaged or behind are brought up to date from the others. What was found and
    /// done is in [`EmbeddedKv::report`].
    pub fn open(locations: &[JournalLocation], options: &Options) -> Result<Self, OpenError> {
        let opened = open(locations, options)?;
        let Opened { store, rows, view, epoch, writers, absent, first, replicas, report, checkpoint_bytes } =
            opened;
        let kept = |(_, stats): &(_, LocationStats)| stats.journal_bytes;
        let journal_bytes_before = writers.iter().map(kept).max().unwrap_or(0);
        let thread_failed = |error: io::Error| OpenError::Io {
            dir: locations.first().map(|first| first.dir.display().to_string()).unwrap_or_default(),
            cause: format!("no thread could be started: {error}"),
        };
        let journals = Journals::start(writers, absent).map_err(thread_failed)?;
        let shared = Arc::new(Shared::new(store, rows, journals, view));
        let bell = Arc::new(Bell::default());
        let ring = Arc::clone(&bell);
        let locations_min = options.locations_min;
        let progress = Arc::new(move || ring.progress());
        let committer = Committer::new(Arc::clone(&shared), epoch, locations_min, progress);
        let checkpointer = Checkpointer {
            shared: Arc::clone(&shared),
            bell: Arc::clone(&bell),
            first,
            replicas,
            journal_bytes_min: options.checkpoint_journal_bytes_min,
            bytes_per_second: options.checkpoint_bytes_per_second,
            checkpoint_bytes,
            journal_bytes_before,
        };
        let mut store = Self {
            shared,
            room: Arc::new(Semaphore::new(
                options.queue_bytes_max.max(limits::COMMIT_BYTES_MAX + 1024) / 1024,
            )),
            bell,
            threads: Vec::new(),
            report,
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).map_err(thread_failed)
        };
        store.threads.push(spawn("metadata-commit", Box::new(move || committer.run()))?);
        store.threads.push(spawn("metadata-base", Box::new(move || checkpointer.run()))?);
        Ok(store)
    }

    /// What opening found and did.
    #[must_use]
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Counters since opening.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.stats.lock().clone();
        stats.stable_position = self.stable_position();
        stats.locations = self.shared.journals.stats();
        stats
    }

    /// Makes the rows durable and writes checkpoints now, so that reopening replays nothing. Blocks; failures
    /// are in [`Stats::last_checkpoint_failure`]. Answers `false` if the store closed first.
    pub fn checkpoint_now(&self) -> bool {
        self.bell.ask()
    }

    async fn send<T, E>(
        &self,
        request: Request,
        answer: oneshot::Receiver<Result<T, E>>,
        gone: impl Fn(String) -> E,
        lost: impl Fn(String) -> E,
    ) -> Result<T, E> {
        if !self.shared.submit(request) {
            return Err(gone(self.shared.poisoned().unwrap_or_else(|| "it is closing".to_owned())));
        }
        answer.await.unwrap_or_else(|_| Err(lost("the committer ended".to_owned())))
    }
}

impl Drop for EmbeddedKv {
    fn drop(&mut self) {
        self.shared.close();
        self.bell.close();
        for thread in self.threads.drain(..) {
            // A panic there was already told to the callers.
            drop(thread.join());
        }
        if self.shared.poisoned().is_none() {
            // Only saves replaying: the journal has everything.
            drop(self.shared.rows.persist());
        }
    }
}

impl From<RowsError> for ReadError {
    fn from(error: RowsError) -> Self {
        Self::Engine { cause: error.to_string() }
    }
}

#[async_trait]
impl OrderedKv for EmbeddedKv {
    async fn commit(&self, commit: Commit) -> Result<Position, CommitError> {
        let bytes = limits::check_commit(&commit)?;
        let room = Arc::clone(&self.room).acquire_many_owned(room_kib(bytes)).await;
        let room = room.expect("the semaphore is never closed");
        let (answer, answered) = oneshot::channel();
        let gone = |cause| CommitError::Poisoned { cause };
        let lost = |cause| CommitError::Unknown { cause };
        self.send(Request::Commit { commit, answer, _room: room }, answered, gone, lost).await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        Ok(self.shared.view())
    }

    fn stable_position(&self) -> Position {
        self.shared.stable_position()
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Row>, ReadError> {
        limits::check_key(key)?;
        Ok(self.shared.view().get(key)?)
    }

    async fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Row>>, ReadError> {
        limits::check_get_keys(keys.len())?;
        get_many(&self.shared.view(), keys)
    }

    async fn outcome(&self, id: TransactionId) -> Result<Outcome, ReadError> {
        let (answer, answered) = oneshot::channel();
        let poisoned = |cause| ReadError::Poisoned { cause };
        self.send(Request::Outcome { id, answer }, answered, poisoned, poisoned).await
    }

    async fn expire_transactions(&self, below: Position, limit: usize) -> Result<usize, CommitError> {
        let limit = limit.min(limits::COMMIT_WRITES_MAX / 2);
        let (start, end) = plan::transaction_ages_below(below);
        let mut ages: Vec<Bytes> = Vec::new();
        let mut from = start;
        while ages.len() < limit {
            let rows = (limit - ages.len()).min(limits::SCAN_ROWS_MAX);
            let page = self.shared.view().scan(&from, &end, Direction::Forward, rows);
            let page = page.map_err(|error| CommitError::Read { cause: error.to_string() })?;
            ages.extend(page.rows.into_iter().map(|(key, _)| key));
            match ages.last() {
                Some(last) if page.more => from = KeyRange::all().after(last).start,
                _ => break,
            }
        }
        let count = ages.len();
        if count > 0 {
            let (answer, answered) = oneshot::channel();
            let gone = |cause| CommitError::Poisoned { cause };
            let lost = |cause| CommitError::Unknown { cause };
            self.send(Request::Forget { ages, answer }, answered, gone, lost).await?;
        }
        Ok(count)
    }
}

fn get_many(view: &View, keys: &[&[u8]]) -> Result<Vec<Option<Row>>, ReadError> {
    keys.iter().map(|key| Ok(limits::check_key(key).map(|()| view.get(key))??)).collect()
}

#[async_trait]
impl Snapshot for View {
    fn position(&self) -> Position {
        self.point.position
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Row>, ReadError> {
        limits::check_key(key)?;
        Ok(View::get(self, key)?)
    }

    async fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Row>>, ReadError> {
        limits::check_get_keys(keys.len())?;
        get_many(self, keys)
    }

    async fn scan(&self, range: KeyRange, direction: Direction, limit: usize) -> Result<Page, ReadError> {
        limits::check_scan_rows(limit)?;
        let (start, end) = range.visible();
        Ok(View::scan(self, start, end, direction, limit)?)
    }
}
