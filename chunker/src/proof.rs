//! Proof that one block belongs to an object: block → shard → chunk → blob → object, and its verifier.
//!
//! The verifier trusts nothing but the object root. Every count and length comes from a header that the root
//! covers, the length of every path follows from count and index, and a proof that is longer, shorter or out
//! of range anywhere is refused; so no node of one tree can pass for a node of another.

use crate::blob::BlobCommitment;
use crate::coding::{BLOCK_BYTES, Coding, position};
use crate::commitment::{ChunkCommitment, leaf};
use crate::digest::{Digest, ObjectRoot};
use crate::header::{BlobHeader, ChunkHeader, FORMAT, HeaderError, ObjectHeader, part_leaf};
use crate::id::ShardIndex;
use crate::object::ObjectCommitment;
use crate::tree::{self, BLOCKS, CHUNKS, Node, PARTS, SHARDS};

/// Leads from a block of a shard to an object root.
///
/// Encoding: format u16 ‖ object header ‖ part u32 ‖ blob header ‖ chunk u32 ‖ chunk header ‖ shard u8 ‖
/// block u32 ‖ siblings in the block, shard, chunk and part tree, from the leaf up. At most 2.6 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockProof {
    place: Place,
    /// Siblings in the four trees, from the block up.
    paths: [Vec<Node>; 4],
}

/// Headers and indexes: everything that decides how long the paths are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    object: ObjectHeader,
    part: u32,
    blob: BlobHeader,
    chunk: u32,
    header: ChunkHeader,
    shard: ShardIndex,
    block: u32,
}

/// What a verified proof says about its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenBlock {
    /// The object's length and part count.
    pub object: ObjectHeader,
    /// Index of the part.
    pub part: u32,
    /// Bytes of the part.
    pub part_length: u64,
    /// Where the chunk begins in the part.
    pub chunk_offset: u64,
    /// Bytes of the chunk.
    pub chunk_len: u32,
    /// The chunk's coding.
    pub coding: Coding,
    /// The shard.
    pub shard: ShardIndex,
    /// The block of the shard.
    pub block: u32,
    /// Where the block's object bytes begin in the part, and how many there are before padding; `None` in
    /// parity shards and blocks of nothing but padding.
    pub part_bytes: Option<std::ops::Range<u64>>,
}

/// No proof can be made of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// The object has no such part, or another blob in its place.
    #[error("part {part} of the object is not this blob")]
    Part {
        /// The part named.
        part: u32,
    },
    /// The blob has no such chunk, or another one in its place.
    #[error("chunk {chunk} of the blob is not this chunk")]
    Chunk {
        /// The chunk named.
        chunk: u32,
    },
    /// The chunk has no such shard or block, or its leaf table was not checked.
    #[error("no block {block} in a checked leaf table of shard {shard}")]
    Block {
        /// The shard named.
        shard: ShardIndex,
        /// The block named.
        block: u32,
    },
}

/// The bytes are no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofDecodeError {
    /// Longer or shorter than headers and indexes say.
    #[error("a proof of {length} bytes, where {expected} are needed")]
    Length {
        /// Bytes given.
        length: usize,
        /// Bytes that the headers imply, or that the headers themselves need.
        expected: usize,
    },
    /// A header is of another format or contradicts itself.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// An index is out of range of the count or length that its header has, or lengths disagree.
    #[error("the {level} of the proof is out of range")]
    Range {
        /// `part`, `chunk`, `shard` or `block`.
        level: &'static str,
    },
}

/// The proof is well-formed but does not prove this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The block is longer or shorter than committed.
    #[error("a block of {length} bytes, {expected} were committed")]
    BlockLength {
        /// Bytes given.
        length: usize,
        /// Bytes committed.
        expected: usize,
    },
    /// It leads to another root.
    #[error("the proof leads to object root {found}, not {expected}")]
    Root {
        /// Root asked for.
        expected: ObjectRoot,
        /// Root that block and proof make.
        found: ObjectRoot,
    },
    /// It leads to the root, but committed padding is not zero, so no reader serves the chunk.
    #[error("the padding at the end of the block is not zero")]
    Padding,
}

impl BlockProof {
    /// Most bytes of an encoded proof: refuse more before reading it.
    pub const BYTES_MAX: usize = Place::BYTES + (8 + 6 + 32 + 32) * Digest::BYTES;

    /// Proves `block` of `shard` in chunk number `chunk_index` of part number `part` of the object.
    pub fn new(
        object: &ObjectCommitment,
        part: u32,
        blob: &BlobCommitment,
        chunk_index: u32,
        chunk: &ChunkCommitment,
        (shard, block): (ShardIndex, u32),
    ) -> Result<Self, ProveError> {
        let blob_header = blob.header();
        if object.leaf(part) != Some(part_leaf(blob_header.length(), &blob.root())) {
            return Err(ProveError::Part { part });
        }
        let same_length = blob_header.chunk_len(chunk_index) == Some(chunk.layout().chunk_len());
        if !same_length || blob.chunk_root(chunk_index) != Some(chunk.root()) {
            return Err(ProveError::Chunk { chunk: chunk_index });
        }
        let no_block = ProveError::Block { shard, block };
        let paths = [
            chunk.block_path(shard, block).ok_or(no_block)?,
            chunk.shard_path(shard).ok_or(no_block)?,
            blob.path(chunk_index).ok_or(ProveError::Chunk { chunk: chunk_index })?,
            object.path(part).ok_or(ProveError::Part { part })?,
        ];
        let place = Place {
            object: object.header(),
            part,
            blob: blob_header,
            chunk: chunk_index,
            header: ChunkHeader::new(*chunk.layout()),
            shard,
            block,
        };
        Ok(Self { place, paths })
    }

    /// Checks that `block` is the committed block of the object with `root`, and says which one.
    pub fn verify(&self, root: &ObjectRoot, block: &[u8]) -> Result<ProvenBlock, ProofError> {
        let place = &self.place;
        let range = place.header.layout().block_range(place.block);
        let expected = position(range.end - range.start);
        if block.len() != expected {
            return Err(ProofError::BlockLength { length: block.len(), expected });
        }
        let found = place.root(leaf(block), &self.paths);
        if found != *root {
            return Err(ProofError::Root { expected: *root, found });
        }
        let padding = place.header.layout().padding(place.shard);
        let filled = position(padding.start.clamp(range.start, range.end) - range.start);
        if block[filled..].iter().any(|byte| *byte != 0) {
            return Err(ProofError::Padding);
        }
        Ok(place.proven())
    }

    /// The encoding that [`decode`](Self::decode) reads.
    pub fn encode(&self) -> Vec<u8> {
        let siblings = self.paths.iter().map(Vec::len).sum::<usize>();
        let mut bytes = Vec::with_capacity(Place::BYTES + siblings * Digest::BYTES);
        self.place.encode_into(&mut bytes);
        self.paths.iter().for_each(|path| bytes.extend_from_slice(path.as_flattened()));
        bytes
    }

    /// Reads a foreign proof. Nothing is allocated before the length agreed with the headers.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofDecodeError> {
        let Some((place, siblings)) = bytes.split_first_chunk::<{ Place::BYTES }>() else {
            return Err(ProofDecodeError::Length { length: bytes.len(), expected: Place::BYTES });
        };
        let place = Place::decode(place)?;
        let lengths = place.path_lengths()?;
        let expected = Place::BYTES + lengths.iter().sum::<usize>() * Digest::BYTES;
        if bytes.len() != expected {
            return Err(ProofDecodeError::Length { length: bytes.len(), expected });
        }
        let mut siblings = siblings.as_chunks::<{ Digest::BYTES }>().0;
        let paths = lengths.map(|length| {
            let (path, rest) = siblings.split_at(length);
            siblings = rest;
            path.to_vec()
        });
        Ok(Self { place, paths })
    }
}

impl Place {
    const BYTES: usize =
        2 + ObjectHeader::BYTES + 4 + BlobHeader::BYTES + 4 + ChunkHeader::BYTES + ShardIndex::BYTES + 4;

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&self.object.encode());
        bytes.extend_from_slice(&self.part.to_be_bytes());
        bytes.extend_from_slice(&self.blob.encode());
        bytes.extend_from_slice(&self.chunk.to_be_bytes());
        bytes.extend_from_slice(&self.header.encode());
        bytes.push(self.shard.0);
        bytes.extend_from_slice(&self.block.to_be_bytes());
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, ProofDecodeError> {
        let mut rest = bytes.as_slice();
        let format = u16::from_be_bytes(take(&mut rest));
        if format != FORMAT {
            return Err(HeaderError::Format { format }.into());
        }
        Ok(Self {
            object: ObjectHeader::decode(take(&mut rest))?,
            part: u32::from_be_bytes(take(&mut rest)),
            blob: BlobHeader::decode(take(&mut rest))?,
            chunk: u32::from_be_bytes(take(&mut rest)),
            header: ChunkHeader::decode(take(&mut rest))?,
            shard: ShardIndex(u8::from_be_bytes(take(&mut rest))),
            block: u32::from_be_bytes(take(&mut rest)),
        })
    }

    /// Siblings in each tree; an error where an index or length is impossible under its header.
    fn path_lengths(&self) -> Result<[usize; 4], ProofDecodeError> {
        let out_of = |level| ProofDecodeError::Range { level };
        let layout = self.header.layout();
        let part = tree::path_len(self.part, self.object.part_count).ok_or(out_of("part"))?;
        let (object_length, part_length) = (self.object.length, self.blob.length());
        if part_length > object_length || (self.object.part_count == 1 && part_length != object_length) {
            return Err(out_of("part"));
        }
        if self.blob.chunk_len(self.chunk) != Some(layout.chunk_len()) {
            return Err(out_of("chunk"));
        }
        let chunk = tree::path_len(self.chunk, self.blob.chunk_count()).ok_or(out_of("chunk"))?;
        let shards = u32::from(layout.coding().shards());
        let shard = tree::path_len(u32::from(self.shard.0), shards).ok_or(out_of("shard"))?;
        let block = tree::path_len(self.block, layout.blocks()).ok_or(out_of("block"))?;
        Ok([block, shard, chunk, part])
    }

    /// The object root that this leaf and these paths make at this place.
    fn root(&self, leaf: Node, [block, shard, chunk, part]: &[Vec<Node>; 4]) -> ObjectRoot {
        const FITS: &str = "a proof's paths have the lengths that its headers imply";
        let layout = self.header.layout();
        let shards = u32::from(layout.coding().shards());
        let root = tree::fold(BLOCKS, leaf, self.block, layout.blocks(), block).expect(FITS);
        let root = tree::fold(SHARDS, root, u32::from(self.shard.0), shards, shard).expect(FITS);
        let root = *self.header.root(&root).as_bytes();
        let root = tree::fold(CHUNKS, root, self.chunk, self.blob.chunk_count(), chunk).expect(FITS);
        let root = part_leaf(self.blob.length(), &self.blob.root(&root));
        let root = tree::fold(PARTS, root, self.part, self.object.part_count, part).expect(FITS);
        self.object.root(&root)
    }

    fn proven(&self) -> ProvenBlock {
        let layout = self.header.layout();
        let chunk_offset = u64::from(self.chunk) * u64::from(self.blob.chunk_bytes());
        let block = layout.block_range(self.block);
        let part_bytes = layout.chunk_offset(self.shard, self.block * BLOCK_BYTES).map(|start| {
            let filled = layout.padding(self.shard).start.min(block.end) - block.start;
            let start = chunk_offset + u64::from(start);
            start..start + u64::from(filled)
        });
        ProvenBlock {
            object: self.object,
            part: self.part,
            part_length: self.blob.length(),
            chunk_offset,
            chunk_len: layout.chunk_len(),
            coding: layout.coding(),
            shard: self.shard,
            block: self.block,
            part_bytes,
        }
    }
}

/// The next `N` bytes of a place, whose length is the sum of what is taken.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, after) = rest.split_first_chunk().expect("a place is as long as its fields");
    *rest = after;
    *taken
}

#[cfg(test)]
mod tests;
