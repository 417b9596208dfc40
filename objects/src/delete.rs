//! DELETE: a marker on top, or a version for good.

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::error::Error;
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
        let (store, cx) = (self.clone(), cx.clone());
        self.detached(async move { store.delete_now(&cx, &request).await }).await
    }

    /// Deletes many; one answer a request, in order.
    pub async fn delete_objects(
        &self,
        cx: &RequestContext,
        requests: Vec<DeleteObject>,
    ) -> Vec<Result<Deleted, Error>> {
        stream::iter(requests)
            .map(|request| self.delete_object(cx, request))
            .buffered(DELETES_AT_ONCE)
            .collect()
            .await
    }

    async fn delete_now(&self, cx: &RequestContext, request: &DeleteObject) -> Result<Deleted, Error> {
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
            let deleted = if name.version.is_none() && bucket.row.versioning != Versioning::Off {
                let owner = bucket.row.owner.clone();
                let marker = NewVersion::marker(owner, now);
                let planned = state.plan_new(&mut transaction, &*snapshot, marker).await?;
                Deleted { version: Some(planned.id), delete_marker: true }
            } else {
                let version = name.version.or_else(|| bucket.shown(VersionId::Null));
                let Some(found) = found else { return Ok(Deleted { version, delete_marker: false }) };
                let (asked, hindrance) = (request.bypass_governance, hindrance(&found.row.lock, now));
                let bypass = self.authorize_bypass(cx, &bucket, name, &found, asked, hindrance)?;
                state.plan_remove(&mut transaction, &*snapshot, &found, now, bypass).await?;
                Deleted { version, delete_marker: found.row.object.is_none() }
            };
            drop(snapshot);
            if transaction.commit(&self.inner.kv).await?.is_some() {
                return Ok(deleted);
            }
        }
        Err(Error::ConditionalConflict)
    }
}
