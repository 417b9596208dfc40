//! What each use case takes and gives: plain data between a front door and [`crate::Store`].
//!
//! A front door (S3, SQL, jobs) translates its wire form into these and back; nothing here knows which.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;

use crate::lifecycle::Expiry;
use crate::object_lock::Lock;
use crate::types::{
    Attributes, BucketName, ByteRange, Checksum, ChecksumAlgorithm, ChecksumType, Conditions, ETag,
    ObjectKey, Tags, UnixMillis, VersionId,
};
use ashlar_chunker::{ContentRoot, ObjectRoot};

/// Why a body ended early, as the front door saw it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client went away or sent fewer bytes than it declared.
    #[error("the body ended after {received} bytes, before its declared length")]
    Incomplete {
        /// Bytes that came.
        received: u64,
    },
    /// More bytes than declared.
    #[error("the body is longer than its declared length")]
    TooLong,
    /// A signed chunk or trailer does not carry the right signature.
    #[error("a chunk signature of the body does not match")]
    ChunkSignature,
    /// The chunk framing is broken.
    #[error("the body's chunk framing is malformed: {detail}")]
    Framing {
        /// What is wrong.
        detail: &'static str,
    },
    /// The client sent slower than the store waits for.
    #[error("the body came too slowly")]
    TooSlow,
    /// A digest that the front door itself checks does not match (`x-amz-content-sha256`).
    #[error("the body does not match the SHA-256 that was signed")]
    ContentSha256Mismatch,
    /// The object that a copy reads could not be read to its end.
    #[error("the source of the copy could not be read")]
    Source,
}

/// A body's bytes as they come.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Asked once, after the body's last byte: the checksum value that came in a trailer.
pub type TrailingChecksum =
    Box<dyn FnOnce() -> Result<Option<(ChecksumAlgorithm, Vec<u8>)>, BodyError> + Send>;

/// A body and everything the client said about it. All of it is verified before anything becomes visible.
pub struct Payload {
    /// The bytes.
    pub stream: BodyStream,
    /// Decoded length where the client declared it.
    pub length: Option<u64>,
    /// `Content-MD5`.
    pub content_md5: Option<[u8; 16]>,
    /// SHA-256 that the signature covers, when it is not verified by the front door.
    pub content_sha256: Option<[u8; 32]>,
    /// Checksum to compute and keep; with a value: to verify.
    pub checksum: Option<(ChecksumAlgorithm, Option<Vec<u8>>)>,
    /// Checksum announced to come in a trailer.
    pub trailing_checksum: Option<TrailingChecksum>,
}

/// Who may do what to an object or bucket, as a canned word of S3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum CannedAcl {
    /// Only the owner.
    #[default]
    Private,
    /// Everybody reads.
    PublicRead,
    /// Everybody reads and writes.
    PublicReadWrite,
    /// Every signed-in user reads.
    AuthenticatedRead,
    /// The bucket's owner reads.
    BucketOwnerRead,
    /// The bucket's owner has full control.
    BucketOwnerFullControl,
}

/// PUT of a whole object.
pub struct PutObject {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// What goes with the bytes.
    pub attributes: Attributes,
    /// Tags.
    pub tags: Tags,
    /// ACL, `None` where the client said nothing.
    pub acl: Option<crate::access::AclRequest>,
    /// Conditions, decided in the commit.
    pub conditions: Conditions,
    /// Retention and legal hold of the version, as asked.
    pub lock: Lock,
    /// The bytes.
    pub payload: Payload,
}

/// What a write answers.
#[derive(Clone, Debug)]
pub struct Written {
    /// Entity tag.
    pub etag: ETag,
    /// The version id to show: `None` where the bucket was never versioned.
    pub version: Option<VersionId>,
    /// The checksum kept.
    pub checksum: Option<Checksum>,
    /// Object length in bytes.
    pub length: u64,
    /// When it was written.
    pub modified: UnixMillis,
    /// Commitment to coding and bytes.
    pub object_root: ObjectRoot,
    /// Digest of the plain bytes.
    pub content_root: ContentRoot,
    /// When the bucket's lifecycle rules let it expire.
    pub expiration: Option<Expiry>,
    /// Position of the commit that made it visible.
    pub position: u64,
    /// The promise to publish it, where the store publishes: the header `x-ashlar-receipt`.
    pub receipt: Option<Arc<str>>,
}

/// What a change of something beside a version's bytes answers.
#[derive(Clone, Debug)]
pub struct VersionChanged {
    /// The version id to show: `None` where the bucket was never versioned.
    pub version: Option<VersionId>,
    /// The promise to publish it, where the store publishes.
    pub receipt: Option<Arc<str>>,
}

/// What a change of a bucket answers.
#[derive(Clone, Debug)]
pub struct BucketChanged {
    /// The promise to publish it, where the store publishes.
    pub receipt: Option<Arc<str>>,
}

/// Which object a read names.
#[derive(Clone, Debug)]
pub struct ObjectName {
    /// Bucket.
    pub bucket: BucketName,
    /// Key.
    pub key: ObjectKey,
    /// A version, else the current one.
    pub version: Option<VersionId>,
}

impl ObjectName {
    /// The current version of a key.
    pub fn current(bucket: &BucketName, key: &ObjectKey) -> Self {
        Self { bucket: bucket.clone(), key: key.clone(), version: None }
    }
}

/// Which bytes a read wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it.
    Whole,
    /// A range.
    Range(ByteRange),
    /// One part of a multipart object (1-based); part 1 of a plain object is all of it.
    Part(u32),
}

/// GET or HEAD.
#[derive(Clone, Debug)]
pub struct ReadObject {
    /// Which object.
    pub name: ObjectName,
    /// Which bytes.
    pub selection: Selection,
    /// Conditions of RFC 9110, in its order of precedence.
    pub conditions: Conditions,
}

/// All there is to know of one version.
#[derive(Clone, Debug)]
pub struct ObjectHead {
    /// Entity tag.
    pub etag: ETag,
    /// Length in bytes.
    pub length: u64,
    /// When it was written.
    pub modified: UnixMillis,
    /// The version id to show: `None` where the bucket was never versioned.
    pub version: Option<VersionId>,
    /// What the client stored beside it.
    pub attributes: Attributes,
    /// How many tags it has.
    pub tag_count: usize,
    /// Checksum kept.
    pub checksum: Option<Checksum>,
    /// Lengths and checksums of the parts of a multipart object, in order; empty for a plain one.
    pub parts: Arc<[PartFact]>,
    /// Owner's user id.
    pub owner: String,
    /// Commitment to coding and bytes.
    pub object_root: ObjectRoot,
    /// Digest of the plain bytes.
    pub content_root: ContentRoot,
}

/// One part of a finished multipart object.
#[derive(Clone, Debug)]
pub struct PartFact {
    /// Its number as uploaded.
    pub number: u32,
    /// Length in bytes.
    pub length: u64,
    /// Its own checksum, where kept.
    pub checksum: Option<Checksum>,
}

/// An opened GET: facts first, then bytes, each checked against its commitment before it is given out.
pub struct ObjectRead {
    /// Facts.
    pub head: ObjectHead,
    /// First byte and length of what is read.
    pub first: u64,
    /// Bytes that `body` will give.
    pub length: u64,
    /// Whether the answer is partial (206).
    pub partial: bool,
    /// The bytes. Dropping it releases every resource at once. Who holds on to pieces may get no more of
    /// them while memory is short: they count until they are dropped.
    pub body: Pin<Box<dyn Stream<Item = Result<Bytes, crate::Error>> + Send>>,
}

/// An answered HEAD: what a GET would give, without bytes.
#[derive(Clone, Debug)]
pub struct HeadRead {
    /// Facts.
    pub head: ObjectHead,
    /// First byte that is read.
    pub first: u64,
    /// Bytes that a GET would give.
    pub length: u64,
    /// Whether the answer is partial (206).
    pub partial: bool,
}

/// DELETE of one key.
#[derive(Clone, Debug)]
pub struct DeleteObject {
    /// Which; with a version it is removed for good, without one a versioned bucket gets a delete marker.
    pub name: ObjectName,
    /// Conditions, decided in the commit.
    pub conditions: Conditions,
    /// Remove it although governance retains it, for who has the right.
    pub bypass_governance: bool,
}

/// What DELETE answers.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The version removed, or the marker made.
    pub version: Option<VersionId>,
    /// Whether what was made or removed is a delete marker.
    pub delete_marker: bool,
    /// Position of the commit that did it; `None` where nothing was there to remove.
    pub position: Option<u64>,
    /// The promise to publish it, where the store publishes and there was something to remove.
    pub receipt: Option<Arc<str>>,
}

/// COPY: metadata only, unless a digest is asked that the source lacks.
pub struct CopyObject {
    /// From where.
    pub source: ObjectName,
    /// Conditions on the source.
    pub source_conditions: Conditions,
    /// To which bucket.
    pub bucket: BucketName,
    /// To which key.
    pub key: ObjectKey,
    /// New attributes, or `None` to take the source's.
    pub attributes: Option<Attributes>,
    /// A new storage class, whatever the attributes say.
    pub storage_class: Option<String>,
    /// New tags, or `None` to take the source's.
    pub tags: Option<Tags>,
    /// ACL of the copy.
    pub acl: Option<crate::access::AclRequest>,
    /// A checksum to have, whatever the source has.
    pub checksum: Option<ChecksumAlgorithm>,
    /// Retention and legal hold of the copy, as asked; nothing is taken from the source.
    pub lock: Lock,
    /// Conditions on the destination.
    pub conditions: Conditions,
}

/// What COPY answers.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The new version.
    pub written: Written,
    /// The version that was read, where the source's bucket is versioned.
    pub source_version: Option<VersionId>,
}

/// A listing of live objects (ListObjects, ListObjectsV2).
#[derive(Clone, Debug)]
pub struct ListObjects {
    /// Which bucket.
    pub bucket: BucketName,
    /// Keys that begin so.
    pub prefix: String,
    /// Groups keys that share what comes before its first appearance after the prefix.
    pub delimiter: Option<String>,
    /// Keys and common prefixes after this one only.
    pub after: Option<String>,
    /// Most entries, keys and common prefixes together, at most 1,000.
    pub max: u32,
}

/// One live object of a listing.
#[derive(Clone, Debug)]
pub struct ListedObject {
    /// Key.
    pub key: String,
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

/// One page of a listing, entries in byte order of keys and prefixes.
#[derive(Clone, Debug, Default)]
pub struct ObjectPage {
    /// Live objects.
    pub objects: Vec<ListedObject>,
    /// Common prefixes.
    pub common_prefixes: Vec<String>,
    /// Set when there is more: give it as `after` for the next page.
    pub next_after: Option<String>,
}

/// A listing of versions and delete markers.
#[derive(Clone, Debug)]
pub struct ListVersions {
    /// Which bucket.
    pub bucket: BucketName,
    /// Keys that begin so.
    pub prefix: String,
    /// As in [`ListObjects`].
    pub delimiter: Option<String>,
    /// Start after this key, or after this version of it.
    pub after: Option<(String, Option<VersionId>)>,
    /// Most entries, at most 1,000.
    pub max: u32,
}

/// One version or delete marker.
#[derive(Clone, Debug)]
pub struct ListedVersion {
    /// Key.
    pub key: String,
    /// Version.
    pub version: VersionId,
    /// Whether it is the newest.
    pub latest: bool,
    /// `None` for a delete marker.
    pub object: Option<ListedObject>,
    /// When it was written.
    pub modified: UnixMillis,
    /// Owner's user id.
    pub owner: String,
    /// Commitments to coding and bytes, and to the plain bytes; `None` for a delete marker.
    pub roots: Option<(ObjectRoot, ContentRoot)>,
    /// Position of its newest entry in the log; `None`: it was written before there was one.
    pub position: Option<u64>,
}

/// One page of versions, keys ascending and newest first.
#[derive(Clone, Debug, Default)]
pub struct VersionPage {
    /// Versions and markers.
    pub versions: Vec<ListedVersion>,
    /// Common prefixes.
    pub common_prefixes: Vec<String>,
    /// Set when there is more.
    pub next_after: Option<(String, Option<VersionId>)>,
}

/// An upload's id, opaque text outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct UploadId(pub u128);

impl UploadId {
    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// CreateMultipartUpload.
pub struct CreateUpload {
    /// Bucket.
    pub bucket: BucketName,
    /// Key.
    pub key: ObjectKey,
    /// Attributes of the object to be.
    pub attributes: Attributes,
    /// Tags of the object to be.
    pub tags: Tags,
    /// ACL of the object to be.
    pub acl: Option<crate::access::AclRequest>,
    /// Checksum that every part is to carry.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// Retention and legal hold of the object to be, as asked.
    pub lock: Lock,
}

/// What CreateMultipartUpload answers.
#[derive(Clone, Debug)]
pub struct CreatedUpload {
    /// The upload.
    pub upload: UploadId,
    /// Checksum that every part is to carry.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// When the bucket's lifecycle rules give it up.
    pub expiration: Option<Expiry>,
}

/// Names an upload in progress.
#[derive(Clone, Debug)]
pub struct UploadName {
    /// Bucket.
    pub bucket: BucketName,
    /// Key.
    pub key: ObjectKey,
    /// Upload.
    pub upload: UploadId,
}

/// A stored part.
#[derive(Clone, Debug)]
pub struct PartWritten {
    /// Number.
    pub number: u32,
    /// Entity tag (MD5).
    pub etag: ETag,
    /// Length in bytes.
    pub length: u64,
    /// Checksum kept.
    pub checksum: Option<Checksum>,
    /// When it was written.
    pub modified: UnixMillis,
}

/// One line of a Complete request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    /// Number; numbers ascend.
    pub number: u32,
    /// Entity tag as text without quotes.
    pub etag: String,
    /// The part's checksum as the client knows it.
    pub checksum: Option<(ChecksumAlgorithm, Vec<u8>)>,
}

/// CompleteMultipartUpload.
pub struct CompleteUpload {
    /// Which upload.
    pub name: UploadName,
    /// The parts, in order.
    pub parts: Vec<CompletedPart>,
    /// The object's checksum as the client knows it.
    pub checksum: Option<(ChecksumAlgorithm, Vec<u8>)>,
    /// The checksum type the client repeats.
    pub checksum_kind: Option<ChecksumType>,
    /// `x-amz-mp-object-size`.
    pub length: Option<u64>,
    /// Conditions, decided in the commit.
    pub conditions: Conditions,
}

/// One page of an upload's parts.
#[derive(Clone, Debug)]
pub struct PartPage {
    /// Parts by number.
    pub parts: Vec<PartWritten>,
    /// Set when there is more.
    pub next_after: Option<u32>,
    /// Whose the object will be.
    pub owner: String,
    /// Who started the upload.
    pub initiator: String,
    /// Storage class as asked.
    pub storage_class: Option<String>,
    /// Checksum the upload asked for.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// A listing of uploads in progress.
#[derive(Clone, Debug)]
pub struct ListUploads {
    /// Bucket.
    pub bucket: BucketName,
    /// Keys that begin so.
    pub prefix: String,
    /// As in [`ListObjects`].
    pub delimiter: Option<String>,
    /// Start after this key, or after this upload of it.
    pub after: Option<(String, Option<UploadId>)>,
    /// Most entries, at most 1,000.
    pub max: u32,
}

/// One upload in progress.
#[derive(Clone, Debug)]
pub struct ListedUpload {
    /// Key.
    pub key: String,
    /// Upload.
    pub upload: UploadId,
    /// Whose the object will be.
    pub owner: String,
    /// Who started it.
    pub initiator: String,
    /// When.
    pub initiated: UnixMillis,
    /// Storage class as asked.
    pub storage_class: Option<String>,
    /// Checksum the upload asked for.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// One page of uploads.
#[derive(Clone, Debug, Default)]
pub struct UploadPage {
    /// Uploads, keys ascending, then by time of start.
    pub uploads: Vec<ListedUpload>,
    /// Common prefixes.
    pub common_prefixes: Vec<String>,
    /// Set when there is more.
    pub next_after: Option<(String, Option<UploadId>)>,
}

mod buckets;

pub use ashlar_metadata::namespace::buckets::Versioning;
pub use buckets::{BucketFacts, CreateBucket, CreatedBucket};
