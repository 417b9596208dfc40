//! The text of an API key: how it is made, and what of it is stored.
//!
//! Invariant: 256 bits of the system's generator are in it, so a digest without salt or stretching is as hard to turn
//! round as the key is to guess. The id is part of the digest and says nothing of the key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::users::{SecretKey, random_bytes};

/// What every API key begins with, so that people and scanners of leaked secrets know one.
pub const API_KEY_PREFIX: &str = "sk-ashlar-";
/// Characters after it: 32 bytes in base64.
const RANDOM_CHARS: usize = 43;
/// Bytes of the digest that are the id: enough that no two of a store are the same.
const ID_BYTES: usize = 12;
const DOMAIN: &str = "ashlar 2026 digest of an API key";

/// A new key.
pub(super) fn random() -> Result<SecretKey, Error> {
    let bytes = Zeroizing::new(random_bytes::<32>()?);
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()));
    Ok(SecretKey::new(format!("{API_KEY_PREFIX}{}", text.as_str())))
}

/// What is stored of a key; `None` for what does not look like one.
pub(super) fn digest_of(text: &str) -> Option<[u8; 32]> {
    let random = text.strip_prefix(API_KEY_PREFIX)?;
    let is_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_key = random.len() == RANDOM_CHARS && random.bytes().all(is_alphabet);
    is_key.then(|| blake3::derive_key(DOMAIN, text.as_bytes()))
}

/// What a key is managed by.
pub(super) fn id_of(digest: &[u8; 32]) -> String {
    hex::encode(&digest[..ID_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_form_and_differ() {
        let (one, two) = (random().expect("random"), random().expect("random"));
        assert_ne!(one.expose(), two.expose());
        let digest = digest_of(one.expose()).expect("a key");
        assert_eq!(digest_of(one.expose()), Some(digest));
        assert_eq!(id_of(&digest).len(), 24);
        assert!(!one.expose().contains(&id_of(&digest)));
        let longer = format!("{}x", one.expose());
        for other in ["", "sk-ashlar-", "sk-ashlar-short", &one.expose()[1..], longer.as_str()] {
            assert_eq!(digest_of(other), None, "{other}");
        }
    }
}
