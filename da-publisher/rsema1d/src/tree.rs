//! Complete binary Merkle trees: a power of two of leaves, so that every path has log2(count) siblings.
//!
//! Owns the shape of trees and paths; which hash makes a node is the caller's. Invariant: [`fold`] accepts
//! paths of exactly the length that the count implies, and only indexes below the count.

use crate::hash::Digest;

/// How two nodes make their parent.
pub(crate) type Parent = fn(&Digest, &Digest) -> Digest;

/// All nodes of a tree, from the leaves up.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    layers: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree over `leaves`, whose number is a power of two.
    pub(crate) fn new(parent: Parent, leaves: Vec<Digest>) -> Self {
        assert!(leaves.len().is_power_of_two(), "only complete trees are made");
        let mut layers = vec![leaves];
        while let Some(below) = layers.last().filter(|layer| layer.len() > 1) {
            let (pairs, _) = below.as_chunks::<2>();
            let above = pairs.iter().map(|[left, right]| parent(left, right)).collect();
            layers.push(above);
        }
        Self { layers }
    }

    pub(crate) fn root(&self) -> Digest {
        self.layers[self.layers.len() - 1][0]
    }

    /// The siblings of leaf `index` from the leaf up; `None` if there is no such leaf.
    pub(crate) fn path(&self, index: usize) -> Option<Vec<Digest>> {
        if index >= self.layers[0].len() {
            return None;
        }
        let below_root = &self.layers[..self.layers.len() - 1];
        Some(below_root.iter().enumerate().map(|(height, layer)| layer[(index >> height) ^ 1]).collect())
    }
}

/// The root that `leaf` at `index` among `count` leads to by `path`; `None` if there is no such leaf or the path
/// has another length than such a tree's paths.
pub(crate) fn fold(parent: Parent, leaf: Digest, index: u32, count: u32, path: &[Digest]) -> Option<Digest> {
    if !count.is_power_of_two() || index >= count || u32::try_from(path.len()) != Ok(count.trailing_zeros()) {
        return None;
    }
    let step = |(node, index): (Digest, u32), sibling: &Digest| {
        let above = if index % 2 == 0 { parent(&node, sibling) } else { parent(sibling, &node) };
        (above, index / 2)
    };
    Some(path.iter().fold((leaf, index), step).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::node;

    #[test]
    fn only_the_path_leads_to_the_root() {
        for depth in 0..6u32 {
            let count = 1 << depth;
            let leaves: Vec<Digest> =
                (0..count).map(|i: u32| *blake3::hash(&i.to_be_bytes()).as_bytes()).collect();
            let tree = Tree::new(node, leaves.clone());
            for (index, leaf) in (0..count).zip(leaves) {
                let path = tree.path(usize::try_from(index).unwrap()).unwrap();
                assert_eq!(fold(node, leaf, index, count, &path), Some(tree.root()));
                let mut long = path.clone();
                long.push([0; 32]);
                assert_eq!(fold(node, leaf, index, count, &long), None);
                if let Some(short) = path.len().checked_sub(1) {
                    assert_eq!(fold(node, leaf, index, count, &path[..short]), None);
                }
                assert_eq!(fold(node, leaf, index + count, count, &path), None);
                assert_eq!(fold(node, leaf, index, count * 2, &path), None);
                for other in (0..count).filter(|other| *other != index) {
                    assert_ne!(fold(node, leaf, other, count, &path), Some(tree.root()));
                }
            }
            assert_eq!(tree.path(usize::try_from(count).unwrap()), None);
        }
    }
}
