//! Cross-origin requests: preflights, and what answers say to browsers.
//!
//! Invariant: a preflight asks nobody's permission but the bucket's rules, and tells only what they say.
//! Which rule answers is decided by `objects`.

use ashlar_objects::Store;
use ashlar_objects::cors::{self, CorsAnswer};
use ashlar_objects::types::BucketName;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::failure::{Code, Failure};
use crate::reply::{Reply, empty};

const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// Answers OPTIONS.
pub(crate) async fn preflight(
    store: &Store,
    bucket: Option<&BucketName>,
    headers: &HeaderMap,
) -> Result<Reply, Failure> {
    let text = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
    };
    let origin = text("origin").ok_or_else(|| {
        Failure::new(Code::InvalidRequest, "Insufficient information. Origin request header needed.")
    })?;
    let method =
        text("access-control-request-method").filter(|method| METHODS.contains(method)).ok_or_else(|| {
            Failure::new(
                Code::InvalidRequest,
                "Invalid Access-Control-Request-Method: it is GET, PUT, HEAD, POST or DELETE.",
            )
        })?;
    let forbidden = |why: &'static str| Failure::new(Code::AccessForbidden, why);
    let rules = match bucket {
        Some(bucket) => store.cors_rules(bucket).await?,
        None => None,
    };
    let rules = rules.ok_or_else(|| forbidden("CORSResponse: CORS is not enabled for this bucket."))?;
    let answer = cors::preflight(&rules, origin, method, text("access-control-request-headers")).ok_or_else(|| {
        forbidden(
            "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, \
             request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted \
             by the resource's CORS spec.",
        )
    })?;
    let mut out = HeaderMap::new();
    write(&mut out, &answer);
    if !answer.allow_headers.is_empty() {
        put(&mut out, ACCESS_CONTROL_ALLOW_HEADERS, &answer.allow_headers.join(", "));
    }
    if let Some(seconds) = answer.max_age_seconds {
        out.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
    }
    Ok(empty(StatusCode::OK, out))
}

/// Adds to an answer what its bucket's rules say of the origin that asked.
pub(crate) async fn dress(
    store: &Store,
    bucket: &BucketName,
    method: &Method,
    origin: &HeaderValue,
    out: &mut HeaderMap,
) {
    let Ok(origin) = origin.to_str() else { return };
    // Without rules there is nothing to say, and a fault here must not hide the answer.
    let Ok(Some(rules)) = store.cors_rules(bucket).await else { return };
    if let Some(answer) = cors::actual(&rules, origin, method.as_str()) {
        write(out, &answer);
    }
}

fn write(out: &mut HeaderMap, answer: &CorsAnswer<'_>) {
    put(out, ACCESS_CONTROL_ALLOW_ORIGIN, answer.allow_origin);
    put(out, ACCESS_CONTROL_ALLOW_METHODS, &answer.allow_methods.join(", "));
    if answer.allow_credentials {
        out.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if !answer.expose_headers.is_empty() {
        put(out, ACCESS_CONTROL_EXPOSE_HEADERS, &answer.expose_headers.join(", "));
    }
    out.insert(
        VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
    );
}

fn put(out: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        out.insert(name, value);
    }
}

/// The origin that asked, if a browser did.
pub(crate) fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ORIGIN).filter(|origin| !origin.is_empty()).cloned()
}
