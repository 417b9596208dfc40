//! Restoring: a namespace put together again from what a log carried.
//!
//! [`Restoration`] takes entries with their rows and stretches of walks, in the order of the log, into empty metadata.
//! Then a [`crate::Store`] on it compares chunks with nodes ([`crate::Store::adopt_shards`]), and
//! [`Restoration::finish`] derives what is not carried: heads, `current` rows, references, counters, and the entries
//! that announce every version to a new log.
//!
//! Invariant: rows are set, never added to, so that the same change may be taken twice, and rows may be newer than the
//! entry that brings them; what undoes them is a later entry. Deliberately knows nothing of batches, seals and keys,
//! and trusts what it is given: a seal vouches for it.

mod derive;
mod overlay;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_metadata::OrderedKv;
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{BlobId, BlobRow, ChunkPage, ChunkRef};
use ashlar_metadata::namespace::buckets::{self, BucketId, BucketRow, Document};
use ashlar_metadata::namespace::cluster::{self, ClusterRow, NodeRow, NodeState};
use ashlar_metadata::namespace::keys::{KeyReader, Tag};
use ashlar_metadata::namespace::log::GenerationRow;
use ashlar_metadata::namespace::manifests::{ManifestRow, PartsPage};
use ashlar_metadata::namespace::record::NO_DIGEST;
use ashlar_metadata::namespace::versions::{self, VersionRow};
use ashlar_metadata::namespace::{sessions, users};
use bytes::Bytes;

use crate::clock::Clock;
use crate::data::Adopted;
use crate::error::Error;
use crate::log::{Operation, Record, WALKED};
use crate::types::{BucketName, VersionId};
use overlay::Overlay;

const RESTORING: &str = "restoring metadata";

/// A restoration under way.
pub struct Restoration {
    rows: Overlay,
    clock: Clock,
    known: Known,
}

/// What came back, and what did not.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// Buckets.
    pub buckets: u64,
    /// Versions, delete markers among them.
    pub versions: u64,
    /// Keys whose newest version is an object.
    pub objects: u64,
    /// Bytes of all versions; those that share their bytes count each.
    pub bytes: u64,
    /// Users, who have no access keys.
    pub users: u64,
    /// Users of whom only the id is known, by what they own.
    pub nameless_users: u64,
    /// Versions that did not come back.
    pub lost: Vec<LostVersion>,
}

/// A version of which the log knew and that did not come back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LostVersion {
    /// Its bucket; the id where the name is not known.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Its id.
    pub version: String,
    /// Its length in bytes.
    pub length: u64,
    /// Why.
    pub reason: Loss,
}

/// Why a version did not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Rows that describe its bytes were not carried.
    Rows,
    /// Fewer shards are left of a chunk than it takes: bytes were lost, or it was removed and its removal not published.
    Shards,
    /// Its bucket was removed, or not carried.
    Bucket,
}

/// What is remembered of everything that passed, whether it came back or not.
#[derive(Debug, Default)]
struct Known {
    /// Ids that a bucket of this name has had.
    buckets: BTreeMap<BucketName, BTreeSet<BucketId>>,
    /// Those that were removed.
    removed_buckets: BTreeSet<BucketId>,
    /// The highest id of any bucket.
    last_bucket: u64,
    /// The highest session that wrote any blob or manifest.
    last_session: u64,
    /// Epochs of cluster maps that are there, and those by which chunks are placed.
    maps: BTreeSet<u64>,
    placed_by: BTreeSet<u64>,
}

impl Known {
    fn bucket(&mut self, id: u64) {
        self.last_bucket = self.last_bucket.max(id);
    }

    fn id(&mut self, id: u128) {
        let session = u64::try_from(id >> 64).expect("128 bits less 64 are 64");
        self.last_session = self.last_session.max(session);
    }

    fn chunks(&mut self, chunks: &[ChunkRef]) {
        self.placed_by.extend(chunks.iter().map(|chunk| chunk.map_epoch));
    }
}

fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal(RESTORING, error)
}

/// The number that a key of this kind begins with.
fn short_id(key: &[u8], tag: Tag) -> Result<u64, Error> {
    let id = KeyReader::new(key, tag).and_then(|mut reader| reader.u64());
    id.ok_or_else(|| unreadable("a key does not read"))
}

fn long_id(key: &[u8], tag: Tag) -> Result<u128, Error> {
    let id = KeyReader::new(key, tag).and_then(|mut reader| reader.u128());
    id.ok_or_else(|| unreadable("a key does not read"))
}

impl Restoration {
    /// Begins in metadata that holds nothing yet.
    pub fn new(kv: Arc<dyn OrderedKv>, clock: Clock) -> Self {
        Self { rows: Overlay::new(kv), clock, known: Known::default() }
    }

    /// Takes an entry with the rows that were carried with it.
    pub async fn entry(&mut self, record: &[u8], rows: Vec<(Bytes, Bytes)>) -> Result<(), Error> {
        let record = Record::decode(record).map_err(unreadable)?;
        match (record.operation, &record.bucket) {
            (Operation::Remove, Some(bucket)) => self.remove(bucket, &record).await?,
            (Operation::Put | Operation::Mark, Some(bucket))
                if rows.is_empty() && record.version == VersionId::Null =>
            {
                // It is gone by now, but what it replaced went before it.
                self.end_replaced(bucket, &record).await?;
            }
            (Operation::BucketRemoved, Some(bucket)) => self.remove_bucket(bucket).await?,
            (Operation::BucketSet, Some(bucket)) => self.clear_documents(bucket, &rows).await?,
            _ => {}
        }
        for (key, value) in rows {
            self.row(key, value).await?;
        }
        self.rows.flush_if_full().await
    }

    /// Takes rows that a walk carried.
    pub async fn carried(&mut self, rows: Vec<(Bytes, Bytes)>) -> Result<(), Error> {
        for (key, value) in rows {
            self.row(key, value).await?;
        }
        self.rows.flush_if_full().await
    }

    /// Numbers of the nodes that the newest cluster map has, but for those that are gone for good. Empty if there is no
    /// map.
    pub async fn nodes(&self) -> Result<BTreeSet<u16>, Error> {
        let Some(map) = self.rows.get(&cluster::key()).await? else { return Ok(BTreeSet::new()) };
        let map = ClusterRow::decode(&map).map_err(unreadable)?;
        let is_there = |node: &&NodeRow| node.state != NodeState::Removed;
        Ok(map.nodes.iter().filter(is_there).map(|node| node.node).collect())
    }

    /// Makes what was taken so far durable, so that a store can be opened on it.
    pub async fn settle(&mut self) -> Result<(), Error> {
        let session = Bytes::copy_from_slice(&self.known.last_session.to_be_bytes());
        self.rows.put(sessions::last_id_key(), session);
        self.replace_unknown_maps().await?;
        self.rows.flush().await
    }

    /// Chunks may be placed by a map whose own entry was not published. One takes its number, so that it is never given
    /// to another; where the shards are is asked of the nodes.
    async fn replace_unknown_maps(&mut self) -> Result<(), Error> {
        let unknown: Vec<u64> = self.known.placed_by.difference(&self.known.maps).copied().collect();
        let Some(map) = self.rows.get(&cluster::key()).await? else { return Ok(()) };
        let map = ClusterRow::decode(&map).map_err(unreadable)?;
        for epoch in &unknown {
            self.rows.put(cluster::past_key(*epoch), ClusterRow { epoch: *epoch, ..map.clone() }.encode());
        }
        if let Some(last) = unknown.last().filter(|last| **last > map.epoch) {
            self.rows.put(cluster::past_key(map.epoch), map.encode());
            self.rows.put(cluster::key(), ClusterRow { epoch: last + 1, ..map }.encode());
        }
        Ok(())
    }

    /// Derives what was not carried, leaves out what cannot be read, and announces the rest to a log that begins anew as
    /// this generation. No other process or task may use the metadata.
    pub async fn finish(mut self, adopted: &Adopted, generation: GenerationRow) -> Result<Restored, Error> {
        self.rows.flush().await?;
        derive::derive(self.rows, &self.clock, &adopted.lost, &self.known, &generation).await
    }

    /// Sets one row, which has to be of a kind that is carried.
    async fn row(&mut self, key: Bytes, value: Bytes) -> Result<(), Error> {
        let tag = WALKED.into_iter().find(|tag| key.first() == Some(&(*tag as u8)));
        let tag = tag.ok_or_else(|| unreadable("a row of a kind that is not carried"))?;
        match tag {
            Tag::Cluster => {
                let row = ClusterRow::decode(&value).map_err(unreadable)?;
                return self.map(row).await;
            }
            Tag::Bucket => {
                let row = BucketRow::decode(&value).map_err(unreadable)?;
                let name = buckets::name_of(&key).ok_or_else(|| unreadable("a key does not read"))?;
                self.known.bucket(row.id.0);
                self.known.removed_buckets.remove(&row.id);
                self.known.buckets.entry(name).or_default().insert(row.id);
            }
            Tag::BucketDocument => self.known.bucket(short_id(&key, tag)?),
            Tag::Version => {
                self.known.bucket(short_id(&key, tag)?);
                let row = VersionRow::decode(&value).map_err(unreadable)?;
                if row.id == VersionId::Null {
                    self.end_other_null_versions(&key).await?;
                }
            }
            Tag::Manifest => {
                self.known.id(long_id(&key, tag)?);
                drop(ManifestRow::decode(&value).map_err(unreadable)?);
            }
            Tag::ManifestParts => drop(PartsPage::decode(&value).map_err(unreadable)?),
            Tag::Blob => {
                self.known.id(long_id(&key, tag)?);
                self.known.chunks(&BlobRow::decode(&value).map_err(unreadable)?.chunks);
            }
            Tag::User if key == users::changed_key() => {
                // All there are follow.
                for (key, _) in self.rows.beginning_with(users::prefix()).await? {
                    self.rows.delete(key);
                }
                return Ok(());
            }
            Tag::ChunkPage => self.known.chunks(&ChunkPage::decode(&value).map_err(unreadable)?.0),
            _ => {}
        }
        self.rows.put(key, value);
        Ok(())
    }

    /// A key has one null version: the one written last.
    async fn end_other_null_versions(&mut self, row_key: &Bytes) -> Result<(), Error> {
        let of_key = row_key.slice(..row_key.len().saturating_sub(8));
        for (key, row) in self.versions(of_key).await? {
            if row.id == VersionId::Null && key != *row_key {
                self.rows.delete(key);
            }
        }
        Ok(())
    }

    async fn versions(&self, of_key: Bytes) -> Result<Vec<(Bytes, VersionRow)>, Error> {
        let rows = self.rows.beginning_with(of_key).await?;
        let decode =
            |(key, value): (Bytes, Bytes)| Ok((key, VersionRow::decode(&value).map_err(unreadable)?));
        rows.into_iter().map(decode).collect()
    }

    /// The current map stands under one key, whichever it is; past ones under their epochs.
    async fn map(&mut self, row: ClusterRow) -> Result<(), Error> {
        self.known.maps.insert(row.epoch);
        let current = self.rows.get(&cluster::key()).await?;
        let current = current.map(|row| ClusterRow::decode(&row)).transpose().map_err(unreadable)?;
        match current {
            Some(current) if current.epoch > row.epoch => {
                self.rows.put(cluster::past_key(row.epoch), row.encode());
            }
            Some(current) if current.epoch < row.epoch => {
                self.rows.put(cluster::past_key(current.epoch), current.encode());
                self.rows.put(cluster::key(), row.encode());
            }
            _ => self.rows.put(cluster::key(), row.encode()),
        }
        Ok(())
    }

    /// All versions of a record's key, in whichever bucket has had its name: the one that it speaks of may be
    /// gone, and another have its name.
    async fn of_name(&self, name: &BucketName, record: &Record) -> Result<Vec<(Bytes, VersionRow)>, Error> {
        let mut all = Vec::new();
        if let (Some(object), Some(ids)) = (&record.key, self.known.buckets.get(name)) {
            for id in ids {
                all.extend(self.versions(versions::of_key(*id, object)).await?);
            }
        }
        Ok(all)
    }

    async fn remove(&mut self, bucket: &BucketName, record: &Record) -> Result<(), Error> {
        for (key, row) in self.of_name(bucket, record).await? {
            let is_same = row.id == record.version;
            if is_same && (row.id != VersionId::Null || has_bytes_of(&row, record)) {
                self.rows.delete(key);
            }
        }
        Ok(())
    }

    /// A null version that is gone by now had taken the place of the one before it.
    async fn end_replaced(&mut self, bucket: &BucketName, record: &Record) -> Result<(), Error> {
        for (key, row) in self.of_name(bucket, record).await? {
            if row.id == VersionId::Null && !has_bytes_of(&row, record) {
                self.rows.delete(key);
            }
        }
        Ok(())
    }

    async fn remove_bucket(&mut self, name: &BucketName) -> Result<(), Error> {
        self.rows.delete(buckets::key(name));
        for id in self.known.buckets.get(name).cloned().unwrap_or_default() {
            self.known.removed_buckets.insert(id);
            self.delete_documents(id);
        }
        Ok(())
    }

    fn delete_documents(&mut self, bucket: BucketId) {
        for document in Document::ALL {
            self.rows.delete(buckets::document_key(bucket, document));
        }
    }

    /// A bucket's entry has all its documents: what is not among them is gone.
    async fn clear_documents(&mut self, name: &BucketName, rows: &[(Bytes, Bytes)]) -> Result<(), Error> {
        let row = rows.iter().find(|(key, _)| *key == buckets::key(name));
        if let Some((_, row)) = row {
            let row = BucketRow::decode(row).map_err(unreadable)?;
            self.delete_documents(row.id);
        }
        Ok(())
    }
}

/// Whether a version has the bytes that a record speaks of; a marker has none.
fn has_bytes_of(row: &VersionRow, record: &Record) -> bool {
    let (content, object) = row
        .object
        .as_ref()
        .map_or((NO_DIGEST, NO_DIGEST), |object| (object.content_root, object.object_root));
    (content, object) == (record.content_root, record.object_root)
}

/// Blobs that cannot be read.
type LostBlobs = BTreeSet<BlobId>;
