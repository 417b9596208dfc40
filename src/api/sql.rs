//! `POST /sql`: statements in, rows out as they come.
//!
//! Invariant: an answer that began as a success and cannot be finished breaks off, it never ends as if it were
//! whole; closing the connection cancels. Deliberately knows no SQL: a request is a session of its own.

use std::sync::Arc;

use ashlar_query::answer::{Form, encode, error_json, parameters};
use ashlar_query::session::{TransactionState, split};
use ashlar_query::{Outcome, Session, SqlError, SqlState};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, REFERER, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::credentials::Caller;
use super::{Server, of};

/// Largest request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 2 << 20;

/// When to come back to a server that has no room.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// A request in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    sql: String,
    #[serde(default)]
    params: Vec<Value>,
}

/// A failed statement as an HTTP answer.
struct Failed(SqlError);

impl From<SqlError> for Failed {
    fn from(error: SqlError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match self.0.state {
            SqlState::InsufficientPrivilege => StatusCode::FORBIDDEN,
            SqlState::SerializationFailure => StatusCode::CONFLICT,
            SqlState::TooManyConnections | SqlState::OutOfMemory | SqlState::DiskFull | SqlState::IoError => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            SqlState::QueryCanceled => StatusCode::REQUEST_TIMEOUT,
            SqlState::FeatureNotSupported => StatusCode::NOT_IMPLEMENTED,
            SqlState::InternalError | SqlState::TransactionResolutionUnknown => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            _ => StatusCode::BAD_REQUEST,
        };
        let mut response = (status, Json(error_json(&self.0))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

/// `POST /sql`: SQL as text, or `{"sql": …, "params": […]}`. Of several statements, which share a session, the
/// last one's answer is given.
pub(super) async fn run(
    State(server): State<Arc<Server>>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&server, caller, &headers, &body).await.unwrap_or_else(Failed::into_response)
}

async fn answer(
    server: &Server,
    caller: Caller,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Failed> {
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let form = Form::of_accept(header(ACCEPT).unwrap_or_default()).ok_or_else(|| {
        SqlError::invalid("Accept names no form that there is")
            .hint("application/x-ndjson, text/csv, application/vnd.apache.arrow.stream or text/plain")
    })?;
    let is_json = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let Request { sql, params } = if is_json {
        serde_json::from_slice(body)
            .map_err(|e| SqlError::syntax(format!("the request does not read: {e}")))?
    } else {
        let sql =
            String::from_utf8(body.to_vec()).map_err(|_| SqlError::syntax("the statement is not UTF-8"))?;
        Request { sql, params: Vec::new() }
    };
    let mut cx = of(caller);
    cx.user_agent = header(USER_AGENT).map(Arc::from);
    cx.referer = header(REFERER).map(Arc::from);
    let mut session = Session::new(&server.sql, cx)?;
    let statements = split(&sql)?;
    let Some((last, before)) = statements.split_last() else {
        return Err(SqlError::syntax("there is no statement").into());
    };
    for statement in before {
        // What rows it has are not asked for.
        drop(session.query(statement, Vec::new()).await?);
    }
    let prepared = session.prepare(last).await?;
    let values = parameters(&prepared, &params)?;
    let outcome = session.execute(&prepared, values).await?;
    if session.transaction_state() != TransactionState::Idle {
        return Err(SqlError::new(SqlState::ActiveTransaction, "the request ends within a transaction")
            .hint("COMMIT at its end; nothing was changed")
            .into());
    }
    match outcome {
        Outcome::Affected { tag, rows } if form == Form::Table => {
            let count = rows.map(|rows| format!(" {rows}")).unwrap_or_default();
            Ok(format!("{tag}{count}\n").into_response())
        }
        Outcome::Affected { tag, rows } => Ok(Json(json!({ "tag": tag, "rows": rows })).into_response()),
        Outcome::Rows(rows) => {
            let bytes = encode(&server.sql, rows, form).await?;
            Ok(([(CONTENT_TYPE, form.media_type())], Body::from_stream(bytes)).into_response())
        }
    }
}
