//! keccak256 and the tree over the entries of a batch.
//!
//! The rules are those of `docs/formats/commitment.md` §3: a path has exactly the length that follows from
//! count and index, so no inner node passes for a leaf. Does not know what stands in the leaves.

use tiny_keccak::{Hasher, Keccak};

use crate::hex_bytes::Hash;

/// Node tag of the tree over the entries of a batch.
const ENTRIES: u8 = 0x25;

/// keccak256 of the pieces, one after the other.
pub(crate) fn keccak(pieces: &[&[u8]]) -> Hash {
    let mut keccak = Keccak::v256();
    pieces.iter().for_each(|piece| keccak.update(piece));
    let mut digest = [0; 32];
    keccak.finalize(&mut digest);
    digest.into()
}

/// The root that `leaf` at `index` among `count` leads to; `None` if there is no such leaf, or its path is
/// longer or shorter.
pub(crate) fn batch_root(leaf: Hash, mut index: u32, mut count: u32, path: &[Hash]) -> Option<Hash> {
    if index >= count {
        return None;
    }
    let mut node = leaf;
    let mut siblings = path.iter();
    while count > 1 {
        if index % 2 == 1 {
            node = keccak(&[&[ENTRIES], &siblings.next()?.0, &node.0]);
        } else if index + 1 < count {
            node = keccak(&[&[ENTRIES], &node.0, &siblings.next()?.0]);
        }
        index /= 2;
        count = count.div_ceil(2);
    }
    siblings.next().is_none().then_some(node)
}
