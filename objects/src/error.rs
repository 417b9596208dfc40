//! The one error type of the use cases: facts, no sentences for machines to parse.
//!
//! Each front door maps it exhaustively to its own codes. Internal detail stays in the log, under the
//! request id that the client is shown.

use crate::requests::BodyError;
use crate::types::{InvalidBucketName, InvalidKey, VersionId};

/// Why a use case did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's sentence is its documentation")]
pub enum Error {
    #[error("access denied")]
    AccessDenied,
    #[error("the bucket does not exist")]
    NoSuchBucket,
    #[error("the key does not exist")]
    NoSuchKey,
    #[error("the key's current version is a delete marker")]
    CurrentIsDeleteMarker { version: VersionId },
    #[error("the version does not exist")]
    NoSuchVersion,
    #[error("the version named is a delete marker; it has no bytes")]
    VersionIsDeleteMarker { version: VersionId },
    #[error("the upload does not exist; it was completed, aborted, or never started")]
    NoSuchUpload,
    #[error("the bucket has no {what}")]
    NoSuchConfiguration { what: Configuration },
    #[error("a bucket of this name exists and belongs to somebody else")]
    BucketAlreadyExists,
    #[error("you own a bucket of this name already")]
    BucketAlreadyOwnedByYou,
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    #[error("condition {condition} does not hold")]
    PreconditionFailed { condition: &'static str },
    #[error("not modified")]
    NotModified { etag: crate::types::ETag, modified: crate::types::UnixMillis, version: Option<VersionId> },
    #[error("a concurrent operation on this key won; try again")]
    ConditionalConflict,
    #[error("the range is outside the object of {length} bytes")]
    RangeNotSatisfiable { length: u64 },
    #[error("the object has no part {number}")]
    NoSuchPartNumber { number: u32 },
    #[error("part {number} was not uploaded or its entity tag differs")]
    InvalidPart { number: u32 },
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    #[error("part {number} has {length} bytes; every part but the last has at least 5 MiB")]
    PartTooSmall { number: u32, length: u64 },
    #[error("{length} bytes are over the limit of {limit}")]
    TooLarge { length: u64, limit: u64 },
    #[error("the Content-MD5 does not match what was received")]
    ContentMd5Mismatch,
    #[error("the SHA-256 of the body does not match what was signed")]
    ContentSha256Mismatch,
    #[error("the checksum does not match what was received")]
    ChecksumMismatch { algorithm: crate::types::ChecksumAlgorithm },
    #[error("invalid request: {reason}")]
    InvalidRequest { reason: String },
    #[error("invalid argument {name}: {reason}")]
    InvalidArgument { name: &'static str, reason: String },
    #[error("invalid tags: {reason}")]
    InvalidTag { reason: String },
    #[error("malformed policy: {reason}")]
    MalformedPolicy { reason: String },
    #[error("the ACL is not supported: the bucket's object ownership is BucketOwnerEnforced")]
    AclNotSupported,
    #[error("the bucket's ACL grants something to others; BucketOwnerEnforced would take it away")]
    AclAgainstOwnership,
    #[error("the request's metadata is over {limit} bytes")]
    MetadataTooLarge { limit: usize },
    #[error("the version is locked: a retention period or a legal hold keeps it")]
    ObjectLocked,
    #[error("invalid retention period: {reason}")]
    InvalidRetentionPeriod { reason: &'static str },
    #[error("malformed configuration: {reason}")]
    MalformedConfiguration { reason: &'static str },
    #[error("the operation does not fit the bucket's state: {reason}")]
    InvalidBucketState { reason: &'static str },
    #[error("copying an object onto itself needs a change of metadata, storage class or tags")]
    CopyToItself,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    BucketName(#[from] InvalidBucketName),
    #[error(transparent)]
    Key(#[from] InvalidKey),
    #[error("too busy: {what}; try again later")]
    SlowDown { what: &'static str },
    #[error("{writable} nodes can take writes, {needed} are needed")]
    TooFewNodes { writable: usize, needed: usize },
    #[error("the snapshot or lease was lost: too old")]
    SnapshotTooOld,
    #[error("not enough shards of chunk {chunk} are readable")]
    Unreadable { chunk: ashlar_chunker::ChunkId },
    #[error("the outcome of the write is not known; read before retrying")]
    OutcomeUnknown,
    #[error("the change is stored, and not yet {level} as its bucket asks")]
    NotYetDurable { level: crate::log::DurableWhen, receipt: Option<std::sync::Arc<str>> },
    #[error("the version was written before there was a log; it has no entry")]
    NoLogEntry,
    #[error("internal: {0}")]
    Internal(#[from] Internal),
}

/// Optional configuration of a bucket, as an error names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Configuration {
    Policy,
    Cors,
    Tags,
    PublicAccessBlock,
    OwnershipControls,
    Lifecycle,
    Encryption,
    Website,
    ObjectLock,
    /// Of one version: a retention or legal hold.
    Lock,
}

impl std::fmt::Display for Configuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy",
            Self::Cors => "CORS configuration",
            Self::Tags => "tags",
            Self::PublicAccessBlock => "public access block",
            Self::OwnershipControls => "ownership controls",
            Self::Lifecycle => "lifecycle configuration",
            Self::Encryption => "encryption configuration",
            Self::Website => "website configuration",
            Self::ObjectLock => "object lock configuration",
            Self::Lock => "retention or legal hold on this version",
        })
    }
}

/// A fault of ours: logged whole, shown only as a request id.
#[derive(Debug, thiserror::Error)]
#[error("{context}: {source}")]
pub struct Internal {
    /// What was being done.
    pub context: &'static str,
    /// What went wrong below.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// Wraps a fault from a layer below.
    pub fn internal(
        context: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Internal(Internal { context, source: source.into() })
    }
}
