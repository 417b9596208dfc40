//! Headers of the chain's blocks: of a header's RLP, the hash and the three fields that matter here.
//!
//! Does not know who says that the block is on the chain.

use serde::{Deserialize, Serialize};

use crate::digest::keccak;
use crate::hex_bytes::Hash;
use crate::rlp::{Item, RlpError};

/// A block's number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BlockId {
    /// Its number.
    pub number: u64,
    /// keccak of its header's RLP.
    pub hash: Hash,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) id: BlockId,
    pub(crate) state_root: Hash,
    /// Unix seconds.
    pub(crate) timestamp: u64,
}

/// Fields of a header since the first block; forks only append.
const FIELDS_MIN: usize = 15;

impl Block {
    pub(crate) fn decode(header: &[u8]) -> Result<Self, RlpError> {
        let fields = Item::whole(header)?.items()?;
        if fields.len() < FIELDS_MIN {
            return Err(RlpError);
        }
        Ok(Self {
            id: BlockId { number: fields[8].integer()?, hash: keccak(&[header]) },
            state_root: fields[3].hash()?.into(),
            timestamp: fields[11].integer()?,
        })
    }
}
