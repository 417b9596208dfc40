//! Merkle-Patricia tries whose nodes lie in a table by *path*: what is read, changed and proven.
//!
//! Invariant: at every path there is exactly the node that the trie has there, in its RLP, so the root's hash
//! is the hash of the row at the empty path, and a change touches the rows on its way only: O(depth), whatever the
//! size of the state. Keys have one length, so branches carry no values. Deliberately knows nothing of accounts,
//! blocks or the engine.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::nodes::{BranchNode, ExtensionNode, LeafNode, RlpNode, TrieNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieMask};

use crate::store::StoreError;

/// Whose trie: zero for accounts, the hashed address for an account's storage.
pub(crate) type Owner = B256;

/// Owner, path (a nibble a byte), and the node that is there now; `None` where it went.
pub(crate) type NodeChange = (Owner, Vec<u8>, Option<Vec<u8>>);

/// Where nodes are read from.
pub(crate) trait Nodes {
    /// The node's RLP, if there is one at this path.
    fn node(&self, owner: Owner, path: &Nibbles) -> Result<Option<Vec<u8>>, StoreError>;
}

const BAD_NODE: StoreError = StoreError::Corrupt("a trie node does not decode");
const NO_NODE: StoreError = StoreError::Corrupt("a trie node is missing");
const BAD_SHAPE: StoreError = StoreError::Corrupt("a trie node has an impossible child");

fn decode(rlp: &[u8]) -> Result<TrieNode, StoreError> {
    TrieNode::decode(&mut &rlp[..]).map_err(|_| BAD_NODE)
}

/// Value under `key`, in as many reads as the trie is deep.
pub(crate) fn get(nodes: &dyn Nodes, owner: Owner, key: &Nibbles) -> Result<Option<Vec<u8>>, StoreError> {
    walk(nodes, owner, key, |_| ())
}

/// The nodes from the root towards `key`, as `eth_getProof` gives them: they show its value, or that it has none.
pub(crate) fn prove(nodes: &dyn Nodes, owner: Owner, key: &Nibbles) -> Result<Vec<Bytes>, StoreError> {
    let mut proof = Vec::new();
    walk(nodes, owner, key, |rlp| {
        // A node shorter than a hash is inside of its parent.
        if proof.is_empty() || rlp.len() >= 32 {
            proof.push(Bytes::copy_from_slice(rlp));
        }
    })?;
    Ok(proof)
}

fn walk(
    nodes: &dyn Nodes,
    owner: Owner,
    key: &Nibbles,
    mut seen: impl FnMut(&[u8]),
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut path = Nibbles::new();
    loop {
        let Some(rlp) = nodes.node(owner, &path)? else {
            return if path.is_empty() { Ok(None) } else { Err(NO_NODE) };
        };
        seen(&rlp);
        let rest = key.slice(path.len()..);
        match decode(&rlp)? {
            TrieNode::EmptyRoot => return Err(BAD_SHAPE),
            TrieNode::Leaf(leaf) => return Ok((leaf.key == rest).then_some(leaf.value)),
            TrieNode::Extension(extension) => {
                if !rest.starts_with(&extension.key) {
                    return Ok(None);
                }
                path.extend(&extension.key);
            }
            TrieNode::Branch(branch) => {
                let nibble = rest.first().ok_or(BAD_SHAPE)?;
                if !branch.state_mask.is_bit_set(nibble) {
                    return Ok(None);
                }
                path.push(nibble);
            }
        }
    }
}

/// Changes to one trie, kept aside until they are stored.
pub(crate) struct TrieEdit<'a> {
    nodes: &'a dyn Nodes,
    owner: Owner,
    /// Path (a nibble a byte) → the node there now, `None` where it went.
    changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What became of a subtree that a key was taken from.
enum Taken {
    /// It did not hold the key.
    Absent,
    /// Nothing is left of it.
    Gone,
    /// It is this now.
    Now(RlpNode),
}

impl<'a> TrieEdit<'a> {
    pub(crate) fn new(nodes: &'a dyn Nodes, owner: Owner) -> Self {
        Self { nodes, owner, changed: BTreeMap::new() }
    }

    /// Rows to store, `None` to delete.
    pub(crate) fn into_changes(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.changed.into_iter()
    }

    /// The root with all changes so far.
    pub(crate) fn root(&self) -> Result<B256, StoreError> {
        Ok(self.row(&Nibbles::new())?.map_or(EMPTY_ROOT_HASH, keccak256))
    }

    /// Value under `key` with all changes so far.
    pub(crate) fn get(&self, key: &Nibbles) -> Result<Option<Vec<u8>>, StoreError> {
        get(self, self.owner, key)
    }

    /// Sets the value under `key`.
    pub(crate) fn insert(&mut self, key: &Nibbles, value: &[u8]) -> Result<(), StoreError> {
        self.put(Nibbles::new(), *key, value).map(|_| ())
    }

    /// Takes `key` away; nothing happens if it has no value.
    pub(crate) fn remove(&mut self, key: &Nibbles) -> Result<(), StoreError> {
        self.take(Nibbles::new(), *key).map(|_| ())
    }

    fn row(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changed.get(&path.to_vec()) {
            Some(row) => Ok(row.clone()),
            None => self.nodes.node(self.owner, path),
        }
    }

    fn load(&self, path: &Nibbles) -> Result<Option<TrieNode>, StoreError> {
        self.row(path)?.map(|rlp| decode(&rlp)).transpose()
    }

    fn store(&mut self, path: &Nibbles, node: &TrieNode) -> RlpNode {
        let mut rlp = Vec::with_capacity(node.length());
        node.encode(&mut rlp);
        let reference = RlpNode::from_rlp(&rlp);
        self.changed.insert(path.to_vec(), Some(rlp));
        reference
    }

    fn erase(&mut self, path: &Nibbles) {
        self.changed.insert(path.to_vec(), None);
    }

    fn leaf(&mut self, path: &Nibbles, rest: Nibbles, value: &[u8]) -> RlpNode {
        self.store(path, &TrieNode::Leaf(LeafNode::new(rest, value.to_vec())))
    }

    /// `below` is what the node at `path` shares; nothing shared needs no extension.
    fn extension(&mut self, path: &Nibbles, below: Nibbles, child: RlpNode) -> RlpNode {
        if below.is_empty() {
            return child;
        }
        self.store(path, &TrieNode::Extension(ExtensionNode::new(below, child)))
    }

    /// A branch of two, below an extension if the two share `common` nibbles.
    fn fork(&mut self, path: &Nibbles, common: Nibbles, one: (u8, RlpNode), other: (u8, RlpNode)) -> RlpNode {
        let (first, second) = if one.0 < other.0 { (one, other) } else { (other, one) };
        let mut mask = TrieMask::default();
        mask.set_bit(first.0);
        mask.set_bit(second.0);
        let branch = BranchNode::new(vec![first.1, second.1], mask);
        let branch = self.store(&path.join(&common), &TrieNode::Branch(branch));
        self.extension(path, common, branch)
    }

    fn put(&mut self, path: Nibbles, rest: Nibbles, value: &[u8]) -> Result<RlpNode, StoreError> {
        match self.load(&path)? {
            None => Ok(self.leaf(&path, rest, value)),
            Some(TrieNode::EmptyRoot) => Err(BAD_SHAPE),
            Some(TrieNode::Leaf(leaf)) => {
                if leaf.key == rest {
                    return Ok(self.leaf(&path, rest, value));
                }
                let shared = leaf.key.common_prefix_length(&rest);
                let (old, new) = (nibble(&leaf.key, shared)?, nibble(&rest, shared)?);
                let common = rest.slice(..shared);
                let fork = path.join(&common);
                let old = (old, self.leaf(&child(&fork, old), leaf.key.slice(shared + 1..), &leaf.value));
                let new = (new, self.leaf(&child(&fork, new), rest.slice(shared + 1..), value));
                Ok(self.fork(&path, common, old, new))
            }
            Some(TrieNode::Extension(extension)) => {
                let shared = extension.key.common_prefix_length(&rest);
                if shared == extension.key.len() {
                    let below = self.put(path.join(&extension.key), rest.slice(shared..), value)?;
                    return Ok(self.extension(&path, extension.key, below));
                }
                let (old, new) = (nibble(&extension.key, shared)?, nibble(&rest, shared)?);
                let common = rest.slice(..shared);
                let fork = path.join(&common);
                let below = extension.key.slice(shared + 1..);
                let old = (old, self.extension(&child(&fork, old), below, extension.child));
                let new = (new, self.leaf(&child(&fork, new), rest.slice(shared + 1..), value));
                Ok(self.fork(&path, common, old, new))
            }
            Some(TrieNode::Branch(mut branch)) => {
                let at = nibble(&rest, 0)?;
                let below = self.put(child(&path, at), rest.slice(1..), value)?;
                let place = place(&branch, at);
                if branch.state_mask.is_bit_set(at) {
                    branch.stack[place] = below;
                } else {
                    branch.stack.insert(place, below);
                    branch.state_mask.set_bit(at);
                }
                Ok(self.store(&path, &TrieNode::Branch(branch)))
            }
        }
    }

    fn take(&mut self, path: Nibbles, rest: Nibbles) -> Result<Taken, StoreError> {
        match self.load(&path)? {
            None => Ok(Taken::Absent),
            Some(TrieNode::EmptyRoot) => Err(BAD_SHAPE),
            Some(TrieNode::Leaf(leaf)) => {
                if leaf.key != rest {
                    return Ok(Taken::Absent);
                }
                self.erase(&path);
                Ok(Taken::Gone)
            }
            Some(TrieNode::Extension(extension)) => {
                if !rest.starts_with(&extension.key) {
                    return Ok(Taken::Absent);
                }
                let below = path.join(&extension.key);
                match self.take(below, rest.slice(extension.key.len()..))? {
                    Taken::Absent => Ok(Taken::Absent),
                    // Below an extension is a branch, and a branch that loses one of its two becomes the other.
                    Taken::Gone => Err(BAD_SHAPE),
                    Taken::Now(reference) => {
                        self.join(&path, extension.key, &below, reference).map(Taken::Now)
                    }
                }
            }
            Some(TrieNode::Branch(mut branch)) => {
                let at = nibble(&rest, 0)?;
                if !branch.state_mask.is_bit_set(at) {
                    return Ok(Taken::Absent);
                }
                let place = place(&branch, at);
                match self.take(child(&path, at), rest.slice(1..))? {
                    Taken::Absent => return Ok(Taken::Absent),
                    Taken::Now(reference) => branch.stack[place] = reference,
                    Taken::Gone => {
                        branch.stack.remove(place);
                        branch.state_mask.unset_bit(at);
                    }
                }
                if branch.stack.len() > 1 {
                    return Ok(Taken::Now(self.store(&path, &TrieNode::Branch(branch))));
                }
                let only = branch.state_mask.first_set_bit_index().ok_or(BAD_SHAPE)?;
                let reference = branch.stack.pop().ok_or(BAD_SHAPE)?;
                let shared = Nibbles::from_nibbles([only]);
                self.join(&path, shared, &child(&path, only), reference).map(Taken::Now)
            }
        }
    }

    /// Puts `shared` and the node at `below`, which `reference` names, together at `path`.
    fn join(
        &mut self,
        path: &Nibbles,
        shared: Nibbles,
        below: &Nibbles,
        reference: RlpNode,
    ) -> Result<RlpNode, StoreError> {
        match self.load(below)?.ok_or(NO_NODE)? {
            TrieNode::EmptyRoot => Err(BAD_SHAPE),
            TrieNode::Leaf(leaf) => {
                self.erase(below);
                Ok(self.leaf(path, shared.join(&leaf.key), &leaf.value))
            }
            TrieNode::Extension(extension) => {
                self.erase(below);
                Ok(self.extension(path, shared.join(&extension.key), extension.child))
            }
            TrieNode::Branch(_) => Ok(self.extension(path, shared, reference)),
        }
    }
}

impl Nodes for TrieEdit<'_> {
    fn node(&self, owner: Owner, path: &Nibbles) -> Result<Option<Vec<u8>>, StoreError> {
        assert_eq!(owner, self.owner, "an edit is of one trie");
        self.row(path)
    }
}

fn nibble(of: &Nibbles, at: usize) -> Result<u8, StoreError> {
    of.get(at).ok_or(BAD_SHAPE)
}

fn child(path: &Nibbles, nibble: u8) -> Nibbles {
    let mut path = *path;
    path.push(nibble);
    path
}

/// Where a branch keeps the child of `nibble`, or would.
fn place(branch: &BranchNode, nibble: u8) -> usize {
    (0..nibble).filter(|lower| branch.state_mask.is_bit_set(*lower)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_trie::HashBuilder;
    use alloy_trie::proof::verify_proof;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Memory(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Nodes for Memory {
        fn node(&self, _: Owner, path: &Nibbles) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(self.0.get(&path.to_vec()).cloned())
        }
    }

    impl Memory {
        fn keep(&mut self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
            for (path, row) in changes {
                match row {
                    Some(row) => self.0.insert(path, row),
                    None => self.0.remove(&path),
                };
            }
        }
    }

    fn root_by_others(of: &BTreeMap<[u8; 4], Vec<u8>>) -> B256 {
        let mut builder = HashBuilder::default();
        for (key, value) in of {
            builder.add_leaf(Nibbles::unpack(key), value);
        }
        builder.root()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Short keys of few different nibbles share prefixes at every depth; short values make inline nodes.
        #[test]
        fn any_changes_give_the_root_that_others_compute_and_proofs_that_others_accept(
            rounds in prop::collection::vec(prop::collection::vec(
                (prop::array::uniform4(prop::sample::select(vec![0u8, 1, 0x10, 0x11, 0xf0])),
                 prop::option::of(prop::collection::vec(any::<u8>(), 1..40))), 1..12), 1..8)
        ) {
            let mut kept = Memory::default();
            let mut model: BTreeMap<[u8; 4], Vec<u8>> = BTreeMap::new();
            for round in rounds {
                let mut edit = TrieEdit::new(&kept, B256::ZERO);
                for (key, value) in round {
                    let path = Nibbles::unpack(key);
                    prop_assert_eq!(edit.get(&path).unwrap(), model.get(&key).cloned());
                    match value {
                        Some(value) => { edit.insert(&path, &value).unwrap(); model.insert(key, value); }
                        None => { edit.remove(&path).unwrap(); model.remove(&key); }
                    }
                    prop_assert_eq!(edit.root().unwrap(), root_by_others(&model));
                }
                let changes = edit.into_changes().collect();
                kept.keep(changes);
                let root = root_by_others(&model);
                for key in [[0; 4], [0x11; 4], [0xf0; 4], [0, 1, 0, 1]].into_iter().chain(model.keys().copied()) {
                    let path = Nibbles::unpack(key);
                    let value = model.get(&key).cloned();
                    prop_assert_eq!(get(&kept, B256::ZERO, &path).unwrap(), value.clone());
                    let proof = prove(&kept, B256::ZERO, &path).unwrap();
                    // Roots shorter than a hash are what the other side's verifier does not know; keys of 32
                    // bytes never make one.
                    if proof.first().is_some_and(|root| root.len() < 32) {
                        continue;
                    }
                    prop_assert!(verify_proof(root, path, value, &proof).is_ok());
                    prop_assert!(verify_proof(root, path, Some(vec![7; 50]), &proof).is_err());
                }
            }
            // No row outlives its node.
            let mut edit = TrieEdit::new(&kept, B256::ZERO);
            for key in model.keys() {
                edit.remove(&Nibbles::unpack(key)).unwrap();
            }
            let changes = edit.into_changes().collect();
            kept.keep(changes);
            prop_assert!(kept.0.is_empty());
        }
    }
}
