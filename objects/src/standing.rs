//! What a bucket's rules say of one version: its lock, and when it expires.
//!
//! Asked beside a read, for who may see it; where a bucket has neither object lock nor lifecycle rules
//! nothing is read at all.

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::error::Error;
use crate::lifecycle::{Expiry, Subject, expiry};
use crate::object_lock::Lock;
use crate::requests::{ObjectHead, ObjectName};
use crate::types::VersionId;
use crate::versions::KeyState;

/// What the rules say of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its lock, as far as the caller may know it.
    pub lock: Lock,
    /// When it expires, if it is the current version.
    pub expiration: Option<Expiry>,
}

impl Store {
    /// The standing of the version that a read of `name` found and answered as `head`. One that went
    /// meanwhile has none.
    pub async fn standing(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
        head: &ObjectHead,
    ) -> Result<Standing, Error> {
        let mut standing = Standing::default();
        // The read has put the bucket there, as it was at the read or later.
        let known = self.inner.buckets.latest(&name.bucket);
        if known.is_some_and(|bucket| bucket.object_lock.is_none() && bucket.lifecycle.is_none()) {
            return Ok(standing);
        }
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, &name.bucket).await?;
        let state = KeyState::read(&*snapshot, &bucket, &name.key).await?;
        let version = head.version.unwrap_or(VersionId::Null);
        let Some(found) = state.by_id(&*snapshot, version).await? else { return Ok(standing) };
        let allowed = |action| self.authorize_object(cx, action, &bucket, name, Some(&found), None).is_ok();
        if found.row.lock.retention.is_some() && allowed(Action::GetObjectRetention) {
            standing.lock.retention = found.row.lock.retention;
        }
        if found.row.lock.legal_hold.is_some() && allowed(Action::GetObjectLegalHold) {
            standing.lock.legal_hold = found.row.lock.legal_hold;
        }
        let is_current = state.head.as_ref().is_some_and(|head| head.row.newest == found.sequence);
        if let Some(rules) = bucket.lifecycle.as_ref().filter(|_| is_current) {
            standing.expiration =
                expiry(rules, &Subject::of(name.key.as_str(), &found.row), found.row.modified);
        }
        Ok(standing)
    }
}
