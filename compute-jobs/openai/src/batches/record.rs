//! What is kept of a batch beside its job: two small objects in the caller's bucket.

use std::collections::BTreeMap;

use ashlar_compute_api::JobId;
use ashlar_objects::Error;
use ashlar_objects::access::RequestContext;
use ashlar_objects::requests::{ObjectName, ReadObject, Selection};
use ashlar_objects::types::{Attributes, Conditions, ObjectKey};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::gateway::Gateway;
use crate::refusal::Refusal;

/// Under which batches lie.
pub(super) const PREFIX: &str = "batches/";
const ASKED: &str = ".json";
const RESULT: &str = ".result.json";
/// Most bytes of such an object; more is none of ours.
const BYTES_MAX: usize = 64 << 10;

/// A batch as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) job: JobId,
    pub(super) endpoint: String,
    pub(super) input_file_id: String,
    pub(super) output_file_id: String,
    pub(super) error_file_id: String,
    pub(super) lines: u64,
    pub(super) created_at: i64,
    pub(super) expires_at: i64,
    pub(super) metadata: BTreeMap<String, String>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) finished_at: i64,
}

/// The batch whose record has this key.
pub(super) fn id_of(key: &str) -> Option<String> {
    let id = key.strip_prefix(PREFIX)?.strip_suffix(ASKED)?;
    files::is_id("batch_", id).then(|| id.to_owned())
}

fn key(id: &str, of: &str) -> Result<ObjectKey, Refusal> {
    ObjectKey::new(&format!("{PREFIX}{id}{of}")).map_err(|error| Error::from(error).into())
}

impl Record {
    pub(super) async fn keep(
        &self,
        gateway: &Gateway,
        cx: &RequestContext,
        user_id: &str,
    ) -> Result<(), Refusal> {
        write(gateway, cx, user_id, &key(&self.id, ASKED)?, self).await
    }

    pub(super) async fn forget(
        &self,
        gateway: &Gateway,
        cx: &RequestContext,
        user_id: &str,
    ) -> Result<(), Refusal> {
        files::delete(gateway, cx, user_id, key(&self.id, ASKED)?.as_str()).await
    }

    pub(super) async fn read(
        gateway: &Gateway,
        cx: &RequestContext,
        user_id: &str,
        id: &str,
    ) -> Result<Self, Refusal> {
        let missing = || Refusal::not_found("batch", id);
        if !files::is_id("batch_", id) {
            return Err(missing());
        }
        read(gateway, cx, user_id, &key(id, ASKED)?).await?.ok_or_else(missing)
    }
}

impl Outcome {
    pub(super) async fn keep(
        &self,
        gateway: &Gateway,
        cx: &RequestContext,
        user_id: &str,
        id: &str,
    ) -> Result<(), Refusal> {
        write(gateway, cx, user_id, &key(id, RESULT)?, self).await
    }

    pub(super) async fn read(
        gateway: &Gateway,
        cx: &RequestContext,
        user_id: &str,
        id: &str,
    ) -> Result<Option<Self>, Refusal> {
        read(gateway, cx, user_id, &key(id, RESULT)?).await
    }
}

async fn write<T: Serialize + Sync>(
    gateway: &Gateway,
    cx: &RequestContext,
    user_id: &str,
    key: &ObjectKey,
    value: &T,
) -> Result<(), Refusal> {
    let json = serde_json::to_vec(value).map_err(|error| Refusal::internal("writing a batch", &error))?;
    let payload = files::payload(stream::iter([Ok(Bytes::from(json))]));
    let attributes =
        Attributes { content_type: Some("application/json".to_owned()), ..Attributes::default() };
    files::put(gateway, cx, user_id, key, payload, attributes).await?;
    Ok(())
}

async fn read<T: DeserializeOwned>(
    gateway: &Gateway,
    cx: &RequestContext,
    user_id: &str,
    key: &ObjectKey,
) -> Result<Option<T>, Refusal> {
    let Some(bucket) = files::own_bucket(gateway, cx, user_id).await? else { return Ok(None) };
    let name = ObjectName::current(&bucket, key);
    let request = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
    let mut read = match gateway.store().get_object(cx, request).await {
        Err(Error::NoSuchKey | Error::CurrentIsDeleteMarker { .. }) => return Ok(None),
        read => read?,
    };
    let mut bytes = Vec::new();
    while let Some(piece) = read.body.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(serde_json::from_slice(&bytes).ok())
}
