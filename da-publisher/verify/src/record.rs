//! What an entry says: one record, read from foreign bytes (`docs/formats/record.md`).
//!
//! Invariant: a [`Record`] used up all its bytes. Who wrote it, and whether it is in the log, others decide.

use crate::digest::keccak;
use crate::hex_bytes::{Hash, Id};
use crate::proof::PartRow;

const FORMAT: u8 = 1;
const MANIFEST: u8 = 0x13;
/// Longest key that S3 knows.
const KEY_BYTES_MAX: usize = 1_024;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A version was stored.
    Put,
    /// A delete marker was put on top.
    DeleteMarker,
    /// A version was removed for ever.
    RemoveVersion,
    /// A bucket was made or configured.
    BucketSet,
    /// A bucket was removed.
    BucketRemoved,
    /// The placement of shards changed.
    ClusterMap,
}

/// An entry's record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Record {
    /// What happened.
    pub operation: Operation,
    /// When, as the store's clock said: Unix milliseconds.
    pub time: u64,
    /// Which version; zero is the null version.
    pub version: Id,
    /// Bytes of the object.
    pub length: u64,
    /// Commits to the bytes alone.
    pub content_root: Hash,
    /// Commits to bytes, parts and coding.
    pub object_root: Hash,
    /// Commits to the parts.
    pub manifest_root: Hash,
    /// Commits to what the client stored beside the bytes.
    pub metadata_digest: Hash,
    /// The bucket; empty where there is none.
    pub bucket: String,
    /// The key; empty where there is none.
    pub key: String,
}

/// The bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// They end early, or go on.
    #[error("the record is shorter or longer than its fields")]
    Length,
    /// Written by another version.
    #[error("record format {format} is not known, only {FORMAT} is")]
    Format {
        /// Format found.
        format: u8,
    },
    /// No such operation.
    #[error("operation {operation} is not known")]
    Operation {
        /// Operation found.
        operation: u8,
    },
    /// A name is missing, or there is a field that the operation has not.
    #[error("the record has fields that its operation has not, or lacks a name")]
    Fields,
    /// A name is not text.
    #[error("a name in the record is not UTF-8")]
    Name,
}

impl Operation {
    fn decode(operation: u8) -> Result<Self, RecordError> {
        Ok(match operation {
            1 => Self::Put,
            2 => Self::DeleteMarker,
            3 => Self::RemoveVersion,
            4 => Self::BucketSet,
            5 => Self::BucketRemoved,
            6 => Self::ClusterMap,
            _ => return Err(RecordError::Operation { operation }),
        })
    }
}

impl Record {
    /// Reads a foreign record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut rest = bytes;
        let format = u8::from_be_bytes(take(&mut rest)?);
        if format != FORMAT {
            return Err(RecordError::Format { format });
        }
        let record = Self {
            operation: Operation::decode(u8::from_be_bytes(take(&mut rest)?))?,
            time: u64::from_be_bytes(take(&mut rest)?),
            version: take(&mut rest)?.into(),
            length: u64::from_be_bytes(take(&mut rest)?),
            content_root: take(&mut rest)?.into(),
            object_root: take(&mut rest)?.into(),
            manifest_root: take(&mut rest)?.into(),
            metadata_digest: take(&mut rest)?.into(),
            bucket: name(&mut rest)?,
            key: name(&mut rest)?,
        };
        if !rest.is_empty() {
            return Err(RecordError::Length);
        }
        if record.has_what_its_operation_has() { Ok(record) } else { Err(RecordError::Fields) }
    }

    /// Whether names are there, and every field that the operation has not is zero or empty.
    fn has_what_its_operation_has(&self) -> bool {
        let (key, object, manifest, metadata, bucket) = match self.operation {
            Operation::Put => (true, true, true, true, true),
            Operation::DeleteMarker => (true, false, false, true, true),
            Operation::RemoveVersion => (true, true, false, false, true),
            Operation::BucketSet => (false, false, false, true, true),
            Operation::BucketRemoved => (false, false, false, false, true),
            Operation::ClusterMap => (false, false, false, true, false),
        };
        let no_object = self.length == 0 && self.content_root.is_zero() && self.object_root.is_zero();
        let key_fits = (1..=KEY_BYTES_MAX).contains(&self.key.len());
        (if key { key_fits } else { self.key.is_empty() && self.version.is_zero() })
            && (object || no_object)
            && (manifest || self.manifest_root.is_zero())
            && (metadata || self.metadata_digest.is_zero())
            && bucket != self.bucket.is_empty()
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RecordError> {
    let (taken, after) = rest.split_first_chunk().ok_or(RecordError::Length)?;
    *rest = after;
    Ok(*taken)
}

fn name(rest: &mut &[u8]) -> Result<String, RecordError> {
    let length = usize::from(u16::from_be_bytes(take(rest)?));
    let (name, after) = rest.split_at_checked(length).ok_or(RecordError::Length)?;
    *rest = after;
    String::from_utf8(name.to_vec()).map_err(|_| RecordError::Name)
}

/// The manifest root over `parts`, in order; `None` if there are more than a u32 counts.
pub fn manifest_root(parts: &[PartRow]) -> Option<Hash> {
    let mut listed = vec![MANIFEST];
    listed.extend_from_slice(&u32::try_from(parts.len()).ok()?.to_be_bytes());
    for part in parts {
        listed.extend_from_slice(&part.number.to_be_bytes());
        listed.extend_from_slice(&part.blob.0);
        listed.extend_from_slice(&part.length.to_be_bytes());
        listed.extend_from_slice(&part.blob_root.0);
    }
    Some(keccak(&[&listed]))
}
