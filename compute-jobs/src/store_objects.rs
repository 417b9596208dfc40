//! Units' bytes as objects of the store, in a bucket of Ashlar's own, and where a job's data may go by its buckets.
//!
//! Invariant: nobody but Ashlar itself makes or writes the bucket, and nobody but root reads it; what is read has the bytes
//! that its name says, which the store's own commitments see to.

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_compute_api::jobs::{Input, UnitObjects, UnitObjectsError};
use ashlar_compute_api::{ContentRoot, JobId};
use ashlar_objects::access::{Principal, RequestContext};
use ashlar_objects::compute_access::ComputeRule;
use ashlar_objects::object_lock::Lock;
use ashlar_objects::requests::{
    CreateBucket, DeleteObject, ListObjects, ObjectName, Payload, PutObject, ReadObject, Selection,
};
use ashlar_objects::types::{Attributes, BucketName, Conditions, ObjectKey, Tags};
use ashlar_objects::{Error, Store};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use crate::coordinator::DataRules;

/// The bucket.
pub(crate) const BUCKET: &str = "ashlar-jobs";
/// Keys of a page of a listing.
const PAGE: u32 = 1_000;

/// Units' bytes in a store.
#[derive(Clone)]
pub struct StoreObjects {
    store: Store,
}

impl StoreObjects {
    /// Units' bytes in this store. The bucket is made when it is first written to.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

/// Ashlar itself.
pub(crate) fn system() -> RequestContext {
    context(Principal::System)
}

/// A request that no client sent.
pub(crate) fn context(principal: Principal) -> RequestContext {
    RequestContext {
        principal,
        request_id: Arc::from("job"),
        source_ip: None,
        secure_transport: true,
        user_agent: None,
        referer: None,
        keys: Vec::new(),
    }
}

pub(crate) fn bucket() -> BucketName {
    BucketName::new(BUCKET).expect("the name is a valid one")
}

/// Where a family's objects lie.
pub(crate) fn prefix(family: JobId) -> String {
    format!("units/{}/", hex::encode(family))
}

fn key(family: JobId, root: ContentRoot) -> ObjectKey {
    ObjectKey::new(&format!("{}{}", prefix(family), hex::encode(root))).expect("digits are a short key")
}

/// A request to store bytes.
pub(crate) fn put(bucket: BucketName, key: ObjectKey, payload: Payload) -> PutObject {
    PutObject {
        bucket,
        key,
        attributes: Attributes::default(),
        tags: Tags::default(),
        acl: None,
        conditions: Conditions::default(),
        lock: Lock::default(),
        payload,
    }
}

/// Bytes as a body.
pub(crate) fn body(bytes: Bytes) -> Payload {
    let length = u64::try_from(bytes.len()).ok();
    Payload {
        stream: Box::pin(futures::stream::once(async move { Ok(bytes) })),
        length,
        content_md5: None,
        content_sha256: None,
        checksum: None,
        trailing_checksum: None,
    }
}

/// The bucket of Ashlar's own, if it is not there yet.
pub(crate) async fn make_bucket(store: &Store) -> Result<(), Error> {
    let bucket = bucket();
    let request = CreateBucket { bucket, acl: None, object_lock: false, ownership: None, location: None };
    match store.create_bucket(&system(), request).await {
        Ok(_) | Err(Error::BucketAlreadyOwnedByYou) => Ok(()),
        Err(error) => Err(error),
    }
}

fn unavailable(error: &Error) -> UnitObjectsError {
    UnitObjectsError::Unavailable { reason: error.to_string() }
}

#[async_trait]
impl UnitObjects for StoreObjects {
    async fn put(&self, family: JobId, bytes: Bytes) -> Result<ContentRoot, UnitObjectsError> {
        let root = ContentRoot(*blake3::hash(&bytes).as_bytes());
        for is_again in [false, true] {
            let request = put(bucket(), key(family, root), body(bytes.clone()));
            match self.store.put_object(&system(), request).await {
                Ok(written) if written.content_root.0.0 == root.0 => return Ok(root),
                Ok(_) => return Err(UnitObjectsError::NotFound { root }),
                Err(Error::NoSuchBucket) if !is_again => {
                    make_bucket(&self.store).await.map_err(|error| unavailable(&error))?;
                }
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(UnitObjectsError::Unavailable { reason: "the bucket of jobs cannot be made".to_owned() })
    }

    async fn get(
        &self,
        family: JobId,
        root: ContentRoot,
        bytes_max: usize,
    ) -> Result<Bytes, UnitObjectsError> {
        let name = ObjectName { bucket: bucket(), key: key(family, root), version: None };
        let request = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
        let mut read = match self.store.get_object(&system(), request).await {
            Ok(read) => read,
            Err(Error::NoSuchBucket | Error::NoSuchKey | Error::CurrentIsDeleteMarker { .. }) => {
                return Err(UnitObjectsError::NotFound { root });
            }
            Err(error) => return Err(unavailable(&error)),
        };
        if read.head.content_root.0.0 != root.0 {
            return Err(UnitObjectsError::NotFound { root });
        }
        let bytes = read.length;
        let length = usize::try_from(bytes).ok().filter(|length| *length <= bytes_max);
        let length = length.ok_or(UnitObjectsError::TooLong { root, bytes, maximum: bytes_max })?;
        let mut all = BytesMut::with_capacity(length);
        while let Some(piece) = read.body.next().await {
            all.extend_from_slice(&piece.map_err(|error| unavailable(&error))?);
        }
        Ok(all.freeze())
    }

    async fn forget(&self, family: JobId) -> Result<(), UnitObjectsError> {
        loop {
            let request = ListObjects {
                bucket: bucket(),
                prefix: prefix(family),
                delimiter: None,
                after: None,
                max: PAGE,
            };
            let page = match self.store.list_objects(&system(), request).await {
                Err(Error::NoSuchBucket) => return Ok(()),
                page => page.map_err(|error| unavailable(&error))?,
            };
            if page.objects.is_empty() {
                return Ok(());
            }
            for object in page.objects {
                let key = ObjectKey::new(&object.key).map_err(|error| unavailable(&error.into()))?;
                let request = DeleteObject {
                    name: ObjectName { bucket: bucket(), key, version: None },
                    conditions: Conditions::default(),
                    bypass_governance: false,
                };
                let deleted = self.store.delete_object(&system(), request).await;
                deleted.map_err(|error| unavailable(&error))?;
            }
        }
    }
}

#[async_trait]
impl DataRules for Store {
    async fn rules(&self, inputs: &BTreeSet<Input>) -> Result<Vec<ComputeRule>, String> {
        let buckets: BTreeSet<&str> = inputs.iter().map(|input| input.bucket.as_str()).collect();
        let mut rules = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            let name = BucketName::new(bucket).map_err(|error| error.to_string())?;
            rules.push(self.compute_rule(&name).await.map_err(|error| error.to_string())?);
        }
        Ok(rules)
    }
}
