//! Voucher and receipt with both signatures: what settles, as the words of one element of `settle`'s calldata.
//!
//! Does not know the function's selector nor how elements are put together: whoever calls the contract does.

use serde::{Deserialize, Serialize};

use super::words::{Reader, WORD_BYTES, WordError, Words};
use super::{Domain, Receipt, Signature, Voucher};

/// Bytes of an encoded settlement: ten words, eight, and two of each signature.
pub const SETTLEMENT_BYTES: usize = 22 * WORD_BYTES;

/// Both statements with both signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// The buyer's word.
    pub voucher: Voucher,
    /// The provider's word on it.
    pub receipt: Receipt,
    /// By the lock's session key, of the voucher's digest.
    pub buyer: Signature,
    /// By the provider's signing key, of the receipt's digest.
    pub provider: Signature,
}

impl Settlement {
    /// The words of `abi.encode` of the struct, [`SETTLEMENT_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        let mut words = Words::default();
        self.voucher.write(&mut words);
        self.receipt.write(&mut words);
        for signature in [self.buyer, self.provider] {
            let (halves, _) = signature.0.as_chunks::<32>();
            halves.iter().for_each(|half| words.bytes32(*half));
        }
        words.as_bytes().to_vec()
    }

    /// Reads what [`Settlement::encode`] wrote, and nothing else. Signatures are not checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, WordError> {
        let mut words = Reader::new(bytes, SETTLEMENT_BYTES)?;
        let voucher = Voucher::read(&mut words)?;
        let receipt = Receipt::read(&mut words)?;
        let mut signature = || {
            let mut bytes = [0; 64];
            let (r, s) = bytes.split_at_mut(32);
            r.copy_from_slice(&words.bytes32());
            s.copy_from_slice(&words.bytes32());
            Signature(bytes)
        };
        Ok(Self { voucher, receipt, buyer: signature(), provider: signature() })
    }

    /// Whether the receipt is of the voucher and both keys signed.
    pub fn is_signed(
        &self,
        domain: &Domain,
        session_key: crate::Address,
        signing_key: crate::Address,
    ) -> bool {
        self.receipt.voucher_hash == self.voucher.hash()
            && self.buyer.verify(&domain.voucher_digest(&self.voucher), session_key).is_ok()
            && self.provider.verify(&domain.receipt_digest(&self.receipt), signing_key).is_ok()
    }
}
