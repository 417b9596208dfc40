//! The decision: may this principal do this action on this resource.
//!
//! Invariants: root and Ashlar itself may everything; an explicit Deny of the policy beats every other
//! grant, except that a bucket's owner always reaches the policy itself; what nothing allows is denied. Pure:
//! every fact is an argument. The order of the rules is AWS's; where ours differ is in ADR 0002.

use super::acl::{bucket_permission, object_permission};
use super::action::Scope;
use super::policy::{Question, Verdict};
use super::{Acl, Action, ObjectOwnership, Policy, Principal, PublicAccessBlock, RequestContext};
use crate::types::{Tags, UnixMillis, VersionId};

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
    /// Tags that the request would set.
    pub request_tags: Option<&'a Tags>,
    /// The time of day, for policies that ask for it.
    pub now: UnixMillis,
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

impl BucketAccess<'_> {
    /// Whether everybody, or every signed-in user, is let in by the policy or by the bucket's ACL as it
    /// counts today: what GetBucketPolicyStatus answers.
    #[must_use]
    pub fn is_public(&self) -> bool {
        let acls_count = self.ownership.acls_count() && !self.public_access_block.ignore_public_acls;
        self.policy.is_some_and(Policy::is_public) || (acls_count && self.acl.is_some_and(Acl::is_public))
    }
}

/// What a decision needs to know of an object. Of a key that is not there yet only `key` is given.
#[derive(Clone, Copy, Debug)]
pub struct ObjectAccess<'a> {
    /// Its key.
    pub key: &'a str,
    /// Owner's user id of the version asked for, where it exists; of an upload, who started it.
    pub owner: Option<&'a str>,
    /// Its ACL; `None` is private.
    pub acl: Option<&'a Acl>,
    /// Its tags.
    pub tags: Option<&'a Tags>,
    /// The version the request named.
    pub version: Option<VersionId>,
}

/// The answer is no. It says no more than that to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("access denied")]
pub struct Denied;

impl From<Denied> for crate::Error {
    fn from(Denied: Denied) -> Self {
        Self::AccessDenied
    }
}

/// Decides.
pub fn authorize(access: &Access<'_>) -> Result<(), Denied> {
    let caller = match &access.request.principal {
        Principal::System => return Ok(()),
        Principal::User(user) if user.root => return Ok(()),
        Principal::User(user) => Some(user.id.as_str()),
        Principal::Anonymous => None,
    };
    let allowed = match (&access.bucket, access.action.scope()) {
        // Whoever is somebody may make buckets and list his own.
        (None, Scope::Service) => caller.is_some(),
        (None, _) => access.action == Action::CreateBucket && caller.is_some(),
        (Some(_), Scope::Service) => false,
        (Some(bucket), Scope::Bucket) => access.object.is_none() && bucket_allows(access, bucket, caller),
        (Some(bucket), Scope::Object) => access.object.is_some() && bucket_allows(access, bucket, caller),
    };
    if allowed { Ok(()) } else { Err(Denied) }
}

/// Decides what is said of a key that was asked for and is not there: `Ok` lets the caller know (404), a
/// denial hides it (403).
///
/// Known may be what a listing of just this key would show, so `s3:prefix` is the key; whether the caller
/// could read the key if it were there does not matter, unless the policy denies that to him.
pub fn authorize_missing_key(access: &Access<'_>) -> Result<(), Denied> {
    let (Some(bucket), Some(object)) = (&access.bucket, &access.object) else { return authorize(access) };
    let caller = match &access.request.principal {
        Principal::System => return Ok(()),
        Principal::User(user) if user.root => return Ok(()),
        Principal::User(user) => Some(user.id.as_str()),
        Principal::Anonymous => None,
    };
    if verdict(bucket, &Question::of(access, bucket.name)) == Verdict::Deny {
        return Err(Denied);
    }
    let listing = Access { action: Action::ListBucket, object: None, request_tags: None, ..*access };
    let question = Question::of_listing(&listing, bucket.name, object.key);
    if decide(&listing, bucket, caller, verdict(bucket, &question)) { Ok(()) } else { Err(Denied) }
}

fn verdict(bucket: &BucketAccess<'_>, question: &Question<'_>) -> Verdict {
    bucket.policy.map_or(Verdict::Silent, |policy| policy.judge(question))
}

fn bucket_allows(access: &Access<'_>, bucket: &BucketAccess<'_>, caller: Option<&str>) -> bool {
    decide(access, bucket, caller, verdict(bucket, &Question::of(access, bucket.name)))
}

fn decide(access: &Access<'_>, bucket: &BucketAccess<'_>, caller: Option<&str>, verdict: Verdict) -> bool {
    let action = access.action;
    let owns_bucket = caller == Some(bucket.owner);
    if owns_bucket
        && matches!(action, Action::GetBucketPolicy | Action::PutBucketPolicy | Action::DeleteBucketPolicy)
    {
        // Else one wrong Deny would lock the bucket for ever.
        return true;
    }
    if verdict == Verdict::Deny {
        return false;
    }
    let block = &bucket.public_access_block;
    if block.restrict_public_buckets && !owns_bucket && bucket.policy.is_some_and(Policy::is_public) {
        return false;
    }
    // With ACLs on, whoever wrote an object decides who reads it: neither the bucket's owner nor his policy.
    let foreign_object = bucket.ownership.acls_count()
        && belongs_to_object_owner(action)
        && access.object.and_then(|object| object.owner).is_some_and(|owner| owner != bucket.owner);
    if !foreign_object && (owns_bucket || verdict == Verdict::Allow) {
        return true;
    }
    if owns_object(access, bucket, caller) {
        return true;
    }
    acls_allow(access, bucket)
}

/// Whether the caller has the rights of an object's or upload's owner.
fn owns_object(access: &Access<'_>, bucket: &BucketAccess<'_>, caller: Option<&str>) -> bool {
    let Some(object) = &access.object else { return false };
    let covered = match access.action {
        // Who started an upload may look after it, whatever the bucket's ownership.
        Action::ListMultipartUploadParts | Action::AbortMultipartUpload => true,
        action => bucket.ownership.acls_count() && belongs_to_object_owner(action),
    };
    covered && caller.is_some() && object.owner == caller
}

fn acls_allow(access: &Access<'_>, bucket: &BucketAccess<'_>) -> bool {
    if !bucket.ownership.acls_count() {
        return false;
    }
    let principal = &access.request.principal;
    let groups_count = !bucket.public_access_block.ignore_public_acls;
    let granted = |acl: Option<&Acl>, permission| {
        acl.zip(permission).is_some_and(|(acl, permission)| acl.grants(principal, permission, groups_count))
    };
    let object_acl = access.object.and_then(|object| object.acl);
    granted(bucket.acl, bucket_permission(access.action))
        || granted(object_acl, object_permission(access.action))
}

/// Actions on what an object is, as against what a bucket holds.
fn belongs_to_object_owner(action: Action) -> bool {
    matches!(
        action,
        Action::GetObject
            | Action::GetObjectVersion
            | Action::GetObjectAttributes
            | Action::GetObjectVersionAttributes
            | Action::GetObjectAcl
            | Action::GetObjectVersionAcl
            | Action::PutObjectAcl
            | Action::PutObjectVersionAcl
            | Action::GetObjectTagging
            | Action::GetObjectVersionTagging
            | Action::PutObjectTagging
            | Action::PutObjectVersionTagging
            | Action::DeleteObjectTagging
            | Action::DeleteObjectVersionTagging
    )
}

#[cfg(test)]
mod tests;
