//! The one thread that commits: takes all waiting commits as one group, decides each against the rows and
//! the group so far, makes the group durable, applies it, answers.
//!
//! Invariant: nothing is answered, and nothing becomes visible, before the group it depends on is durable in
//! every location that takes part; a group is decided only on durable state and itself. Deliberately runs
//! outside the async runtime: it blocks on disks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::fields::len_u64;
use super::group::{GROUP_BODY_BYTES_MAX, Group, GroupBuilder, JournalPoint, StoreId};
use super::journals::Journals;
use super::rows::{Overlay, Rows, RowsError, View};
use super::stats::Stats;
use crate::commit::{Commit, CommitError, Outcome, TransactionId};
use crate::limits;
use crate::ordered_kv::{Position, ReadError};
use crate::plan::{self, Change};

/// Most commits in one group.
const GROUP_COMMITS_MAX: usize = 4096;
/// A group is closed by the commit that reaches this many bytes.
const GROUP_BYTES_TARGET: usize = 8 * 1024 * 1024;
/// Bytes around each change in a record, and to spare.
const CHANGE_BYTES: usize = 16;
const _: () = assert!(
    GROUP_BYTES_TARGET + limits::COMMIT_BYTES_MAX + limits::COMMIT_WRITES_MAX * CHANGE_BYTES
        < GROUP_BODY_BYTES_MAX,
    "a group closed by the largest commit must read back"
);

/// What a caller waits for.
pub(crate) enum Request {
    /// Checks and writes.
    Commit {
        commit: Commit,
        answer: oneshot::Sender<Result<Position, CommitError>>,
        _room: OwnedSemaphorePermit,
    },
    /// The removal of the transactions of these age rows.
    Forget { ages: Vec<Bytes>, answer: oneshot::Sender<Result<Position, CommitError>> },
    /// What became of a transaction; asked in turn, so after whatever was sent before.
    Outcome { id: TransactionId, answer: oneshot::Sender<Result<Outcome, ReadError>> },
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

/// What the committer shares with callers and the checkpointer.
pub(crate) struct Shared {
    pub(crate) store: StoreId,
    pub(crate) rows: Rows,
    pub(crate) journals: Journals,
    /// The newest durable state.
    pub(crate) view: RwLock<Arc<View>>,
    pub(crate) stats: Mutex<Stats>,
    /// Bytes appended since opening, for whoever decides when to make a base durable.
    pub(crate) journal_bytes: AtomicU64,
    stable: AtomicU64,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Shared {
    pub(crate) fn new(store: StoreId, rows: Rows, journals: Journals, view: View) -> Self {
        let stable = AtomicU64::new(view.point.position.0);
        Self {
            store,
            rows,
            journals,
            view: RwLock::new(Arc::new(view)),
            stats: Mutex::default(),
            journal_bytes: AtomicU64::new(0),
            stable,
            waiting: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    /// Queues a request; `false` when the store closes.
    pub(crate) fn submit(&self, request: Request) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return false;
        }
        waiting.requests.push_back(request);
        drop(waiting);
        self.arrived.notify_one();
        true
    }

    /// Lets the committer end once it has answered what waits.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    pub(crate) fn stable_position(&self) -> Position {
        Position(self.stable.load(Ordering::Acquire))
    }

    pub(crate) fn poisoned(&self) -> Option<String> {
        self.stats.lock().poisoned.clone()
    }

    /// The next group's requests; `None` at the end.
    fn take(&self) -> Option<Vec<Request>> {
        let mut waiting = self.waiting.lock();
        while waiting.requests.is_empty() {
            if waiting.closed {
                return None;
            }
            self.arrived.wait(&mut waiting);
        }
        let count = waiting.requests.len().min(GROUP_COMMITS_MAX);
        Some(waiting.requests.drain(..count).collect())
    }
}

/// An answer that is held back until the group is durable.
enum Answer {
    Commit(oneshot::Sender<Result<Position, CommitError>>, Result<Position, CommitError>),
    Outcome(oneshot::Sender<Result<Outcome, ReadError>>, Result<Outcome, ReadError>),
}

impl Answer {
    /// A caller that went away does not want it.
    fn send(self) {
        match self {
            Self::Commit(to, result) => drop(to.send(result)),
            Self::Outcome(to, result) => drop(to.send(result)),
        }
    }

    /// The answer when the group's fate is not known.
    fn fail(self, cause: &str) {
        let cause = cause.to_owned();
        match self {
            Self::Commit(to, Ok(_)) => drop(to.send(Err(CommitError::Unknown { cause }))),
            Self::Commit(to, Err(_)) => drop(to.send(Err(CommitError::Poisoned { cause }))),
            Self::Outcome(to, _) => drop(to.send(Err(ReadError::Poisoned { cause }))),
        }
    }
}

/// A group being decided.
struct Deciding<'a> {
    view: &'a View,
    group: GroupBuilder,
    overlay: Overlay,
    next: Position,
    conflicts: u64,
}

impl Deciding<'_> {
    fn version(&self, key: &Bytes) -> Result<Option<Position>, RowsError> {
        match self.overlay.get(key) {
            Some((position, value)) => Ok(value.as_ref().map(|_| *position)),
            None => self.view.version(key),
        }
    }

    fn transaction(&self, id: TransactionId) -> Result<Option<Position>, RowsError> {
        self.version(&plan::transaction_key(id))
    }

    fn write(&mut self, make: impl FnOnce(Position) -> Vec<Change>) -> Position {
        let position = self.next;
        self.next = Position(position.0 + 1);
        let changes = make(position);
        self.group.push(position, &changes);
        for Change { key, value } in changes {
            self.overlay.insert(key, (position, value));
        }
        position
    }

    fn commit(&mut self, commit: Commit) -> Result<Position, CommitError> {
        let read = |error: RowsError| CommitError::Read { cause: error.to_string() };
        if let Some(id) = commit.transaction
            && let Some(earlier) = self.transaction(id).map_err(read)?
        {
            return Ok(earlier);
        }
        if let Some(conflict) = plan::first_conflict(&commit, |key| self.version(key)).map_err(read)? {
            self.conflicts += 1;
            return Err(conflict);
        }
        Ok(self.write(|position| plan::changes(commit, position)))
    }

    fn outcome(&self, id: TransactionId) -> Result<Outcome, ReadError> {
        match self.transaction(id) {
            Ok(found) => Ok(found.map_or(Outcome::NotCommitted, Outcome::Committed)),
            Err(error) => Err(ReadError::Engine { cause: error.to_string() }),
        }
    }
}

/// Owns the order of commits.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    epoch: u64,
    locations_min: usize,
    /// Told after each group.
    progress: Arc<dyn Fn() + Send + Sync>,
}

/// Ends waiting callers even if the thread should panic.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.close();
        if std::thread::panicking() {
            let cause = "the committer ended unexpectedly".to_owned();
            self.0.stats.lock().poisoned.get_or_insert(cause);
        }
        // Dropping the requests tells their callers.
        self.0.waiting.lock().requests.clear();
    }
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        epoch: u64,
        locations_min: usize,
        progress: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self { shared, epoch, locations_min, progress }
    }

    /// Commits until the store closes.
    pub(crate) fn run(self) {
        let _ending = Ending(&self.shared);
        let mut left: VecDeque<Request> = VecDeque::new();
        loop {
            if left.is_empty() {
                match self.shared.take() {
                    Some(requests) => left.extend(requests),
                    None => return,
                }
            }
            self.commit_group(&mut left);
            (self.progress)();
        }
    }

    fn commit_group(&self, requests: &mut VecDeque<Request>) {
        if let Some(cause) = self.shared.poisoned() {
            requests.drain(..).for_each(|request| refuse(request, &cause));
            return;
        }
        let view = self.shared.view();
        let mut deciding = Deciding {
            view: &view,
            group: GroupBuilder::new(&view.point, self.epoch),
            overlay: Overlay::new(),
            next: Position(view.point.position.0 + 1),
            conflicts: 0,
        };
        let mut answers = Vec::with_capacity(requests.len());
        // Room in the queue is given back when the answers go out, not when a request is taken.
        let mut rooms = Vec::with_capacity(requests.len());
        while deciding.group.body_bytes() < GROUP_BYTES_TARGET
            && let Some(request) = requests.pop_front()
        {
            answers.push(match request {
                Request::Commit { commit, answer, _room } => {
                    rooms.push(_room);
                    Answer::Commit(answer, deciding.commit(commit))
                }
                Request::Forget { ages, answer } => {
                    Answer::Commit(answer, Ok(deciding.write(|_| plan::forget_transactions(&ages))))
                }
                Request::Outcome { id, answer } => Answer::Outcome(answer, deciding.outcome(id)),
            });
        }
        let Deciding { group, overlay, conflicts, .. } = deciding;
        self.shared.stats.lock().conflicts += conflicts;
        let result = if group.records() == 0 { Ok(()) } else { self.write_group(&group.finish(), &overlay) };
        match result {
            Ok(()) => answers.into_iter().for_each(Answer::send),
            Err(cause) => {
                self.shared.stats.lock().poisoned = Some(cause.clone());
                answers.into_iter().for_each(|answer| answer.fail(&cause));
            }
        }
    }

    /// Makes a group durable and then visible.
    fn write_group(&self, group: &Group, overlay: &Overlay) -> Result<(), String> {
        let shared = &self.shared;
        let point: JournalPoint = group.header.after;
        let appending = shared.journals.append(group);
        // While the disks sync: the changes wait in an engine transaction that nobody sees.
        let staged = shared.rows.stage(shared.store, &point, overlay);
        let appended = shared.journals.wait(appending);
        let applying = Instant::now();
        let members = shared.journals.members();
        let durable = appended.durable.min(members);
        if durable < self.locations_min.max(1) {
            let locations = shared.journals.stats();
            let causes: Vec<String> =
                locations.into_iter().filter_map(|at| Some(format!("{}: {}", at.dir, at.out?))).collect();
            let min = self.locations_min.max(1);
            return Err(format!(
                "{durable} journal locations have the commit, {min} must: {}",
                causes.join("; ")
            ));
        }
        let failed = |error: RowsError| format!("the row store failed: {error}");
        staged.and_then(super::rows::Staged::commit).map_err(failed)?;
        let view = Arc::new(shared.rows.view(point).map_err(failed)?);
        // Taken out under the lock and dropped after it: a view may have to free pages.
        let before = std::mem::replace(&mut *shared.view.write(), view);
        drop(before);
        shared.stable.store(point.position.0, Ordering::Release);
        let bytes = group.header.padded_bytes();
        shared.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut stats = shared.stats.lock();
        stats.groups += 1;
        stats.commits += u64::from(group.header.records);
        stats.journal_bytes += bytes;
        stats.sync_time += appended.time;
        stats.sync_time_max = stats.sync_time_max.max(appended.time);
        stats.apply_time += applying.elapsed();
        Ok(())
    }
}

fn refuse(request: Request, cause: &str) {
    let cause = cause.to_owned();
    match request {
        Request::Commit { answer, .. } | Request::Forget { answer, .. } => {
            drop(answer.send(Err(CommitError::Poisoned { cause })));
        }
        Request::Outcome { answer, .. } => drop(answer.send(Err(ReadError::Poisoned { cause }))),
    }
}

/// The bytes of queue room that a commit takes, in KiB.
pub(crate) fn room_kib(bytes: usize) -> u32 {
    u32::try_from(len_u64(bytes) / 1024 + 1).expect("a commit is bounded by COMMIT_BYTES_MAX")
}
