//! Repair: shards that are missing or damaged are rebuilt from k others and stored again.
//!
//! Invariant: what is stored was rebuilt from checked sources and checked itself. A shard goes home when its
//! node takes it, else to a substitute that holds no other shard of the chunk; then the chunk's row is
//! changed by a commit that checks the row as read, so that a chunk collected meanwhile stays gone (what was
//! put for it is an orphan).

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_chunker::{CheckedBlocks, ChunkCommitment, ChunkId, ChunkRoot, ShardIndex, UncheckedCommitment};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{self, BlobRow, CHUNKS_PER_PAGE, ChunkPage, ChunkRef};
use ashlar_metadata::{Check, Commit, CommitError, Position, Write};
use ashlar_storage_node::{PutError, ShardPut};
use bytes::Bytes;
use tokio::time::timeout;

use super::fetch::layout_of;
use super::nodes::{Node, REBUILD_AFTER};
use super::rebuild::SourceFault;
use super::{Inner, placement};
use crate::error::Error;

/// Times a chunk's row is read again because somebody changed it.
const ATTEMPTS_MAX: usize = 5;
const READING: &str = "reading a chunk's row";

/// A chunk's row as read.
pub(super) struct FoundChunk {
    key: Bytes,
    version: Position,
    page: Page,
    within: usize,
}

enum Page {
    First(BlobRow),
    Further(ChunkPage),
}

impl FoundChunk {
    pub(super) fn chunk(&self) -> Option<&ChunkRef> {
        match &self.page {
            Page::First(row) => row.chunks.get(self.within),
            Page::Further(page) => page.0.get(self.within),
        }
    }

    /// The commit that puts `chunk` in place of what was read.
    pub(super) fn replace(mut self, chunk: ChunkRef, session: Check) -> Commit {
        let value = match &mut self.page {
            Page::First(row) => {
                row.chunks[self.within] = chunk;
                row.encode()
            }
            Page::Further(page) => {
                page.0[self.within] = chunk;
                page.encode()
            }
        };
        let checks = vec![session, Check::At(self.key.clone(), self.version)];
        Commit { checks, writes: vec![Write::Put { key: self.key, value }], transaction: None }
    }
}

/// What is wrong with a shard that is stored again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Its bytes are not to be had.
    Gone(SourceFault),
    /// Its bytes are sound, its footer is not.
    Footer,
}

/// A chunk's shards, as far as they were looked at.
#[derive(Default)]
struct Survey {
    lost: Vec<(ShardIndex, Fault)>,
    sources: Vec<CheckedBlocks>,
    /// Whether every suspect could be judged.
    is_whole: bool,
}

/// What a repair came to.
#[derive(Clone, Copy)]
struct Repaired {
    /// Shards stored again.
    shards: usize,
    /// Whether nothing of what was suspected is left.
    is_whole: bool,
}

impl Inner {
    /// Repairs everything that waits; answers how many shards were stored again.
    pub(super) async fn repair_queued(self: &Arc<Self>) -> Result<usize, Error> {
        let mut repaired = 0;
        while let Some((chunk, shards)) = self.repairs.take() {
            let mut ending = Ending { data: self, chunk, repaired: false };
            match Box::pin(self.repair_chunk(chunk, &shards)).await {
                Ok(done) => {
                    ending.repaired = done.is_whole;
                    repaired += done.shards;
                }
                Err(error) => {
                    self.counters.repair_failures.add(1);
                    tracing::warn!(%chunk, %error, "a chunk could not be repaired; it is tried again with the next sweep");
                }
            }
        }
        Ok(repaired)
    }

    /// Repairs those of `suspects` that really are missing or damaged.
    async fn repair_chunk(&self, chunk: ChunkId, suspects: &BTreeSet<ShardIndex>) -> Result<Repaired, Error> {
        let nothing = Repaired { shards: 0, is_whole: true };
        for _ in 0..ATTEMPTS_MAX {
            let Some(found) = self.find_chunk(chunk).await? else { return Ok(nothing) };
            let Some(at) = found.chunk().cloned() else { return Ok(nothing) };
            let located = self.sink.cluster.locate(chunk, &at).await?;
            let commitment = self.commitment_of(chunk, &at, &located).await?;
            let layout = *commitment.layout();
            self.repair_pace
                .spend(u64::from(layout.shard_bytes()) * u64::from(layout.coding().k() + 1))
                .await;
            let Survey { lost, sources, is_whole } =
                self.survey(chunk, &commitment, &located, suspects).await;
            let done = Repaired { shards: lost.len(), is_whole };
            if lost.is_empty() {
                return Ok(done);
            }
            let stored_anew = self.restored(chunk, &commitment, &lost, sources).await?;
            let mut holders: Vec<Option<u16>> = located.clone();
            for ((shard, fault), blocks) in lost.iter().zip(stored_anew) {
                let cells = vec![blocks.bytes().clone()];
                let put = ShardPut { id: chunk.shard(*shard), cells, footer: commitment.encode() };
                self.store_again(chunk, *shard, *fault, put, &mut holders).await?;
                self.counters.repaired_shards.add(1);
                self.counters.repaired_bytes.add(u64::from(layout.shard_bytes()));
            }
            if holders == located {
                return Ok(done);
            }
            let moved = self.with_holders(chunk, at, &holders).await?;
            match self.kv.commit(found.replace(moved, self.session.check())).await {
                Ok(_) => return Ok(done),
                Err(CommitError::Conflict { .. } | CommitError::Unknown { .. }) => {}
                Err(error) => return Err(Error::internal("moving a shard", error)),
            }
        }
        Err(Error::SlowDown { what: "a chunk's row keeps changing" })
    }

    pub(super) async fn find_chunk(&self, chunk: ChunkId) -> Result<Option<FoundChunk>, Error> {
        let blob = super::row_id(chunk.blob);
        let number = chunk.index / CHUNKS_PER_PAGE;
        let key = if number == 0 { blobs::key(blob) } else { blobs::page_key(blob, number) };
        let Some(row) = self.kv.get(&key).await.map_err(|e| Error::internal(READING, e))? else {
            return Ok(None);
        };
        let page = if number == 0 {
            BlobRow::decode(&row.value).map(Page::First)
        } else {
            ChunkPage::decode(&row.value).map(Page::Further)
        };
        let page = page.map_err(|e| Error::internal(READING, e))?;
        let within = usize::try_from(chunk.index % CHUNKS_PER_PAGE).expect("u32 fits usize");
        Ok(Some(FoundChunk { key, version: row.version, page, within }))
    }

    /// The chunk's commitment, all tables checked, from memory or from any node that has it.
    async fn commitment_of(
        &self,
        chunk: ChunkId,
        at: &ChunkRef,
        located: &[Option<u16>],
    ) -> Result<ChunkCommitment, Error> {
        let root = ChunkRoot::from(at.root);
        let all: Vec<ShardIndex> = layout_of(at)?.coding().shard_indices().collect();
        if let Some(Ok(known)) = self.commitments.get(chunk, &root).map(|known| known.check_more(&all)) {
            return Ok(known);
        }
        for shard in &all {
            let Some(node) = self.sink.cluster.node_of(located, *shard) else { continue };
            let footer = timeout(self.config.read_timeout, node.service.footer(chunk.shard(*shard))).await;
            let footer = footer.ok().and_then(Result::ok);
            let footer = footer.and_then(|footer| UncheckedCommitment::decode_bytes(footer).ok());
            if let Some(Ok(commitment)) = footer.map(|footer| footer.check(&root)) {
                return Ok(commitment);
            }
        }
        Err(Error::Unreadable { chunk })
    }

    /// Which suspects are really lost, and k whole shards that are not.
    async fn survey(
        &self,
        chunk: ChunkId,
        commitment: &ChunkCommitment,
        located: &[Option<u16>],
        suspects: &BTreeSet<ShardIndex>,
    ) -> Survey {
        let coding = commitment.layout().coding();
        let mut survey = Survey::default();
        let suspected = suspects.iter().copied().filter(|shard| coding.contains(*shard));
        for shard in suspected {
            self.look_at(chunk, commitment, located, shard, &mut survey).await;
        }
        for shard in coding.shard_indices().filter(|shard| !suspects.contains(shard)) {
            if survey.lost.is_empty() || survey.sources.len() >= usize::from(coding.k()) {
                break;
            }
            self.look_at(chunk, commitment, located, shard, &mut survey).await;
        }
        // A node that is silent, or whose disk fails as a whole, keeps its shards for a while; one that is
        // gone does not.
        let is_gone = |(shard, fault): &(ShardIndex, Fault)| {
            let Some(node) = self.sink.cluster.node_of(located, *shard) else { return true };
            match fault {
                Fault::Gone(fault) if fault.on(node) == SourceFault::Silent => {
                    node.silent_for() >= REBUILD_AFTER
                }
                Fault::Gone(_) | Fault::Footer => true,
            }
        };
        survey.is_whole = survey.lost.iter().all(|lost| is_gone(lost) || !suspects.contains(&lost.0));
        survey.lost.retain(is_gone);
        survey.lost.sort_by_key(|(shard, _)| *shard);
        survey
    }

    /// Reads one shard whole, and enters it where it belongs; in both, if only its footer is damaged.
    async fn look_at(
        &self,
        chunk: ChunkId,
        commitment: &ChunkCommitment,
        located: &[Option<u16>],
        shard: ShardIndex,
        survey: &mut Survey,
    ) {
        let found = match self.sink.cluster.node_of(located, shard) {
            Some(node) => self.sink.rebuilding.read_shard(commitment, chunk, shard, node).await,
            None => Err(SourceFault::Silent),
        };
        match found {
            Ok(whole) => {
                survey.sources.push(whole.blocks);
                if !whole.has_footer {
                    survey.lost.push((shard, Fault::Footer));
                }
            }
            Err(fault) => survey.lost.push((shard, Fault::Gone(fault))),
        }
    }

    /// The bytes of what is lost, in its order: rebuilt, or as they are where only the footer is damaged.
    async fn restored(
        &self,
        chunk: ChunkId,
        commitment: &ChunkCommitment,
        lost: &[(ShardIndex, Fault)],
        sources: Vec<CheckedBlocks>,
    ) -> Result<Vec<CheckedBlocks>, Error> {
        let gone = lost.iter().filter(|(_, fault)| *fault != Fault::Footer);
        let gone: Vec<ShardIndex> = gone.map(|(shard, _)| *shard).collect();
        let mut whole = sources.clone();
        if !gone.is_empty() {
            whole.extend(self.sink.rebuilding.rebuild(commitment, chunk, sources, gone).await?);
        }
        let of = |shard: ShardIndex| whole.iter().find(|blocks| blocks.shard() == shard).cloned();
        Ok(lost.iter().map(|(shard, _)| of(*shard).expect("read or rebuilt just now")).collect())
    }

    /// Puts a rebuilt shard on its own node, or on a substitute.
    async fn store_again(
        &self,
        chunk: ChunkId,
        shard: ShardIndex,
        fault: Fault,
        put: ShardPut,
        holders: &mut [Option<u16>],
    ) -> Result<(), Error> {
        let mut failed: Vec<u16> = Vec::new();
        let mut next = self
            .sink
            .cluster
            .node_of(holders, shard)
            .filter(|node| node.is_writable() && fault != Fault::Gone(SourceFault::Silent))
            .cloned();
        loop {
            let node = match next.take() {
                Some(node) => node,
                None => {
                    let others = holders.iter().enumerate().filter(|(at, _)| *at != shard.position());
                    let taken: Vec<&Arc<Node>> = others
                        .filter_map(|(_, holder)| holder.and_then(|node| self.sink.cluster.nodes.get(node)))
                        .collect();
                    let substitute = self.sink.cluster.substitute(chunk, &taken, &failed);
                    let writable = self.sink.cluster.nodes.writable();
                    substitute.ok_or(Error::TooFewNodes { writable, needed: holders.len() })?
                }
            };
            match self.replace_shard(&node, put.clone()).await {
                Ok(()) => {
                    holders[shard.position()] = Some(node.id);
                    return Ok(());
                }
                Err(()) => failed.push(node.id),
            }
        }
    }

    /// Puts a shard. What the node has under its id is known to be wrong and set aside first, or a put would
    /// be answered as done already.
    async fn replace_shard(&self, node: &Node, put: ShardPut) -> Result<(), ()> {
        let replace = async {
            node.service.quarantine(put.id).await.map_err(|e| PutError::Unavailable { reason: e.reason })?;
            node.service.put(put).await
        };
        match timeout(self.config.write_timeout, replace).await {
            Ok(Ok(())) => {
                node.succeeded();
                Ok(())
            }
            Ok(Err(error)) => {
                node.put_failed(&error);
                Err(())
            }
            Err(_) => {
                node.failed();
                Err(())
            }
        }
    }

    /// The chunk's row with its shards where `holders` says.
    pub(super) async fn with_holders(
        &self,
        chunk: ChunkId,
        at: ChunkRef,
        holders: &[Option<u16>],
    ) -> Result<ChunkRef, Error> {
        let map = self.sink.cluster.map(at.map_epoch).await?;
        let slots = &map.groups[placement::group_of(chunk, map.groups.len())];
        let deviations = holders
            .iter()
            .enumerate()
            .filter(|(shard, holder)| slots.get(*shard) != holder.as_ref())
            .filter_map(|(shard, holder)| Some((u8::try_from(shard).ok()?, (*holder)?)))
            .collect();
        Ok(ChunkRef { deviations, ..at })
    }
}

/// Gives a chunk back to the queue's knowledge, however its repair ends.
struct Ending<'a> {
    data: &'a Inner,
    chunk: ChunkId,
    repaired: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.data.repairs.done(self.chunk, self.repaired) {
            // Too much has failed to be kept in mind: it is to be found again.
            self.data.repairs.want_sweep();
            self.data.sink.cluster.nodes.all().for_each(|node| self.data.scrub_wishes.wish(node.id));
        }
    }
}
