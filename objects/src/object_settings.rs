//! Tags and ACL of one version, changed in place; and how anything else of it is.

use crate::Store;
use crate::access::{Acl, AclRequest, Action, RequestContext};
use crate::attributes::{OBJECT_TAGS_MAX, check_tags};
use crate::buckets::{Bucket, parse_acl};
use crate::error::Error;
use crate::requests::{ObjectName, VersionChanged};
use crate::transaction::{ATTEMPTS_MAX, Transaction, back_off};
use crate::types::{Tags, VersionId};
use crate::versions::{FoundVersion, KeyState};
use ashlar_metadata::namespace::versions::ObjectRow;

/// The action on the current version, and the one on a named version.
type Actions = (Action, Action);

fn action(actions: Actions, name: &ObjectName) -> Action {
    if name.version.is_some() { actions.1 } else { actions.0 }
}

fn object_of<'a>(name: &ObjectName, found: &'a FoundVersion) -> Result<&'a ObjectRow, Error> {
    let version = found.row.id;
    found.row.object.as_ref().ok_or(match name.version {
        Some(_) => Error::VersionIsDeleteMarker { version },
        None => Error::CurrentIsDeleteMarker { version },
    })
}

/// Changes the object that a version is; whoever calls has seen that it is one.
fn set(found: &mut FoundVersion, change: impl FnOnce(&mut ObjectRow)) {
    if let Some(object) = &mut found.row.object {
        change(object);
    }
}

impl Store {
    /// Reads something of a version that is an object.
    pub(crate) async fn settings<T>(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
        actions: Actions,
        give: impl Fn(&Bucket, &FoundVersion, &ObjectRow) -> Result<T, Error>,
    ) -> Result<(T, Option<VersionId>), Error> {
        let snapshot = self.snapshot().await?;
        let bucket = self.bucket(&*snapshot, &name.bucket).await?;
        let (found, _) = self.find(cx, &*snapshot, &bucket, name, action(actions, name)).await?;
        let value = give(&bucket, &found, object_of(name, &found)?)?;
        Ok((value, bucket.shown(found.row.id)))
    }

    /// Changes something of a version that is an object.
    pub(crate) async fn change_settings(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
        actions: Actions,
        change: impl Fn(&Bucket, &mut FoundVersion) -> Result<(), Error>,
    ) -> Result<VersionChanged, Error> {
        for attempt in 0..ATTEMPTS_MAX {
            back_off(attempt).await;
            let (snapshot, bucket) = self.bucket_for_write(&name.bucket).await?;
            let (mut found, _) = self.find(cx, &*snapshot, &bucket, name, action(actions, name)).await?;
            object_of(name, &found)?;
            let state = KeyState::read(&*snapshot, &bucket, &name.key).await?;
            change(&bucket, &mut found)?;
            let mut transaction = Transaction::default();
            bucket.check(&mut transaction);
            state.plan_update(&mut transaction, &*snapshot, &found).await?;
            drop(snapshot);
            if let Some(logged) = self.commit_logged(transaction, bucket.durable_when).await? {
                self.until_durable(&logged).await?;
                let version = bucket.shown(found.row.id);
                return Ok(VersionChanged { version, receipt: logged.receipt });
            }
        }
        Err(Error::ConditionalConflict)
    }

    /// An object's tags.
    pub async fn object_tags(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
    ) -> Result<(Tags, Option<VersionId>), Error> {
        let actions = (Action::GetObjectTagging, Action::GetObjectVersionTagging);
        self.settings(cx, name, actions, |_, _, object| Ok(object.tags.clone())).await
    }

    /// Replaces an object's tags.
    pub async fn put_object_tags(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
        tags: Tags,
    ) -> Result<VersionChanged, Error> {
        check_tags(&tags, OBJECT_TAGS_MAX)?;
        let actions = (Action::PutObjectTagging, Action::PutObjectVersionTagging);
        self.change_settings(cx, name, actions, |_, found| {
            set(found, |object| object.tags = tags.clone());
            Ok(())
        })
        .await
    }

    /// Removes an object's tags.
    pub async fn delete_object_tags(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
    ) -> Result<VersionChanged, Error> {
        let actions = (Action::DeleteObjectTagging, Action::DeleteObjectVersionTagging);
        self.change_settings(cx, name, actions, |_, found| {
            set(found, |object| object.tags = Tags::default());
            Ok(())
        })
        .await
    }

    /// An object's ACL.
    pub async fn object_acl(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
    ) -> Result<(Acl, Option<VersionId>), Error> {
        let actions = (Action::GetObjectAcl, Action::GetObjectVersionAcl);
        self.settings(cx, name, actions, |_, found, object| match &object.acl {
            Some(text) => parse_acl(text),
            None => Ok(Acl::private(&found.row.owner)),
        })
        .await
    }

    /// Replaces an object's ACL.
    pub async fn put_object_acl(
        &self,
        cx: &RequestContext,
        name: &ObjectName,
        request: AclRequest,
    ) -> Result<VersionChanged, Error> {
        let actions = (Action::PutObjectAcl, Action::PutObjectVersionAcl);
        self.change_settings(cx, name, actions, |bucket, found| {
            let acl = Acl::of_object(&request, &found.row.owner, &bucket.facts())?;
            let text = serde_json::to_string(&acl).map_err(|e| Error::internal("writing an ACL", e))?;
            set(found, |object| object.acl = Some(text));
            Ok(())
        })
        .await
    }
}
