//! A bucket's settings and documents: versioning, tags, policy, CORS, ACL, public access block, ownership;
//! and how object lock and lifecycle rules are stored.
//!
//! Each change is one transaction that checks the bucket's row, bumps its generation (the cache of parsed
//! buckets lives on that), and announces the bucket as it then is.

use std::sync::Arc;

use ashlar_metadata::namespace::buckets::{BucketRow, Document, Versioning};
use bytes::Bytes;
use serde::Serialize;

use crate::Store;
use crate::access::{Acl, AclRequest, Action, ObjectOwnership, Policy, PublicAccessBlock, RequestContext};
use crate::cors::{self, CorsRule};
use crate::error::{Configuration, Error};
use crate::log::DurableWhen;
use crate::object_lock::ObjectLockRules;
use crate::requests::BucketChanged;
use crate::transaction::{ATTEMPTS_MAX, Transaction, back_off};
use crate::types::{BucketName, Tags};

use super::{Bucket, BucketRows};

/// Most tags of a bucket.
const BUCKET_TAGS_MAX: usize = 50;

/// A document's text.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Bytes, Error> {
    let text = serde_json::to_vec(value).map_err(|e| Error::internal("writing a bucket's document", e))?;
    Ok(Bytes::from(text))
}

enum Change {
    Put(Document, Bytes),
    Delete(Document),
    Versioning(Versioning),
}

/// Why a bucket with object lock keeps its versions.
const VERSIONING_LOCKED: Error = Error::InvalidBucketState {
    reason: "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
};

impl Store {
    /// Authorises, applies and announces one change. `prepare` sees the bucket as the commit will check it.
    async fn change(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        action: Action,
        prepare: impl Fn(&Bucket) -> Result<Change, Error>,
    ) -> Result<BucketChanged, Error> {
        self.change_at(cx, name, action, None, prepare).await
    }

    /// The same, answered at another level than the bucket has.
    async fn change_at(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        action: Action,
        level: Option<DurableWhen>,
        prepare: impl Fn(&Bucket) -> Result<Change, Error>,
    ) -> Result<BucketChanged, Error> {
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let (snapshot, bucket) = self.bucket_for_write(name).await?;
            self.authorize_bucket(cx, action, &bucket)?;
            let change = prepare(&bucket)?;
            let mut row =
                BucketRow { documents_generation: bucket.row.documents_generation + 1, ..bucket.row.clone() };
            let mut transaction = Transaction::default();
            bucket.check(&mut transaction);
            let mut rows = BucketRows::read(&*snapshot, &bucket).await?;
            drop(snapshot);
            match change {
                Change::Put(document, text) => rows.set(&mut transaction, document, Some(text)),
                Change::Delete(document) => rows.set(&mut transaction, document, None),
                Change::Versioning(versioning) => row.versioning = versioning,
            }
            rows.finish(&mut transaction, row, self.inner.clock.now());
            let level = level.unwrap_or(bucket.durable_when);
            if let Some(logged) = self.commit_logged(transaction, level).await? {
                self.until_durable(&logged).await?;
                return Ok(BucketChanged { receipt: logged.receipt });
            }
        }
        Err(Error::ConditionalConflict)
    }

    pub(crate) async fn put_document<T: Serialize>(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        action: Action,
        document: Document,
        value: &T,
    ) -> Result<BucketChanged, Error> {
        self.put_document_at(cx, name, action, document, value, None).await
    }

    /// The same, answered at another level than the bucket has.
    pub(crate) async fn put_document_at<T: Serialize>(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        action: Action,
        document: Document,
        value: &T,
        level: Option<DurableWhen>,
    ) -> Result<BucketChanged, Error> {
        let text = json(value)?;
        self.change_at(cx, name, action, level, |_| Ok(Change::Put(document, text.clone()))).await
    }

    pub(crate) async fn delete_document(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        action: Action,
        document: Document,
    ) -> Result<BucketChanged, Error> {
        self.change(cx, name, action, |_| Ok(Change::Delete(document))).await
    }

    pub(crate) async fn bucket_for(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        action: Action,
    ) -> Result<Arc<Bucket>, Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, name).await?;
        self.authorize_bucket(cx, action, &bucket)?;
        Ok(bucket)
    }

    /// Switches versioning on, or suspends it. It is never off again.
    pub async fn set_versioning(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        versioning: Versioning,
    ) -> Result<BucketChanged, Error> {
        if versioning == Versioning::Off {
            return Err(Error::InvalidArgument {
                name: "Status",
                reason: "versioning is Enabled or Suspended".into(),
            });
        }
        self.change(cx, name, Action::PutBucketVersioning, |bucket| {
            if bucket.object_lock.is_some() && versioning != Versioning::Enabled {
                return Err(VERSIONING_LOCKED);
            }
            Ok(Change::Versioning(versioning))
        })
        .await
    }

    /// Stores the rules of object lock, which needs versioning.
    pub(crate) async fn replace_object_lock_rules(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        rules: &ObjectLockRules,
    ) -> Result<BucketChanged, Error> {
        let text = json(rules)?;
        self.change(cx, name, Action::PutBucketObjectLockConfiguration, |bucket| {
            if bucket.row.versioning != Versioning::Enabled {
                return Err(Error::InvalidBucketState {
                    reason: "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
                });
            }
            Ok(Change::Put(Document::ObjectLock, text.clone()))
        })
        .await
    }

    /// Whether the bucket is versioned.
    pub async fn bucket_versioning(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<Versioning, Error> {
        Ok(self.bucket_for(cx, name, Action::GetBucketVersioning).await?.row.versioning)
    }

    /// Replaces the bucket's tags.
    pub async fn put_bucket_tags(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        tags: Tags,
    ) -> Result<BucketChanged, Error> {
        crate::attributes::check_tags(&tags, BUCKET_TAGS_MAX)?;
        self.put_document(cx, name, Action::PutBucketTagging, Document::Tags, &tags).await
    }

    /// The bucket's tags.
    pub async fn bucket_tags(&self, cx: &RequestContext, name: &BucketName) -> Result<Tags, Error> {
        let bucket = self.bucket_for(cx, name, Action::GetBucketTagging).await?;
        bucket.tags.clone().ok_or(Error::NoSuchConfiguration { what: Configuration::Tags })
    }

    /// Removes the bucket's tags.
    pub async fn delete_bucket_tags(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<BucketChanged, Error> {
        self.delete_document(cx, name, Action::PutBucketTagging, Document::Tags).await
    }

    /// Replaces the bucket's policy; it is parsed and checked first.
    pub async fn put_bucket_policy(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        text: String,
    ) -> Result<BucketChanged, Error> {
        self.change(cx, name, Action::PutBucketPolicy, |bucket| {
            let policy = Policy::parse(&text, name.as_str())
                .map_err(|e| Error::MalformedPolicy { reason: e.reason })?;
            if bucket.public_access_block().block_public_policy && policy.is_public() {
                return Err(Error::AccessDenied);
            }
            Ok(Change::Put(Document::Policy, Bytes::copy_from_slice(text.as_bytes())))
        })
        .await
    }

    /// The bucket's policy, as it was put.
    pub async fn bucket_policy(&self, cx: &RequestContext, name: &BucketName) -> Result<String, Error> {
        let bucket = self.bucket_for(cx, name, Action::GetBucketPolicy).await?;
        bucket.policy_text.clone().ok_or(Error::NoSuchConfiguration { what: Configuration::Policy })
    }

    /// Removes the bucket's policy.
    pub async fn delete_bucket_policy(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<BucketChanged, Error> {
        self.delete_document(cx, name, Action::DeleteBucketPolicy, Document::Policy).await
    }

    /// Whether the bucket's policy or ACL lets everybody in.
    pub async fn bucket_policy_is_public(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<bool, Error> {
        let bucket = self.bucket_for(cx, name, Action::GetBucketPolicyStatus).await?;
        Ok(bucket.facts().is_public())
    }

    /// Replaces the bucket's CORS rules.
    pub async fn put_bucket_cors(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        rules: Vec<CorsRule>,
    ) -> Result<BucketChanged, Error> {
        cors::validate(&rules).map_err(|e| Error::InvalidRequest { reason: e.to_string() })?;
        self.put_document(cx, name, Action::PutBucketCORS, Document::Cors, &rules).await
    }

    /// The bucket's CORS rules.
    pub async fn bucket_cors(&self, cx: &RequestContext, name: &BucketName) -> Result<Vec<CorsRule>, Error> {
        let bucket = self.bucket_for(cx, name, Action::GetBucketCORS).await?;
        bucket
            .cors
            .as_ref()
            .map(|rules| rules.to_vec())
            .ok_or(Error::NoSuchConfiguration { what: Configuration::Cors })
    }

    /// Removes the bucket's CORS rules.
    pub async fn delete_bucket_cors(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<BucketChanged, Error> {
        self.delete_document(cx, name, Action::PutBucketCORS, Document::Cors).await
    }

    /// Rules for a preflight or for the CORS headers of an answer; no principal is asked.
    /// `None`: no such bucket, or it has no rules.
    pub async fn cors_rules(&self, name: &BucketName) -> Result<Option<Arc<[CorsRule]>>, Error> {
        let snapshot = self.snapshot().await?;
        match self.bucket(&*snapshot, name).await {
            Ok(bucket) => Ok(bucket.cors.clone()),
            Err(Error::NoSuchBucket) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the bucket's ACL.
    pub async fn put_bucket_acl(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        request: AclRequest,
    ) -> Result<BucketChanged, Error> {
        self.change(cx, name, Action::PutBucketAcl, |bucket| {
            let acl = Acl::of_bucket(&request, &bucket.facts())?;
            Ok(Change::Put(Document::Acl, json(&acl)?))
        })
        .await
    }

    /// The bucket's ACL.
    pub async fn bucket_acl(&self, cx: &RequestContext, name: &BucketName) -> Result<Acl, Error> {
        let bucket = self.bucket_for(cx, name, Action::GetBucketAcl).await?;
        Ok(bucket.acl.clone().unwrap_or_else(|| Acl::private(&bucket.row.owner)))
    }

    /// Replaces the bucket's public access block.
    pub async fn put_public_access_block(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        block: PublicAccessBlock,
    ) -> Result<BucketChanged, Error> {
        self.put_document(cx, name, Action::PutBucketPublicAccessBlock, Document::PublicAccessBlock, &block)
            .await
    }

    /// The bucket's public access block.
    pub async fn public_access_block(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<PublicAccessBlock, Error> {
        let bucket = self.bucket_for(cx, name, Action::GetBucketPublicAccessBlock).await?;
        bucket
            .public_access_block
            .ok_or(Error::NoSuchConfiguration { what: Configuration::PublicAccessBlock })
    }

    /// Removes the bucket's public access block.
    pub async fn delete_public_access_block(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<BucketChanged, Error> {
        let document = Document::PublicAccessBlock;
        self.delete_document(cx, name, Action::PutBucketPublicAccessBlock, document).await
    }

    /// Sets the bucket's object ownership. ACLs are not switched off while the bucket's own lets others in:
    /// that would take it from them unasked.
    pub async fn put_ownership_controls(
        &self,
        cx: &RequestContext,
        name: &BucketName,
        ownership: ObjectOwnership,
    ) -> Result<BucketChanged, Error> {
        let text = json(&ownership)?;
        self.change(cx, name, Action::PutBucketOwnershipControls, |bucket| {
            // Switched off, its grants would count again whenever ACLs are switched on.
            if !ownership.acls_count() && bucket.acl.as_ref().is_some_and(|acl| !acl.is_private()) {
                return Err(Error::AclAgainstOwnership);
            }
            Ok(Change::Put(Document::Ownership, text.clone()))
        })
        .await
    }

    /// The bucket's object ownership.
    pub async fn ownership_controls(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<ObjectOwnership, Error> {
        let bucket = self.bucket_for(cx, name, Action::GetBucketOwnershipControls).await?;
        bucket.ownership.ok_or(Error::NoSuchConfiguration { what: Configuration::OwnershipControls })
    }

    /// Removes the bucket's ownership controls; the default counts again.
    pub async fn delete_ownership_controls(
        &self,
        cx: &RequestContext,
        name: &BucketName,
    ) -> Result<BucketChanged, Error> {
        self.delete_document(cx, name, Action::PutBucketOwnershipControls, Document::Ownership).await
    }
}
