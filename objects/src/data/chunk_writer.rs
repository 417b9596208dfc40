//! One chunk on its way to its nodes, and what is done when some of them fail.
//!
//! Invariant: a [`ChunkRef`] comes out only when all k + m shards are durable on distinct nodes. A shard
//! whose node failed is rebuilt and put on a substitute; without substitutes the chunk is coded anew with
//! fewer data shards and the same m; without m + 1 nodes it is an error. What a failed chunk leaves on nodes
//! is deleted as far as they answer, and is an orphan otherwise.

use std::sync::Arc;

use ashlar_chunker::{CheckedBlocks, ChunkCommitment, Coding, EncodedChunk, ShardIndex, encode_chunk};
use ashlar_metadata::namespace::blobs::ChunkRef;
use ashlar_storage_node::{FencingToken, PutError, ShardPut, ShardWriter};
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{Duration, timeout};

use super::cluster::{ChunkPlan, Cluster};
use super::nodes::Node;
use super::rebuild::Rebuilding;
use super::stats::Counters;
use crate::error::Error;

/// Times a chunk is coded anew before its write is given up.
const SHRINKS_MAX: usize = 4;

/// What every chunk writer of a data path shares.
pub(crate) struct ChunkSink {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) rebuilding: Rebuilding,
    pub(crate) counters: Arc<Counters>,
    pub(crate) token: FencingToken,
    pub(crate) rescues: Semaphore,
    pub(crate) write_timeout: Duration,
}

/// A chunk whose rows come one by one.
pub(crate) struct ChunkWriter {
    plan: ChunkPlan,
    shards: Vec<Option<Box<dyn ShardWriter>>>,
}

/// Waits for a put or write, draws conclusions about the node, and says whether it worked.
async fn judged(node: &Node, limit: Duration, put: impl Future<Output = Result<(), PutError>>) -> bool {
    match timeout(limit, put).await {
        Ok(Ok(())) => {
            node.succeeded();
            true
        }
        Ok(Err(error)) => {
            tracing::debug!(node = node.id, %error, "a shard was not stored");
            node.put_failed(&error);
            false
        }
        Err(_) => {
            tracing::debug!(node = node.id, "a shard was not stored in time");
            node.failed();
            false
        }
    }
}

impl ChunkSink {
    /// Begins a chunk of several rows, of at most `chunk_bytes_max`.
    pub(crate) async fn begin(&self, plan: ChunkPlan, shard_bytes_max: u32) -> ChunkWriter {
        let begun = plan.coding.shard_indices().zip(&plan.nodes).map(async |(shard, node)| {
            let begin = node.service.begin(plan.chunk.shard(shard), shard_bytes_max);
            match timeout(self.write_timeout, begin).await {
                Ok(Ok(writer)) => Some(writer),
                Ok(Err(error)) => {
                    node.put_failed(&error);
                    None
                }
                Err(_) => {
                    node.failed();
                    None
                }
            }
        });
        let shards = join_all(begun).await;
        ChunkWriter { plan, shards }
    }

    /// Hands a row to the nodes. Fails only when so many have failed that the chunk cannot be had back.
    pub(crate) async fn write_row(&self, writer: &mut ChunkWriter, cells: Vec<Bytes>) -> Result<(), Error> {
        let written =
            writer.shards.iter_mut().zip(&writer.plan.nodes).zip(cells).map(async |((shard, node), cell)| {
                if let Some(open) = shard
                    && !judged(node, self.write_timeout, open.write_cell(cell)).await
                {
                    *shard = None;
                }
            });
        join_all(written).await;
        let alive = writer.shards.iter().flatten().count();
        if alive < usize::from(writer.plan.coding.k()) {
            return Err(Error::TooFewNodes { writable: alive, needed: usize::from(writer.plan.coding.k()) });
        }
        Ok(())
    }

    /// Ends a chunk: durable on all its nodes, or on substitutes, or coded anew.
    pub(crate) async fn seal(
        &self,
        writer: ChunkWriter,
        commitment: ChunkCommitment,
    ) -> Result<ChunkRef, Error> {
        let ChunkWriter { plan, shards } = writer;
        let footer = commitment.encode();
        let sealed = shards.into_iter().zip(&plan.nodes).map(async |(shard, node)| match shard {
            Some(shard) => judged(node, self.write_timeout, shard.seal(footer.clone())).await,
            None => false,
        });
        let stored = join_all(sealed).await;
        self.settle(plan, commitment, stored, None).await
    }

    /// Stores a chunk whose cells are all at hand: shard `i` is `shards[i]`.
    pub(crate) async fn put(
        &self,
        plan: ChunkPlan,
        commitment: ChunkCommitment,
        shards: Vec<Vec<Bytes>>,
    ) -> Result<ChunkRef, Error> {
        let footer = commitment.encode();
        let coding = commitment.layout().coding();
        let put = coding.shard_indices().zip(&plan.nodes).zip(&shards).map(async |((shard, node), cells)| {
            let put = ShardPut { id: plan.chunk.shard(shard), cells: cells.clone(), footer: footer.clone() };
            judged(node, self.write_timeout, node.service.put(put)).await
        });
        let stored = join_all(put).await;
        self.settle(plan, commitment, stored, Some(shards)).await
    }

    /// Turns what was stored into a chunk row, after putting right what was not.
    async fn settle(
        &self,
        mut plan: ChunkPlan,
        commitment: ChunkCommitment,
        stored: Vec<bool>,
        at_hand: Option<Vec<Vec<Bytes>>>,
    ) -> Result<ChunkRef, Error> {
        let coding = commitment.layout().coding();
        let length = commitment.layout().chunk_len();
        if stored.iter().all(|stored| *stored) {
            return Ok(plan.chunk_ref(coding, length, *commitment.root().as_bytes()));
        }
        let _rescue = self.rescues.acquire().await.expect("the semaphore is never closed");
        // Boxed: rare, and its state would make every write's future large.
        Box::pin(self.rescue(&mut plan, &commitment, stored, at_hand)).await
    }

    async fn rescue(
        &self,
        plan: &mut ChunkPlan,
        commitment: &ChunkCommitment,
        mut stored: Vec<bool>,
        at_hand: Option<Vec<Vec<Bytes>>>,
    ) -> Result<ChunkRef, Error> {
        let coding = commitment.layout().coding();
        let lost: Vec<ShardIndex> =
            coding.shard_indices().filter(|shard| !stored[shard.position()]).collect();
        let mut failed: Vec<u16> = lost.iter().map(|shard| plan.nodes[shard.position()].id).collect();
        let mut sources: Vec<CheckedBlocks> = Vec::new();
        let lost_cells: Vec<Vec<Bytes>> = match &at_hand {
            Some(shards) => lost.iter().map(|shard| shards[shard.position()].clone()).collect(),
            None => {
                sources = self.read_back(plan, commitment, &stored).await?;
                let rebuilt =
                    self.rebuilding.rebuild(commitment, plan.chunk, sources.clone(), lost.clone()).await?;
                rebuilt.iter().map(|shard| vec![shard.bytes().clone()]).collect()
            }
        };
        for (shard, cells) in lost.iter().zip(lost_cells) {
            loop {
                let taken: Vec<&Arc<Node>> = plan.nodes.iter().take(usize::from(coding.shards())).collect();
                let Some(node) = self.cluster.substitute(plan.chunk, &taken, &failed) else {
                    let chunk = match at_hand {
                        Some(shards) => joined(commitment, &shards)?,
                        None => self.assemble(commitment, plan, sources).await?,
                    };
                    return self.shrink(plan, commitment, chunk, failed).await;
                };
                let put = ShardPut {
                    id: plan.chunk.shard(*shard),
                    cells: cells.clone(),
                    footer: commitment.encode(),
                };
                if judged(&node, self.write_timeout, node.service.put(put)).await {
                    plan.nodes[shard.position()] = node;
                    stored[shard.position()] = true;
                    self.counters.substituted_shards.add(1);
                    break;
                }
                failed.push(node.id);
            }
        }
        let length = commitment.layout().chunk_len();
        Ok(plan.chunk_ref(coding, length, *commitment.root().as_bytes()))
    }

    /// k whole shards of what was just stored.
    async fn read_back(
        &self,
        plan: &ChunkPlan,
        commitment: &ChunkCommitment,
        stored: &[bool],
    ) -> Result<Vec<CheckedBlocks>, Error> {
        let coding = commitment.layout().coding();
        let mut sources = Vec::with_capacity(usize::from(coding.k()));
        for shard in coding.shard_indices().filter(|shard| stored[shard.position()]) {
            if sources.len() == usize::from(coding.k()) {
                break;
            }
            let node = &plan.nodes[shard.position()];
            if let Ok(source) = self.rebuilding.read_shard(commitment, plan.chunk, shard, node).await {
                sources.push(source.blocks);
            }
        }
        if sources.len() < usize::from(coding.k()) {
            return Err(Error::TooFewNodes { writable: sources.len(), needed: usize::from(coding.k()) });
        }
        Ok(sources)
    }

    /// The chunk's bytes from k whole shards.
    async fn assemble(
        &self,
        commitment: &ChunkCommitment,
        plan: &ChunkPlan,
        sources: Vec<CheckedBlocks>,
    ) -> Result<Bytes, Error> {
        let coding = commitment.layout().coding();
        let data: Vec<ShardIndex> = coding.shard_indices().filter(|shard| coding.is_data(*shard)).collect();
        let data = self.rebuilding.rebuild(commitment, plan.chunk, sources, data).await?;
        let pieces = commitment.assemble(0..commitment.layout().chunk_len(), &data);
        let pieces = pieces.map_err(|e| Error::internal("putting a chunk together", e))?;
        Ok(concatenated(&pieces))
    }

    /// Codes the chunk anew for the nodes that are left. The ids are used again: whoever missed the deletion
    /// holds a shard that contradicts the chunk's root, which reads find and repair replaces.
    async fn shrink(
        &self,
        plan: &ChunkPlan,
        commitment: &ChunkCommitment,
        chunk: Bytes,
        mut failed: Vec<u16>,
    ) -> Result<ChunkRef, Error> {
        let mut old: (Vec<Arc<Node>>, Coding) = (plan.nodes.clone(), commitment.layout().coding());
        for _ in 0..SHRINKS_MAX {
            let gone = self.delete_shards(plan, &old.0, old.1).await;
            failed.extend(gone);
            let next = self.cluster.plan(plan.chunk, &failed)?;
            let (coding, bytes) = (next.coding, chunk.clone());
            let encoded = self.rebuilding.cpu.run(move || encode_chunk(coding, bytes)).await?;
            let encoded = encoded.map_err(|e| Error::internal("coding a chunk", e))?;
            let coding = encoded.commitment.layout().coding();
            let footer = encoded.commitment.encode();
            let put = coding.shard_indices().zip(&next.nodes).map(async |(shard, node)| {
                let cells = cells_of_shard(&encoded, shard);
                let put = ShardPut { id: plan.chunk.shard(shard), cells, footer: footer.clone() };
                judged(node, self.write_timeout, node.service.put(put)).await
            });
            let stored = join_all(put).await;
            let length = encoded.commitment.layout().chunk_len();
            if stored.iter().all(|stored| *stored) {
                self.counters.shrunk_chunks.add(1);
                return Ok(next.chunk_ref(coding, length, *encoded.commitment.root().as_bytes()));
            }
            failed.extend(
                next.nodes.iter().zip(&stored).filter(|(_, stored)| !**stored).map(|(node, _)| node.id),
            );
            old = (next.nodes, coding);
        }
        Err(Error::SlowDown { what: "storage nodes keep failing while a chunk is written" })
    }

    /// Deletes what an abandoned coding of the chunk left; answers the nodes that did not do it.
    async fn delete_shards(&self, plan: &ChunkPlan, nodes: &[Arc<Node>], coding: Coding) -> Vec<u16> {
        let deleted = coding.shard_indices().zip(nodes).map(async |(shard, node)| {
            let ids = [plan.chunk.shard(shard)];
            let deleted = timeout(self.write_timeout, node.service.delete(&ids, self.token)).await;
            matches!(deleted, Ok(Ok(()))).then_some(()).ok_or(node.id)
        });
        join_all(deleted).await.into_iter().filter_map(Result::err).collect()
    }
}

/// The cells of one shard, in row order.
pub(crate) fn cells_of_shard(encoded: &EncodedChunk, shard: ShardIndex) -> Vec<Bytes> {
    encoded.rows.iter().map(|row| row.cells[shard.position()].clone()).collect()
}

/// A chunk's bytes from the cells of its shards.
fn joined(commitment: &ChunkCommitment, shards: &[Vec<Bytes>]) -> Result<Bytes, Error> {
    let layout = commitment.layout();
    let mut checked = Vec::with_capacity(shards.len());
    for shard in layout.coding().shard_indices().filter(|shard| layout.coding().is_data(*shard)) {
        let bytes = concatenated(&shards[shard.position()]);
        let verified = commitment.verify(shard, 0, bytes);
        checked.push(verified.map_err(|e| Error::internal("checking a chunk in memory", e))?);
    }
    let pieces = commitment.assemble(0..layout.chunk_len(), &checked);
    Ok(concatenated(&pieces.map_err(|e| Error::internal("putting a chunk together", e))?))
}

fn concatenated(pieces: &[Bytes]) -> Bytes {
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}
