//! Multipart uploads, their parts, and how finished ones ended.
//!
//! A part's commit checks the upload's row, Complete and Abort delete it: of racing ones exactly one
//! finds it. A completed upload leaves its answer for a day, so that a retried Complete gets the same one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::blobs::BlobId;
use super::buckets::BucketId;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::locks::{self, Lock};
use super::types::{
    Attributes, Checksum, ChecksumAlgorithm, ChecksumType, ETag, ObjectKey, Tags, UnixMillis, VersionId,
};
use super::{NamespaceRow, RowError};

/// One upload in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRow {
    /// Whose the object will be.
    pub owner: String,
    /// When.
    pub initiated: UnixMillis,
    /// Attributes of the object to be.
    pub attributes: Attributes,
    /// Tags of the object to be.
    pub tags: Tags,
    /// ACL of the object to be, as JSON.
    pub acl: Option<String>,
    /// Checksum that every part carries.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// Lock of the object to be, as asked; stored behind the row, see [`locks`].
    #[serde(skip)]
    pub lock: Lock,
    /// Who started it, where that is not the owner. Stored behind the rest, so that rows without it are what
    /// they always were.
    #[serde(skip)]
    pub initiator: Option<String>,
}

impl UploadRow {
    /// Who started it.
    pub fn initiator(&self) -> &str {
        self.initiator.as_deref().unwrap_or(&self.owner)
    }
}

impl NamespaceRow for UploadRow {
    const KIND: &'static str = "upload";

    fn encode(&self) -> Bytes {
        let row = locks::encode(self, &self.lock);
        let Some(initiator) = &self.initiator else { return row };
        let out = postcard::to_extend(initiator, row.to_vec());
        Bytes::from(out.expect("encoding plain data into memory cannot fail"))
    }

    fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let (row, lock, rest) = locks::decode::<Self>(Self::KIND, bytes)?;
        let initiator = (!rest.is_empty()).then(|| postcard::from_bytes(rest)).transpose();
        let initiator = initiator.map_err(|e| RowError { kind: Self::KIND, reason: e.to_string() })?;
        Ok(Self { lock, initiator, ..row })
    }
}

/// Key of an upload.
pub fn key(bucket: BucketId, object: &ObjectKey, upload: u128) -> Bytes {
    KeyWriter::new(Tag::Upload).u64(bucket.0).text(object.as_str()).u128(upload).finish()
}

/// Where uploads of keys that begin with `text` start.
pub fn prefix(bucket: BucketId, text: &str) -> Bytes {
    KeyWriter::new(Tag::Upload).u64(bucket.0).text_prefix(text).finish()
}

/// Where all uploads of all buckets start.
pub fn all() -> Bytes {
    KeyWriter::new(Tag::Upload).finish()
}

/// The bucket, object key and upload in an upload's key.
pub fn parse_key(key: &[u8]) -> Option<(BucketId, String, u128)> {
    let mut reader = KeyReader::new(key, Tag::Upload)?;
    let bucket = reader.u64()?;
    let text = reader.text()?;
    let upload = reader.u128()?;
    reader.end()?;
    Some((BucketId(bucket), text, upload))
}

/// One uploaded part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    /// Its bytes.
    pub blob: BlobId,
    /// Length in bytes.
    pub length: u64,
    /// MD5.
    pub etag: ETag,
    /// Checksum kept.
    pub checksum: Option<Checksum>,
    /// When it was written.
    pub modified: UnixMillis,
    /// Commitment to its chunks.
    pub blob_root: [u8; 32],
    /// Digest of the plain bytes.
    pub content_root: [u8; 32],
}

impl NamespaceRow for PartRow {
    const KIND: &'static str = "part";
}

/// Key of a part.
pub fn part_key(upload: u128, number: u32) -> Bytes {
    KeyWriter::new(Tag::Part).u128(upload).u32(number).finish()
}

/// Where an upload's parts start.
pub fn parts_prefix(upload: u128) -> Bytes {
    KeyWriter::new(Tag::Part).u128(upload).finish()
}

/// The part number in a part's key.
pub fn part_number(key: &[u8]) -> Option<u32> {
    let mut reader = KeyReader::new(key, Tag::Part)?;
    reader.u128()?;
    let number = reader.u32()?;
    reader.end()?;
    Some(number)
}

/// How a completed upload was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedRow {
    /// Bucket and key it belonged to.
    pub bucket: BucketId,
    /// Key.
    pub key: String,
    /// BLAKE3 of the part list: the same list gives the same answer.
    pub request: [u8; 32],
    /// When.
    pub completed: UnixMillis,
    /// The version it made, as it was shown.
    pub version: Option<VersionId>,
    /// Entity tag of the object.
    pub etag: ETag,
    /// Checksum of the object.
    pub checksum: Option<Checksum>,
    /// Length in bytes.
    pub length: u64,
    /// Commitment to coding and bytes.
    pub object_root: [u8; 32],
    /// Digest of the plain bytes.
    pub content_root: [u8; 32],
}

impl NamespaceRow for CompletedRow {
    const KIND: &'static str = "completed upload";
}

/// Key of a completed upload.
pub fn completed_key(upload: u128) -> Bytes {
    KeyWriter::new(Tag::CompletedUpload).u128(upload).finish()
}

/// Where all completed uploads start.
pub fn completed_prefix() -> Bytes {
    KeyWriter::new(Tag::CompletedUpload).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn uploads_read_back_with_and_without_initiator(
            owner in "\\PC{0,12}",
            initiated: i64,
            legal_hold: Option<bool>,
            initiator in proptest::option::of("\\PC{0,12}"),
        ) {
            let row = UploadRow {
                owner,
                initiated: UnixMillis(initiated),
                attributes: Attributes::default(),
                tags: Tags::default(),
                acl: None,
                checksum: None,
                lock: Lock { retention: None, legal_hold },
                initiator,
            };
            let bytes = row.encode();
            prop_assert_eq!(&UploadRow::decode(&bytes).unwrap(), &row);
            let old = UploadRow { initiator: None, ..row };
            prop_assert_eq!(&bytes[..old.encode().len()], &old.encode()[..]);
        }
    }
}
