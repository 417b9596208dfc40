//! The cluster map: nodes, their failure domains, and the stored slots of every placement group.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyWriter, Tag};

/// One storage node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its number, never reused.
    pub node: u16,
    /// Failure domain: nodes that fail together share one (a disk, a machine).
    pub domain: String,
    /// Whether new shards may go there.
    pub state: NodeState,
}

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Reads and writes.
    Active,
    /// Reads only; its shards are moved away.
    Draining,
    /// Gone for good.
    Removed,
}

/// The map. Few hundred groups of few slots: one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRow {
    /// Goes up with every change.
    pub epoch: u64,
    /// Data shards of a full chunk.
    pub k: u8,
    /// Parity shards of every chunk.
    pub m: u8,
    /// All nodes ever.
    pub nodes: Vec<NodeRow>,
    /// For each group its k + m nodes, shard by shard.
    pub groups: Vec<Vec<u16>>,
}

impl NamespaceRow for ClusterRow {
    const KIND: &'static str = "cluster map";
}

/// Key of the current map.
pub fn key() -> Bytes {
    KeyWriter::new(Tag::Cluster).u64(u64::MAX).finish()
}

/// Key of a past map, kept while chunks refer to its epoch.
pub fn past_key(epoch: u64) -> Bytes {
    KeyWriter::new(Tag::Cluster).u64(epoch).finish()
}

/// Where the current map and all past ones start.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::Cluster).finish()
}
