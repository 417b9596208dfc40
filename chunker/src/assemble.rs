//! Puts a byte range of a chunk together from checked blocks, without copying them.
//!
//! Padding that lies in the blocks at hand must be zero: a chunk committed with anything else in it was not
//! made by this format, and is not served.

use crate::coding::position;
use crate::commitment::{CheckedBlocks, ChunkCommitment};
use crate::digest::ChunkRoot;
use crate::id::ShardIndex;
use crate::layout::CellPiece;
use bytes::Bytes;
use std::ops::Range;

/// The range cannot be put together from these blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// The range goes past the chunk's end, or backwards.
    #[error("bytes {start}..{end} of a chunk of {chunk_len}")]
    Range {
        /// First byte asked for.
        start: u32,
        /// End of the range asked for.
        end: u32,
        /// Length of the chunk.
        chunk_len: u32,
    },
    /// Blocks that were checked against another chunk.
    #[error("blocks of chunk {found} given for chunk {expected}")]
    OtherChunk {
        /// The chunk to assemble.
        expected: ChunkRoot,
        /// The chunk of the blocks.
        found: ChunkRoot,
    },
    /// No block given covers this byte of the shard.
    #[error("byte {offset} of shard {shard} is missing")]
    Missing {
        /// The data shard.
        shard: ShardIndex,
        /// The byte of the shard.
        offset: u32,
    },
    /// Committed padding is not zero.
    #[error("padding byte {offset} of shard {shard} is not zero")]
    Padding {
        /// The data shard.
        shard: ShardIndex,
        /// The byte of the shard.
        offset: u32,
    },
}

impl ChunkCommitment {
    /// The bytes `range` of the chunk, as slices of `blocks` in order. Blocks beyond the range are allowed;
    /// where the shards are copies, blocks of any of them serve.
    pub fn assemble(&self, range: Range<u32>, blocks: &[CheckedBlocks]) -> Result<Vec<Bytes>, AssembleError> {
        let chunk_len = self.layout().chunk_len();
        if range.start > range.end || range.end > chunk_len {
            return Err(AssembleError::Range { start: range.start, end: range.end, chunk_len });
        }
        for run in blocks {
            if run.chunk_root() != self.root() {
                return Err(AssembleError::OtherChunk { expected: self.root(), found: run.chunk_root() });
            }
            self.check_padding(run)?;
        }
        let mut assembled = Vec::new();
        for piece in self.layout().pieces(range) {
            self.take_piece(&piece, blocks, &mut assembled)?;
        }
        Ok(assembled)
    }

    fn take_piece(
        &self,
        piece: &CellPiece,
        blocks: &[CheckedBlocks],
        assembled: &mut Vec<Bytes>,
    ) -> Result<(), AssembleError> {
        let copies = self.layout().coding().is_copies();
        let mut next = piece.bytes.start;
        while next < piece.bytes.end {
            let holds =
                |run: &&CheckedBlocks| (copies || run.shard() == piece.shard) && run.range().contains(&next);
            let missing = AssembleError::Missing { shard: piece.shard, offset: next };
            let run = blocks.iter().find(holds).ok_or(missing)?;
            let within = run.range();
            let end = piece.bytes.end.min(within.end);
            assembled.push(run.bytes().slice(position(next - within.start)..position(end - within.start)));
            next = end;
        }
        Ok(())
    }

    fn check_padding(&self, run: &CheckedBlocks) -> Result<(), AssembleError> {
        let (padding, within) = (self.layout().padding(run.shard()), run.range());
        let start = padding.start.max(within.start);
        if start >= padding.end.min(within.end) {
            return Ok(());
        }
        let bytes = &run.bytes()[position(start - within.start)..];
        match (start..).zip(bytes).find(|(_, byte)| **byte != 0) {
            Some((offset, _)) => Err(AssembleError::Padding { shard: run.shard(), offset }),
            None => Ok(()),
        }
    }
}
