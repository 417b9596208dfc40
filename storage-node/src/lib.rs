//! The shard service: what a storage node promises, and the store that keeps the promise on a disk.
//!
//! [`ShardService`] is the trait that gateways call. [`Store`] is a node in a folder; stores that share a file
//! system share a [`Flusher`]. [`MemoryNode`] is a node without a disk for tests of what lies above.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod checked;
mod memory;
mod service;
mod store;

pub use memory::MemoryNode;
pub use service::{
    BlockRange, Corruption, DELETE_IDS_MAX, DeleteError, FOOTER_BYTES_MAX, FencingToken, FootedRead,
    HighWater, LIST_LIMIT_MAX, MalformedShard, NodeHealth, NodeId, PutError, ReadError, SHARD_BYTES_MAX,
    ShardEntry, ShardPut, ShardRead, ShardService, ShardWriter, SpaceReport, Unavailable, Verify,
};
pub use store::{
    Counter, DiskUuid, Flusher, FlusherOptions, FlusherStats, LogDamage, OpenError, OpenReport, STORE_FORMAT,
    ScrubReport, Store, StoreOptions, StoreStats, Superblock, SuperblockError, format,
};
