//! The publisher's key: from a keystore file, from the environment, or as given.
//!
//! Invariant: the key is never printed, and no error repeats what it was read from. Deliberately knows nothing of
//! nonces or of what it signs.

use std::path::Path;

use alloy_primitives::{Address, B256, Signature};
use alloy_signer::SignerSync as _;
use alloy_signer_local::{LocalSigner, PrivateKeySigner};
use zeroize::Zeroizing;

/// Signs transactions for one account.
#[derive(Clone)]
pub struct TransactionKey(PrivateKeySigner);

impl std::fmt::Debug for TransactionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TransactionKey({})", self.address())
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The keystore cannot be read, or the password is not its.
    #[error("keystore {path}: {why}")]
    Keystore {
        /// The file.
        path: String,
        /// What was said.
        why: String,
    },
    /// The variable is not set.
    #[error("environment variable {name} is not set")]
    NotSet {
        /// Its name.
        name: String,
    },
    /// Not 32 bytes in hex, or not a number that is a key.
    #[error("a private key is 64 hex digits, and neither zero nor too large")]
    NotAKey,
    /// The signer refused.
    #[error("signing failed: {0}")]
    Signing(String),
}

impl TransactionKey {
    /// From an encrypted keystore file (Web3 Secret Storage, version 3). Takes the time that its author meant an
    /// attacker to take: call it on a blocking thread.
    pub fn from_keystore(path: &Path, password: &str) -> Result<Self, KeyError> {
        let told = |why: String| KeyError::Keystore { path: path.display().to_string(), why };
        LocalSigner::decrypt_keystore(path, password).map(Self).map_err(|error| told(error.to_string()))
    }

    /// From an environment variable with 64 hex digits.
    pub fn from_environment(name: &str) -> Result<Self, KeyError> {
        let text = std::env::var(name).map(Zeroizing::new);
        Self::from_hex(&text.map_err(|_| KeyError::NotSet { name: name.to_owned() })?)
    }

    /// From 64 hex digits, with or without `0x`.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let mut bytes = Zeroizing::new([0; 32]);
        alloy_primitives::hex::decode_to_slice(digits, bytes.as_mut()).map_err(|_| KeyError::NotAKey)?;
        Self::from_bytes(&bytes)
    }

    /// From the number itself.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        PrivateKeySigner::from_slice(bytes).map(Self).map_err(|_| KeyError::NotAKey)
    }

    /// Its account.
    pub fn address(&self) -> Address {
        self.0.address()
    }

    pub(crate) fn sign(&self, hash: B256) -> Result<Signature, KeyError> {
        self.0.sign_hash_sync(&hash).map_err(|error| KeyError::Signing(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::address;

    const FIRST: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    #[test]
    fn keys_are_read_and_never_shown() {
        let key = TransactionKey::from_hex(FIRST).unwrap();
        assert_eq!(key.address(), address!("f39fd6e51aad88f6f4ce6ab8827279cfffb92266"));
        assert!(!format!("{key:?}").contains("ac0974"));
        for bad in ["", "0x", &FIRST[..65], &"0".repeat(64), &"f".repeat(64), "zz"] {
            let error = TransactionKey::from_hex(bad).unwrap_err().to_string();
            assert!(bad.is_empty() || bad == "0x" || !error.contains(bad), "{error}");
        }
    }

    /// The test vector of the Web3 Secret Storage definition.
    const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr",
        "cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
        "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
        "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    #[test]
    fn a_keystore_opens_with_its_password_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, KEYSTORE).unwrap();
        let key = TransactionKey::from_keystore(&path, "testpassword").unwrap();
        assert_eq!(key.address(), address!("008aeeda4d805471df9b2a5b0f38a0c3bcba786b"));
        let error = TransactionKey::from_keystore(&path, "secret").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
