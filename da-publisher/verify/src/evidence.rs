//! What the caller found out about the chain, so that this crate needs no network (`docs/formats/proof.md` §4).
//!
//! Invariant: evidence comes from whom the *user* asked, or pinned himself. Does not decide what it is worth;
//! `verify/state.rs` does.

use serde::{Deserialize, Serialize};

use crate::block::BlockId;
use crate::hex_bytes::Hash;
use crate::proof::State;
use crate::strict::{self, ParseError};

/// Which format a file has; another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum EvidenceFormat {
    /// The only one so far.
    #[serde(rename = "ashlar-evidence-1")]
    V1,
}

/// Who vouches for the block whose state is shown. Empty, only the trust file's checkpoint can.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ChainEvidence {
    /// Which format this is.
    #[serde(deserialize_with = "strict::name")]
    pub format: EvidenceFormat,
    /// A block that the user has from a source of his own.
    #[serde(default, deserialize_with = "strict::some_object", skip_serializing_if = "Option::is_none")]
    pub pinned: Option<BlockId>,
    /// What endpoints answered.
    #[serde(default, deserialize_with = "strict::some_objects", skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Answer>>,
    /// State that the user fetched; it takes the place of the proof's.
    #[serde(default, deserialize_with = "strict::some_object", skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

/// What one endpoint said of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Which endpoint; two answers of one endpoint are one.
    pub endpoint: String,
    /// `eth_chainId`.
    pub chain_id: u64,
    /// Hash of the block that has the number of the state's block.
    pub block_hash: Hash,
    /// Hash of the block that has the checkpoint's number, if the endpoint has one.
    #[serde(default, deserialize_with = "strict::some", skip_serializing_if = "Option::is_none")]
    pub checkpoint_hash: Option<Hash>,
}

impl ChainEvidence {
    /// Nothing was asked: only the trust file's checkpoint vouches.
    pub const fn none() -> Self {
        Self { format: EvidenceFormat::V1, pinned: None, endpoints: None, state: None }
    }

    /// The user's own pin.
    pub const fn pinned(block: BlockId) -> Self {
        Self { format: EvidenceFormat::V1, pinned: Some(block), endpoints: None, state: None }
    }

    /// Answers of endpoints.
    pub const fn endpoints(answers: Vec<Answer>) -> Self {
        Self { format: EvidenceFormat::V1, pinned: None, endpoints: Some(answers), state: None }
    }

    /// With state that the user fetched, in place of the proof's.
    #[must_use]
    pub fn with_state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Reads evidence that was kept in a file.
    pub fn parse(file: &[u8]) -> Result<Self, ParseError> {
        let evidence: Self = strict::file(file)?;
        if evidence.pinned.is_some() && evidence.endpoints.is_some() {
            return Err(ParseError::Fields("a block is pinned or endpoints were asked, not both"));
        }
        Ok(evidence)
    }

    /// The file, which [`parse`](Self::parse) reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("evidence has string keys only")
    }
}
