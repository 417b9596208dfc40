//! Ashlar's formats in memory: split, erasure-code, commit, check, rebuild, prove.
//!
//! A part of an object is a *blob*, cut into *chunks* of [`CHUNK_BYTES`]. A chunk is coded row by row:
//! a row is k data cells and m parity cells of [`CELL_BYTES`], and shard `i` of the chunk is its cells in
//! row order. Every [`BLOCK_BYTES`] of a shard has a BLAKE3 leaf; keccak trees over the leaves, shards,
//! chunks and parts end in one [`ObjectRoot`] that covers bytes, lengths and coding alike.
//!
//! The way of the bytes, and the type that carries them:
//!
//! * writing: [`ChunkBuilder::push_row`] gives cells for the nodes, [`ChunkBuilder::finish`] the
//!   [`ChunkCommitment`], [`BlobCommitment`] and [`object_root`] the rest;
//! * reading: [`UncheckedCommitment::check`] against the root that metadata names, then
//!   [`ChunkCommitment::verify`] turns bytes of a node into [`CheckedBlocks`], and only those can be
//!   [assembled](ChunkCommitment::assemble) or used to [rebuild](ChunkCommitment::rebuild) others;
//! * auditing: [`BlockProof`] leads from one block to the object root.
//!
//! ```
//! use ashlar_chunker::*;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Write: six shards of which any four are enough.
//! let coding = Coding::new(4, 2)?;
//! let content = bytes::Bytes::from(vec![7; 300_000]);
//! let written = encode_chunk(coding, content.clone())?;
//! let root = written.commitment.root();
//!
//! // Read bytes 1,000 to 2,000 while shard 0, which holds them, is lost.
//! let commitment = UncheckedCommitment::decode(&written.commitment.encode())?.check(&root)?;
//! let wanted = commitment.layout().shard_ranges(1_000..2_000).remove(0);
//! let left: Vec<_> = coding.shard_indices().filter(|shard| *shard != wanted.shard).collect();
//! let rebuilder = Rebuilder::new(coding, &left, &[wanted.shard])?;
//! let mut sources = Vec::new();
//! for &shard in rebuilder.sources() {
//!     let range = commitment.layout().blocks_range(wanted.blocks.clone());
//!     let from_node = written.shard(shard).slice(range.start as usize..range.end as usize);
//!     sources.push(commitment.verify(shard, wanted.blocks.start, from_node)?);
//! }
//! let rebuilt = commitment.rebuild(&rebuilder, &sources)?;
//! let bytes = commitment.assemble(1_000..2_000, &rebuilt)?.concat();
//! assert_eq!(bytes, content[1_000..2_000]);
//! # Ok(())
//! # }
//! ```
//!
//! Normative text: `docs/formats/commitment.md`, with vectors beside it. This crate does no I/O, starts no
//! thread, reads no clock and knows neither nodes nor metadata. Foreign bytes never make it panic, and
//! never make it allocate before their length agreed with a header that is itself within limits.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod assemble;
mod blob;
mod builder;
mod coder;
mod coding;
mod commitment;
mod content;
mod digest;
mod header;
mod id;
mod layout;
mod object;
mod proof;
mod rebuild;
pub mod tree;
#[cfg(test)]
mod vectors;

pub use assemble::AssembleError;
pub use blob::{BlobCommitment, PushChunkError};
pub use builder::{ChunkBuilder, EmptyChunk, EncodedChunk, PushRowError, encode_chunk};
pub use coder::{Row, RowCoder, RowLengthError};
pub use coding::{
    BLOCK_BYTES, CELL_BYTES, CHUNK_BYTES, CODER_BYTES, Coding, CodingError, SHARDS_MAX, SMALL_CHUNK_BYTES,
};
pub use commitment::{
    BlockMismatch, CheckedBlocks, ChunkCommitment, CommitmentDecodeError, CommitmentMismatch,
    UncheckedCommitment,
};
pub use content::{ContentHasher, content_root_of_parts};
pub use digest::{BlobRoot, ChunkRoot, ContentRoot, Digest, DigestParseError, ObjectRoot, ShardRoot};
pub use header::{BlobHeader, ChunkHeader, FORMAT, HeaderError, ObjectHeader};
pub use id::{BlobId, ChunkId, SessionId, ShardId, ShardIndex};
pub use layout::{CellPiece, ChunkLayout, LayoutError, ShardRange};
pub use object::{ObjectCommitment, ObjectTooLarge, Part, object_root};
pub use proof::{BlockProof, ProofDecodeError, ProofError, ProveError, ProvenBlock};
pub use rebuild::{
    RebuildContradiction, RebuildError, RebuildPlans, RebuildSources, Rebuilder, RebuilderError,
};
