//! `/api/buckets`: the buckets that the caller may see, as the store's own `authorize()` decides.

use std::sync::Arc;

use ashlar_objects::requests::{BucketFacts, Versioning};
use ashlar_objects::types::{BucketName, UnixMillis};
use axum::Json;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::answers::{Bucket, BucketDurability};
use super::credentials::Caller;
use super::refusal::Refusal;
use super::{Answer, Server, of};

/// Most buckets in one answer.
const PAGE_MAX: u32 = 1000;

/// Which buckets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
}

/// A page of buckets; `next` goes into `after` for the following one.
#[derive(Serialize, Deserialize)]
pub(crate) struct BucketsPage {
    /// In name order.
    pub(crate) buckets: Vec<Bucket>,
    /// Where the next page starts, if there is one.
    pub(crate) next: Option<String>,
}

/// `GET /api/buckets?prefix=…&after=…`
pub(super) async fn list(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Query(selection): Query<Selection>,
) -> Answer<BucketsPage> {
    let after = selection.after.as_deref();
    let (buckets, next) = server.store.list_buckets(&of(caller), &selection.prefix, after, PAGE_MAX).await?;
    Ok(Json(BucketsPage { buckets: buckets.iter().map(describe).collect(), next }))
}

/// `GET /api/buckets/{name}`
pub(super) async fn show(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<Bucket> {
    let name = BucketName::new(&name).map_err(ashlar_objects::Error::from)?;
    let facts = server.store.head_bucket(&of(caller), &name).await.map_err(Refusal::from)?;
    Ok(Json(describe(&facts)))
}

/// `GET /api/buckets/{name}/durable-when`
pub(super) async fn durability(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<BucketDurability> {
    let name = BucketName::new(&name).map_err(ashlar_objects::Error::from)?;
    let durable_when = server.store.durable_when(&of(caller), &name).await?;
    Ok(Json(BucketDurability { durable_when }))
}

/// `PUT /api/buckets/{name}/durable-when`
pub(super) async fn set_durability(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(name): Path<String>,
    Json(wanted): Json<BucketDurability>,
) -> Answer<BucketDurability> {
    let name = BucketName::new(&name).map_err(ashlar_objects::Error::from)?;
    server.store.set_durable_when(&of(caller), &name, wanted.durable_when).await?;
    Ok(Json(wanted))
}

fn describe(facts: &BucketFacts) -> Bucket {
    Bucket {
        name: facts.name.to_string(),
        owner: facts.owner.clone(),
        created: rfc3339(facts.created),
        versioning: match facts.versioning {
            Versioning::Off => "off",
            Versioning::Enabled => "enabled",
            Versioning::Suspended => "suspended",
        }
        .to_owned(),
    }
}

/// A moment as people read it; nothing where it is out of their calendar.
pub(super) fn rfc3339(moment: UnixMillis) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(moment.0) * 1_000_000);
    moment.ok().and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339() {
        assert_eq!(rfc3339(UnixMillis(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339(UnixMillis(i64::MAX)), "");
    }
}
