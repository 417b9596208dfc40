//! The two hashes of the market's formats: keccak256 of pieces joined, BLAKE3 as a content root.

use ashlar_compute_api::{ContentRoot, Digest};
use tiny_keccak::{Hasher as _, Keccak};

pub(crate) fn keccak(pieces: &[&[u8]]) -> Digest {
    let mut hasher = Keccak::v256();
    pieces.iter().for_each(|piece| hasher.update(piece));
    let mut hash = [0; 32];
    hasher.finalize(&mut hash);
    Digest(hash)
}

pub(crate) fn root(bytes: &[u8]) -> ContentRoot {
    ContentRoot(*blake3::hash(bytes).as_bytes())
}
