//! The outbox: every change of the namespace in commit order, for the publisher.
//!
//! It is read only up to the KV's stable position, so nothing can appear behind a reader.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::types::{UnixMillis, VersionId};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutboxOperation {
    /// A version became visible.
    Put,
    /// A delete marker became visible.
    Mark,
    /// A version or marker was removed for good.
    Remove,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// What happened.
    pub operation: OutboxOperation,
    /// Bucket name.
    pub bucket: String,
    /// Object key.
    pub key: String,
    /// Version.
    pub version: VersionId,
    /// Digest of the plain bytes; zero where there are none.
    pub content_root: [u8; 32],
    /// Commitment to coding and bytes; zero where there are none.
    pub object_root: [u8; 32],
    /// When.
    pub time: UnixMillis,
}

impl NamespaceRow for OutboxRow {
    const KIND: &'static str = "outbox";
}

/// What stands before the commit position in an outbox key.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::Outbox).finish()
}

/// What stands after it: which of the commit's changes this is.
pub fn suffix(index: u32) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

/// Position and index in an outbox key.
pub fn parse_key(key: &[u8]) -> Option<(u64, u32)> {
    let mut reader = KeyReader::new(key, Tag::Outbox)?;
    let position = reader.u64()?;
    let index = reader.u32()?;
    reader.end()?;
    Some((position, index))
}
