//! Manifests: the immutable description of one object's bytes, shared by every version that copies it.
//!
//! Only this row counts references, and its state goes one way: `Live`, then `Dying`, then gone. A copy
//! that finds `Dying` must not take it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::blobs::BlobId;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::types::{Checksum, ETag};

/// Parts that one page of a manifest holds.
pub const PARTS_PER_PAGE: u32 = 500;

/// A manifest's id: assigned like a blob's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ManifestId(pub u128);

/// Whether a manifest may be referenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestState {
    /// Versions refer to it.
    Live,
    /// Nothing refers to it any more; GC takes it once no reader can.
    Dying,
}

/// One manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRow {
    /// Whether it may be referenced.
    pub state: ManifestState,
    /// Versions that refer to it.
    pub references: u64,
    /// Object length in bytes.
    pub length: u64,
    /// Number of parts.
    pub part_count: u32,
    /// Whether the object came by a multipart upload (a single part may have, too).
    pub multipart: bool,
    /// Page 0 of the parts; further pages have rows of their own.
    pub parts: Vec<PartRef>,
}

impl NamespaceRow for ManifestRow {
    const KIND: &'static str = "manifest";
}

/// One part of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRef {
    /// Number as uploaded; 1 for a plain object.
    pub number: u32,
    /// Its bytes.
    pub blob: BlobId,
    /// Length in bytes.
    pub length: u64,
    /// Commitment to its chunks.
    pub blob_root: [u8; 32],
    /// Its entity tag; `None` for a plain object.
    pub etag: Option<ETag>,
    /// Its own checksum, where kept.
    pub checksum: Option<Checksum>,
}

/// A further page of parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsPage(pub Vec<PartRef>);

impl NamespaceRow for PartsPage {
    const KIND: &'static str = "manifest page";
}

/// Key of a manifest.
pub fn key(manifest: ManifestId) -> Bytes {
    KeyWriter::new(Tag::Manifest).u128(manifest.0).finish()
}

/// Where all manifests start.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::Manifest).finish()
}

/// Key of a manifest's further page (1, 2, …).
pub fn page_key(manifest: ManifestId, page: u32) -> Bytes {
    KeyWriter::new(Tag::ManifestParts).u128(manifest.0).u32(page).finish()
}

/// The manifest in a manifest row's key.
pub fn parse_key(key: &[u8]) -> Option<ManifestId> {
    let mut reader = KeyReader::new(key, Tag::Manifest)?;
    let manifest = reader.u128()?;
    reader.end()?;
    Some(ManifestId(manifest))
}

/// Manifest and page in a further page's key.
pub fn parse_page_key(key: &[u8]) -> Option<(ManifestId, u32)> {
    let mut reader = KeyReader::new(key, Tag::ManifestParts)?;
    let manifest = reader.u128()?;
    let page = reader.u32()?;
    reader.end()?;
    Some((ManifestId(manifest), page))
}
