//! What a storage node does for a gateway: the trait, and the facts that cross it.
//!
//! Object-safe, because a gateway holds stores of this process and clients of others side by side. The
//! invariant every implementation keeps: what `put` or `seal` acknowledged is durable and is read back
//! byte-identical until it is deleted; what was not acknowledged is absent or complete.
//!
//! Deliberately knows nothing of objects, manifests, or of the other shards of a chunk.

use ashlar_chunker::{CommitmentDecodeError, SessionId, ShardId};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Bytes of the largest shard: a whole chunk stored as copies.
pub const SHARD_BYTES_MAX: u32 = ashlar_chunker::CHUNK_BYTES;
/// Bytes of the largest footer: a commitment with 64 leaf tables of 128 leaves.
pub const FOOTER_BYTES_MAX: usize = 512 << 10;
/// Most entries that one [`ShardService::list`] answers.
pub const LIST_LIMIT_MAX: usize = 10_000;
/// Most ids that one [`ShardService::delete`] takes.
pub const DELETE_IDS_MAX: usize = 10_000;

/// A storage node of the cluster, by its configured number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{}", self.0)
    }
}

/// A whole shard to store.
#[derive(Clone, Debug)]
pub struct ShardPut {
    /// Which shard; assigned once and never given to other content.
    pub id: ShardId,
    /// Its cells in row order. Only their concatenation matters.
    pub cells: Vec<Bytes>,
    /// The encoded [`ashlar_chunker::ChunkCommitment`] of its chunk, the same for all k + m shards.
    pub footer: Bytes,
}

/// A run of blocks of a shard; what reaches past the shard's end is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRange {
    /// First block, counted from 0 in [`ashlar_chunker::BLOCK_BYTES`].
    pub first_block: u32,
    /// Blocks; at least one.
    pub count: u32,
}

impl BlockRange {
    /// Every block of any shard.
    pub const ALL: Self = Self { first_block: 0, count: u32::MAX };
}

/// Who compares the bytes with their leaves. Every read is checked by exactly one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The node, against the footer it stored with the shard, before it answers.
    Node,
    /// The caller, against the root that metadata names; the node only found the bytes.
    Caller,
}

/// Blocks of a shard.
#[derive(Clone, Debug)]
pub struct ShardRead {
    /// The blocks asked for, cut off at the shard's end; never empty.
    pub bytes: Bytes,
}

/// Blocks of a shard and the commitment they can be checked with.
#[derive(Clone, Debug)]
pub struct FootedRead {
    /// The blocks asked for, cut off at the shard's end; never empty.
    pub bytes: Bytes,
    /// The encoded commitment, as it was put.
    pub footer: Bytes,
}

/// Orders deleters: a node refuses tokens below the highest it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FencingToken(pub u64);

/// A line of a node's inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardEntry {
    /// The shard.
    pub id: ShardId,
    /// Its bytes, footer not counted.
    pub bytes: u32,
}

/// How far a node has seen others count, so that somebody who has lost count can go on above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HighWater {
    /// Highest session of which a shard is here, quarantined ones included.
    pub session: Option<SessionId>,
    /// Highest fencing token that was accepted.
    pub token: FencingToken,
}

/// What a node holds and can still take, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceReport {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What the node could still write before it turns read-only. Nodes of one file system share it.
    pub writable_bytes: u64,
    /// Shards held.
    pub shards: u64,
    /// Their bytes, footers not counted.
    pub shard_bytes: u64,
    /// What the node's files take on the file system, free room in them included.
    pub file_bytes: u64,
}

/// Whether a node can be written to and read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeHealth {
    /// Both.
    Writable,
    /// Reads and deletes only, until space comes back.
    Full,
    /// Reads only, until the node is reopened.
    ReadOnly {
        /// The failure that made it so.
        reason: String,
    },
    /// Neither.
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// Cells and footer do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedShard {
    /// The footer is no commitment.
    #[error("the footer is no commitment: {0}")]
    Footer(#[from] CommitmentDecodeError),
    /// The footer is larger than any commitment.
    #[error("a footer of {bytes} bytes, at most {FOOTER_BYTES_MAX} are allowed")]
    FooterBytes {
        /// Bytes given.
        bytes: usize,
    },
    /// The commitment is of a chunk with fewer shards.
    #[error("the chunk has {shards} shards")]
    NoSuchShard {
        /// Shards that the commitment names.
        shards: u8,
    },
    /// The cells do not add up to the length that the commitment gives the shard.
    #[error("cells of {found} bytes in all, but the commitment says {expected}")]
    Length {
        /// Bytes given.
        found: u64,
        /// Bytes that the commitment implies.
        expected: u64,
    },
    /// More cells than the writer was begun for.
    #[error("more than the {bytes_max} bytes announced")]
    Overrun {
        /// Announced to [`ShardService::begin`].
        bytes_max: u32,
    },
}

/// A shard was not stored. It is absent afterwards, except that an earlier put of it stands.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PutError {
    /// The id has other content here.
    #[error("shard {id} exists with other content")]
    Conflict {
        /// The shard.
        id: ShardId,
    },
    /// The same shard is being written right now.
    #[error("shard {id} is being written by another request")]
    Busy {
        /// The shard.
        id: ShardId,
    },
    /// The node keeps its last space for deletes.
    #[error("node is full: {available_bytes} bytes available, {reserve_bytes} are kept in reserve")]
    Full {
        /// Left on the file system.
        available_bytes: u64,
        /// Never filled by puts.
        reserve_bytes: u64,
    },
    /// What was given cannot be a shard.
    #[error("shard {id} is malformed: {reason}")]
    Malformed {
        /// The shard.
        id: ShardId,
        /// Why.
        reason: MalformedShard,
    },
    /// A write or sync failed earlier; the outcome of this put, if it was under way, is unknown until the
    /// node is reopened.
    #[error("node is read-only until reopened: {reason}")]
    ReadOnly {
        /// The failure.
        reason: String,
    },
    /// The node does not answer.
    #[error("node is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// What is wrong with stored bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// A record or footer fails its own check.
    #[error("its record is damaged")]
    Record,
    /// A block differs from its leaf.
    #[error("block {block} differs from its leaf")]
    Block {
        /// The first that differs.
        block: u32,
    },
    /// The commitment contradicts itself or the shard.
    #[error("its commitment is damaged")]
    Commitment,
    /// Found before, by a scrub or a read, and kept from being served.
    #[error("it is quarantined")]
    Quarantined,
}

/// A read gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The node does not hold the shard.
    #[error("no shard {id} here")]
    NotFound {
        /// The shard.
        id: ShardId,
    },
    /// The node holds it damaged; it must be rebuilt from others.
    #[error("shard {id} is corrupt: {corruption}")]
    Corrupt {
        /// The shard.
        id: ShardId,
        /// What is wrong.
        corruption: Corruption,
    },
    /// The shard has no such block, or none was asked for.
    #[error("shard {id} has {blocks} blocks, asked for {count} from {first_block}")]
    OutOfRange {
        /// The shard.
        id: ShardId,
        /// Asked for.
        first_block: u32,
        /// Asked for.
        count: u32,
        /// There are.
        blocks: u32,
    },
    /// The disk refused.
    #[error("cannot read shard {id}: {error}")]
    Io {
        /// The shard.
        id: ShardId,
        /// The system's error.
        error: Arc<io::Error>,
    },
    /// The node does not answer.
    #[error("node is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// A delete may have happened in part; repeating it is harmless.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeleteError {
    /// Somebody with a higher token has taken over.
    #[error("fencing token {} is stale, {} was seen", .token.0, .highest.0)]
    StaleToken {
        /// Given.
        token: FencingToken,
        /// Highest seen.
        highest: FencingToken,
    },
    /// More ids than [`DELETE_IDS_MAX`].
    #[error("{ids} ids in one delete, at most {DELETE_IDS_MAX} are allowed")]
    TooMany {
        /// Given.
        ids: usize,
    },
    /// A write or sync failed earlier.
    #[error("node is read-only until reopened: {reason}")]
    ReadOnly {
        /// The failure.
        reason: String,
    },
    /// The node does not answer.
    #[error("node is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// The node does not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node is unavailable: {reason}")]
pub struct Unavailable {
    /// Why.
    pub reason: String,
}

/// A storage node.
///
/// Every method can be dropped at any await: a put or delete that was under way then happens or does not.
#[async_trait]
pub trait ShardService: Send + Sync + 'static {
    /// Stores a shard; durable when it returns.
    ///
    /// Putting the same content again is `Ok`. A quarantined shard is replaced.
    async fn put(&self, shard: ShardPut) -> Result<(), PutError>;

    /// Starts a shard of at most `bytes_max` bytes whose cells come one by one. Until the writer is sealed
    /// or dropped, the id is [busy](PutError::Busy).
    async fn begin(&self, id: ShardId, bytes_max: u32) -> Result<Box<dyn ShardWriter>, PutError>;

    /// Reads blocks.
    async fn read(&self, id: ShardId, range: BlockRange, verify: Verify) -> Result<ShardRead, ReadError>;

    /// Reads blocks and the footer in one go.
    async fn read_with_footer(
        &self,
        id: ShardId,
        range: BlockRange,
        verify: Verify,
    ) -> Result<FootedRead, ReadError>;

    /// Reads the footer.
    async fn footer(&self, id: ShardId) -> Result<Bytes, ReadError>;

    /// Removes shards; durable when it returns, after which their space is given back. Ids that are not
    /// here are skipped. At most [`DELETE_IDS_MAX`] ids.
    async fn delete(&self, ids: &[ShardId], token: FencingToken) -> Result<(), DeleteError>;

    /// Keeps a shard from being served, because its reader found it corrupt. Put replaces it.
    async fn quarantine(&self, id: ShardId) -> Result<(), Unavailable>;

    /// Up to `limit` (at most [`LIST_LIMIT_MAX`]) shards in id order, the first of them after `after`.
    /// Quarantined shards are left out.
    async fn list(&self, after: Option<ShardId>, limit: usize) -> Result<Vec<ShardEntry>, Unavailable>;

    /// The highest session and token that the node knows.
    async fn high_water(&self) -> Result<HighWater, Unavailable>;

    /// What the node holds and can take.
    async fn space(&self) -> Result<SpaceReport, Unavailable>;

    /// Whether it can be read and written.
    async fn health(&self) -> NodeHealth;
}

/// A shard on its way in. Dropping it unsealed leaves nothing behind.
#[async_trait]
pub trait ShardWriter: Send + 'static {
    /// Takes the next cell, in row order. Waits while more than a bounded amount is unwritten.
    async fn write_cell(&mut self, cell: Bytes) -> Result<(), PutError>;

    /// Completes the shard with the encoded commitment of its chunk; durable when it returns.
    async fn seal(self: Box<Self>, footer: Bytes) -> Result<(), PutError>;
}
