//! Multipart uploads: parts arrive in any order, Complete freezes some of them into a manifest.
//!
//! The upload's row is the hinge. A part's commit checks it; Complete and Abort delete it, so of racing
//! ones exactly one finds it. What is left under an ended upload is buried with it. Complete leaves its
//! answer for a day: the same part list gets the same answer again.

mod complete;

pub(crate) use complete::COMPLETED_KEPT_MILLIS;

use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::DeadRow;
use ashlar_metadata::namespace::uploads::{self, PartRow, UploadRow};
use ashlar_metadata::{Direction, KeyRange, Position, Snapshot};
use bytes::Bytes;

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::attributes::{OBJECT_TAGS_MAX, check_attributes, check_tags};
use crate::buckets::{Bucket, writer};
use crate::data::StoredBlob;
use crate::error::Error;
use crate::lifecycle::upload_expiry;
use crate::payload::Received;
use crate::put::object_acl;
use crate::requests::{
    CreateUpload, CreatedUpload, ObjectName, PartPage, PartWritten, Payload, ReadObject, Selection, UploadId,
    UploadName,
};
use crate::transaction::{ATTEMPTS_MAX, Transaction, Versioned, back_off, decode, read};
use crate::types::{
    Checksum, ChecksumAlgorithm, ChecksumType, Conditions, ETag, PART_NUMBER_MAX, PUT_BYTES_MAX, VersionId,
};

/// Most parts that one page of a listing shows.
const PART_PAGE_MAX: u32 = 1_000;

impl Store {
    /// Starts an upload.
    pub async fn create_upload(
        &self,
        cx: &RequestContext,
        request: CreateUpload,
    ) -> Result<CreatedUpload, Error> {
        check_attributes(&request.attributes)?;
        check_tags(&request.tags, OBJECT_TAGS_MAX)?;
        if let Some((ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256, ChecksumType::FullObject)) =
            request.checksum
        {
            return Err(Error::InvalidRequest {
                reason: "a full-object checksum of a multipart upload is a CRC".into(),
            });
        }
        if let Some((ChecksumAlgorithm::Crc64Nvme, ChecksumType::Composite)) = request.checksum {
            return Err(Error::InvalidRequest { reason: "CRC64NVME is a full-object checksum".into() });
        }
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let (_, bucket) = self.bucket_for_write(&request.bucket).await?;
            self.authorize_new_object(cx, &bucket, &request.key, &request.tags)?;
            self.authorize_lock(cx, &bucket, &request.key, &request.lock)?;
            let (owner, acl) = object_acl(cx, &bucket, request.acl.as_ref())?;
            let initiated = self.inner.clock.now();
            // Time first, so that uploads of one key list in the order they began; random, so that none is guessed.
            let started = u64::try_from(initiated.0).unwrap_or_default();
            let upload = UploadId((u128::from(started) << 64) | u128::from(rand::random::<u64>()));
            let row = UploadRow {
                initiator: Some(writer(cx)).filter(|initiator| *initiator != owner),
                owner,
                initiated,
                attributes: request.attributes.clone(),
                tags: request.tags.clone(),
                acl,
                checksum: request.checksum,
                lock: request.lock,
            };
            let mut transaction = Transaction::default();
            bucket.check(&mut transaction);
            let key = uploads::key(bucket.id(), &request.key, upload.0);
            transaction.check_absent(key.clone());
            transaction.put(key, &row);
            if transaction.commit(&self.inner.kv).await?.is_some() {
                let rules = bucket.lifecycle.as_deref().unwrap_or_default();
                let expiration = upload_expiry(rules, request.key.as_str(), initiated);
                return Ok(CreatedUpload { upload, checksum: request.checksum, expiration });
            }
        }
        Err(Error::ConditionalConflict)
    }

    async fn upload(
        &self,
        snapshot: &dyn Snapshot,
        bucket: &Bucket,
        name: &UploadName,
    ) -> Result<Versioned<UploadRow>, Error> {
        read(snapshot, &uploads::key(bucket.id(), &name.key, name.upload.0)).await?.ok_or(Error::NoSuchUpload)
    }

    async fn upload_for(
        &self,
        cx: &RequestContext,
        name: &UploadName,
        action: Action,
    ) -> Result<Versioned<UploadRow>, Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, &name.bucket).await?;
        self.authorize_write(cx, action, &bucket, &name.key, None)?;
        self.upload(&*snapshot, &bucket, name).await
    }

    /// The upload for who looks after it: who started it may, whoever owns the bucket. Whether there is one is
    /// told to nobody else.
    async fn upload_of(
        &self,
        cx: &RequestContext,
        snapshot: &dyn Snapshot,
        bucket: &Bucket,
        name: &UploadName,
        action: Action,
    ) -> Result<Versioned<UploadRow>, Error> {
        let found = match self.upload(snapshot, bucket, name).await {
            Err(Error::NoSuchUpload) => None,
            found => Some(found?),
        };
        let initiator = found.as_ref().map(|found| found.row.initiator());
        self.authorize_upload(cx, action, bucket, &name.key, initiator)?;
        found.ok_or(Error::NoSuchUpload)
    }

    /// Stores a part; an earlier part of this number is replaced.
    pub async fn upload_part(
        &self,
        cx: &RequestContext,
        name: &UploadName,
        number: u32,
        mut payload: Payload,
    ) -> Result<PartWritten, Error> {
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(Error::InvalidArgument {
                name: "partNumber",
                reason: format!("a part number is between 1 and {PART_NUMBER_MAX}"),
            });
        }
        let upload = self.upload_for(cx, name, Action::PutObject).await?;
        if let Some((algorithm, _)) = upload.row.checksum {
            match &payload.checksum {
                None => payload.checksum = Some((algorithm, None)),
                Some((sent, _)) if *sent == algorithm => {}
                Some(_) => {
                    return Err(Error::InvalidRequest {
                        reason: "the part's checksum algorithm is not the upload's".into(),
                    });
                }
            }
        }
        let Received { blob, checksum } = self.receive(payload, PUT_BYTES_MAX).await?;
        let (store, name) = (self.clone(), name.clone());
        self.detached(async move { store.commit_part(&name, number, &blob, checksum).await }).await
    }

    async fn commit_part(
        &self,
        name: &UploadName,
        number: u32,
        blob: &StoredBlob,
        checksum: Option<Checksum>,
    ) -> Result<PartWritten, Error> {
        let key = uploads::part_key(name.upload.0, number);
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let bucket = self.bucket(&*snapshot, &name.bucket).await?;
            let upload = self.upload(&*snapshot, &bucket, name).await?;
            let replaced = read::<PartRow>(&*snapshot, &key).await?;
            let mut transaction = Transaction::default();
            transaction.check_at(uploads::key(bucket.id(), &name.key, name.upload.0), upload.version);
            transaction.check_as_read(key.clone(), replaced.as_ref());
            transaction.put_blob(blob);
            if let Some(replaced) = replaced {
                transaction.bury(DeadRow::Blob(replaced.row.blob));
            }
            let row = PartRow {
                blob: blob.id,
                length: blob.row.length,
                etag: ETag::Md5(blob.md5),
                checksum: checksum.clone(),
                modified: self.inner.clock.now(),
                blob_root: blob.blob_root,
                content_root: blob.blake3,
            };
            transaction.put(key.clone(), &row);
            if transaction.commit(&self.inner.kv).await?.is_some() {
                return Ok(part_written(number, row));
            }
        }
        Err(Error::ConditionalConflict)
    }

    /// Stores a part from a range (inclusive) of an object.
    pub async fn upload_part_copy(
        &self,
        cx: &RequestContext,
        name: &UploadName,
        number: u32,
        source: ObjectName,
        conditions: Conditions,
        range: Option<(u64, u64)>,
    ) -> Result<(PartWritten, Option<VersionId>), Error> {
        self.upload_for(cx, name, Action::PutObject).await?;
        let guard = self.inner.data.enter_reader();
        let read = ReadObject { name: source, selection: Selection::Whole, conditions };
        let opened = self.open_copied(cx, &read).await?;
        let length = opened.object.length;
        let wanted = match range {
            None => 0..length,
            Some((first, last)) if first <= last && last < length => first..last + 1,
            Some(_) => return Err(Error::RangeNotSatisfiable { length }),
        };
        let version = opened.bucket.shown(opened.found.row.id);
        let payload = Payload {
            length: Some(wanted.end - wanted.start),
            stream: self.source_stream(opened, wanted, guard),
            content_md5: None,
            content_sha256: None,
            checksum: None,
            trailing_checksum: None,
        };
        let part = self.upload_part(cx, name, number, payload).await?;
        Ok((part, version))
    }

    /// Ends an upload without an object.
    pub async fn abort_upload(&self, cx: &RequestContext, name: &UploadName) -> Result<(), Error> {
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let bucket = self.bucket(&*snapshot, &name.bucket).await?;
            let upload = self.upload_of(cx, &*snapshot, &bucket, name, Action::AbortMultipartUpload).await?;
            let key = uploads::key(bucket.id(), &name.key, name.upload.0);
            let mut transaction = Transaction::default();
            plan_abort(&mut transaction, key, upload.version, name.upload.0);
            if transaction.commit(&self.inner.kv).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::ConditionalConflict)
    }

    /// The parts uploaded so far, by number, after `after`.
    pub async fn list_parts(
        &self,
        cx: &RequestContext,
        name: &UploadName,
        after: u32,
        max: u32,
    ) -> Result<PartPage, Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, &name.bucket).await?;
        let upload =
            self.upload_of(cx, &*snapshot, &bucket, name, Action::ListMultipartUploadParts).await?.row;
        let wanted = usize::try_from(max.min(PART_PAGE_MAX)).expect("at most 1,000");
        let range = KeyRange::prefix(uploads::parts_prefix(name.upload.0))
            .after(&uploads::part_key(name.upload.0, after));
        let page = snapshot
            .scan(range, Direction::Forward, wanted + 1)
            .await
            .map_err(|e| Error::internal("listing parts", e))?;
        let mut parts = Vec::with_capacity(wanted);
        for (key, row) in page.rows.iter().take(wanted) {
            let number = uploads::part_number(key)
                .ok_or_else(|| Error::internal("listing parts", "a key does not read"))?;
            parts.push(part_written(number, decode::<PartRow>(row)?.row));
        }
        let next_after = (page.rows.len() > wanted).then(|| parts.last().map(|part| part.number)).flatten();
        Ok(PartPage {
            parts,
            next_after,
            initiator: upload.initiator().to_owned(),
            owner: upload.owner,
            storage_class: upload.attributes.storage_class,
            checksum: upload.checksum,
        })
    }

    /// Every part of an upload.
    async fn parts(
        &self,
        snapshot: &dyn Snapshot,
        upload: UploadId,
    ) -> Result<Vec<(u32, Versioned<PartRow>)>, Error> {
        let mut range = KeyRange::prefix(uploads::parts_prefix(upload.0));
        let mut parts = Vec::new();
        loop {
            let page = snapshot
                .scan(range.clone(), Direction::Forward, 1_000)
                .await
                .map_err(|e| Error::internal("reading parts", e))?;
            for (key, row) in &page.rows {
                let number = uploads::part_number(key)
                    .ok_or_else(|| Error::internal("reading parts", "a key does not read"))?;
                let part = PartRow::decode(&row.value).map_err(|e| Error::internal("reading parts", e))?;
                parts.push((number, Versioned { row: part, version: row.version }));
            }
            match page.rows.last() {
                Some((last, _)) if page.more => range = range.after(last),
                _ => return Ok(parts),
            }
        }
    }
}

/// Ends an upload as it was read; its parts are buried with it.
pub(crate) fn plan_abort(transaction: &mut Transaction, key: Bytes, version: Position, upload: u128) {
    transaction.check_at(key.clone(), version);
    transaction.delete(key);
    transaction.bury(DeadRow::Upload(upload));
}

fn part_written(number: u32, row: PartRow) -> PartWritten {
    PartWritten { number, etag: row.etag, length: row.length, checksum: row.checksum, modified: row.modified }
}
