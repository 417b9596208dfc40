//! Tokens: who proved a secret, sealed so that every gateway with the same master key believes it for a while.
//!
//! A token is format (1) ‖ nonce (24, random) ‖ XChaCha20-Poly1305 of its content, in base64. It names an access
//! key and carries a mark of its secret, so a token dies with the key, with its secret, and with its time.
//!
//! Invariant: what was not sealed with this key, or was changed, is nobody's.

use ashlar_objects::clock::Clock;
use ashlar_query::SqlError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use subtle::ConstantTimeEq;

use crate::credentials::{Proven, random};

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;
const DOMAIN: &[u8] = b"ashlar flight token\0";
/// Longest token that is looked at, in characters.
const TOKEN_CHARACTERS_MAX: usize = 1024;
/// How long a token is good.
pub(super) const TOKEN_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Seals and opens.
#[derive(Clone)]
pub(super) struct Sealing {
    cipher: XChaCha20Poly1305,
    clock: Clock,
}

#[derive(Serialize, Deserialize)]
struct Content {
    access_key: String,
    mark: [u8; 32],
    /// Unix milliseconds.
    until: i64,
}

/// What a token says, if its access key still has the secret.
pub(super) struct Claim {
    pub(super) access_key: String,
    mark: [u8; 32],
}

impl Claim {
    /// Whether the secret is the one that was proven.
    pub(super) fn holds_for(&self, proven: &Proven) -> bool {
        bool::from(self.mark.ct_eq(&mark(proven)))
    }
}

fn mark(proven: &Proven) -> [u8; 32] {
    blake3::derive_key("ashlar 2026 mark of a secret in a flight token", proven.secret.expose().as_bytes())
}

impl Sealing {
    /// With a key that all gateways have, and nobody else.
    pub(super) fn new(key: &[u8; 32], clock: Clock) -> Self {
        Self { cipher: XChaCha20Poly1305::new(key.into()), clock }
    }

    /// A token for who proved his secret.
    pub(super) fn seal(&self, proven: &Proven) -> Result<String, SqlError> {
        let life = i64::try_from(TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX);
        let content = Content {
            access_key: proven.identity.access_key.clone(),
            mark: mark(proven),
            until: self.clock.now().0.saturating_add(life),
        };
        let content =
            serde_json::to_vec(&content).map_err(|error| SqlError::internal("writing a token", &error))?;
        let nonce = random::<NONCE_BYTES>()?;
        let payload = Payload { msg: &content, aad: DOMAIN };
        let body = self.cipher.encrypt(XNonce::from_slice(&nonce), payload);
        let body = body.map_err(|error| SqlError::internal("sealing a token", &error))?;
        Ok(URL_SAFE_NO_PAD.encode([&[FORMAT], &nonce[..], &body].concat()))
    }

    /// What a token says; `None`: it is none of ours, or too old.
    pub(super) fn open(&self, token: &str) -> Option<Claim> {
        if token.len() > TOKEN_CHARACTERS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (header, body) = bytes.split_at_checked(1 + NONCE_BYTES)?;
        if header[0] != FORMAT {
            return None;
        }
        let payload = Payload { msg: body, aad: DOMAIN };
        let content = self.cipher.decrypt(XNonce::from_slice(&header[1..]), payload).ok()?;
        let content: Content = serde_json::from_slice(&content).ok()?;
        (self.clock.now().0 < content.until)
            .then_some(Claim { access_key: content.access_key, mark: content.mark })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use ashlar_objects::access::UserIdentity;
    use ashlar_objects::users::SecretKey;

    use super::*;

    fn proven(secret: &str) -> Proven {
        let identity =
            UserIdentity { id: "1".repeat(64), name: "ann".into(), access_key: "AKANN".into(), root: false };
        Proven { identity: Arc::new(identity), secret: SecretKey::new(secret.into()) }
    }

    #[test]
    fn a_token_is_good_at_any_gateway_until_its_time() {
        let now = Arc::new(AtomicI64::new(1_000));
        let one = Sealing::new(&[7; 32], Clock::Manual(Arc::clone(&now)));
        let other = Sealing::new(&[7; 32], Clock::Manual(Arc::clone(&now)));
        let token = one.seal(&proven("a-secret-of-ann")).unwrap();
        assert!(!token.contains("AKANN"));
        let claim = other.open(&token).unwrap();
        assert_eq!(claim.access_key, "AKANN");
        assert!(claim.holds_for(&proven("a-secret-of-ann")) && !claim.holds_for(&proven("another-secret")));
        assert!(Sealing::new(&[8; 32], Clock::Manual(Arc::clone(&now))).open(&token).is_none());
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            // The last character may have bits that say nothing; decoding refuses those.
            assert!(other.open(&String::from_utf8(changed).unwrap()).is_none(), "{at}");
            assert!(other.open(&token[..at]).is_none());
        }
        now.fetch_add(i64::try_from(TOKEN_LIFE.as_millis()).unwrap(), Ordering::Relaxed);
        assert!(one.open(&token).is_none());
    }
}
