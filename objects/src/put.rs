//! PUT: bytes to nodes, then one transaction that makes them a version.
//!
//! Conditions are looked at before the body, to spare it, and decided in the commit. The commit runs in a
//! task of its own: a client that vanishes while it runs changes nothing about its outcome.

use ashlar_chunker::{BlobRoot, ContentRoot, Digest, ObjectRoot};
use ashlar_metadata::namespace::buckets::BucketId;
use ashlar_metadata::namespace::locks::Lock;
use ashlar_metadata::namespace::manifests::{
    self, ManifestId, ManifestRow, ManifestState, PARTS_PER_PAGE, PartRef, PartsPage,
};
use ashlar_metadata::namespace::versions::ObjectRow;

use crate::Store;
use crate::access::{Acl, AclRequest, RequestContext, owner_of_new_object};
use crate::attributes::{OBJECT_TAGS_MAX, check_attributes, check_tags};
use crate::buckets::Bucket;
use crate::data::StoredBlob;
use crate::error::Error;
use crate::lifecycle::{Expiry, Subject, expiry};
use crate::log::{Logged, manifest_root};
use crate::object_lock::of_new_version;
use crate::payload::Received;
use crate::requests::{PutObject, Written};
use crate::transaction::{ATTEMPTS_MAX, Transaction, back_off};
use crate::types::{
    BucketName, Conditions, ETag, OBJECT_BYTES_MAX, ObjectKey, PUT_BYTES_MAX, UnixMillis, VersionId,
};
use crate::versions::{KeyState, NewVersion, manifest_of};

/// What a finished object becomes part of: everything the commit needs besides the object.
pub(crate) struct Destination {
    pub(crate) bucket: BucketName,
    pub(crate) bucket_id: BucketId,
    pub(crate) key: ObjectKey,
    pub(crate) owner: Owner,
    pub(crate) conditions: Conditions,
    /// The lock as asked; the bucket's default is added in the commit.
    pub(crate) lock: Lock,
}

/// Whose the object will be, and with which ACL.
pub(crate) enum Owner {
    /// Settled when its upload began, the ACL with it.
    Settled(String),
    /// Settled in the commit, by what the bucket's settings are then.
    Writer {
        /// Who writes.
        cx: RequestContext,
        /// The ACL asked for.
        acl: Option<AclRequest>,
    },
}

/// Splits parts into a manifest's own page and further ones.
pub(crate) fn manifest(
    length: u64,
    multipart: bool,
    parts: Vec<PartRef>,
) -> Result<(ManifestRow, Vec<PartsPage>), Error> {
    let part_count = u32::try_from(parts.len()).map_err(|e| Error::internal("counting parts", e))?;
    let per_page = usize::try_from(PARTS_PER_PAGE).expect("a page's size fits memory");
    let mut pages = parts.chunks(per_page).map(<[PartRef]>::to_vec);
    let first = pages.next().unwrap_or_default();
    let row = ManifestRow {
        state: ManifestState::Live,
        references: 1,
        length,
        part_count,
        multipart,
        parts: first,
    };
    Ok((row, pages.map(PartsPage).collect()))
}

/// Adds a manifest's rows.
pub(crate) fn put_manifest(
    transaction: &mut Transaction,
    id: ManifestId,
    row: &ManifestRow,
    pages: &[PartsPage],
) {
    transaction.check_absent(manifests::key(id));
    transaction.put(manifests::key(id), row);
    for (page, number) in pages.iter().zip(1_u32..) {
        transaction.put(manifests::page_key(id, number), page);
    }
}

/// A whole object in one blob: its manifest and what its version says.
pub(crate) struct PlainObject {
    pub(crate) manifest: ManifestId,
    pub(crate) manifest_row: ManifestRow,
    pub(crate) object_root: ObjectRoot,
    pub(crate) content_root: ContentRoot,
}

/// Describes a received body as an object of one part.
pub(crate) fn plain_object(blob: &StoredBlob) -> Result<PlainObject, Error> {
    let part = PartRef {
        number: 1,
        blob: blob.id,
        length: blob.row.length,
        blob_root: blob.blob_root,
        etag: None,
        checksum: None,
    };
    let (manifest_row, _) = manifest(blob.row.length, false, vec![part])?;
    let object_root = ashlar_chunker::object_root(&[ashlar_chunker::Part {
        length: blob.row.length,
        blob: blob_root(blob.blob_root),
    }])
    .map_err(|e| Error::internal("committing to an object", e))?;
    Ok(PlainObject {
        manifest: manifest_of(blob.id),
        manifest_row,
        object_root,
        content_root: ContentRoot(Digest(blob.blake3)),
    })
}

impl Store {
    /// Stores an object: durable with all its shards, then visible, then answered.
    ///
    /// Atomic; not cancel-safe before the body's end (nothing is visible then), cancel-safe from the
    /// commit on (it ends whatever the caller does).
    pub async fn put_object(&self, cx: &RequestContext, request: PutObject) -> Result<Written, Error> {
        check_attributes(&request.attributes)?;
        check_tags(&request.tags, OBJECT_TAGS_MAX)?;
        let (snapshot, bucket) = self.bucket_for_write(&request.bucket).await?;
        self.authorize_new_object(cx, &bucket, &request.key, &request.tags)?;
        self.authorize_lock(cx, &bucket, &request.key, &request.lock)?;
        object_acl(cx, &bucket, request.acl.as_ref())?;
        KeyState::read(&*snapshot, &bucket, &request.key)
            .await?
            .check_write(&*snapshot, &request.conditions)
            .await?;
        drop(snapshot);
        let destination = Destination {
            bucket: request.bucket,
            bucket_id: bucket.id(),
            key: request.key,
            owner: Owner::Writer { cx: cx.clone(), acl: request.acl },
            conditions: request.conditions,
            lock: request.lock,
        };
        drop(bucket);
        let received = self.receive(request.payload, PUT_BYTES_MAX).await?;
        let (attributes, tags) = (request.attributes, request.tags);
        let store = self.clone();
        let done = self.detached(async move {
            let Received { blob, checksum } = received;
            let plain = plain_object(&blob)?;
            let root = manifest_root(&plain.manifest_row.parts);
            let object = ObjectRow {
                manifest: plain.manifest,
                length: blob.row.length,
                etag: ETag::Md5(blob.md5),
                checksum,
                attributes,
                tags,
                acl: None,
                object_root: plain.object_root.0.0,
                content_root: plain.content_root.0.0,
            };
            for attempt in 0..ATTEMPTS_MAX {
                back_off(attempt).await;
                let mut transaction = Transaction::default();
                transaction.put_blob(&blob);
                put_manifest(&mut transaction, plain.manifest, &plain.manifest_row, &[]);
                if let Some(done) = store.commit_object(transaction, &destination, &object, root).await? {
                    return Ok(done);
                }
            }
            Err(Error::ConditionalConflict)
            // The blob leaves flight only here, unless nobody knows whether its rows are there.
        });
        let (written, logged) = done.await?;
        self.until_durable(&logged).await?;
        Ok(written)
    }

    /// Makes `object`, whose manifest has this root, the newest version of its key, together with what
    /// `transaction` holds already. `None`: it lost a race and nothing happened.
    pub(crate) async fn commit_object(
        &self,
        transaction: Transaction,
        destination: &Destination,
        object: &ObjectRow,
        manifest_root: [u8; 32],
    ) -> Result<Option<(Written, Logged)>, Error> {
        self.commit_object_recorded(transaction, destination, object, manifest_root, |_, _, _| ()).await
    }

    /// The same, with a row that `record` writes when the version's shown id and time are known.
    pub(crate) async fn commit_object_recorded(
        &self,
        mut transaction: Transaction,
        destination: &Destination,
        object: &ObjectRow,
        manifest_root: [u8; 32],
        record: impl FnOnce(&mut Transaction, Option<VersionId>, UnixMillis),
    ) -> Result<Option<(Written, Logged)>, Error> {
        debug_assert!(object.length <= OBJECT_BYTES_MAX);
        let (snapshot, bucket) = self.bucket_for_write(&destination.bucket).await?;
        if bucket.id() != destination.bucket_id {
            return Err(Error::NoSuchBucket);
        }
        let state = KeyState::read(&*snapshot, &bucket, &destination.key).await?;
        state.check_write(&*snapshot, &destination.conditions).await?;
        bucket.check(&mut transaction);
        let modified = self.inner.clock.now();
        let mut object = object.clone();
        let owner = match &destination.owner {
            Owner::Settled(owner) => owner.clone(),
            Owner::Writer { cx, acl } => {
                let (owner, acl) = object_acl(cx, &bucket, acl.as_ref())?;
                object.acl = acl;
                owner
            }
        };
        let lock = of_new_version(destination.lock, bucket.object_lock.as_ref(), modified);
        let new = NewVersion { owner, modified, object: Some(object.clone()), manifest_root, lock };
        let planned = state.plan_new(&mut transaction, &*snapshot, new).await?;
        drop(snapshot);
        record(&mut transaction, bucket.shown(planned.id), modified);
        let Some(logged) = self.commit_logged(transaction, bucket.durable_when).await? else {
            return Ok(None);
        };
        let expiration = expiration(&bucket, &destination.key, &object, modified);
        let version = bucket.shown(planned.id);
        Ok(Some((written(&object, version, modified, expiration, &logged), logged)))
    }
}

/// What a write of `object` answers.
pub(crate) fn written(
    object: &ObjectRow,
    version: Option<VersionId>,
    modified: UnixMillis,
    expiration: Option<Expiry>,
    logged: &Logged,
) -> Written {
    Written {
        etag: object.etag,
        version,
        checksum: object.checksum.clone(),
        length: object.length,
        modified,
        object_root: ObjectRoot(Digest(object.object_root)),
        content_root: ContentRoot(Digest(object.content_root)),
        expiration,
        position: logged.position,
        receipt: logged.receipt.clone(),
    }
}

/// When an object that becomes current now expires by the bucket's rules.
pub(crate) fn expiration(
    bucket: &Bucket,
    key: &ObjectKey,
    object: &ObjectRow,
    modified: UnixMillis,
) -> Option<Expiry> {
    let subject = Subject { key: key.as_str(), object: Some((object.length, &object.tags)) };
    expiry(bucket.lifecycle.as_deref()?, &subject, modified)
}

/// Who owns a new object, and its ACL as stored.
pub(crate) fn object_acl(
    cx: &RequestContext,
    bucket: &Bucket,
    request: Option<&AclRequest>,
) -> Result<(String, Option<String>), Error> {
    let owner = owner_of_new_object(&cx.principal, request, &bucket.facts()).to_owned();
    let acl = Acl::of_new_object(request, &owner, &bucket.facts())?;
    let stored = (acl != Acl::private(&owner)).then(|| serde_json::to_string(&acl)).transpose();
    Ok((owner, stored.map_err(|e| Error::internal("writing an ACL", e))?))
}

/// The root a stored commitment is.
pub(crate) fn blob_root(bytes: [u8; 32]) -> BlobRoot {
    BlobRoot(Digest(bytes))
}
