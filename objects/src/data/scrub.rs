//! The scrub: every shard that metadata names is read whole, slowly, and compared with the root it must have.
//!
//! Goes by metadata and not by inventories, so that a shard which is sound in itself but belongs to an
//! abandoned coding of its chunk is found as well. What is missing or damaged is queued for repair; a node
//! that does not answer is passed over.
//!
//! Rot rarely comes alone: a node where damage was found is scrubbed out of turn. That it is to be is a row
//! in metadata, from soon after the find until the scrub has ended and all it found is repaired, so a restart
//! forgets nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_chunker::{ChunkId, ChunkRoot, ShardId, ShardIndex, UncheckedCommitment};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::ChunkRef;
use ashlar_metadata::namespace::scrubs::{self, ScrubRow};
use ashlar_metadata::{Commit, KeyRange, OrderedKv, Write};
use ashlar_storage_node::{BlockRange, Verify};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Duration, timeout};

use super::Inner;
use super::fetch::layout_of;
use super::nodes::Node;
use super::reach::for_each;
use super::rebuild::SourceFault;
use super::repair_queue::Reported;
use crate::error::Error;

/// Wait for room in the repair queue.
const QUEUE_WAIT: Duration = Duration::from_millis(100);
const WISHES: &str = "noting nodes to scrub";

/// Nodes to be scrubbed out of turn.
#[derive(Default)]
pub(crate) struct ScrubWishes {
    nodes: Mutex<BTreeMap<u16, Wish>>,
    /// Told when a node has no row yet.
    pub(crate) unkept: Notify,
    /// Held while rows are changed, so that they are in the order of the wishes.
    rows: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Default)]
struct Wish {
    /// Times it was wished for, and as many of them as the last scrub began after.
    wished: u64,
    scrubbed: u64,
    /// Whether it has its row.
    is_kept: bool,
}

impl ScrubWishes {
    /// The wishes of earlier lives that are still open.
    pub(crate) async fn open(kv: &dyn OrderedKv) -> Result<Self, Error> {
        let wishes = Self::default();
        let snapshot = kv.snapshot().await.map_err(|e| Error::internal(WISHES, e))?;
        for_each(&*snapshot, KeyRange::prefix(scrubs::prefix()), |key, _| {
            let node = scrubs::parse_key(key);
            let node = node.ok_or_else(|| Error::internal(WISHES, "a key does not read"))?;
            wishes.nodes.lock().insert(node, Wish { wished: 1, scrubbed: 0, is_kept: true });
            Ok(())
        })
        .await?;
        Ok(wishes)
    }

    pub(crate) fn wish(&self, node: u16) {
        let mut nodes = self.nodes.lock();
        let wish = nodes.entry(node).or_default();
        wish.wished += 1;
        if !wish.is_kept {
            self.unkept.notify_one();
        }
    }

    /// Nodes without a row.
    fn not_kept(&self) -> Vec<u16> {
        let nodes = self.nodes.lock();
        nodes.iter().filter(|(_, wish)| !wish.is_kept).map(|(node, _)| *node).collect()
    }

    fn note_kept(&self, node: u16, is_kept: bool) {
        if let Some(wish) = self.nodes.lock().get_mut(&node) {
            wish.is_kept = is_kept;
        }
    }

    /// Nodes of which not all is done yet.
    pub(crate) fn len(&self) -> usize {
        self.nodes.lock().len()
    }

    /// Nodes not scrubbed since they were wished for, with the number of wishes.
    fn open_wishes(&self) -> BTreeMap<u16, u64> {
        let nodes = self.nodes.lock();
        let open = nodes.iter().filter(|(_, wish)| wish.scrubbed < wish.wished);
        open.map(|(node, wish)| (*node, wish.wished)).collect()
    }

    /// Nodes scrubbed since the last wish.
    fn scrubbed(&self) -> Vec<u16> {
        let nodes = self.nodes.lock();
        nodes.iter().filter(|(_, wish)| wish.scrubbed == wish.wished).map(|(node, _)| *node).collect()
    }

    fn note_scrubbed(&self, node: u16, wishes: u64) {
        if let Some(wish) = self.nodes.lock().get_mut(&node) {
            wish.scrubbed = wishes;
        }
    }

    fn forget_scrubbed(&self, node: u16) {
        let mut nodes = self.nodes.lock();
        if nodes.get(&node).is_some_and(|wish| wish.scrubbed == wish.wished) {
            nodes.remove(&node);
        }
    }
}

/// What one scrub came to.
#[derive(Default)]
struct Scrubbed {
    shards: u64,
    /// Nodes that did not answer for every shard.
    silent: BTreeSet<u16>,
}

impl Inner {
    /// A shard is not what its node should hold: it is queued for repair, and more of the same is looked for.
    ///
    /// Of a node that does not answer nothing is known, and nothing is reported.
    pub(super) fn found_at_fault(&self, id: ShardId, node: &Node, fault: SourceFault) {
        if fault == SourceFault::Silent || self.report_at_fault(id, node, fault) == Reported::Known {
            return;
        }
        match fault {
            SourceFault::Missing => self.repairs.want_sweep(),
            _ => self.scrub_wishes.wish(node.id),
        }
    }

    fn report_at_fault(&self, id: ShardId, node: &Node, fault: SourceFault) -> Reported {
        let counters = &self.counters;
        let is_missing = fault == SourceFault::Missing;
        let found = if is_missing { &counters.missing_shards } else { &counters.corrupt_shards };
        let reported = self.repairs.report(id);
        if reported == Reported::Queued {
            found.add(1);
            tracing::warn!(shard = %id, node = node.id, ?fault, "a shard is missing or damaged");
        }
        reported
    }

    /// Scrubs everything once; answers how many shards were read.
    pub(super) async fn scrub_all(self: &Arc<Self>) -> Result<u64, Error> {
        Ok(self.scrub(None).await?.shards)
    }

    /// Scrubs the nodes that are to be scrubbed out of turn and answer, and forgets those that were when
    /// nothing waits for repair.
    pub(super) async fn scrub_wished(self: &Arc<Self>) -> Result<(), Error> {
        let nodes = &self.sink.cluster.nodes;
        let mut wished = self.scrub_wishes.open_wishes();
        wished.retain(|node, wishes| match nodes.get(*node) {
            Some(node) => !node.is_suspect(),
            None => {
                // It is gone for good, and its shards are missing.
                self.scrub_wishes.note_scrubbed(*node, *wishes);
                false
            }
        });
        if !wished.is_empty() {
            tracing::info!(nodes = ?wished.keys(), "scrubbing nodes on which damage was found");
            let scrubbed = self.scrub(Some(&wished.keys().copied().collect())).await?;
            for (node, wishes) in wished.iter().filter(|(node, _)| !scrubbed.silent.contains(node)) {
                self.scrub_wishes.note_scrubbed(*node, *wishes);
            }
        }
        let _rows = self.scrub_wishes.rows.lock().await;
        let done = self.scrub_wishes.scrubbed();
        if !done.is_empty() && self.repairs.len() == 0 {
            // Whoever wishes from here on has to keep it anew.
            done.iter().for_each(|node| self.scrub_wishes.note_kept(*node, false));
            let delete = |node: &u16| Write::Delete { key: scrubs::key(*node) };
            self.commit_wishes(done.iter().map(delete).collect()).await?;
            done.into_iter().for_each(|node| self.scrub_wishes.forget_scrubbed(node));
        }
        Ok(())
    }

    /// Writes down which nodes are to be scrubbed, so that it outlives this process.
    pub(super) async fn keep_scrub_wishes(&self) -> Result<(), Error> {
        let _rows = self.scrub_wishes.rows.lock().await;
        let unkept = self.scrub_wishes.not_kept();
        if unkept.is_empty() {
            return Ok(());
        }
        let row = ScrubRow { session: self.session.id().0 }.encode();
        let keep = |node: &u16| Write::Put { key: scrubs::key(*node), value: row.clone() };
        let kept = self.commit_wishes(unkept.iter().map(keep).collect()).await;
        kept.inspect_err(|_| self.scrub_wishes.unkept.notify_one())?;
        unkept.into_iter().for_each(|node| self.scrub_wishes.note_kept(node, true));
        Ok(())
    }

    async fn commit_wishes(&self, writes: Vec<Write>) -> Result<(), Error> {
        let commit = Commit { checks: vec![self.session.check()], writes, transaction: None };
        self.kv.commit(commit).await.map(|_| ()).map_err(|e| Error::internal(WISHES, e))
    }

    /// Reads what should lie on some nodes, or on all.
    async fn scrub(self: &Arc<Self>, only: Option<&BTreeSet<u16>>) -> Result<Scrubbed, Error> {
        let mut scrubbed = Scrubbed::default();
        let mut blob = None;
        loop {
            let snapshot =
                self.kv.snapshot().await.map_err(|e| Error::internal("reading blobs to scrub", e))?;
            let stretch = self.stretch(&*snapshot, blob).await?;
            drop(snapshot);
            for (chunk, (at, located)) in &stretch.chunks {
                let shard_bytes = u64::from(layout_of(at)?.shard_bytes());
                for (shard, node) in (0..).map(ShardIndex).zip(located) {
                    let Some(node) = node.and_then(|node| self.sink.cluster.nodes.get(node)) else {
                        continue;
                    };
                    if only.is_some_and(|only| !only.contains(&node.id)) {
                        continue;
                    }
                    self.scrub_pace.spend(shard_bytes).await;
                    let fault = self.scrub_shard(*chunk, at, shard, node).await?;
                    self.counters.scrubbed_bytes.add(shard_bytes);
                    scrubbed.shards += 1;
                    let Some(fault) = fault else { continue };
                    if fault == SourceFault::Silent {
                        scrubbed.silent.insert(node.id);
                        continue;
                    }
                    let now = self.find_chunk(*chunk).await?;
                    if now.as_ref().and_then(|row| row.chunk()) != Some(at) {
                        // Deleted or moved meanwhile.
                        continue;
                    }
                    // A node that is being scrubbed out of turn need not be again.
                    match only {
                        Some(_) => self.report_when_there_is_room(chunk.shard(shard), node, fault).await?,
                        None => self.found_at_fault(chunk.shard(shard), node, fault),
                    }
                }
            }
            match stretch.to {
                Some(last) => blob = Some(super::row_id(last)),
                None => return Ok(scrubbed),
            }
        }
    }

    async fn report_when_there_is_room(
        self: &Arc<Self>,
        id: ShardId,
        node: &Node,
        fault: SourceFault,
    ) -> Result<(), Error> {
        while self.report_at_fault(id, node, fault) == Reported::Refused {
            if self.repair_queued().await? == 0 {
                // Others are at it: leave them the time.
                tokio::time::sleep(QUEUE_WAIT).await;
            }
        }
        Ok(())
    }

    /// What is wrong with a shard, if anything is.
    async fn scrub_shard(
        &self,
        chunk: ChunkId,
        at: &ChunkRef,
        shard: ShardIndex,
        node: &Arc<Node>,
    ) -> Result<Option<SourceFault>, Error> {
        let read = node.service.read_with_footer(chunk.shard(shard), BlockRange::ALL, Verify::Caller);
        match timeout(self.config.read_timeout, read).await {
            Ok(Ok(read)) => {
                node.succeeded();
                let root = ChunkRoot::from(at.root);
                let check = move || {
                    let commitment = UncheckedCommitment::decode_bytes(read.footer).ok()?;
                    let commitment = commitment.check(&root).ok()?;
                    let whole = commitment.layout().blocks_range(0..u32::MAX);
                    commitment.verify(shard, 0, read.bytes).ok().filter(|blocks| blocks.range() == whole)
                };
                let sound = self.cpu.run(check).await?.is_some();
                Ok((!sound).then_some(SourceFault::Corrupt))
            }
            Ok(Err(error)) => {
                node.read_failed(&error);
                Ok(Some(SourceFault::from(&error).on(node)))
            }
            Err(_) => {
                node.failed();
                Ok(Some(SourceFault::Silent))
            }
        }
    }
}
