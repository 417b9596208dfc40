//! The commitment to a blob: the roots of its chunks, in order, under one header.
//!
//! Chunks are full but for the last, so every chunk's length follows from the header. What the chunks hold
//! is `commitment.rs`'s affair.

use crate::coding::CHUNK_BYTES;
use crate::digest::{BlobRoot, ChunkRoot};
use crate::header::{BlobHeader, HeaderError};
use crate::tree::{self, CHUNKS, Node};

/// The chunk roots of a blob, pushed in order; 32 bytes of memory per chunk.
#[derive(Clone, Debug)]
pub struct BlobCommitment {
    chunk_bytes: u32,
    length: u64,
    chunks: Vec<Node>,
}

/// The chunk cannot come next in the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushChunkError {
    /// Longer than the blob's chunks are, or empty.
    #[error("a chunk of {chunk_len} bytes in a blob with chunks of {chunk_bytes}")]
    ChunkLength {
        /// Length pushed.
        chunk_len: u32,
        /// Length of the blob's full chunks.
        chunk_bytes: u32,
    },
    /// Only the last chunk may be short, and a short one was pushed before.
    #[error("a chunk after a short one, at {length} bytes")]
    AfterLast {
        /// Bytes before it.
        length: u64,
    },
    /// More chunks than an index can name.
    #[error("a blob has at most 2^32 - 1 chunks")]
    TooManyChunks,
}

impl Default for BlobCommitment {
    fn default() -> Self {
        Self::new()
    }
}

impl BlobCommitment {
    /// An empty blob with chunks of [`CHUNK_BYTES`].
    pub const fn new() -> Self {
        Self { chunk_bytes: CHUNK_BYTES, length: 0, chunks: Vec::new() }
    }

    /// An empty blob with chunks of `chunk_bytes`, 1 to [`CHUNK_BYTES`].
    pub fn with_chunk_bytes(chunk_bytes: u32) -> Result<Self, HeaderError> {
        BlobHeader::new(0, chunk_bytes)?;
        Ok(Self { chunk_bytes, ..Self::new() })
    }

    /// Appends a chunk. After an error the blob is as before.
    pub fn push(&mut self, root: ChunkRoot, chunk_len: u32) -> Result<(), PushChunkError> {
        let chunk_bytes = self.chunk_bytes;
        if chunk_len == 0 || chunk_len > chunk_bytes {
            return Err(PushChunkError::ChunkLength { chunk_len, chunk_bytes });
        }
        if !self.length.is_multiple_of(u64::from(chunk_bytes)) {
            return Err(PushChunkError::AfterLast { length: self.length });
        }
        if u32::try_from(self.chunks.len() + 1).is_err() {
            return Err(PushChunkError::TooManyChunks);
        }
        self.length += u64::from(chunk_len);
        self.chunks.push(*root.as_bytes());
        Ok(())
    }

    /// Bytes pushed so far.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Chunks pushed so far.
    pub fn chunk_count(&self) -> u32 {
        self.header().chunk_count()
    }

    /// The root of chunk `index`.
    pub fn chunk_root(&self, index: u32) -> Option<ChunkRoot> {
        self.chunks.get(usize::try_from(index).ok()?).map(|root| (*root).into())
    }

    /// The header over what was pushed so far.
    pub fn header(&self) -> BlobHeader {
        BlobHeader::new(self.length, self.chunk_bytes).expect("push bounds length and count")
    }

    /// The root over what was pushed so far.
    pub fn root(&self) -> BlobRoot {
        self.header().root(&tree::root::<CHUNKS>(&self.chunks))
    }

    /// The siblings of chunk `index` in the tree, from the leaf up.
    pub(crate) fn path(&self, index: u32) -> Option<Vec<Node>> {
        tree::path::<CHUNKS>(&self.chunks, usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn only_the_last_chunk_is_short() {
        let root = ChunkRoot(Digest([7; 32]));
        let mut blob = BlobCommitment::with_chunk_bytes(10).unwrap();
        let empty = blob.root();
        assert_eq!(blob.push(root, 0), Err(PushChunkError::ChunkLength { chunk_len: 0, chunk_bytes: 10 }));
        assert_eq!(blob.push(root, 11), Err(PushChunkError::ChunkLength { chunk_len: 11, chunk_bytes: 10 }));
        assert_eq!(blob.root(), empty);
        blob.push(root, 10).unwrap();
        blob.push(root, 3).unwrap();
        assert_eq!(blob.push(root, 10), Err(PushChunkError::AfterLast { length: 13 }));
        assert_eq!((blob.length(), blob.chunk_count()), (13, 2));
        assert_eq!(blob.chunk_root(1), Some(root));
        assert_eq!(blob.chunk_root(2), None);
        assert!(BlobCommitment::with_chunk_bytes(CHUNK_BYTES + 1).is_err());
    }
}
