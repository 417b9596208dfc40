//! Bucket rows by name, and the documents of a bucket by its id.
//!
//! Every write to a bucket checks its row's version, so a deletion in progress (`Deleting`) is seen by
//! each of them. The row therefore changes rarely: counters and documents live elsewhere.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::types::{BucketName, UnixMillis};

/// A bucket's id: assigned once, never reused, so that a new bucket of an old name shares no row with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BucketId(pub u64);

/// Whether new versions are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// Never asked for.
    #[default]
    Off,
    /// Every write makes a version.
    Enabled,
    /// New writes replace the null version; older versions stay.
    Suspended,
}

/// Whether a bucket takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BucketState {
    /// It does.
    Live,
    /// DeleteBucket looks whether it is empty; writes wait and try again.
    Deleting,
}

/// One bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRow {
    /// Id in all other keys.
    pub id: BucketId,
    /// Owner's user id.
    pub owner: String,
    /// When it was made.
    pub created: UnixMillis,
    /// Versioning.
    pub versioning: Versioning,
    /// Whether it takes writes.
    pub state: BucketState,
    /// Location constraint as sent.
    pub location: Option<String>,
    /// Bumped with every change of a document, so that cached documents are known to be current.
    pub documents_generation: u64,
}

impl NamespaceRow for BucketRow {
    const KIND: &'static str = "bucket";
}

/// Key of a bucket's row.
pub fn key(name: &BucketName) -> Bytes {
    KeyWriter::new(Tag::Bucket).text(name.as_str()).finish()
}

/// Where rows of buckets whose names begin with `prefix` start.
pub fn prefix(prefix: &str) -> Bytes {
    KeyWriter::new(Tag::Bucket).text_prefix(prefix).finish()
}

/// The name in a bucket row's key.
pub fn name_of(key: &[u8]) -> Option<BucketName> {
    let mut reader = KeyReader::new(key, Tag::Bucket)?;
    let name = reader.text()?;
    reader.end()?;
    BucketName::new(&name).ok()
}

/// Documents that hang on a bucket: each a JSON text of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Document {
    Policy = 1,
    Acl = 2,
    Cors = 3,
    Tags = 4,
    PublicAccessBlock = 5,
    Ownership = 6,
    ObjectLock = 7,
    Lifecycle = 8,
    DurableWhen = 9,
    ComputeAccess = 10,
}

impl Document {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Policy,
        Self::Acl,
        Self::Cors,
        Self::Tags,
        Self::PublicAccessBlock,
        Self::Ownership,
        Self::ObjectLock,
        Self::Lifecycle,
        Self::DurableWhen,
        Self::ComputeAccess,
    ];
}

/// Key of a bucket's document.
pub fn document_key(bucket: BucketId, document: Document) -> Bytes {
    KeyWriter::new(Tag::BucketDocument).u64(bucket.0).byte(document as u8).finish()
}

/// Key of the counter that bucket ids come from; its value is the last id given, u64 big-endian.
pub fn last_id_key() -> Bytes {
    KeyWriter::new(Tag::Counter).byte(1).finish()
}
