//! What CreateBucket asks and answers, and what is told of a bucket.

use std::sync::Arc;

use ashlar_metadata::namespace::buckets::Versioning;

use crate::types::{BucketName, UnixMillis};

/// CreateBucket.
#[derive(Clone, Debug)]
pub struct CreateBucket {
    /// Name.
    pub bucket: BucketName,
    /// ACL, `None` where the client said nothing.
    pub acl: Option<crate::access::AclRequest>,
    /// Object ownership, `None` for the default.
    pub ownership: Option<crate::access::ObjectOwnership>,
    /// Location constraint as sent; kept and answered.
    pub location: Option<String>,
    /// Whether it has object lock from the start, and so versioning.
    pub object_lock: bool,
}

/// What CreateBucket answers.
#[derive(Clone, Debug)]
pub struct CreatedBucket {
    /// The bucket.
    pub facts: BucketFacts,
    /// The promise to publish it, where the store publishes.
    pub receipt: Option<Arc<str>>,
}

/// Facts about a bucket.
#[derive(Clone, Debug)]
pub struct BucketFacts {
    /// Name.
    pub name: BucketName,
    /// Owner's user id.
    pub owner: String,
    /// When it was made.
    pub created: UnixMillis,
    /// Versioning.
    pub versioning: Versioning,
    /// Location constraint.
    pub location: Option<String>,
}
