//! Merkle trees: node = keccak256(tag ‖ left ‖ right), a tag per tree, an odd node promoted unchanged.
//!
//! Trees and paths are *made* by `rs_merkle` with the hasher here; paths are *checked* by [`fold`], which is
//! ours, because `rs_merkle`'s verifier accepts proofs of other shapes than the committed count implies.
//! A tree of one leaf has that leaf as root; a tree without leaves has 32 zero bytes. That is sound only
//! because every count is itself committed, in a header (see `header.rs`).

use rs_merkle::{Hasher, MerkleTree};
use tiny_keccak::{Hasher as _, Keccak};

/// Node tag of the tree over the blocks of a shard.
pub(crate) const BLOCKS: u8 = 0x21;
/// Node tag of the tree over the chunks of a blob.
pub(crate) const CHUNKS: u8 = 0x22;
/// Node tag of the tree over the shards of a chunk.
pub(crate) const SHARDS: u8 = 0x23;
/// Node tag of the tree over the parts of an object.
pub(crate) const PARTS: u8 = 0x24;

/// Node tag of the tree over the entries of a batch of the log, which this crate does not make.
pub const ENTRIES: u8 = 0x25;

/// A digest as the trees carry it.
pub type Node = [u8; 32];

/// keccak256 of the pieces, one after the other.
pub fn keccak256(pieces: &[&[u8]]) -> Node {
    let mut keccak = Keccak::v256();
    pieces.iter().for_each(|piece| keccak.update(piece));
    let mut digest = [0; 32];
    keccak.finalize(&mut digest);
    digest
}

fn parent(tag: u8, left: &Node, right: &Node) -> Node {
    let mut preimage = [tag; 65];
    preimage[1..33].copy_from_slice(left);
    preimage[33..].copy_from_slice(right);
    keccak256(&[&preimage])
}

/// The hasher of the tree with node tag `TAG`.
#[derive(Clone)]
struct Tagged<const TAG: u8>;

impl<const TAG: u8> Hasher for Tagged<TAG> {
    type Hash = Node;

    fn hash(data: &[u8]) -> Node {
        keccak256(&[&[TAG], data])
    }

    // The default gives the same nodes through three heap allocations each.
    fn concat_and_hash(left: &Node, right: Option<&Node>) -> Node {
        right.map_or(*left, |right| parent(TAG, left, right))
    }
}

/// The root over `leaves`, in order.
pub fn root<const TAG: u8>(leaves: &[Node]) -> Node {
    match leaves {
        [] => [0; 32],
        [leaf] => *leaf,
        leaves => {
            let tree = MerkleTree::<Tagged<TAG>>::from_leaves(leaves);
            tree.root().expect("a tree with leaves has a root")
        }
    }
}

/// The siblings of leaf `index` from the leaf up; `None` if there is no such leaf.
pub fn path<const TAG: u8>(leaves: &[Node], index: usize) -> Option<Vec<Node>> {
    if index >= leaves.len() {
        return None;
    }
    Some(MerkleTree::<Tagged<TAG>>::from_leaves(leaves).proof(&[index]).proof_hashes().to_vec())
}

/// How many siblings the path of leaf `index` among `count` has; `None` if there is no such leaf.
pub fn path_len(index: u32, count: u32) -> Option<usize> {
    let mut siblings = 0;
    walk(index, count, |_| siblings += 1).then_some(siblings)
}

/// The root that `leaf` at `index` among `count` leads to by `path`; `None` if there is no such leaf or the
/// path is longer or shorter than that place in such a tree has.
pub fn fold(tag: u8, leaf: Node, index: u32, count: u32, path: &[Node]) -> Option<Node> {
    let mut node = leaf;
    let mut siblings = path.iter();
    let mut short = false;
    let exists = walk(index, count, |is_right| match siblings.next() {
        Some(sibling) if is_right => node = parent(tag, sibling, &node),
        Some(sibling) => node = parent(tag, &node, sibling),
        None => short = true,
    });
    (exists && !short && siblings.next().is_none()).then_some(node)
}

/// Goes from leaf `index` of `count` to the root and tells, for each sibling met, whether we are the right
/// one of the two. A last node without a sibling is promoted and tells nothing. False if there is no leaf.
fn walk(mut index: u32, mut count: u32, mut sibling: impl FnMut(bool)) -> bool {
    if index >= count {
        return false;
    }
    while count > 1 {
        let is_right = index % 2 == 1;
        if is_right || index + 1 < count {
            sibling(is_right);
        }
        index /= 2;
        count = count.div_ceil(2);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Node> {
        (0..count).map(|i| *blake3::hash(&i.to_be_bytes()).as_bytes()).collect()
    }

    /// The tree as the document defines it, written as plainly as possible.
    fn naive_layers(tag: u8, leaves: &[Node]) -> Vec<Vec<Node>> {
        let mut layers = vec![leaves.to_vec()];
        while layers[layers.len() - 1].len() > 1 {
            let below = &layers[layers.len() - 1];
            let above = below.chunks(2).map(|pair| match pair {
                [left, right] => keccak256(&[&[tag], left, right]),
                odd => odd[0],
            });
            layers.push(above.collect());
        }
        layers
    }

    fn naive_path(layers: &[Vec<Node>], mut index: usize) -> Vec<Node> {
        let mut path = Vec::new();
        for layer in &layers[..layers.len() - 1] {
            path.extend(layer.get(index ^ 1));
            index /= 2;
        }
        path
    }

    #[test]
    fn rs_merkle_promotes_odd_nodes_as_the_document_says() {
        for count in 1..=130 {
            let leaves = leaves(count);
            let layers = naive_layers(BLOCKS, &leaves);
            assert_eq!(root::<BLOCKS>(&leaves), layers[layers.len() - 1][0], "{count} leaves");
            for index in 0..count {
                let path = path::<BLOCKS>(&leaves, index).unwrap();
                assert_eq!(path, naive_path(&layers, index), "leaf {index} of {count}");
            }
            assert_eq!(path::<BLOCKS>(&leaves, count), None);
        }
        assert_eq!(root::<BLOCKS>(&[]), [0; 32]);
    }

    #[test]
    fn fold_accepts_the_path_and_nothing_else() {
        for count in 1..=33u32 {
            let leaves = leaves(count.try_into().unwrap());
            let expected = root::<CHUNKS>(&leaves);
            for index in 0..count {
                let leaf = leaves[index as usize];
                let path = path::<CHUNKS>(&leaves, index as usize).unwrap();
                assert_eq!(path_len(index, count), Some(path.len()));
                assert_eq!(fold(CHUNKS, leaf, index, count, &path), Some(expected));
                let mut long = path.clone();
                long.push([0; 32]);
                assert_eq!(fold(CHUNKS, leaf, index, count, &long), None);
                if let Some(short) = path.len().checked_sub(1) {
                    assert_eq!(fold(CHUNKS, leaf, index, count, &path[..short]), None);
                    assert_ne!(fold(SHARDS, leaf, index, count, &path), Some(expected));
                }
                for other in (0..count).filter(|other| *other != index) {
                    assert_ne!(fold(CHUNKS, leaf, other, count, &path), Some(expected));
                }
                assert_eq!(fold(CHUNKS, leaf, count + index, count, &path), None);
            }
        }
        assert_eq!(fold(CHUNKS, [0; 32], 0, 0, &[]), None);
        assert_eq!(path_len(u32::MAX, u32::MAX), None);
        assert_eq!(path_len(0, u32::MAX), Some(32));
    }
}
