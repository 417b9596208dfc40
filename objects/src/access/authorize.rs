//! The decision: may this principal do this action on this resource.

use super::{Acl, Action, ObjectOwnership, Policy, PublicAccessBlock, RequestContext};
use crate::types::{Tags, VersionId};

/// Everything one decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Who asks, and the facts of the request.
    pub request: &'a RequestContext,
    /// What is to be done.
    pub action: Action,
    /// The bucket it is done to; `None` only for actions of the whole service and for CreateBucket.
    pub bucket: Option<BucketAccess<'a>>,
    /// The object, for actions on objects.
    pub object: Option<ObjectAccess<'a>>,
}

/// What a decision needs to know of a bucket.
#[derive(Clone, Copy, Debug)]
pub struct BucketAccess<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its owner's user id.
    pub owner: &'a str,
    /// Its policy.
    pub policy: Option<&'a Policy>,
    /// Its ACL; `None` is private.
    pub acl: Option<&'a Acl>,
    /// Its object ownership.
    pub ownership: ObjectOwnership,
    /// Its public access block.
    pub public_access_block: PublicAccessBlock,
}

/// What a decision needs to know of an object. For a key that is not there yet only `key` is given.
#[derive(Clone, Copy, Debug)]
pub struct ObjectAccess<'a> {
    /// Its key.
    pub key: &'a str,
    /// Owner's user id of the version asked for, where it exists.
    pub owner: Option<&'a str>,
    /// Its ACL; `None` is private.
    pub acl: Option<&'a Acl>,
    /// Its tags.
    pub tags: Option<&'a Tags>,
    /// The version the request named.
    pub version: Option<VersionId>,
}

/// The answer is no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("access denied")]
pub struct Denied;

/// Decides.
pub fn authorize(access: &Access<'_>) -> Result<(), Denied> {
    let _ = access;
    Err(Denied)
}

/// Whether a key that is not there must be answered 403 and not 404.
#[must_use]
pub fn hides_missing_key(access: &Access<'_>) -> bool {
    let _ = access;
    true
}
