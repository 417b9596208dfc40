//! Who asks: an API key, or an access key with its secret (HTTP Basic, or `<access>:<secret>` in place of an API key).
//!
//! Invariant: what is unknown and what is wrong take the same path and the same answer, and secrets are compared in
//! constant time. Sent in clear: whoever listens sees to it that only loopback or TLS carries them.

use std::sync::Arc;

use ashlar_objects::access::UserIdentity;
use ashlar_objects::api_keys::{API_KEY_PREFIX, ApiKeyFacts, Presented};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::gateway::Gateway;
use crate::refusal::Refusal;

/// Longest `Authorization` value that is looked at, in bytes.
const HEADER_BYTES_MAX: usize = 1024;

/// What a key's scope opens or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/models`
    Models,
    /// `/v1/files`
    Files,
    /// `/v1/batches`
    Batches,
    /// `/v1/fine_tuning/jobs`
    FineTuning,
}

impl Route {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Models,
        Self::Files,
        Self::Batches,
        Self::FineTuning,
    ];

    /// As a scope names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Models => "models",
            Self::Files => "files",
            Self::Batches => "batches",
            Self::FineTuning => "fine_tuning",
        }
    }
}

/// Who asks, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user, with his rights.
    pub identity: Arc<UserIdentity>,
    /// The API key, where it was one: its scope and cap hold.
    pub key: Option<Arc<ApiKeyFacts>>,
}

impl Caller {
    /// Whether the scope has the route.
    pub(crate) fn check(&self, route: Route) -> Result<(), Refusal> {
        let routes = self.key.as_ref().and_then(|key| key.spec.routes.as_ref());
        match routes {
            Some(routes) if !routes.contains(route.name()) => {
                Err(Refusal::out_of_scope(&format!("route '{}'", route.name())))
            }
            _ => Ok(()),
        }
    }

    /// The caller as what was begun with an API key goes on for him.
    pub(crate) fn of_key(presented: Presented) -> Result<Self, Refusal> {
        match presented {
            Presented::Known(identity, key) => Ok(Self { identity, key: Some(key) }),
            Presented::Expired => Err(Refusal::expired()),
            Presented::Unknown => Err(Refusal::unauthenticated()),
        }
    }
}

/// What was sent to prove who asks.
enum Proof {
    ApiKey(Zeroizing<String>),
    Pair(String, Zeroizing<String>),
}

/// Finds out who asks.
pub(crate) async fn caller(gateway: &Gateway, headers: &HeaderMap) -> Result<Caller, Refusal> {
    match proof(headers).ok_or_else(Refusal::unauthenticated)? {
        Proof::ApiKey(text) => Caller::of_key(gateway.store().api_keys().present(&text).await?),
        Proof::Pair(access, secret) => {
            let found = gateway.store().users().secret_for_access_key(&access).await;
            let found = found.map_err(|error| Refusal::internal("looking up an access key", &error))?;
            let (identity, expected) = found.unzip();
            let expected = expected.as_ref().map_or("", |secret| secret.expose());
            let is_equal = bool::from(expected.as_bytes().ct_eq(secret.as_bytes()));
            match identity {
                Some(identity) if is_equal && !expected.is_empty() => Ok(Caller { identity, key: None }),
                _ => Err(Refusal::unauthenticated()),
            }
        }
    }
}

fn proof(headers: &HeaderMap) -> Option<Proof> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok().filter(|text| text.len() <= HEADER_BYTES_MAX)?;
    let (scheme, rest) = text.split_once(' ')?;
    let text = match scheme.to_ascii_lowercase().as_str() {
        "basic" => Zeroizing::new(String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?),
        "bearer" if rest.trim().starts_with(API_KEY_PREFIX) => {
            return Some(Proof::ApiKey(Zeroizing::new(rest.trim().to_owned())));
        }
        "bearer" => Zeroizing::new(rest.trim().to_owned()),
        _ => return None,
    };
    let (access, secret) = text.split_once(':')?;
    Some(Proof::Pair(access.to_owned(), Zeroizing::new(secret.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<(String, String)> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        proof(&headers).map(|proof| match proof {
            Proof::ApiKey(text) => ("key".to_owned(), text.to_string()),
            Proof::Pair(access, secret) => (access, secret.to_string()),
        })
    }

    #[test]
    fn keys_and_pairs_are_told_apart() {
        let pair = Some(("AK".to_owned(), "se:cret".to_owned()));
        assert_eq!(of(&format!("Basic {}", STANDARD.encode("AK:se:cret"))), pair);
        assert_eq!(of("bearer AK:se:cret"), pair);
        assert_eq!(of("Bearer sk-ashlar-x"), Some(("key".to_owned(), "sk-ashlar-x".to_owned())));
        for value in ["", "Basic", "Basic ???", "Digest a:b", "Bearer sk-proj-abc"] {
            assert_eq!(of(value), None, "{value}");
        }
        assert_eq!(of(&format!("Bearer a:{}", "x".repeat(2_000))), None);
    }
}
