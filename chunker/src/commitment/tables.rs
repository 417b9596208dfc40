//! The encoded form of a commitment: header, shard roots and leaf tables in one buffer.
//!
//! The buffer always has exactly the length that its header implies, so reading it cannot fail. Whether the
//! roots and tables belong together is not known here.

use crate::coding::position;
use crate::digest::{ChunkRoot, Digest};
use crate::header::{ChunkHeader, FORMAT, HeaderError};
use crate::layout::ChunkLayout;
use crate::tree::{self, BLOCKS, Node, SHARDS};
use bytes::Bytes;

/// Bytes before the shard roots: format u16, then the chunk header.
const PREFIX_BYTES: usize = 2 + ChunkHeader::BYTES;

/// A chunk's layout, the roots of its shards and the leaf tables of all of them, as they were received.
///
/// Encoding: format u16 ‖ chunk header ‖ shard roots ‖ leaf tables, in shard order; with k = 1 one root and
/// one table stand for all the equal shards. 12 KiB for a full chunk at 4+2.
#[derive(Clone)]
pub(crate) struct Tables {
    layout: ChunkLayout,
    encoded: Bytes,
}

/// The bytes are no commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentDecodeError {
    /// Too short for a header.
    #[error("{length} bytes are too few for a commitment")]
    Truncated {
        /// Bytes given.
        length: usize,
    },
    /// The header is of another format or contradicts itself.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Longer or shorter than its header says.
    #[error("a commitment of {length} bytes, where its header says {expected}")]
    Length {
        /// Bytes given.
        length: usize,
        /// Bytes that the header implies.
        expected: usize,
    },
}

impl Tables {
    /// Of foreign bytes; nothing is allocated.
    pub(super) fn decode(encoded: Bytes) -> Result<Self, CommitmentDecodeError> {
        let layout = decode_layout(&encoded)?;
        Ok(Self { layout, encoded })
    }

    /// The encoding; shares memory.
    pub(super) const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The layout that the header states.
    pub(super) const fn layout(&self) -> &ChunkLayout {
        &self.layout
    }

    /// From the leaves of each stored table, in shard order.
    pub(crate) fn from_leaves(layout: ChunkLayout, leaves: &[Vec<Node>]) -> Self {
        let mut encoded = Vec::with_capacity(Self::encoded_bytes(&layout));
        encoded.extend_from_slice(&FORMAT.to_be_bytes());
        encoded.extend_from_slice(&ChunkHeader::new(layout).encode());
        leaves.iter().for_each(|table| encoded.extend_from_slice(&tree::root::<BLOCKS>(table)));
        leaves.iter().for_each(|table| encoded.extend_from_slice(table.as_flattened()));
        assert_eq!(encoded.len(), Self::encoded_bytes(&layout), "one leaf per block of each stored table");
        Self { layout, encoded: encoded.into() }
    }

    fn encoded_bytes(layout: &ChunkLayout) -> usize {
        let per_table = Digest::BYTES * (1 + position(layout.blocks()));
        PREFIX_BYTES + usize::from(layout.coding().tables()) * per_table
    }

    /// Shard roots as stored: one where the shards are copies.
    pub(super) fn stored_roots(&self) -> &[Node] {
        let roots = usize::from(self.layout.coding().tables());
        &self.encoded[PREFIX_BYTES..].as_chunks().0[..roots]
    }

    /// Leaves of stored table `table`.
    pub(super) fn leaves(&self, table: usize) -> &[Node] {
        let blocks = position(self.layout.blocks());
        let first = usize::from(self.layout.coding().tables()) + table * blocks;
        &self.encoded[PREFIX_BYTES..].as_chunks().0[first..first + blocks]
    }

    /// Shard roots of all k + m shards, equal ones repeated.
    pub(super) fn shard_roots(&self) -> Vec<Node> {
        let coding = self.layout.coding();
        let stored = self.stored_roots();
        coding.shard_indices().map(|shard| stored[coding.table_of(shard)]).collect()
    }

    pub(super) fn chunk_root(&self) -> ChunkRoot {
        ChunkHeader::new(self.layout).root(&tree::root::<SHARDS>(&self.shard_roots()))
    }
}

/// The layout of a well-formed commitment.
pub(super) fn decode_layout(bytes: &[u8]) -> Result<ChunkLayout, CommitmentDecodeError> {
    let truncated = CommitmentDecodeError::Truncated { length: bytes.len() };
    let (format, rest) = bytes.split_first_chunk::<2>().ok_or(truncated)?;
    let format = u16::from_be_bytes(*format);
    if format != FORMAT {
        return Err(HeaderError::Format { format }.into());
    }
    let header = rest.first_chunk::<{ ChunkHeader::BYTES }>().ok_or(truncated)?;
    let layout = ChunkHeader::decode(*header)?.layout();
    let expected = Tables::encoded_bytes(&layout);
    if bytes.len() != expected {
        return Err(CommitmentDecodeError::Length { length: bytes.len(), expected });
    }
    Ok(layout)
}
