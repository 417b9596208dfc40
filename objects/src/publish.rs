//! Publish groups: objects staged where nobody sees them, then visible all at once.
//!
//! A staged object's manifest counts the staging row as its one reference; publishing hands that reference
//! to the version. So an abandoned group leaves manifests that nothing refers to, in the same transaction
//! that removes its rows.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ashlar_chunker::{ContentRoot, Digest, ObjectRoot};
use ashlar_metadata::namespace::buckets::{BucketState, Versioning};
use ashlar_metadata::namespace::manifests::{self, ManifestRow};
pub use ashlar_metadata::namespace::publish::GROUP_OBJECTS_MAX;
use ashlar_metadata::namespace::publish::{self, GroupRow, StagedRow};
use ashlar_metadata::namespace::versions::ObjectRow;
use ashlar_metadata::{Direction, KeyRange, Snapshot};

use crate::Store;
use crate::access::{Action, Principal, RequestContext};
use crate::attributes::{OBJECT_TAGS_MAX, check_attributes, check_tags};
use crate::buckets::{Bucket, writer};
use crate::error::Error;
use crate::get::all_parts;
use crate::leases::Pinned;
use crate::log::{Logged, manifest_root};
use crate::object_lock::{Lock, of_new_version};
use crate::payload::Received;
use crate::pinning::PinnedObject;
use crate::put::{expiration, object_acl, plain_object, put_manifest, written};
use crate::requests::{ObjectHead, ObjectName, PutObject, Written};
use crate::transaction::{ATTEMPTS_MAX, Transaction, Versioned, back_off, decode, read};
use crate::types::{BucketName, ETag, ObjectKey, PUT_BYTES_MAX, VersionId};
use crate::versions::{KeyState, NewVersion};

/// Staged objects given up by one transaction.
const ABANDON_STEP: usize = 1_000;
/// Manifests read at a time.
const MANIFESTS_STEP: usize = 1_000;

/// A group's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId(pub u128);

/// What must hold for a group to be published.
#[derive(Clone, Debug)]
pub enum Precondition {
    /// The key has no current object.
    Absent(BucketName, ObjectKey),
    /// The key's newest version is this one.
    Newest(BucketName, ObjectKey, VersionId),
    /// The key's current object has this entity tag. Of a bucket without versions it says what a version's id
    /// cannot: that nobody wrote other bytes.
    Unchanged(BucketName, ObjectKey, ETag),
}

/// What a publish does, and under which conditions.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// All must hold.
    pub preconditions: Vec<Precondition>,
    /// Keys that are deleted as a DELETE without a version does: what is not there is deleted already.
    pub removals: Vec<(BucketName, ObjectKey)>,
    /// Keys, staged or removed, that Ashlar itself changes for the caller, who may not: whoever names them answers for
    /// that. They must lie in a bucket of Ashlar's own.
    pub as_system: HashSet<(BucketName, ObjectKey)>,
}

impl Publish {
    /// As whom a key is changed.
    fn identity<'a>(
        &self,
        at: &(BucketName, ObjectKey),
        bucket: &Bucket,
        cx: &'a RequestContext,
        system: &'a RequestContext,
    ) -> Result<&'a RequestContext, Error> {
        if !self.as_system.contains(at) {
            return Ok(cx);
        }
        // Another may have taken the name since.
        if bucket.row.owner == writer(system) { Ok(system) } else { Err(Error::AccessDenied) }
    }
}

/// One published object.
#[derive(Clone, Debug)]
pub struct Published {
    /// Where it is.
    pub bucket: BucketName,
    /// Its key.
    pub key: ObjectKey,
    /// What a PUT would have answered.
    pub written: Written,
}

fn may_use(cx: &RequestContext, group: &GroupRow) -> bool {
    match &cx.principal {
        Principal::System => true,
        Principal::User(user) => user.root || user.id == group.owner,
        Principal::Anonymous => false,
    }
}

impl Store {
    /// Begins a group. One that is neither published nor abandoned within a day is dropped.
    pub async fn begin_group(&self, cx: &RequestContext) -> Result<GroupId, Error> {
        if cx.principal == Principal::Anonymous {
            return Err(Error::AccessDenied);
        }
        let group = GroupId(rand::random());
        let mut transaction = Transaction::default();
        let key = publish::key(group.0);
        transaction.check_absent(key.clone());
        transaction.put(key, &GroupRow { owner: writer(cx), begun: self.inner.clock.now(), staged: 0 });
        transaction.commit(&self.inner.kv).await?.ok_or(Error::ConditionalConflict)?;
        Ok(group)
    }

    async fn group(
        &self,
        snapshot: &dyn Snapshot,
        cx: &RequestContext,
        group: GroupId,
    ) -> Result<Versioned<GroupRow>, Error> {
        let found = read::<GroupRow>(snapshot, &publish::key(group.0)).await?;
        found
            .filter(|found| may_use(cx, &found.row))
            .ok_or(Error::InvalidRequest { reason: "the publish group does not exist".into() })
    }

    /// Stores an object in a group: durable, and seen by no list or get before the group is published. The
    /// request's conditions are ignored; publishing has its own. A lock cannot be asked for: a published
    /// version takes its bucket's default retention. The same key again replaces it.
    pub async fn stage(&self, cx: &RequestContext, group: GroupId, request: PutObject) -> Result<(), Error> {
        check_attributes(&request.attributes)?;
        check_tags(&request.tags, OBJECT_TAGS_MAX)?;
        if !request.lock.is_unset() {
            return Err(Error::InvalidRequest { reason: "a staged object takes no lock of its own".into() });
        }
        let snapshot = self.snapshot().await?;
        self.group(&*snapshot, cx, group).await?;
        let bucket = self.bucket(&*snapshot, &request.bucket).await?;
        self.authorize_new_object(cx, &bucket, &request.key, &request.tags)?;
        let (_, acl) = object_acl(cx, &bucket, request.acl.as_ref())?;
        drop(snapshot);
        let Received { blob, checksum } = self.receive(request.payload, PUT_BYTES_MAX).await?;
        let (store, cx) = (self.clone(), cx.clone());
        let (bucket_name, key, attributes, tags) =
            (request.bucket, request.key, request.attributes, request.tags);
        self.detached(async move {
            let plain = plain_object(&blob)?;
            let object = ObjectRow {
                manifest: plain.manifest,
                length: blob.row.length,
                etag: ETag::Md5(blob.md5),
                checksum,
                attributes,
                tags,
                acl,
                object_root: plain.object_root.0.0,
                content_root: plain.content_root.0.0,
            };
            let staged_key = publish::staged_key(group.0, bucket_name.as_str(), key.as_str());
            for attempt in 0..ATTEMPTS_MAX {
                back_off(attempt).await;
                let snapshot = store.snapshot().await?;
                let found = store.group(&*snapshot, &cx, group).await?;
                let replaced = read::<StagedRow>(&*snapshot, &staged_key).await?;
                let mut row = found.row;
                let mut transaction = Transaction::default();
                transaction.check_at(publish::key(group.0), found.version);
                transaction.check_as_read(staged_key.clone(), replaced.as_ref());
                match &replaced {
                    Some(replaced) => {
                        transaction.drop_reference(&*snapshot, replaced.row.object.manifest).await?
                    }
                    None => row.staged += 1,
                }
                if usize::try_from(row.staged).is_ok_and(|staged| staged > GROUP_OBJECTS_MAX) {
                    return Err(Error::InvalidRequest {
                        reason: format!("a publish group holds at most {GROUP_OBJECTS_MAX} objects"),
                    });
                }
                transaction.put(publish::key(group.0), &row);
                transaction.put_blob(&blob);
                put_manifest(&mut transaction, plain.manifest, &plain.manifest_row, &[]);
                transaction.put(
                    staged_key.clone(),
                    &StagedRow { bucket: bucket_name.as_str().to_owned(), object: object.clone() },
                );
                if transaction.commit(&store.inner.kv).await?.is_some() {
                    return Ok(());
                }
            }
            Err(Error::ConditionalConflict)
        })
        .await
    }

    /// Makes every staged object of a group visible in one transaction, if all preconditions hold. Each is an
    /// entry of the log; the first alone comes with a receipt, which is of the commit that made all visible. It
    /// waits for what the most demanding of the buckets asks.
    pub async fn publish(
        &self,
        cx: &RequestContext,
        group: GroupId,
        preconditions: Vec<Precondition>,
    ) -> Result<Vec<Published>, Error> {
        self.publish_and_remove(cx, group, Publish { preconditions, ..Publish::default() }).await
    }

    /// The same, and in the same transaction removes keys. Every change is authorised anew, as the buckets are then.
    /// Staged objects and removals together are at most [`GROUP_OBJECTS_MAX`].
    pub async fn publish_and_remove(
        &self,
        cx: &RequestContext,
        group: GroupId,
        publish: Publish,
    ) -> Result<Vec<Published>, Error> {
        let (store, cx) = (self.clone(), cx.clone());
        let done = self.detached(async move {
            for attempt in 0..ATTEMPTS_MAX {
                back_off(attempt).await;
                if let Some(published) = store.publish_once(&cx, group, &publish).await? {
                    return Ok(published);
                }
            }
            Err(Error::ConditionalConflict)
        });
        let (published, logged) = done.await?;
        self.until_durable(&logged).await?;
        Ok(published)
    }

    async fn publish_once(
        &self,
        cx: &RequestContext,
        group: GroupId,
        request: &Publish,
    ) -> Result<Option<(Vec<Published>, Logged)>, Error> {
        let Publish { preconditions, removals, .. } = request;
        let system = RequestContext { principal: Principal::System, ..cx.clone() };
        let snapshot = self.snapshot().await?;
        let found = self.group(&*snapshot, cx, group).await?;
        let staged = staged(&*snapshot, group).await?;
        if u64::try_from(staged.len()).ok() != Some(found.row.staged) {
            // A group is given up in steps; what is left of it is not what was staged.
            return Err(Error::InvalidRequest { reason: "the publish group is being given up".into() });
        }
        let mut buckets: BTreeMap<BucketName, Arc<Bucket>> = BTreeMap::new();
        let mut transaction = Transaction::default();
        transaction.check_at(publish::key(group.0), found.version);
        transaction.delete(publish::key(group.0));
        for precondition in preconditions {
            self.require(&*snapshot, &mut transaction, &mut buckets, precondition).await?;
        }
        if staged.len() + removals.len() > GROUP_OBJECTS_MAX {
            return Err(Error::InvalidRequest {
                reason: format!("one publish changes at most {GROUP_OBJECTS_MAX} objects"),
            });
        }
        let modified = self.inner.clock.now();
        let roots = manifest_roots(&*snapshot, &staged).await?;
        let mut planned = Vec::with_capacity(staged.len());
        for ((bucket_name, key, row), manifest_root) in staged.into_iter().zip(roots) {
            let bucket = self.bucket_once(&*snapshot, &mut buckets, &bucket_name).await?;
            let at = (bucket_name, key);
            let cx = request.identity(&at, &bucket, cx, &system)?;
            let (bucket_name, key) = at;
            self.authorize_new_object(cx, &bucket, &key, &row.object.tags)?;
            let (owner, _) = object_acl(cx, &bucket, None)?;
            let state = KeyState::read(&*snapshot, &bucket, &key).await?;
            let lock = of_new_version(Lock::default(), bucket.object_lock.as_ref(), modified);
            let new = NewVersion { owner, modified, object: Some(row.object.clone()), manifest_root, lock };
            let version = state.plan_new(&mut transaction, &*snapshot, new).await?;
            transaction.delete(publish::staged_key(group.0, bucket_name.as_str(), key.as_str()));
            planned.push((bucket, key, row.object, version));
        }
        let keys_written: HashSet<_> = planned.iter().map(|(into, key, ..)| (&into.name, key)).collect();
        for at in removals {
            let bucket = self.bucket_once(&*snapshot, &mut buckets, &at.0).await?;
            if keys_written.contains(&(&at.0, &at.1)) {
                return Err(Error::InvalidRequest { reason: "a key is both written and removed".into() });
            }
            let cx = request.identity(at, &bucket, cx, &system)?;
            self.plan_removal(cx, &*snapshot, &mut transaction, &bucket, &at.1).await?;
        }
        drop(keys_written);
        drop(snapshot);
        if let Some(deleting) = buckets.values().find(|bucket| bucket.row.state == BucketState::Deleting) {
            // As every write does; else both would succeed and the objects be lost.
            self.call_off_deletion(deleting).await?;
            return Ok(None);
        }
        for bucket in buckets.values() {
            bucket.check(&mut transaction);
        }
        let level = buckets.values().map(|bucket| bucket.durable_when).max().unwrap_or_default();
        let Some(logged) = self.commit_logged(transaction, level).await? else { return Ok(None) };
        let mut of_one = logged.clone();
        let published = planned.into_iter().map(|(bucket, key, object, version)| {
            let expiration = expiration(&bucket, &key, &object, modified);
            let written = written(&object, bucket.shown(version.id), modified, expiration, &of_one);
            of_one.receipt = None;
            Published { bucket: bucket.name.clone(), key, written }
        });
        let published = published.collect();
        Ok(Some((published, logged)))
    }

    async fn bucket_once(
        &self,
        snapshot: &dyn Snapshot,
        buckets: &mut BTreeMap<BucketName, Arc<Bucket>>,
        name: &BucketName,
    ) -> Result<Arc<Bucket>, Error> {
        if let Some(bucket) = buckets.get(name) {
            return Ok(Arc::clone(bucket));
        }
        let bucket = self.bucket(snapshot, name).await?;
        buckets.insert(name.clone(), Arc::clone(&bucket));
        Ok(bucket)
    }

    async fn require(
        &self,
        snapshot: &dyn Snapshot,
        transaction: &mut Transaction,
        buckets: &mut BTreeMap<BucketName, Arc<Bucket>>,
        precondition: &Precondition,
    ) -> Result<(), Error> {
        let (name, key) = match precondition {
            Precondition::Absent(name, key)
            | Precondition::Newest(name, key, _)
            | Precondition::Unchanged(name, key, _) => (name, key),
        };
        let bucket = self.bucket_once(snapshot, buckets, name).await?;
        let state = KeyState::read(snapshot, &bucket, key).await?;
        let newest = state.newest(snapshot).await?.map(|found| found.row);
        let holds = match precondition {
            Precondition::Absent(..) => newest.is_none_or(|row| row.object.is_none()),
            Precondition::Newest(.., id) => newest.is_some_and(|row| row.id == *id),
            Precondition::Unchanged(.., etag) => {
                newest.and_then(|row| row.object).is_some_and(|object| object.etag == *etag)
            }
        };
        if !holds {
            return Err(Error::PreconditionFailed { condition: "publish" });
        }
        let head = ashlar_metadata::namespace::heads::key(bucket.id(), key);
        transaction.check_as_read(head, state.head.as_ref());
        Ok(())
    }

    /// One DELETE without a version, as part of a publish.
    async fn plan_removal(
        &self,
        cx: &RequestContext,
        snapshot: &dyn Snapshot,
        transaction: &mut Transaction,
        bucket: &Bucket,
        key: &ObjectKey,
    ) -> Result<(), Error> {
        let name = ObjectName::current(&bucket.name, key);
        self.authorize_object(cx, Action::DeleteObject, bucket, &name, None, None)?;
        let state = KeyState::read(snapshot, bucket, key).await?;
        let Some(found) = state.newest(snapshot).await? else { return Ok(()) };
        let now = self.inner.clock.now();
        if bucket.row.versioning == Versioning::Off {
            return state.plan_remove(transaction, snapshot, &found, now, false).await;
        }
        if found.row.object.is_some() {
            let marker = NewVersion::marker(bucket.row.owner.clone(), now);
            state.plan_new(transaction, snapshot, marker).await?;
        }
        Ok(())
    }

    /// Takes a staged object out of its group again; one that is not there is out already.
    pub async fn unstage(
        &self,
        cx: &RequestContext,
        group: GroupId,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<(), Error> {
        let staged_key = publish::staged_key(group.0, bucket.as_str(), key.as_str());
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let snapshot = self.snapshot().await?;
            let found = self.group(&*snapshot, cx, group).await?;
            let Some(staged) = read::<StagedRow>(&*snapshot, &staged_key).await? else { return Ok(()) };
            let row = GroupRow { staged: found.row.staged.saturating_sub(1), ..found.row };
            let mut transaction = Transaction::default();
            transaction.check_at(publish::key(group.0), found.version);
            transaction.check_at(staged_key.clone(), staged.version);
            transaction.drop_reference(&*snapshot, staged.row.object.manifest).await?;
            transaction.delete(staged_key.clone());
            transaction.put(publish::key(group.0), &row);
            if transaction.commit(&self.inner.kv).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::ConditionalConflict)
    }

    /// What a group has staged, for who fills it to read before it is published. It stays as long as the group.
    pub async fn pin_staged(&self, cx: &RequestContext, group: GroupId) -> Result<Vec<PinnedObject>, Error> {
        let snapshot = self.snapshot().await?;
        self.group(&*snapshot, cx, group).await?;
        let staged = staged(&*snapshot, group).await?;
        let mut pinned = Vec::with_capacity(staged.len());
        for (bucket, key, StagedRow { object, .. }) in staged {
            let manifest = read::<ManifestRow>(&*snapshot, &manifests::key(object.manifest)).await?;
            let manifest =
                manifest.ok_or_else(|| Error::internal("reading staged objects", "one has no manifest"))?;
            let parts = all_parts(&*snapshot, object.manifest, manifest.row).await?;
            let head = ObjectHead {
                etag: object.etag,
                length: object.length,
                modified: self.inner.clock.now(),
                version: None,
                attributes: object.attributes,
                tag_count: object.tags.0.len(),
                checksum: object.checksum,
                parts: Arc::from([]),
                owner: writer(cx),
                object_root: ObjectRoot(Digest(object.object_root)),
                content_root: ContentRoot(Digest(object.content_root)),
            };
            let object = Pinned { head, manifest: object.manifest, parts };
            pinned.push(PinnedObject { bucket, key, pinned: object });
        }
        Ok(pinned)
    }

    /// Whether a publish of this caller's could remove the key.
    pub async fn may_remove(
        &self,
        cx: &RequestContext,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<(), Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, bucket).await?;
        let name = ObjectName::current(&bucket.name, key);
        self.authorize_object(cx, Action::DeleteObject, &bucket, &name, None, None)
    }

    /// Gives a group up; what it staged becomes garbage.
    pub async fn abandon(&self, cx: &RequestContext, group: GroupId) -> Result<(), Error> {
        let snapshot = self.snapshot().await?;
        self.group(&*snapshot, cx, group).await?;
        drop(snapshot);
        self.drop_group(group).await
    }

    pub(crate) async fn drop_group(&self, group: GroupId) -> Result<(), Error> {
        loop {
            let snapshot = self.snapshot().await?;
            let Some(found) = read::<GroupRow>(&*snapshot, &publish::key(group.0)).await? else {
                return Ok(());
            };
            let page = snapshot
                .scan(KeyRange::prefix(publish::staged_prefix(group.0)), Direction::Forward, ABANDON_STEP)
                .await
                .map_err(|e| Error::internal("reading staged objects", e))?;
            let mut transaction = Transaction::default();
            transaction.check_at(publish::key(group.0), found.version);
            for (key, row) in &page.rows {
                let row = decode::<StagedRow>(row)?.row;
                transaction.drop_reference(&*snapshot, row.object.manifest).await?;
                transaction.delete(key.clone());
            }
            if page.more {
                // The group's row is written again, so that whoever stages or publishes meanwhile notices.
                transaction.put(publish::key(group.0), &found.row);
            } else {
                transaction.delete(publish::key(group.0));
            }
            if transaction.commit(&self.inner.kv).await?.is_some() && !page.more {
                return Ok(());
            }
        }
    }
}

/// The root of each staged object's manifest.
async fn manifest_roots(
    snapshot: &dyn Snapshot,
    staged: &[(BucketName, ObjectKey, StagedRow)],
) -> Result<Vec<[u8; 32]>, Error> {
    const READING: &str = "reading the manifests of staged objects";
    let mut roots = Vec::with_capacity(staged.len());
    for step in staged.chunks(MANIFESTS_STEP) {
        let keys: Vec<_> = step.iter().map(|(_, _, row)| manifests::key(row.object.manifest)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let rows = snapshot.get_many(&keys).await.map_err(|e| Error::internal(READING, e))?;
        for row in rows {
            let row = row.ok_or_else(|| Error::internal(READING, "one is not there"))?;
            // A staged object has one part, which stands in the manifest's own row.
            roots.push(manifest_root(&decode::<ManifestRow>(&row)?.row.parts));
        }
    }
    Ok(roots)
}

async fn staged(
    snapshot: &dyn Snapshot,
    group: GroupId,
) -> Result<Vec<(BucketName, ObjectKey, StagedRow)>, Error> {
    let mut range = KeyRange::prefix(publish::staged_prefix(group.0));
    let mut all = Vec::new();
    loop {
        let page = snapshot
            .scan(range.clone(), Direction::Forward, ABANDON_STEP)
            .await
            .map_err(|e| Error::internal("reading staged objects", e))?;
        for (key, row) in &page.rows {
            let (bucket, object) = publish::parse_staged_key(key)
                .ok_or_else(|| Error::internal("reading staged objects", "a key does not read"))?;
            all.push((BucketName::new(&bucket)?, ObjectKey::new(&object)?, decode::<StagedRow>(row)?.row));
        }
        match page.rows.last() {
            Some((last, _)) if page.more => range = range.after(last),
            _ => return Ok(all),
        }
    }
}
