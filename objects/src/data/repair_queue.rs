//! Shards known to be missing or damaged, each once, waiting for repair.
//!
//! Bounded: what does not fit is left to the sweep, which finds it in the inventories, or to a scrub of its
//! node. Readers ask what stands here last. A repair that did not work out stays known and is tried again
//! with the next sweep: damage that is forgotten would be counted as redundancy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_chunker::{ChunkId, ShardId, ShardIndex};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) struct RepairQueue {
    state: Mutex<State>,
    shards_max: usize,
    /// Told when something was reported.
    pub(crate) reported: Notify,
    /// Times that something was seen which lets expect more of the same: the next sweep should not wait.
    sweeps_wanted: AtomicU64,
}

type Chunks = BTreeMap<ChunkId, BTreeSet<ShardIndex>>;

#[derive(Default)]
struct State {
    waiting: Chunks,
    /// Chunks being repaired right now, with the shards they were taken with.
    active: Chunks,
    /// Chunks whose repair failed, until the next sweep.
    failed: Chunks,
    /// Shards in the first two, and in the third.
    queued: usize,
    failed_shards: usize,
}

impl State {
    fn knows(&self, shard: ShardId) -> bool {
        [&self.waiting, &self.active, &self.failed]
            .iter()
            .any(|chunks| chunks.get(&shard.chunk).is_some_and(|shards| shards.contains(&shard.shard)))
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// It waits for repair now.
    Queued,
    /// It was known before.
    Known,
    /// There is no room.
    Refused,
}

impl RepairQueue {
    pub(crate) fn new(shards_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            shards_max,
            reported: Notify::new(),
            sweeps_wanted: AtomicU64::new(0),
        }
    }

    /// Queues a shard unless it is known already.
    pub(crate) fn report(&self, shard: ShardId) -> Reported {
        let mut state = self.state.lock();
        if state.knows(shard) {
            return Reported::Known;
        }
        if state.queued >= self.shards_max {
            return Reported::Refused;
        }
        state.waiting.entry(shard.chunk).or_default().insert(shard.shard);
        state.queued += 1;
        drop(state);
        self.reported.notify_one();
        Reported::Queued
    }

    /// Asks for a sweep soon: a shard is missing where one should be, or a node has come back.
    pub(crate) fn want_sweep(&self) {
        self.sweeps_wanted.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a sweep was asked for.
    pub(crate) fn sweeps_wanted(&self) -> u64 {
        self.sweeps_wanted.load(Ordering::Relaxed)
    }

    /// Whether a shard is known to be missing or damaged.
    pub(crate) fn is_known_bad(&self, shard: ShardId) -> bool {
        self.state.lock().knows(shard)
    }

    /// Takes the next chunk to repair; it stays known until [`RepairQueue::done`].
    pub(crate) fn take(&self) -> Option<(ChunkId, BTreeSet<ShardIndex>)> {
        let mut state = self.state.lock();
        // What was reported of a chunk while it is repaired waits for its end.
        let chunk = *state.waiting.keys().find(|chunk| !state.active.contains_key(chunk))?;
        let shards = state.waiting.remove(&chunk)?;
        state.active.insert(chunk, shards.clone());
        Some((chunk, shards))
    }

    /// Ends what was taken; what is not repaired stays known. `false`: there is no room to know it.
    pub(crate) fn done(&self, chunk: ChunkId, repaired: bool) -> bool {
        let mut state = self.state.lock();
        let shards = state.active.remove(&chunk).expect("only what was taken is done");
        state.queued -= shards.len();
        if state.waiting.contains_key(&chunk) {
            self.reported.notify_one();
        }
        let has_room = repaired || state.failed_shards < self.shards_max;
        if !repaired && has_room {
            state.failed_shards += shards.len();
            state.failed.entry(chunk).or_default().extend(shards);
        }
        has_room
    }

    /// Queues again what could not be repaired.
    pub(crate) fn try_failed_again(&self) {
        let mut state = self.state.lock();
        if state.failed.is_empty() {
            return;
        }
        state.queued += std::mem::take(&mut state.failed_shards);
        for (chunk, shards) in std::mem::take(&mut state.failed) {
            state.waiting.entry(chunk).or_default().extend(shards);
        }
        drop(state);
        self.reported.notify_one();
    }

    /// Whether repairs have failed and wait to be tried again.
    pub(crate) fn has_failed(&self) -> bool {
        !self.state.lock().failed.is_empty()
    }

    /// Whether a chunk waits, is being repaired or could not be.
    pub(crate) fn holds(&self, chunk: ChunkId) -> bool {
        let state = self.state.lock();
        [&state.waiting, &state.active, &state.failed].iter().any(|chunks| chunks.contains_key(&chunk))
    }

    /// Shards known to be missing or damaged.
    pub(crate) fn len(&self) -> usize {
        let state = self.state.lock();
        state.queued + state.failed_shards
    }
}
