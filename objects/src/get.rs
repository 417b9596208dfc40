//! GET and HEAD: which version, may you, which bytes; then bytes that were checked.
//!
//! A read announces itself before it looks, and until its body is dropped GC takes nothing that it may
//! still need. It sees one moment: what it found stays readable however long its client takes.

use std::ops::Range;
use std::sync::Arc;

use ashlar_chunker::{ContentRoot, Digest, ObjectRoot};
use ashlar_metadata::Snapshot;
use ashlar_metadata::namespace::blobs::BlobId;
use ashlar_metadata::namespace::manifests::{
    self, ManifestId, ManifestRow, PARTS_PER_PAGE, PartRef, PartsPage,
};
use ashlar_metadata::namespace::versions::{self, CurrentRow, ObjectRow, VersionRow};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::buckets::Bucket;
use crate::conditions;
use crate::data::ReaderGuard;
use crate::error::Error;
use crate::leases::Pinned;
use crate::requests::{HeadRead, ObjectHead, ObjectName, ObjectRead, PartFact, ReadObject, Selection};
use crate::transaction::{decode, read};
use crate::types::{ByteRange, Conditions};
use crate::versions::{FoundVersion, KeyState};

/// A version that is an object, found and authorised, with all that reading it needs.
pub(crate) struct Opened {
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) found: FoundVersion,
    pub(crate) object: ObjectRow,
    pub(crate) parts: Arc<[PartRef]>,
    pub(crate) multipart: bool,
}

impl Opened {
    pub(crate) fn head(&self) -> ObjectHead {
        let object = &self.object;
        let parts = if self.multipart {
            let fact = |part: &PartRef| PartFact {
                number: part.number,
                length: part.length,
                checksum: part.checksum.clone(),
            };
            self.parts.iter().map(fact).collect()
        } else {
            Arc::from([])
        };
        ObjectHead {
            etag: object.etag,
            length: object.length,
            modified: self.found.row.modified,
            version: self.bucket.shown(self.found.row.id),
            attributes: object.attributes.clone(),
            tag_count: object.tags.0.len(),
            checksum: object.checksum.clone(),
            parts,
            owner: self.found.row.owner.clone(),
            object_root: ObjectRoot(Digest(object.object_root)),
            content_root: ContentRoot(Digest(object.content_root)),
        }
    }

    /// What a lease keeps of it.
    pub(crate) fn into_pinned(self) -> Pinned {
        Pinned { head: self.head(), manifest: self.object.manifest, parts: self.parts }
    }

    fn select(&self, selection: Selection) -> Result<(Range<u64>, bool), Error> {
        let length = self.object.length;
        match selection {
            Selection::Whole => Ok((0..length, false)),
            Selection::Range(range) => byte_range(range, length).map(|range| (range, true)),
            Selection::Part(number) if !self.multipart => {
                if number == 1 {
                    Ok((0..length, true))
                } else {
                    Err(Error::NoSuchPartNumber { number })
                }
            }
            Selection::Part(number) => {
                let mut first = 0;
                for (part, position) in self.parts.iter().zip(1_u32..) {
                    if position == number {
                        return Ok((first..first + part.length, true));
                    }
                    first += part.length;
                }
                Err(Error::NoSuchPartNumber { number })
            }
        }
    }
}

/// The bytes a range names, of an object of `length` bytes.
fn byte_range(range: ByteRange, length: u64) -> Result<Range<u64>, Error> {
    match range {
        ByteRange::From { first, last } if first < length && last.is_none_or(|last| last >= first) => {
            let end = last.map_or(length, |last| last.saturating_add(1).min(length));
            Ok(first..end)
        }
        ByteRange::Suffix { length: wanted } if wanted > 0 && length > 0 => {
            Ok(length.saturating_sub(wanted)..length)
        }
        ByteRange::From { .. } | ByteRange::Suffix { .. } => Err(Error::RangeNotSatisfiable { length }),
    }
}

impl Store {
    /// Opens an object for reading. The body gives checked bytes only, and an error ends it.
    pub async fn get_object(&self, cx: &RequestContext, request: ReadObject) -> Result<ObjectRead, Error> {
        let guard = self.inner.data.enter_reader();
        let snapshot = self.snapshot().await?;
        let opened =
            self.open_object(cx, &*snapshot, &request, Action::GetObject, Action::GetObjectVersion).await?;
        drop(snapshot);
        let (range, partial) = opened.select(request.selection)?;
        let head = opened.head();
        let (first, length) = (range.start, range.end - range.start);
        let body = self.read_parts(opened.object.manifest, &opened.parts, range, guard);
        Ok(ObjectRead { head, first, length, partial, body: Box::pin(body) })
    }

    /// What a GET would answer, without bytes.
    pub async fn head_object(&self, cx: &RequestContext, request: ReadObject) -> Result<HeadRead, Error> {
        let snapshot = self.snapshot().await?;
        let opened =
            self.open_object(cx, &*snapshot, &request, Action::GetObject, Action::GetObjectVersion).await?;
        let (range, partial) = opened.select(request.selection)?;
        Ok(HeadRead { head: opened.head(), first: range.start, length: range.end - range.start, partial })
    }

    /// What a HEAD answers, for who may read the object and may ask for its attributes as well.
    pub async fn object_attributes(
        &self,
        cx: &RequestContext,
        name: ObjectName,
    ) -> Result<ObjectHead, Error> {
        let snapshot = self.snapshot().await?;
        let action = match name.version {
            Some(_) => Action::GetObjectVersionAttributes,
            None => Action::GetObjectAttributes,
        };
        let read = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
        let opened =
            self.open_object(cx, &*snapshot, &read, Action::GetObject, Action::GetObjectVersion).await?;
        self.authorize_object(cx, action, &opened.bucket, &read.name, Some(&opened.found), None)?;
        Ok(opened.head())
    }

    /// Finds, authorises and checks the conditions of one read.
    pub(crate) async fn open_object(
        &self,
        cx: &RequestContext,
        snapshot: &dyn Snapshot,
        request: &ReadObject,
        current: Action,
        by_version: Action,
    ) -> Result<Opened, Error> {
        let name = &request.name;
        let bucket = self.bucket(snapshot, &name.bucket).await?;
        let action = if name.version.is_some() { by_version } else { current };
        let (found, manifest) = self.find(cx, snapshot, &bucket, name, action).await?;
        let Some(object) = found.row.object.clone() else {
            let version = found.row.id;
            return Err(match name.version {
                Some(_) => Error::VersionIsDeleteMarker { version },
                None => self.missing(cx, action, &bucket, name, Error::CurrentIsDeleteMarker { version }),
            });
        };
        if let Some(existing) = found.existing(&bucket) {
            conditions::check_read(&request.conditions, &existing)?;
        }
        let manifest = match manifest {
            Some(manifest) => manifest,
            None => {
                read::<ManifestRow>(snapshot, &manifests::key(object.manifest))
                    .await?
                    .ok_or_else(|| Error::internal("opening an object", "its manifest is not there"))?
                    .row
            }
        };
        let multipart = manifest.multipart;
        let parts = all_parts(snapshot, object.manifest, manifest).await?;
        Ok(Opened { bucket, found, object, parts, multipart })
    }

    /// The version a name means, authorised; and its manifest where it came along.
    pub(crate) async fn find(
        &self,
        cx: &RequestContext,
        snapshot: &dyn Snapshot,
        bucket: &Bucket,
        name: &ObjectName,
        action: Action,
    ) -> Result<(FoundVersion, Option<ManifestRow>), Error> {
        let missing = |error| self.missing(cx, action, bucket, name, error);
        let authorised =
            |found: &FoundVersion| self.authorize_object(cx, action, bucket, name, Some(found), None);
        if let Some(id) = name.version {
            let state = KeyState::read(snapshot, bucket, &name.key).await?;
            let found = state.by_id(snapshot, id).await?.ok_or(Error::NoSuchVersion).map_err(missing)?;
            authorised(&found)?;
            return Ok((found, None));
        }
        let Some(current) =
            read::<CurrentRow>(snapshot, &versions::current_key(bucket.id(), &name.key)).await?
        else {
            // No live object; a head that is there stands for a delete marker.
            let state = KeyState::read(snapshot, bucket, &name.key).await?;
            let marker = state.newest(snapshot).await?.ok_or(Error::NoSuchKey).map_err(missing)?;
            return Ok((marker, None));
        };
        let current = current.row;
        let version_key = versions::key(bucket.id(), &name.key, current.sequence);
        let manifest_key = manifests::key(current.manifest);
        let rows = snapshot
            .get_many(&[&version_key, &manifest_key])
            .await
            .map_err(|e| Error::internal("reading a version and its manifest", e))?;
        let [Some(version), Some(manifest)] = &rows[..] else {
            return Err(Error::internal(
                "reading a version and its manifest",
                "the listing names what is not there",
            ));
        };
        let found = FoundVersion::new(current.sequence, decode::<VersionRow>(version)?);
        authorised(&found)?;
        Ok((found, Some(decode::<ManifestRow>(manifest)?.row)))
    }

    /// Streams a range of an object over its parts. Of a long list of parts the stream holds a page at a time
    /// and reads the next when it comes to it: manifests do not change, and the guard keeps this one.
    pub(crate) fn read_parts(
        &self,
        manifest: ManifestId,
        parts: &[PartRef],
        range: Range<u64>,
        guard: Arc<ReaderGuard>,
    ) -> impl Stream<Item = Result<bytes::Bytes, Error>> + Send + use<> {
        let per_page = usize::try_from(PARTS_PER_PAGE).expect("a page's size fits memory");
        let mut pages = Vec::new();
        let mut at_hand = None;
        let mut first = 0;
        for (number, page) in (0_u32..).zip(parts.chunks(per_page)) {
            let end = first + page.iter().map(|part| part.length).sum::<u64>();
            let wanted = range.start.max(first)..range.end.min(end);
            if wanted.start < wanted.end {
                let wanted = wanted.start - first..wanted.end - first;
                if pages.is_empty() {
                    at_hand = Some(pieces(page, &wanted));
                }
                pages.push((number, wanted));
            }
            first = end;
        }
        let store = self.clone();
        let data = self.inner.data.clone();
        stream::iter(pages)
            .then(move |(number, wanted)| {
                let (store, at_hand) = (store.clone(), at_hand.take());
                async move {
                    match at_hand {
                        Some(pieces) => Ok(pieces),
                        None => {
                            store.page_of_parts(manifest, number).await.map(|page| pieces(&page, &wanted))
                        }
                    }
                }
            })
            .map_ok(move |pieces| {
                let (data, guard) = (data.clone(), Arc::clone(&guard));
                stream::iter(pieces)
                    .map(move |(blob, range)| data.read_blob(blob, range, Arc::clone(&guard)))
                    .try_flatten()
            })
            .try_flatten()
    }

    /// A further page of a manifest.
    async fn page_of_parts(&self, manifest: ManifestId, number: u32) -> Result<Vec<PartRef>, Error> {
        let snapshot = self.snapshot().await?;
        let page = read::<PartsPage>(&*snapshot, &manifests::page_key(manifest, number)).await?;
        page.map(|page| page.row.0).ok_or_else(|| Error::internal("reading parts", "a page is not there"))
    }
}

/// The blobs, and of each the bytes, that a range of consecutive parts lies in.
fn pieces(parts: &[PartRef], range: &Range<u64>) -> Vec<(BlobId, Range<u64>)> {
    let mut first = 0;
    let mut pieces = Vec::new();
    for part in parts {
        let end = first + part.length;
        let piece = range.start.max(first)..range.end.min(end);
        if piece.start < piece.end {
            pieces.push((part.blob, piece.start - first..piece.end - first));
        }
        first = end;
    }
    pieces
}

/// All parts of a manifest, further pages included.
pub(crate) async fn all_parts(
    snapshot: &dyn Snapshot,
    id: ManifestId,
    manifest: ManifestRow,
) -> Result<Arc<[PartRef]>, Error> {
    let count = usize::try_from(manifest.part_count).map_err(|e| Error::internal("counting parts", e))?;
    let mut parts = manifest.parts;
    let mut page = 1;
    while parts.len() < count {
        let further = read::<PartsPage>(snapshot, &manifests::page_key(id, page))
            .await?
            .ok_or_else(|| Error::internal("reading parts", "a page is not there"))?;
        parts.extend(further.row.0);
        page += 1;
    }
    Ok(parts.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object_or_refused() {
        let from = |first, last| byte_range(ByteRange::From { first, last }, 10).ok();
        assert_eq!(from(0, None), Some(0..10));
        assert_eq!(from(3, Some(3)), Some(3..4));
        assert_eq!(from(9, Some(u64::MAX)), Some(9..10));
        assert_eq!(from(10, None), None);
        assert_eq!(from(5, Some(4)), None);
        let suffix = |length, of| byte_range(ByteRange::Suffix { length }, of).ok();
        assert_eq!(suffix(4, 10), Some(6..10));
        assert_eq!(suffix(40, 10), Some(0..10));
        assert_eq!(suffix(0, 10), None);
        assert_eq!(suffix(4, 0), None);
    }
}
