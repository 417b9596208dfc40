//! What a log's publisher keeps secret: the key that seals records, the key of salts, the key of receipts.
//!
//! All come from one namespace key. Invariant: salts depend on the entry's place alone, so that a receipt can be
//! given before its batch is sealed and the leaf is the same. Does not know where the namespace key is kept.

use ashlar_objects::log::{entry_salt, salt_key};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

/// The one epoch of keys there is; rotation is planned.
pub const KEY_EPOCH: u32 = 0;

/// The keys of a log.
#[derive(Clone)]
pub struct NamespaceKeys {
    salt: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
    receipts: SigningKey,
}

impl NamespaceKeys {
    /// Derives them from the namespace key.
    pub fn new(namespace_key: &[u8; 32]) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, namespace_key));
        Self {
            salt: Zeroizing::new(salt_key(namespace_key)),
            seal: derive("ashlar 2026-11 log seal v1"),
            receipts: SigningKey::from_bytes(&derive("ashlar 2026-11 log receipt v1")),
        }
    }

    /// The salt of the entry at a place: what hides its record until its owner shows both.
    pub fn entry_salt(&self, position: u64, index: u32) -> [u8; 32] {
        entry_salt(&self.salt, position, index)
    }

    /// Signs receipts.
    pub fn receipt_key(&self) -> &SigningKey {
        &self.receipts
    }

    pub(super) fn seal_key(&self) -> &[u8; 32] {
        &self.seal
    }
}
