//! COPY: one more reference to the same bytes, or the bytes once through where a digest is asked that the
//! source lacks.

use ashlar_metadata::namespace::versions::ObjectRow;
use futures::StreamExt;

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::attributes::{OBJECT_TAGS_MAX, check_attributes, check_tags};
use crate::error::Error;
use crate::get::Opened;
use crate::log::{Logged, manifest_root};
use crate::payload::Received;
use crate::put::{Destination, Owner, object_acl, plain_object, put_manifest};
use crate::requests::{BodyError, BodyStream, Copied, CopyObject, Payload, ReadObject, Selection, Written};
use crate::transaction::{ATTEMPTS_MAX, Transaction, back_off};
use crate::types::{ChecksumAlgorithm, ChecksumType, ETag, OBJECT_BYTES_MAX};
use crate::versions::KeyState;
use std::ops::Range;
use std::sync::Arc;

impl Store {
    /// Copies an object within the store. Metadata only, unless `checksum` names one the source lacks.
    pub async fn copy_object(&self, cx: &RequestContext, request: CopyObject) -> Result<Copied, Error> {
        if let Some(attributes) = &request.attributes {
            check_attributes(attributes)?;
        }
        if let Some(tags) = &request.tags {
            check_tags(tags, OBJECT_TAGS_MAX)?;
        }
        let to_itself = request.source.bucket == request.bucket && request.source.key == request.key;
        if to_itself
            && request.source.version.is_none()
            && request.attributes.is_none()
            && request.storage_class.is_none()
            && request.tags.is_none()
        {
            return Err(Error::CopyToItself);
        }
        let (store, cx) = (self.clone(), cx.clone());
        let done = self.detached(async move { store.copy_now(&cx, &request).await });
        let (copied, logged) = done.await?;
        self.until_durable(&logged).await?;
        Ok(copied)
    }

    async fn copy_now(&self, cx: &RequestContext, request: &CopyObject) -> Result<(Copied, Logged), Error> {
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let guard = self.inner.data.enter_reader();
            let source = self.open_source(cx, request).await?;
            let (snapshot, bucket) = self.bucket_for_write(&request.bucket).await?;
            let tags = request.tags.as_ref().unwrap_or(&source.object.tags);
            if request.tags.is_none() && !tags.0.is_empty() {
                self.authorize_taken_tags(cx, request, &source)?;
            }
            self.authorize_new_object(cx, &bucket, &request.key, tags)?;
            self.authorize_lock(cx, &bucket, &request.key, &request.lock)?;
            object_acl(cx, &bucket, request.acl.as_ref())?;
            let destination = Destination {
                bucket: request.bucket.clone(),
                bucket_id: bucket.id(),
                key: request.key.clone(),
                owner: Owner::Writer { cx: cx.clone(), acl: request.acl.clone() },
                conditions: request.conditions.clone(),
                lock: request.lock,
            };
            let mut attributes =
                request.attributes.clone().unwrap_or_else(|| source.object.attributes.clone());
            if request.storage_class.is_some() {
                attributes.storage_class.clone_from(&request.storage_class);
            }
            let object = ObjectRow { attributes, tags: tags.clone(), acl: None, ..source.object.clone() };
            let source_version = source.bucket.shown(source.found.row.id);
            if request.checksum.is_some_and(|algorithm| lacks(&source.object, algorithm)) {
                KeyState::read(&*snapshot, &bucket, &request.key)
                    .await?
                    .check_write(&*snapshot, &request.conditions)
                    .await?;
                drop(snapshot);
                let length = source.object.length;
                let body = self.source_stream(source, 0..length, guard);
                let copy = self.copy_bytes(&destination, object, request.checksum, body, length);
                let (written, logged) = copy.await?;
                return Ok((Copied { written, source_version }, logged));
            }
            let mut transaction = Transaction::default();
            // A dying manifest must not be taken: its version is gone by now, so look again.
            if !transaction.take_reference(&*snapshot, object.manifest).await? {
                continue;
            }
            drop(snapshot);
            let root = manifest_root(&source.parts);
            if let Some((written, logged)) =
                self.commit_object(transaction, &destination, &object, root).await?
            {
                return Ok((Copied { written, source_version }, logged));
            }
        }
        Err(Error::ConditionalConflict)
    }

    /// May this request read the source's tags, which the copy takes along?
    fn authorize_taken_tags(
        &self,
        cx: &RequestContext,
        request: &CopyObject,
        source: &Opened,
    ) -> Result<(), Error> {
        let action = match request.source.version {
            Some(_) => Action::GetObjectVersionTagging,
            None => Action::GetObjectTagging,
        };
        self.authorize_object(cx, action, &source.bucket, &request.source, Some(&source.found), None)
    }

    async fn open_source(&self, cx: &RequestContext, request: &CopyObject) -> Result<Opened, Error> {
        let read = ReadObject {
            name: request.source.clone(),
            selection: Selection::Whole,
            conditions: request.source_conditions.clone(),
        };
        self.open_copied(cx, &read).await
    }

    /// Opens the source of a copy: its conditions end in 412, never in 304.
    pub(crate) async fn open_copied(&self, cx: &RequestContext, read: &ReadObject) -> Result<Opened, Error> {
        let snapshot = self.snapshot().await?;
        match self.open_object(cx, &*snapshot, read, Action::GetObject, Action::GetObjectVersion).await {
            Err(Error::NotModified { .. }) => {
                Err(Error::PreconditionFailed { condition: "x-amz-copy-source-if-none-match" })
            }
            Err(Error::CurrentIsDeleteMarker { .. }) => Err(Error::NoSuchKey),
            Err(Error::VersionIsDeleteMarker { .. }) => Err(Error::InvalidRequest {
                reason: "the source of a copy may not be a delete marker".into(),
            }),
            other => other,
        }
    }

    /// The source's bytes as a body.
    pub(crate) fn source_stream(
        &self,
        source: Opened,
        range: Range<u64>,
        guard: Arc<crate::data::ReaderGuard>,
    ) -> BodyStream {
        Box::pin(self.read_parts(source.object.manifest, &source.parts, range, guard).map(|piece| {
            piece.map_err(|error| {
                tracing::warn!(%error, "the source of a copy could not be read");
                BodyError::Source
            })
        }))
    }

    async fn copy_bytes(
        &self,
        destination: &Destination,
        object: ObjectRow,
        checksum: Option<ChecksumAlgorithm>,
        stream: BodyStream,
        length: u64,
    ) -> Result<(Written, Logged), Error> {
        let payload = Payload {
            stream,
            length: Some(length),
            content_md5: None,
            content_sha256: None,
            checksum: checksum.map(|algorithm| (algorithm, None)),
            trailing_checksum: None,
        };
        let Received { blob, checksum } = self.receive(payload, OBJECT_BYTES_MAX).await?;
        let plain = plain_object(&blob)?;
        let object = ObjectRow {
            manifest: plain.manifest,
            length: blob.row.length,
            etag: ETag::Md5(blob.md5),
            checksum,
            object_root: plain.object_root.0.0,
            content_root: plain.content_root.0.0,
            ..object
        };
        let root = manifest_root(&plain.manifest_row.parts);
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let mut transaction = Transaction::default();
            transaction.put_blob(&blob);
            put_manifest(&mut transaction, plain.manifest, &plain.manifest_row, &[]);
            if let Some(done) = self.commit_object(transaction, destination, &object, root).await? {
                return Ok(done);
            }
        }
        Err(Error::ConditionalConflict)
    }
}

/// Whether a copy needs the bytes to have this checksum over all of them.
fn lacks(object: &ObjectRow, algorithm: ChecksumAlgorithm) -> bool {
    !object
        .checksum
        .as_ref()
        .is_some_and(|have| have.algorithm == algorithm && have.kind == ChecksumType::FullObject)
}
