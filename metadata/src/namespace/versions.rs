//! Versions of a key, newest first, and the `current` range that lists walk.
//!
//! `current` holds one row for each key whose newest version is an object, and none for a delete marker:
//! so a listing visits one row a result, whatever the number of markers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::buckets::BucketId;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::locks::{self, Lock};
use super::manifests::ManifestId;
use super::types::{
    Attributes, Checksum, ChecksumAlgorithm, ChecksumType, ETag, ObjectKey, Tags, UnixMillis, VersionId,
};
use super::{NamespaceRow, RowError};

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// Its id.
    pub id: VersionId,
    /// When it was written.
    pub modified: UnixMillis,
    /// Owner's user id.
    pub owner: String,
    /// An object, or `None` for a delete marker.
    pub object: Option<ObjectRow>,
    /// What keeps it from being removed; stored behind the row, see [`locks`].
    #[serde(skip)]
    pub lock: Lock,
    /// Where its newest entry stands in the log; stored behind the rest. `None`: it was written before there
    /// was a log.
    #[serde(skip)]
    pub log: Option<LogPlace>,
}

/// Which entry of the log announced a version's row as it is.
///
/// Every commit that writes a version's row announces it, so the entry's position is the row's own version, and
/// only which of the commit's entries it is has to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// Which of its commit's entries.
    pub index: u32,
}

/// What a version that is an object says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRow {
    /// Where its bytes are described.
    pub manifest: ManifestId,
    /// Length in bytes.
    pub length: u64,
    /// Entity tag.
    pub etag: ETag,
    /// Checksum kept.
    pub checksum: Option<Checksum>,
    /// What the client stored beside the bytes.
    pub attributes: Attributes,
    /// Tags.
    pub tags: Tags,
    /// ACL as JSON; `None` is private.
    pub acl: Option<String>,
    /// Commitment to coding and bytes.
    pub object_root: [u8; 32],
    /// Digest of the plain bytes.
    pub content_root: [u8; 32],
}

impl NamespaceRow for VersionRow {
    const KIND: &'static str = "version";

    fn encode(&self) -> Bytes {
        let row = locks::encode(self, &self.lock);
        let Some(place) = &self.log else { return row };
        let out = postcard::to_extend(place, Vec::from(row));
        Bytes::from(out.expect("encoding plain data into memory cannot fail"))
    }

    fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let (row, lock, rest) = locks::decode::<Self>(Self::KIND, bytes)?;
        let log = (!rest.is_empty()).then(|| postcard::from_bytes(rest)).transpose();
        let log = log.map_err(|e| RowError { kind: Self::KIND, reason: e.to_string() })?;
        Ok(Self { lock, log, ..row })
    }
}

/// Key of a version.
pub fn key(bucket: BucketId, object: &ObjectKey, sequence: u64) -> Bytes {
    KeyWriter::new(Tag::Version).u64(bucket.0).text(object.as_str()).u64_descending(sequence).finish()
}

/// Where all versions of one key start.
pub fn of_key(bucket: BucketId, object: &ObjectKey) -> Bytes {
    KeyWriter::new(Tag::Version).u64(bucket.0).text(object.as_str()).finish()
}

/// Where versions of keys that begin with `text` start.
pub fn prefix(bucket: BucketId, text: &str) -> Bytes {
    KeyWriter::new(Tag::Version).u64(bucket.0).text_prefix(text).finish()
}

/// The object key and sequence in a version's key.
pub fn parse_key(key: &[u8]) -> Option<(String, u64)> {
    let mut reader = KeyReader::new(key, Tag::Version)?;
    reader.u64()?;
    let text = reader.text()?;
    let sequence = reader.u64_descending()?;
    reader.end()?;
    Some((text, sequence))
}

/// What a listing shows of a live object, and where a GET begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentRow {
    /// Sequence of the version it stands for.
    pub sequence: u64,
    /// Its manifest, so that a GET reads version and manifest at once.
    pub manifest: ManifestId,
    /// Entity tag.
    pub etag: ETag,
    /// Length in bytes.
    pub length: u64,
    /// When it was written.
    pub modified: UnixMillis,
    /// Owner's user id.
    pub owner: String,
    /// Storage class as asked.
    pub storage_class: Option<String>,
    /// Algorithm and type of the checksum kept.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

impl NamespaceRow for CurrentRow {
    const KIND: &'static str = "current";
}

/// Key of a live object's row.
pub fn current_key(bucket: BucketId, object: &ObjectKey) -> Bytes {
    KeyWriter::new(Tag::Current).u64(bucket.0).text(object.as_str()).finish()
}

/// Where live objects whose keys begin with `text` start.
pub fn current_prefix(bucket: BucketId, text: &str) -> Bytes {
    KeyWriter::new(Tag::Current).u64(bucket.0).text_prefix(text).finish()
}

/// The object key in a live object's key.
pub fn parse_current_key(key: &[u8]) -> Option<String> {
    let mut reader = KeyReader::new(key, Tag::Current)?;
    reader.u64()?;
    let text = reader.text()?;
    reader.end()?;
    Some(text)
}
