//! The scrub: every shard that metadata names is read whole, slowly, and compared with the root it must have.
//!
//! Goes by metadata and not by inventories, so that a shard which is sound in itself but belongs to an
//! abandoned coding of its chunk is found as well. What is missing or damaged is queued for repair; a node
//! that does not answer is passed over.

use std::sync::Arc;

use ashlar_chunker::{ChunkId, ChunkRoot, ShardIndex, UncheckedCommitment};
use ashlar_metadata::namespace::blobs::ChunkRef;
use ashlar_storage_node::{BlockRange, ReadError, Verify};
use tokio::time::timeout;

use super::Inner;
use super::fetch::layout_of;
use super::nodes::Node;
use crate::error::Error;

impl Inner {
    /// Scrubs everything once; answers how many shards were read.
    pub(super) async fn scrub(&self) -> Result<u64, Error> {
        let mut shards = 0;
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
                    self.scrub_pace.spend(shard_bytes).await;
                    self.scrub_shard(*chunk, at, shard, node).await?;
                    self.counters.scrubbed_bytes.add(shard_bytes);
                    shards += 1;
                }
            }
            match stretch.to {
                Some(last) => blob = Some(super::row_id(last)),
                None => return Ok(shards),
            }
        }
    }

    async fn scrub_shard(
        &self,
        chunk: ChunkId,
        at: &ChunkRef,
        shard: ShardIndex,
        node: &Arc<Node>,
    ) -> Result<(), Error> {
        let id = chunk.shard(shard);
        let read = node.service.read_with_footer(id, BlockRange::ALL, Verify::Caller);
        let sound = match timeout(self.config.read_timeout, read).await {
            Ok(Ok(read)) => {
                node.succeeded();
                let root = ChunkRoot::from(at.root);
                let check = move || {
                    let commitment = UncheckedCommitment::decode_bytes(read.footer).ok()?;
                    let commitment = commitment.check(&root).ok()?;
                    let whole = commitment.layout().blocks_range(0..u32::MAX);
                    commitment.verify(shard, 0, read.bytes).ok().filter(|blocks| blocks.range() == whole)
                };
                self.cpu.run(check).await?.is_some()
            }
            Ok(Err(
                ReadError::NotFound { .. } | ReadError::Corrupt { .. } | ReadError::OutOfRange { .. },
            )) => false,
            Ok(Err(error)) => {
                node.read_failed(&error);
                return Ok(());
            }
            Err(_) => {
                node.failed();
                return Ok(());
            }
        };
        if !sound {
            tracing::warn!(shard = %id, node = node.id, "scrubbing found a shard missing or damaged");
            self.counters.corrupt_shards.add(1);
            self.repairs.report(id);
        }
        Ok(())
    }
}
