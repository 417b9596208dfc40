//! What restoring an entry's effect elsewhere takes: the rows behind it, as they are now.
//!
//! Many entries are read at once, in one snapshot, because a publisher asks for every change of a busy store. Rows
//! may be newer than the entry. Heads, `current` rows and reference counts are not among them: whoever restores
//! derives them from the versions that he restores.

use std::collections::BTreeMap;

use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{self, BlobId, BlobRow, CHUNKS_PER_PAGE};
use ashlar_metadata::namespace::buckets::BucketId;
use ashlar_metadata::namespace::cluster;
use ashlar_metadata::namespace::heads::{self, HeadRow};
use ashlar_metadata::namespace::manifests::{self, ManifestRow, PARTS_PER_PAGE, PartRef, PartsPage};
use ashlar_metadata::namespace::versions::{self, VersionRow};
use ashlar_metadata::{Direction, KeyRange, Row, Snapshot};
use bytes::Bytes;

use super::{LogEntry, Operation, Record};
use crate::Store;
use crate::buckets::BucketRows;
use crate::error::Error;
use crate::types::{BucketName, ObjectKey, VersionId};

const READING: &str = "reading the rows behind an entry";
/// Cluster maps read at a time.
const MAPS_STEP: usize = 100;
/// Entries whose rows are read at once.
const STEP_ENTRIES: usize = 256;

/// The rows behind an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryRows {
    /// Key and value. Empty where what was announced is gone, and for removals.
    pub rows: Vec<(Bytes, Bytes)>,
    /// They say more than the entry does: they are of what took its place, or changed it, and a later entry has them
    /// too.
    pub is_later: bool,
    /// They are more than was allowed, and shortened.
    pub is_too_large: bool,
    /// How many of them, from the first, say that something is there at all.
    essential: usize,
}

impl RecoveryRows {
    /// Leaves out what describes a version's bytes, and keeps that there is one; whether anything was left out.
    pub fn shorten(&mut self) -> bool {
        let is_longer = self.rows.len() > self.essential;
        self.rows.truncate(self.essential);
        is_longer
    }

    fn bytes(&self) -> usize {
        self.rows.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

/// The version that an entry is about.
struct Announced {
    bucket: BucketId,
    key: ObjectKey,
    version: VersionId,
}

/// A version's row as it is found.
struct Found {
    key: Bytes,
    row: Row,
    version: VersionRow,
}

impl Store {
    /// The rows that make the effect of the first of these entries restorable in another store: of as many as have
    /// `bytes_max` of them, and at least one; an entry that alone has more gets its version's row only.
    ///
    /// Of a put or mark they are its version, its manifest and blobs with their pages, as they are now. Where the null
    /// version was replaced they are those of what replaced it, whose own entry may never be published. Of a bucket
    /// they are its row and documents, of a cluster map its row. An object of 1 TiB has some 13 MiB of them.
    pub async fn recovery_rows(
        &self,
        entries: &[LogEntry],
        bytes_max: usize,
    ) -> Result<Vec<RecoveryRows>, Error> {
        let snapshot = self.snapshot().await?;
        let (mut all, mut bytes) = (Vec::with_capacity(entries.len()), 0);
        let bytes_max = bytes_max.max(1);
        for step in entries.chunks(STEP_ENTRIES) {
            for rows in self.rows_of(&*snapshot, step, bytes_max, &mut bytes).await? {
                all.push(rows);
            }
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(all)
    }

    async fn rows_of(
        &self,
        snapshot: &dyn Snapshot,
        entries: &[LogEntry],
        bytes_max: usize,
        bytes: &mut usize,
    ) -> Result<Vec<RecoveryRows>, Error> {
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            records.push(Record::decode(&entry.record).map_err(|e| Error::internal(READING, e))?);
        }
        let announced = self.announced(snapshot, &records).await?;
        let found = found(snapshot, &announced).await?;
        let manifests: Vec<Option<Bytes>> = found
            .iter()
            .map(|found| Some(manifests::key(found.as_ref()?.version.object.as_ref()?.manifest)))
            .collect();
        let manifests = get_some(snapshot, manifests).await?;
        let mut first_blobs = Vec::with_capacity(entries.len());
        let mut of_manifests = Vec::with_capacity(entries.len());
        for manifest in manifests {
            let row = match &manifest {
                Some((_, row)) => {
                    Some(ManifestRow::decode(&row.value).map_err(|e| Error::internal(READING, e))?)
                }
                None => None,
            };
            let only_part = row.as_ref().filter(|row| row.part_count == 1).and_then(|row| row.parts.first());
            first_blobs.push(only_part.map(|part| blobs::key(part.blob)));
            of_manifests.push(manifest.zip(row));
        }
        let first_blobs = get_some(snapshot, first_blobs).await?;
        let mut all = Vec::with_capacity(entries.len());
        let of_versions = found.into_iter().zip(of_manifests).zip(first_blobs);
        for ((entry, record), ((found, manifest), blob)) in entries.iter().zip(&records).zip(of_versions) {
            if *bytes >= bytes_max {
                break;
            }
            let mut gathered = Gathered { rows: Vec::new(), bytes: 0, bytes_max };
            let is_of_version = found.is_some();
            let is_later = match found {
                None => {
                    gathered.rows = self.rows_of_others(snapshot, record).await?;
                    false
                }
                Some(found) => {
                    let is_later = found.place() != Some(entry.place());
                    gathered.version(snapshot, found, manifest, blob).await?;
                    is_later
                }
            };
            let is_too_large = gathered.is_full();
            // A version's own row is the first.
            let essential = if is_of_version { 1 } else { gathered.rows.len() };
            let mut rows = RecoveryRows { rows: gathered.rows, is_later, is_too_large, essential };
            if is_too_large {
                rows.shorten();
            }
            *bytes += rows.bytes() + entry.record.len();
            all.push(rows);
        }
        Ok(all)
    }

    /// What the records of puts and marks are about, where the bucket is there.
    async fn announced(
        &self,
        snapshot: &dyn Snapshot,
        records: &[Record],
    ) -> Result<Vec<Option<Announced>>, Error> {
        let mut buckets: BTreeMap<&BucketName, Option<BucketId>> = BTreeMap::new();
        let mut all = Vec::with_capacity(records.len());
        for record in records {
            let is_set = matches!(record.operation, Operation::Put | Operation::Mark);
            let (Some(name), Some(key), true) = (&record.bucket, &record.key, is_set) else {
                all.push(None);
                continue;
            };
            let bucket = match buckets.get(name) {
                Some(known) => *known,
                None => {
                    let bucket = match self.bucket(snapshot, name).await {
                        Err(Error::NoSuchBucket) => None,
                        bucket => Some(bucket?.id()),
                    };
                    buckets.insert(name, bucket);
                    bucket
                }
            };
            all.push(bucket.map(|bucket| Announced { bucket, key: key.clone(), version: record.version }));
        }
        Ok(all)
    }

    /// The rows behind what is about no version.
    async fn rows_of_others(
        &self,
        snapshot: &dyn Snapshot,
        record: &Record,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        match (record.operation, &record.bucket) {
            (Operation::BucketSet, Some(bucket)) => match self.bucket(snapshot, bucket).await {
                Ok(bucket) => Ok(BucketRows::read(snapshot, &bucket).await?.rows()),
                Err(Error::NoSuchBucket) => Ok(Vec::new()),
                Err(error) => Err(error),
            },
            (Operation::ClusterMap, _) => map_rows(snapshot, &record.metadata_digest).await,
            _ => Ok(Vec::new()),
        }
    }
}

impl Found {
    fn place(&self) -> Option<(u64, u32)> {
        let place = self.version.log.as_ref()?;
        Some((self.row.version.0, place.index))
    }
}

/// The versions that are announced, as they are: the null version may be another than was announced.
async fn found(
    snapshot: &dyn Snapshot,
    announced: &[Option<Announced>],
) -> Result<Vec<Option<Found>>, Error> {
    let null = |one: &Option<Announced>| {
        let one = one.as_ref().filter(|one| one.version == VersionId::Null)?;
        Some(heads::key(one.bucket, &one.key))
    };
    let heads = get_some(snapshot, announced.iter().map(null).collect()).await?;
    let mut keys = Vec::with_capacity(announced.len());
    for (one, head) in announced.iter().zip(heads) {
        let sequence = match (one, head) {
            (None, _) => None,
            (Some(_), Some((_, head))) => {
                HeadRow::decode(&head.value).map_err(|e| Error::internal(READING, e))?.null
            }
            (Some(one), None) => one.version.sequence(),
        };
        keys.push(one.as_ref().zip(sequence).map(|(one, at)| versions::key(one.bucket, &one.key, at)));
    }
    let rows = get_some(snapshot, keys).await?;
    let mut all = Vec::with_capacity(announced.len());
    for (one, row) in announced.iter().zip(rows) {
        let found = match row {
            None => None,
            Some((key, row)) => {
                let version = VersionRow::decode(&row.value).map_err(|e| Error::internal(READING, e))?;
                Some(Found { key, row, version })
            }
        };
        all.push(found.filter(|found| one.as_ref().is_some_and(|one| one.version == found.version.id)));
    }
    Ok(all)
}

/// The rows of those keys that are asked for, each with its key.
async fn get_some(
    snapshot: &dyn Snapshot,
    keys: Vec<Option<Bytes>>,
) -> Result<Vec<Option<(Bytes, Row)>>, Error> {
    let asked: Vec<&[u8]> = keys.iter().flatten().map(|key| &key[..]).collect();
    let rows = snapshot.get_many(&asked).await.map_err(|e| Error::internal(READING, e))?;
    let mut rows = rows.into_iter();
    let row = |key: Option<Bytes>| {
        let key = key?;
        rows.next().flatten().map(|row| (key, row))
    };
    Ok(keys.into_iter().map(row).collect())
}

/// Rows of one version, until they are too many.
struct Gathered {
    rows: Vec<(Bytes, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    fn add(&mut self, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        if self.rows.is_empty() || !self.is_full() {
            self.rows.push((key, value));
        }
    }

    async fn take(&mut self, snapshot: &dyn Snapshot, key: Bytes) -> Result<Bytes, Error> {
        let row = snapshot.get(&key).await.map_err(|e| Error::internal(READING, e))?;
        let row = row.ok_or_else(|| Error::internal(READING, "a row that another refers to is not there"))?;
        self.add(key, row.value.clone());
        Ok(row.value)
    }

    async fn version(
        &mut self,
        snapshot: &dyn Snapshot,
        found: Found,
        manifest: Option<((Bytes, Row), ManifestRow)>,
        blob: Option<(Bytes, Row)>,
    ) -> Result<(), Error> {
        self.add(found.key, found.row.value);
        let Some(object) = &found.version.object else { return Ok(()) };
        let ((key, row), manifest) =
            manifest.ok_or_else(|| Error::internal(READING, "a manifest is not there"))?;
        self.add(key, row.value);
        if let (Some((key, row)), Some(part)) = (blob, manifest.parts.first()) {
            let blob = BlobRow::decode(&row.value).map_err(|e| Error::internal(READING, e))?;
            self.add(key, row.value);
            return self.further_chunks(snapshot, part.blob, &blob).await;
        }
        self.parts(snapshot, &manifest.parts).await?;
        for page in 1..manifest.part_count.div_ceil(PARTS_PER_PAGE).max(1) {
            let page = self.take(snapshot, manifests::page_key(object.manifest, page)).await?;
            let page = PartsPage::decode(&page).map_err(|e| Error::internal(READING, e))?;
            self.parts(snapshot, &page.0).await?;
        }
        Ok(())
    }

    async fn parts(&mut self, snapshot: &dyn Snapshot, parts: &[PartRef]) -> Result<(), Error> {
        for part in parts {
            if self.is_full() {
                return Ok(());
            }
            let row = self.take(snapshot, blobs::key(part.blob)).await?;
            let row = BlobRow::decode(&row).map_err(|e| Error::internal(READING, e))?;
            self.further_chunks(snapshot, part.blob, &row).await?;
        }
        Ok(())
    }

    async fn further_chunks(
        &mut self,
        snapshot: &dyn Snapshot,
        id: BlobId,
        row: &BlobRow,
    ) -> Result<(), Error> {
        for page in 1..row.chunk_count.div_ceil(CHUNKS_PER_PAGE).max(1) {
            if self.is_full() {
                return Ok(());
            }
            self.take(snapshot, blobs::page_key(id, page)).await?;
        }
        Ok(())
    }
}

/// The cluster map of this digest, current or past.
async fn map_rows(snapshot: &dyn Snapshot, digest: &[u8; 32]) -> Result<Vec<(Bytes, Bytes)>, Error> {
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
