//! What can be checked of a chain without running it: a header against its hash, state against a header.
//!
//! Invariant: [`CheckedHeader`] and [`CheckedAccount`] exist only when their hashes and proofs were recomputed here, so
//! an endpoint can withhold but not invent. Whether a header is *of the chain* is not checked: that takes a pinned hash,
//! several endpoints that agree, or a light client of its consensus. Deliberately knows no contract.

use alloy_consensus::Header;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_rpc_types_eth::{self as rpc, EIP1186AccountProofResponse};
use alloy_trie::proof::verify_proof;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieAccount};

use crate::endpoint::RpcError;
use crate::endpoints::{AskError, Endpoints};

/// Nodes of one proof: a key has 64 nibbles.
const PROOF_NODES_MAX: usize = 65;
/// Bytes of one node: a branch has 533, an account's leaf less.
const NODE_BYTES_MAX: usize = 1024;

/// A header whose hash was recomputed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedHeader {
    hash: B256,
    header: Header,
}

/// Why a check failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LightError {
    /// The endpoints gave no answer to check.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The chain has no such block, as far as it is asked.
    #[error("the chain has no block {0}")]
    NoBlock(BlockId),
    /// The header's fields do not hash to what it was asked or given for.
    #[error("the header of block {number} hashes to {computed}, not to {told}")]
    HeaderHash {
        /// The number it was told with.
        number: u64,
        /// What its fields give.
        computed: B256,
        /// What was asked for, or told.
        told: B256,
    },
    /// The header is of another block.
    #[error("asked for block {asked}, told block {told}")]
    Number {
        /// Asked for.
        asked: u64,
        /// Told.
        told: u64,
    },
    /// The proof is of something else, incomplete, too long, or does not lead to the root.
    #[error("the proof of {what} does not hold: {why}")]
    Proof {
        /// Of what.
        what: String,
        /// How it fails.
        why: String,
    },
    /// The code is not the contract's.
    #[error("code of {address} hashes to {found}, not to {wanted}")]
    Code {
        /// Whose.
        address: Address,
        /// What was told.
        found: B256,
        /// What its account says.
        wanted: B256,
    },
}

impl CheckedHeader {
    /// Recomputes the hash of a header as an endpoint told it.
    pub fn check(told: rpc::Header) -> Result<Self, LightError> {
        let number = told.inner.number;
        let computed = told.inner.hash_slow();
        if computed != told.hash {
            return Err(LightError::HeaderHash { number, computed, told: told.hash });
        }
        Ok(Self { hash: computed, header: told.inner })
    }

    /// Its hash.
    pub fn hash(&self) -> B256 {
        self.hash
    }

    /// Its block's number.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// Root of the state after it.
    pub fn state_root(&self) -> B256 {
        self.header.state_root
    }

    /// Unix seconds.
    pub fn timestamp(&self) -> u64 {
        self.header.timestamp
    }

    /// Hash of the header before.
    pub fn parent_hash(&self) -> B256 {
        self.header.parent_hash
    }
}

/// An account, and slots of it, as a state root has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedAccount {
    /// Whose.
    pub address: Address,
    /// Its leaf; the empty account where there is none.
    pub account: TrieAccount,
    /// Values of the slots asked for, in their order.
    pub slots: Vec<U256>,
}

/// Fetches the header of `block` from any endpoint and recomputes its hash; by hash, it must be that one.
pub async fn header(endpoints: &Endpoints, block: BlockId) -> Result<CheckedHeader, LightError> {
    let told = endpoints.any(|endpoint| endpoint.header(block)).await?;
    checked(told, block)
}

/// Fetches the header at a number from all endpoints, of whom at least `wanted` must answer and all agree.
pub async fn agreed_header(
    endpoints: &Endpoints,
    number: u64,
    wanted: usize,
) -> Result<CheckedHeader, LightError> {
    let block = BlockId::from(number);
    let told = endpoints.agreed(wanted, "a header", |endpoint| async move {
        let header = endpoint.header(block).await?;
        // What is not in the hash may differ between honest endpoints.
        Ok::<_, RpcError>(header.map(|header| (header.hash, header.inner)))
    });
    let told = told.await?;
    checked(told.map(|(hash, inner)| rpc::Header { hash, inner, total_difficulty: None, size: None }), block)
}

fn checked(told: Option<rpc::Header>, block: BlockId) -> Result<CheckedHeader, LightError> {
    let checked = CheckedHeader::check(told.ok_or(LightError::NoBlock(block))?)?;
    match block {
        BlockId::Hash(wanted) if wanted.block_hash != checked.hash => Err(LightError::HeaderHash {
            number: checked.number(),
            computed: checked.hash,
            told: wanted.block_hash,
        }),
        BlockId::Number(BlockNumberOrTag::Number(asked)) if asked != checked.number() => {
            Err(LightError::Number { asked, told: checked.number() })
        }
        _ => Ok(checked),
    }
}

/// Fetches an account with some slots as of a checked header, and checks the proofs against its state root.
pub async fn account(
    endpoints: &Endpoints,
    header: &CheckedHeader,
    address: Address,
    slots: &[B256],
) -> Result<CheckedAccount, LightError> {
    // By hash, so that a reorganisation between the two requests is an error and not another answer; not every node
    // takes hashes there, and by number the proof is checked all the same.
    let by_hash = endpoints.any(|endpoint| endpoint.proof(address, slots, header.hash().into())).await;
    let proof = match by_hash {
        Ok(proof) => proof,
        Err(AskError::Rpc(RpcError::Refused { .. })) => {
            endpoints.any(|endpoint| endpoint.proof(address, slots, header.number().into())).await?
        }
        Err(error) => return Err(error.into()),
    };
    check_account(header.state_root(), address, slots, &proof)
}

/// Checks an `eth_getProof` answer against a state root: the account, or that there is none, and each slot's value.
pub fn check_account(
    state_root: B256,
    address: Address,
    slots: &[B256],
    proof: &EIP1186AccountProofResponse,
) -> Result<CheckedAccount, LightError> {
    let account = TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    let what = || format!("account {address}");
    let fails = |why: &str| LightError::Proof { what: what(), why: why.to_owned() };
    if proof.address != address {
        return Err(fails("it is of another account"));
    }
    if proof.storage_proof.len() != slots.len() {
        return Err(fails("it has another number of slots"));
    }
    // Nodes tell absent accounts with zero hashes or with those of emptiness.
    let absent = TrieAccount {
        nonce: 0,
        balance: U256::ZERO,
        storage_root: EMPTY_ROOT_HASH,
        code_hash: KECCAK256_EMPTY,
    };
    let told_absent = account.nonce == 0
        && account.balance.is_zero()
        && (account.storage_root.is_zero() || account.storage_root == EMPTY_ROOT_HASH)
        && (account.code_hash.is_zero() || account.code_hash == KECCAK256_EMPTY);
    let key = Nibbles::unpack(keccak256(address));
    let value = (!told_absent).then(|| alloy_rlp::encode(account));
    check_proof(state_root, key, value, &proof.account_proof, what)?;
    let account = if told_absent { absent } else { account };
    let mut values = Vec::with_capacity(slots.len());
    for (slot, told) in slots.iter().zip(&proof.storage_proof) {
        let what = || format!("slot {slot} of {address}");
        if told.key.as_b256() != *slot {
            return Err(LightError::Proof { what: what(), why: "it is of another slot".to_owned() });
        }
        let value = (!told.value.is_zero()).then(|| alloy_rlp::encode(told.value));
        check_proof(account.storage_root, Nibbles::unpack(keccak256(slot)), value, &told.proof, what)?;
        values.push(told.value);
    }
    Ok(CheckedAccount { address, account, slots: values })
}

fn check_proof(
    root: B256,
    key: Nibbles,
    value: Option<Vec<u8>>,
    proof: &[Bytes],
    what: impl Fn() -> String,
) -> Result<(), LightError> {
    if proof.len() > PROOF_NODES_MAX || proof.iter().any(|node| node.len() > NODE_BYTES_MAX) {
        return Err(LightError::Proof { what: what(), why: "it is too long".to_owned() });
    }
    verify_proof(root, key, value, proof).map_err(|error| LightError::Proof {
        what: what(),
        why: error.to_string().chars().take(200).collect(),
    })
}

/// Fetches the code of a checked account and compares its hash.
pub async fn code(
    endpoints: &Endpoints,
    header: &CheckedHeader,
    account: &CheckedAccount,
) -> Result<Bytes, LightError> {
    let address = account.address;
    let code = endpoints.any(|endpoint| endpoint.code(address, header.number().into())).await?;
    let (found, wanted) = (keccak256(&code), account.account.code_hash);
    if found != wanted {
        return Err(LightError::Code { address, found, wanted });
    }
    Ok(code)
}
