//! The shard service: what a storage node promises, and the store that keeps the promise on a disk.
//!
//! [`ShardService`] is the trait that gateways call; [`MemoryNode`] is a node without a disk for tests.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod checked;
mod memory;
mod service;

pub use memory::MemoryNode;
pub use service::{
    BlockRange, Corruption, DELETE_IDS_MAX, DeleteError, FOOTER_BYTES_MAX, FencingToken, FootedRead,
    LIST_LIMIT_MAX, MalformedShard, NodeHealth, NodeId, PutError, ReadError, SHARD_BYTES_MAX, ShardEntry,
    ShardPut, ShardRead, ShardService, ShardWriter, SpaceReport, Unavailable, Verify,
};
