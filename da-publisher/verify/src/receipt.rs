//! The receipt of a mutating request: a signed promise that an entry will be anchored before a deadline.
//!
//! Invariant: a [`Receipt`] was signed by the key it was checked with, in the one encoding there is of it.
//! Whether the promise was kept, `verify/absence.rs` decides.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::hex_bytes::{Address, Hash};
use crate::log::Place;

/// Bytes of a receipt, its signature included.
pub const RECEIPT_BYTES: usize = 177;
const SIGNED_BYTES: usize = RECEIPT_BYTES - 64;
const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"ASHLAR-RECEIPT-V1";

/// A promise whose signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Chain with the registry.
    pub chain_id: u64,
    /// The registry's address.
    pub registry: Address,
    /// Whose log.
    pub namespace: Hash,
    /// Where the entry will stand.
    pub place: Place,
    /// The leaf that will stand there.
    pub leaf: Hash,
    /// Before when it is anchored: Unix milliseconds.
    pub deadline: u64,
}

/// The text is no receipt, or not of this signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not base64url without padding, or of another length.
    #[error("a receipt is {RECEIPT_BYTES} bytes in base64url without padding")]
    Encoding,
    /// Written by another version.
    #[error("receipt version {version} is not known, only {VERSION} is")]
    Version {
        /// Version found.
        version: u8,
    },
    /// The trusted key is no key.
    #[error("the receipt key of the trust file is no Ed25519 key")]
    Key,
    /// Signed by somebody else, or over something else.
    #[error("the receipt is not signed by the receipt key of the trust file")]
    Signature,
}

impl Receipt {
    /// Reads a receipt as its header carries it, and checks the signature.
    pub fn check(text: &str, key: &Hash) -> Result<Self, ReceiptError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ReceiptError::Encoding)?;
        let bytes: [u8; RECEIPT_BYTES] = bytes.try_into().map_err(|_| ReceiptError::Encoding)?;
        let (signed, signature) = bytes.split_at(SIGNED_BYTES);
        let mut rest = signed;
        let version = u8::from_be_bytes(take(&mut rest));
        if version != VERSION {
            return Err(ReceiptError::Version { version });
        }
        let key = VerifyingKey::from_bytes(&key.0).map_err(|_| ReceiptError::Key)?;
        let signature = Signature::from_slice(signature).map_err(|_| ReceiptError::Signature)?;
        let message = [DOMAIN, signed].concat();
        key.verify_strict(&message, &signature).map_err(|_| ReceiptError::Signature)?;
        Ok(Self {
            chain_id: u64::from_be_bytes(take(&mut rest)),
            registry: take(&mut rest).into(),
            namespace: take(&mut rest).into(),
            place: Place {
                position: u64::from_be_bytes(take(&mut rest)),
                index: u32::from_be_bytes(take(&mut rest)),
            },
            leaf: take(&mut rest).into(),
            deadline: u64::from_be_bytes(take(&mut rest)),
        })
    }
}

/// The next `N` bytes of an array whose length is the sum of what is taken.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, after) = rest.split_first_chunk().expect("a receipt is as long as its fields");
    *rest = after;
    *taken
}
