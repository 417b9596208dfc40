//! Proofs in Ethereum's tries, as `eth_getProof` gives them, and the two leaves they lead to.
//!
//! Invariant: a value is returned only if the nodes lead to it from the root, each by its hash, and none is
//! left over. Absence is never proven here: a verifier needs what *is* there.

use crate::digest::keccak;
use crate::hex_bytes::{Hash, HexBytes};
use crate::rlp::{Item, RlpError};

/// The nodes do not lead from this root to a value under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrieError {
    /// A node, or the value, is not the RLP that belongs there.
    #[error("a node of the trie is malformed")]
    Node(#[from] RlpError),
    /// A node is not the one that its parent, or the root, names.
    #[error("node {depth} is not the one that its parent names")]
    Hash {
        /// How many nodes came before it.
        depth: usize,
    },
    /// The nodes end before the value.
    #[error("the proof ends before the value")]
    Short,
    /// The nodes go on after the value.
    #[error("the proof goes on after the value")]
    Long,
    /// The nodes show that there is nothing under the key.
    #[error("the trie has nothing there")]
    Nothing,
}

/// An account in the state trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) storage_root: Hash,
    pub(crate) code_hash: Hash,
}

/// The account that `nodes` prove for `address` under a state root.
pub(crate) fn account(root: &Hash, address: &[u8; 20], nodes: &[HexBytes]) -> Result<Account, TrieError> {
    let value = value(root, &keccak(&[address]), nodes)?;
    let fields = Item::whole(value)?.items()?;
    let [nonce, balance, storage_root, code_hash] = fields.as_slice() else {
        return Err(RlpError.into());
    };
    nonce.integer()?;
    balance.word()?;
    Ok(Account { storage_root: storage_root.hash()?.into(), code_hash: code_hash.hash()?.into() })
}

/// The word that `nodes` prove in `slot` under a storage root; never zero, which tries do not hold.
pub(crate) fn word(root: &Hash, slot: &Hash, nodes: &[HexBytes]) -> Result<Hash, TrieError> {
    let value = value(root, &keccak(&[&slot.0]), nodes)?;
    Ok(Item::whole(value)?.word()?.into())
}

/// The value under `key`, which is a hash already.
fn value<'a>(root: &Hash, key: &Hash, nodes: &'a [HexBytes]) -> Result<&'a [u8], TrieError> {
    let nibbles: Vec<u8> = key.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
    let mut left = nibbles.as_slice();
    let mut nodes = nodes.iter().enumerate();
    let mut node = follow(&mut nodes, &root.0)?;
    loop {
        let items = Item::whole(node)?.items()?;
        let child = match items.as_slice() {
            [path, child] => {
                let (is_leaf, path) = compact(path.text()?)?;
                left = left.strip_prefix(path.as_slice()).ok_or(TrieError::Nothing)?;
                if is_leaf {
                    return match (left, nodes.next()) {
                        ([], None) => Ok(child.text()?),
                        ([], Some(_)) => Err(TrieError::Long),
                        _ => Err(TrieError::Nothing),
                    };
                }
                child
            }
            branch if branch.len() == 17 => {
                let (nibble, rest) = left.split_first().ok_or(TrieError::Nothing)?;
                left = rest;
                &branch[usize::from(*nibble)]
            }
            _ => return Err(RlpError.into()),
        };
        node = match child {
            inline if inline.is_list => inline.encoded,
            Item { payload: [], .. } => return Err(TrieError::Nothing),
            hash => follow(&mut nodes, &hash.hash()?)?,
        };
    }
}

/// The next node, if it is the one that `hash` names.
fn follow<'a>(
    nodes: &mut impl Iterator<Item = (usize, &'a HexBytes)>,
    hash: &[u8; 32],
) -> Result<&'a [u8], TrieError> {
    let (depth, node) = nodes.next().ok_or(TrieError::Short)?;
    if keccak(&[&node.0]).0 != *hash {
        return Err(TrieError::Hash { depth });
    }
    Ok(&node.0)
}

/// A path in hex-prefix encoding: whether it ends in a leaf, and its nibbles.
fn compact(path: &[u8]) -> Result<(bool, Vec<u8>), RlpError> {
    let (first, rest) = path.split_first().ok_or(RlpError)?;
    let (flags, nibble) = (first >> 4, first & 15);
    if flags > 3 || (flags % 2 == 0 && nibble != 0) {
        return Err(RlpError);
    }
    let odd = (flags % 2 == 1).then_some(nibble);
    Ok((flags >= 2, odd.into_iter().chain(rest.iter().flat_map(|byte| [byte >> 4, byte & 15])).collect()))
}
