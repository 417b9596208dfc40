//! Blobs: one part's bytes, described chunk by chunk, and the queue of what has died.
//!
//! A blob row is what makes shards reachable: a shard whose blob has no row, and whose session can no
//! longer write one, is an orphan.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::buckets::BucketId;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::manifests::ManifestId;

/// Chunks that one page describes: 512 MiB of bytes in a row of at most 40 KiB.
pub const CHUNKS_PER_PAGE: u32 = 128;

/// A blob's id: session in the high 64 bits, counter in the low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(pub u128);

/// One blob: page 0 of its chunks; further pages have rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    /// Length in bytes.
    pub length: u64,
    /// Number of chunks.
    pub chunk_count: u32,
    /// Page 0.
    pub chunks: Vec<ChunkRef>,
}

impl NamespaceRow for BlobRow {
    const KIND: &'static str = "blob";
}

/// One chunk, as reads need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// Length in bytes.
    pub length: u32,
    /// Data shards.
    pub k: u8,
    /// Parity shards.
    pub m: u8,
    /// Commitment to coding and bytes.
    pub root: [u8; 32],
    /// Shards that lie elsewhere than the placement group says: (shard, node).
    pub deviations: Vec<(u8, u16)>,
    /// Epoch of the cluster map whose slots count.
    pub map_epoch: u64,
}

/// A further page of chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkPage(pub Vec<ChunkRef>);

impl NamespaceRow for ChunkPage {
    const KIND: &'static str = "chunk page";
}

/// Key of a blob.
pub fn key(blob: BlobId) -> Bytes {
    KeyWriter::new(Tag::Blob).u128(blob.0).finish()
}

/// Where all blobs start.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::Blob).finish()
}

/// The blob in a blob row's key.
pub fn parse_key(key: &[u8]) -> Option<BlobId> {
    let mut reader = KeyReader::new(key, Tag::Blob)?;
    let blob = reader.u128()?;
    reader.end()?;
    Some(BlobId(blob))
}

/// Key of a blob's further page (1, 2, …).
pub fn page_key(blob: BlobId, page: u32) -> Bytes {
    KeyWriter::new(Tag::ChunkPage).u128(blob.0).u32(page).finish()
}

/// What waits to be collected, in the order of its death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadRow {
    /// A manifest that nothing refers to, with its blobs.
    Manifest(ManifestId),
    /// A part that never became an object's.
    Blob(BlobId),
    /// An upload that ended: every part row still under it, and the part's blob, goes. A part can commit
    /// no more once the upload's row is gone, so what a scan finds after this row's commit is all there is.
    Upload(u128),
    /// A bucket that was deleted: every upload still in progress in it ends.
    Bucket(BucketId),
}

impl NamespaceRow for DeadRow {
    const KIND: &'static str = "dead";
}

/// What stands before the commit position in a dead row's key.
pub fn dead_prefix() -> Bytes {
    KeyWriter::new(Tag::Dead).finish()
}

/// What stands after it: which of the commit's dead this is.
pub fn dead_suffix(index: u32) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

/// The position of death in a dead row's key.
pub fn dead_position(key: &[u8]) -> Option<u64> {
    let mut reader = KeyReader::new(key, Tag::Dead)?;
    let position = reader.u64()?;
    reader.u32()?;
    reader.end()?;
    Some(position)
}
