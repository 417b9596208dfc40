//! DELETE: a marker on top, or a version for good.

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::error::Error;
use crate::log::{DurableWhen, Logged};
use crate::object_lock::hindrance;
use crate::requests::{DeleteObject, Deleted};
use crate::transaction::{ATTEMPTS_MAX, Transaction, back_off};
use crate::types::VersionId;
use crate::versions::{KeyState, NewVersion};
use ashlar_metadata::namespace::buckets::Versioning;
use futures::{StreamExt, stream};

/// Deletions of one DeleteObjects that run at a time.
const DELETES_AT_ONCE: usize = 32;

impl Store {
    /// Deletes a version for good, or hides the key behind a marker where the bucket is versioned.
    /// What is not there is deleted already: that is success.
    pub async fn delete_object(&self, cx: &RequestContext, request: DeleteObject) -> Result<Deleted, Error> {
        let (deleted, logged) = self.delete_logged(cx, request).await?;
        if let Some(logged) = &logged {
            self.until_durable(logged).await?;
        }
        Ok(deleted)
    }

    /// Deletes many; one answer a request, in order. Where they are to be certified or anchored, all are waited
    /// for together, and fail together where that takes too long. Each has a receipt of its own; who shows one
    /// alone shows that of the highest position.
    pub async fn delete_objects(
        &self,
        cx: &RequestContext,
        requests: Vec<DeleteObject>,
    ) -> Vec<Result<Deleted, Error>> {
        let done: Vec<_> = stream::iter(requests)
            .map(|request| self.delete_logged(cx, request))
            .buffered(DELETES_AT_ONCE)
            .collect()
            .await;
        let waiting = |done: &Result<(Deleted, Option<Logged>), Error>| {
            let logged = done.as_ref().ok()?.1.clone()?;
            (logged.durable_when != DurableWhen::Quorum).then_some(logged)
        };
        let last = done.iter().filter_map(waiting).reduce(|one, other| Logged {
            position: one.position.max(other.position),
            durable_when: one.durable_when.max(other.durable_when),
            receipt: None,
        });
        let is_late = match &last {
            Some(last) => self.until_durable(last).await.is_err(),
            None => false,
        };
        let answers = done.into_iter().map(|done| match waiting(&done) {
            Some(Logged { durable_when: level, receipt, .. }) if is_late => {
                Err(Error::NotYetDurable { level, receipt })
            }
            _ => done.map(|(deleted, _)| deleted),
        });
        answers.collect()
    }

    /// Deletes, and does not wait for more than the commit. What was not there is in no log.
    async fn delete_logged(
        &self,
        cx: &RequestContext,
        request: DeleteObject,
    ) -> Result<(Deleted, Option<Logged>), Error> {
        let (store, cx) = (self.clone(), cx.clone());
        self.detached(async move { store.delete_now(&cx, &request).await }).await
    }

    async fn delete_now(
        &self,
        cx: &RequestContext,
        request: &DeleteObject,
    ) -> Result<(Deleted, Option<Logged>), Error> {
        let name = &request.name;
        let action = if name.version.is_some() { Action::DeleteObjectVersion } else { Action::DeleteObject };
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let (snapshot, bucket) = self.bucket_for_write(&name.bucket).await?;
            self.authorize_object(cx, action, &bucket, name, None, None)?;
            let state = KeyState::read(&*snapshot, &bucket, &name.key).await?;
            let found = match name.version {
                Some(id) => state.by_id(&*snapshot, id).await?,
                None => state.newest(&*snapshot).await?,
            };
            KeyState::check_delete(&request.conditions, found.as_ref())?;
            let mut transaction = Transaction::default();
            bucket.check(&mut transaction);
            let now = self.inner.clock.now();
            let (version, delete_marker) =
                if name.version.is_none() && bucket.row.versioning != Versioning::Off {
                    let owner = bucket.row.owner.clone();
                    let marker = NewVersion::marker(owner, now);
                    let planned = state.plan_new(&mut transaction, &*snapshot, marker).await?;
                    (Some(planned.id), true)
                } else {
                    let version = name.version.or_else(|| bucket.shown(VersionId::Null));
                    let Some(found) = found else {
                        let (delete_marker, position, receipt) = (false, None, None);
                        return Ok((Deleted { version, delete_marker, position, receipt }, None));
                    };
                    let (asked, hindrance) = (request.bypass_governance, hindrance(&found.row.lock, now));
                    let bypass = self.authorize_bypass(cx, &bucket, name, &found, asked, hindrance)?;
                    state.plan_remove(&mut transaction, &*snapshot, &found, now, bypass).await?;
                    (version, found.row.object.is_none())
                };
            drop(snapshot);
            if let Some(logged) = self.commit_logged(transaction, bucket.durable_when).await? {
                let (position, receipt) = (Some(logged.position), logged.receipt.clone());
                return Ok((Deleted { version, delete_marker, position, receipt }, Some(logged)));
            }
        }
        Err(Error::ConditionalConflict)
    }
}
