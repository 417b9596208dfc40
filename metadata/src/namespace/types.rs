//! The words of the namespace: names, versions, digests, attributes.
//!
//! Every constructor here checks, so a value of these types is valid wherever it stands, in a row or above.
//! Deliberately knows nothing of HTTP, XML or how bytes are laid out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest object key, in UTF-8 bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Most user metadata of one object: names and values, in bytes.
pub const USER_METADATA_BYTES_MAX: usize = 2048;
/// Largest object that one PUT may carry, in bytes (5 GiB).
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// Largest object, in bytes (5 TiB).
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;
/// Smallest part but the last of a multipart upload, in bytes (5 MiB).
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// Highest part number.
pub const PART_NUMBER_MAX: u32 = 10_000;

/// A bucket's name: 3 to 63 of `a-z 0-9 . -`, beginning and ending with a letter or digit, not an IP address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(Arc<str>);

impl TryFrom<String> for BucketName {
    type Error = InvalidBucketName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<BucketName> for String {
    fn from(value: BucketName) -> Self {
        value.0.as_ref().to_owned()
    }
}

impl BucketName {
    /// Checks a name against the rules of S3.
    pub fn new(name: &str) -> Result<Self, InvalidBucketName> {
        let bytes = name.as_bytes();
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        let is_address =
            name.split('.').count() == 4 && name.split('.').all(|part| part.parse::<u8>().is_ok());
        let valid = (3..=63).contains(&bytes.len())
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(inner)
            && !["..", ".-", "-."].iter().any(|joint| name.contains(joint))
            && !is_address;
        if valid {
            Ok(Self(Arc::from(name)))
        } else {
            Err(InvalidBucketName { name: name.chars().take(80).collect() })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name breaks S3's rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is not a bucket name: 3 to 63 of a-z, 0-9, '.' and '-' are, beginning and ending with a letter or digit"
)]
pub struct InvalidBucketName {
    /// What was given, cut to 80 characters.
    pub name: String,
}

/// An object's key: 1 to 1,024 bytes of UTF-8. Bytes are kept as given; nothing is normalised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(Arc<str>);

impl TryFrom<String> for ObjectKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<ObjectKey> for String {
    fn from(value: ObjectKey) -> Self {
        value.0.as_ref().to_owned()
    }
}

impl ObjectKey {
    /// Checks the length.
    pub fn new(key: &str) -> Result<Self, InvalidKey> {
        match key.len() {
            0 => Err(InvalidKey::Empty),
            1..=KEY_BYTES_MAX => Ok(Self(Arc::from(key))),
            bytes => Err(InvalidKey::TooLong { bytes }),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not an object key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// No bytes.
    #[error("an object key has at least one byte")]
    Empty,
    /// Over [`KEY_BYTES_MAX`].
    #[error("an object key of {bytes} bytes is over the limit of {KEY_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// One version of a key. The text form is `null` or 32 hex digits; it says nothing about order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VersionId {
    /// The version written while versioning was off or suspended; at most one a key.
    Null,
    /// Sequence in the key's history (high 64 bits) and 64 random bits.
    Id(u128),
}

impl VersionId {
    /// Its place in the key's history; of the null version only the key's head knows.
    pub fn sequence(self) -> Option<u64> {
        match self {
            Self::Null => None,
            Self::Id(number) => Some(u64::try_from(number >> 64).expect("128 bits less 64 are 64")),
        }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let plain =
            text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        plain.then(|| u128::from_str_radix(text, 16).ok().map(Self::Id)).flatten()
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Id(id) => write!(f, "{id:032x}"),
        }
    }
}

/// An S3 entity tag, without quotes in its text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ETag {
    /// MD5 of the bytes.
    Md5([u8; 16]),
    /// MD5 over the parts' MD5s, and how many parts: `…-3`.
    Multipart([u8; 16], u32),
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Md5(md5) => f.write_str(&hex::encode(md5)),
            Self::Multipart(md5, parts) => write!(f, "{}-{parts}", hex::encode(md5)),
        }
    }
}

/// Checksums that S3 clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl ChecksumAlgorithm {
    /// Length of the raw value in bytes.
    pub fn value_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// What a multipart object's checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChecksumType {
    /// A checksum over the parts' checksums; its text form ends in `-<parts>`.
    Composite,
    /// A checksum over all bytes.
    FullObject,
}

/// A checksum of an object or part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Checksum {
    /// How it is computed.
    pub algorithm: ChecksumAlgorithm,
    /// What it covers.
    pub kind: ChecksumType,
    /// Raw big-endian value, [`ChecksumAlgorithm::value_bytes`] long.
    pub value: Vec<u8>,
    /// Number of parts, for [`ChecksumType::Composite`].
    pub parts: Option<u32>,
}

impl Checksum {
    /// The text S3 shows: base64, with `-<parts>` for a composite one.
    pub fn text(&self) -> String {
        use base64::Engine;
        let value = base64::engine::general_purpose::STANDARD.encode(&self.value);
        match self.parts {
            Some(parts) if self.kind == ChecksumType::Composite => format!("{value}-{parts}"),
            _ => value,
        }
    }
}

/// What a client stored beside the bytes; answered as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// `Content-Type`; absent is answered as `binary/octet-stream`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`, without the transport's `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Expires`, as sent.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// `x-amz-storage-class` as asked; absent is STANDARD.
    pub storage_class: Option<String>,
    /// `x-amz-meta-*`: names in lower case without the prefix, values decoded.
    pub user: BTreeMap<String, String>,
}

/// Tags of an object or bucket: at most 10 an object and 50 a bucket, keys up to 128 and values up to 256 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags(pub BTreeMap<String, String>);

/// A moment in Unix milliseconds. Shown to people; no decision rests on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);
