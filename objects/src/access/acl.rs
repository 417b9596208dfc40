//! Access control lists: what is stored, what a request asks for, and what grants allow.
//!
//! Invariant: an [`Acl`] made here names its owner and at most [`GRANTS_MAX`] grants, groups before users;
//! what a request asks is turned into one here and nowhere else, so a bucket's ownership and public access
//! block are never forgotten. Knows nothing of XML or headers, nor whether a user exists.

use serde::{Deserialize, Serialize};

use super::authorize::BucketAccess;
use super::{Action, ObjectOwnership, Principal};
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

impl Grantee {
    /// Whether it is a group that anybody can belong to.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        matches!(self, Self::AllUsers | Self::AuthenticatedUsers)
    }
}

/// One line of an ACL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// To whom.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

impl Grant {
    fn to_user(id: &str, permission: Permission) -> Self {
        Self { grantee: Grantee::User { id: id.to_owned() }, permission }
    }
}

/// The ACL of a bucket or object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl {
    /// Owner's user id.
    pub owner: String,
    /// Grants: groups first, else in the order they were given.
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

impl From<AclError> for crate::Error {
    fn from(error: AclError) -> Self {
        match error {
            AclError::TooManyGrants { .. } => {
                Self::InvalidArgument { name: "AccessControlList", reason: error.to_string() }
            }
            AclError::NotSupported => Self::AclNotSupported,
            AclError::PublicBlocked => Self::AccessDenied,
        }
    }
}

impl Acl {
    /// The ACL where nobody was granted anything: the owner has full control.
    #[must_use]
    pub fn private(owner: &str) -> Self {
        Self { owner: owner.to_owned(), grants: vec![Grant::to_user(owner, Permission::FullControl)] }
    }

    /// Whether nobody but the owner is granted anything.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.grants.iter().all(|grant| matches!(&grant.grantee, Grantee::User { id } if *id == self.owner))
    }

    /// Whether a group that anybody can belong to is granted anything.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(|grant| grant.grantee.is_public())
    }

    /// The ACL of a bucket that is being made. `bucket` is the bucket to be.
    pub fn of_new_bucket(request: Option<&AclRequest>, bucket: &BucketAccess<'_>) -> Result<Self, AclError> {
        match request {
            None | Some(AclRequest::Canned(CannedAcl::Private)) => Ok(Self::private(bucket.owner)),
            Some(request) => Self::of_bucket(request, bucket),
        }
    }

    /// The ACL that PutBucketAcl asks for.
    pub fn of_bucket(request: &AclRequest, bucket: &BucketAccess<'_>) -> Result<Self, AclError> {
        if !bucket.ownership.acls_count() {
            return Err(AclError::NotSupported);
        }
        Self::resolve(request, bucket.owner, bucket)
    }

    /// The ACL of an object that is being written and will belong to `owner` (see [`owner_of_new_object`]).
    ///
    /// With ACLs switched off, nothing and full control for the bucket's owner are the same and accepted.
    pub fn of_new_object(
        request: Option<&AclRequest>,
        owner: &str,
        bucket: &BucketAccess<'_>,
    ) -> Result<Self, AclError> {
        let Some(request) = request else { return Ok(Self::private(owner)) };
        if !bucket.ownership.acls_count() {
            let harmless = match request {
                AclRequest::Canned(canned) => *canned == CannedAcl::BucketOwnerFullControl,
                AclRequest::Grants(grants) => {
                    *grants == [Grant::to_user(bucket.owner, Permission::FullControl)]
                }
            };
            return if harmless { Ok(Self::private(bucket.owner)) } else { Err(AclError::NotSupported) };
        }
        Self::resolve(request, owner, bucket)
    }

    /// The ACL that PutObjectAcl asks for an object of `owner`.
    pub fn of_object(request: &AclRequest, owner: &str, bucket: &BucketAccess<'_>) -> Result<Self, AclError> {
        if !bucket.ownership.acls_count() {
            return Err(AclError::NotSupported);
        }
        Self::resolve(request, owner, bucket)
    }

    fn resolve(request: &AclRequest, owner: &str, bucket: &BucketAccess<'_>) -> Result<Self, AclError> {
        let mut acl = match request {
            AclRequest::Canned(canned) => Self::canned(*canned, owner, bucket.owner),
            AclRequest::Grants(grants) if grants.len() > GRANTS_MAX => {
                return Err(AclError::TooManyGrants { grants: grants.len() });
            }
            AclRequest::Grants(grants) => Self { owner: owner.to_owned(), grants: grants.clone() },
        };
        // Clients compare lists by position and S3 answers groups first.
        acl.grants.sort_by_key(|grant| matches!(grant.grantee, Grantee::User { .. }));
        if bucket.public_access_block.block_public_acls && acl.is_public() {
            return Err(AclError::PublicBlocked);
        }
        Ok(acl)
    }

    /// What one of S3's words grants on something of `owner` in a bucket of `bucket_owner`.
    #[must_use]
    pub fn canned(canned: CannedAcl, owner: &str, bucket_owner: &str) -> Self {
        let all = |permission| Grant { grantee: Grantee::AllUsers, permission };
        let mut grants = match canned {
            CannedAcl::Private => vec![],
            CannedAcl::PublicRead => vec![all(Permission::Read)],
            CannedAcl::PublicReadWrite => vec![all(Permission::Read), all(Permission::Write)],
            CannedAcl::AuthenticatedRead => {
                vec![Grant { grantee: Grantee::AuthenticatedUsers, permission: Permission::Read }]
            }
            CannedAcl::BucketOwnerRead | CannedAcl::BucketOwnerFullControl => vec![],
        };
        grants.push(Grant::to_user(owner, Permission::FullControl));
        if owner != bucket_owner {
            match canned {
                CannedAcl::BucketOwnerRead => grants.push(Grant::to_user(bucket_owner, Permission::Read)),
                CannedAcl::BucketOwnerFullControl => {
                    grants.push(Grant::to_user(bucket_owner, Permission::FullControl));
                }
                _ => {}
            }
        }
        Self { owner: owner.to_owned(), grants }
    }

    /// Whether some grant gives `principal` one of what is wanted.
    pub(super) fn grants(&self, principal: &Principal, wanted: Permission, groups_count: bool) -> bool {
        self.grants
            .iter()
            .filter(|grant| grant.permission == wanted || grant.permission == Permission::FullControl)
            .any(|grant| match (&grant.grantee, principal) {
                (Grantee::AllUsers, _) => groups_count,
                (Grantee::AuthenticatedUsers, Principal::User(_)) => groups_count,
                (Grantee::User { id }, Principal::User(user)) => *id == user.id,
                _ => false,
            })
    }
}

/// Whose an object is that `writer` writes to a bucket.
///
/// Where S3 would say the writer, two writers are no owners: nobody, whose objects nobody could read or
/// answer for, and root or Ashlar itself, who act for the bucket's owner.
#[must_use]
pub fn owner_of_new_object<'a>(
    writer: &'a Principal,
    request: Option<&AclRequest>,
    bucket: &BucketAccess<'a>,
) -> &'a str {
    let Principal::User(user) = writer else { return bucket.owner };
    let given = match request {
        Some(AclRequest::Canned(canned)) => *canned == CannedAcl::BucketOwnerFullControl,
        _ => false,
    };
    match bucket.ownership {
        ObjectOwnership::BucketOwnerEnforced => bucket.owner,
        ObjectOwnership::BucketOwnerPreferred if given => bucket.owner,
        _ if user.root => bucket.owner,
        ObjectOwnership::BucketOwnerPreferred | ObjectOwnership::ObjectWriter => &user.id,
    }
}

/// Which permission of the bucket's ACL covers an action.
pub(super) fn bucket_permission(action: Action) -> Option<Permission> {
    Some(match action {
        Action::ListBucket | Action::ListBucketVersions | Action::ListBucketMultipartUploads => {
            Permission::Read
        }
        Action::PutObject
        | Action::DeleteObject
        | Action::DeleteObjectVersion
        | Action::AbortMultipartUpload
        | Action::ListMultipartUploadParts => Permission::Write,
        Action::GetBucketAcl => Permission::ReadAcp,
        Action::PutBucketAcl => Permission::WriteAcp,
        _ => return None,
    })
}

/// Which permission of the object's ACL covers an action.
pub(super) fn object_permission(action: Action) -> Option<Permission> {
    Some(match action {
        Action::GetObject
        | Action::GetObjectVersion
        | Action::GetObjectAttributes
        | Action::GetObjectVersionAttributes => Permission::Read,
        Action::GetObjectAcl | Action::GetObjectVersionAcl => Permission::ReadAcp,
        Action::PutObjectAcl | Action::PutObjectVersionAcl => Permission::WriteAcp,
        _ => return None,
    })
}
