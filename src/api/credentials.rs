//! Who asks the API: HTTP Basic or `Bearer <access>:<secret>`.
//!
//! Invariant: an unknown access key and a wrong secret take the same path and the same answer, and secrets
//! are compared in constant time. Sent in clear, so the listener is on loopback unless somebody said
//! otherwise; see `api.allow_plaintext_auth`.

use std::sync::Arc;

use ashlar_objects::access::UserIdentity;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Server;
use super::refusal::Refusal;

/// Longest `Authorization` value that is looked at, in bytes.
const HEADER_BYTES_MAX: usize = 1024;

/// A user who proved a secret key.
pub(super) struct Caller(pub(super) Arc<UserIdentity>);

/// A caller who is root.
pub(super) struct Root(pub(super) Arc<UserIdentity>);

impl FromRequestParts<Arc<Server>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refusal> {
        let (access, secret) = pair(&parts.headers).ok_or_else(Refusal::unauthenticated)?;
        let found = server.store.users().secret_for_access_key(&access).await;
        let found = found.map_err(|error| Refusal::internal("looking up an access key", &error))?;
        let (identity, expected) = found.unzip();
        let expected = expected.as_ref().map_or("", |secret| secret.expose());
        let equal = bool::from(expected.as_bytes().ct_eq(secret.as_bytes()));
        match identity {
            Some(identity) if equal && !expected.is_empty() => Ok(Self(identity)),
            _ => Err(Refusal::unauthenticated()),
        }
    }
}

impl FromRequestParts<Arc<Server>> for Root {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refusal> {
        let Caller(identity) = Caller::from_request_parts(parts, server).await?;
        if identity.root { Ok(Self(identity)) } else { Err(Refusal::root_only()) }
    }
}

/// Access key and secret of an `Authorization` header.
fn pair(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok().filter(|text| text.len() <= HEADER_BYTES_MAX)?;
    let (scheme, rest) = text.split_once(' ')?;
    let pair = match scheme.to_ascii_lowercase().as_str() {
        "basic" => Zeroizing::new(String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?),
        "bearer" => Zeroizing::new(rest.trim().to_owned()),
        _ => return None,
    };
    let (access, secret) = pair.split_once(':')?;
    Some((access.to_owned(), Zeroizing::new(secret.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        pair(&headers).map(|(access, secret)| (access, secret.to_string()))
    }

    #[test]
    fn basic_and_bearer_name_the_same_pair() {
        let expected = Some(("key".to_owned(), "se:cret".to_owned()));
        assert_eq!(of(&format!("Basic {}", STANDARD.encode("key:se:cret"))), expected);
        assert_eq!(of("bearer key:se:cret"), expected);
    }

    #[test]
    fn anything_else_is_nobody() {
        for value in ["", "Basic", "Basic ???", "Digest key:secret", "Bearer nocolon", "AWS4-HMAC-SHA256 x:y"]
        {
            assert_eq!(of(value), None, "{value}");
        }
        assert_eq!(of(&format!("Bearer a:{}", "x".repeat(2000))), None);
        assert!(pair(&HeaderMap::new()).is_none());
    }
}
