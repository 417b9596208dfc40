//! A job's result made visible, at most once.
//!
//! Invariant J5: the result and a marker under the job's name become visible in one transaction, under the condition that
//! the marker is absent. Who finds the marker takes its word, whatever became of the result since.

use std::collections::HashSet;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::jobs::{Job, StageError};
use ashlar_objects::access::{Principal, RequestContext, UserIdentity};
use ashlar_objects::publish::{GroupId, Precondition, Publish};
use ashlar_objects::requests::{ObjectName, Payload, ReadObject, Selection};
use ashlar_objects::types::{BucketName, Conditions, ObjectKey};
use ashlar_objects::users::UsersError;
use ashlar_objects::{Error, Store};
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;

use crate::store_objects::{body, bucket, context, make_bucket, prefix, put, system};

/// The request of a job's principal, with the rights that he has now.
pub(crate) async fn as_principal(store: &Store, job: &Job) -> Result<RequestContext, StageError> {
    let id = &job.spec.statement.principal;
    match store.users().by_id(id).await {
        Ok(Some(user)) => {
            let access_key = user.access_keys.first().cloned().unwrap_or_default();
            let identity = UserIdentity { id: user.id, name: user.name, access_key, root: user.root };
            Ok(context(Principal::User(Arc::new(identity))))
        }
        Ok(None) => Err(StageError::Final { reason: "the job's owner is no user any more".to_owned() }),
        Err(UsersError::NoSuchUser { .. } | UsersError::BeingRemoved { .. }) => {
            Err(StageError::Final { reason: "the job's owner is no user any more".to_owned() })
        }
        Err(error) => Err(StageError::Again { reason: error.to_string() }),
    }
}

/// What an error of the store means for a stage.
pub(crate) fn stage_error(what: &str, error: &Error) -> StageError {
    let reason = format!("{what}: {error}");
    match error {
        Error::SlowDown { .. }
        | Error::TooFewNodes { .. }
        | Error::Internal(_)
        | Error::ConditionalConflict
        | Error::OutcomeUnknown
        | Error::NotYetDurable { .. }
        | Error::SnapshotTooOld
        | Error::Unreadable { .. } => StageError::Again { reason },
        _ => StageError::Final { reason },
    }
}

fn marker(job: &Job) -> ObjectKey {
    let key = format!("{}published/{}", prefix(job.family()), hex::encode(job.id));
    ObjectKey::new(&key).expect("digits are a short key")
}

/// What was published for a job, if anything was.
pub(crate) async fn published(store: &Store, job: &Job) -> Result<Option<ContentRoot>, StageError> {
    let name = ObjectName { bucket: bucket(), key: marker(job), version: None };
    let request = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
    let mut read = match store.get_object(&system(), request).await {
        Ok(read) => read,
        Err(Error::NoSuchBucket | Error::NoSuchKey | Error::CurrentIsDeleteMarker { .. }) => return Ok(None),
        Err(error) => return Err(stage_error("the mark of what was published", &error)),
    };
    let mut text = Vec::new();
    while let Some(piece) = read.body.next().await {
        text.extend_from_slice(
            &piece.map_err(|error| stage_error("the mark of what was published", &error))?,
        );
    }
    let root = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    let reason = "the mark of what was published does not read".to_owned();
    root.map(Some).ok_or(StageError::Final { reason })
}

/// Makes one object visible as a job's result, unless that was done.
pub(crate) async fn publish(
    store: &Store,
    cx: &RequestContext,
    job: &Job,
    (to, key): (BucketName, ObjectKey),
    payload: Payload,
) -> Result<ContentRoot, StageError> {
    const WHAT: &str = "publishing the result";
    make_bucket(store).await.map_err(|error| stage_error(WHAT, &error))?;
    let group = store.begin_group(cx).await.map_err(|error| stage_error(WHAT, &error))?;
    let result = publish_group(store, cx, job, group, (to, key), payload).await;
    if result.is_err()
        && let Err(error) = store.abandon(cx, group).await
    {
        tracing::debug!(%error, "a publish group was not given up; it lapses within a day");
    }
    match result {
        // Another was faster.
        Err(Error::PreconditionFailed { .. }) => {
            let reason = "publishing the result: another publishes it".to_owned();
            published(store, job).await?.ok_or(StageError::Again { reason })
        }
        result => result.map_err(|error| stage_error(WHAT, &error)),
    }
}

async fn publish_group(
    store: &Store,
    cx: &RequestContext,
    job: &Job,
    group: GroupId,
    (to, key): (BucketName, ObjectKey),
    payload: Payload,
) -> Result<ContentRoot, Error> {
    store.stage(cx, group, put(to.clone(), key.clone(), payload)).await?;
    let staged = store.pin_staged(cx, group).await?;
    let result = staged.iter().find(|staged| staged.bucket == to && staged.key == key);
    let result = result.ok_or(Error::NoSuchKey)?;
    let root = ContentRoot(result.pinned.head.content_root.0.0);
    let at = (bucket(), marker(job));
    let mark = body(Bytes::from(root.to_string()));
    let staging = RequestContext { principal: Principal::System, ..cx.clone() };
    store.stage(&staging, group, put(at.0.clone(), at.1.clone(), mark)).await?;
    let request = Publish {
        preconditions: vec![Precondition::Absent(at.0.clone(), at.1.clone())],
        removals: Vec::new(),
        as_system: HashSet::from([at]),
    };
    store.publish_and_remove(cx, group, request).await?;
    Ok(root)
}
