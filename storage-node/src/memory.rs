//! A storage node in memory, for tests of what lies above: it can be down, slow, full, read-only, and can
//! lose or damage what it holds.
//!
//! Keeps the promises of [`ShardService`] otherwise, "durable" meaning "until [`MemoryNode::wipe`]".

use crate::checked::{byte_range, check_blocks, check_shape};
use crate::service::{
    BlockRange, Corruption, DELETE_IDS_MAX, DeleteError, FencingToken, FootedRead, HighWater, LIST_LIMIT_MAX,
    MalformedShard, NodeHealth, PutError, ReadError, ShardEntry, ShardPut, ShardRead, ShardService,
    ShardWriter, SpaceReport, Unavailable, Verify,
};
use ashlar_chunker::ShardId;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// Size of the imaginary disk.
const TOTAL_BYTES: u64 = 1 << 40;

#[derive(Clone)]
struct Shard {
    bytes: Bytes,
    footer: Bytes,
}

#[derive(Default)]
struct State {
    shards: BTreeMap<ShardId, Shard>,
    writing: BTreeSet<ShardId>,
    quarantined: BTreeSet<ShardId>,
    unreadable: BTreeSet<ShardId>,
    highest_token: FencingToken,
    health: Option<NodeHealth>,
    delay: Duration,
    calls: u64,
}

/// A node without a disk. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryNode {
    state: Arc<Mutex<State>>,
}

impl MemoryNode {
    /// An empty node that works.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every call behave as a node in this state would, from now on.
    pub fn set_health(&self, health: NodeHealth) {
        self.state.lock().health = Some(health);
    }

    /// Down (every call answers `Unavailable`) or working again.
    pub fn set_down(&self, down: bool) {
        let reason = String::from("set down by a test");
        self.set_health(if down { NodeHealth::Unavailable { reason } } else { NodeHealth::Writable });
    }

    /// Every call first waits this long, in tokio's time.
    pub fn set_delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// Flips a bit of byte `byte` of a shard; whether there was such a byte.
    pub fn corrupt(&self, id: ShardId, byte: usize) -> bool {
        let mut state = self.state.lock();
        let Some(shard) = state.shards.get_mut(&id).filter(|shard| byte < shard.bytes.len()) else {
            return false;
        };
        let mut bytes = BytesMut::from(&shard.bytes[..]);
        bytes[byte] ^= 1;
        shard.bytes = bytes.freeze();
        true
    }

    /// Flips a bit of byte `byte` of a shard's footer; whether there was such a byte.
    pub fn corrupt_footer(&self, id: ShardId, byte: usize) -> bool {
        let mut state = self.state.lock();
        let Some(shard) = state.shards.get_mut(&id).filter(|shard| byte < shard.footer.len()) else {
            return false;
        };
        let mut footer = BytesMut::from(&shard.footer[..]);
        footer[byte] ^= 1;
        shard.footer = footer.freeze();
        true
    }

    /// Lets a shard lie on a sector that cannot be read, until it is put again; whether it was there.
    pub fn make_unreadable(&self, id: ShardId) -> bool {
        let mut state = self.state.lock();
        let is_held = state.shards.contains_key(&id);
        if is_held {
            state.unreadable.insert(id);
        }
        is_held
    }

    /// Loses a shard; whether it was there.
    pub fn lose(&self, id: ShardId) -> bool {
        self.state.lock().shards.remove(&id).is_some()
    }

    /// Has what the other had, and the other what this had: as if repair had moved every shard.
    pub fn swap(&self, other: &Self) {
        let (mut ours, mut theirs) = (self.state.lock(), other.state.lock());
        std::mem::swap(&mut ours.shards, &mut theirs.shards);
    }

    /// Loses everything.
    pub fn wipe(&self) {
        self.state.lock().shards.clear();
    }

    /// All shards held, in order.
    pub fn ids(&self) -> Vec<ShardId> {
        self.state.lock().shards.keys().copied().collect()
    }

    /// Calls so far, of any method.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    async fn arrive(&self) -> Result<(), Unavailable> {
        let delay = {
            let mut state = self.state.lock();
            state.calls += 1;
            state.delay
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match &self.state.lock().health {
            Some(NodeHealth::Unavailable { reason }) => Err(Unavailable { reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    async fn arrive_to_put(&self) -> Result<(), PutError> {
        self.arrive().await.map_err(|Unavailable { reason }| PutError::Unavailable { reason })?;
        match &self.state.lock().health {
            Some(NodeHealth::Full) => Err(PutError::Full { available_bytes: 0, reserve_bytes: 0 }),
            Some(NodeHealth::ReadOnly { reason }) => Err(PutError::ReadOnly { reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    fn store(&self, id: ShardId, bytes: Bytes, footer: Bytes) -> Result<(), PutError> {
        check_shape(id, u64::try_from(bytes.len()).expect("usize fits u64"), &footer)?;
        let mut state = self.state.lock();
        let quarantined = state.quarantined.remove(&id);
        match state.shards.get(&id) {
            Some(held) if !quarantined && held.footer != footer => Err(PutError::Conflict { id }),
            Some(_) if !quarantined => Ok(()),
            _ => {
                state.unreadable.remove(&id);
                state.shards.insert(id, Shard { bytes, footer });
                Ok(())
            }
        }
    }

    async fn find(&self, id: ShardId) -> Result<Shard, ReadError> {
        self.arrive().await.map_err(|Unavailable { reason }| ReadError::Unavailable { reason })?;
        let state = self.state.lock();
        if state.quarantined.contains(&id) {
            return Err(ReadError::Corrupt { id, corruption: Corruption::Quarantined });
        }
        if state.unreadable.contains(&id) {
            let error = Arc::new(std::io::Error::other("set unreadable by a test"));
            return Err(ReadError::Io { id, error });
        }
        state.shards.get(&id).cloned().ok_or(ReadError::NotFound { id })
    }
}

#[async_trait]
impl ShardService for MemoryNode {
    async fn put(&self, shard: ShardPut) -> Result<(), PutError> {
        self.arrive_to_put().await?;
        if self.state.lock().writing.contains(&shard.id) {
            return Err(PutError::Busy { id: shard.id });
        }
        self.store(shard.id, shard.cells.concat().into(), shard.footer)
    }

    async fn begin(&self, id: ShardId, bytes_max: u32) -> Result<Box<dyn ShardWriter>, PutError> {
        self.arrive_to_put().await?;
        if !self.state.lock().writing.insert(id) {
            return Err(PutError::Busy { id });
        }
        Ok(Box::new(MemoryWriter { node: self.clone(), id, bytes_max, bytes: BytesMut::new() }))
    }

    async fn read(&self, id: ShardId, range: BlockRange, verify: Verify) -> Result<ShardRead, ReadError> {
        let FootedRead { bytes, .. } = self.read_with_footer(id, range, verify).await?;
        Ok(ShardRead { bytes })
    }

    async fn read_with_footer(
        &self,
        id: ShardId,
        range: BlockRange,
        verify: Verify,
    ) -> Result<FootedRead, ReadError> {
        let Shard { bytes, footer } = self.find(id).await?;
        let shard_bytes = u32::try_from(bytes.len()).expect("a shard fits u32");
        let within = byte_range(id, shard_bytes, range)?;
        let within = usize::try_from(within.start).expect("u32 fits usize")
            ..usize::try_from(within.end).expect("u32 fits usize");
        let bytes = bytes.slice(within);
        if verify == Verify::Node
            && let Err(corruption) = check_blocks(id, range.first_block, &bytes, &footer)
        {
            self.state.lock().quarantined.insert(id);
            return Err(ReadError::Corrupt { id, corruption });
        }
        Ok(FootedRead { bytes, footer })
    }

    async fn footer(&self, id: ShardId) -> Result<Bytes, ReadError> {
        Ok(self.find(id).await?.footer)
    }

    async fn delete(&self, ids: &[ShardId], token: FencingToken) -> Result<(), DeleteError> {
        self.arrive().await.map_err(|Unavailable { reason }| DeleteError::Unavailable { reason })?;
        let mut state = self.state.lock();
        if let Some(NodeHealth::ReadOnly { reason }) = &state.health {
            return Err(DeleteError::ReadOnly { reason: reason.clone() });
        }
        if ids.len() > DELETE_IDS_MAX {
            return Err(DeleteError::TooMany { ids: ids.len() });
        }
        if token < state.highest_token {
            return Err(DeleteError::StaleToken { token, highest: state.highest_token });
        }
        state.highest_token = token;
        for id in ids {
            state.shards.remove(id);
            state.quarantined.remove(id);
        }
        Ok(())
    }

    async fn quarantine(&self, id: ShardId) -> Result<(), Unavailable> {
        self.arrive().await?;
        let mut state = self.state.lock();
        if state.shards.contains_key(&id) {
            state.quarantined.insert(id);
        }
        Ok(())
    }

    async fn list(&self, after: Option<ShardId>, limit: usize) -> Result<Vec<ShardEntry>, Unavailable> {
        self.arrive().await?;
        let state = self.state.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = state.shards.range((start, Bound::Unbounded));
        Ok(entries
            .filter(|(id, _)| !state.quarantined.contains(id))
            .take(limit.min(LIST_LIMIT_MAX))
            .map(|(id, shard)| ShardEntry {
                id: *id,
                bytes: u32::try_from(shard.bytes.len()).expect("a shard fits u32"),
            })
            .collect())
    }

    async fn high_water(&self) -> Result<HighWater, Unavailable> {
        self.arrive().await?;
        let state = self.state.lock();
        let session = state.shards.last_key_value().map(|(id, _)| id.chunk.blob.session);
        Ok(HighWater { session, token: state.highest_token })
    }

    async fn space(&self) -> Result<SpaceReport, Unavailable> {
        self.arrive().await?;
        let state = self.state.lock();
        let shard_bytes = state
            .shards
            .values()
            .map(|shard| u64::try_from(shard.bytes.len()).expect("usize fits u64"))
            .sum();
        Ok(SpaceReport {
            total_bytes: TOTAL_BYTES,
            writable_bytes: TOTAL_BYTES - shard_bytes,
            shards: u64::try_from(state.shards.len()).expect("usize fits u64"),
            shard_bytes,
            file_bytes: shard_bytes,
        })
    }

    async fn health(&self) -> NodeHealth {
        self.state.lock().health.clone().unwrap_or(NodeHealth::Writable)
    }
}

struct MemoryWriter {
    node: MemoryNode,
    id: ShardId,
    bytes_max: u32,
    bytes: BytesMut,
}

#[async_trait]
impl ShardWriter for MemoryWriter {
    async fn write_cell(&mut self, cell: Bytes) -> Result<(), PutError> {
        self.node.arrive_to_put().await?;
        let bytes_max = self.bytes_max;
        if self.bytes.len() + cell.len() > usize::try_from(bytes_max).expect("u32 fits usize") {
            return Err(PutError::Malformed { id: self.id, reason: MalformedShard::Overrun { bytes_max } });
        }
        self.bytes.extend_from_slice(&cell);
        Ok(())
    }

    async fn seal(mut self: Box<Self>, footer: Bytes) -> Result<(), PutError> {
        self.node.arrive_to_put().await?;
        let bytes = std::mem::take(&mut self.bytes).freeze();
        self.node.store(self.id, bytes, footer)
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.node.state.lock().writing.remove(&self.id);
    }
}
