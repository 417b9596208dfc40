//! Words of 32 bytes, as the EVM's ABI writes static types.
//!
//! Invariant: what is read back has the one spelling; a word with bits above its type's is refused.

use crate::amount::Amount;
use crate::bytes::Address;

pub(super) const WORD_BYTES: usize = 32;

/// A word has bits that its type has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// The number of bytes is not what the statement has.
    #[error("{expected} bytes were expected, {found} came")]
    Length {
        /// Bytes of the statement.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// A number or an address is too large for its field.
    #[error("word {word} is too large for its field")]
    TooLarge {
        /// Which word, from 0.
        word: usize,
    },
}

#[derive(Default)]
pub(super) struct Words(Vec<u8>);

impl Words {
    pub(super) fn bytes32(&mut self, bytes: [u8; 32]) {
        self.0.extend_from_slice(&bytes);
    }

    pub(super) fn address(&mut self, address: Address) {
        self.0.extend_from_slice(&[0; 12]);
        self.0.extend_from_slice(&address.0);
    }

    pub(super) fn number(&mut self, number: u128) {
        self.0.extend_from_slice(&[0; 16]);
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads as many words as it was made with; the caller asks for no more.
pub(super) struct Reader<'a> {
    words: &'a [[u8; WORD_BYTES]],
    next: usize,
}

impl<'a> Reader<'a> {
    /// Refuses anything but `bytes_expected` bytes, which are whole words.
    pub(super) fn new(bytes: &'a [u8], bytes_expected: usize) -> Result<Self, WordError> {
        let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
        if bytes.len() != bytes_expected || !rest.is_empty() {
            return Err(WordError::Length { expected: bytes_expected, found: bytes.len() });
        }
        Ok(Self { words, next: 0 })
    }

    pub(super) fn bytes32(&mut self) -> [u8; 32] {
        self.next += 1;
        self.words[self.next - 1]
    }

    pub(super) fn address(&mut self) -> Result<Address, WordError> {
        let word = self.bytes32();
        let (zeros, address) = word.split_at(12);
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(self.too_large());
        }
        let mut bytes = [0; 20];
        bytes.copy_from_slice(address);
        Ok(Address(bytes))
    }

    pub(super) fn number<T: TryFrom<u128>>(&mut self) -> Result<T, WordError> {
        let word = self.bytes32();
        let (high, low) = (&word[..16], &word[16..]);
        if high.iter().any(|byte| *byte != 0) {
            return Err(self.too_large());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(low);
        u128::from_be_bytes(bytes).try_into().map_err(|_| self.too_large())
    }

    pub(super) fn amount(&mut self) -> Result<Amount, WordError> {
        self.number()
    }

    fn too_large(&self) -> WordError {
        WordError::TooLarge { word: self.next - 1 }
    }
}
