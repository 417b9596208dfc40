//! Whole shards back from any k others: for chunks whose nodes failed while they were written, and for repair.
//!
//! Sources are checked against the commitment before they are used and the result after; a source that fails
//! the check is reported and left out, and a contradiction is an alarm.

use std::sync::Arc;

use ashlar_chunker::{CheckedBlocks, ChunkCommitment, ChunkId, RebuildError, RebuildPlans, ShardIndex};
use ashlar_storage_node::{BlockRange, ReadError, Verify};
use tokio::time::Duration;

use super::cpu::CpuPool;
use super::nodes::Node;
use super::stats::Counters;
use crate::error::Error;

/// What rebuilding needs besides its chunk.
#[derive(Clone)]
pub(crate) struct Rebuilding {
    pub(crate) plans: Arc<RebuildPlans>,
    pub(crate) cpu: CpuPool,
    pub(crate) counters: Arc<Counters>,
    pub(crate) read_timeout: Duration,
}

/// A whole shard, checked.
pub(crate) struct WholeShard {
    pub(crate) blocks: CheckedBlocks,
    /// Whether its footer is the encoded commitment, every byte of it.
    pub(crate) has_footer: bool,
}

/// A whole shard was not had from its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceFault {
    /// The node does not hold it.
    Missing,
    /// The node holds something else under its id.
    Corrupt,
    /// The node holds it where its disk cannot be read.
    Unreadable,
    /// The node did not answer.
    Silent,
}

impl From<&ReadError> for SourceFault {
    fn from(error: &ReadError) -> Self {
        match error {
            ReadError::NotFound { .. } => Self::Missing,
            ReadError::Corrupt { .. } | ReadError::OutOfRange { .. } => Self::Corrupt,
            ReadError::Io { .. } => Self::Unreadable,
            ReadError::Unavailable { .. } => Self::Silent,
        }
    }
}

impl SourceFault {
    /// What it is on that node: where a whole disk fails, that a shard cannot be read says no more than silence.
    pub(crate) fn on(self, node: &Node) -> Self {
        if self == Self::Unreadable && node.is_suspect() { Self::Silent } else { self }
    }
}

impl Rebuilding {
    /// Reads a whole shard and its footer, and checks both.
    pub(crate) async fn read_shard(
        &self,
        commitment: &ChunkCommitment,
        chunk: ChunkId,
        shard: ShardIndex,
        node: &Node,
    ) -> Result<WholeShard, SourceFault> {
        let read = node.service.read_with_footer(chunk.shard(shard), BlockRange::ALL, Verify::Caller);
        let read = match tokio::time::timeout(self.read_timeout, read).await {
            Ok(Ok(read)) => {
                node.succeeded();
                read
            }
            Ok(Err(error)) => {
                node.read_failed(&error);
                return Err(SourceFault::from(&error).on(node));
            }
            Err(_) => {
                node.failed();
                return Err(SourceFault::Silent);
            }
        };
        let whole = usize::try_from(commitment.layout().shard_bytes()).expect("u32 fits usize");
        let commitment = commitment.clone();
        let checked = self.cpu.run(move || {
            if read.bytes.len() != whole {
                return None;
            }
            let has_footer = read.footer == commitment.encode();
            let blocks = commitment.verify(shard, 0, read.bytes).ok()?;
            Some(WholeShard { blocks, has_footer })
        });
        checked.await.ok().flatten().ok_or(SourceFault::Corrupt)
    }

    /// Rebuilds shards of a chunk from checked whole ones, at least k of them.
    pub(crate) async fn rebuild(
        &self,
        commitment: &ChunkCommitment,
        chunk: ChunkId,
        sources: Vec<CheckedBlocks>,
        wanted: Vec<ShardIndex>,
    ) -> Result<Vec<CheckedBlocks>, Error> {
        let coding = commitment.layout().coding();
        let available: Vec<ShardIndex> = sources.iter().map(CheckedBlocks::shard).collect();
        if available.len() < usize::from(coding.k()) {
            return Err(Error::Unreadable { chunk });
        }
        let (plans, commitment) = (Arc::clone(&self.plans), commitment.clone());
        let rebuilt = self.cpu.run(move || {
            let plan = plans
                .get(coding, &available, &wanted)
                .map_err(|e| Error::internal("planning a rebuild", e))?;
            commitment.rebuild(&plan, &sources).map_err(|e| rebuild_failed(chunk, e))
        });
        let rebuilt = rebuilt.await?;
        if matches!(rebuilt, Err(Error::Internal(_))) {
            self.counters.contradictions.add(1);
        }
        rebuilt
    }
}

/// Turns a failed rebuild into an error, and a contradiction into an alarm.
pub(crate) fn rebuild_failed(chunk: ChunkId, error: RebuildError) -> Error {
    if let RebuildError::Contradiction(alarm) = &error {
        tracing::error!(%chunk, %alarm, "ALARM: a rebuilt cell contradicts its commitment");
    }
    Error::internal("rebuilding a shard", error)
}
