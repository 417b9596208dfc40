//! A storage node that could not be opened: it keeps its place in the cluster map and answers nothing.
//!
//! Invariant: it never claims that a shard does not exist, only that it cannot say.

use ashlar_chunker::ShardId;
use ashlar_storage_node::{
    BlockRange, DeleteError, FencingToken, FootedRead, HighWater, NodeHealth, PutError, ReadError,
    ShardEntry, ShardPut, ShardRead, ShardService, ShardWriter, SpaceReport, Unavailable, Verify,
};
use async_trait::async_trait;
use bytes::Bytes;

/// The node, and why it is not there.
pub(super) struct Absent {
    reason: String,
}

impl Absent {
    pub(super) fn new(reason: String) -> Self {
        Self { reason }
    }

    fn read_error(&self) -> ReadError {
        ReadError::Unavailable { reason: self.reason.clone() }
    }

    fn put_error(&self) -> PutError {
        PutError::Unavailable { reason: self.reason.clone() }
    }

    fn unavailable(&self) -> Unavailable {
        Unavailable { reason: self.reason.clone() }
    }
}

#[async_trait]
impl ShardService for Absent {
    async fn put(&self, _: ShardPut) -> Result<(), PutError> {
        Err(self.put_error())
    }

    async fn begin(&self, _: ShardId, _: u32) -> Result<Box<dyn ShardWriter>, PutError> {
        Err(self.put_error())
    }

    async fn read(&self, _: ShardId, _: BlockRange, _: Verify) -> Result<ShardRead, ReadError> {
        Err(self.read_error())
    }

    async fn read_with_footer(&self, _: ShardId, _: BlockRange, _: Verify) -> Result<FootedRead, ReadError> {
        Err(self.read_error())
    }

    async fn footer(&self, _: ShardId) -> Result<Bytes, ReadError> {
        Err(self.read_error())
    }

    async fn delete(&self, _: &[ShardId], _: FencingToken) -> Result<(), DeleteError> {
        Err(DeleteError::Unavailable { reason: self.reason.clone() })
    }

    async fn quarantine(&self, _: ShardId) -> Result<(), Unavailable> {
        Err(self.unavailable())
    }

    async fn list(&self, _: Option<ShardId>, _: usize) -> Result<Vec<ShardEntry>, Unavailable> {
        Err(self.unavailable())
    }

    async fn high_water(&self) -> Result<HighWater, Unavailable> {
        Err(self.unavailable())
    }

    async fn space(&self) -> Result<SpaceReport, Unavailable> {
        Err(self.unavailable())
    }

    async fn health(&self) -> NodeHealth {
        NodeHealth::Unavailable { reason: self.reason.clone() }
    }
}
