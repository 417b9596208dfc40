//! The proof file `p.json` (`docs/formats/proof.md` §2): what somebody claims, with what it takes to check it.
//!
//! Invariant: a [`Proof`] has the fields of its format and no others, and is either of an entry or of an
//! absence. Nothing in it is trusted; `verify.rs` checks it.

use serde::{Deserialize, Serialize};

use crate::hex_bytes::{Address, Hash, HexBytes, Id};
use crate::strict::{self, ParseError};

/// Which format a file has; another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ProofFormat {
    /// The only one so far.
    #[serde(rename = "ashlar-proof-1")]
    V1,
}

/// A proof as its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Which format this is.
    #[serde(deserialize_with = "strict::name")]
    pub format: ProofFormat,
    /// Chain with the registry.
    pub chain_id: u64,
    /// The registry's address.
    pub registry: Address,
    /// Whose log.
    pub namespace: Hash,
    /// The entry, if this proves that it is in the log.
    #[serde(default, deserialize_with = "strict::some_object", skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
    /// What stands in the place of a promised entry, if this proves that it is not.
    #[serde(default, deserialize_with = "strict::some_object", skip_serializing_if = "Option::is_none")]
    pub absence: Option<Absence>,
    /// The receipt, as its header carried it.
    #[serde(default, deserialize_with = "strict::some", skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// The chain's state at some block.
    #[serde(default, deserialize_with = "strict::some_object", skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// A record, and its way to the header of its batch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The bucket that the record names.
    pub bucket: String,
    /// The key that the record names.
    pub key: String,
    /// The version that the record names.
    pub version: Id,
    /// The record's bytes.
    pub record: HexBytes,
    /// Hides the record from who has only its leaf.
    pub salt: Hash,
    /// Position of the commit.
    pub position: u64,
    /// Number of the entry in the commit.
    pub index: u32,
    /// Header of the batch.
    pub header: HexBytes,
    /// Number of the leaf in the batch.
    pub leaf_index: u32,
    /// Siblings from the leaf up.
    pub path: Vec<Hash>,
    /// The object's parts, in order.
    #[serde(default, deserialize_with = "strict::some_objects", skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<PartRow>>,
    /// Single blocks with their ways to the object root.
    #[serde(default, deserialize_with = "strict::some_objects", skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<Block>>,
}

/// A part of the object, as its manifest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PartRow {
    /// The number that the client gave it.
    pub number: u32,
    /// The blob that holds it.
    pub blob: Id,
    /// Its bytes.
    pub length: u64,
    /// The blob's root.
    pub blob_root: Hash,
}

/// A block of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The block's way to the object root (`docs/formats/commitment.md` §7).
    pub proof: HexBytes,
    /// The block, padding included.
    pub bytes: HexBytes,
}

/// Why a promised entry cannot be in the log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// The record that was promised, if its holder shows it.
    #[serde(default, deserialize_with = "strict::some_object", skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
    /// Header of the first batch that ends at or after the place; none if the log ends before it.
    #[serde(default, deserialize_with = "strict::some", skip_serializing_if = "Option::is_none")]
    pub header: Option<HexBytes>,
    /// Header of the batch before, if the place lies between the two.
    #[serde(default, deserialize_with = "strict::some", skip_serializing_if = "Option::is_none")]
    pub previous_header: Option<HexBytes>,
    /// The last leaf of the batch that stands before the place.
    #[serde(default, deserialize_with = "strict::some_object", skip_serializing_if = "Option::is_none")]
    pub left: Option<Neighbour>,
    /// The first leaf of the batch that stands at the place or after it.
    #[serde(default, deserialize_with = "strict::some_object", skip_serializing_if = "Option::is_none")]
    pub right: Option<Neighbour>,
}

/// A record with its salt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The record's bytes.
    pub record: HexBytes,
    /// Its salt.
    pub salt: Hash,
}

/// A leaf whose place is shown, and whose record is not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// Position of its commit.
    pub position: u64,
    /// Its number in the commit.
    pub index: u32,
    /// keccak of salt and record.
    pub record_digest: Hash,
    /// Number of the leaf in the batch.
    pub leaf_index: u32,
    /// Siblings from the leaf up.
    pub path: Vec<Hash>,
}

/// State of the contracts at one block, as `eth_getProof` gives it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// RLP of the block's header.
    pub block_header: HexBytes,
    /// Nodes from the state root to the registry's account.
    pub registry_account: Vec<HexBytes>,
    /// Nodes from the state root to the verifier contract's account.
    pub verifier_account: Vec<HexBytes>,
    /// Slots of the registry.
    #[serde(deserialize_with = "strict::objects")]
    pub storage: Vec<Slot>,
}

/// A slot of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Which one.
    pub slot: Hash,
    /// Nodes from the storage root to its word.
    pub nodes: Vec<HexBytes>,
}

impl Proof {
    /// Reads a foreign file.
    pub fn parse(file: &[u8]) -> Result<Self, ParseError> {
        let proof: Self = strict::file(file)?;
        match (&proof.entry, &proof.absence, &proof.receipt) {
            (Some(_), None, _) | (None, Some(_), Some(_)) => Ok(proof),
            (None, Some(_), None) => Err(ParseError::Fields("an absence needs the receipt of the promise")),
            _ => Err(ParseError::Fields("a proof is either of an entry or of an absence")),
        }
    }

    /// The file, which [`parse`](Self::parse) reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a proof has string keys only")
    }
}
