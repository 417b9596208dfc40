//! What the data path counts, for metrics and for `ashlar nodes`.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, or a level that is set.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, level: u64) {
        self.0.store(level, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters themselves; each is documented by the field of [`DataStats`] of its name.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) degraded_reads: Count,
    pub(crate) hedged_reads: Count,
    pub(crate) corrupt_shards: Count,
    pub(crate) missing_shards: Count,
    pub(crate) contradictions: Count,
    pub(crate) substituted_shards: Count,
    pub(crate) shrunk_chunks: Count,
    pub(crate) repaired_shards: Count,
    pub(crate) repair_failures: Count,
    pub(crate) repaired_bytes: Count,
    pub(crate) sweep_missing_shards: Count,
    pub(crate) sweep_chunks: Count,
    pub(crate) sweeps_done: Count,
    pub(crate) scrubbed_bytes: Count,
    pub(crate) gc_dead_rows: Count,
    pub(crate) gc_collected_blobs: Count,
    pub(crate) gc_orphans_deleted: Count,
    pub(crate) gc_orphan_bytes_deleted: Count,
    pub(crate) gc_orphans_waiting: Count,
}

/// A moment's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataStats {
    /// Chunk ranges that were read with parity.
    pub degraded_reads: u64,
    /// Reads asked twice because the first was slow.
    pub hedged_reads: u64,
    /// Shards found damaged.
    pub corrupt_shards: u64,
    /// Shards found missing by reads.
    pub missing_shards: u64,
    /// Rebuilt cells that contradicted their commitment: must stay zero.
    pub contradictions: u64,
    /// Shards that went to a substitute because their node failed while being written.
    pub substituted_shards: u64,
    /// Chunks coded anew with fewer data shards because there was no substitute.
    pub shrunk_chunks: u64,
    /// Shards rebuilt and stored again.
    pub repaired_shards: u64,
    /// Bytes of them.
    pub repaired_bytes: u64,
    /// Repairs that did not work out; the sweep tries again.
    pub repair_failures: u64,
    /// Shards that wait for repair.
    pub repair_queue: u64,
    /// Shards that the last whole sweep found missing or misplaced and could not restore.
    pub sweep_missing_shards: u64,
    /// Chunks that the last whole sweep looked at.
    pub sweep_chunks: u64,
    /// Whole sweeps since the start.
    pub sweeps_done: u64,
    /// Bytes scrubbed.
    pub scrubbed_bytes: u64,
    /// Nodes that are to be scrubbed out of turn, because damage was found there and perhaps not all of it.
    pub scrub_nodes: u64,
    /// Rows in the queue of the dead, as last seen.
    pub gc_dead_rows: u64,
    /// Blobs collected.
    pub gc_collected_blobs: u64,
    /// Orphaned shards deleted.
    pub gc_orphans_deleted: u64,
    /// Bytes of them.
    pub gc_orphan_bytes_deleted: u64,
    /// Shards without a row, as the last sweep saw them, whose blob may still be in flight.
    pub gc_orphans_waiting: u64,
    /// Bytes of uploads in memory.
    pub write_bytes_used: u64,
    /// Most that there can be.
    pub write_bytes_limit: u64,
    /// Bytes read and not yet taken by clients.
    pub read_bytes_used: u64,
    /// Where readers are held to one block at a time.
    pub read_bytes_limit: u64,
    /// Reads open.
    pub readers: u64,
    /// Bytes of commitments kept.
    pub commitment_bytes: u64,
    /// Blobs being written or waiting for their commit.
    pub blobs_in_flight: u64,
    /// Nodes.
    pub nodes: u64,
    /// Nodes that take writes.
    pub nodes_writable: u64,
    /// Whether the last whole sweep found every shard in its place, and since it began no shard was found
    /// missing, no node fell silent, and all damage found has been repaired and looked for around it.
    pub redundancy_full: bool,
}

impl super::Inner {
    pub(super) fn stats(&self) -> DataStats {
        let counters = &self.counters;
        let count = |number: usize| u64::try_from(number).expect("usize fits u64");
        let (write_used, write_limit) = self.write_budget.used_and_limit();
        let (read_bytes_used, read_bytes_limit) = self.read_budget.used_and_limit();
        let repair_queue = count(self.repairs.len());
        let swept = counters.sweeps_done.get() > 0 && counters.sweep_missing_shards.get() == 0;
        let scrub_nodes = count(self.scrub_wishes.len());
        let is_at_rest = repair_queue == 0 && scrub_nodes == 0 && !self.is_sweep_wanted();
        DataStats {
            degraded_reads: counters.degraded_reads.get(),
            hedged_reads: counters.hedged_reads.get(),
            corrupt_shards: counters.corrupt_shards.get(),
            missing_shards: counters.missing_shards.get(),
            contradictions: counters.contradictions.get(),
            substituted_shards: counters.substituted_shards.get(),
            shrunk_chunks: counters.shrunk_chunks.get(),
            repaired_shards: counters.repaired_shards.get(),
            repaired_bytes: counters.repaired_bytes.get(),
            repair_failures: counters.repair_failures.get(),
            repair_queue,
            sweep_missing_shards: counters.sweep_missing_shards.get(),
            sweep_chunks: counters.sweep_chunks.get(),
            sweeps_done: counters.sweeps_done.get(),
            scrubbed_bytes: counters.scrubbed_bytes.get(),
            scrub_nodes,
            gc_dead_rows: counters.gc_dead_rows.get(),
            gc_collected_blobs: counters.gc_collected_blobs.get(),
            gc_orphans_deleted: counters.gc_orphans_deleted.get(),
            gc_orphan_bytes_deleted: counters.gc_orphan_bytes_deleted.get(),
            gc_orphans_waiting: counters.gc_orphans_waiting.get(),
            write_bytes_used: count(write_used),
            write_bytes_limit: count(write_limit),
            read_bytes_used,
            read_bytes_limit,
            readers: count(self.read_budget.readers()),
            commitment_bytes: count(self.commitments.bytes()),
            blobs_in_flight: count(self.session.in_flight()),
            nodes: count(self.sink.cluster.nodes.all().count()),
            nodes_writable: count(self.sink.cluster.nodes.writable()),
            redundancy_full: swept && is_at_rest,
        }
    }
}
