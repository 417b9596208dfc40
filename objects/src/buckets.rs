//! A bucket as use cases hold it: its row, its documents parsed, and the questions asked of both.
//!
//! Documents are cached by the version of the bucket's row, which every change of a document bumps: so a
//! request costs one row read and never decides on a document that was replaced before it began.

mod documents;
pub(crate) mod lifecycle;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_metadata::namespace::buckets::{self, BucketId, BucketRow, BucketState, Document, Versioning};
use ashlar_metadata::{Position, Snapshot};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;

use crate::Store;
use crate::access::{
    Access, Acl, Action, BucketAccess, ObjectAccess, ObjectOwnership, Policy, Principal, PublicAccessBlock,
    RequestContext, authorize, authorize_missing_key,
};
use crate::compute_access::ComputeAccess;
use crate::cors::CorsRule;
use crate::error::Error;
use crate::lifecycle::LifecycleRule;
use crate::log::DurableWhen;
use crate::object_lock::ObjectLockRules;
use crate::requests::ObjectName;
use crate::transaction::{Transaction, Versioned, back_off, read};
use crate::types::{BucketName, ObjectKey, Tags, VersionId};
use crate::versions::FoundVersion;

pub(crate) use self::rows::BucketRows;

/// Buckets kept parsed; the cache is emptied when it is full.
const CACHED_BUCKETS_MAX: usize = 4_096;
/// Owner of what nobody signed for: S3's canonical id of the anonymous user.
pub(crate) const ANONYMOUS_OWNER: &str = "65a011a29cdf8ec533ec3d1ccaae921c";

/// A bucket with its documents, as of one version of its row.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) name: BucketName,
    pub(crate) row: BucketRow,
    pub(crate) version: Position,
    pub(crate) policy: Option<Policy>,
    pub(crate) policy_text: Option<String>,
    pub(crate) acl: Option<Acl>,
    pub(crate) cors: Option<Arc<[CorsRule]>>,
    pub(crate) tags: Option<Tags>,
    pub(crate) public_access_block: Option<PublicAccessBlock>,
    pub(crate) ownership: Option<ObjectOwnership>,
    /// Its rules, where the bucket has object lock.
    pub(crate) object_lock: Option<ObjectLockRules>,
    pub(crate) lifecycle: Option<Arc<[LifecycleRule]>>,
    /// When its changes are answered.
    pub(crate) durable_when: DurableWhen,
    /// Who may compute on what lies in it.
    pub(crate) compute_access: ComputeAccess,
}

impl Bucket {
    pub(crate) fn id(&self) -> BucketId {
        self.row.id
    }

    /// The version id as a client is shown it: none where the bucket was never versioned.
    pub(crate) fn shown(&self, id: VersionId) -> Option<VersionId> {
        (self.row.versioning != Versioning::Off).then_some(id)
    }

    /// Ownership in force.
    pub(crate) fn ownership(&self) -> ObjectOwnership {
        self.ownership.unwrap_or_default()
    }

    pub(crate) fn public_access_block(&self) -> PublicAccessBlock {
        self.public_access_block.unwrap_or_default()
    }

    pub(crate) fn facts(&self) -> BucketAccess<'_> {
        BucketAccess {
            name: self.name.as_str(),
            owner: &self.row.owner,
            policy: self.policy.as_ref(),
            acl: self.acl.as_ref(),
            ownership: self.ownership(),
            public_access_block: self.public_access_block(),
        }
    }

    /// Makes `transaction` fail unless the bucket is as it was read.
    pub(crate) fn check(&self, transaction: &mut Transaction) {
        transaction.check_at(buckets::key(&self.name), self.version);
    }
}

/// Parsed buckets by name.
#[derive(Default)]
pub(crate) struct BucketCache(RwLock<HashMap<BucketName, Arc<Bucket>>>);

impl BucketCache {
    fn get(&self, name: &BucketName, version: Position) -> Option<Arc<Bucket>> {
        self.0.read().get(name).filter(|bucket| bucket.version == version).map(Arc::clone)
    }

    /// The bucket as it was last read, which may be some commits ago.
    pub(crate) fn latest(&self, name: &BucketName) -> Option<Arc<Bucket>> {
        self.0.read().get(name).map(Arc::clone)
    }

    fn put(&self, bucket: &Arc<Bucket>) {
        let mut cache = self.0.write();
        if cache.len() >= CACHED_BUCKETS_MAX {
            cache.clear();
        }
        cache.insert(bucket.name.clone(), Arc::clone(bucket));
    }
}

/// The user id that owns what this request makes.
pub(crate) fn writer(cx: &RequestContext) -> String {
    match &cx.principal {
        Principal::User(user) => user.id.clone(),
        Principal::Anonymous | Principal::System => ANONYMOUS_OWNER.to_owned(),
    }
}

impl Store {
    /// The bucket, parsed. A deletion in progress counts as there: it may yet be called off.
    pub(crate) async fn bucket(
        &self,
        snapshot: &dyn Snapshot,
        name: &BucketName,
    ) -> Result<Arc<Bucket>, Error> {
        let found = read::<BucketRow>(snapshot, &buckets::key(name)).await?.ok_or(Error::NoSuchBucket)?;
        if let Some(bucket) = self.inner.buckets.get(name, found.version) {
            return Ok(bucket);
        }
        let bucket = Arc::new(load(snapshot, name, found).await?);
        self.inner.buckets.put(&bucket);
        Ok(bucket)
    }

    /// The bucket for a write: a deletion in progress is called off first, so that it and the write
    /// cannot both succeed.
    pub(crate) async fn bucket_for_write(
        &self,
        name: &BucketName,
    ) -> Result<(Arc<dyn Snapshot>, Arc<Bucket>), Error> {
        for attempt in 0..crate::transaction::ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let bucket = self.bucket(&*snapshot, name).await?;
            if bucket.row.state == BucketState::Live {
                return Ok((snapshot, bucket));
            }
            self.call_off_deletion(&bucket).await?;
        }
        Err(Error::ConditionalConflict)
    }

    /// Ends a deletion in progress, if it has not ended by itself meanwhile.
    pub(crate) async fn call_off_deletion(&self, bucket: &Bucket) -> Result<(), Error> {
        let mut transaction = Transaction::default();
        bucket.check(&mut transaction);
        let row = BucketRow { state: BucketState::Live, ..bucket.row.clone() };
        transaction.put(buckets::key(&bucket.name), &row);
        transaction.commit(&self.inner.kv).await.map(|_| ())
    }

    /// May this request do what needs no bucket?
    pub(crate) fn authorize_service(&self, cx: &RequestContext, action: Action) -> Result<(), Error> {
        let now = self.inner.clock.now();
        authorize(&Access { request: cx, action, bucket: None, object: None, request_tags: None, now })?;
        Ok(())
    }

    /// May this request do this to the bucket?
    pub(crate) fn authorize_bucket(
        &self,
        cx: &RequestContext,
        action: Action,
        bucket: &Bucket,
    ) -> Result<(), Error> {
        let now = self.inner.clock.now();
        authorize(&Access {
            request: cx,
            action,
            bucket: Some(bucket.facts()),
            object: None,
            request_tags: None,
            now,
        })?;
        Ok(())
    }

    /// May this request write this key, with these tags?
    pub(crate) fn authorize_write(
        &self,
        cx: &RequestContext,
        action: Action,
        bucket: &Bucket,
        key: &ObjectKey,
        tags: Option<&Tags>,
    ) -> Result<(), Error> {
        self.authorize_object(cx, action, bucket, &ObjectName::current(&bucket.name, key), None, tags)
    }

    /// May this request make an object of this key? Tags that come with it need their own permission.
    pub(crate) fn authorize_new_object(
        &self,
        cx: &RequestContext,
        bucket: &Bucket,
        key: &ObjectKey,
        tags: &Tags,
    ) -> Result<(), Error> {
        self.authorize_write(cx, Action::PutObject, bucket, key, Some(tags))?;
        if tags.0.is_empty() {
            return Ok(());
        }
        self.authorize_write(cx, Action::PutObjectTagging, bucket, key, Some(tags))
    }

    /// May this request do this to an upload, which belongs to `owner` where it exists?
    pub(crate) fn authorize_upload(
        &self,
        cx: &RequestContext,
        action: Action,
        bucket: &Bucket,
        key: &ObjectKey,
        owner: Option<&str>,
    ) -> Result<(), Error> {
        let object = ObjectAccess { key: key.as_str(), owner, acl: None, tags: None, version: None };
        authorize(&Access {
            request: cx,
            action,
            bucket: Some(bucket.facts()),
            object: Some(object),
            request_tags: None,
            now: self.inner.clock.now(),
        })?;
        Ok(())
    }

    /// May this request do this to what `name` names, of which `found` is the version, where it exists?
    pub(crate) fn authorize_object(
        &self,
        cx: &RequestContext,
        action: Action,
        bucket: &Bucket,
        name: &ObjectName,
        found: Option<&FoundVersion>,
        request_tags: Option<&Tags>,
    ) -> Result<(), Error> {
        let object = found.and_then(|found| found.row.object.as_ref());
        let acl = object.and_then(|object| object.acl.as_deref()).map(parse_acl).transpose()?;
        let facts = ObjectAccess {
            key: name.key.as_str(),
            owner: found.map(|found| found.row.owner.as_str()),
            acl: acl.as_ref(),
            tags: object.map(|object| &object.tags),
            version: name.version,
        };
        let now = self.inner.clock.now();
        authorize(&Access {
            request: cx,
            action,
            bucket: Some(bucket.facts()),
            object: Some(facts),
            request_tags,
            now,
        })?;
        Ok(())
    }

    /// What to say of a key or version that is not there: `missing`, or nothing at all to who may not list.
    pub(crate) fn missing(
        &self,
        cx: &RequestContext,
        action: Action,
        bucket: &Bucket,
        name: &ObjectName,
        missing: Error,
    ) -> Error {
        let object = ObjectAccess {
            key: name.key.as_str(),
            owner: None,
            acl: None,
            tags: None,
            version: name.version,
        };
        let now = self.inner.clock.now();
        let access = Access {
            request: cx,
            action,
            bucket: Some(bucket.facts()),
            object: Some(object),
            request_tags: None,
            now,
        };
        authorize_missing_key(&access).err().map_or(missing, Error::from)
    }
}

/// Reads a stored ACL.
pub(crate) fn parse_acl(text: &str) -> Result<Acl, Error> {
    serde_json::from_str(text).map_err(|e| Error::internal("reading an ACL", e))
}

async fn load(
    snapshot: &dyn Snapshot,
    name: &BucketName,
    found: Versioned<BucketRow>,
) -> Result<Bucket, Error> {
    let keys = Document::ALL.map(|document| buckets::document_key(found.row.id, document));
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let rows =
        snapshot.get_many(&keys).await.map_err(|e| Error::internal("reading a bucket's documents", e))?;
    let text = |document: Document| -> Result<Option<String>, Error> {
        let at = Document::ALL.iter().position(|each| *each == document).expect("ALL holds every document");
        let row = rows[at].as_ref();
        row.map(|row| {
            String::from_utf8(row.value.to_vec())
                .map_err(|e| Error::internal("reading a bucket's document", e))
        })
        .transpose()
    };
    let policy_text = text(Document::Policy)?;
    let policy = policy_text
        .as_deref()
        .map(|text| {
            Policy::parse(text, name.as_str()).map_err(|e| Error::internal("reading a stored policy", e))
        })
        .transpose()?;
    Ok(Bucket {
        name: name.clone(),
        version: found.version,
        policy,
        policy_text,
        acl: json(text(Document::Acl)?)?,
        cors: json::<Vec<CorsRule>>(text(Document::Cors)?)?.map(Arc::from),
        tags: json(text(Document::Tags)?)?,
        public_access_block: json(text(Document::PublicAccessBlock)?)?,
        ownership: json(text(Document::Ownership)?)?,
        object_lock: json(text(Document::ObjectLock)?)?,
        lifecycle: json::<Vec<LifecycleRule>>(text(Document::Lifecycle)?)?.map(Arc::from),
        durable_when: json(text(Document::DurableWhen)?)?.unwrap_or_default(),
        compute_access: json(text(Document::ComputeAccess)?)?.unwrap_or_default(),
        row: found.row,
    })
}

fn json<T: DeserializeOwned>(text: Option<String>) -> Result<Option<T>, Error> {
    text.map(|text| {
        serde_json::from_str(&text).map_err(|e| Error::internal("reading a bucket's document", e))
    })
    .transpose()
}
