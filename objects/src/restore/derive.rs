//! What a namespace needs beside what is carried, derived from the versions that came back.
//!
//! Invariant: afterwards every version that is listed has all rows that describe its bytes, a head and, where it is
//! the newest and an object, a `current` row; every manifest counts exactly its versions; what nothing refers to is
//! gone, so that the collector takes its shards; and each version's newest entry is in the outbox. Sets of ids stand in
//! memory: some 100 bytes a manifest.

use std::collections::{BTreeMap, HashMap, HashSet};

use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{self, BlobId, BlobRow, CHUNKS_PER_PAGE};
use ashlar_metadata::namespace::buckets::{self, BucketId, BucketRow, BucketState, Document};
use ashlar_metadata::namespace::heads::{self, HeadRow};
use ashlar_metadata::namespace::keys::{KeyReader, Tag};
use ashlar_metadata::namespace::log::GenerationRow;
use ashlar_metadata::namespace::manifests::{
    self, ManifestId, ManifestRow, ManifestState, PARTS_PER_PAGE, PartRef, PartsPage,
};
use ashlar_metadata::namespace::record::{NO_DIGEST, Record};
use ashlar_metadata::namespace::users::{self, UserNameRow, UserRow, UserState};
use ashlar_metadata::namespace::versions::{self, LogPlace, VersionRow};
use ashlar_metadata::namespace::{cluster, log, outbox};
use ashlar_metadata::{KeyRange, Write};
use bytes::Bytes;

use super::overlay::Overlay;
use super::{Known, Loss, LostBlobs, LostVersion, RESTORING, Restored};
use crate::clock::Clock;
use crate::error::Error;
use crate::log::{manifest_root, of_bucket, of_cluster_map, of_mark, of_put, rows_digest};
use crate::types::{BucketName, ObjectKey, VersionId};
use crate::versions::current_row;

/// Entries that one commit announces.
const ANNOUNCED_STEP: u32 = 1_000;
/// Writes after which a commit is made.
const WRITES_STEP: usize = 5_000;

/// What is written, in commits of whole keys, with the entries that announce it.
struct Out {
    rows: Overlay,
    writes: Vec<Write>,
    entries: u32,
}

impl Out {
    fn put<R: NamespaceRow>(&mut self, key: Bytes, row: &R) {
        self.writes.push(Write::Put { key, value: row.encode() });
    }

    fn delete(&mut self, key: Bytes) {
        self.writes.push(Write::Delete { key });
    }

    /// Which of its commit's entries it will be.
    fn announce(&mut self, record: &Record) -> u32 {
        let index = self.entries;
        self.entries += 1;
        let (key_prefix, key_suffix) = (outbox::prefix(), outbox::suffix(index));
        self.writes.push(Write::PutAtPosition { key_prefix, key_suffix, value: outbox::encode(record) });
        index
    }

    async fn step(&mut self) -> Result<(), Error> {
        if self.entries >= ANNOUNCED_STEP || self.writes.len() >= WRITES_STEP {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.entries = 0;
        let writes = std::mem::take(&mut self.writes);
        if writes.is_empty() { Ok(()) } else { self.rows.commit(writes).await }
    }
}

/// What the walk over versions knows.
struct Derived<'a> {
    out: Out,
    clock: &'a Clock,
    lost_blobs: &'a LostBlobs,
    known: &'a Known,
    buckets: BTreeMap<BucketId, BucketName>,
    references: HashMap<ManifestId, u64>,
    blobs: HashSet<BlobId>,
    owners: HashSet<String>,
    restored: Restored,
}

/// Does all of it.
pub(super) async fn derive(
    rows: Overlay,
    clock: &Clock,
    lost_blobs: &LostBlobs,
    known: &Known,
    generation: &GenerationRow,
) -> Result<Restored, Error> {
    let out = Out { rows, writes: Vec::new(), entries: 0 };
    let mut derived = Derived {
        out,
        clock,
        lost_blobs,
        known,
        buckets: BTreeMap::new(),
        references: HashMap::new(),
        blobs: HashSet::new(),
        owners: HashSet::new(),
        restored: Restored::default(),
    };
    derived.cluster_map().await?;
    derived.buckets().await?;
    derived.versions().await?;
    derived.manifests().await?;
    derived.blobs().await?;
    derived.users().await?;
    derived.out.put(log::generation_key(), generation);
    derived.out.flush().await?;
    Ok(derived.restored)
}

fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal(RESTORING, error)
}

fn of_tag(tag: Tag) -> KeyRange {
    KeyRange::prefix(Bytes::from(vec![tag as u8]))
}

impl Derived<'_> {
    async fn cluster_map(&mut self) -> Result<(), Error> {
        let map = self.out.rows.get(&cluster::key()).await?;
        let map = map.ok_or_else(|| unreadable("the log has no cluster map"))?;
        self.out.announce(&of_cluster_map(&map, self.clock.now()));
        Ok(())
    }

    async fn buckets(&mut self) -> Result<(), Error> {
        let mut range = Some(of_tag(Tag::Bucket));
        while let Some(rest) = range {
            let (rows, next) = self.out.rows.page(rest).await?;
            range = next;
            for (key, value) in rows {
                let row = BucketRow::decode(&value).map_err(unreadable)?;
                let name =
                    buckets::name_of(&key).ok_or_else(|| unreadable("a bucket's key does not read"))?;
                let row = BucketRow { state: BucketState::Live, ..row };
                self.owners.insert(row.owner.clone());
                let mut of_bucket_rows = vec![(key.clone(), row.encode())];
                for document in Document::ALL {
                    let key = buckets::document_key(row.id, document);
                    let text = self.out.rows.get(&key).await?;
                    of_bucket_rows.extend(text.map(|text| (key, text)));
                }
                self.out.put(key, &row);
                let digest = rows_digest(&of_bucket_rows);
                self.out.announce(&of_bucket(&name, digest, self.clock.now()));
                self.buckets.insert(row.id, name);
                self.restored.buckets += 1;
                self.out.step().await?;
            }
        }
        let value = Bytes::copy_from_slice(&self.known.last_bucket.to_be_bytes());
        self.out.writes.push(Write::Put { key: buckets::last_id_key(), value });
        Ok(())
    }

    /// Versions, key by key.
    async fn versions(&mut self) -> Result<(), Error> {
        let mut range = Some(of_tag(Tag::Version));
        let mut of_key: Option<(Bytes, Vec<(u64, VersionRow)>)> = None;
        while let Some(rest) = range {
            let (rows, next) = self.out.rows.page(rest).await?;
            range = next;
            for (key, value) in rows {
                let row = VersionRow::decode(&value).map_err(unreadable)?;
                let sequence = versions::parse_key(&key);
                let (_, sequence) = sequence.ok_or_else(|| unreadable("a version's key does not read"))?;
                let prefix = key.slice(..key.len() - 8);
                match &mut of_key {
                    Some((same, versions)) if *same == prefix => versions.push((sequence, row)),
                    _ => {
                        if let Some((key, versions)) = of_key.replace((prefix, vec![(sequence, row)])) {
                            self.key(&key, versions).await?;
                        }
                    }
                }
            }
        }
        match of_key {
            Some((key, versions)) => self.key(&key, versions).await,
            None => Ok(()),
        }
    }

    /// All versions of one key, the newest first.
    async fn key(&mut self, prefix: &Bytes, found: Vec<(u64, VersionRow)>) -> Result<(), Error> {
        let (bucket, object) = parse(prefix).ok_or_else(|| unreadable("a version's key does not read"))?;
        let highest = found.first().map_or(0, |(sequence, _)| *sequence);
        let mut null = None;
        let mut kept: Vec<(u64, VersionRow)> = Vec::with_capacity(found.len());
        for (sequence, row) in found {
            // Of two null versions the newer took the other's place.
            let is_replaced = row.id == VersionId::Null && null.is_some();
            let loss = match self.buckets.contains_key(&bucket) {
                false => Some(Loss::Bucket),
                true => self.loss(&row).await?,
            };
            if is_replaced || loss.is_some() {
                self.out.delete(versions::key(bucket, &object, sequence));
                let is_told = !is_replaced && !self.known.removed_buckets.contains(&bucket);
                if let (Some(reason), true) = (loss, is_told) {
                    self.lose(bucket, &object, &row, reason);
                }
                self.out.step().await?;
                continue;
            }
            if row.id == VersionId::Null {
                null = Some(sequence);
            }
            kept.push((sequence, row));
        }
        let Some((newest, row)) = kept.first() else { return self.out.step().await };
        let head = HeadRow { sequence: highest, newest: *newest, null };
        self.out.put(heads::key(bucket, &object), &head);
        if let Some(current) = current_row(*newest, &row.owner, row.modified, row.object.as_ref()) {
            self.out.put(versions::current_key(bucket, &object), &current);
            self.restored.objects += 1;
        }
        for (sequence, row) in kept {
            self.announce(bucket, &object, sequence, row).await?;
            // A key may have more versions than a commit takes; nobody sees one without the others.
            self.out.step().await?;
        }
        Ok(())
    }

    /// Writes a version with its entry, and counts what it refers to.
    async fn announce(
        &mut self,
        bucket: BucketId,
        object: &ObjectKey,
        sequence: u64,
        row: VersionRow,
    ) -> Result<(), Error> {
        let name = self.buckets.get(&bucket).expect("versions of unknown buckets are left out");
        let mut root = NO_DIGEST;
        if let Some(object) = &row.object {
            let parts = self.parts(object.manifest).await?;
            let parts = parts.ok_or_else(|| unreadable("a manifest went meanwhile"))?;
            root = manifest_root(&parts);
            *self.references.entry(object.manifest).or_default() += 1;
            self.blobs.extend(parts.iter().map(|part| part.blob));
            self.restored.bytes += object.length;
        }
        let record = match &row.object {
            Some(stored) => of_put(name, object, &row, stored, root),
            None => of_mark(name, object, &row),
        };
        let index = self.out.announce(&record);
        self.owners.insert(row.owner.clone());
        self.out.put(
            versions::key(bucket, object, sequence),
            &VersionRow { log: Some(LogPlace { index }), ..row },
        );
        self.restored.versions += 1;
        Ok(())
    }

    fn lose(&mut self, bucket: BucketId, key: &ObjectKey, row: &VersionRow, reason: Loss) {
        let name = self.buckets.get(&bucket);
        let lost = LostVersion {
            bucket: name.map_or_else(|| format!("bucket {}", bucket.0), ToString::to_string),
            key: key.to_string(),
            version: row.id.to_string(),
            length: row.object.as_ref().map_or(0, |object| object.length),
            reason,
        };
        self.restored.lost.push(lost);
    }

    /// Why a version cannot come back, if so.
    async fn loss(&self, row: &VersionRow) -> Result<Option<Loss>, Error> {
        let Some(object) = &row.object else { return Ok(None) };
        let Some(parts) = self.parts(object.manifest).await? else { return Ok(Some(Loss::Rows)) };
        for part in &parts {
            if self.lost_blobs.contains(&part.blob) {
                return Ok(Some(Loss::Shards));
            }
            if !self.blobs.contains(&part.blob) && !self.has_blob(part.blob).await? {
                return Ok(Some(Loss::Rows));
            }
        }
        Ok(None)
    }

    /// All parts of a manifest, if all its pages are there.
    async fn parts(&self, id: ManifestId) -> Result<Option<Vec<PartRef>>, Error> {
        let Some(row) = self.out.rows.get(&manifests::key(id)).await? else { return Ok(None) };
        let row = ManifestRow::decode(&row).map_err(unreadable)?;
        let mut parts = row.parts;
        for page in 1..row.part_count.div_ceil(PARTS_PER_PAGE).max(1) {
            let Some(page) = self.out.rows.get(&manifests::page_key(id, page)).await? else {
                return Ok(None);
            };
            parts.extend(PartsPage::decode(&page).map_err(unreadable)?.0);
        }
        Ok(Some(parts))
    }

    /// Whether a blob has all its pages.
    async fn has_blob(&self, id: BlobId) -> Result<bool, Error> {
        let Some(row) = self.out.rows.get(&blobs::key(id)).await? else { return Ok(false) };
        let row = BlobRow::decode(&row).map_err(unreadable)?;
        for page in 1..row.chunk_count.div_ceil(CHUNKS_PER_PAGE).max(1) {
            if self.out.rows.get(&blobs::page_key(id, page)).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn manifests(&mut self) -> Result<(), Error> {
        let mut range = Some(of_tag(Tag::Manifest));
        while let Some(rest) = range {
            let (rows, next) = self.out.rows.page(rest).await?;
            range = next;
            for (key, value) in rows {
                let row = ManifestRow::decode(&value).map_err(unreadable)?;
                let id =
                    manifests::parse_key(&key).ok_or_else(|| unreadable("a manifest's key does not read"))?;
                let references = self.references.get(&id).copied().unwrap_or(0);
                if references == 0 {
                    self.out.delete(key);
                } else {
                    self.out.put(key, &ManifestRow { references, state: ManifestState::Live, ..row });
                }
                self.out.step().await?;
            }
        }
        let is_used = |key: &Bytes, this: &Self| {
            manifests::parse_page_key(key).is_some_and(|(id, _)| this.references.contains_key(&id))
        };
        self.keep_only(Tag::ManifestParts, is_used).await
    }

    async fn blobs(&mut self) -> Result<(), Error> {
        let is_used =
            |key: &Bytes, this: &Self| blobs::parse_key(key).is_some_and(|id| this.blobs.contains(&id));
        self.keep_only(Tag::Blob, is_used).await?;
        let is_used = |key: &Bytes, this: &Self| {
            let mut reader = KeyReader::new(key, Tag::ChunkPage);
            let blob = reader.as_mut().and_then(KeyReader::u128);
            blob.is_some_and(|blob| this.blobs.contains(&BlobId(blob)))
        };
        self.keep_only(Tag::ChunkPage, is_used).await
    }

    async fn keep_only(&mut self, tag: Tag, is_used: impl Fn(&Bytes, &Self) -> bool) -> Result<(), Error> {
        let mut range = Some(of_tag(tag));
        while let Some(rest) = range {
            let (rows, next) = self.out.rows.page(rest).await?;
            range = next;
            for (key, _) in rows {
                if !is_used(&key, self) {
                    self.out.delete(key);
                }
            }
            self.out.step().await?;
        }
        Ok(())
    }

    /// Users keep ids and names; keys are made anew by whoever administers.
    async fn users(&mut self) -> Result<(), Error> {
        let mut range = Some(of_tag(Tag::User));
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let mut known: HashSet<String> = HashSet::new();
        while let Some(rest) = range {
            let (rows, next) = self.out.rows.page(rest).await?;
            range = next;
            for (key, value) in rows {
                let Some(id) = users::id_of(&key) else {
                    // A name: they are derived below.
                    self.out.delete(key);
                    continue;
                };
                let row = UserRow::decode(&value).map_err(unreadable)?;
                let row = UserRow { access_keys: Vec::new(), state: UserState::Active, ..row };
                let name = free_name(&names, &row.name, &id);
                names.insert(name.to_lowercase(), id.clone());
                self.out.put(users::key(&id), &UserRow { name, ..row });
                known.insert(id);
                self.restored.users += 1;
            }
        }
        let owners = std::mem::take(&mut self.owners);
        for id in owners.into_iter().filter(|id| !id.is_empty() && !known.contains(id)) {
            let name = free_name(&names, "recovered", &id);
            names.insert(name.to_lowercase(), id.clone());
            let created = self.clock.now();
            let row =
                UserRow { name, root: false, created, state: UserState::Active, access_keys: Vec::new() };
            self.out.put(users::key(&id), &row);
            self.restored.users += 1;
            self.restored.nameless_users += 1;
        }
        // After all deletions of names: the last write of a key counts.
        self.out.flush().await?;
        for (name, id) in names {
            self.out.put(users::name_key(&name), &UserNameRow { id });
        }
        self.out.step().await
    }
}

/// The name, or the name with the beginning of the id where somebody else has it.
fn free_name(taken: &BTreeMap<String, String>, name: &str, id: &str) -> String {
    let short: String = id.chars().take(8).collect();
    if name != "recovered" && !taken.contains_key(&name.to_lowercase()) {
        return name.to_owned();
    }
    format!("{name}-{short}")
}

/// Bucket and object in the part of a version's key that all versions of the object share.
fn parse(prefix: &Bytes) -> Option<(BucketId, ObjectKey)> {
    let mut reader = KeyReader::new(prefix, Tag::Version)?;
    let bucket = reader.u64()?;
    let key = reader.text()?;
    reader.end()?;
    Some((BucketId(bucket), ObjectKey::new(&key).ok()?))
}
