//! Where the registry keeps what a verifier reads (`docs/formats/log.md` §6).
//!
//! Invariant: slots are computed from namespace and sequence, never taken from a proof.

use crate::digest::keccak;
use crate::hex_bytes::{Address, Hash};

fn pad(number: u64) -> [u8; 32] {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

/// The slot that holds the header hash of (namespace, sequence).
pub fn header_slot(namespace: &Hash, sequence: u64) -> Hash {
    let of_namespace = keccak(&[&namespace.0, &pad(0)]);
    keccak(&[&pad(sequence), &of_namespace.0])
}

/// The two slots that hold what is newest in the namespace, who may anchor, and who checks certificates.
pub fn namespace_slots(namespace: &Hash) -> [Hash; 2] {
    let first = keccak(&[&namespace.0, &pad(1)]);
    let mut second = first;
    for byte in second.0.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    [first, second]
}

/// A namespace as the registry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// The newest batch.
    pub(crate) sequence: u64,
    /// Position of its last entry.
    pub(crate) last_position: u64,
    pub(crate) publisher: Address,
    pub(crate) verifier: Address,
}

impl Namespace {
    /// Reads the words of the two slots.
    pub(crate) fn decode([first, second]: [Hash; 2]) -> Self {
        Self {
            sequence: u64::from_be_bytes(array(&first.0[4..12])),
            last_position: u64::from_be_bytes(array(&second.0[4..12])),
            publisher: Address::from(array(&first.0[12..])),
            verifier: Address::from(array(&second.0[12..])),
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a field of a word has the length it is read with")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_slot_is_the_next_number() {
        let [first, second] = namespace_slots(&Hash::from([7; 32]));
        assert_eq!(first.0[..31], second.0[..31]);
        assert_eq!(first.0[31].wrapping_add(1), second.0[31]);
    }
}
