//! `/api/keys`: API keys of the OpenAI-compatible face. A user manages his own, root everybody's; a key is answered once, when it
//! is made.

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_objects::api_keys::{ApiKeyFacts, ApiKeySpec, ApiKeysError, ListedApiKey};
use ashlar_objects::types::UnixMillis;
use ashlar_openai::Route;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::answers::{ApiKey, ApiKeysPage, NewApiKey, NewApiKeyAnswer};
use super::buckets::rfc3339;
use super::credentials::Caller;
use super::refusal::Refusal;
use super::{Answer, Body, Server, of};

impl From<ApiKeysError> for Refusal {
    fn from(error: ApiKeysError) -> Self {
        let (status, code) = match &error {
            ApiKeysError::AccessDenied => (StatusCode::FORBIDDEN, "AccessDenied"),
            ApiKeysError::NoSuchUser { .. } => (StatusCode::NOT_FOUND, "NoSuchUser"),
            ApiKeysError::BeingRemoved { .. } => (StatusCode::CONFLICT, "BeingRemoved"),
            ApiKeysError::NoSuchKey { .. } => (StatusCode::NOT_FOUND, "NoSuchApiKey"),
            ApiKeysError::TooManyKeys { .. } => (StatusCode::CONFLICT, "TooManyApiKeys"),
            ApiKeysError::Invalid { .. } => (StatusCode::BAD_REQUEST, "InvalidRequest"),
            ApiKeysError::AboveSpendCap { .. } => (StatusCode::CONFLICT, "AboveSpendCap"),
            ApiKeysError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal"),
        };
        if let ApiKeysError::Store(error) = error {
            return Self::from(error);
        }
        Self::new(status, code, error.to_string())
    }
}

/// Whose keys, and after which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    user: Option<String>,
    after: Option<String>,
}

/// `POST /api/keys`
pub(super) async fn create(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Body(new): Body<NewApiKey>,
) -> Answer<NewApiKeyAnswer> {
    let bad = |reason: &str| Refusal::new(StatusCode::BAD_REQUEST, "InvalidRequest", reason);
    let expires = match new.expires.as_deref() {
        None => None,
        Some(text) => {
            let moment = OffsetDateTime::parse(text, &Rfc3339);
            let moment =
                moment.map_err(|_| bad("'expires' is a moment as of RFC 3339, like 2030-01-31T00:00:00Z"))?;
            let millis = i64::try_from(moment.unix_timestamp_nanos() / 1_000_000);
            Some(UnixMillis(millis.map_err(|_| bad("'expires' is too far away"))?))
        }
    };
    let spend_cap = match new.spend_cap.as_deref().map(str::parse) {
        None => None,
        Some(Ok(cap)) => Some(cap),
        Some(Err(_)) => return Err(bad("'spend_cap' is a decimal number of wei")),
    };
    let names = Route::ALL.map(Route::name);
    if let Some(other) = new.routes.iter().flatten().find(|route| !names.contains(&route.as_str())) {
        return Err(bad(&format!("there is no route '{other}'; {} are", names.join(", "))));
    }
    let set = |items: Option<Vec<String>>| items.map(BTreeSet::from_iter);
    let spec =
        ApiKeySpec { name: new.name, expires, routes: set(new.routes), models: set(new.models), spend_cap };
    let user = new.user.unwrap_or_else(|| caller.0.name.clone());
    let made = server.store.api_keys().create(&of(caller), &user, spec).await?;
    let secret = made.secret.expose().to_owned();
    Ok(Json(NewApiKeyAnswer { key: describe(made.facts, 0), secret }))
}

/// `GET /api/keys?user=…&after=…`: the caller's own; root without a user gets everybody's.
pub(super) async fn list(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Query(selection): Query<Selection>,
) -> Answer<ApiKeysPage> {
    let user = selection.user.or_else(|| (!caller.0.root).then(|| caller.0.name.clone()));
    let keys = server.store.api_keys().list(&of(caller), user.as_deref(), selection.after.as_deref()).await;
    let (keys, next) = keys?;
    let keys = keys.into_iter().map(|ListedApiKey { facts, spent }| describe(facts, spent)).collect();
    Ok(Json(ApiKeysPage { keys, next }))
}

/// `DELETE /api/keys/{id}`
pub(super) async fn remove(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    server.store.api_keys().remove(&of(caller), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn describe(facts: ApiKeyFacts, spent: u128) -> ApiKey {
    let ApiKeyFacts { id, user_name, created, spec, .. } = facts;
    ApiKey {
        id,
        name: spec.name,
        user: user_name,
        created: rfc3339(created),
        expires: spec.expires.map(rfc3339),
        routes: spec.routes.map(Vec::from_iter),
        models: spec.models.map(Vec::from_iter),
        spend_cap: spec.spend_cap.map(|cap| cap.to_string()),
        spent: spent.to_string(),
    }
}
