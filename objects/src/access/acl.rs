//! Access control lists: what is stored, what a request asks for, and what grants allow.
//!
//! Invariant: a stored [`Acl`] names its owner and at most [`GRANTS_MAX`] grants; what a request asks is
//! turned into one here and nowhere else. Knows nothing of XML or headers.

use serde::{Deserialize, Serialize};

use crate::requests::CannedAcl;

/// Most grants of one ACL, as in S3.
pub const GRANTS_MAX: usize = 100;

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// List a bucket, read an object.
    Read,
    /// Write, replace and delete objects of a bucket; nothing on an object.
    Write,
    /// Read the ACL.
    ReadAcp,
    /// Write the ACL.
    WriteAcp,
    /// All four.
    FullControl,
}

/// To whom something is granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grantee {
    /// One user.
    User {
        /// The user's id.
        id: String,
    },
    /// Everybody, signed in or not.
    AllUsers,
    /// Every signed-in user.
    AuthenticatedUsers,
    /// Log delivery of S3; nobody belongs to it here.
    LogDelivery,
}

/// One line of an ACL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// To whom.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

/// The ACL of a bucket or object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl {
    /// Owner's user id.
    pub owner: String,
    /// Grants, in the order they were given.
    pub grants: Vec<Grant>,
}

/// What a request asks an ACL to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AclRequest {
    /// One of S3's words.
    Canned(CannedAcl),
    /// Grants, from `x-amz-grant-*` or a document.
    Grants(Vec<Grant>),
}

/// Why an ACL that was asked for is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// More than [`GRANTS_MAX`].
    #[error("an ACL of {grants} grants, at most {GRANTS_MAX} are allowed")]
    TooManyGrants {
        /// Their number.
        grants: usize,
    },
    /// The bucket's object ownership is BucketOwnerEnforced.
    #[error("the bucket's object ownership switches ACLs off")]
    NotSupported,
    /// The bucket's public access block refuses public ACLs.
    #[error("the bucket's public access block refuses public ACLs")]
    PublicBlocked,
}
