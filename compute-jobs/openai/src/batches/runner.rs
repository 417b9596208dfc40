//! Answers the lines of a batch in this process, as the user who made it and with his key.
//!
//! Invariant: what becomes visible is whole: the answers of all lines, or nothing; run again, a batch writes the same keys
//! anew. Lines are answered in their order, a few at once, and wait where there is no room, because nobody waits for
//! them. Not durable by itself: who runs it, and again after a crash, is the implementation of
//! [`Jobs`](ashlar_compute_api::jobs::Jobs); lines that were answered before a crash are then answered, and paid, again.

use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::jobs::{Job, StageError};
use ashlar_objects::Error;
use ashlar_objects::access::{Principal, RequestContext, UserIdentity};
use ashlar_objects::requests::{BodyError, ObjectName, ReadObject, Selection};
use ashlar_objects::types::{Attributes, BucketName, Conditions, ObjectKey};
use axum::http::StatusCode;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::check::{Line, lines};
use super::record::Outcome;
use super::{API_KEY, BATCH_STATEMENT, ERRORS, Endpoint};
use crate::answer::Asker;
use crate::credentials::Caller;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::{chat, completions, embeddings, files};

/// Times a line is tried while there is no room, and the longest wait between two.
const LINE_ATTEMPTS_MAX: u32 = 60;
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Answers that wait to be written.
const WRITTEN_AHEAD_MAX: usize = 16;

/// Runs batches. Cheap to clone.
#[derive(Clone)]
pub struct BatchRunner {
    gateway: Gateway,
}

/// What a statement says, read.
struct Plan {
    id: String,
    endpoint: Endpoint,
    user_id: String,
    input: ObjectName,
    content_root: ContentRoot,
    output: ObjectKey,
    errors: ObjectKey,
    cx: RequestContext,
    caller: Caller,
}

type Pieces = mpsc::Sender<Result<Bytes, BodyError>>;

impl BatchRunner {
    /// Runs batches by the models of a gateway.
    #[must_use]
    pub fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }

    /// Whether a job is a batch.
    pub fn is_batch(job: &Job) -> bool {
        job.spec.statement.text.starts_with(BATCH_STATEMENT)
    }

    /// Answers all lines, writes the files, and answers the content root of the answers, or of the errors where there is
    /// nothing else. Stopped, it leaves nothing.
    pub async fn run(&self, job: &Job, stop: &CancellationToken) -> Result<ContentRoot, StageError> {
        let plan = self.plan(job).await?;
        let request = ReadObject {
            name: plan.input.clone(),
            selection: Selection::Whole,
            conditions: Conditions::default(),
        };
        let read = self.gateway.store().get_object(&plan.cx, request).await.map_err(again)?;
        if read.head.content_root.0.0 != plan.content_root.0 {
            return Err(end("the file was changed after the batch was made"));
        }
        let (answers, answers_read) = mpsc::channel(WRITTEN_AHEAD_MAX);
        let (errors, errors_read) = mpsc::channel(WRITTEN_AHEAD_MAX);
        let work = self.answer_all(&plan, read.body, answers, errors, stop);
        let answers = self.write(&plan, &plan.output, answers_read);
        let errors = self.write(&plan, &plan.errors, errors_read);
        let (work, answers, errors) = Box::pin(async { tokio::join!(work, answers, errors) }).await;
        let (completed, failed) = work?;
        let (answers, errors) = (answers?, errors?);
        let finished_at = self.gateway.now_seconds();
        let outcome = Outcome { completed, failed, finished_at };
        let kept = outcome.keep(&self.gateway, &plan.cx, &plan.user_id, &plan.id).await;
        kept.map_err(|refusal| StageError::Again { reason: refusal.message })?;
        answers.or(errors).ok_or_else(|| end("the file has no line"))
    }

    async fn plan(&self, job: &Job) -> Result<Plan, StageError> {
        let statement = &job.spec.statement;
        let path = statement.text.strip_prefix(BATCH_STATEMENT).map(str::trim_start);
        let endpoint = path.and_then(Endpoint::of_path).ok_or_else(|| end("the job is no batch"))?;
        let id = job.spec.client_key.clone().ok_or_else(|| end("the batch has no id"))?;
        let input = statement.inputs.first().ok_or_else(|| end("the batch has no file"))?;
        let bucket = files::bucket_of(&statement.principal);
        let own_key = |url: &str| {
            let key = url.strip_prefix(&format!("s3://{bucket}/")).and_then(|key| ObjectKey::new(key).ok());
            key.ok_or_else(|| end("the batch writes elsewhere"))
        };
        let is_own = BucketName::new(&input.bucket).is_ok_and(|of| of == bucket);
        let key =
            ObjectKey::new(&input.key).ok().filter(|_| is_own).ok_or_else(|| end("the file is another's"))?;
        let errors = statement.options.get(ERRORS).map(String::as_str).unwrap_or_default();
        let caller = self.caller(&statement.principal, statement.options.get(API_KEY)).await?;
        let cx = RequestContext {
            principal: Principal::User(Arc::clone(&caller.identity)),
            request_id: id.as_str().into(),
            source_ip: None,
            secure_transport: true,
            user_agent: None,
            referer: None,
            keys: Vec::new(),
        };
        Ok(Plan {
            id,
            endpoint,
            user_id: statement.principal.clone(),
            input: ObjectName::current(&bucket, &key),
            content_root: input.content_root,
            output: own_key(&statement.target)?,
            errors: own_key(errors)?,
            cx,
            caller,
        })
    }

    /// The user, as far as he still may: a key that is gone or expired ends what was begun with it.
    async fn caller(&self, user_id: &str, key: Option<&String>) -> Result<Caller, StageError> {
        let store = self.gateway.store();
        if let Some(id) = key {
            let standing = store.api_keys().standing(id).await;
            let standing = standing.map_err(|error| StageError::Again { reason: error.to_string() })?;
            return Caller::of_key(standing)
                .map_err(|_| end("the API key that made the batch is gone or expired"));
        }
        let user = store.users().by_id(user_id).await;
        let user = user.map_err(|error| StageError::Again { reason: error.to_string() })?;
        let user = user.ok_or_else(|| end("the user who made the batch is gone"))?;
        let access_key = format!("batches of {}", user.name);
        let identity = UserIdentity { id: user.id, name: user.name, access_key, root: user.root };
        Ok(Caller { identity: Arc::new(identity), key: None })
    }

    /// Answers lines in their order; how many were answered and how many refused.
    async fn answer_all(
        &self,
        plan: &Plan,
        body: impl futures::Stream<Item = Result<Bytes, Error>> + Send + Unpin + 'static,
        answers: Pieces,
        errors: Pieces,
        stop: &CancellationToken,
    ) -> Result<(u64, u64), StageError> {
        let limits = self.gateway.limits();
        let answered = lines(body, plan.endpoint, limits)
            .map(|line| async move {
                let line = line.map_err(|reason| StageError::Again { reason })?;
                self.answer(plan, line).await
            })
            .buffered(limits.batch_lines_at_once.max(1));
        tokio::pin!(answered);
        let (mut completed, mut failed) = (0, 0);
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => Some(Err(end("it was stopped"))),
                next = answered.next() => next,
            };
            let (value, is_answer) = match next {
                None => return Ok((completed, failed)),
                Some(Ok(answer)) => answer,
                Some(Err(error)) => {
                    // Files that are not whole are not to become visible. Who writes them may have failed before.
                    let broken = || Err(BodyError::Incomplete { received: 0 });
                    answers.send(broken()).await.ok();
                    errors.send(broken()).await.ok();
                    return Err(error);
                }
            };
            let (count, to) = if is_answer { (&mut completed, &answers) } else { (&mut failed, &errors) };
            *count += 1;
            let line = Bytes::from(format!("{value}\n"));
            let written = to.send(Ok(line)).await;
            written
                .map_err(|_| StageError::Again { reason: "the answers could not be written".to_owned() })?;
        }
    }

    /// A line's answer as it is written, and whether it is one.
    async fn answer(&self, plan: &Plan, line: Line) -> Result<(Value, bool), StageError> {
        let request_id = format!("batch_req_{:032x}", rand::random::<u128>());
        let result = self.answer_when_there_is_room(plan, &line, &request_id).await;
        let (status, body) = match result {
            Ok(value) => (StatusCode::OK, value),
            Err(refusal) => (refusal.status, refusal.body()),
        };
        let response = json!({ "status_code": status.as_u16(), "request_id": request_id, "body": body });
        let value = json!({ "id": request_id, "custom_id": line.id, "response": response, "error": null });
        Ok((value, status == StatusCode::OK))
    }

    async fn answer_when_there_is_room(
        &self,
        plan: &Plan,
        line: &Line,
        request_id: &str,
    ) -> Result<Value, Refusal> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let asker = Asker {
                caller: plan.caller.clone(),
                request_id: request_id.into(),
                turn: Arc::new(self.gateway.rates().aside()),
                _held: None,
            };
            let answer = match plan.endpoint {
                Endpoint::Chat => chat::answer_line(&self.gateway, asker, &line.body).await,
                Endpoint::Completions => completions::answer_line(&self.gateway, asker, &line.body).await,
                Endpoint::Embeddings => embeddings::answer_line(&self.gateway, asker, &line.body).await,
            };
            match answer {
                Err(Refusal { retry_after_seconds: Some(seconds), .. }) if attempt < LINE_ATTEMPTS_MAX => {
                    tokio::time::sleep(Duration::from_secs(seconds.into()).min(WAIT_MAX)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Writes a file of lines; `None` where there is no line.
    async fn write(
        &self,
        plan: &Plan,
        key: &ObjectKey,
        mut pieces: mpsc::Receiver<Result<Bytes, BodyError>>,
    ) -> Result<Option<ContentRoot>, StageError> {
        let Some(first) = pieces.recv().await else { return Ok(None) };
        let rest = futures::stream::unfold(pieces, async |mut pieces| {
            pieces.recv().await.map(|piece| (piece, pieces))
        });
        let payload = files::payload(futures::stream::iter([first]).chain(rest));
        let attributes =
            Attributes { content_type: Some("application/jsonl".to_owned()), ..Attributes::default() };
        let written = files::put(&self.gateway, &plan.cx, &plan.user_id, key, payload, attributes).await;
        Ok(Some(ContentRoot(written.map_err(again)?.content_root.0.0)))
    }
}

fn end(reason: &str) -> StageError {
    StageError::Final { reason: reason.to_owned() }
}

fn again(error: Error) -> StageError {
    match error {
        Error::NoSuchKey | Error::NoSuchBucket => end("the file of the batch is gone"),
        Error::AccessDenied => end("its user may not read or write the batch's files"),
        error => StageError::Again { reason: error.to_string() },
    }
}
