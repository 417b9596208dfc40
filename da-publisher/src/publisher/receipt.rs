//! Receipts: the promise, signed when a change is acknowledged, that its leaf will be in the log by a time.
//!
//! ```text
//! version u8 = 1 ‖ chain_id u64 ‖ registry 20 ‖ namespace 32 ‖ position u64 ‖ index u32 ‖ leaf 32 ‖ deadline u64
//! ‖ Ed25519 signature 64 over ("ASHLAR-RECEIPT-V1" ‖ all bytes before)
//! ```
//!
//! Invariant: a receipt names the one leaf that the log can hold at its place; another leaf there, or none by the
//! deadline, is a broken promise that anybody can show. Text form: base64url without padding.

use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::log::{ReceiptIssuer, record_digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, VerifyingKey};

use super::UnixMillisClock;
use super::batch::LogIdentity;
use super::durability::Progress;
use super::keys::NamespaceKeys;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"ASHLAR-RECEIPT-V1";
const UNSIGNED_BYTES: usize = 1 + 8 + 20 + 32 + 8 + 4 + 32 + 8;
/// Bytes of a receipt.
pub const RECEIPT_BYTES: usize = UNSIGNED_BYTES + 64;

/// A promise whose signature was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// In which log.
    pub identity: LogIdentity,
    /// Commit position.
    pub position: u64,
    /// Number among the entries of that commit.
    pub index: u32,
    /// What the log will hold there.
    pub leaf: [u8; 32],
    /// By when it will be anchored, in Unix milliseconds.
    pub deadline: u64,
}

/// Why a text is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not base64url, or of another length or version.
    #[error("this is no receipt of version 1")]
    Malformed,
    /// Somebody else signed it, or it was changed.
    #[error("the receipt's signature is not that of this log")]
    Signature,
}

impl Receipt {
    fn unsigned(&self) -> [u8; UNSIGNED_BYTES] {
        let fields: [&[u8]; 8] = [
            &[VERSION],
            &self.identity.chain_id.to_be_bytes(),
            &self.identity.registry,
            &self.identity.namespace,
            &self.position.to_be_bytes(),
            &self.index.to_be_bytes(),
            &self.leaf,
            &self.deadline.to_be_bytes(),
        ];
        fields.concat().try_into().expect("the fields have 113 bytes")
    }

    /// Signs it.
    pub fn sign(&self, keys: &NamespaceKeys) -> String {
        let unsigned = self.unsigned();
        let signature = keys.receipt_key().sign(&[DOMAIN, &unsigned].concat());
        URL_SAFE_NO_PAD.encode([&unsigned[..], &signature.to_bytes()].concat())
    }

    /// Reads a receipt and checks its signature.
    pub fn read(text: &str, signer: &VerifyingKey) -> Result<Self, ReceiptError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ReceiptError::Malformed)?;
        let bytes: [u8; RECEIPT_BYTES] = bytes.try_into().map_err(|_| ReceiptError::Malformed)?;
        let (unsigned, signature) = bytes.split_at(UNSIGNED_BYTES);
        let signature = Signature::from_slice(signature).map_err(|_| ReceiptError::Malformed)?;
        signer
            .verify_strict(&[DOMAIN, unsigned].concat(), &signature)
            .map_err(|_| ReceiptError::Signature)?;
        let mut rest = unsigned;
        if take::<1>(&mut rest) != [VERSION] {
            return Err(ReceiptError::Malformed);
        }
        Ok(Self {
            identity: LogIdentity {
                chain_id: u64::from_be_bytes(take(&mut rest)),
                registry: take(&mut rest),
                namespace: take(&mut rest),
            },
            position: u64::from_be_bytes(take(&mut rest)),
            index: u32::from_be_bytes(take(&mut rest)),
            leaf: take(&mut rest),
            deadline: u64::from_be_bytes(take(&mut rest)),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (field, more) = rest.split_first_chunk().expect("the length was checked");
    *rest = more;
    *field
}

/// Issues receipts for what was committed. About 20 µs each.
pub struct Receipts {
    identity: LogIdentity,
    keys: NamespaceKeys,
    promise: Duration,
    clock: UnixMillisClock,
    progress: Arc<Progress>,
}

impl Receipts {
    /// Promises an anchor within `promise`, until `progress` says that publishing has stopped.
    pub fn new(
        identity: LogIdentity,
        keys: NamespaceKeys,
        promise: Duration,
        clock: UnixMillisClock,
        progress: Arc<Progress>,
    ) -> Self {
        Self { identity, keys, promise, clock, progress }
    }
}

impl ReceiptIssuer for Receipts {
    fn issue(&self, position: u64, index: u32, record: &[u8]) -> Option<Arc<str>> {
        if self.progress.is_stopped() {
            return None;
        }
        let salt = self.keys.entry_salt(position, index);
        let promise = u64::try_from(self.promise.as_millis()).unwrap_or(u64::MAX);
        let receipt = Receipt {
            identity: self.identity,
            position,
            index,
            leaf: self.identity.leaf(position, index, &record_digest(&salt, record)),
            deadline: (self.clock)().saturating_add(promise),
        };
        Some(Arc::from(receipt.sign(&self.keys)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_reads_back_and_no_byte_can_be_changed() {
        let keys = NamespaceKeys::new(&[3; 32]);
        let identity = LogIdentity { chain_id: 7, registry: [1; 20], namespace: [2; 32] };
        let receipt = Receipt { identity, position: 5, index: 6, leaf: [4; 32], deadline: 1_000 };
        let text = receipt.sign(&keys);
        let signer = keys.receipt_key().verifying_key();
        assert_eq!(Receipt::read(&text, &signer), Ok(receipt));
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Receipt::read(&URL_SAFE_NO_PAD.encode(changed), &signer).is_err(), "byte {at}");
        }
        let other = NamespaceKeys::new(&[4; 32]).receipt_key().verifying_key();
        assert_eq!(Receipt::read(&text, &other), Err(ReceiptError::Signature));
        assert_eq!(Receipt::read(&text[1..], &signer), Err(ReceiptError::Malformed));
    }
}
