//! The published log: where sealing is, and every batch with the exact bytes that were sealed.
//!
//! Sealing batch n writes all its rows and moves [`LogRow`] on in one commit that checks it, so that no batch
//! is ever formed twice. Bytes stay until the batch is final; header and leaves stay for good, for proofs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyReader, KeyWriter, Tag};

/// Bytes of a blob that one row holds.
pub const BLOB_PAGE_BYTES: usize = 256 << 10;
/// Entries whose places and digests one row holds.
pub const LEAVES_PER_PAGE: usize = 4096;

/// Where the log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRow {
    /// Id of the chain.
    pub chain_id: u64,
    /// The registry's address.
    pub registry: [u8; 20],
    /// The log's id.
    pub namespace: [u8; 32],
    /// Newest sealed batch; 0 before the first.
    pub sealed: u64,
    /// Hash of its header; zeros before the first.
    pub header_hash: [u8; 32],
    /// Its last commit position: everything up to it is in the log.
    pub last_position: u64,
    /// Newest batch that is on the chain to stay.
    pub settled: u64,
    /// Last commit position of that.
    pub settled_position: u64,
}

impl NamespaceRow for LogRow {
    const KIND: &'static str = "log";
}

/// Key of the one log.
pub fn key() -> Bytes {
    KeyWriter::new(Tag::Log).finish()
}

/// How far a batch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchStage {
    /// Its bytes are fixed.
    Sealed,
    /// The data-availability layer vouches for them.
    Certified {
        /// The layer's commitment.
        commitment: [u8; 32],
        /// What the layer answered.
        certificate: Vec<u8>,
    },
    /// It is on the chain to stay.
    Settled {
        /// The layer's commitment.
        commitment: [u8; 32],
        /// The certificate that was anchored, or another for the same header.
        certificate: Vec<u8>,
    },
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRow {
    /// Its header, as anchored.
    pub header: Vec<u8>,
    /// First and last commit position.
    pub positions: (u64, u64),
    /// Number of entries.
    pub entries: u32,
    /// Length of the blob in bytes.
    pub blob_bytes: u64,
    /// When it was sealed, in Unix milliseconds.
    pub sealed_at: u64,
    /// Until when the data-availability layer is to keep it, in Unix seconds.
    pub keep_until: u64,
    /// How far it is.
    pub stage: BatchStage,
}

impl NamespaceRow for BatchRow {
    const KIND: &'static str = "batch";
}

/// Key of a batch.
pub fn batch_key(sequence: u64) -> Bytes {
    KeyWriter::new(Tag::LogBatch).u64(sequence).finish()
}

/// Where all batches start.
pub fn batches() -> Bytes {
    KeyWriter::new(Tag::LogBatch).finish()
}

/// The sequence in a batch's key.
pub fn parse_batch_key(key: &[u8]) -> Option<u64> {
    let mut reader = KeyReader::new(key, Tag::LogBatch)?;
    let sequence = reader.u64()?;
    reader.end()?;
    Some(sequence)
}

/// Which batch a commit position is in: batches by the last position they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRow {
    /// The batch.
    pub sequence: u64,
}

impl NamespaceRow for PlaceRow {
    const KIND: &'static str = "place in the log";
}

/// Key of the batch that ends with `last_position`: the first at or after a position is the batch it is in.
pub fn place_key(last_position: u64) -> Bytes {
    KeyWriter::new(Tag::LogPlace).u64(last_position).finish()
}

/// Where all places start.
pub fn places() -> Bytes {
    KeyWriter::new(Tag::LogPlace).finish()
}

/// Key of a page of a batch's blob: up to [`BLOB_PAGE_BYTES`] bytes, as they are.
pub fn blob_key(sequence: u64, page: u32) -> Bytes {
    KeyWriter::new(Tag::LogBlob).u64(sequence).u32(page).finish()
}

/// Where the pages of a batch's blob start.
pub fn blob_pages(sequence: u64) -> Bytes {
    KeyWriter::new(Tag::LogBlob).u64(sequence).finish()
}

/// Entries of a batch in order: where each is, and keccak of its salt and record, from which its leaf follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafPage(pub Vec<(u64, u32, [u8; 32])>);

impl NamespaceRow for LeafPage {
    const KIND: &'static str = "page of leaves";
}

/// Key of a page of a batch's leaves.
pub fn leaves_key(sequence: u64, page: u32) -> Bytes {
    KeyWriter::new(Tag::LogLeaves).u64(sequence).u32(page).finish()
}

/// Where the pages of a batch's leaves start.
pub fn leaf_pages(sequence: u64) -> Bytes {
    KeyWriter::new(Tag::LogLeaves).u64(sequence).finish()
}

/// How far the walk through all rows is that batches carry, and where the last ones lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkRow {
    /// Number of the walk begun last; 0 before the first.
    pub number: u64,
    /// When it began, in Unix milliseconds.
    pub begun_at: u64,
    /// The batch that it began with.
    pub first: u64,
    /// What it does not go beyond.
    pub bounds: WalkBounds,
    /// The last key that it has passed; `None` when all are.
    pub cursor: Option<Vec<u8>>,
    /// All rows are carried; it is complete with the batch that has every entry up to this position, which are those that
    /// rows were passed over for.
    pub ends_at: Option<u64>,
    /// First and last batch of the complete ones, the newest last; at most two.
    pub complete: Vec<(u64, u64)>,
    /// Something has to be carried by a walk that begins after the one under way.
    pub is_wanted: bool,
    /// The first and the last sealed entry of those whose rows are still to be carried.
    pub owed: Option<((u64, u32), (u64, u32))>,
    /// When users had last changed of those that were carried.
    pub users: u64,
}

/// Where a walk ends: what came after it began is carried by its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkBounds {
    /// Versions written later are not walked.
    pub position: u64,
    /// The last manifest, and with it pages of parts.
    pub manifest: u128,
    /// The last blob, and with it pages of chunks.
    pub blob: u128,
}

impl NamespaceRow for WalkRow {
    const KIND: &'static str = "walk";
}

/// Key of the one walk.
pub fn walk_key() -> Bytes {
    KeyWriter::new(Tag::LogWalk).finish()
}

/// Which log this is of those that the store had. A recovered store begins a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRow {
    /// 0 for the first.
    pub generation: u64,
    /// What tells the namespace from those of earlier generations; zeros for the first.
    pub salt: [u8; 32],
    /// The log that it was recovered from; zeros for none.
    pub base_namespace: [u8; 32],
    /// The last batch of it that was read.
    pub base_sequence: u64,
    /// Batches of it before that one that could not be read and were passed over.
    pub skipped: Vec<u64>,
}

impl NamespaceRow for GenerationRow {
    const KIND: &'static str = "generation of the log";
}

/// Key of the generation; there is no row in a store that was never recovered.
pub fn generation_key() -> Bytes {
    KeyWriter::new(Tag::LogGeneration).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_sort_by_number() {
        assert_eq!(parse_batch_key(&batch_key(7)), Some(7));
        assert_eq!(parse_batch_key(&blob_key(7, 0)), None);
        assert!(batch_key(255) < batch_key(256) && place_key(255) < place_key(256));
        assert!(blob_key(7, 9).starts_with(&blob_pages(7)) && leaves_key(7, 9).starts_with(&leaf_pages(7)));
    }
}
