//! Complete: the parts a client names become an object, once.

use std::collections::BTreeMap;

use ashlar_chunker::{ContentRoot, Digest, ObjectRoot};
use ashlar_metadata::Snapshot;
use ashlar_metadata::namespace::blobs::DeadRow;
use ashlar_metadata::namespace::manifests::PartRef;
use ashlar_metadata::namespace::uploads::{self, CompletedRow, PartRow, UploadRow};
use ashlar_metadata::namespace::versions::ObjectRow;
use md5_many::Md5State;

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::buckets::Bucket;
use crate::checksums;
use crate::error::Error;
use crate::log::{Logged, manifest_root};
use crate::put::{Destination, Owner, blob_root, manifest, put_manifest};
use crate::requests::{CompleteUpload, CompletedPart, UploadName, Written};
use crate::transaction::{ATTEMPTS_MAX, Transaction, Versioned, back_off, read};
use crate::types::{ChecksumType, ETag, OBJECT_BYTES_MAX, PART_BYTES_MIN, PART_NUMBER_MAX, UnixMillis};
use crate::versions::manifest_of;

/// How long the answer of a Complete is kept, in milliseconds: a day.
pub(crate) const COMPLETED_KEPT_MILLIS: i64 = 24 * 60 * 60 * 1000;

type Part = (u32, Versioned<PartRow>);

impl Store {
    /// Makes an object of the named parts. The same list again, within a day, gets the same answer.
    pub async fn complete_upload(
        &self,
        cx: &RequestContext,
        request: CompleteUpload,
    ) -> Result<Written, Error> {
        check_list(&request.parts)?;
        let (store, cx) = (self.clone(), cx.clone());
        let done = self.detached(async move { store.complete_now(&cx, &request).await });
        let (written, logged) = done.await?;
        self.until_durable(&logged).await?;
        Ok(written)
    }

    async fn complete_now(
        &self,
        cx: &RequestContext,
        request: &CompleteUpload,
    ) -> Result<(Written, Logged), Error> {
        let name = &request.name;
        let request_hash = hash_request(request);
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let (snapshot, bucket) = self.bucket_for_write(&name.bucket).await?;
            self.authorize_write(cx, Action::PutObject, &bucket, &name.key, None)?;
            let upload_key = uploads::key(bucket.id(), &name.key, name.upload.0);
            let Some(upload) = read::<UploadRow>(&*snapshot, &upload_key).await? else {
                return self.completed(&*snapshot, &bucket, name, request_hash).await;
            };
            let stored = self.parts(&*snapshot, name.upload).await?;
            drop(snapshot);
            let parts = select(request, &upload.row, stored)?;
            let object = assemble(request, upload.row.clone(), &parts)?;
            let refs: Vec<PartRef> =
                parts.iter().map(|(number, part)| part_ref(*number, &part.row)).collect();
            let root = manifest_root(&refs);
            let (manifest_row, pages) = manifest(object.length, true, refs)?;

            let mut transaction = Transaction::default();
            transaction.check_at(upload_key.clone(), upload.version);
            transaction.delete(upload_key);
            for (number, part) in &parts {
                let key = uploads::part_key(name.upload.0, *number);
                transaction.check_at(key.clone(), part.version);
                transaction.delete(key);
            }
            transaction.bury(DeadRow::Upload(name.upload.0)); // parts not named, and any that lost the race
            put_manifest(&mut transaction, object.manifest, &manifest_row, &pages);
            let completed = CompletedRow {
                bucket: bucket.id(),
                key: name.key.as_str().to_owned(),
                request: request_hash,
                completed: self.inner.clock.now(),
                version: None,
                etag: object.etag,
                checksum: object.checksum.clone(),
                length: object.length,
                object_root: object.object_root,
                content_root: object.content_root,
            };
            let destination = Destination {
                bucket: name.bucket.clone(),
                bucket_id: bucket.id(),
                key: name.key.clone(),
                owner: Owner::Settled(upload.row.owner),
                conditions: request.conditions.clone(),
                lock: upload.row.lock,
            };
            match self.commit_completed(transaction, &destination, (&object, root), name, completed).await {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {}
                Err(failed @ (Error::PreconditionFailed { .. } | Error::NoSuchKey)) => {
                    return self.completed_meanwhile(name, request_hash).await?.ok_or(failed);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::ConditionalConflict)
    }

    /// The answer where this very Complete has ended meanwhile: what it then found in the way was its own.
    async fn completed_meanwhile(
        &self,
        name: &UploadName,
        request: [u8; 32],
    ) -> Result<Option<(Written, Logged)>, Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, &name.bucket).await?;
        match self.completed(&*snapshot, &bucket, name, request).await {
            Err(Error::NoSuchUpload) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Answers a Complete whose upload is gone: as before if it was this very one.
    async fn completed(
        &self,
        snapshot: &dyn Snapshot,
        bucket: &Bucket,
        name: &UploadName,
        request: [u8; 32],
    ) -> Result<(Written, Logged), Error> {
        let found = read::<CompletedRow>(snapshot, &uploads::completed_key(name.upload.0))
            .await?
            .ok_or(Error::NoSuchUpload)?;
        let row = found.row;
        let same = row.bucket == bucket.id() && row.key == name.key.as_str() && row.request == request;
        if !same || self.inner.clock.now().0 - row.completed.0 > COMPLETED_KEPT_MILLIS {
            return Err(Error::NoSuchUpload);
        }
        let position = found.version.0;
        let receipt = self.receipt_again(snapshot, position).await?;
        let logged = Logged { position, receipt: receipt.clone(), durable_when: bucket.durable_when };
        let written = Written {
            etag: row.etag,
            version: row.version,
            checksum: row.checksum,
            length: row.length,
            modified: row.completed,
            object_root: ObjectRoot(Digest(row.object_root)),
            content_root: ContentRoot(Digest(row.content_root)),
            expiration: None,
            position,
            receipt,
        };
        Ok((written, logged))
    }
}

/// Ascending numbers, at least one.
fn check_list(parts: &[CompletedPart]) -> Result<(), Error> {
    if parts.is_empty() {
        return Err(Error::InvalidRequest { reason: "a completed upload has at least one part".into() });
    }
    if parts.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return Err(Error::InvalidPartOrder);
    }
    match parts.iter().find(|part| !(1..=PART_NUMBER_MAX).contains(&part.number)) {
        Some(part) => Err(Error::InvalidPart { number: part.number }),
        None => Ok(()),
    }
}

/// The stored parts that the request names, each as it says.
fn select(request: &CompleteUpload, upload: &UploadRow, stored: Vec<Part>) -> Result<Vec<Part>, Error> {
    let mut stored: BTreeMap<u32, Versioned<PartRow>> = stored.into_iter().collect();
    let mut parts = Vec::with_capacity(request.parts.len());
    for wanted in &request.parts {
        let number = wanted.number;
        let invalid = Error::InvalidPart { number };
        let Some(part) = stored.remove(&number) else { return Err(invalid) };
        if part.row.etag.to_string() != wanted.etag {
            return Err(invalid);
        }
        match (&wanted.checksum, &part.row.checksum) {
            (Some((algorithm, value)), Some(kept))
                if *algorithm != kept.algorithm || *value != kept.value =>
            {
                return Err(invalid);
            }
            (Some(_), None) => return Err(invalid),
            _ => {}
        }
        parts.push((number, part));
    }
    if let Some((number, part)) =
        parts.iter().rev().skip(1).find(|(_, part)| part.row.length < PART_BYTES_MIN)
    {
        return Err(Error::PartTooSmall { number: *number, length: part.row.length });
    }
    if let (Some(kind), Some((_, asked))) = (request.checksum_kind, upload.checksum)
        && kind != asked
    {
        return Err(Error::InvalidRequest {
            reason: "the checksum type is not the one the upload was started with".into(),
        });
    }
    Ok(parts)
}

/// What the version will say.
fn assemble(request: &CompleteUpload, upload: UploadRow, parts: &[Part]) -> Result<ObjectRow, Error> {
    let length: u64 = parts.iter().map(|(_, part)| part.row.length).sum();
    if length > OBJECT_BYTES_MAX {
        return Err(Error::TooLarge { length, limit: OBJECT_BYTES_MAX });
    }
    if request.length.is_some_and(|said| said != length) {
        return Err(Error::InvalidRequest {
            reason: format!("the parts have {length} bytes, not what x-amz-mp-object-size says"),
        });
    }
    let count = u32::try_from(parts.len()).map_err(|e| Error::internal("counting parts", e))?;
    let mut md5 = Md5State::new();
    for (_, part) in parts {
        let (ETag::Md5(digest) | ETag::Multipart(digest, _)) = part.row.etag;
        md5.update(&digest);
    }
    let checksum = match upload.checksum {
        None => None,
        Some((algorithm, kind)) => {
            let values: Option<Vec<(&[u8], u64)>> = parts
                .iter()
                .map(|(_, part)| part.row.checksum.as_ref().map(|kept| (&kept.value[..], part.row.length)))
                .collect();
            let values = values.ok_or_else(|| {
                Error::internal("completing an upload", "a part lacks the upload's checksum")
            })?;
            Some(match kind {
                ChecksumType::Composite => checksums::composite(algorithm, &values),
                ChecksumType::FullObject => checksums::combine(algorithm, &values)?,
            })
        }
    };
    if let Some((algorithm, value)) = &request.checksum {
        match &checksum {
            Some(kept) if kept.algorithm == *algorithm && kept.value == *value => {}
            Some(_) => return Err(Error::ChecksumMismatch { algorithm: *algorithm }),
            None => {
                return Err(Error::InvalidRequest {
                    reason: "the upload was started without a checksum".into(),
                });
            }
        }
    }
    let roots: Vec<_> = parts
        .iter()
        .map(|(_, part)| ashlar_chunker::Part {
            length: part.row.length,
            blob: blob_root(part.row.blob_root),
        })
        .collect();
    let object_root =
        ashlar_chunker::object_root(&roots).map_err(|e| Error::internal("committing to an object", e))?;
    let contents =
        parts.iter().map(|(_, part)| (part.row.length, ContentRoot(Digest(part.row.content_root))));
    let content_root = ashlar_chunker::content_root_of_parts(contents);
    Ok(ObjectRow {
        // A part's blob belongs to no other manifest, so its number is free for this one.
        manifest: manifest_of(parts[0].1.row.blob),
        length,
        etag: ETag::Multipart(md5.finalize(), count),
        checksum,
        attributes: upload.attributes,
        tags: upload.tags,
        acl: upload.acl,
        object_root: object_root.0.0,
        content_root: content_root.0.0,
    })
}

fn part_ref(number: u32, part: &PartRow) -> PartRef {
    PartRef {
        number,
        blob: part.blob,
        length: part.length,
        blob_root: part.blob_root,
        etag: Some(part.etag),
        checksum: part.checksum.clone(),
    }
}

/// Identifies a part list: the same one gives the same answer.
fn hash_request(request: &CompleteUpload) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in &request.parts {
        hasher.update(&part.number.to_be_bytes());
        hasher.update(&u64::try_from(part.etag.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part.etag.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

impl Store {
    /// Commits the object together with the answer that a retried Complete is given.
    async fn commit_completed(
        &self,
        transaction: Transaction,
        destination: &Destination,
        (object, manifest_root): (&ObjectRow, [u8; 32]),
        name: &UploadName,
        completed: CompletedRow,
    ) -> Result<Option<(Written, Logged)>, Error> {
        let record = |transaction: &mut Transaction, version, modified: UnixMillis| {
            let row = CompletedRow { version, completed: modified, ..completed.clone() };
            transaction.put(uploads::completed_key(name.upload.0), &row);
        };
        self.commit_object_recorded(transaction, destination, object, manifest_root, record).await
    }
}
