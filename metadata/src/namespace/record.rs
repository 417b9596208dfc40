//! Records: what an entry of the log says of one change, in the bytes that its leaf commits to.
//!
//! Normative text: `docs/formats/record.md`. Invariant: a record has one encoding. Whatever [`Record::decode`]
//! accepts encodes to the same bytes again, and a field that does not apply to an operation is zero or empty in
//! every record that is accepted. Deliberately knows nothing of positions, leaves, salts or how roots are made.

use bytes::Bytes;

use super::types::{BucketName, ObjectKey, UnixMillis, VersionId};

/// First byte of every record written today.
pub const FORMAT: u8 = 1;
/// Bytes of the fields of fixed width, before bucket and key.
pub const FIXED_BYTES: usize = 162;
/// Longest record in bytes: both names at their longest, each behind its length.
pub const RECORD_BYTES_MAX: usize = FIXED_BYTES + 2 + 63 + 2 + super::types::KEY_BYTES_MAX;

/// 32 bytes of nothing, where a digest does not apply.
pub const NO_DIGEST: [u8; 32] = [0; 32];

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// A version became visible, or what is said beside its bytes changed.
    Put = 1,
    /// A delete marker became visible.
    Mark = 2,
    /// A version or marker was removed for good.
    Remove = 3,
    /// A bucket was made, or its row or one of its documents changed.
    BucketSet = 4,
    /// A bucket was removed.
    BucketRemoved = 5,
    /// The cluster map changed.
    ClusterMap = 6,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Put, Self::Mark, Self::Remove, Self::BucketSet, Self::BucketRemoved, Self::ClusterMap];

    fn of_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| *operation as u8 == byte)
    }

    /// Whether it is about one version of a key.
    #[must_use]
    pub const fn is_of_version(self) -> bool {
        matches!(self, Self::Put | Self::Mark | Self::Remove)
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What happened.
    pub operation: Operation,
    /// In Unix milliseconds: of a put and a mark when the version was written, else when it happened.
    pub time: u64,
    /// Which version; [`VersionId::Null`], which is encoded as zero, where none is meant.
    pub version: VersionId,
    /// Length of the object in bytes.
    pub length: u64,
    /// Digest of the plain bytes.
    pub content_root: [u8; 32],
    /// Commitment to coding and bytes.
    pub object_root: [u8; 32],
    /// Commitment to where the bytes lie: parts, blobs, lengths.
    pub manifest_root: [u8; 32],
    /// Digest of what stands beside the bytes, or of the rows that were set.
    pub metadata_digest: [u8; 32],
    /// Bucket; none for a cluster map.
    pub bucket: Option<BucketName>,
    /// Key; none for what is about no object.
    pub key: Option<ObjectKey>,
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Shorter or longer than its fields say.
    #[error("a record of {bytes} bytes is not of the length that its fields have")]
    Length {
        /// How many there are.
        bytes: usize,
    },
    /// Another format.
    #[error("record format {format} is unknown")]
    Format {
        /// The first byte.
        format: u8,
    },
    /// Another operation.
    #[error("operation {operation} is unknown")]
    Operation {
        /// The second byte.
        operation: u8,
    },
    /// A bucket or key that cannot be one.
    #[error("the record's {field} cannot be one")]
    Name {
        /// Which.
        field: &'static str,
    },
    /// A field that does not apply to the operation is not zero or empty.
    #[error("the record's {field} does not apply to {operation:?}, and is there")]
    Inapplicable {
        /// What happened.
        operation: Operation,
        /// Which.
        field: &'static str,
    },
}

impl Record {
    /// A record in which nothing applies but what happened and when. Times before 1970 count as 1970.
    #[must_use]
    pub fn of(operation: Operation, time: UnixMillis) -> Self {
        Self {
            operation,
            time: u64::try_from(time.0).unwrap_or(0),
            version: VersionId::Null,
            length: 0,
            content_root: NO_DIGEST,
            object_root: NO_DIGEST,
            manifest_root: NO_DIGEST,
            metadata_digest: NO_DIGEST,
            bucket: None,
            key: None,
        }
    }

    /// The one encoding.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        Bytes::from(self.append_to(Vec::with_capacity(self.encoded_bytes())))
    }

    /// Length of the encoding in bytes.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        FIXED_BYTES + 4 + self.bucket_text().len() + self.key_text().len()
    }

    fn bucket_text(&self) -> &str {
        self.bucket.as_ref().map_or("", BucketName::as_str)
    }

    fn key_text(&self) -> &str {
        self.key.as_ref().map_or("", ObjectKey::as_str)
    }

    /// Appends the encoding.
    pub(super) fn append_to(&self, mut out: Vec<u8>) -> Vec<u8> {
        let version = match self.version {
            VersionId::Null => 0,
            VersionId::Id(id) => id,
        };
        out.extend_from_slice(&[FORMAT, self.operation as u8]);
        out.extend_from_slice(&self.time.to_be_bytes());
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
        for digest in [&self.content_root, &self.object_root, &self.manifest_root, &self.metadata_digest] {
            out.extend_from_slice(digest);
        }
        for name in [self.bucket_text(), self.key_text()] {
            let bytes = u16::try_from(name.len()).expect("a bucket name has at most 63 bytes, a key 1,024");
            out.extend_from_slice(&bytes.to_be_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        out
    }

    /// Reads foreign bytes: exactly one record, or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields { rest: bytes, bytes: bytes.len() };
        let [format, operation] = fields.take()?;
        if format != FORMAT {
            return Err(RecordError::Format { format });
        }
        let operation = Operation::of_byte(operation).ok_or(RecordError::Operation { operation })?;
        let time = u64::from_be_bytes(fields.take()?);
        let version = match u128::from_be_bytes(fields.take()?) {
            0 => VersionId::Null,
            id => VersionId::Id(id),
        };
        let length = u64::from_be_bytes(fields.take()?);
        let [content_root, object_root, manifest_root, metadata_digest] =
            [fields.take()?, fields.take()?, fields.take()?, fields.take()?];
        let bucket = fields.name("bucket", |text| BucketName::new(text).ok())?;
        let key = fields.name("key", |text| ObjectKey::new(text).ok())?;
        if !fields.rest.is_empty() {
            return Err(RecordError::Length { bytes: bytes.len() });
        }
        let record = Self {
            operation,
            time,
            version,
            length,
            content_root,
            object_root,
            manifest_root,
            metadata_digest,
            bucket,
            key,
        };
        record.check()?;
        Ok(record)
    }

    /// Names are there where the operation has them, and nothing is there that it has not.
    fn check(&self) -> Result<(), RecordError> {
        let operation = self.operation;
        let is_of_object = matches!(operation, Operation::Put | Operation::Remove);
        let has_digest = !matches!(operation, Operation::Remove | Operation::BucketRemoved);
        let empty = |field, applies: bool, is_empty: bool| {
            if applies || is_empty { Ok(()) } else { Err(RecordError::Inapplicable { operation, field }) }
        };
        empty("version", operation.is_of_version(), self.version == VersionId::Null)?;
        empty("length", is_of_object, self.length == 0)?;
        empty("content_root", is_of_object, self.content_root == NO_DIGEST)?;
        empty("object_root", is_of_object, self.object_root == NO_DIGEST)?;
        empty("manifest_root", operation == Operation::Put, self.manifest_root == NO_DIGEST)?;
        empty("metadata_digest", has_digest, self.metadata_digest == NO_DIGEST)?;
        let has_bucket = operation != Operation::ClusterMap;
        empty("bucket", has_bucket, self.bucket.is_none())?;
        empty("key", operation.is_of_version(), self.key.is_none())?;
        if has_bucket && self.bucket.is_none() {
            return Err(RecordError::Name { field: "bucket" });
        }
        if operation.is_of_version() && self.key.is_none() {
            return Err(RecordError::Name { field: "key" });
        }
        Ok(())
    }
}

/// What is left of foreign bytes.
struct Fields<'a> {
    rest: &'a [u8],
    bytes: usize,
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (field, rest) =
            self.rest.split_first_chunk::<N>().ok_or(RecordError::Length { bytes: self.bytes })?;
        self.rest = rest;
        Ok(*field)
    }

    fn name<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, RecordError> {
        let bytes = usize::from(u16::from_be_bytes(self.take()?));
        let (name, rest) =
            self.rest.split_at_checked(bytes).ok_or(RecordError::Length { bytes: self.bytes })?;
        self.rest = rest;
        if name.is_empty() {
            return Ok(None);
        }
        let text = std::str::from_utf8(name).ok().and_then(read);
        text.map(Some).ok_or(RecordError::Name { field })
    }
}

#[cfg(test)]
mod tests;
