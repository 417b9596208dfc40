//! How a key's history changes: the one place that writes heads, versions and the `current` range.
//!
//! Every change of a key reads its head, checks it in the commit and writes it again, so that of racing
//! changes one wins and the others read anew. Kept in step with the head, in the same transaction: the
//! `current` row (present exactly when the newest version is an object), the null version (at most one),
//! references to manifests, and the log.

use ashlar_metadata::namespace::buckets::Versioning;
use ashlar_metadata::namespace::heads::{self, HeadRow};
use ashlar_metadata::namespace::locks::Lock;
use ashlar_metadata::namespace::manifests::ManifestId;
use ashlar_metadata::namespace::record::NO_DIGEST;
use ashlar_metadata::namespace::versions::{self, CurrentRow, LogPlace, ObjectRow, VersionRow};
use ashlar_metadata::{Direction, KeyRange, Position, Row, Snapshot};

use crate::buckets::Bucket;
use crate::conditions::{self, Doomed, Existing};
use crate::error::Error;
use crate::log::{of_mark, of_put, of_removal, stored_manifest_root};
use crate::object_lock::check_removal;
use crate::transaction::{Transaction, Versioned, decode, read};
use crate::types::{Conditions, ObjectKey, UnixMillis, VersionId};

/// Most newer versions that [`KeyState::newer`] gives from the top.
const NEWER_FROM_TOP_MAX: usize = 102;

/// A key of a bucket, as a transaction sees it.
pub(crate) struct KeyState<'a> {
    pub(crate) bucket: &'a Bucket,
    pub(crate) key: &'a ObjectKey,
    pub(crate) head: Option<Versioned<HeadRow>>,
}

/// One version found.
#[derive(Clone, Debug)]
pub(crate) struct FoundVersion {
    pub(crate) sequence: u64,
    pub(crate) row: VersionRow,
    /// Position of the commit that wrote the row.
    pub(crate) written: Position,
}

impl FoundVersion {
    pub(crate) fn new(sequence: u64, found: Versioned<VersionRow>) -> Self {
        Self { sequence, row: found.row, written: found.version }
    }

    /// Where its newest entry stands in the log; `None` where it was written before there was one.
    pub(crate) fn log_place(&self) -> Option<(u64, u32)> {
        self.row.log.map(|place| (self.written.0, place.index))
    }

    /// The object it is, with facts for conditions; `None` for a delete marker.
    pub(crate) fn existing(&self, bucket: &Bucket) -> Option<Existing> {
        self.row.object.as_ref().map(|object| Existing {
            etag: object.etag,
            modified: self.row.modified,
            version: bucket.shown(self.row.id),
        })
    }

    fn doomed(&self) -> Doomed {
        let object = self.row.object.as_ref();
        Doomed {
            etag: object.map(|o| o.etag),
            modified: self.row.modified,
            length: object.map_or(0, |o| o.length),
        }
    }
}

/// A version that a transaction makes.
pub(crate) struct NewVersion {
    pub(crate) owner: String,
    pub(crate) modified: UnixMillis,
    /// The object, whose manifest already counts this version; `None` makes a delete marker.
    pub(crate) object: Option<ObjectRow>,
    /// Commits to the manifest; of a marker it says nothing.
    pub(crate) manifest_root: [u8; 32],
    /// What keeps it from being removed.
    pub(crate) lock: Lock,
}

impl NewVersion {
    /// A delete marker.
    pub(crate) fn marker(owner: String, modified: UnixMillis) -> Self {
        Self { owner, modified, object: None, manifest_root: NO_DIGEST, lock: Lock::default() }
    }
}

/// What was planned; true once the transaction commits.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) id: VersionId,
}

impl<'a> KeyState<'a> {
    /// Reads the head.
    pub(crate) async fn read(
        snapshot: &dyn Snapshot,
        bucket: &'a Bucket,
        key: &'a ObjectKey,
    ) -> Result<Self, Error> {
        let head = read(snapshot, &heads::key(bucket.id(), key)).await?;
        Ok(Self { bucket, key, head })
    }

    /// The version with this sequence, which the head says exists.
    async fn version(&self, snapshot: &dyn Snapshot, sequence: u64) -> Result<FoundVersion, Error> {
        let found =
            read::<VersionRow>(snapshot, &versions::key(self.bucket.id(), self.key, sequence)).await?;
        let found = found
            .ok_or_else(|| Error::internal("reading a version", "the head names one that is not there"))?;
        Ok(FoundVersion::new(sequence, found))
    }

    /// The newest version or marker.
    pub(crate) async fn newest(&self, snapshot: &dyn Snapshot) -> Result<Option<FoundVersion>, Error> {
        match &self.head {
            Some(head) => self.version(snapshot, head.row.newest).await.map(Some),
            None => Ok(None),
        }
    }

    /// A version by its id.
    pub(crate) async fn by_id(
        &self,
        snapshot: &dyn Snapshot,
        id: VersionId,
    ) -> Result<Option<FoundVersion>, Error> {
        let Some(head) = &self.head else { return Ok(None) };
        let Some(sequence) = id.sequence().or(head.row.null) else { return Ok(None) };
        let found =
            read::<VersionRow>(snapshot, &versions::key(self.bucket.id(), self.key, sequence)).await?;
        Ok(found.filter(|found| found.row.id == id).map(|found| FoundVersion::new(sequence, found)))
    }

    /// The version with this sequence, if it is still there.
    pub(crate) async fn at_sequence(
        &self,
        snapshot: &dyn Snapshot,
        sequence: u64,
    ) -> Result<Option<FoundVersion>, Error> {
        let found =
            read::<VersionRow>(snapshot, &versions::key(self.bucket.id(), self.key, sequence)).await?;
        Ok(found.map(|found| FoundVersion::new(sequence, found)))
    }

    /// Versions newer than this one, newest first: the first hundred, and always the one right above.
    pub(crate) async fn newer(
        &self,
        snapshot: &dyn Snapshot,
        sequence: u64,
    ) -> Result<Vec<FoundVersion>, Error> {
        let all = KeyRange::prefix(versions::of_key(self.bucket.id(), self.key));
        let above = all.before(versions::key(self.bucket.id(), self.key, sequence));
        let reading = |e| Error::internal("looking for newer versions", e);
        let scan = snapshot.scan(above.clone(), Direction::Forward, NEWER_FROM_TOP_MAX);
        let page = scan.await.map_err(reading)?;
        let mut rows = page.rows;
        if page.more {
            rows.extend(snapshot.scan(above, Direction::Backward, 1).await.map_err(reading)?.rows);
        }
        rows.iter().map(|(key, row)| found_in(key, row)).collect()
    }

    /// Conditions of a write, on the current object.
    pub(crate) async fn check_write(
        &self,
        snapshot: &dyn Snapshot,
        conditions: &Conditions,
    ) -> Result<(), Error> {
        if !conditions::any(conditions) {
            return Ok(());
        }
        let existing = self.newest(snapshot).await?.and_then(|found| found.existing(self.bucket));
        conditions::check_write(conditions, existing.as_ref())
    }

    /// Adds a version on top.
    pub(crate) async fn plan_new(
        &self,
        transaction: &mut Transaction,
        snapshot: &dyn Snapshot,
        new: NewVersion,
    ) -> Result<Planned, Error> {
        let head_key = heads::key(self.bucket.id(), self.key);
        transaction.check_as_read(head_key.clone(), self.head.as_ref());
        let old = self.head.as_ref().map(|head| &head.row);
        let sequence = old.map_or(0, |head| head.sequence) + 1;
        let mut null = old.and_then(|head| head.null);
        let id = if self.bucket.row.versioning == Versioning::Enabled {
            VersionId::Id((u128::from(sequence) << 64) | u128::from(rand::random::<u64>()))
        } else {
            if let Some(replaced) = null.replace(sequence) {
                let replaced = self.version(snapshot, replaced).await?;
                check_removal(&replaced.row.lock, new.modified, false)?;
                self.remove_row(transaction, snapshot, &replaced).await?;
            }
            null = Some(sequence);
            VersionId::Null
        };
        transaction.put(head_key, &HeadRow { sequence, newest: sequence, null });
        self.set_current(transaction, sequence, &new.owner, new.modified, new.object.as_ref());
        let NewVersion { owner, modified, object, manifest_root, lock } = new;
        let row = VersionRow { id, modified, owner, object, lock, log: None };
        self.put_announced(transaction, sequence, row, manifest_root);
        Ok(Planned { id })
    }

    /// Removes one version for good, and the key with its last one; a locked one stays. `bypass` says that
    /// the caller may end governance.
    pub(crate) async fn plan_remove(
        &self,
        transaction: &mut Transaction,
        snapshot: &dyn Snapshot,
        found: &FoundVersion,
        now: UnixMillis,
        bypass: bool,
    ) -> Result<(), Error> {
        check_removal(&found.row.lock, now, bypass)?;
        let head =
            self.head.as_ref().ok_or_else(|| Error::internal("removing a version", "its key has no head"))?;
        let head_key = heads::key(self.bucket.id(), self.key);
        transaction.check_at(head_key.clone(), head.version);
        self.remove_row(transaction, snapshot, found).await?;
        transaction.announce(&of_removal(&self.bucket.name, self.key, &found.row, now));
        let null = head.row.null.filter(|sequence| *sequence != found.sequence);
        if head.row.newest != found.sequence {
            transaction.put(head_key, &HeadRow { null, ..head.row });
            return Ok(());
        }
        match self.next_older(snapshot, found.sequence).await? {
            None => {
                transaction.delete(head_key);
                transaction.delete(versions::current_key(self.bucket.id(), self.key));
            }
            Some(next) => {
                transaction
                    .put(head_key, &HeadRow { sequence: head.row.sequence, newest: next.sequence, null });
                self.set_current(
                    transaction,
                    next.sequence,
                    &next.row.owner,
                    next.row.modified,
                    next.row.object.as_ref(),
                );
            }
        }
        Ok(())
    }

    /// Rewrites a version's row in place (tags, ACL, lock), which announces it anew. The head is written too: it
    /// guards the whole key.
    pub(crate) async fn plan_update(
        &self,
        transaction: &mut Transaction,
        snapshot: &dyn Snapshot,
        found: &FoundVersion,
    ) -> Result<(), Error> {
        let head =
            self.head.as_ref().ok_or_else(|| Error::internal("updating a version", "its key has no head"))?;
        let head_key = heads::key(self.bucket.id(), self.key);
        transaction.check_at(head_key.clone(), head.version);
        transaction.put(head_key, &head.row);
        let manifest_root = match &found.row.object {
            Some(object) => stored_manifest_root(snapshot, object.manifest).await?,
            None => NO_DIGEST,
        };
        self.put_announced(transaction, found.sequence, found.row.clone(), manifest_root);
        Ok(())
    }

    /// Writes a version's row and announces it: the only place that writes one, so that the log has each as it is.
    fn put_announced(
        &self,
        transaction: &mut Transaction,
        sequence: u64,
        mut row: VersionRow,
        manifest_root: [u8; 32],
    ) {
        let record = match &row.object {
            Some(object) => of_put(&self.bucket.name, self.key, &row, object, manifest_root),
            None => of_mark(&self.bucket.name, self.key, &row),
        };
        row.log = Some(LogPlace { index: transaction.announce(&record) });
        transaction.put(versions::key(self.bucket.id(), self.key, sequence), &row);
    }

    /// Conditions of a deletion, on what it would remove.
    pub(crate) fn check_delete(conditions: &Conditions, found: Option<&FoundVersion>) -> Result<(), Error> {
        conditions::check_delete(conditions, found.map(FoundVersion::doomed).as_ref())
    }

    /// The version right below.
    pub(crate) async fn next_older(
        &self,
        snapshot: &dyn Snapshot,
        sequence: u64,
    ) -> Result<Option<FoundVersion>, Error> {
        let all = KeyRange::prefix(versions::of_key(self.bucket.id(), self.key));
        let older = all.after(&versions::key(self.bucket.id(), self.key, sequence));
        let page = snapshot
            .scan(older, Direction::Forward, 1)
            .await
            .map_err(|e| Error::internal("looking for an older version", e))?;
        page.rows.first().map(|(key, row)| found_in(key, row)).transpose()
    }

    async fn remove_row(
        &self,
        transaction: &mut Transaction,
        snapshot: &dyn Snapshot,
        found: &FoundVersion,
    ) -> Result<(), Error> {
        transaction.delete(versions::key(self.bucket.id(), self.key, found.sequence));
        match &found.row.object {
            Some(object) => transaction.drop_reference(snapshot, object.manifest).await,
            None => Ok(()),
        }
    }

    fn set_current(
        &self,
        transaction: &mut Transaction,
        sequence: u64,
        owner: &str,
        modified: UnixMillis,
        object: Option<&ObjectRow>,
    ) {
        let key = versions::current_key(self.bucket.id(), self.key);
        match current_row(sequence, owner, modified, object) {
            None => transaction.delete(key),
            Some(row) => transaction.put(key, &row),
        }
    }
}

/// What lists show of a key whose newest version this is; nothing of a delete marker.
pub(crate) fn current_row(
    sequence: u64,
    owner: &str,
    modified: UnixMillis,
    object: Option<&ObjectRow>,
) -> Option<CurrentRow> {
    object.map(|object| CurrentRow {
        sequence,
        manifest: object.manifest,
        etag: object.etag,
        length: object.length,
        modified,
        owner: owner.to_owned(),
        storage_class: object.attributes.storage_class.clone(),
        checksum: object.checksum.as_ref().map(|c| (c.algorithm, c.kind)),
    })
}

fn found_in(key: &[u8], row: &Row) -> Result<FoundVersion, Error> {
    let (_, sequence) = versions::parse_key(key)
        .ok_or_else(|| Error::internal("looking for a version", "its key does not read"))?;
    Ok(FoundVersion::new(sequence, decode::<VersionRow>(row)?))
}

/// A manifest's new id, from a blob's: both count in one space, so none is ever given twice.
pub(crate) fn manifest_of(blob: ashlar_metadata::namespace::blobs::BlobId) -> ManifestId {
    ManifestId(blob.0)
}
