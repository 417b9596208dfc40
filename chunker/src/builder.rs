//! Codes a chunk row by row, as its bytes arrive, and commits to every cell it hands out.
//!
//! Data cells are slices of the caller's rows; only a padded tail is copied. The length of the chunk need
//! not be known before: a row is full until the last, and a short first row says that the chunk is small.

use crate::coder::{Row, RowCoder, RowLengthError};
use crate::coding::{BLOCK_BYTES, CHUNK_BYTES, Coding, position};
use crate::commitment::{ChunkCommitment, Tables, leaf};
use crate::layout::ChunkLayout;
use crate::tree::Node;
use bytes::{Bytes, BytesMut};

/// The row cannot come next in the chunk. The builder is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushRowError {
    /// Empty, or longer than a row is.
    #[error(transparent)]
    RowLength(#[from] RowLengthError),
    /// Only the last row may be short, and a short one was pushed before.
    #[error("a row after a short one, at {chunk_len} bytes")]
    AfterLast {
        /// Bytes before it.
        chunk_len: u32,
    },
    /// The chunk would be longer than chunks are.
    #[error("a chunk of {chunk_len} bytes, at most {CHUNK_BYTES} are allowed")]
    ChunkLength {
        /// Length that the chunk would have.
        chunk_len: u32,
    },
}

/// No row was pushed, and there is no empty chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk has at least one byte")]
pub struct EmptyChunk;

/// Codes and commits one chunk after another; keep it, since it keeps the coder's memory.
pub struct ChunkBuilder {
    coding: Coding,
    chunk_len: u32,
    leaves: Vec<Vec<Node>>,
    coder: RowCoder,
}

impl ChunkBuilder {
    /// A builder of chunks with `coding`, but copies (k = 1, the same m) for chunks of at most
    /// [`SMALL_CHUNK_BYTES`](crate::SMALL_CHUNK_BYTES). Allocates nothing yet.
    pub fn new(coding: Coding) -> Self {
        Self { coding, chunk_len: 0, leaves: Vec::new(), coder: RowCoder::new(coding) }
    }

    /// Bytes pushed since the chunk began.
    pub const fn chunk_len(&self) -> u32 {
        self.chunk_len
    }

    /// Bytes of a full row: what to push until the chunk's end.
    pub const fn row_bytes(&self) -> u32 {
        self.coder.coding().row_bytes()
    }

    /// The coding of the chunk being built: settled by its first row.
    pub const fn coding(&self) -> Coding {
        self.coding
    }

    /// Codes the next row and hashes its cells. All rows but the last must have
    /// [`row_bytes`](Self::row_bytes); after an error the builder is as before.
    pub fn push_row(&mut self, row: Bytes) -> Result<Row, PushRowError> {
        let row_len = self.coder.check_length(&row)?;
        if !self.chunk_len.is_multiple_of(self.row_bytes()) {
            return Err(PushRowError::AfterLast { chunk_len: self.chunk_len });
        }
        let chunk_len = self.chunk_len + row_len;
        if chunk_len > CHUNK_BYTES {
            return Err(PushRowError::ChunkLength { chunk_len });
        }
        if self.chunk_len == 0 {
            // A row of k > 1 that is small is not full, so the chunk ends with it.
            self.coding = self.coder.coding().for_chunk_len(row_len);
            self.leaves = vec![Vec::new(); usize::from(self.coding.tables())];
        }
        self.chunk_len = chunk_len;
        let row = self.coder.code_as(self.coding, row);
        for (table, cell) in self.leaves.iter_mut().zip(&row.cells) {
            table.extend(cell.chunks(position(BLOCK_BYTES)).map(leaf));
        }
        Ok(row)
    }

    /// Ends the chunk. The builder is ready for the next one, whatever the answer.
    pub fn finish(&mut self) -> Result<ChunkCommitment, EmptyChunk> {
        let layout = ChunkLayout::new(self.chunk_len, self.coding).map_err(|_| EmptyChunk)?;
        let commitment = ChunkCommitment::computed(Tables::from_leaves(layout, &self.leaves));
        self.chunk_len = 0;
        Ok(commitment)
    }
}

/// A chunk coded at once.
#[derive(Clone, Debug)]
pub struct EncodedChunk {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// The commitment to them.
    pub commitment: ChunkCommitment,
}

impl EncodedChunk {
    /// The bytes of one shard, its cells joined; a copy. Empty if there is no such shard.
    pub fn shard(&self, shard: crate::ShardIndex) -> Bytes {
        let cells = self.rows.iter().filter_map(|row| row.cells.get(shard.position()));
        cells
            .fold(BytesMut::new(), |mut joined, cell| {
                joined.extend_from_slice(cell);
                joined
            })
            .freeze()
    }
}

/// Codes and commits a chunk whose 1 to [`CHUNK_BYTES`] bytes are at hand. Data cells are slices of it.
pub fn encode_chunk(coding: Coding, mut chunk: Bytes) -> Result<EncodedChunk, PushRowError> {
    let mut builder = ChunkBuilder::new(coding);
    let row_bytes = position(coding.row_bytes());
    let mut rows = Vec::with_capacity(chunk.len().div_ceil(row_bytes).max(1));
    loop {
        let row = chunk.split_to(row_bytes.min(chunk.len()));
        rows.push(builder.push_row(row)?);
        if chunk.is_empty() {
            break;
        }
    }
    let commitment = builder.finish().expect("a row was pushed");
    Ok(EncodedChunk { rows, commitment })
}
