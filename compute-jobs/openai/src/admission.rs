//! What every request goes through: an id, who asks, what he may, how often, and a bounded body.
//!
//! Invariant: nothing of a body is read before its sender is known and let in, and nothing is held that was not reserved.
//! Does not know what is asked.

use std::net::IpAddr;
use std::sync::Arc;

use ashlar_objects::access::{Principal, RequestContext};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, HeaderName, REFERER, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::Asker;
use crate::credentials::{Caller, Route, caller};
use crate::gateway::{BODY_UNIT_BYTES, Gateway};
use crate::rates::Turn;
use crate::refusal::Refusal;

/// What the listener knows of a request; it stands in the request's extensions.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The id that the client is shown.
    pub request_id: Arc<str>,
    /// Where from.
    pub source_ip: Option<IpAddr>,
    /// Whether the transport is encrypted.
    pub secure_transport: bool,
}

/// A request that was let in, without its body.
pub(crate) struct Admitted {
    /// Who asks.
    pub(crate) caller: Caller,
    /// The same as the store knows requests.
    pub(crate) cx: RequestContext,
    /// Its place. Answers that outlive the request hold it too.
    pub(crate) turn: Arc<Turn>,
    /// As sent.
    pub(crate) headers: HeaderMap,
}

impl Admitted {
    /// The same as an answer knows who waits for it.
    pub(crate) fn asker(&self, body: &HeldBody) -> Asker {
        Asker {
            caller: self.caller.clone(),
            request_id: Arc::clone(&self.cx.request_id),
            turn: Arc::clone(&self.turn),
            _held: Some(Arc::clone(&body.held)),
        }
    }
}

/// Gives every request an id that its answer carries.
pub(crate) async fn identify(mut request: Request, next: Next) -> Response {
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_else(|| Origin {
        request_id: format!("req_{:032x}", rand::random::<u128>()).into(),
        source_ip: None,
        secure_transport: false,
    });
    let id = HeaderValue::from_str(&origin.request_id);
    request.extensions_mut().insert(origin);
    let mut response = next.run(request).await;
    if let Ok(id) = id {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

/// Answers a request by `work` once it is let in, and tells the caller how much he has left.
pub(crate) async fn answered<W, F>(gateway: Gateway, route: Route, request: Request, work: W) -> Response
where
    W: FnOnce(Gateway, Admitted, Body) -> F,
    F: Future<Output = Result<Response, Refusal>> + Send,
{
    let mut headers = HeaderMap::new();
    let result = match admit(&gateway, route, request, &mut headers).await {
        Ok((admitted, body)) => work(gateway, admitted, body).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = result.unwrap_or_else(Refusal::into_response);
    response.headers_mut().extend(headers);
    response
}

async fn admit(
    gateway: &Gateway,
    route: Route,
    request: Request,
    told: &mut HeaderMap,
) -> Result<(Admitted, Body), Refusal> {
    let (parts, body) = request.into_parts();
    let caller = caller(gateway, &parts.headers).await?;
    caller.check(route)?;
    let turn = gateway.rates().enter(&caller.identity.access_key, told)?;
    let header = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let origin = parts.extensions.get::<Origin>().cloned();
    let cx = RequestContext {
        principal: Principal::User(Arc::clone(&caller.identity)),
        request_id: origin.as_ref().map_or_else(|| Arc::from(""), |origin| Arc::clone(&origin.request_id)),
        source_ip: origin.as_ref().and_then(|origin| origin.source_ip),
        secure_transport: origin.is_some_and(|origin| origin.secure_transport),
        user_agent: header(USER_AGENT).map(Arc::from),
        referer: header(REFERER).map(Arc::from),
        keys: Vec::new(),
    };
    Ok((Admitted { caller, cx, turn: Arc::new(turn), headers: parts.headers }, body))
}

/// A body in memory, counted until the last who holds a share of it lets go.
pub(crate) struct HeldBody {
    pub(crate) bytes: Bytes,
    pub(crate) held: Arc<OwnedSemaphorePermit>,
}

/// Length of a body as its sender says.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body, refusing at once what is too large, and what there is no room for.
pub(crate) async fn read_body(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: Body,
) -> Result<HeldBody, Refusal> {
    let limits = gateway.limits();
    let maximum = u64::try_from(limits.body_bytes_max).unwrap_or(u64::MAX);
    let length = declared_length(headers).unwrap_or(maximum);
    if length > maximum {
        return Err(Refusal::too_large(maximum));
    }
    let unit = u64::try_from(BODY_UNIT_BYTES).unwrap_or(1);
    let units = u32::try_from(length.div_ceil(unit)).unwrap_or(u32::MAX);
    let held = Arc::clone(gateway.bodies()).try_acquire_many_owned(units);
    let held = held.map_err(|_| Refusal::unavailable("Too many large requests are under way.", 1))?;
    let reading = Limited::new(body, limits.body_bytes_max).collect();
    let read = tokio::time::timeout(limits.body_wait, reading).await.map_err(|_| Refusal::too_slow())?;
    let bytes = read
        .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Refusal::too_large(maximum),
            None => Refusal::malformed("The body ended early."),
        })?
        .to_bytes();
    Ok(HeldBody { bytes, held: Arc::new(held) })
}
