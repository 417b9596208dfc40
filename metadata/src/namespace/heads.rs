//! The head of a key: what every write of that key checks and bumps.
//!
//! It exists while the key has any version or marker. Of concurrent writers one finds it as it read it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::buckets::BucketId;
use super::keys::{KeyWriter, Tag};
use super::types::ObjectKey;

/// Head of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRow {
    /// Highest sequence given in this key's history; the next version takes one more.
    pub sequence: u64,
    /// Sequence of the newest version or marker.
    pub newest: u64,
    /// Sequence of the null version, where there is one.
    pub null: Option<u64>,
}

impl NamespaceRow for HeadRow {
    const KIND: &'static str = "head";
}

/// Key of a head.
pub fn key(bucket: BucketId, object: &ObjectKey) -> Bytes {
    KeyWriter::new(Tag::Head).u64(bucket.0).text(object.as_str()).finish()
}

/// Where the heads of a bucket start: a bucket is empty when nothing begins so.
pub fn prefix(bucket: BucketId) -> Bytes {
    KeyWriter::new(Tag::Head).u64(bucket.0).finish()
}
