//! `/v1/batches`: many requests in a file, answered when there is room.
//!
//! A batch is a job of [`Jobs`](ashlar_compute_api::jobs::Jobs), which makes it durable, and two small objects beside the caller's
//! files: `batches/<id>.json`, what was asked, and `batches/<id>.result.json`, what came of it. So a list of batches is a list of
//! objects, and where the answers go is decided when the batch is made: the statement's target and its option `errors`.
//!
//! Invariant: a batch is taken only when every line of it reads, names a model that there is, and would be let in if it were
//! sent alone; a line that is answered is answered by the same code as a request.

mod check;
mod record;
mod runner;

use std::collections::{BTreeMap, BTreeSet};

use ashlar_compute_api::jobs::{
    End, Input, Job, JobSpec, JobState, JobsError, Kind, Limits as JobLimits, Statement,
};
use ashlar_compute_api::{Amount, ContentRoot};
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::admission::{Admitted, answered, read_body};
use crate::credentials::Route;
use crate::files;
use crate::gateway::Gateway;
use crate::models::{self, ModelKind};
use crate::parameters::Parameters;
use crate::refusal::Refusal;

use record::{Outcome, Record};
pub use runner::BatchRunner;

/// What the text of a batch's statement begins with; a space and the endpoint follow.
pub const BATCH_STATEMENT: &str = "openai batch 1";
/// Options of the statement: where failed lines go, and the API key that pays.
const ERRORS: &str = "errors";
const API_KEY: &str = "api_key";
/// Leases that a unit may have.
const ATTEMPTS_MAX: u32 = 3;
/// Seconds in which a batch ends, one way or another.
const WINDOW_SECONDS: i64 = 24 * 60 * 60;
const WINDOW: &str = "24h";
/// Most pairs of metadata, and most bytes of a name and of a value, as OpenAI has it.
const METADATA_MAX: (usize, usize, usize) = (16, 64, 512);
/// Batches of a page, and batches that are listed at all.
const PAGE_MAX: u64 = 100;
const LISTED_MAX: usize = 10_000;

/// Which requests a batch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
}

impl Endpoint {
    const ALL: [Self; 3] = [Self::Chat, Self::Completions, Self::Embeddings];

    fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }

    fn route(self) -> Route {
        match self {
            Self::Chat => Route::Chat,
            Self::Completions => Route::Completions,
            Self::Embeddings => Route::Embeddings,
        }
    }

    fn kinds(self) -> (Kind, ModelKind) {
        match self {
            Self::Chat | Self::Completions => (Kind::Inference, ModelKind::Language),
            Self::Embeddings => (Kind::Embedding, ModelKind::Embedding),
        }
    }
}

/// `POST /v1/batches`
pub(crate) async fn create(State(gateway): State<Gateway>, request: Request) -> Response {
    answered(gateway, Route::Batches, request, |gateway, admitted, body| async move {
        let jobs = gateway.jobs()?;
        let body = read_body(&gateway, &admitted.headers, body).await?;
        let mut parameters = Parameters::parse(&body.bytes)?;
        drop(body);
        let file_id = parameters.required_text("input_file_id")?;
        let endpoint = parameters.required_text("endpoint")?;
        let endpoint = Endpoint::of_path(&endpoint).ok_or_else(|| {
            let paths = Endpoint::ALL.map(Endpoint::path).join(", ");
            Refusal::invalid("endpoint", format!("'endpoint' must be one of {paths}."))
        })?;
        if parameters.required_text("completion_window")? != WINDOW {
            return Err(Refusal::invalid("completion_window", "'completion_window' must be 24h."));
        }
        let metadata = metadata(parameters.take("metadata"))?;
        parameters.only("output_expires_after", |_| false, "files stay until they are deleted.")?;
        parameters.finish()?;
        admitted.caller.check(endpoint.route())?;
        let (record, spec) = prepare(&gateway, &admitted, &file_id, endpoint, metadata).await?;
        record.keep(&gateway, &admitted.cx, &admitted.caller.identity.id).await?;
        match jobs.submit(spec).await {
            Ok(submitted) => Ok(Json(describe(&record, Ok(submitted.job), None)).into_response()),
            Err(error) => {
                record.forget(&gateway, &admitted.cx, &admitted.caller.identity.id).await?;
                Err(error.into())
            }
        }
    })
    .await
}

fn metadata(value: Option<Value>) -> Result<BTreeMap<String, String>, Refusal> {
    let (pairs_max, name_bytes_max, value_bytes_max) = METADATA_MAX;
    let metadata = match value {
        None => Some(BTreeMap::new()),
        Some(value) => serde_json::from_value::<BTreeMap<String, String>>(value).ok(),
    };
    let fits = |of: &BTreeMap<String, String>| {
        let mut pairs = of.iter();
        of.len() <= pairs_max
            && pairs.all(|(name, value)| name.len() <= name_bytes_max && value.len() <= value_bytes_max)
    };
    metadata.filter(fits).ok_or_else(|| {
        let message = format!(
            "'metadata' must be up to {pairs_max} pairs of strings, of {name_bytes_max} and {value_bytes_max} bytes."
        );
        Refusal::invalid("metadata", message)
    })
}

/// Reads the file, and says what is to be remembered and done.
async fn prepare(
    gateway: &Gateway,
    admitted: &Admitted,
    file_id: &str,
    endpoint: Endpoint,
    metadata: BTreeMap<String, String>,
) -> Result<(Record, JobSpec), Refusal> {
    let user_id = &admitted.caller.identity.id;
    let file = files::find(gateway, &admitted.cx, user_id, file_id).await?;
    if file.purpose != "batch" {
        return Err(Refusal::invalid("input_file_id", "The file was not uploaded for the purpose batch."));
    }
    let read = files::open(gateway, &admitted.cx, user_id, &file).await?;
    let content_root = ContentRoot(read.head.content_root.0.0);
    let checked = check::check(read.body, endpoint, gateway.limits().clone()).await?;
    let mut roots = BTreeSet::new();
    for (name, line) in &checked.models {
        let served = models::resolve(gateway, &admitted.caller, name, endpoint.kinds().1).await;
        let served = served.map_err(|refusal| check::in_line(*line, refusal))?;
        roots.insert(served.facts.root);
    }
    let now = gateway.now_millis();
    let id = files::new_id("batch_", now);
    let bucket = files::bucket_of(user_id);
    let file_of = |what: &str| -> Result<(String, String), Refusal> {
        let file_id = files::new_id("file-", now);
        let key = files::key_of(&file_id, files::BATCH_OUTPUT, &format!("{id}_{what}.jsonl"))?;
        Ok((file_id, format!("s3://{bucket}/{key}")))
    };
    let (output_file_id, output) = file_of("output")?;
    let (error_file_id, errors) = file_of("error")?;
    let mut options = BTreeMap::from([(ERRORS.to_owned(), errors)]);
    let key = admitted.caller.key.as_ref();
    options.extend(key.map(|key| (API_KEY.to_owned(), key.id.clone())));
    let input = Input { bucket: bucket.to_string(), key: file.key, version: [0; 16], content_root };
    let statement = Statement {
        kind: endpoint.kinds().0,
        principal: user_id.clone(),
        target: output,
        text: format!("{BATCH_STATEMENT} {}", endpoint.path()),
        inputs: BTreeSet::from([input]),
        models: roots,
        options,
        seed: 0,
    };
    let created_at = gateway.now_seconds();
    let cap = key.and_then(|key| key.spec.spend_cap).and_then(|cap| Amount::try_from(cap).ok());
    let limits = JobLimits {
        deadline: u64::try_from(created_at + WINDOW_SECONDS).ok(),
        spend_cap: cap.unwrap_or(Amount::MAX),
        attempts_max: ATTEMPTS_MAX,
    };
    let spec = JobSpec { statement, client_key: Some(id.clone()), limits };
    let record = Record {
        id,
        job: spec.id(),
        endpoint: endpoint.path().to_owned(),
        input_file_id: file_id.to_owned(),
        output_file_id,
        error_file_id,
        lines: checked.lines,
        created_at,
        expires_at: created_at + WINDOW_SECONDS,
        metadata,
    };
    Ok((record, spec))
}

/// `GET /v1/batches/{id}`
pub(crate) async fn show(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answered(gateway, Route::Batches, request, |gateway, admitted, _| async move {
        Ok(Json(look(&gateway, &admitted, &id).await?).into_response())
    })
    .await
}

/// `POST /v1/batches/{id}/cancel`
pub(crate) async fn cancel(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answered(gateway, Route::Batches, request, |gateway, admitted, _| async move {
        let user_id = &admitted.caller.identity.id;
        let record = Record::read(&gateway, &admitted.cx, user_id, &id).await?;
        let job = gateway.jobs()?.cancel(user_id, record.job).await?;
        Ok(Json(describe(&record, Ok(job), None)).into_response())
    })
    .await
}

/// `GET /v1/batches`
pub(crate) async fn list(State(gateway): State<Gateway>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    answered(gateway, Route::Batches, request, |gateway, admitted, _| async move {
        let user_id = &admitted.caller.identity.id;
        let objects = files::listed(&gateway, &admitted.cx, user_id, record::PREFIX, LISTED_MAX).await?;
        let ids: Vec<String> = objects.iter().filter_map(|object| record::id_of(&object.key)).collect();
        let (mut value, _) = files::page(ids, |id| id, |id| json!(id), &query, PAGE_MAX)?;
        let shown = value["data"].as_array().cloned().unwrap_or_default();
        let mut data = Vec::with_capacity(shown.len());
        for id in shown.iter().filter_map(Value::as_str) {
            data.push(look(&gateway, &admitted, id).await?);
        }
        value["data"] = Value::Array(data);
        Ok(Json(value).into_response())
    })
    .await
}

/// A batch as it stands.
async fn look(gateway: &Gateway, admitted: &Admitted, id: &str) -> Result<Value, Refusal> {
    let user_id = &admitted.caller.identity.id;
    let record = Record::read(gateway, &admitted.cx, user_id, id).await?;
    let job = gateway.jobs()?.job(user_id, record.job).await;
    if let Err(error @ (JobsError::Busy { .. } | JobsError::Unavailable { .. })) = job {
        return Err(error.into());
    }
    let has_ended = job.as_ref().is_ok_and(Job::has_ended);
    let outcome = if has_ended { Outcome::read(gateway, &admitted.cx, user_id, id).await? } else { None };
    Ok(describe(&record, job, outcome.as_ref()))
}

/// As OpenAI's. Of times only those are told that are known.
fn describe(record: &Record, job: Result<Job, JobsError>, outcome: Option<&Outcome>) -> Value {
    let (status, reason) = match job.as_ref().map(|job| &job.state) {
        Ok(JobState::Open | JobState::Materialising) => ("validating", None),
        Ok(JobState::Running) => ("in_progress", None),
        Ok(JobState::Publishing) => ("finalizing", None),
        Ok(JobState::Done { .. }) => ("completed", None),
        Ok(JobState::Stopping(End::Cancelled)) => ("cancelling", None),
        Ok(JobState::Ended(End::Cancelled)) => ("cancelled", None),
        Ok(JobState::Stopping(End::DeadlinePassed) | JobState::Ended(End::DeadlinePassed)) => {
            ("expired", None)
        }
        Ok(JobState::Stopping(End::Failed { reason }) | JobState::Ended(End::Failed { reason })) => {
            ("failed", Some(reason.clone()))
        }
        Err(_) => ("failed", Some("it was never submitted; make it again".to_owned())),
    };
    let errors = reason.map(|reason| {
        let error = json!({ "code": "batch_failed", "message": reason, "param": null, "line": null });
        json!({ "object": "list", "data": [error] })
    });
    let counted = outcome.map_or((0, 0), |outcome| (outcome.completed, outcome.failed));
    let finished_at = |of: &str| outcome.map(|outcome| outcome.finished_at).filter(|_| status == of);
    json!({
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "errors": errors,
        "input_file_id": record.input_file_id,
        "completion_window": WINDOW,
        "status": status,
        "output_file_id": outcome.filter(|outcome| outcome.completed > 0).map(|_| &record.output_file_id),
        "error_file_id": outcome.filter(|outcome| outcome.failed > 0).map(|_| &record.error_file_id),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "in_progress_at": null,
        "finalizing_at": null,
        "completed_at": finished_at("completed"),
        "failed_at": finished_at("failed"),
        "expired_at": finished_at("expired"),
        "cancelling_at": null,
        "cancelled_at": finished_at("cancelled"),
        "request_counts": { "total": record.lines, "completed": counted.0, "failed": counted.1 },
        "metadata": record.metadata,
        "job": record.job.to_string(),
    })
}
