//! `/v1/files`: objects in the caller's own bucket.
//!
//! A file is the object `files/<id>/<purpose>/<name>` in the bucket [`bucket_of`] its user, made when he uploads the first one. He
//! reaches it by S3 and SQL like any other object of his, with the same rights; there is nothing else kept of it. Ids
//! count time down, so that a listing by key is newest first. Does not know what files are for.

mod lines;
mod upload;

use ashlar_objects::Error;
use ashlar_objects::access::RequestContext;
use ashlar_objects::requests::{
    DeleteObject, ListObjects, ListedObject, ObjectName, ObjectRead, ReadObject, Selection,
};
use ashlar_objects::types::{BucketName, Conditions, ObjectKey};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::admission::answered;
use crate::credentials::Route;
use crate::gateway::Gateway;
use crate::parameters::Parameters;
use crate::refusal::Refusal;

pub(crate) use lines::Lines;
pub(crate) use upload::{payload, put, upload};

/// Under which all files of a bucket lie.
const PREFIX: &str = "files/";
/// Objects of one step of a listing.
const STEP: u32 = 1_000;
/// Hexadecimal digits of an id: 48 bits of time counted down, 80 at random.
const ID_DIGITS: usize = 32;
/// The purpose of what batches write.
pub(crate) const BATCH_OUTPUT: &str = "batch_output";

/// The bucket that holds a user's files: `openai-` and 32 hexadecimal digits of the BLAKE3 of his id.
pub fn bucket_of(user_id: &str) -> BucketName {
    let digest = blake3::hash(user_id.as_bytes()).to_hex();
    BucketName::new(&format!("openai-{}", &digest[..32]))
        .expect("letters, digits and a dash are a bucket's name")
}

/// The same, if it is there. What somebody else made under its name is nobody's to read or write here: not for root either,
/// whom everything lets in.
pub(crate) async fn own_bucket(
    gateway: &Gateway,
    cx: &RequestContext,
    user_id: &str,
) -> Result<Option<BucketName>, Error> {
    let bucket = bucket_of(user_id);
    match gateway.store().head_bucket(cx, &bucket).await {
        Ok(facts) if facts.owner == user_id => Ok(Some(bucket)),
        Ok(_) => Err(Error::AccessDenied),
        Err(Error::NoSuchBucket) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A new id, smaller than all before.
pub(crate) fn new_id(prefix: &str, now_millis: i64) -> String {
    let left = (1_u64 << 48) - 1 - (now_millis.max(0).cast_unsigned() & ((1 << 48) - 1));
    let random = rand::random::<u128>() >> 48;
    format!("{prefix}{left:012x}{random:020x}")
}

/// Whether it is one of ours, so that it may stand in a key.
pub(crate) fn is_id(prefix: &str, id: &str) -> bool {
    let digits = id.strip_prefix(prefix).unwrap_or_default();
    digits.len() == ID_DIGITS
        && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A file as its object tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) id: String,
    pub(crate) purpose: String,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) length: u64,
    /// Unix seconds.
    pub(crate) created: i64,
}

impl File {
    /// `None` for what is not, or not yet, a file.
    fn of(listed: &ListedObject) -> Option<Self> {
        let mut parts = listed.key.strip_prefix(PREFIX)?.splitn(3, '/');
        let (id, purpose, name) = (parts.next()?, parts.next()?, parts.next()?);
        if !is_id("file-", id) || purpose == upload::PENDING {
            return None;
        }
        Some(Self {
            id: id.to_owned(),
            purpose: purpose.to_owned(),
            name: percent_decode_str(name).decode_utf8_lossy().into_owned(),
            key: listed.key.clone(),
            length: listed.length,
            created: listed.modified.0.div_euclid(1_000),
        })
    }

    pub(crate) fn describe(&self) -> Value {
        json!({
            "id": self.id,
            "object": "file",
            "bytes": self.length,
            "created_at": self.created,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "expires_at": null,
        })
    }
}

/// The key of a file.
pub(crate) fn key_of(id: &str, purpose: &str, name: &str) -> Result<ObjectKey, Refusal> {
    let name = percent_encoding::utf8_percent_encode(name, upload::NAME_ESCAPED);
    ObjectKey::new(&format!("{PREFIX}{id}/{purpose}/{name}"))
        .map_err(|_| Refusal::invalid("file", "Its name is too long."))
}

/// The file with this id.
pub(crate) async fn find(
    gateway: &Gateway,
    cx: &RequestContext,
    user_id: &str,
    id: &str,
) -> Result<File, Refusal> {
    if !is_id("file-", id) {
        return Err(Refusal::not_found("file", id));
    }
    let bucket = own_bucket(gateway, cx, user_id).await?.ok_or_else(|| Refusal::not_found("file", id))?;
    let prefix = format!("{PREFIX}{id}/");
    let request = ListObjects { bucket, prefix, delimiter: None, after: None, max: 8 };
    let page = gateway.store().list_objects(cx, request).await?;
    page.objects.iter().find_map(File::of).ok_or_else(|| Refusal::not_found("file", id))
}

/// Opens a file.
pub(crate) async fn open(
    gateway: &Gateway,
    cx: &RequestContext,
    user_id: &str,
    file: &File,
) -> Result<ObjectRead, Refusal> {
    let key = ObjectKey::new(&file.key).map_err(Error::from)?;
    let name = ObjectName::current(&bucket_of(user_id), &key);
    let request = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
    Ok(gateway.store().get_object(cx, request).await?)
}

/// Keys under a prefix, newest first, at most `max`.
pub(crate) async fn listed(
    gateway: &Gateway,
    cx: &RequestContext,
    user_id: &str,
    prefix: &str,
    max: usize,
) -> Result<Vec<ListedObject>, Refusal> {
    let mut objects = Vec::new();
    let Some(bucket) = own_bucket(gateway, cx, user_id).await? else { return Ok(objects) };
    let mut after = None;
    loop {
        let (bucket, prefix) = (bucket.clone(), prefix.to_owned());
        let request = ListObjects { bucket, prefix, delimiter: None, after, max: STEP };
        let page = gateway.store().list_objects(cx, request).await?;
        objects.extend(page.objects);
        if objects.len() > max {
            let message =
                format!("There are more than {max}, the most that are listed; list the bucket by S3.");
            return Err(Refusal::malformed(message));
        }
        match page.next_after {
            Some(next) => after = Some(next),
            None => return Ok(objects),
        }
    }
}

/// A page of what was listed, as OpenAI pages.
pub(crate) fn page<T>(
    mut items: Vec<T>,
    id: impl Fn(&T) -> &str,
    describe: impl Fn(&T) -> Value,
    query: &str,
    limit_max: u64,
) -> Result<(Value, bool), Refusal> {
    let Query(pairs) = query_pairs(query)?;
    let mut parameters = Parameters::of(pairs);
    parameters.take("purpose");
    let limit = match parameters.text("limit")?.map(|text| text.parse::<u64>()) {
        None => limit_max,
        Some(Ok(limit)) if (1..=limit_max).contains(&limit) => limit,
        Some(_) => return Err(Refusal::invalid("limit", format!("'limit' must be from 1 to {limit_max}."))),
    };
    match parameters.text("order")?.as_deref() {
        None | Some("desc") => {}
        Some("asc") => items.reverse(),
        Some(_) => return Err(Refusal::invalid("order", "'order' must be asc or desc.")),
    }
    let after = parameters.text("after")?;
    parameters.finish()?;
    let first = match after {
        None => 0,
        Some(after) => {
            let at = items.iter().position(|item| id(item) == after);
            at.ok_or_else(|| Refusal::invalid("after", "'after' names nothing in the list."))? + 1
        }
    };
    let rest = &items[first..];
    let shown = &rest[..rest.len().min(usize::try_from(limit).unwrap_or(usize::MAX))];
    let has_more = shown.len() < rest.len();
    let value = json!({
        "object": "list",
        "data": shown.iter().map(describe).collect::<Vec<_>>(),
        "first_id": shown.first().map(&id),
        "last_id": shown.last().map(&id),
        "has_more": has_more,
    });
    Ok((value, has_more))
}

fn query_pairs(query: &str) -> Result<Query<serde_json::Map<String, Value>>, Refusal> {
    let uri = format!("/?{query}").parse().map_err(|_| Refusal::malformed("The query does not read."))?;
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(&uri);
    let Query(pairs) = pairs.map_err(|_| Refusal::malformed("The query does not read."))?;
    Ok(Query(pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect()))
}

/// `GET /v1/files`
pub(crate) async fn list(State(gateway): State<Gateway>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    answered(gateway, Route::Files, request, |gateway, admitted, _| async move {
        let max = gateway.limits().files_listed_max;
        let user_id = &admitted.caller.identity.id;
        let objects = listed(&gateway, &admitted.cx, user_id, PREFIX, max).await?;
        let mut files: Vec<File> = objects.iter().filter_map(File::of).collect();
        let Query(pairs) = query_pairs(&query)?;
        if let Some(Value::String(purpose)) = pairs.get("purpose") {
            files.retain(|file| file.purpose == *purpose);
        }
        let (value, _) = page(files, |file| &file.id, File::describe, &query, 10_000)?;
        Ok(Json(value).into_response())
    })
    .await
}

/// `GET /v1/files/{id}`
pub(crate) async fn show(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answered(gateway, Route::Files, request, |gateway, admitted, _| async move {
        let file = find(&gateway, &admitted.cx, &admitted.caller.identity.id, &id).await?;
        Ok(Json(file.describe()).into_response())
    })
    .await
}

/// `GET /v1/files/{id}/content`
pub(crate) async fn content(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answered(gateway, Route::Files, request, |gateway, admitted, _| async move {
        let user_id = &admitted.caller.identity.id;
        let file = find(&gateway, &admitted.cx, user_id, &id).await?;
        let read = open(&gateway, &admitted.cx, user_id, &file).await?;
        let length = read.length.to_string();
        // The place is held until the last byte, which breaks off where the object does not read.
        let turn = admitted.turn;
        let body = read.body.map(move |piece| {
            let _held = &turn;
            piece
        });
        let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_LENGTH, length)];
        Ok((headers, Body::from_stream(body)).into_response())
    })
    .await
}

/// `DELETE /v1/files/{id}`
pub(crate) async fn remove(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answered(gateway, Route::Files, request, |gateway, admitted, _| async move {
        let user_id = &admitted.caller.identity.id;
        let file = find(&gateway, &admitted.cx, user_id, &id).await?;
        delete(&gateway, &admitted.cx, user_id, &file.key).await?;
        Ok(Json(json!({ "id": id, "object": "file", "deleted": true })).into_response())
    })
    .await
}

/// Deletes an object of the bucket.
pub(crate) async fn delete(
    gateway: &Gateway,
    cx: &RequestContext,
    user_id: &str,
    key: &str,
) -> Result<(), Refusal> {
    let key = ObjectKey::new(key).map_err(Error::from)?;
    let name = ObjectName::current(&bucket_of(user_id), &key);
    let request = DeleteObject { name, conditions: Conditions::default(), bypass_governance: false };
    gateway.store().delete_object(cx, request).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_time_down_and_read_back() {
        let (old, new) = (new_id("file-", 1_000), new_id("file-", 2_000));
        assert!(new < old && is_id("file-", &old) && is_id("file-", &new));
        for wrong in ["", "file-", "file-../../x", &old[1..], &format!("{old}0"), &old.to_uppercase()] {
            assert!(!is_id("file-", wrong), "{wrong}");
        }
    }

    #[test]
    fn pages_follow_each_other_in_both_orders() {
        let items = || (0..5).map(|n| n.to_string()).collect::<Vec<_>>();
        let of = |query: &str| page(items(), |item| item, |item| json!(item), query, 100);
        assert_eq!(of("").unwrap().0["data"], json!(["0", "1", "2", "3", "4"]));
        let (value, has_more) = of("limit=2&after=1").unwrap();
        assert_eq!((&value["data"], has_more), (&json!(["2", "3"]), true));
        assert_eq!(of("limit=2&order=asc&after=1").unwrap().0["data"], json!(["0"]));
        for wrong in ["limit=0", "limit=x", "order=up", "after=9", "colour=red"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
