//! Where the bytes of a chunk lie: rows, cells, shards, blocks. Pure arithmetic, no bytes.
//!
//! A layout follows from chunk length and coding alone, and both are within limits, so nothing here can
//! overflow. Offsets within a chunk or shard are `u32`, ranges half-open.

use crate::coding::{BLOCK_BYTES, CELL_BYTES, CHUNK_BYTES, CODER_BYTES, Coding};
use crate::id::ShardIndex;
use std::ops::Range;

/// Rows, cells and blocks of a chunk of a given length and coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkLayout {
    chunk_len: u32,
    coding: Coding,
}

/// No chunk has this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of {chunk_len} bytes: must be 1 to {CHUNK_BYTES}")]
pub struct LayoutError {
    /// Length asked for.
    pub chunk_len: u32,
}

/// The part of one data cell that a byte range of the chunk touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellPiece {
    /// Row of the cell.
    pub row: u32,
    /// Data shard that holds the cell (0 where the shards are copies: any of them will do).
    pub shard: ShardIndex,
    /// First byte of the piece in the chunk.
    pub chunk_offset: u32,
    /// The piece, as bytes of the shard.
    pub bytes: Range<u32>,
    /// The blocks of the shard that must be fetched and checked for it.
    pub blocks: Range<u32>,
}

/// All of one data shard that a byte range of the chunk touches; always one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRange {
    /// The data shard (0 where the shards are copies: any of them will do).
    pub shard: ShardIndex,
    /// The touched bytes of the shard.
    pub bytes: Range<u32>,
    /// The blocks that cover them.
    pub blocks: Range<u32>,
}

impl ChunkLayout {
    /// The layout of a chunk of 1 to [`CHUNK_BYTES`] bytes.
    pub const fn new(chunk_len: u32, coding: Coding) -> Result<Self, LayoutError> {
        if chunk_len == 0 || chunk_len > CHUNK_BYTES {
            return Err(LayoutError { chunk_len });
        }
        Ok(Self { chunk_len, coding })
    }

    /// Object bytes of the chunk.
    pub const fn chunk_len(&self) -> u32 {
        self.chunk_len
    }

    /// Its coding.
    pub const fn coding(&self) -> Coding {
        self.coding
    }

    /// Rows, the last of which may be short; at least one.
    pub const fn rows(&self) -> u32 {
        self.chunk_len.div_ceil(self.coding.row_bytes())
    }

    /// The chunk's bytes in `row` (padding not counted); empty past the last row.
    pub fn row_range(&self, row: u32) -> Range<u32> {
        let start = row.saturating_mul(self.coding.row_bytes()).min(self.chunk_len);
        start..start.saturating_add(self.coding.row_bytes()).min(self.chunk_len)
    }

    /// Bytes of each cell of `row`, a multiple of [`CODER_BYTES`]; 0 past the last row.
    pub fn cell_bytes(&self, row: u32) -> u32 {
        let bytes = self.row_range(row);
        cell_bytes_of_row(bytes.end - bytes.start, self.coding)
    }

    /// Bytes of each shard: its cells, padding included.
    pub fn shard_bytes(&self) -> u32 {
        let last = self.rows() - 1;
        last * CELL_BYTES + self.cell_bytes(last)
    }

    /// Blocks of each shard, which is how many leaves its table has; at least one.
    pub fn blocks(&self) -> u32 {
        self.shard_bytes().div_ceil(BLOCK_BYTES)
    }

    /// The bytes of the shard in `block` (only the last may be short); empty past the last block.
    pub fn block_range(&self, block: u32) -> Range<u32> {
        self.blocks_range(block..block.saturating_add(1))
    }

    /// The bytes of the shard in a run of blocks, cut off at the shard's end.
    pub fn blocks_range(&self, blocks: Range<u32>) -> Range<u32> {
        let end = self.shard_bytes();
        let at = |block: u32| block.saturating_mul(BLOCK_BYTES).min(end);
        at(blocks.start)..at(blocks.end)
    }

    /// The bytes of `shard` that are padding: zero, and last in a data shard or copy. Empty for parity shards.
    pub fn padding(&self, shard: ShardIndex) -> Range<u32> {
        let end = self.shard_bytes();
        let Some(column) = self.coding.column(shard) else { return end..end };
        let last = self.rows() - 1;
        let row = self.row_range(last);
        let cell = self.cell_bytes(last);
        let filled = (row.end - row.start).saturating_sub(u32::from(column) * cell).min(cell);
        last * CELL_BYTES + filled..end
    }

    /// The byte of the chunk that byte `offset` of `shard` is; `None` for parity and padding.
    pub fn chunk_offset(&self, shard: ShardIndex, offset: u32) -> Option<u32> {
        let column = self.coding.column(shard)?;
        if offset >= self.padding(shard).start {
            return None;
        }
        let row = offset / CELL_BYTES;
        let cell = self.cell_bytes(row);
        Some(self.row_range(row).start + u32::from(column) * cell + offset % CELL_BYTES)
    }

    /// The cell pieces that make up `range` of the chunk, in the chunk's order; the range is cut off at the
    /// chunk's end.
    pub fn pieces(&self, range: Range<u32>) -> impl Iterator<Item = CellPiece> + use<> {
        let layout = *self;
        let end = range.end.min(layout.chunk_len);
        let mut next = range.start;
        std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let piece = layout.piece_at(next, end);
            next += piece.bytes.end - piece.bytes.start;
            Some(piece)
        })
    }

    fn piece_at(&self, start: u32, end: u32) -> CellPiece {
        let row = start / self.coding.row_bytes();
        let row_start = row * self.coding.row_bytes();
        let cell = self.cell_bytes(row);
        let shard = (start - row_start) / cell;
        let cell_start = row_start + shard * cell;
        let first = row * CELL_BYTES + (start - cell_start);
        let bytes = first..first + (cell_start + cell).min(end) - start;
        CellPiece {
            row,
            shard: ShardIndex(u8::try_from(shard).expect("a row has k cells, and k is a u8")),
            chunk_offset: start,
            blocks: blocks_of(&bytes),
            bytes,
        }
    }

    /// What `range` of the chunk touches, per data shard and sorted by it; the range is cut off at the
    /// chunk's end. The cells of a shard follow each other, so each shard is touched in one run.
    pub fn shard_ranges(&self, range: Range<u32>) -> Vec<ShardRange> {
        let mut runs: Vec<ShardRange> = Vec::with_capacity(usize::from(self.coding.k()));
        for piece in self.pieces(range) {
            match runs.iter_mut().find(|run| run.shard == piece.shard) {
                Some(run) => {
                    run.bytes.end = piece.bytes.end;
                    run.blocks.end = piece.blocks.end;
                }
                None => {
                    runs.push(ShardRange { shard: piece.shard, bytes: piece.bytes, blocks: piece.blocks })
                }
            }
        }
        runs.sort_by_key(|run| run.shard);
        runs
    }
}

/// Bytes of each cell of a row that holds `row_len` object bytes.
pub(crate) const fn cell_bytes_of_row(row_len: u32, coding: Coding) -> u32 {
    row_len.div_ceil(CODER_BYTES * coding.k() as u32) * CODER_BYTES
}

/// The blocks that cover a byte range of a shard.
fn blocks_of(bytes: &Range<u32>) -> Range<u32> {
    bytes.start / BLOCK_BYTES..bytes.end.div_ceil(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(chunk_len: u32, k: u8, m: u8) -> ChunkLayout {
        ChunkLayout::new(chunk_len, Coding::new(k, m).unwrap()).unwrap()
    }

    #[test]
    fn full_chunk_at_4_2() {
        let full = layout(CHUNK_BYTES, 4, 2);
        assert_eq!((full.rows(), full.shard_bytes(), full.blocks()), (16, 1 << 20, 64));
        assert_eq!(full.cell_bytes(15), CELL_BYTES);
        assert_eq!(full.cell_bytes(16), 0);
        assert_eq!(full.row_range(16), CHUNK_BYTES..CHUNK_BYTES);
        assert_eq!(full.padding(ShardIndex(3)), 1 << 20..1 << 20);
    }

    #[test]
    fn short_last_row_is_padded_to_the_coder() {
        let short = layout(4 * CELL_BYTES + 100, 4, 2);
        assert_eq!((short.rows(), short.cell_bytes(1), short.shard_bytes()), (2, 64, CELL_BYTES + 64));
        assert_eq!(short.blocks(), 5);
        assert_eq!(short.padding(ShardIndex(0)), CELL_BYTES + 64..CELL_BYTES + 64);
        assert_eq!(short.padding(ShardIndex(1)), CELL_BYTES + 36..CELL_BYTES + 64);
        assert_eq!(short.padding(ShardIndex(2)), CELL_BYTES..CELL_BYTES + 64);
        assert_eq!(short.padding(ShardIndex(4)), CELL_BYTES + 64..CELL_BYTES + 64);
    }

    #[test]
    fn every_copy_holds_the_chunk_and_its_padding() {
        let copies = layout(100, 1, 2);
        for shard in (0..3).map(ShardIndex) {
            assert_eq!(copies.padding(shard), 100..128);
            assert_eq!((copies.chunk_offset(shard, 99), copies.chunk_offset(shard, 100)), (Some(99), None));
        }
        assert_eq!(copies.chunk_offset(ShardIndex(3), 0), None);
    }

    #[test]
    fn lengths_outside_the_limits_are_refused() {
        let coding = Coding::new(4, 2).unwrap();
        for chunk_len in [0, CHUNK_BYTES + 1, u32::MAX] {
            assert_eq!(ChunkLayout::new(chunk_len, coding), Err(LayoutError { chunk_len }));
        }
    }

    proptest! {
        #[test]
        fn pieces_and_shard_ranges_agree_with_a_byte_by_byte_map(
            chunk_len in 1u32..=1 << 20, k in 1u8..=9, start: u32, span in 0u32..300_000,
        ) {
            let layout = layout(chunk_len, k, 2);
            let start = start % chunk_len;
            let range = start..start.saturating_add(span);
            let mut expected = start;
            for piece in layout.pieces(range.clone()) {
                prop_assert_eq!(piece.chunk_offset, expected);
                prop_assert_eq!(piece.row, piece.bytes.start / CELL_BYTES);
                let covered = layout.blocks_range(piece.blocks.clone());
                prop_assert!(covered.start <= piece.bytes.start && piece.bytes.end <= covered.end);
                for at in [piece.bytes.start, (piece.bytes.start + piece.bytes.end) / 2, piece.bytes.end - 1] {
                    let chunk_offset = expected + (at - piece.bytes.start);
                    prop_assert_eq!(layout.chunk_offset(piece.shard, at), Some(chunk_offset));
                }
                expected += piece.bytes.end - piece.bytes.start;
            }
            prop_assert_eq!(expected, range.end.min(chunk_len));
            for run in layout.shard_ranges(range.clone()) {
                let pieces: Vec<_> = layout.pieces(range.clone()).filter(|p| p.shard == run.shard).collect();
                prop_assert!(pieces.windows(2).all(|pair| pair[0].bytes.end == pair[1].bytes.start));
                prop_assert_eq!(pieces[0].bytes.start, run.bytes.start);
                prop_assert_eq!(pieces[pieces.len() - 1].bytes.end, run.bytes.end);
                prop_assert_eq!(run.blocks, blocks_of(&run.bytes));
            }
        }

        #[test]
        fn shards_hold_the_chunk_and_its_padding(chunk_len in 1u32..=CHUNK_BYTES, k in 1u8..=62) {
            let layout = layout(chunk_len, k, 2);
            let data: u64 = (0..k).map(|s| u64::from(layout.padding(ShardIndex(s)).start)).sum();
            prop_assert_eq!(data, u64::from(chunk_len));
            let padded = u64::from(layout.shard_bytes()) * u64::from(k);
            prop_assert!(padded - u64::from(chunk_len) < u64::from(k) * 64);
            prop_assert_eq!(layout.shard_bytes() % CODER_BYTES, 0);
            let rows: u64 = (0..layout.rows()).map(|row| u64::from(layout.cell_bytes(row))).sum();
            prop_assert_eq!(rows, u64::from(layout.shard_bytes()));
        }
    }
}
