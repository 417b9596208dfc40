//! [`MemoryKv`]: an [`OrderedKv`] in memory, for tests and for seeded simulation.
//!
//! Keeps every promise but durability. Unlike the embedded engine it can finish commits out of order: a
//! [`CommitHook`] may hold one open while later ones that touch other keys finish, as a database server
//! would, and may make an outcome unknown. The invariant: a held commit owns the keys it checks and writes,
//! so nothing it decided on can change before it applies.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::commit::{Commit, CommitError, Outcome, TransactionId};
use crate::limits;
use crate::ordered_kv::{Direction, KeyRange, OrderedKv, Page, Position, ReadError, Row, Snapshot};
use crate::plan::{self, Change};

/// What becomes of a commit that passed its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It applies and is answered with its position.
    Apply,
    /// It applies, but the caller is told [`CommitError::Unknown`].
    ApplyAnswerLost,
    /// It does not apply, and the caller is told [`CommitError::Unknown`].
    DropAnswerLost,
}

/// Called for every commit between its checks and its effect.
#[async_trait]
pub trait CommitHook: Send + Sync + 'static {
    /// Decides what becomes of `commit`; it stays open until this returns.
    async fn before_apply(&self, position: Position, commit: &Commit) -> Fate;
}

/// An [`OrderedKv`] in memory. Clones share one store.
#[derive(Clone, Default)]
pub struct MemoryKv {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told whenever an open commit ends and gives its keys back.
    released: Notify,
    hook: Option<Box<dyn CommitHook>>,
}

/// Versions are numbered by the order in which commits *applied*, because snapshots see that order; with a
/// commit held open it differs from the order of positions.
#[derive(Default)]
struct State {
    rows: BTreeMap<Bytes, Vec<Version>>,
    applied: u64,
    last_position: u64,
    open: BTreeMap<Position, Vec<Bytes>>,
    owned: HashSet<Bytes>,
    snapshots: BTreeMap<u64, usize>,
    /// Keys with superseded versions, by the commit that superseded them.
    superseded: VecDeque<(u64, Bytes)>,
}

struct Version {
    applied: u64,
    position: Position,
    value: Option<Bytes>,
}

impl State {
    fn row_at(&self, key: &[u8], applied: u64) -> Option<Row> {
        visible(self.rows.get(key)?, applied)
    }

    fn version_of(&self, key: &[u8]) -> Option<Position> {
        self.row_at(key, u64::MAX).map(|row| row.version)
    }

    fn stable_position(&self) -> Position {
        self.open.keys().next().map_or(Position(self.last_position), |open| Position(open.0 - 1))
    }

    fn apply(&mut self, position: Position, changes: Vec<Change>) {
        self.applied += 1;
        let applied = self.applied;
        for Change { key, value } in changes {
            let versions = self.rows.entry(key.clone()).or_default();
            match versions.last_mut() {
                Some(last) if last.applied == applied => last.value = value,
                _ => versions.push(Version { applied, position, value }),
            }
            if versions.len() > 1 || versions.last().is_some_and(|last| last.value.is_none()) {
                self.superseded.push_back((applied, key));
            }
        }
        self.forget_superseded();
    }

    /// Drops versions that no snapshot can see any more.
    fn forget_superseded(&mut self) {
        let oldest = self.snapshots.keys().next().copied().unwrap_or(self.applied);
        while let Some((applied, _)) = self.superseded.front()
            && *applied <= oldest
        {
            let Some((_, key)) = self.superseded.pop_front() else { break };
            let Some(versions) = self.rows.get_mut(&key) else { continue };
            let seen = versions.iter().rposition(|version| version.applied <= oldest).unwrap_or(0);
            versions.drain(..seen);
            if let [only] = &versions[..]
                && only.value.is_none()
                && only.applied <= oldest
            {
                self.rows.remove(&key);
            }
        }
    }
}

fn visible(versions: &[Version], applied: u64) -> Option<Row> {
    let version = versions.iter().rev().find(|version| version.applied <= applied)?;
    version.value.as_ref().map(|value| Row { value: value.clone(), version: version.position })
}

/// A commit that passed its checks and owns its keys. Dropping it unapplied gives the keys back.
struct OpenCommit<'a> {
    shared: &'a Shared,
    position: Position,
}

impl OpenCommit<'_> {
    fn apply(self, changes: Vec<Change>) {
        self.shared.state.lock().apply(self.position, changes);
    }
}

impl Drop for OpenCommit<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        for key in state.open.remove(&self.position).unwrap_or_default() {
            state.owned.remove(&key);
        }
        drop(state);
        self.shared.released.notify_waiters();
    }
}

enum Begun<'a> {
    Open(OpenCommit<'a>),
    AlreadyCommitted(Position),
    KeysOwned,
}

impl MemoryKv {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose commits pass through `hook`.
    #[must_use]
    pub fn with_hook(hook: impl CommitHook) -> Self {
        Self { shared: Arc::new(Shared { hook: Some(Box::new(hook)), ..Shared::default() }) }
    }

    fn begin(&self, commit: &Commit) -> Result<Begun<'_>, CommitError> {
        let mut state = self.shared.state.lock();
        let position = Position(state.last_position + 1);
        let mut keys: Vec<Bytes> =
            plan::changes(commit.clone(), position).into_iter().map(|c| c.key).collect();
        keys.extend(commit.checks.iter().map(|check| check.key().clone()));
        keys.sort();
        keys.dedup();
        if keys.iter().any(|key| state.owned.contains(key)) {
            return Ok(Begun::KeysOwned);
        }
        if let Some(id) = commit.transaction
            && let Some(earlier) = state.version_of(&plan::transaction_key(id))
        {
            return Ok(Begun::AlreadyCommitted(earlier));
        }
        let conflict = plan::first_conflict(commit, |key| Ok::<_, CommitError>(state.version_of(key)))?;
        if let Some(conflict) = conflict {
            return Err(conflict);
        }
        state.last_position = position.0;
        state.owned.extend(keys.iter().cloned());
        state.open.insert(position, keys);
        drop(state);
        Ok(Begun::Open(OpenCommit { shared: &self.shared, position }))
    }

    async fn commit_changes(
        &self,
        commit: Commit,
        plan_changes: impl FnOnce(Commit, Position) -> Vec<Change> + Send,
    ) -> Result<Position, CommitError> {
        let open = loop {
            let released = self.shared.released.notified();
            match self.begin(&commit)? {
                Begun::Open(open) => break open,
                Begun::AlreadyCommitted(position) => return Ok(position),
                Begun::KeysOwned => released.await,
            }
        };
        let position = open.position;
        let fate = match &self.shared.hook {
            Some(hook) => hook.before_apply(position, &commit).await,
            None => Fate::Apply,
        };
        if fate != Fate::DropAnswerLost {
            open.apply(plan_changes(commit, position));
        }
        if fate == Fate::Apply {
            Ok(position)
        } else {
            Err(CommitError::Unknown { cause: "the answer was lost".to_owned() })
        }
    }

    fn view(&self) -> View {
        let mut state = self.shared.state.lock();
        let applied = state.applied;
        *state.snapshots.entry(applied).or_default() += 1;
        View { shared: Arc::clone(&self.shared), applied, position: state.stable_position() }
    }
}

#[async_trait]
impl OrderedKv for MemoryKv {
    async fn commit(&self, commit: Commit) -> Result<Position, CommitError> {
        limits::check_commit(&commit)?;
        self.commit_changes(commit, plan::changes).await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        Ok(Arc::new(self.view()))
    }

    fn stable_position(&self) -> Position {
        self.shared.state.lock().stable_position()
    }

    async fn outcome(&self, id: TransactionId) -> Result<Outcome, ReadError> {
        let key = plan::transaction_key(id);
        loop {
            let released = self.shared.released.notified();
            {
                let state = self.shared.state.lock();
                if !state.owned.contains(&key) {
                    return Ok(state.version_of(&key).map_or(Outcome::NotCommitted, Outcome::Committed));
                }
            }
            released.await;
        }
    }

    async fn expire_transactions(&self, below: Position, limit: usize) -> Result<usize, CommitError> {
        let limit = limit.min(limits::COMMIT_WRITES_MAX / 2);
        let (start, end) = plan::transaction_ages_below(below);
        let ages: Vec<Bytes> = {
            let state = self.shared.state.lock();
            let rows = state.rows.range(start..end);
            let live = rows.filter(|(_, versions)| visible(versions, u64::MAX).is_some());
            live.take(limit).map(|(key, _)| key.clone()).collect()
        };
        if !ages.is_empty() {
            self.commit_changes(Commit::default(), |_, _| plan::forget_transactions(&ages)).await?;
        }
        Ok(ages.len())
    }
}

/// What had applied when it was taken.
struct View {
    shared: Arc<Shared>,
    applied: u64,
    position: Position,
}

impl Drop for View {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if let Some(views) = state.snapshots.get_mut(&self.applied) {
            *views -= 1;
            if *views == 0 {
                state.snapshots.remove(&self.applied);
                state.forget_superseded();
            }
        }
    }
}

#[async_trait]
impl Snapshot for View {
    fn position(&self) -> Position {
        self.position
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Row>, ReadError> {
        limits::check_key(key)?;
        Ok(self.shared.state.lock().row_at(key, self.applied))
    }

    async fn scan(&self, range: KeyRange, direction: Direction, limit: usize) -> Result<Page, ReadError> {
        limits::check_scan_rows(limit)?;
        let (start, end) = range.visible();
        if start >= end {
            return Ok(Page::default());
        }
        let state = self.shared.state.lock();
        let rows =
            state.rows.range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Excluded(end)));
        let seen = |(key, versions): (&Bytes, &Vec<Version>)| {
            visible(versions, self.applied).map(|row| (key.clone(), row))
        };
        Ok(match direction {
            Direction::Forward => page(rows.filter_map(seen), limit),
            Direction::Backward => page(rows.rev().filter_map(seen), limit),
        })
    }
}

fn page(rows: impl Iterator<Item = (Bytes, Row)>, limit: usize) -> Page {
    let mut page = Page::default();
    let mut bytes = 0;
    for (key, row) in rows {
        if page.rows.len() == limit || bytes >= limits::SCAN_BYTES_MAX {
            page.more = true;
            break;
        }
        bytes += key.len() + row.value.len();
        page.rows.push((key, row));
    }
    page
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, watch};

    use super::*;
    use crate::commit::Write;
    use crate::conformance::{Gate, Harness};

    struct GateHook {
        closed: Mutex<bool>,
        reached: watch::Sender<bool>,
        permits: Semaphore,
    }

    #[async_trait]
    impl CommitHook for Arc<GateHook> {
        async fn before_apply(&self, _: Position, _: &Commit) -> Fate {
            if std::mem::take(&mut *self.closed.lock()) {
                self.reached.send_replace(true);
                self.permits.acquire().await.expect("never closed").forget();
            }
            Fate::Apply
        }
    }

    #[async_trait]
    impl Gate for Arc<GateHook> {
        fn close(&self) {
            *self.closed.lock() = true;
        }

        async fn reached(&self) {
            self.reached.subscribe().wait_for(|reached| *reached).await.expect("the hook lives");
        }

        fn open(&self) {
            self.permits.add_permits(1);
        }
    }

    struct InMemory;

    #[async_trait]
    impl Harness for InMemory {
        async fn open(&self) -> Arc<dyn OrderedKv> {
            Arc::new(MemoryKv::new())
        }

        async fn open_gated(&self) -> (Arc<dyn OrderedKv>, Arc<dyn Gate>) {
            let (reached, _) = watch::channel(false);
            let hook = GateHook { closed: Mutex::new(false), reached, permits: Semaphore::new(0) };
            let hook = Arc::new(hook);
            (Arc::new(MemoryKv::with_hook(Arc::clone(&hook))), Arc::new(hook))
        }

        fn finishes_out_of_order(&self) -> bool {
            true
        }
    }

    crate::ordered_kv_conformance!(InMemory);

    struct Lose(Fate);

    #[async_trait]
    impl CommitHook for Lose {
        async fn before_apply(&self, _: Position, commit: &Commit) -> Fate {
            if commit.transaction.is_some() { self.0 } else { Fate::Apply }
        }
    }

    #[tokio::test]
    async fn a_lost_answer_can_be_asked_for() {
        let id = TransactionId([1; 16]);
        let key = Bytes::from_static(b"a");
        let put = Write::Put { key: key.clone(), value: Bytes::new() };
        let commit = Commit { checks: vec![], writes: vec![put], transaction: Some(id) };
        for (fate, applied) in [(Fate::ApplyAnswerLost, true), (Fate::DropAnswerLost, false)] {
            let kv = MemoryKv::with_hook(Lose(fate));
            assert!(matches!(kv.commit(commit.clone()).await, Err(CommitError::Unknown { .. })));
            let row = kv.get(&key).await.unwrap();
            assert_eq!(row.is_some(), applied);
            let outcome = row.map_or(Outcome::NotCommitted, |row| Outcome::Committed(row.version));
            assert_eq!(kv.outcome(id).await.unwrap(), outcome);
            assert_eq!(kv.stable_position(), Position(1));
        }
    }

    #[tokio::test]
    async fn what_nobody_can_see_is_forgotten() {
        let kv = MemoryKv::new();
        let write = |write| kv.commit(Commit { writes: vec![write], ..Commit::default() });
        let key = Bytes::from_static(b"a");
        let snapshot = kv.snapshot().await.unwrap();
        for round in 0..100u8 {
            write(Write::Put { key: key.clone(), value: Bytes::from(vec![round]) }).await.unwrap();
        }
        write(Write::Delete { key: key.clone() }).await.unwrap();
        drop(snapshot);
        let state = kv.shared.state.lock();
        assert!(state.rows.is_empty() && state.superseded.is_empty() && state.snapshots.is_empty());
    }
}
