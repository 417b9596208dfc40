//! Why something was not done, in the shape in which OpenAI's clients expect it: `{"error": {message, type, param, code}}`.
//!
//! Invariant: internal detail stays in the log, under the request id that the client is shown; every other refusal says
//! what is wrong and, where a parameter is, which.

use ashlar_compute_api::inference::InferenceError;
use ashlar_compute_api::jobs::JobsError;
use ashlar_objects::Error;
use ashlar_objects::api_keys::ApiKeysError;
use ashlar_objects::requests::BodyError;
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::models::ModelRefusal;

/// Something wrong in a line of a file, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineFault {
    pub(crate) line: u64,
    pub(crate) reason: String,
}

/// Why the face did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    pub(crate) retry_after_seconds: Option<u32>,
    pub(crate) lines: Vec<LineFault>,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl Refusal {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        let message = message.into();
        Self { status, kind, code, param: None, message, retry_after_seconds: None, lines: Vec::new() }
    }

    fn with_param(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    fn again_in(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds.max(1)), ..self }
    }

    /// The request as a whole does not read.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, None, message)
    }

    /// A parameter has a value that it cannot have.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, Some("invalid_value"), message).with_param(param)
    }

    /// A parameter must be there.
    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        let code = Some("missing_required_parameter");
        Self::new(StatusCode::BAD_REQUEST, INVALID, code, message).with_param(param)
    }

    /// A parameter that OpenAI has and this server would not obey.
    pub(crate) fn unsupported(param: impl Into<String>, why: &str) -> Self {
        let param = param.into();
        let message = format!("'{param}' is not supported here: {why}");
        Self::new(StatusCode::BAD_REQUEST, INVALID, Some("unsupported_parameter"), message).with_param(param)
    }

    /// A parameter that nobody knows.
    pub(crate) fn unknown_parameter(param: &str) -> Self {
        let message = format!("Unknown parameter: '{param}'.");
        Self::new(StatusCode::BAD_REQUEST, INVALID, Some("unknown_parameter"), message).with_param(param)
    }

    /// Request and answer do not fit into the model.
    pub(crate) fn too_long(units: u64, maximum: u64, param: &str) -> Self {
        let message = format!(
            "This model's maximum context length is {maximum} tokens. The request and what it asks for come to {units}."
        );
        let code = Some("context_length_exceeded");
        Self::new(StatusCode::BAD_REQUEST, INVALID, code, message).with_param(param)
    }

    /// Lines of a file are not what they must be.
    pub(crate) fn lines(param: &str, lines: Vec<LineFault>) -> Self {
        let listed: Vec<String> =
            lines.iter().map(|fault| format!("line {}: {}", fault.line, fault.reason)).collect();
        let message = format!("The file cannot be used: {}", listed.join("; "));
        let refusal = Self::new(StatusCode::BAD_REQUEST, INVALID, Some("invalid_jsonl"), message);
        Self { lines, ..refusal.with_param(param) }
    }

    /// A body is larger than what is read.
    pub(crate) fn too_large(maximum: u64) -> Self {
        let message = format!("The request is larger than {maximum} bytes, the most that is read.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, Some("request_too_large"), message)
    }

    /// The client sends too slowly.
    pub(crate) fn too_slow() -> Self {
        let message = "The request's body came too slowly.";
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, Some("request_timeout"), message)
    }

    /// Nobody proved to be anybody.
    pub(crate) fn unauthenticated() -> Self {
        let message = "Incorrect API key provided. Send an API key of this server (sk-ashlar-…), \
                       `<access key>:<secret key>` as one, or HTTP Basic with the pair.";
        Self::new(StatusCode::UNAUTHORIZED, INVALID, Some("invalid_api_key"), message)
    }

    /// The key was one.
    pub(crate) fn expired() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, INVALID, Some("expired_api_key"), "The API key has expired.")
    }

    /// The key does not open this.
    pub(crate) fn out_of_scope(what: &str) -> Self {
        let message = format!("This API key's scope has no {what}.");
        let code = Some("insufficient_permissions");
        Self::new(StatusCode::FORBIDDEN, "insufficient_permissions", code, message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(what: &str, id: &str) -> Self {
        let id: String = id.chars().take(100).collect();
        let message = format!("There is no {what} '{id}'.");
        Self::new(StatusCode::NOT_FOUND, INVALID, Some("not_found"), message).with_param("id")
    }

    /// There is no such model for this caller.
    pub(crate) fn no_model(name: &str) -> Self {
        let name: String = name.chars().take(100).collect();
        let message = format!("The model '{name}' does not exist or you do not have access to it.");
        let code = Some("model_not_found");
        Self::new(StatusCode::NOT_FOUND, INVALID, code, message).with_param("model")
    }

    /// There is no such page.
    pub(crate) fn no_route(path: &str) -> Self {
        let path: String = path.chars().take(100).collect();
        let message = format!("Unknown request URL: {path}.");
        Self::new(StatusCode::NOT_FOUND, INVALID, Some("unknown_url"), message)
    }

    /// There is such a page, but not with this method.
    pub(crate) fn no_method() -> Self {
        let message = "Not with this method.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, Some("method_not_allowed"), message)
    }

    /// What OpenAI has and this server does not.
    pub(crate) fn not_built(what: &str) -> Self {
        let message = format!("{what} is not available on this server.");
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_implemented_error", Some("not_implemented"), message)
    }

    /// It does not fit how things stand.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, INVALID, Some("conflict"), message)
    }

    /// A limit of this key, or capacity, is used up for now.
    pub(crate) fn busy(what: &str, retry_after_seconds: u32) -> Self {
        let code = Some("rate_limit_exceeded");
        let message = format!("{what} Nothing is queued; try again in {} s.", retry_after_seconds.max(1));
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", code, message)
            .again_in(retry_after_seconds)
    }

    /// The key has spent what it may.
    pub(crate) fn quota(message: impl Into<String>) -> Self {
        let code = Some("insufficient_quota");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", code, message)
    }

    /// Nothing is there that could answer now.
    pub(crate) fn unavailable(what: &str, retry_after_seconds: u32) -> Self {
        let code = Some("service_unavailable");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, code, what).again_in(retry_after_seconds)
    }

    /// The provider's answer is not passed on, because it is not what it must be. Why is for the watch, not for the client.
    pub(crate) fn misconduct() -> Self {
        let message =
            "The provider's answer does not match what it counted for it; it was ended and reported.";
        Self::new(StatusCode::BAD_GATEWAY, SERVER, Some("provider_misconduct"), message)
    }

    /// The provider failed: logged whole.
    pub(crate) fn provider_failed(request_id: &str, reason: &str) -> Self {
        tracing::warn!(request_id, reason, "a provider failed");
        let message = "The provider failed; the server's log says why under this request id.";
        Self::new(StatusCode::BAD_GATEWAY, SERVER, Some("provider_failed"), message)
    }

    /// A fault of ours: logged whole, shown as a request id.
    pub(crate) fn internal(what: &'static str, cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "{what} failed");
        let message = "The server failed; its log says why.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, Some("internal_error"), message)
    }

    /// Of a runtime; without a parameter where an answer had begun.
    pub(crate) fn of_inference(error: InferenceError, param: &str, request_id: &str) -> Self {
        match error {
            InferenceError::Invalid { reason } if param.is_empty() => Self::malformed(reason),
            InferenceError::Invalid { reason } => Self::malformed(reason).with_param(param),
            InferenceError::TooLong { units, maximum } => Self::too_long(units, maximum, param),
            InferenceError::Busy { retry_after_seconds } => {
                Self::busy("The model has no capacity now.", retry_after_seconds)
            }
            InferenceError::Failed { reason } => Self::provider_failed(request_id, &reason),
        }
    }

    /// As in an answer's body, and in a stream that had begun.
    pub(crate) fn body(&self) -> Value {
        let mut error = json!({
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        });
        if !self.lines.is_empty() {
            let lines = self.lines.iter();
            error["lines"] =
                lines.map(|fault| json!({ "line": fault.line, "message": fault.reason })).collect();
        }
        json!({ "error": error })
    }
}

impl From<ModelRefusal> for Refusal {
    fn from(refusal: ModelRefusal) -> Self {
        match refusal {
            ModelRefusal::Unknown { name } => Self::no_model(&name),
            ModelRefusal::NoProvider { retry_after_seconds } => {
                Self::unavailable("No provider of this model is there now.", retry_after_seconds)
            }
            ModelRefusal::Unavailable { .. } => Self::internal("asking for a model", &refusal),
        }
    }
}

impl From<ApiKeysError> for Refusal {
    fn from(error: ApiKeysError) -> Self {
        match error {
            ApiKeysError::AboveSpendCap { .. } => {
                Self::quota(format!("{error}. Ask for less, or raise the cap."))
            }
            ApiKeysError::NoSuchKey { .. } => Self::unauthenticated(),
            ApiKeysError::Store(error) => Self::from(error),
            other => Self::internal("an API key", &other),
        }
    }
}

impl From<JobsError> for Refusal {
    fn from(error: JobsError) -> Self {
        match error {
            JobsError::Spec(_) | JobsError::Refused(_) => Self::conflict(error.to_string()),
            JobsError::NotFound { id } => Self::not_found("job", &id.to_string()),
            JobsError::Busy { retry_after_seconds } => {
                Self::busy("No more batches are taken now.", retry_after_seconds)
            }
            JobsError::Unavailable { .. } => Self::internal("the jobs", &error),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::AccessDenied => {
                Self::new(StatusCode::FORBIDDEN, INVALID, Some("access_denied"), error.to_string())
            }
            Error::NoSuchBucket | Error::NoSuchKey | Error::CurrentIsDeleteMarker { .. } => {
                Self::new(StatusCode::NOT_FOUND, INVALID, Some("not_found"), error.to_string())
            }
            Error::TooLarge { limit, .. } => Self::too_large(limit),
            Error::Body(BodyError::TooSlow) => Self::too_slow(),
            Error::Body(_) | Error::InvalidRequest { .. } | Error::InvalidArgument { .. } => {
                Self::malformed(error.to_string())
            }
            Error::ObjectLocked | Error::PreconditionFailed { .. } | Error::ConditionalConflict => {
                Self::conflict(error.to_string())
            }
            Error::SlowDown { .. }
            | Error::TooFewNodes { .. }
            | Error::OutcomeUnknown
            | Error::NotYetDurable { .. } => Self::unavailable(&error.to_string(), 1),
            other => Self::internal("the store", &other),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ashlar\""));
        }
        if matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            // What is left of the body is not read.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
