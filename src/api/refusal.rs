//! Errors of the API as HTTP answers: `{code, message, request_id}`.
//!
//! Invariant: internal detail stays in the log, under the request id that the client is shown. The match
//! over the store's errors is exhaustive where a code of its own exists, and 500 with a logged cause else.

use ashlar_objects::Error;
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};

use super::answers::Failure;

tokio::task_local! {
    /// The id of the request that this task answers.
    pub(super) static REQUEST_ID: String;
}

/// The id of the request that this task answers.
pub(super) fn request_id() -> String {
    REQUEST_ID.try_with(Clone::clone).unwrap_or_default()
}

/// Why the API did not do what it was asked.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("there is no {what}"))
    }

    pub(super) fn unauthenticated() -> Self {
        let message = "send HTTP Basic (access key, secret key) or `Authorization: Bearer <access>:<secret>`";
        Self::new(StatusCode::UNAUTHORIZED, "Unauthenticated", message)
    }

    pub(super) fn root_only() -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", "only root may do this")
    }

    pub(super) fn not_publishing() -> Self {
        let message = "this server does not publish; set publish.enabled";
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotPublishing", message)
    }

    /// A fault of ours: logged whole, shown as a request id.
    pub(super) fn internal(what: &'static str, cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(request_id = request_id(), error = cause, "{what} failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal",
            "the server failed; its log says why under this request id",
        )
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::AccessDenied => Self::new(StatusCode::FORBIDDEN, "AccessDenied", error.to_string()),
            Error::NoSuchBucket => Self::new(StatusCode::NOT_FOUND, "NoSuchBucket", error.to_string()),
            Error::NoSuchKey | Error::CurrentIsDeleteMarker { .. } => {
                Self::new(StatusCode::NOT_FOUND, "NoSuchKey", error.to_string())
            }
            Error::NoSuchVersion => Self::new(StatusCode::NOT_FOUND, "NoSuchVersion", error.to_string()),
            Error::BucketName(_) => {
                Self::new(StatusCode::BAD_REQUEST, "InvalidBucketName", error.to_string())
            }
            Error::InvalidRequest { .. } | Error::InvalidArgument { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", error.to_string())
            }
            Error::NoLogEntry => Self::new(StatusCode::NOT_FOUND, "NoLogEntry", error.to_string()),
            Error::SlowDown { .. }
            | Error::TooFewNodes { .. }
            | Error::OutcomeUnknown
            | Error::NotYetDurable { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", error.to_string())
            }
            other => Self::internal("the store", &other),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let failure = Failure { code: self.code.to_owned(), message: self.message, request_id: request_id() };
        let mut response = (self.status, Json(failure)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"ashlar\", charset=\"UTF-8\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
