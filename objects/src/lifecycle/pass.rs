//! One pass over all buckets with rules: finds what may be due, and gives up what is.
//!
//! The walk reads pages from snapshots and only suspects. Each suspect is judged again in the transaction
//! that removes it, by the bucket's rules and the key's head as that commit checks them: a version written,
//! tagged or locked meanwhile is judged as it then is, and a racing PUT makes the commit fail and look anew.

use std::time::Duration;

use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::buckets::{self, BucketId, BucketRow, BucketState, Document, Versioning};
use ashlar_metadata::namespace::lifecycle::{PassRow, pass_key};
use ashlar_metadata::namespace::uploads::{self, UploadRow};
use ashlar_metadata::namespace::versions::{self, VersionRow};
use ashlar_metadata::{Direction, KeyRange, Row, Snapshot};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::worker::Outcome;
use super::{LifecycleRule, Place, Subject, is_due, prefixes, upload_is_due};
use crate::Store;
use crate::buckets::Bucket;
use crate::error::Error;
use crate::object_lock::{Hindrance, hindrance};
use crate::transaction::{ATTEMPTS_MAX, Transaction, back_off, decode, read};
use crate::types::{BucketName, ObjectKey, UnixMillis};
use crate::versions::{FoundVersion, KeyState, NewVersion};

/// Rows read at a time.
const STEP_ROWS: usize = 1_000;
/// Rows looked at in a second, at most: a bucket of a hundred million versions takes under three hours.
const ROWS_PER_SECOND: u32 = 10_000;
/// Deletions that run at a time.
const DELETIONS_AT_ONCE: usize = 8;
/// Rows after which the place of a pass is stored.
const SAVE_AFTER_ROWS: usize = 20_000;

/// Something that may be due.
enum Suspect {
    Version(ObjectKey, u64),
    Upload(ObjectKey, u128),
}

/// What the walk remembers of the newer version of a key.
struct Newer {
    key: String,
    modified: UnixMillis,
    is_newest: bool,
    is_object: bool,
    objects: u32,
}

fn reading(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("looking for what lifecycle rules give up", error)
}

async fn page(snapshot: &dyn Snapshot, range: &KeyRange) -> Result<(Vec<(Bytes, Row)>, bool), Error> {
    let page = snapshot.scan(range.clone(), Direction::Forward, STEP_ROWS).await.map_err(reading)?;
    Ok((page.rows, page.more))
}

impl Store {
    /// Looks once at every bucket with rules, beginning where the last pass broke off. Safe to run at any
    /// time, by any number of processes.
    pub async fn lifecycle_pass(&self, stop: &CancellationToken) -> Result<(), Error> {
        let from = read::<PassRow>(&*self.snapshot().await?, &pass_key()).await?;
        let mut from = from.map(|found| found.row).unwrap_or_default();
        let mut range = KeyRange::prefix(buckets::prefix(""));
        if let Ok(name) = BucketName::new(&from.bucket) {
            range.start = buckets::key(&name);
        }
        loop {
            let snapshot = self.snapshot().await?;
            let (rows, more) = page(&*snapshot, &range).await?;
            let Some((last, _)) = rows.last() else { break };
            range = range.after(last);
            for name in with_rules(&*snapshot, &rows).await? {
                let key =
                    if name.as_str() == from.bucket { std::mem::take(&mut from.key) } else { String::new() };
                if let Err(error) = self.look_through(&name, &key, stop).await {
                    tracing::warn!(%error, bucket = %name, "lifecycle rules could not be followed; the next pass tries again");
                }
                if stop.is_cancelled() {
                    return Ok(());
                }
            }
            if !more {
                break;
            }
        }
        let mut transaction = Transaction::default();
        transaction.delete(pass_key());
        transaction.commit(&self.inner.kv).await?;
        self.inner.lifecycle.passed();
        Ok(())
    }

    /// Looks at versions from `from` on, then at uploads.
    async fn look_through(
        &self,
        name: &BucketName,
        from: &str,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let bucket = match self.bucket(&*self.snapshot().await?, name).await {
            Err(Error::NoSuchBucket) => return Ok(()),
            found => found?,
        };
        let Some(rules) = bucket.lifecycle.clone() else { return Ok(()) };
        let mut unsaved = 0;
        for prefix in prefixes(&rules, |rule| rule.expiration.is_some() || rule.noncurrent.is_some()) {
            let mut range = KeyRange::prefix(versions::prefix(bucket.id(), prefix));
            range.start = range.start.max(versions::prefix(bucket.id(), from));
            let mut newer = None;
            while !range.is_empty() && !stop.is_cancelled() {
                let (rows, more) = page(&*self.snapshot().await?, &range).await?;
                let Some((last, _)) = rows.last() else { break };
                range = range.after(last);
                let suspects = self.suspect_versions(&rules, &rows, &mut newer)?;
                self.give_up(name, bucket.id(), suspects).await;
                unsaved += rows.len();
                if let Some(newer) = newer.as_ref().filter(|_| unsaved >= SAVE_AFTER_ROWS) {
                    self.save_place(name, &newer.key).await?;
                    unsaved = 0;
                }
                self.rest(rows.len(), stop).await;
                if !more {
                    break;
                }
            }
        }
        for prefix in prefixes(&rules, |rule| rule.abort_uploads_after_days.is_some()) {
            let mut range = KeyRange::prefix(uploads::prefix(bucket.id(), prefix));
            while !stop.is_cancelled() {
                let (rows, more) = page(&*self.snapshot().await?, &range).await?;
                let Some((last, _)) = rows.last() else { break };
                range = range.after(last);
                let suspects = self.suspect_uploads(&rules, &rows)?;
                self.give_up(name, bucket.id(), suspects).await;
                self.rest(rows.len(), stop).await;
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn save_place(&self, bucket: &BucketName, key: &str) -> Result<(), Error> {
        let mut transaction = Transaction::default();
        transaction.put(pass_key(), &PassRow { bucket: bucket.as_str().to_owned(), key: key.to_owned() });
        transaction.commit(&self.inner.kv).await?;
        Ok(())
    }

    /// Waits so long that the walk keeps its pace.
    async fn rest(&self, rows: usize, stop: &CancellationToken) {
        self.inner.lifecycle.looked_at(rows);
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_secs(1) * rows / ROWS_PER_SECOND) => {}
        }
    }

    fn suspect_versions(
        &self,
        rules: &[LifecycleRule],
        rows: &[(Bytes, Row)],
        newer: &mut Option<Newer>,
    ) -> Result<Vec<Suspect>, Error> {
        let (now, day) = (self.inner.clock.now(), self.inner.lifecycle.day);
        let mut suspects = Vec::new();
        for (key, row) in rows {
            let (key, sequence) =
                versions::parse_key(key).ok_or_else(|| reading("a version's key does not read"))?;
            let row = decode::<VersionRow>(row)?.row;
            let is_object = row.object.is_some();
            let of_key = newer.take().filter(|newer| newer.key == key);
            let (place, objects) = match of_key {
                // Whether a marker is alone is left to the transaction.
                None => (Place::Newest { alone: true }, 0),
                Some(newer) => {
                    let objects = newer.objects + u32::from(newer.is_object && !newer.is_newest);
                    (Place::Noncurrent { since: newer.modified, newer: objects }, objects)
                }
            };
            let removes = !matches!(place, Place::Newest { .. }) || !is_object;
            let kept = removes && hindrance(&row.lock, now) != Hindrance::None;
            if is_due(rules, day, now, &Subject::of(&key, &row), row.modified, place) {
                if kept {
                    self.inner.lifecycle.count(Outcome::Locked);
                } else {
                    suspects.push(Suspect::Version(ObjectKey::new(&key)?, sequence));
                }
            }
            let is_newest = matches!(place, Place::Newest { .. });
            *newer = Some(Newer { key, modified: row.modified, is_newest, is_object, objects });
        }
        Ok(suspects)
    }

    fn suspect_uploads(&self, rules: &[LifecycleRule], rows: &[(Bytes, Row)]) -> Result<Vec<Suspect>, Error> {
        let (now, day) = (self.inner.clock.now(), self.inner.lifecycle.day);
        let mut suspects = Vec::new();
        for (key, row) in rows {
            let (_, key, upload) =
                uploads::parse_key(key).ok_or_else(|| reading("an upload's key does not read"))?;
            let initiated = decode::<UploadRow>(row)?.row.initiated;
            if upload_is_due(rules, day, now, &key, initiated) {
                suspects.push(Suspect::Upload(ObjectKey::new(&key)?, upload));
            }
        }
        Ok(suspects)
    }

    async fn give_up(&self, name: &BucketName, id: BucketId, suspects: Vec<Suspect>) {
        let all = stream::iter(suspects).for_each_concurrent(DELETIONS_AT_ONCE, |suspect| async move {
            let outcome = match &suspect {
                Suspect::Version(key, sequence) => self.give_up_version(name, id, key, *sequence).await,
                Suspect::Upload(key, upload) => self.give_up_upload(name, id, key, *upload).await,
            };
            match outcome {
                Ok(outcome) => self.inner.lifecycle.count(outcome),
                Err(error) => {
                    tracing::warn!(%error, bucket = %name, "what is due could not be removed; the next pass tries again");
                }
            }
        });
        all.await;
    }

    /// The bucket, if it is still the one that was looked through, takes writes and has rules.
    async fn bucket_with_rules(
        &self,
        snapshot: &dyn Snapshot,
        name: &BucketName,
        id: BucketId,
    ) -> Result<Option<std::sync::Arc<Bucket>>, Error> {
        match self.bucket(snapshot, name).await {
            Err(Error::NoSuchBucket) => Ok(None),
            Err(error) => Err(error),
            Ok(bucket) => {
                let fits =
                    bucket.id() == id && bucket.row.state == BucketState::Live && bucket.lifecycle.is_some();
                Ok(Some(bucket).filter(|_| fits))
            }
        }
    }

    /// Gives one version up if it is due: a current object is deleted as by a client who names no version,
    /// anything else is removed for good.
    async fn give_up_version(
        &self,
        name: &BucketName,
        id: BucketId,
        key: &ObjectKey,
        sequence: u64,
    ) -> Result<Outcome, Error> {
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let Some(bucket) = self.bucket_with_rules(&*snapshot, name, id).await? else {
                return Ok(Outcome::Kept);
            };
            let rules = bucket.lifecycle.as_deref().unwrap_or_default();
            let state = KeyState::read(&*snapshot, &bucket, key).await?;
            let Some(found) = state.at_sequence(&*snapshot, sequence).await? else {
                return Ok(Outcome::Kept);
            };
            let Some(place) = place(&*snapshot, &state, &found).await? else { return Ok(Outcome::Kept) };
            let (now, day) = (self.inner.clock.now(), self.inner.lifecycle.day);
            let subject = Subject::of(key.as_str(), &found.row);
            if !is_due(rules, day, now, &subject, found.row.modified, place) {
                return Ok(Outcome::Kept);
            }
            let is_object = found.row.object.is_some();
            let outcome = match place {
                Place::Newest { .. } if is_object => Outcome::Current,
                Place::Newest { .. } => Outcome::Marker,
                Place::Noncurrent { .. } => Outcome::Noncurrent,
            };
            let mut transaction = Transaction::default();
            bucket.check(&mut transaction);
            if outcome == Outcome::Current && bucket.row.versioning != Versioning::Off {
                let marker = NewVersion::marker(bucket.row.owner.clone(), now);
                state.plan_new(&mut transaction, &*snapshot, marker).await?;
            } else {
                match state.plan_remove(&mut transaction, &*snapshot, &found, now, false).await {
                    Err(Error::ObjectLocked) => return Ok(Outcome::Locked),
                    planned => planned?,
                }
            }
            drop(snapshot);
            if transaction.commit(&self.inner.kv).await?.is_some() {
                return Ok(outcome);
            }
        }
        Err(Error::ConditionalConflict)
    }

    /// Aborts one upload if it is due.
    async fn give_up_upload(
        &self,
        name: &BucketName,
        id: BucketId,
        key: &ObjectKey,
        upload: u128,
    ) -> Result<Outcome, Error> {
        let snapshot = self.snapshot().await?;
        let Some(bucket) = self.bucket_with_rules(&*snapshot, name, id).await? else {
            return Ok(Outcome::Kept);
        };
        let upload_key = uploads::key(bucket.id(), key, upload);
        let Some(found) = read::<UploadRow>(&*snapshot, &upload_key).await? else { return Ok(Outcome::Kept) };
        let rules = bucket.lifecycle.as_deref().unwrap_or_default();
        let (now, day) = (self.inner.clock.now(), self.inner.lifecycle.day);
        if !upload_is_due(rules, day, now, key.as_str(), found.row.initiated) {
            return Ok(Outcome::Kept);
        }
        let mut transaction = Transaction::default();
        bucket.check(&mut transaction);
        crate::multipart::plan_abort(&mut transaction, upload_key, found.version, upload);
        // Lost to a Complete, an Abort or other rules: the next pass looks at what is left.
        let committed = transaction.commit(&self.inner.kv).await?;
        Ok(committed.map_or(Outcome::Kept, |_| Outcome::Upload))
    }
}

/// The names of those buckets that have rules.
async fn with_rules(snapshot: &dyn Snapshot, rows: &[(Bytes, Row)]) -> Result<Vec<BucketName>, Error> {
    let mut names = Vec::with_capacity(rows.len());
    let mut documents = Vec::with_capacity(rows.len());
    for (key, row) in rows {
        names.push(buckets::name_of(key).ok_or_else(|| reading("a bucket's key does not read"))?);
        let row = BucketRow::decode(&row.value).map_err(reading)?;
        documents.push(buckets::document_key(row.id, Document::Lifecycle));
    }
    let keys: Vec<&[u8]> = documents.iter().map(|key| &key[..]).collect();
    let found = snapshot.get_many(&keys).await.map_err(reading)?;
    Ok(names.into_iter().zip(found).filter_map(|(name, document)| document.map(|_| name)).collect())
}

/// What a version is to its key as the snapshot has it; `None` for a marker that is not due in any place.
async fn place(
    snapshot: &dyn Snapshot,
    state: &KeyState<'_>,
    found: &FoundVersion,
) -> Result<Option<Place>, Error> {
    let Some(head) = &state.head else { return Ok(None) };
    if head.row.newest == found.sequence {
        let alone = found.row.object.is_none() && state.next_older(snapshot, found.sequence).await?.is_none();
        return Ok(Some(Place::Newest { alone }));
    }
    let newer = state.newer(snapshot, found.sequence).await?;
    let Some(next) = newer.last() else { return Ok(None) };
    let noncurrent = newer.iter().filter(|newer| newer.sequence != head.row.newest);
    let objects = noncurrent.filter(|newer| newer.row.object.is_some()).count();
    let objects = u32::try_from(objects).unwrap_or(u32::MAX);
    Ok(Some(Place::Noncurrent { since: next.row.modified, newer: objects }))
}
