//! What restoring an entry's effect elsewhere takes: the rows behind it, as they are now.
//!
//! Read in one snapshot. Rows may be newer than the entry, never of another version: heads and reference counts
//! are those of now, and whoever restores derives them from the versions that he restores.

use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{self, BlobId, BlobRow, CHUNKS_PER_PAGE};
use ashlar_metadata::namespace::cluster;
use ashlar_metadata::namespace::heads;
use ashlar_metadata::namespace::manifests::{self, ManifestId, ManifestRow, PARTS_PER_PAGE};
use ashlar_metadata::namespace::versions::{self, LogPlace, VersionRow};
use ashlar_metadata::{Direction, KeyRange, Snapshot};
use bytes::Bytes;

use super::entry::stored_manifest_root;
use super::{LogEntry, Operation, Record};
use crate::Store;
use crate::buckets::BucketRows;
use crate::error::Error;
use crate::get::all_parts;
use crate::types::{BucketName, ObjectKey};
use crate::versions::{FoundVersion, KeyState};

const READING: &str = "reading the rows behind an entry";
/// Cluster maps read at a time.
const MAPS_STEP: usize = 100;

type Rows = Vec<(Bytes, Bytes)>;

/// The version that a record is about, if it is still there with the same bytes.
async fn announced(
    snapshot: &dyn Snapshot,
    state: &KeyState<'_>,
    record: &Record,
) -> Result<Option<FoundVersion>, Error> {
    let Some(found) = state.by_id(snapshot, record.version).await? else { return Ok(None) };
    let same = match (&found.row.object, record.operation) {
        (None, Operation::Mark) => true,
        // The null version may have been replaced by another of the same id.
        (Some(object), Operation::Put) => {
            object.content_root == record.content_root
                && object.object_root == record.object_root
                && stored_manifest_root(snapshot, object.manifest).await? == record.manifest_root
        }
        _ => false,
    };
    Ok(Some(found).filter(|_| same))
}

async fn take(snapshot: &dyn Snapshot, key: Bytes, rows: &mut Rows) -> Result<Option<Bytes>, Error> {
    let row = snapshot.get(&key).await.map_err(|e| Error::internal(READING, e))?;
    Ok(row.map(|row| {
        rows.push((key, row.value.clone()));
        row.value
    }))
}

async fn manifest_rows(snapshot: &dyn Snapshot, id: ManifestId, rows: &mut Rows) -> Result<(), Error> {
    let missing = || Error::internal(READING, "a manifest is not there");
    let row = take(snapshot, manifests::key(id), rows).await?.ok_or_else(missing)?;
    let row = ManifestRow::decode(&row).map_err(|e| Error::internal(READING, e))?;
    for page in 1..row.part_count.div_ceil(PARTS_PER_PAGE).max(1) {
        take(snapshot, manifests::page_key(id, page), rows).await?.ok_or_else(missing)?;
    }
    for part in all_parts(snapshot, id, row).await?.iter() {
        blob_rows(snapshot, part.blob, rows).await?;
    }
    Ok(())
}

async fn blob_rows(snapshot: &dyn Snapshot, blob: BlobId, rows: &mut Rows) -> Result<(), Error> {
    let missing = || Error::internal(READING, "a blob is not there");
    let row = take(snapshot, blobs::key(blob), rows).await?.ok_or_else(missing)?;
    let row = BlobRow::decode(&row).map_err(|e| Error::internal(READING, e))?;
    for page in 1..row.chunk_count.div_ceil(CHUNKS_PER_PAGE).max(1) {
        take(snapshot, blobs::page_key(blob, page), rows).await?.ok_or_else(missing)?;
    }
    Ok(())
}

impl Store {
    /// The metadata rows that make an entry's effect restorable in another store, key and value, as they are now:
    /// of a put or mark its head, version, `current` row where it has one, manifest and blobs with their pages;
    /// of a bucket its row and documents; of a cluster map its row. Empty where what it announced is gone, and
    /// for removals. A version's row says where in the log it stands, because in another store its own position
    /// says nothing. An object of 1 TiB has some 13 MiB of them.
    pub async fn recovery_rows(&self, entry: &LogEntry) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let record = Record::decode(&entry.record).map_err(|e| Error::internal(READING, e))?;
        let snapshot = self.snapshot().await?;
        match (record.operation, &record.bucket, &record.key) {
            (Operation::Put | Operation::Mark, Some(bucket), Some(key)) => {
                self.version_rows(&*snapshot, bucket, key, &record).await
            }
            (Operation::BucketSet, Some(bucket), _) => match self.bucket(&*snapshot, bucket).await {
                Ok(bucket) => Ok(BucketRows::read(&*snapshot, &bucket).await?.rows()),
                Err(Error::NoSuchBucket) => Ok(Vec::new()),
                Err(error) => Err(error),
            },
            (Operation::ClusterMap, ..) => map_rows(&*snapshot, &record.metadata_digest).await,
            _ => Ok(Vec::new()),
        }
    }

    async fn version_rows(
        &self,
        snapshot: &dyn Snapshot,
        bucket: &BucketName,
        key: &ObjectKey,
        record: &Record,
    ) -> Result<Rows, Error> {
        let bucket = match self.bucket(snapshot, bucket).await {
            Err(Error::NoSuchBucket) => return Ok(Vec::new()),
            found => found?,
        };
        let state = KeyState::read(snapshot, &bucket, key).await?;
        let Some(found) = announced(snapshot, &state, record).await? else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        take(snapshot, heads::key(bucket.id(), key), &mut rows).await?;
        let log = found.log_place().map(|(position, index)| LogPlace { index, position: Some(position) });
        let row = VersionRow { log, ..found.row };
        rows.push((versions::key(bucket.id(), key, found.sequence), row.encode()));
        let is_newest = state.head.as_ref().is_some_and(|head| head.row.newest == found.sequence);
        if is_newest {
            take(snapshot, versions::current_key(bucket.id(), key), &mut rows).await?;
        }
        if let Some(object) = &row.object {
            manifest_rows(snapshot, object.manifest, &mut rows).await?;
        }
        Ok(rows)
    }
}

/// The cluster map of this digest, current or past.
async fn map_rows(snapshot: &dyn Snapshot, digest: &[u8; 32]) -> Result<Rows, Error> {
    let mut range = KeyRange::prefix(cluster::prefix());
    loop {
        let page = snapshot.scan(range.clone(), Direction::Backward, MAPS_STEP).await;
        let page = page.map_err(|e| Error::internal(READING, e))?;
        if let Some((key, row)) =
            page.rows.iter().find(|(_, row)| blake3::hash(&row.value).as_bytes() == digest)
        {
            return Ok(vec![(key.clone(), row.value.clone())]);
        }
        match page.rows.last() {
            Some((last, _)) if page.more => range = range.before(last.clone()),
            _ => return Ok(Vec::new()),
        }
    }
}
