//! The trust file `trust.json` (`docs/formats/proof.md` §3): what a verifier takes as given.
//!
//! Invariant: it comes from its user, never from a server or a proof, so nothing here fills a field of it.

use serde::{Deserialize, Serialize};

use crate::block::BlockId;
use crate::hex_bytes::{Address, Hash};
use crate::strict::{self, ParseError};

/// Which format a file has; another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TrustFormat {
    /// The only one so far.
    #[serde(rename = "ashlar-trust-1")]
    V1,
}

/// What kind of chain it is, and so what may vouch for its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainKind {
    /// The store's own development chain: whoever runs the store can write another.
    Embedded,
    /// A chain with consensus, asked through endpoints.
    Rpc,
    /// The same, but only hashes that the user pinned count.
    Header,
}

/// What the user had before: the log never goes back behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// A block of the chain.
    pub block_number: u64,
    /// Its hash.
    pub block_hash: Hash,
    /// The newest batch that was anchored in it; 0 for none.
    pub sequence: u64,
    /// Hash of that batch's header; zero for none.
    pub header_hash: Hash,
}

/// What the user trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Which format this is.
    #[serde(deserialize_with = "strict::name")]
    pub format: TrustFormat,
    /// What may vouch for blocks.
    #[serde(deserialize_with = "strict::name")]
    pub chain: ChainKind,
    /// Chain with the registry.
    pub chain_id: u64,
    /// The registry's address.
    pub registry: Address,
    /// keccak of the registry's code.
    pub registry_code_hash: Hash,
    /// The contract that checks certificates for the namespace.
    pub verifier: Address,
    /// keccak of its code.
    pub verifier_code_hash: Hash,
    /// Whose log.
    pub namespace: Hash,
    /// The account that may anchor.
    pub publisher: Address,
    /// Ed25519 key that signs receipts.
    pub receipt_key: Hash,
    /// What the user had before.
    #[serde(deserialize_with = "strict::object")]
    pub checkpoint: Checkpoint,
}

impl Trust {
    /// Reads the user's file.
    pub fn parse(file: &[u8]) -> Result<Self, ParseError> {
        let trust: Self = strict::file(file)?;
        if (trust.checkpoint.sequence == 0) != trust.checkpoint.header_hash.is_zero() {
            return Err(ParseError::Fields(
                "a checkpoint has a header hash if and only if it has a sequence",
            ));
        }
        Ok(trust)
    }

    /// The file, which [`parse`](Self::parse) reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a trust file has string keys only")
    }
}

impl Checkpoint {
    pub(crate) fn block(&self) -> BlockId {
        BlockId { number: self.block_number, hash: self.block_hash }
    }
}
