//! keccak256 over pieces. Does not know what is hashed; every use begins with a tag or a type of its own.

use tiny_keccak::{Hasher, Keccak};

/// keccak256 of the pieces, one after the other.
pub(crate) fn keccak(pieces: &[&[u8]]) -> [u8; 32] {
    let mut keccak = Keccak::v256();
    pieces.iter().for_each(|piece| keccak.update(piece));
    let mut digest = [0; 32];
    keccak.finalize(&mut digest);
    digest
}
