//! Shards known to be missing or damaged, each once, waiting for repair.
//!
//! Bounded: what does not fit is left to the sweep, which finds it in the inventories. Readers go around
//! what stands here without asking its node again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use ashlar_chunker::{ChunkId, ShardId, ShardIndex};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) struct RepairQueue {
    state: Mutex<State>,
    shards_max: usize,
    /// Told when something was reported.
    pub(crate) reported: Notify,
    /// Whether something was seen that lets expect more of the same: the next sweep should not wait.
    sweep_wanted: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<ChunkId, BTreeSet<ShardIndex>>,
    /// Chunks being repaired right now, with the shards they were taken with.
    active: BTreeMap<ChunkId, BTreeSet<ShardIndex>>,
    shards: usize,
}

impl RepairQueue {
    pub(crate) fn new(shards_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            shards_max,
            reported: Notify::new(),
            sweep_wanted: AtomicBool::new(false),
        }
    }

    /// Queues a shard unless it waits already; `false` when there is no room.
    pub(crate) fn report(&self, shard: ShardId) -> bool {
        let mut state = self.state.lock();
        let known = |chunks: &BTreeMap<ChunkId, BTreeSet<ShardIndex>>| {
            chunks.get(&shard.chunk).is_some_and(|shards| shards.contains(&shard.shard))
        };
        if known(&state.waiting) || known(&state.active) {
            return true;
        }
        if state.shards >= self.shards_max {
            return false;
        }
        state.waiting.entry(shard.chunk).or_default().insert(shard.shard);
        state.shards += 1;
        drop(state);
        self.reported.notify_one();
        true
    }

    /// Asks for a sweep soon: a shard is missing where one should be, or a node has come back.
    pub(crate) fn want_sweep(&self) {
        self.sweep_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether a sweep was asked for since the last one began.
    pub(crate) fn is_sweep_wanted(&self) -> bool {
        self.sweep_wanted.load(Ordering::Relaxed)
    }

    /// A sweep begins: what is asked for from now on is for the next one.
    pub(crate) fn sweep_begins(&self) {
        self.sweep_wanted.store(false, Ordering::Relaxed);
    }

    /// Whether a shard is known to be missing or damaged.
    pub(crate) fn is_known_bad(&self, shard: ShardId) -> bool {
        let state = self.state.lock();
        if state.shards == 0 {
            return false;
        }
        let has = |chunks: &BTreeMap<ChunkId, BTreeSet<ShardIndex>>| {
            chunks.get(&shard.chunk).is_some_and(|shards| shards.contains(&shard.shard))
        };
        has(&state.waiting) || has(&state.active)
    }

    /// Takes the next chunk to repair; it stays known until [`RepairQueue::done`].
    pub(crate) fn take(&self) -> Option<(ChunkId, BTreeSet<ShardIndex>)> {
        let mut state = self.state.lock();
        let (chunk, shards) = state.waiting.pop_first()?;
        state.active.entry(chunk).or_default().extend(shards.iter().copied());
        Some((chunk, shards))
    }

    /// Ends what was taken, repaired or not.
    pub(crate) fn done(&self, chunk: ChunkId) {
        let mut state = self.state.lock();
        state.active.remove(&chunk);
        let count = |chunks: &BTreeMap<ChunkId, BTreeSet<ShardIndex>>| {
            chunks.values().map(BTreeSet::len).sum::<usize>()
        };
        state.shards = count(&state.waiting) + count(&state.active);
    }

    /// Whether a chunk waits or is being repaired.
    pub(crate) fn holds(&self, chunk: ChunkId) -> bool {
        let state = self.state.lock();
        state.waiting.contains_key(&chunk) || state.active.contains_key(&chunk)
    }

    /// Shards waiting or being repaired.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().shards
    }
}
