//! Listings: live objects, versions, uploads. Each walks one range of keys in order and skips by seek.
//!
//! A delimiter groups keys: when a common prefix has been seen, the walk seeks past everything that begins
//! so, whatever lies there. The work of a page is therefore bounded by its entries, not by what it hides.

use ashlar_chunker::{ContentRoot, Digest, ObjectRoot};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::buckets::BucketId;
use ashlar_metadata::namespace::uploads::{self, UploadRow};
use ashlar_metadata::namespace::versions::{self, CurrentRow, VersionRow};
use ashlar_metadata::{Direction, KeyRange, Row, Snapshot};
use bytes::Bytes;

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::error::Error;
use crate::pinning::Moment;
use crate::requests::{
    ListObjects, ListUploads, ListVersions, ListedObject, ListedUpload, ListedVersion, ObjectPage, UploadId,
    UploadPage, VersionPage,
};
use crate::transaction::decode;
use crate::types::{ObjectKey, VersionId};
use crate::versions::FoundVersion;

/// Most entries that one page shows.
pub(crate) const PAGE_ENTRIES_MAX: u32 = 1_000;
/// Rows read at a time where a delimiter may skip most of them.
const GROUPED_ROWS: usize = 48;

/// What a walk finds next.
enum Entry<T> {
    Item(T),
    CommonPrefix(String),
}

/// A walk over keys of one kind, grouped by a delimiter.
struct Walk<'a> {
    snapshot: &'a dyn Snapshot,
    range: KeyRange,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    /// Where the range of keys that begin with a text starts.
    start_of: Box<dyn Fn(&str) -> Bytes + Send + Sync + 'a>,
    rows: std::vec::IntoIter<(Bytes, Row)>,
    more: bool,
}

impl<'a> Walk<'a> {
    fn new(
        snapshot: &'a dyn Snapshot,
        prefix: &'a str,
        delimiter: Option<&'a str>,
        start_of: impl Fn(&str) -> Bytes + Send + Sync + 'a,
    ) -> Self {
        let range = KeyRange::prefix(start_of(prefix));
        let delimiter = delimiter.filter(|text| !text.is_empty());
        Self {
            snapshot,
            range,
            prefix,
            delimiter,
            start_of: Box::new(start_of),
            rows: Vec::new().into_iter(),
            more: true,
        }
    }

    /// Goes on at this key, if that is further.
    fn seek(&mut self, start: Bytes) {
        if start > self.range.start {
            self.range.start = start;
        }
        self.rows = Vec::new().into_iter();
        self.more = true;
    }

    /// Goes on after everything that begins with `text`.
    fn seek_past(&mut self, text: &str) {
        match KeyRange::prefix((self.start_of)(text)).end {
            Some(end) => self.seek(end),
            None => self.more = false,
        }
    }

    /// The next entry. `read` gives a row's object key and what to make of it.
    async fn next<T>(
        &mut self,
        wanted: usize,
        read: impl Fn(&Bytes, &Row) -> Result<(String, T), Error>,
    ) -> Result<Option<Entry<T>>, Error> {
        loop {
            let Some((key, row)) = self.rows.next() else {
                if !self.more || self.range.is_empty() {
                    return Ok(None);
                }
                let limit = if self.delimiter.is_some() { GROUPED_ROWS.min(wanted.max(2)) } else { wanted };
                let page = self
                    .snapshot
                    .scan(self.range.clone(), Direction::Forward, limit)
                    .await
                    .map_err(|e| Error::internal("listing", e))?;
                self.more = page.more;
                if let Some((last, _)) = page.rows.last() {
                    self.range = self.range.after(last);
                }
                self.rows = page.rows.into_iter();
                if self.rows.len() == 0 {
                    return Ok(None);
                }
                continue;
            };
            let (name, item) = read(&key, &row)?;
            let group = self.delimiter.and_then(|delimiter| {
                let rest = name.get(self.prefix.len()..)?;
                rest.find(delimiter).map(|at| name[..self.prefix.len() + at + delimiter.len()].to_owned())
            });
            let Some(group) = group else { return Ok(Some(Entry::Item(item))) };
            self.skip_group(&group)?;
            return Ok(Some(Entry::CommonPrefix(group)));
        }
    }

    /// Leaves a common prefix: within the rows at hand where it ends there, else by seek.
    fn skip_group(&mut self, group: &str) -> Result<(), Error> {
        let Some(end) = KeyRange::prefix((self.start_of)(group)).end else {
            self.rows = Vec::new().into_iter();
            self.more = false;
            return Ok(());
        };
        let within = self.rows.as_slice().iter().position(|(key, _)| *key >= end);
        match within {
            Some(skip) => {
                if let Some(last) = skip.checked_sub(1) {
                    let _ = self.rows.nth(last);
                }
            }
            None if self.more => self.seek(end),
            None => self.rows = Vec::new().into_iter(),
        }
        Ok(())
    }
}

fn bad_key(kind: &'static str) -> Error {
    Error::internal("listing", format!("a {kind} key does not read"))
}

fn page_size(max: u32) -> usize {
    usize::try_from(max.min(PAGE_ENTRIES_MAX)).expect("at most 1,000")
}

/// Where to go on after `after`: past the whole group if it is a common prefix, else right behind it.
fn resume<'t>(after: &'t str, prefix: &str, delimiter: Option<&str>) -> Resume<'t> {
    let grouped = delimiter.filter(|d| !d.is_empty()).is_some_and(|delimiter| {
        after
            .strip_prefix(prefix)
            .and_then(|rest| rest.find(delimiter).map(|at| at + delimiter.len() == rest.len()))
            .unwrap_or(false)
    });
    if grouped { Resume::PastGroup(after) } else { Resume::After(after) }
}

enum Resume<'t> {
    PastGroup(&'t str),
    After(&'t str),
}

fn listed(key: String, row: CurrentRow) -> ListedObject {
    ListedObject {
        key,
        etag: row.etag,
        length: row.length,
        modified: row.modified,
        owner: row.owner,
        storage_class: row.storage_class,
        checksum: row.checksum,
    }
}

impl Store {
    /// Lists live objects in byte order of their keys.
    ///
    /// A page is read from one snapshot; pages of one listing may see different moments.
    pub async fn list_objects(&self, cx: &RequestContext, request: ListObjects) -> Result<ObjectPage, Error> {
        let snapshot = self.snapshot().await?;
        self.list_objects_in(cx, &*snapshot, request).await
    }

    /// The same as of a moment.
    pub async fn list_objects_at(
        &self,
        cx: &RequestContext,
        moment: &Moment,
        request: ListObjects,
    ) -> Result<ObjectPage, Error> {
        self.list_objects_in(cx, moment.snapshot(), request).await
    }

    async fn list_objects_in(
        &self,
        cx: &RequestContext,
        snapshot: &dyn Snapshot,
        request: ListObjects,
    ) -> Result<ObjectPage, Error> {
        let bucket = self.bucket(snapshot, &request.bucket).await?;
        self.authorize_bucket(cx, Action::ListBucket, &bucket)?;
        let id = bucket.id();
        let mut walk = Walk::new(snapshot, &request.prefix, request.delimiter.as_deref(), move |text| {
            versions::current_prefix(id, text)
        });
        if let Some(after) = &request.after {
            match resume(after, &request.prefix, request.delimiter.as_deref()) {
                Resume::PastGroup(group) => walk.seek_past(group),
                Resume::After(key) => walk.seek(past(versions::current_prefix(id, key))),
            }
        }
        let mut page = ObjectPage::default();
        let wanted = page_size(request.max);
        let mut last = None;
        while let Some(entry) = walk.next(wanted + 1, read_current).await? {
            if page.objects.len() + page.common_prefixes.len() == wanted {
                page.next_after = last;
                break;
            }
            match entry {
                Entry::Item(object) => {
                    last = Some(object.key.clone());
                    page.objects.push(object);
                }
                Entry::CommonPrefix(group) => {
                    last = Some(group.clone());
                    page.common_prefixes.push(group);
                }
            }
        }
        Ok(page)
    }

    /// Lists versions and delete markers: keys in byte order, of each the newest first.
    pub async fn list_versions(
        &self,
        cx: &RequestContext,
        request: ListVersions,
    ) -> Result<VersionPage, Error> {
        let snapshot = self.snapshot().await?;
        self.list_versions_in(cx, &*snapshot, request).await
    }

    /// The same as of a moment.
    pub async fn list_versions_at(
        &self,
        cx: &RequestContext,
        moment: &Moment,
        request: ListVersions,
    ) -> Result<VersionPage, Error> {
        self.list_versions_in(cx, moment.snapshot(), request).await
    }

    async fn list_versions_in(
        &self,
        cx: &RequestContext,
        snapshot: &dyn Snapshot,
        request: ListVersions,
    ) -> Result<VersionPage, Error> {
        let bucket = self.bucket(snapshot, &request.bucket).await?;
        self.authorize_bucket(cx, Action::ListBucketVersions, &bucket)?;
        let id = bucket.id();
        let mut walk = Walk::new(snapshot, &request.prefix, request.delimiter.as_deref(), move |text| {
            versions::prefix(id, text)
        });
        let mut previous_key = None;
        if let Some((key, version)) = &request.after {
            match (version, resume(key, &request.prefix, request.delimiter.as_deref())) {
                (None, Resume::PastGroup(group)) => walk.seek_past(group),
                (None, Resume::After(key)) => walk.seek(past_versions(id, key)),
                (Some(version), _) => {
                    let object = ObjectKey::new(key)?;
                    match self.sequence_of(snapshot, &bucket, &object, *version).await? {
                        Some(sequence) => {
                            walk.seek(past_exactly(&versions::key(id, &object, sequence)));
                            previous_key = Some(key.clone());
                        }
                        None => walk.seek(versions::of_key(id, &object)),
                    }
                }
            }
        }
        let mut page = VersionPage::default();
        let wanted = page_size(request.max);
        let mut last = None;
        while let Some(entry) = walk.next(wanted + 1, read_version).await? {
            if page.versions.len() + page.common_prefixes.len() == wanted {
                page.next_after = last;
                break;
            }
            match entry {
                Entry::Item((key, found)) => {
                    let latest = previous_key.as_ref() != Some(&key);
                    last = Some((key.clone(), Some(found.row.id)));
                    previous_key = Some(key.clone());
                    page.versions.push(listed_version(key, latest, found));
                }
                Entry::CommonPrefix(group) => {
                    last = Some((group.clone(), None));
                    page.common_prefixes.push(group);
                }
            }
        }
        Ok(page)
    }

    /// Lists uploads in progress: keys in byte order, of each the oldest first.
    pub async fn list_uploads(&self, cx: &RequestContext, request: ListUploads) -> Result<UploadPage, Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, &request.bucket).await?;
        self.authorize_bucket(cx, Action::ListBucketMultipartUploads, &bucket)?;
        let id = bucket.id();
        let mut walk = Walk::new(&*snapshot, &request.prefix, request.delimiter.as_deref(), move |text| {
            uploads::prefix(id, text)
        });
        if let Some((key, upload)) = &request.after {
            match (upload, resume(key, &request.prefix, request.delimiter.as_deref())) {
                (None, Resume::PastGroup(group)) => walk.seek_past(group),
                (None, Resume::After(key)) => walk.seek(past_uploads(id, key)),
                (Some(upload), _) => {
                    walk.seek(past_exactly(&uploads::key(id, &ObjectKey::new(key)?, upload.0)))
                }
            }
        }
        let mut page = UploadPage::default();
        let wanted = page_size(request.max);
        let mut last = None;
        while let Some(entry) = walk.next(wanted + 1, read_upload).await? {
            if page.uploads.len() + page.common_prefixes.len() == wanted {
                page.next_after = last;
                break;
            }
            match entry {
                Entry::Item(upload) => {
                    last = Some((upload.key.clone(), Some(upload.upload)));
                    page.uploads.push(upload);
                }
                Entry::CommonPrefix(group) => {
                    last = Some((group.clone(), None));
                    page.common_prefixes.push(group);
                }
            }
        }
        Ok(page)
    }
}

fn read_current(key: &Bytes, row: &Row) -> Result<(String, ListedObject), Error> {
    let name = versions::parse_current_key(key).ok_or_else(|| bad_key("current"))?;
    let row = decode::<CurrentRow>(row)?.row;
    Ok((name.clone(), listed(name, row)))
}

fn read_version(key: &Bytes, row: &Row) -> Result<(String, (String, FoundVersion)), Error> {
    let (name, sequence) = versions::parse_key(key).ok_or_else(|| bad_key("version"))?;
    Ok((name.clone(), (name, FoundVersion::new(sequence, decode::<VersionRow>(row)?))))
}

fn read_upload(key: &Bytes, row: &Row) -> Result<(String, ListedUpload), Error> {
    let (_, name, upload) = uploads::parse_key(key).ok_or_else(|| bad_key("upload"))?;
    let row = UploadRow::decode(&row.value).map_err(|e| Error::internal("listing uploads", e))?;
    let listed = ListedUpload {
        key: name.clone(),
        upload: UploadId(upload),
        initiator: row.initiator().to_owned(),
        owner: row.owner,
        initiated: row.initiated,
        storage_class: row.attributes.storage_class,
        checksum: row.checksum,
    };
    Ok((name, listed))
}

fn listed_version(key: String, latest: bool, found: FoundVersion) -> ListedVersion {
    let position = found.log_place().map(|(position, _)| position);
    let row = found.row;
    let roots = row
        .object
        .as_ref()
        .map(|object| (ObjectRoot(Digest(object.object_root)), ContentRoot(Digest(object.content_root))));
    let object = row.object.map(|object| ListedObject {
        key: key.clone(),
        etag: object.etag,
        length: object.length,
        modified: row.modified,
        owner: row.owner.clone(),
        storage_class: object.attributes.storage_class,
        checksum: object.checksum.map(|c| (c.algorithm, c.kind)),
    });
    ListedVersion {
        key,
        version: row.id,
        latest,
        object,
        modified: row.modified,
        owner: row.owner,
        roots,
        position,
    }
}

/// The first key after the one whose text field, not yet ended, this is.
fn past(open: Bytes) -> Bytes {
    // A text field ends in 00 00 and goes on with 00 FF or a byte above 00: 00 01 lies between.
    let mut key = open.to_vec();
    key.extend_from_slice(&[0, 1]);
    Bytes::from(key)
}

fn past_versions(bucket: BucketId, key: &str) -> Bytes {
    past(versions::prefix(bucket, key))
}

fn past_uploads(bucket: BucketId, key: &str) -> Bytes {
    past(uploads::prefix(bucket, key))
}

fn past_exactly(key: &Bytes) -> Bytes {
    let mut next = key.to_vec();
    next.push(0);
    Bytes::from(next)
}

impl Store {
    async fn sequence_of(
        &self,
        snapshot: &dyn Snapshot,
        bucket: &crate::buckets::Bucket,
        key: &ObjectKey,
        version: VersionId,
    ) -> Result<Option<u64>, Error> {
        match version {
            // The sequence is in the id, so a listing goes on even after that version was removed.
            VersionId::Id(number) => Ok(Some(u64::try_from(number >> 64).expect("128 bits less 64 are 64"))),
            VersionId::Null => {
                let state = crate::versions::KeyState::read(snapshot, bucket, key).await?;
                Ok(state.head.and_then(|head| head.row.null))
            }
        }
    }
}
