//! The headers that close each tree, and the roots keccak makes of header and tree.
//!
//! Counts, lengths and coding live here and nowhere else, so a verifier takes them from what is committed.
//! A header value is always consistent within itself: its constructors check it, also for foreign bytes.

use crate::coding::{CELL_BYTES, CHUNK_BYTES, Coding, CodingError};
use crate::digest::{BlobRoot, ChunkRoot, Digest, ObjectRoot};
use crate::layout::{ChunkLayout, LayoutError};
use crate::tree::{Node, keccak256};

/// The format that blobs and objects are written in, and the only one that is read.
pub const FORMAT: u16 = 1;

const BLOB: u8 = 0x02;
const CHUNK: u8 = 0x03;
const OBJECT: u8 = 0x04;
const PART: u8 = 0x05;

/// A header contradicts itself or is outside of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Written by a later version, or not a header at all.
    #[error("format {format} is not known, only {FORMAT} is")]
    Format {
        /// Format found.
        format: u16,
    },
    /// No such chunk can exist.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No such coding can exist.
    #[error(transparent)]
    Coding(#[from] CodingError),
    /// Cells of another size than this version writes.
    #[error("cells of {cell_bytes} bytes, only {CELL_BYTES} are known")]
    CellBytes {
        /// Cell size found.
        cell_bytes: u32,
    },
    /// Chunks of a size that is never written.
    #[error("chunks of {chunk_bytes} bytes: must be 1 to {CHUNK_BYTES}")]
    ChunkBytes {
        /// Chunk size found.
        chunk_bytes: u32,
    },
    /// The count of chunks does not follow from length and chunk size.
    #[error("{chunk_count} chunks of {chunk_bytes} bytes do not make a blob of {length} bytes")]
    ChunkCount {
        /// Blob length found.
        length: u64,
        /// Chunk size found.
        chunk_bytes: u32,
        /// Chunk count found.
        chunk_count: u32,
    },
}

/// What a chunk root covers besides its shards: 10 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader(ChunkLayout);

impl ChunkHeader {
    /// Bytes of the encoding.
    pub const BYTES: usize = 10;

    /// The header of a chunk with this layout.
    pub const fn new(layout: ChunkLayout) -> Self {
        Self(layout)
    }

    /// Where the chunk's bytes lie.
    pub const fn layout(&self) -> ChunkLayout {
        self.0
    }

    /// chunk_len u32 ‖ k u8 ‖ m u8 ‖ cell_bytes u32.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.0.chunk_len().to_be_bytes());
        bytes[4] = self.0.coding().k();
        bytes[5] = self.0.coding().m();
        bytes[6..].copy_from_slice(&CELL_BYTES.to_be_bytes());
        bytes
    }

    /// Inverse of [`encode`](Self::encode) for foreign bytes.
    pub fn decode(bytes: [u8; Self::BYTES]) -> Result<Self, HeaderError> {
        let [l0, l1, l2, l3, k, m, cell @ ..] = bytes;
        let cell_bytes = u32::from_be_bytes(cell);
        if cell_bytes != CELL_BYTES {
            return Err(HeaderError::CellBytes { cell_bytes });
        }
        Ok(Self(ChunkLayout::new(u32::from_be_bytes([l0, l1, l2, l3]), Coding::new(k, m)?)?))
    }

    /// keccak256(0x03 ‖ header ‖ root over the shard roots).
    pub(crate) fn root(&self, shards: &Node) -> ChunkRoot {
        keccak256(&[&[CHUNK], &self.encode(), shards]).into()
    }
}

/// What a blob root covers besides its chunks: 18 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHeader {
    length: u64,
    chunk_bytes: u32,
    chunk_count: u32,
}

impl BlobHeader {
    /// Bytes of the encoding.
    pub const BYTES: usize = 18;

    /// The header of a blob of `length` bytes in chunks of `chunk_bytes`.
    pub fn new(length: u64, chunk_bytes: u32) -> Result<Self, HeaderError> {
        if chunk_bytes == 0 || chunk_bytes > CHUNK_BYTES {
            return Err(HeaderError::ChunkBytes { chunk_bytes });
        }
        match u32::try_from(length.div_ceil(u64::from(chunk_bytes))) {
            Ok(chunk_count) => Ok(Self { length, chunk_bytes, chunk_count }),
            Err(_) => Err(HeaderError::ChunkCount { length, chunk_bytes, chunk_count: u32::MAX }),
        }
    }

    /// Bytes of the blob.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of every chunk but the last.
    pub const fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// Chunks; none for an empty blob.
    pub const fn chunk_count(&self) -> u32 {
        self.chunk_count
    }

    /// The length that chunk `index` must have; `None` past the last.
    pub fn chunk_len(&self, index: u32) -> Option<u32> {
        if index >= self.chunk_count {
            return None;
        }
        let left = self.length - u64::from(index) * u64::from(self.chunk_bytes);
        Some(u32::try_from(left).map_or(self.chunk_bytes, |left| left.min(self.chunk_bytes)))
    }

    /// format u16 ‖ length u64 ‖ chunk_bytes u32 ‖ chunk_count u32.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..2].copy_from_slice(&FORMAT.to_be_bytes());
        bytes[2..10].copy_from_slice(&self.length.to_be_bytes());
        bytes[10..14].copy_from_slice(&self.chunk_bytes.to_be_bytes());
        bytes[14..].copy_from_slice(&self.chunk_count.to_be_bytes());
        bytes
    }

    /// Inverse of [`encode`](Self::encode) for foreign bytes.
    pub fn decode(bytes: [u8; Self::BYTES]) -> Result<Self, HeaderError> {
        let [f0, f1, l0, l1, l2, l3, l4, l5, l6, l7, c0, c1, c2, c3, count @ ..] = bytes;
        check_format(u16::from_be_bytes([f0, f1]))?;
        let length = u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
        let chunk_bytes = u32::from_be_bytes([c0, c1, c2, c3]);
        let chunk_count = u32::from_be_bytes(count);
        match Self::new(length, chunk_bytes)? {
            header if header.chunk_count == chunk_count => Ok(header),
            _ => Err(HeaderError::ChunkCount { length, chunk_bytes, chunk_count }),
        }
    }

    /// keccak256(0x02 ‖ header ‖ root over the chunk roots).
    pub(crate) fn root(&self, chunks: &Node) -> BlobRoot {
        keccak256(&[&[BLOB], &self.encode(), chunks]).into()
    }
}

/// What an object root covers besides its parts: 14 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectHeader {
    /// Bytes of the object, the sum of its parts.
    pub length: u64,
    /// Parts.
    pub part_count: u32,
}

impl ObjectHeader {
    /// Bytes of the encoding.
    pub const BYTES: usize = 14;

    /// format u16 ‖ length u64 ‖ part_count u32.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..2].copy_from_slice(&FORMAT.to_be_bytes());
        bytes[2..10].copy_from_slice(&self.length.to_be_bytes());
        bytes[10..].copy_from_slice(&self.part_count.to_be_bytes());
        bytes
    }

    /// Inverse of [`encode`](Self::encode) for foreign bytes.
    pub fn decode(bytes: [u8; Self::BYTES]) -> Result<Self, HeaderError> {
        let [f0, f1, l0, l1, l2, l3, l4, l5, l6, l7, count @ ..] = bytes;
        check_format(u16::from_be_bytes([f0, f1]))?;
        let length = u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
        Ok(Self { length, part_count: u32::from_be_bytes(count) })
    }

    /// keccak256(0x04 ‖ header ‖ root over the part leaves).
    pub(crate) fn root(&self, parts: &Node) -> ObjectRoot {
        ObjectRoot(Digest(keccak256(&[&[OBJECT], &self.encode(), parts])))
    }
}

/// keccak256(0x05 ‖ part_len u64 ‖ blob_root), the leaf of a part in its object's tree.
pub(crate) fn part_leaf(part_len: u64, blob: &BlobRoot) -> Node {
    keccak256(&[&[PART], &part_len.to_be_bytes(), blob.as_bytes()])
}

fn check_format(format: u16) -> Result<(), HeaderError> {
    if format == FORMAT { Ok(()) } else { Err(HeaderError::Format { format }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_lengths_follow_from_the_header() {
        let header = BlobHeader::new(25, 10).unwrap();
        assert_eq!([0, 1, 2, 3].map(|i| header.chunk_len(i)), [Some(10), Some(10), Some(5), None]);
        assert_eq!(BlobHeader::new(20, 10).unwrap().chunk_len(1), Some(10));
        assert_eq!(BlobHeader::new(0, 10).unwrap().chunk_len(0), None);
        let large = BlobHeader::new(u64::from(u32::MAX) * 4096, 4096).unwrap();
        assert_eq!(large.chunk_len(u32::MAX - 1), Some(4096));
    }

    #[test]
    fn headers_round_trip_and_refuse_contradictions() {
        let blob = BlobHeader::new(25, 10).unwrap();
        assert_eq!(BlobHeader::decode(blob.encode()), Ok(blob));
        for at in 0..BlobHeader::BYTES - 1 {
            let mut bytes = blob.encode();
            bytes[at] ^= 0x80;
            assert!(BlobHeader::decode(bytes).is_err(), "byte {at}");
        }
        assert!(BlobHeader::new(u64::MAX, CHUNK_BYTES).is_err());
        assert!(BlobHeader::new(1, 0).is_err());
        let object = ObjectHeader { length: 7, part_count: 3 };
        assert_eq!(ObjectHeader::decode(object.encode()), Ok(object));
        let layout = ChunkLayout::new(70_000, Coding::new(4, 2).unwrap()).unwrap();
        let chunk = ChunkHeader::new(layout);
        assert_eq!(ChunkHeader::decode(chunk.encode()), Ok(chunk));
        let mut cells = chunk.encode();
        cells[9] = 1;
        assert_eq!(ChunkHeader::decode(cells), Err(HeaderError::CellBytes { cell_bytes: CELL_BYTES + 1 }));
    }
}
