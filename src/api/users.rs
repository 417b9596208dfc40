//! `/api/users`: users and their access keys. Root only; a secret is answered once, when its key is made.

use std::sync::Arc;

use ashlar_objects::access::{Principal, RequestContext};
use ashlar_objects::users::{UserFacts, UsersError};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::answers::{NewKey, NewUser, User};
use super::credentials::Root;
use super::refusal::Refusal;
use super::{Answer, Body, Server, context};

/// Users asked for in one step of a list.
const STEP: usize = 1000;

impl From<UsersError> for Refusal {
    fn from(error: UsersError) -> Self {
        let (status, code) = match &error {
            UsersError::AccessDenied => return Self::root_only(),
            UsersError::InvalidName { .. } => (StatusCode::BAD_REQUEST, "InvalidName"),
            UsersError::InvalidCredential { .. } => (StatusCode::BAD_REQUEST, "InvalidCredential"),
            UsersError::UserExists { .. } => (StatusCode::CONFLICT, "UserExists"),
            UsersError::NoSuchUser { .. } => (StatusCode::NOT_FOUND, "NoSuchUser"),
            UsersError::RootStays => (StatusCode::CONFLICT, "RootStays"),
            UsersError::OwnsBuckets { .. } => (StatusCode::CONFLICT, "OwnsBuckets"),
            UsersError::BeingRemoved { .. } => (StatusCode::CONFLICT, "BeingRemoved"),
            UsersError::AccessKeyTaken { .. } => (StatusCode::CONFLICT, "AccessKeyTaken"),
            UsersError::NoSuchAccessKey { .. } => (StatusCode::NOT_FOUND, "NoSuchAccessKey"),
            UsersError::TooManyAccessKeys { .. } => (StatusCode::CONFLICT, "TooManyAccessKeys"),
            UsersError::Sealed { .. } => return Self::internal("opening a secret", &error),
            UsersError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal"),
        };
        if let UsersError::Store(error) = error {
            return Self::from(error);
        }
        Self::new(status, code, error.to_string())
    }
}

/// `GET /api/users`
pub(super) async fn list(State(server): State<Arc<Server>>, root: Root) -> Answer<Vec<User>> {
    let cx = of(root);
    let mut users = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let (page, next) = server.store.users().list_users(&cx, after.as_deref(), STEP).await?;
        users.extend(page.into_iter().map(describe));
        match next {
            Some(next) => after = Some(next),
            None => return Ok(Json(users)),
        }
    }
}

/// `GET /api/users/{name}`
pub(super) async fn show(
    State(server): State<Arc<Server>>,
    _: Root,
    Path(name): Path<String>,
) -> Answer<User> {
    let found = server.store.users().by_name(&name).await?;
    let found = found
        .ok_or_else(|| Refusal::from(UsersError::NoSuchUser { name: name.chars().take(80).collect() }))?;
    Ok(Json(describe(found)))
}

/// `POST /api/users`: a user with one access key.
pub(super) async fn add(
    State(server): State<Arc<Server>>,
    root: Root,
    Body(new): Body<NewUser>,
) -> Answer<NewKey> {
    let cx = of(root);
    server.store.users().add_user(&cx, &new.name).await?;
    make_key(&server, &cx, new.name).await
}

/// `DELETE /api/users/{name}`
pub(super) async fn remove(
    State(server): State<Arc<Server>>,
    root: Root,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    server.store.users().remove_user(&of(root), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/users/{name}/keys`
pub(super) async fn list_keys(
    State(server): State<Arc<Server>>,
    root: Root,
    Path(name): Path<String>,
) -> Answer<Vec<String>> {
    let keys = server.store.users().list_keys(&of(root), &name).await?;
    Ok(Json(keys.into_iter().map(|key| key.access_key).collect()))
}

/// `POST /api/users/{name}/keys`
pub(super) async fn add_key(
    State(server): State<Arc<Server>>,
    root: Root,
    Path(name): Path<String>,
) -> Answer<NewKey> {
    make_key(&server, &of(root), name).await
}

/// `DELETE /api/users/{name}/keys/{access_key}`
pub(super) async fn remove_key(
    State(server): State<Arc<Server>>,
    root: Root,
    Path((name, access_key)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    server.store.users().remove_key(&of(root), &name, &access_key).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn of(Root(identity): Root) -> RequestContext {
    context(Principal::User(identity))
}

async fn make_key(server: &Server, cx: &RequestContext, user: String) -> Answer<NewKey> {
    let key = server.store.users().add_key(cx, &user).await?;
    Ok(Json(NewKey { user, access_key: key.access_key, secret_key: key.secret.expose().to_owned() }))
}

fn describe(facts: UserFacts) -> User {
    User { name: facts.name, id: facts.id, root: facts.root, access_keys: facts.access_keys }
}
