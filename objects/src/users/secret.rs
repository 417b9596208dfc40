//! Secrets in memory: wiped when dropped, never printed; and how new ones are made.

use std::fmt;
use std::sync::Arc;

use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use crate::error::Error;

const ACCESS_KEY_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Random characters of an access key, after `AK`: 90 bits.
const ACCESS_KEY_RANDOM: usize = 18;
/// Characters of a secret: 238 bits.
const SECRET_CHARS: usize = 40;

/// The secret half of an access key. Wiped when the last clone is dropped; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SecretKey(Arc<Zeroizing<String>>);

impl SecretKey {
    /// Takes a secret over.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(Arc::new(Zeroizing::new(secret)))
    }

    /// The text that signs. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Forty random letters and digits from the system's generator.
    pub(super) fn random() -> Result<Self, Error> {
        Ok(Self(Arc::new(random_text(SECRET_ALPHABET, SECRET_CHARS)?)))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// An access key with its secret, as it was made. Nothing shows the secret again.
#[derive(Clone, Debug)]
pub struct NewAccessKey {
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret: SecretKey,
}

impl NewAccessKey {
    /// A random pair.
    pub(super) fn random() -> Result<Self, Error> {
        let text = random_text(ACCESS_KEY_ALPHABET, ACCESS_KEY_RANDOM)?;
        Ok(Self { access_key: format!("AK{}", text.as_str()), secret: SecretKey::random()? })
    }
}

/// Random bytes from the system's generator, which no simulation replaces: a seeded secret is none.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|e| Error::internal("asking the system for random bytes", e))?;
    Ok(bytes)
}

/// Characters drawn evenly: a byte at or above the largest multiple of the alphabet is drawn again.
fn random_text(alphabet: &[u8], characters: usize) -> Result<Zeroizing<String>, Error> {
    let bound = 256 / alphabet.len() * alphabet.len();
    let mut text = Zeroizing::new(String::with_capacity(characters));
    while text.len() < characters {
        let bytes = Zeroizing::new(random_bytes::<64>()?);
        for byte in bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < bound) {
            if text.len() < characters {
                text.push(char::from(alphabet[byte % alphabet.len()]));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_keys_have_their_form_and_differ() {
        let (one, two) = (NewAccessKey::random().expect("random"), NewAccessKey::random().expect("random"));
        assert!(one.access_key != two.access_key && one.secret.expose() != two.secret.expose());
        for key in [one, two] {
            assert_eq!(key.access_key.len(), 20);
            assert!(key.access_key.starts_with("AK"));
            assert!(key.access_key.bytes().all(|byte| ACCESS_KEY_ALPHABET.contains(&byte)));
            assert_eq!(key.secret.expose().len(), SECRET_CHARS);
            super::super::check_access_key(&key.access_key).expect("valid");
            super::super::check_secret(key.secret.expose()).expect("valid");
            assert!(!format!("{key:?}").contains(key.secret.expose()));
        }
    }

    #[test]
    fn every_character_is_drawn() {
        let text = random_text(SECRET_ALPHABET, 20_000).expect("random");
        for own in SECRET_ALPHABET {
            let count = text.bytes().filter(|byte| byte == own).count();
            assert!((160..520).contains(&count), "{} of {}", count, char::from(*own));
        }
    }
}
