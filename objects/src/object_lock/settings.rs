//! The operations on locks: a bucket's rules, a version's retention and legal hold.

use super::{Hindrance, Lock, ObjectLockRules, Retention, hindrance_to_change, in_the_past, without_lock};
use crate::Store;
use crate::access::{Action, RequestContext};
use crate::buckets::Bucket;
use crate::error::{Configuration, Error};
use crate::requests::{BucketChanged, ObjectName, VersionChanged};
use crate::types::{BucketName, ObjectKey};
use crate::versions::FoundVersion;

impl Store {
    /// Switches a versioned bucket's object lock on, or gives one that has it other rules. It never goes
    /// off again.
    pub async fn put_object_lock_rules(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        rules: ObjectLockRules,
    ) -> Result<BucketChanged, Error> {
        rules.check()?;
        self.replace_object_lock_rules(cx, name, &rules).await
    }

    /// The rules of a bucket with object lock.
    pub async fn object_lock_rules(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<ObjectLockRules, Error> {
        let bucket = self.bucket_for(cx, name, Action::GetBucketObjectLockConfiguration).await?;
        bucket.object_lock.ok_or(Error::NoSuchConfiguration { what: Configuration::ObjectLock })
    }

    /// May this request write a version with this lock?
    pub(crate) fn authorize_lock(
        &self,
        cx: &RequestContext,
        bucket: &Bucket,
        key: &ObjectKey,
        lock: &Lock,
    ) -> Result<(), Error> {
        if lock.retention.is_some() {
            self.authorize_write(cx, Action::PutObjectRetention, bucket, key, None)?;
        }
        if lock.legal_hold.is_some() {
            self.authorize_write(cx, Action::PutObjectLegalHold, bucket, key, None)?;
        }
        super::check_asked(lock, bucket.object_lock.as_ref(), self.inner.clock.now())
    }

    /// Whether governance is to be overlooked: asked for, in the way, and the caller's right.
    pub(crate) fn authorize_bypass(
        &self,
        cx: &RequestContext,
        bucket: &Bucket,
        name: &ObjectName,
        found: &FoundVersion,
        asked: bool,
        hindrance: Hindrance,
    ) -> Result<bool, Error> {
        if !asked || hindrance != Hindrance::Governance {
            return Ok(false);
        }
        self.authorize_object(cx, Action::BypassGovernanceRetention, bucket, name, Some(found), None)?;
        Ok(true)
    }

    /// A version's retention.
    pub async fn object_retention(&self, cx: &RequestContext, name: &ObjectName) -> Result<Retention, Error> {
        let retention = self.lock_of(cx, name, Action::GetObjectRetention).await?.retention;
        retention.ok_or(Error::NoSuchConfiguration { what: Configuration::Lock })
    }

    /// Whether a version is under legal hold.
    pub async fn object_legal_hold(&self, cx: &RequestContext, name: &ObjectName) -> Result<bool, Error> {
        let held = self.lock_of(cx, name, Action::GetObjectLegalHold).await?.legal_hold;
        held.ok_or(Error::NoSuchConfiguration { what: Configuration::Lock })
    }

    async fn lock_of(&self, cx: &RequestContext, name: &ObjectName, action: Action) -> Result<Lock, Error> {
        let read = self.settings(cx, name, (action, action), |bucket, found, _| {
            bucket.object_lock.ok_or_else(without_lock)?;
            Ok(found.row.lock)
        });
        Ok(read.await?.0)
    }

    /// Gives a version a retention, another one, or none any more, as far as the one it has allows.
    pub async fn put_object_retention(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
        retention: Option<Retention>,
        bypass_governance: bool,
    ) -> Result<VersionChanged, Error> {
        let actions = (Action::PutObjectRetention, Action::PutObjectRetention);
        self.change_settings(cx, name, actions, |bucket, found| {
            bucket.object_lock.ok_or_else(without_lock)?;
            let now = self.inner.clock.now();
            if retention.is_some_and(|retention| retention.until <= now) {
                return Err(in_the_past());
            }
            let hindrance = hindrance_to_change(found.row.lock.retention, retention, now);
            let bypass = self.authorize_bypass(cx, bucket, name, found, bypass_governance, hindrance)?;
            if hindrance != Hindrance::None && !bypass {
                return Err(Error::ObjectLocked);
            }
            found.row.lock.retention = retention;
            Ok(())
        })
        .await
    }

    /// Puts a version under legal hold, or ends it.
    pub async fn put_object_legal_hold(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
        held: bool,
    ) -> Result<VersionChanged, Error> {
        let actions = (Action::PutObjectLegalHold, Action::PutObjectLegalHold);
        self.change_settings(cx, name, actions, |bucket, found| {
            bucket.object_lock.ok_or_else(without_lock)?;
            found.row.lock.legal_hold = Some(held);
            Ok(())
        })
        .await
    }
}
