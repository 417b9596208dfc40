//! How secrets are sealed for storage: XChaCha20-Poly1305 under a master key that metadata never sees.
//!
//! A sealed secret is format (1) ‖ id of the master key (8) ‖ nonce (24, random) ‖ ciphertext and tag. The
//! access key is authenticated with it, so a sealed secret moved to another row does not open. The id is
//! derived from the master key, so a ring of old and new keys opens everything while it is resealed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::secret::{SecretKey, random_bytes};
use crate::error::Error;

const FORMAT: u8 = 1;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const HEADER_BYTES: usize = 1 + ID_BYTES + NONCE_BYTES;
const DOMAIN: &[u8] = b"ashlar access key secret\0";

/// The key that seals secrets. Wiped when dropped; `Debug` shows its id alone.
#[derive(Clone)]
pub struct MasterKey {
    id: [u8; ID_BYTES],
    key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKey({})", hex::encode(self.id))
    }
}

impl From<Zeroizing<[u8; 32]>> for MasterKey {
    fn from(key: Zeroizing<[u8; 32]>) -> Self {
        let digest = blake3::derive_key("ashlar 2026 id of a master key", key.as_ref());
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest[..ID_BYTES]);
        Self { id, key }
    }
}

impl From<[u8; 32]> for MasterKey {
    fn from(key: [u8; 32]) -> Self {
        Self::from(Zeroizing::new(key))
    }
}

/// The text is not a master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 32 bytes, as base64 or as 64 hexadecimal digits")]
pub struct MasterKeyError;

impl MasterKey {
    /// A random one from the system's generator.
    pub fn random() -> Result<Self, Error> {
        Ok(Self::from(random_bytes::<32>()?))
    }

    /// Reads base64 or hex.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim();
        let bytes = if text.len() == 64 { hex::decode(text).ok() } else { STANDARD.decode(text).ok() };
        let bytes = Zeroizing::new(bytes.ok_or(MasterKeyError)?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| MasterKeyError)?;
        Ok(Self::from(key))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.key.as_ref().into())
    }
}

/// The master key in use, and older ones that still open what they sealed.
#[derive(Clone, Debug)]
pub struct KeyRing {
    current: MasterKey,
    previous: Vec<MasterKey>,
}

impl From<MasterKey> for KeyRing {
    fn from(current: MasterKey) -> Self {
        Self { current, previous: Vec::new() }
    }
}

/// Why a sealed secret does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// None of the master keys given is the one that sealed it.
    #[error("it was sealed with master key {id}, which was not given")]
    OtherMasterKey {
        /// Id of the key it needs, in hex.
        id: String,
    },
    /// The bytes are damaged, or belong to another access key.
    #[error("it is damaged or belongs elsewhere")]
    Damaged,
}

impl KeyRing {
    /// A ring that seals with `current` and also opens what `previous` sealed.
    #[must_use]
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Self {
        Self { current, previous }
    }

    /// Whether the current master key sealed it.
    pub(super) fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.get(1..1 + ID_BYTES) == Some(&self.current.id[..])
    }

    /// Seals a secret for `access_key` under a fresh nonce.
    pub(super) fn seal(&self, access_key: &str, secret: &SecretKey) -> Result<Vec<u8>, Error> {
        let nonce = random_bytes::<NONCE_BYTES>()?;
        let aad = associated(access_key);
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &aad };
        let body = self
            .current
            .cipher()
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| Error::internal("sealing a secret", "it is too long for the cipher"))?;
        let mut sealed = Vec::with_capacity(HEADER_BYTES + body.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&self.current.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens what was sealed for `access_key`.
    pub(super) fn open(&self, access_key: &str, sealed: &[u8]) -> Result<SecretKey, SealError> {
        let (header, body) = sealed.split_at_checked(HEADER_BYTES).ok_or(SealError::Damaged)?;
        if header[0] != FORMAT {
            return Err(SealError::Damaged);
        }
        let (id, nonce) = header[1..].split_at(ID_BYTES);
        let key = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|key| key.id == id)
            .ok_or_else(|| SealError::OtherMasterKey { id: hex::encode(id) })?;
        let aad = associated(access_key);
        let plain = key
            .cipher()
            .decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: &aad })
            .map_err(|_| SealError::Damaged)?;
        match String::from_utf8(plain) {
            Ok(secret) => Ok(SecretKey::new(secret)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(SealError::Damaged)
            }
        }
    }
}

fn associated(access_key: &str) -> Vec<u8> {
    [DOMAIN, access_key.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(byte: u8) -> KeyRing {
        KeyRing::from(MasterKey::from([byte; 32]))
    }

    #[test]
    fn what_is_sealed_opens_for_its_own_access_key_alone() {
        let secret = SecretKey::new("wJalrXUtnFEMI".into());
        let sealed = ring(1).seal("AKONE", &secret).expect("sealed");
        assert_eq!(ring(1).open("AKONE", &sealed).expect("opens").expose(), secret.expose());
        assert_eq!(ring(1).open("AKTWO", &sealed).expect_err("elsewhere"), SealError::Damaged);
        assert!(matches!(ring(2).open("AKONE", &sealed), Err(SealError::OtherMasterKey { .. })));
        assert!(!sealed.windows(secret.expose().len()).any(|window| window == secret.expose().as_bytes()));
        assert_ne!(sealed, ring(1).seal("AKONE", &secret).expect("sealed"), "nonces are fresh");
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let sealed = ring(1).seal("AKONE", &SecretKey::new("12345678".into())).expect("sealed");
        for index in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[index] ^= 1;
            assert!(ring(1).open("AKONE", &broken).is_err(), "byte {index}");
            assert!(ring(1).open("AKONE", &sealed[..index]).is_err(), "{index} bytes");
        }
    }

    #[test]
    fn a_ring_opens_what_its_older_keys_sealed() {
        let sealed = ring(1).seal("AKONE", &SecretKey::new("12345678".into())).expect("sealed");
        let rotated = KeyRing::new(MasterKey::from([2; 32]), vec![MasterKey::from([1; 32])]);
        assert_eq!(rotated.open("AKONE", &sealed).expect("opens").expose(), "12345678");
        assert!(!rotated.is_current(&sealed) && ring(1).is_current(&sealed));
    }

    #[test]
    fn master_keys_read_in_both_forms_and_are_not_shown() {
        let key = MasterKey::from([0xab; 32]);
        for text in ["ab".repeat(32), format!("{}\n", STANDARD.encode([0xab; 32]))] {
            assert_eq!(MasterKey::parse(&text).expect("a key").id, key.id);
        }
        for wrong in ["", "abab", &"zz".repeat(32), &STANDARD.encode([1; 31]), &STANDARD.encode([1; 48])] {
            assert!(MasterKey::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{:?}", KeyRing::from(key)).contains("abab"));
    }
}
