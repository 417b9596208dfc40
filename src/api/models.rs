//! `/api/models`: names that stand for models, and importing one of what lies in the bucket `models`.

use std::sync::Arc;

use ashlar_objects::types::UnixMillis;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::answers::{ImportedModel, ModelFile};
use super::buckets::rfc3339;
use super::credentials::Caller;
use super::refusal::Refusal;
use super::{Answer, Server, of};
use crate::roles::models::{Imported, ModelsError};

impl From<ModelsError> for Refusal {
    fn from(error: ModelsError) -> Self {
        let (status, code) = match error {
            ModelsError::Store(error) => return Self::from(error),
            ModelsError::Name => (StatusCode::BAD_REQUEST, "InvalidRequest"),
            ModelsError::Unknown { .. } => (StatusCode::NOT_FOUND, "NoSuchModel"),
            ModelsError::Empty { .. }
            | ModelsError::TooLarge { .. }
            | ModelsError::Changed { .. }
            | ModelsError::Unusable { .. }
            | ModelsError::Manifest(_) => (StatusCode::CONFLICT, "NotAModel"),
            ModelsError::Folder { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "Internal"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// `GET /api/models`
pub(super) async fn list(State(server): State<Arc<Server>>, caller: Caller) -> Answer<Vec<ImportedModel>> {
    let served = server.models.names();
    let all = server.models.bucket().list(&of(caller)).await?;
    Ok(Json(all.into_iter().map(|one| describe(one, &served)).collect()))
}

/// `GET /api/models/{name}`
pub(super) async fn show(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<ImportedModel> {
    let served = server.models.names();
    let all = server.models.bucket().list(&of(caller)).await?;
    let found = all.into_iter().find(|one| one.name == name);
    Ok(Json(describe(found.ok_or(ModelsError::Unknown { name })?, &served)))
}

/// `PUT /api/models/{name}`: the name stands for what lies under it now.
pub(super) async fn import(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<ImportedModel> {
    let imported = server.models.bucket().import(&of(caller), &name).await?;
    Ok(Json(describe(imported, &server.models.names())))
}

fn describe(imported: Imported, served: &[String]) -> ImportedModel {
    let file = |entry: &ashlar_models::Entry| ModelFile {
        name: entry.name.clone(),
        length: entry.length,
        content_root: hex::encode(entry.content_root.0),
    };
    ImportedModel {
        is_served: served.contains(&imported.name),
        content_root: hex::encode(imported.root.0),
        length: imported.manifest.length(),
        imported: rfc3339(UnixMillis(imported.created_seconds.saturating_mul(1_000))),
        files: imported.manifest.entries().iter().map(file).collect(),
        name: imported.name,
    }
}
