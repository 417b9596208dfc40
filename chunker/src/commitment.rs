//! The commitment to a chunk, and the checks that node bytes must pass before anyone sees them.
//!
//! `UncheckedCommitment` (foreign bytes of the right shape) → `check()` → `ChunkCommitment` (tied to a chunk
//! root) → `verify()` → `CheckedBlocks`. Only the last kind of bytes can be assembled or rebuilt from.
//! Where a commitment or a block came from is not known here.

mod tables;

pub use tables::CommitmentDecodeError;
pub(crate) use tables::Tables;

use crate::coding::{BLOCK_BYTES, position};
use crate::digest::{ChunkRoot, ShardRoot};
use crate::id::ShardIndex;
use crate::layout::ChunkLayout;
use crate::tree::{self, BLOCKS, Node, SHARDS};
use bytes::Bytes;
use std::ops::Range;

/// The commitment is well-formed but not the one that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentMismatch {
    /// Header and shard roots make another chunk root.
    #[error("the commitment belongs to chunk root {found}, not {expected}")]
    Root {
        /// Chunk root asked for.
        expected: ChunkRoot,
        /// Chunk root that the commitment has.
        found: ChunkRoot,
    },
    /// The leaf table of a shard does not make the root of that shard.
    #[error("the leaf table of shard {shard} does not match its root")]
    Table {
        /// The shard.
        shard: ShardIndex,
    },
    /// The chunk has no such shard.
    #[error("no shard {shard} in the chunk")]
    NoSuchShard {
        /// The shard asked for.
        shard: ShardIndex,
    },
}

/// Bytes are not those that the commitment describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockMismatch {
    /// The chunk has no such shard.
    #[error("no shard {shard} in the chunk")]
    NoSuchShard {
        /// The shard asked for.
        shard: ShardIndex,
    },
    /// The leaf table of the shard was left out when the commitment was checked.
    #[error("the leaf table of shard {shard} was not checked")]
    TableNotChecked {
        /// The shard asked for.
        shard: ShardIndex,
    },
    /// Not a run of one or more whole blocks of the shard (the shard's last may be short).
    #[error("{length} bytes at block {first_block} are no run of blocks of shard {shard}")]
    Extent {
        /// The shard.
        shard: ShardIndex,
        /// First block claimed.
        first_block: u32,
        /// Bytes given.
        length: usize,
    },
    /// A block has other bytes than were committed.
    #[error("block {block} of shard {shard} does not match its leaf")]
    Digest {
        /// The shard.
        shard: ShardIndex,
        /// The first block that differs.
        block: u32,
    },
}

/// A commitment as received: well-formed, but tied to no root yet.
#[derive(Clone)]
pub struct UncheckedCommitment(Tables);

/// A commitment that makes the chunk root asked for: layout, shard roots and leaf tables can be relied on.
#[derive(Clone)]
pub struct ChunkCommitment {
    tables: Tables,
    root: ChunkRoot,
    /// Bit i: leaf table i was checked against its shard root.
    checked: u64,
}

/// A run of blocks of one shard that matched its leaves.
#[derive(Clone)]
pub struct CheckedBlocks {
    root: ChunkRoot,
    shard: ShardIndex,
    first_block: u32,
    bytes: Bytes,
}

impl UncheckedCommitment {
    /// Takes a copy of `bytes`; see [`decode_bytes`](Self::decode_bytes).
    pub fn decode(bytes: &[u8]) -> Result<Self, CommitmentDecodeError> {
        // Its length is checked before it is copied.
        tables::decode_layout(bytes)?;
        Self::decode_bytes(Bytes::copy_from_slice(bytes))
    }

    /// Reads foreign bytes without copying them. Nothing is allocated.
    pub fn decode_bytes(bytes: Bytes) -> Result<Self, CommitmentDecodeError> {
        Tables::decode(bytes).map(Self)
    }

    /// The layout that it claims.
    pub const fn claimed_layout(&self) -> &ChunkLayout {
        self.0.layout()
    }

    /// The root that its header and shard roots make. Says nothing of the leaf tables.
    pub fn claimed_root(&self) -> ChunkRoot {
        self.0.chunk_root()
    }

    /// Checks header, shard roots and every leaf table against `root`.
    pub fn check(self, root: &ChunkRoot) -> Result<ChunkCommitment, CommitmentMismatch> {
        let shards: Vec<_> = self.0.layout().coding().shard_indices().collect();
        self.check_shards(root, &shards)
    }

    /// Checks header and shard roots against `root`, but only the leaf tables of `shards`: a sixth of the
    /// work for a small read at 4+2. Bytes of other shards cannot be checked with the result.
    pub fn check_shards(
        self,
        root: &ChunkRoot,
        shards: &[ShardIndex],
    ) -> Result<ChunkCommitment, CommitmentMismatch> {
        let found = self.0.chunk_root();
        if found != *root {
            return Err(CommitmentMismatch::Root { expected: *root, found });
        }
        let commitment = ChunkCommitment { tables: self.0, root: found, checked: 0 };
        commitment.check_more(shards)
    }
}

impl ChunkCommitment {
    /// Of tables that were computed here, from the bytes themselves.
    pub(crate) fn computed(tables: Tables) -> Self {
        let root = tables.chunk_root();
        Self { tables, root, checked: u64::MAX }
    }

    /// Checks the leaf tables of `shards` too, where that was not done yet.
    pub fn check_more(mut self, shards: &[ShardIndex]) -> Result<Self, CommitmentMismatch> {
        let coding = self.layout().coding();
        for &shard in shards {
            if !coding.contains(shard) {
                return Err(CommitmentMismatch::NoSuchShard { shard });
            }
            let table = coding.table_of(shard);
            if self.checked >> table & 1 == 1 {
                continue;
            }
            if tree::root::<BLOCKS>(self.tables.leaves(table)) != self.tables.stored_roots()[table] {
                return Err(CommitmentMismatch::Table { shard });
            }
            self.checked |= 1 << table;
        }
        Ok(self)
    }

    /// The root it was checked against, or makes.
    pub const fn root(&self) -> ChunkRoot {
        self.root
    }

    /// Where the chunk's bytes lie.
    pub const fn layout(&self) -> &ChunkLayout {
        self.tables.layout()
    }

    /// The encoding that [`UncheckedCommitment::decode`] reads; shares memory, costs nothing.
    pub fn encode(&self) -> Bytes {
        self.tables.encoded().clone()
    }

    /// The root of a shard; `None` if there is no such shard.
    pub fn shard_root(&self, shard: ShardIndex) -> Option<ShardRoot> {
        let coding = self.layout().coding();
        coding.contains(shard).then(|| self.tables.stored_roots()[coding.table_of(shard)].into())
    }

    /// The BLAKE3 leaves of a shard, one per block; `None` if there is no such shard or its table was left
    /// out of the check.
    pub fn leaves(&self, shard: ShardIndex) -> Option<&[[u8; 32]]> {
        let coding = self.layout().coding();
        if !coding.contains(shard) {
            return None;
        }
        let table = coding.table_of(shard);
        (self.checked >> table & 1 == 1).then(|| self.tables.leaves(table))
    }

    /// Checks a run of whole blocks of `shard` from `first_block` on (the shard's last may be short).
    pub fn check_blocks(
        &self,
        shard: ShardIndex,
        first_block: u32,
        bytes: &[u8],
    ) -> Result<(), BlockMismatch> {
        let layout = self.layout();
        if !layout.coding().contains(shard) {
            return Err(BlockMismatch::NoSuchShard { shard });
        }
        let leaves = self.leaves(shard).ok_or(BlockMismatch::TableNotChecked { shard })?;
        let extent = BlockMismatch::Extent { shard, first_block, length: bytes.len() };
        let blocks = bytes.len().div_ceil(position(BLOCK_BYTES));
        let last_block = u32::try_from(blocks).ok().and_then(|blocks| first_block.checked_add(blocks));
        let run = layout.blocks_range(first_block..last_block.ok_or(extent)?);
        if bytes.is_empty() || position(run.end - run.start) != bytes.len() {
            return Err(extent);
        }
        for (block, bytes) in (first_block..).zip(bytes.chunks(position(BLOCK_BYTES))) {
            if leaf(bytes) != leaves[position(block)] {
                return Err(BlockMismatch::Digest { shard, block });
            }
        }
        Ok(())
    }

    /// [`check_blocks`](Self::check_blocks), and the bytes as what they now are known to be.
    pub fn verify(
        &self,
        shard: ShardIndex,
        first_block: u32,
        bytes: Bytes,
    ) -> Result<CheckedBlocks, BlockMismatch> {
        self.check_blocks(shard, first_block, &bytes)?;
        Ok(CheckedBlocks { root: self.root, shard, first_block, bytes })
    }

    /// The siblings of `block` in its shard's tree, from the leaf up.
    pub(crate) fn block_path(&self, shard: ShardIndex, block: u32) -> Option<Vec<Node>> {
        tree::path::<BLOCKS>(self.leaves(shard)?, position(block))
    }

    /// The siblings of `shard` in the chunk's tree, from the leaf up.
    pub(crate) fn shard_path(&self, shard: ShardIndex) -> Option<Vec<Node>> {
        tree::path::<SHARDS>(&self.tables.shard_roots(), shard.position())
    }
}

impl std::fmt::Debug for ChunkCommitment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ChunkCommitment");
        shown.field("root", &self.root).field("layout", self.layout()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for UncheckedCommitment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("UncheckedCommitment");
        shown.field("layout", self.claimed_layout()).finish_non_exhaustive()
    }
}

impl PartialEq for ChunkCommitment {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root && self.tables.encoded() == other.tables.encoded()
    }
}

impl Eq for ChunkCommitment {}

impl CheckedBlocks {
    /// The chunk they belong to.
    pub const fn chunk_root(&self) -> ChunkRoot {
        self.root
    }

    /// The shard they belong to.
    pub const fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// The first block of the run.
    pub const fn first_block(&self) -> u32 {
        self.first_block
    }

    /// The bytes, padding included.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The run as bytes of the shard.
    pub fn range(&self) -> Range<u32> {
        let start = self.first_block * BLOCK_BYTES;
        let length = u32::try_from(self.bytes.len()).expect("a checked run lies within its shard");
        start..start + length
    }

    /// The same bytes as another of the equal shards of a chunk with k = 1.
    pub(crate) fn copied_to(&self, shard: ShardIndex) -> Self {
        Self { shard, ..self.clone() }
    }
}

impl std::fmt::Debug for CheckedBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("CheckedBlocks");
        shown.field("root", &self.root).field("shard", &self.shard).field("range", &self.range()).finish()
    }
}

/// The leaf of a block.
pub(crate) fn leaf(block: &[u8]) -> Node {
    *blake3::hash(block).as_bytes()
}
