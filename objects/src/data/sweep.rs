//! The sweep: what metadata says and what nodes hold, compared from one end to the other.
//!
//! Both are read in id order, a stretch at a time: first the bounds of what is over, then a snapshot with the
//! stretch's rows, then the inventories. A shard that should be somewhere and is not is queued for repair;
//! one that should be nowhere is deleted when its blob is over; one that lies in the wrong place when the
//! right one has it. Every stretch stands alone, so a sweep may end and begin anywhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use ashlar_chunker::{ChunkId, ShardId, ShardIndex};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{self, BlobRow, CHUNKS_PER_PAGE, ChunkPage, ChunkRef};
use ashlar_metadata::{Direction, KeyRange, Snapshot};
use ashlar_storage_node::LIST_LIMIT_MAX;
use tokio::time::{Duration, Instant, timeout};

use super::Inner;
use super::gc::Batch;
use super::nodes::{Node, REBUILD_AFTER};
use super::reach::Reach;
use super::repair_queue::Reported;
use crate::error::Error;

/// Blob rows, and chunks, after which a stretch ends.
const STRETCH_BLOBS: usize = 1000;
const STRETCH_CHUNKS: usize = 4000;
/// Wait for room in the repair queue.
const QUEUE_WAIT: Duration = Duration::from_millis(100);
const READING: &str = "reading blobs for the sweep";

/// What one whole sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Chunks looked at.
    pub(crate) chunks: u64,
    /// Shards that are not where they should be, those of silent nodes included.
    pub(crate) missing: u64,
    /// Orphans and strays deleted.
    pub(crate) deleted: u64,
    /// Bytes of them.
    pub(crate) deleted_bytes: u64,
    /// Shards without a row whose blob may still get one.
    pub(crate) waiting: u64,
}

/// One stretch of ids: after `from`, up to and including blob `to` (`None`: to the end).
pub(super) struct Stretch {
    from: Option<ShardId>,
    pub(super) to: Option<ashlar_chunker::BlobId>,
    /// The stretch's chunks, and the node on which each of their shards belongs.
    pub(super) chunks: BTreeMap<ChunkId, (ChunkRef, Vec<Option<u16>>)>,
}

impl Inner {
    /// Whether it is time: soon after the start, often while something is missing, rarely otherwise.
    pub(super) fn is_sweep_due(&self) -> bool {
        let missing = self.counters.sweep_missing_shards.get() > 0;
        let degraded = missing || self.is_sweep_wanted() || self.repairs.has_failed();
        let last = *self.last_sweep.lock();
        last.is_none_or(|last| degraded || last.elapsed() >= self.config.sweep_interval)
    }

    /// Whether anything was seen since the last whole sweep began that it may not know of.
    pub(super) fn is_sweep_wanted(&self) -> bool {
        self.last_sweep_trouble.load(Ordering::Acquire) != self.trouble()
    }

    /// Grows whenever a shard may be missing that was not before: a read missed one, a node fell silent or
    /// came back.
    fn trouble(&self) -> u64 {
        self.repairs.sweeps_wanted() + self.sink.cluster.nodes.doubts()
    }

    /// Compares everything once. With `repair`, waits for room in the repair queue by repairing.
    pub(super) async fn sweep(self: &std::sync::Arc<Self>, repair: bool) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let trouble = self.trouble();
        self.repairs.try_failed_again();
        let (reach, mut snapshot) = self.reach().await?;
        let mut blob: Option<blobs::BlobId> = None;
        loop {
            let begun = Instant::now();
            let stretch = self.stretch(&*snapshot, blob).await?;
            drop(snapshot);
            let reports = self.compare(&reach, &stretch, &mut swept).await?;
            for shard in reports {
                while repair && self.repairs.report(shard) == Reported::Refused {
                    if self.repair_queued().await? == 0 {
                        // Others are at it: leave them the time.
                        tokio::time::sleep(QUEUE_WAIT).await;
                    }
                }
            }
            let Some(last) = stretch.to else { break };
            blob = Some(super::row_id(last));
            // A fifth of the time at most: a sweep of many millions must not be felt.
            tokio::time::sleep(begun.elapsed() * 4).await;
            snapshot = self.kv.snapshot().await.map_err(|e| Error::internal(READING, e))?;
        }
        let counters = &self.counters;
        counters.sweep_chunks.set(swept.chunks);
        counters.sweep_missing_shards.set(swept.missing);
        counters.gc_orphans_waiting.set(swept.waiting);
        self.last_sweep_trouble.store(trouble, Ordering::Release);
        counters.sweeps_done.add(1);
        *self.last_sweep.lock() = Some(Instant::now());
        Ok(swept)
    }

    /// The blobs after `after`, as many as make a stretch.
    pub(super) async fn stretch(
        &self,
        snapshot: &dyn Snapshot,
        after: Option<blobs::BlobId>,
    ) -> Result<Stretch, Error> {
        let all = KeyRange::prefix(blobs::prefix());
        let range = after.map_or_else(|| all.clone(), |blob| all.after(&blobs::key(blob)));
        let page = snapshot.scan(range, Direction::Forward, STRETCH_BLOBS).await;
        let page = page.map_err(|e| Error::internal(READING, e))?;
        let last_shard =
            |blob: blobs::BlobId| super::chunker_id(blob).chunk(u32::MAX).shard(ShardIndex(u8::MAX));
        let mut stretch = Stretch { from: after.map(last_shard), to: None, chunks: BTreeMap::new() };
        let mut to = None;
        for (key, row) in &page.rows {
            let id = blobs::parse_key(key).ok_or_else(|| Error::internal(READING, "a key does not read"))?;
            let row = BlobRow::decode(&row.value).map_err(|e| Error::internal(READING, e))?;
            let blob = super::chunker_id(id);
            let mut chunks = row.chunks;
            for page in 1..row.chunk_count.div_ceil(CHUNKS_PER_PAGE).max(1) {
                let found = snapshot
                    .get(&blobs::page_key(id, page))
                    .await
                    .map_err(|e| Error::internal(READING, e))?;
                let found = found
                    .ok_or_else(|| Error::internal(READING, format!("blob {blob} lacks page {page}")))?;
                chunks.extend(ChunkPage::decode(&found.value).map_err(|e| Error::internal(READING, e))?.0);
            }
            for (index, at) in (0..).zip(chunks) {
                let chunk = blob.chunk(index);
                let located = self.sink.cluster.locate(chunk, &at).await?;
                stretch.chunks.insert(chunk, (at, located));
            }
            to = Some(blob);
            if stretch.chunks.len() >= STRETCH_CHUNKS {
                stretch.to = to;
                return Ok(stretch);
            }
        }
        if page.more {
            stretch.to = to;
        }
        Ok(stretch)
    }

    /// Compares a stretch with the inventories; answers what is to be repaired.
    async fn compare(
        &self,
        reach: &Reach,
        stretch: &Stretch,
        swept: &mut Swept,
    ) -> Result<Vec<ShardId>, Error> {
        let mut held: HashMap<u16, BTreeMap<ShardId, u32>> = HashMap::new();
        for node in self.sink.cluster.nodes.all() {
            if let Some(inventory) = self.inventory(node, stretch).await {
                held.insert(node.id, inventory);
            }
        }
        let mut reports = Vec::new();
        for (chunk, (_, located)) in &stretch.chunks {
            swept.chunks += 1;
            for (shard, node) in (0..).map(ShardIndex).zip(located) {
                let id = chunk.shard(shard);
                let node = node.and_then(|node| self.sink.cluster.nodes.get(node));
                match node.map(|node| (node, held.get(&node.id))) {
                    Some((_, Some(inventory))) if inventory.contains_key(&id) => continue,
                    Some((_, Some(_))) | None => reports.push(id),
                    Some((node, None)) if node.silent_for() >= REBUILD_AFTER => reports.push(id),
                    Some((_, None)) => {}
                }
                swept.missing += 1;
            }
        }
        let mut batch = Batch::default();
        for (node, inventory) in &held {
            for (id, bytes) in inventory {
                let belongs = match stretch.chunks.get(&id.chunk) {
                    // A stray goes only when its like is at home, or has none, and no repair is moving it.
                    Some(_) if self.repairs.holds(id.chunk) => true,
                    Some((_, located)) => located.get(id.shard.position()).is_some_and(|home| {
                        let home_has =
                            home.is_some_and(|home| held.get(&home).is_some_and(|h| h.contains_key(id)));
                        *home == Some(*node) || !home_has
                    }),
                    None => {
                        let over = reach.is_over(id.chunk.blob);
                        swept.waiting += u64::from(!over);
                        !over
                    }
                };
                if !belongs {
                    batch.shard(*node, *id);
                    swept.deleted += 1;
                    swept.deleted_bytes += u64::from(*bytes);
                    self.counters.gc_orphans_deleted.add(1);
                    self.counters.gc_orphan_bytes_deleted.add(u64::from(*bytes));
                }
            }
        }
        self.delete(&mut batch).await?;
        Ok(reports)
    }

    /// What a node holds of a stretch; `None` when it does not answer.
    pub(super) async fn inventory(&self, node: &Node, stretch: &Stretch) -> Option<BTreeMap<ShardId, u32>> {
        let mut inventory = BTreeMap::new();
        let mut after = stretch.from;
        // A stretch that ends somewhere has about a shard a chunk here; what comes after it is read in vain.
        let limit = match stretch.to {
            Some(_) => (stretch.chunks.len() + 64).min(LIST_LIMIT_MAX),
            None => LIST_LIMIT_MAX,
        };
        loop {
            let page = timeout(self.config.read_timeout, node.service.list(after, limit)).await;
            let Ok(Ok(page)) = page else {
                node.failed();
                return None;
            };
            for entry in &page {
                if stretch.to.is_some_and(|to| entry.id.chunk.blob > to) {
                    return Some(inventory);
                }
                inventory.insert(entry.id, entry.bytes);
            }
            match page.last() {
                Some(last) if page.len() == limit => after = Some(last.id),
                _ => return Some(inventory),
            }
        }
    }
}
