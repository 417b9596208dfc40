//! What a transaction, or one statement outside of one, is about to change.
//!
//! Invariant: nothing of it is visible before [`Changes::publish`], all of it after, and nothing is left if it is
//! dropped: the group is given up. What somebody else changed meanwhile makes publishing fail, never merge.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::Error as StoreError;
use ashlar_objects::access::{Principal, RequestContext};
use ashlar_objects::object_lock::Lock;
use ashlar_objects::pinning::PinnedObject;
use ashlar_objects::publish::{GROUP_OBJECTS_MAX, GroupId, Precondition, Publish};
use ashlar_objects::requests::{BodyStream, CreateBucket, Payload, PutObject};
use ashlar_objects::types::{Attributes, BucketName, Conditions, ObjectKey, Tags};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::catalog::definition::{SchemaDefinition, TableDefinition};
use crate::catalog::{CATALOG_BUCKET, catalog_bucket, system};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::location::Location;

/// Tries to remove what a dropped table leaves, and what is between them.
const REMOVAL_TRIES: u32 = 5;
const REMOVAL_PAUSE: Duration = Duration::from_millis(200);

/// An object by its name.
type At = (BucketName, ObjectKey);

/// When an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// With everything else.
    AtCommit,
    /// Rows of a dropped table, which no name leads to any more: those that one publish has no room for go in
    /// further ones.
    OnceDropped,
}

/// Staged and about to be published.
pub(crate) struct Changes {
    engine: Engine,
    cx: Arc<RequestContext>,
    group: GroupId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    preconditions: Vec<Precondition>,
    staged: HashSet<At>,
    removals: BTreeMap<At, Removal>,
    schemas: HashMap<String, Option<SchemaDefinition>>,
    tables: HashMap<(String, String), Option<TableDefinition>>,
    /// Of Ashlar's own: the caller was found to be allowed the change, though not to write there himself.
    as_system: HashSet<At>,
    published: bool,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("group", &self.group).finish_non_exhaustive()
    }
}

/// What was staged and marked for removal at some time.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) staged: Vec<PinnedObject>,
    removed: HashSet<(BucketName, ObjectKey)>,
}

impl Seen {
    /// Whether an object is gone.
    pub(crate) fn is_removed(&self, object: &PinnedObject) -> bool {
        self.removed.contains(&(object.bucket.clone(), object.key.clone()))
    }
}

/// A request to store these bytes.
pub(crate) fn put(
    bucket: &BucketName,
    key: &ObjectKey,
    length: Option<u64>,
    stream: BodyStream,
) -> PutObject {
    PutObject {
        bucket: bucket.clone(),
        key: key.clone(),
        attributes: Attributes::default(),
        tags: Tags::default(),
        acl: None,
        conditions: Conditions::default(),
        lock: Lock::default(),
        payload: Payload {
            stream,
            length,
            content_md5: None,
            content_sha256: None,
            checksum: None,
            trailing_checksum: None,
        },
    }
}

impl Changes {
    /// Nothing yet.
    pub(crate) async fn begin(engine: &Engine, cx: &Arc<RequestContext>) -> Result<Arc<Self>, SqlError> {
        let (upkeep, engine, cx) = (engine.inner.upkeep.clone(), engine.clone(), Arc::clone(cx));
        // A caller who goes away meanwhile leaves no group behind.
        let begun = upkeep.carry(async move {
            let group = engine.inner.store.begin_group(&cx).await;
            let group = group.map_err(|e| SqlError::of_store("a publish group", &e))?;
            Ok(Arc::new(Self { engine, cx, group, state: Mutex::default() }))
        });
        begun.await
    }

    /// Stores an object where nobody sees it; `cx` is who must be allowed to write there.
    pub(crate) async fn stage(&self, cx: &RequestContext, request: PutObject) -> Result<(), SqlError> {
        let what = format!("s3://{}/{}", request.bucket, request.key);
        let at = (request.bucket.clone(), request.key.clone());
        let staged = self.engine.inner.store.stage(cx, self.group, request).await;
        staged.map_err(|e| SqlError::of_store(&what, &e))?;
        let mut state = self.state.lock();
        if cx.principal == Principal::System {
            state.as_system.insert(at.clone());
        }
        // What is written again is not removed.
        state.removals.remove(&at);
        state.staged.insert(at);
        Ok(())
    }

    /// As [`Changes::stage`], of the caller.
    pub(crate) async fn stage_own(&self, request: PutObject) -> Result<(), SqlError> {
        self.stage(&self.cx, request).await
    }

    /// Stores a definition.
    pub(crate) async fn stage_definition<D: serde::Serialize>(
        &self,
        cx: &RequestContext,
        (bucket, key): (BucketName, ObjectKey),
        definition: &D,
    ) -> Result<(), SqlError> {
        if bucket.as_str() == CATALOG_BUCKET {
            self.make_catalog_bucket().await?;
        }
        let bytes = serde_json::to_vec_pretty(definition)
            .map_err(|e| SqlError::internal("writing a definition", &e))?;
        let length = u64::try_from(bytes.len()).ok();
        let body = futures::stream::once(async move { Ok(Bytes::from(bytes)) });
        self.stage(cx, put(&bucket, &key, length, Box::pin(body))).await
    }

    /// Ashlar's own bucket, if it is not there yet. One that somebody else made is not used.
    async fn make_catalog_bucket(&self) -> Result<(), SqlError> {
        let (store, cx) = (&self.engine.inner.store, system(&self.cx));
        let request = CreateBucket {
            bucket: catalog_bucket(),
            acl: None,
            object_lock: false,
            ownership: None,
            location: None,
        };
        match store.create_bucket(&cx, request).await {
            Ok(_) | Err(StoreError::BucketAlreadyOwnedByYou) => Ok(()),
            Err(StoreError::BucketAlreadyExists) => Err(SqlError::new(
                SqlState::InsufficientPrivilege,
                format!("the bucket {CATALOG_BUCKET} belongs to a user; SQL keeps its catalog there"),
            )
            .hint("remove that bucket")),
            Err(error) => Err(SqlError::of_store("the catalog", &error)),
        }
    }

    /// Publishing will remove an object; `cx` is who must be allowed to.
    pub(crate) async fn remove(
        &self,
        cx: &RequestContext,
        bucket: &BucketName,
        key: &ObjectKey,
        when: Removal,
    ) -> Result<(), SqlError> {
        let may = self.engine.inner.store.may_remove(cx, bucket, key).await;
        may.map_err(|e| SqlError::of_store(&format!("s3://{bucket}/{key}"), &e))?;
        let mut state = self.state.lock();
        let at = (bucket.clone(), key.clone());
        if cx.principal == Principal::System {
            state.as_system.insert(at.clone());
        }
        state.removals.insert(at, when);
        Ok(())
    }

    /// Takes an object out: what is there for all is removed by publishing, what this stages alone is not
    /// published.
    pub(crate) async fn unstage(
        &self,
        cx: &RequestContext,
        bucket: &BucketName,
        key: &ObjectKey,
        when: Removal,
    ) -> Result<(), SqlError> {
        if self.is_staged(bucket, key) {
            let unstaged = self.engine.inner.store.unstage(&self.cx, self.group, bucket, key).await;
            unstaged.map_err(|e| SqlError::of_store(&format!("s3://{bucket}/{key}"), &e))?;
            self.state.lock().staged.remove(&(bucket.clone(), key.clone()));
        }
        self.remove(cx, bucket, key, when).await
    }

    /// Whether publishing will write an object.
    pub(crate) fn is_staged(&self, bucket: &BucketName, key: &ObjectKey) -> bool {
        self.state.lock().staged.contains(&(bucket.clone(), key.clone()))
    }

    /// Whether publishing will remove an object.
    pub(crate) fn is_removed(&self, bucket: &BucketName, key: &ObjectKey) -> bool {
        self.state.lock().removals.contains_key(&(bucket.clone(), key.clone()))
    }

    /// What was removed at a location goes at commit and not later: something new comes to lie there.
    pub(crate) fn reuse(&self, location: &Location) -> Result<(), SqlError> {
        for ((bucket, key), when) in &mut self.state.lock().removals {
            if *bucket == location.bucket && key.as_str().starts_with(location.prefix()) {
                *when = Removal::AtCommit;
            }
        }
        self.check_room()
    }

    /// Whether one publish has room for what must become visible together.
    pub(crate) fn check_room(&self) -> Result<(), SqlError> {
        let state = self.state.lock();
        let at_commit = state.removals.values().filter(|when| **when == Removal::AtCommit).count();
        let together = state.staged.len() + at_commit;
        if together <= GROUP_OBJECTS_MAX {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::ProgramLimitExceeded,
            format!(
                "{together} objects would be written and removed at once, and one transaction changes at most \
                 {GROUP_OBJECTS_MAX}"
            ),
        )
        .hint("write into a new table, DROP the old one, which takes any number, then RENAME"))
    }

    /// Publishing will fail unless this holds.
    pub(crate) fn require(&self, precondition: Precondition) {
        self.state.lock().preconditions.push(precondition);
    }

    /// Publishing will fail unless an object is as it was found.
    pub(crate) fn require_unchanged(&self, object: &PinnedObject) {
        let (bucket, key) = (object.bucket.clone(), object.key.clone());
        self.require(Precondition::Unchanged(bucket, key, object.pinned.head.etag));
    }

    /// What a schema is now: `Some(None)` is dropped.
    pub(crate) fn schema(&self, name: &str) -> Option<Option<SchemaDefinition>> {
        self.state.lock().schemas.get(name).cloned()
    }

    /// Makes or drops a schema.
    pub(crate) fn set_schema(&self, name: &str, definition: Option<SchemaDefinition>) {
        self.state.lock().schemas.insert(name.to_owned(), definition);
    }

    /// Schemas that were made.
    pub(crate) fn new_schemas(&self) -> Vec<SchemaDefinition> {
        self.state.lock().schemas.values().flatten().cloned().collect()
    }

    /// What a table is now: `Some(None)` is dropped.
    pub(crate) fn table(&self, schema: &str, name: &str) -> Option<Option<TableDefinition>> {
        self.state.lock().tables.get(&(schema.to_owned(), name.to_owned())).cloned()
    }

    /// Makes or drops a table.
    pub(crate) fn set_table(&self, schema: &str, name: &str, definition: Option<TableDefinition>) {
        self.state.lock().tables.insert((schema.to_owned(), name.to_owned()), definition);
    }

    /// Tables of a schema that were made.
    pub(crate) fn new_tables(&self, schema: &str) -> Vec<(String, TableDefinition)> {
        let state = self.state.lock();
        let of_schema = state.tables.iter().filter(|((of, _), _)| of == schema);
        of_schema.filter_map(|((_, name), table)| Some((name.clone(), table.clone()?))).collect()
    }

    /// How its own statements see the store now: a statement keeps this while it replaces what it reads.
    pub(crate) async fn seen(&self) -> Result<Seen, SqlError> {
        let staged = self.engine.inner.store.pin_staged(&self.cx, self.group).await;
        let staged = staged.map_err(|e| SqlError::of_store("what was written", &e))?;
        let removed = self.state.lock().removals.keys().cloned().collect();
        Ok(Seen { staged, removed })
    }

    /// What one publish does, and what is left for further ones.
    fn plan(&self) -> Result<(Publish, Vec<At>), SqlError> {
        self.check_room()?;
        let state = self.state.lock();
        let (mut removals, mut once_dropped) = (Vec::new(), Vec::new());
        for (at, when) in &state.removals {
            match when {
                Removal::AtCommit => removals.push(at.clone()),
                Removal::OnceDropped => once_dropped.push(at.clone()),
            }
        }
        let room = GROUP_OBJECTS_MAX - state.staged.len() - removals.len();
        let later = once_dropped.split_off(room.min(once_dropped.len()));
        removals.append(&mut once_dropped);
        let (preconditions, as_system) = (state.preconditions.clone(), state.as_system.clone());
        Ok((Publish { preconditions, removals, as_system }, later))
    }

    /// Makes all of it visible at once, or nothing. Each change is authorised as it was when it was staged or marked:
    /// as the caller, but for definitions of Ashlar's own.
    pub(crate) async fn publish(&self) -> Result<(), SqlError> {
        let (publish, later) = self.plan()?;
        self.publish_planned(publish).await?;
        for step in later.chunks(GROUP_OBJECTS_MAX) {
            self.remove_dropped(step).await;
        }
        Ok(())
    }

    /// Removes objects of a table that is dropped already. What fails for good stays as objects that no table has.
    async fn remove_dropped(&self, step: &[At]) {
        let store = &self.engine.inner.store;
        for attempt in 0..REMOVAL_TRIES {
            tokio::time::sleep(REMOVAL_PAUSE * attempt).await;
            let removed = async {
                let group = store.begin_group(&self.cx).await?;
                let publish = Publish { removals: step.to_vec(), ..Publish::default() };
                let done = store.publish_and_remove(&self.cx, group, publish).await;
                if done.is_err() {
                    store.abandon(&self.cx, group).await.ok();
                }
                done
            };
            match removed.await {
                Ok(_) | Err(StoreError::NotYetDurable { .. }) => return,
                Err(error) => tracing::warn!(
                    %error, attempt, objects = step.len(), first = %step[0].1,
                    "objects of a dropped table were not removed"
                ),
            }
        }
    }

    async fn publish_planned(&self, publish: Publish) -> Result<(), SqlError> {
        let done = self.engine.inner.store.publish_and_remove(&self.cx, self.group, publish).await;
        match done {
            Ok(_) => {
                self.state.lock().published = true;
                Ok(())
            }
            Err(error @ StoreError::NotYetDurable { .. }) => {
                // Visible: whoever ran it again would have it twice.
                self.state.lock().published = true;
                tracing::warn!(%error, "what a transaction wrote is visible and not as durable as its bucket asks");
                Ok(())
            }
            Err(StoreError::PreconditionFailed { .. } | StoreError::ConditionalConflict) => {
                Err(SqlError::new(
                    SqlState::SerializationFailure,
                    "somebody else changed what this transaction is based on",
                )
                .hint("run it again"))
            }
            Err(error @ StoreError::OutcomeUnknown) => {
                // Nobody knows whether it is visible, so nothing is given up.
                self.state.lock().published = true;
                Err(SqlError::of_store("what was written", &error))
            }
            Err(error) => Err(SqlError::of_store("what was written", &error)),
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if self.state.lock().published {
            return;
        }
        let (store, cx, group) = (self.engine.inner.store.clone(), Arc::clone(&self.cx), self.group);
        self.engine.inner.upkeep.spawn(async move {
            if let Err(error) = store.abandon(&cx, group).await {
                tracing::warn!(%error, "what a statement staged was not given up; it is within a day");
            }
        });
    }
}
