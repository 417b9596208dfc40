//! Accounts and storage in the tries: what execution reads, what a block changes, what is proven.
//!
//! Invariant: the state *is* the tries; no other table could disagree with a root. Removed accounts and zeroed slots
//! leave no leaf. Deliberately knows nothing of transactions or blocks beyond their hashes.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieAccount};
use revm::bytecode::Bytecode;
use revm::database_interface::{DBErrorMarker, DatabaseRef};
use revm::primitives::{StorageKey, StorageValue};
use revm::state::{AccountInfo, EvmState};

use crate::store::{Snapshot, StoreError};
use crate::trie::{self, NodeChange, Nodes, Owner, TrieEdit};

/// The trie of accounts.
const ACCOUNTS: Owner = B256::ZERO;

impl DBErrorMarker for StoreError {}

fn account_key(address: Address) -> Nibbles {
    Nibbles::unpack(keccak256(address))
}

fn slot_key(slot: B256) -> Nibbles {
    Nibbles::unpack(keccak256(slot))
}

fn decode_account(rlp: Vec<u8>) -> Result<TrieAccount, StoreError> {
    TrieAccount::decode(&mut rlp.as_slice()).map_err(|_| StoreError::Corrupt("an account does not decode"))
}

/// The account's leaf.
pub(crate) fn account(nodes: &dyn Nodes, address: Address) -> Result<Option<TrieAccount>, StoreError> {
    trie::get(nodes, ACCOUNTS, &account_key(address))?.map(decode_account).transpose()
}

/// The slot's value; zero where there is no leaf.
pub(crate) fn slot(nodes: &dyn Nodes, address: Address, slot: B256) -> Result<U256, StoreError> {
    let Some(rlp) = trie::get(nodes, keccak256(address), &slot_key(slot))? else { return Ok(U256::ZERO) };
    U256::decode(&mut rlp.as_slice()).map_err(|_| StoreError::Corrupt("a slot does not decode"))
}

/// Nodes from the state root towards an account.
pub(crate) fn account_proof(nodes: &dyn Nodes, address: Address) -> Result<Vec<Bytes>, StoreError> {
    trie::prove(nodes, ACCOUNTS, &account_key(address))
}

/// Nodes from an account's storage root towards a slot.
pub(crate) fn slot_proof(nodes: &dyn Nodes, address: Address, slot: B256) -> Result<Vec<Bytes>, StoreError> {
    trie::prove(nodes, keccak256(address), &slot_key(slot))
}

/// The state as execution asks for it.
impl DatabaseRef for Snapshot {
    type Error = StoreError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StoreError> {
        let account = account(self, address)?;
        Ok(account.map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            // Asked for by hash when it is run.
            code: None,
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, StoreError> {
        if code_hash == KECCAK256_EMPTY || code_hash.is_zero() {
            return Ok(Bytecode::default());
        }
        let code = self.code(code_hash)?.ok_or(StoreError::Corrupt("code is missing"))?;
        Bytecode::new_raw_checked(code).map_err(|_| StoreError::Corrupt("code does not decode"))
    }

    fn storage_ref(&self, address: Address, index: StorageKey) -> Result<StorageValue, StoreError> {
        slot(self, address, B256::from(index))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StoreError> {
        Ok(self.header(number)?.map_or(B256::ZERO, |header| header.hash()))
    }
}

/// What transactions changed, gathered over a block.
#[derive(Default)]
pub(crate) struct Changes {
    accounts: BTreeMap<Address, AccountChange>,
    code: BTreeMap<B256, Bytes>,
}

#[derive(Default)]
struct AccountChange {
    /// `None`: there is no such account any more.
    info: Option<(u64, U256, B256)>,
    storage: BTreeMap<U256, U256>,
}

impl Changes {
    /// Adds what one transaction left.
    pub(crate) fn merge(&mut self, state: &EvmState) {
        for (address, account) in state {
            if !account.is_touched() {
                continue;
            }
            let change = self.accounts.entry(*address).or_default();
            // Since Cancun only what was made in the same transaction is destroyed, so no slot is left in the trie.
            if account.is_selfdestructed() || account.is_empty() {
                *change = AccountChange::default();
                continue;
            }
            let info = &account.info;
            change.info = Some((info.nonce, info.balance, info.code_hash));
            for (slot, value) in account.changed_storage_slots() {
                change.storage.insert(*slot, value.present_value);
            }
            if let Some(code) = &info.code
                && !info.is_empty_code_hash()
            {
                self.code.insert(info.code_hash, code.original_bytes());
            }
        }
    }

    /// Gives `address` this balance, as the genesis block does.
    pub(crate) fn fund(&mut self, address: Address, balance: U256) {
        let info = Some((0, balance, KECCAK256_EMPTY));
        self.accounts.insert(address, AccountChange { info, storage: BTreeMap::new() });
    }

    /// The new state root, and the rows that make it so.
    pub(crate) fn apply(self, nodes: &dyn Nodes) -> Result<Applied, StoreError> {
        let mut rows = Vec::new();
        let mut accounts = TrieEdit::new(nodes, ACCOUNTS);
        for (address, change) in self.accounts {
            let key = account_key(address);
            let before = accounts.get(&key)?.map(decode_account).transpose()?;
            let mut storage_root = before.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
            let Some((nonce, balance, code_hash)) = change.info else {
                assert_eq!(
                    storage_root, EMPTY_ROOT_HASH,
                    "an account with storage is never removed: {address}"
                );
                accounts.remove(&key)?;
                continue;
            };
            if !change.storage.is_empty() {
                let owner = keccak256(address);
                let mut storage = TrieEdit::new(nodes, owner);
                for (slot, value) in change.storage {
                    let key = slot_key(B256::from(slot));
                    if value.is_zero() {
                        storage.remove(&key)?;
                    } else {
                        storage.insert(&key, &alloy_rlp::encode(value))?;
                    }
                }
                storage_root = storage.root()?;
                rows.extend(storage.into_changes().map(|(path, node)| (owner, path, node)));
            }
            let mut leaf = Vec::new();
            TrieAccount { nonce, balance, storage_root, code_hash }.encode(&mut leaf);
            accounts.insert(&key, &leaf)?;
        }
        let root = accounts.root()?;
        rows.extend(accounts.into_changes().map(|(path, node)| (ACCOUNTS, path, node)));
        Ok(Applied { root, rows, code: self.code.into_iter().collect() })
    }
}

/// A state root with the rows of its tries.
pub(crate) struct Applied {
    pub(crate) root: B256,
    pub(crate) rows: Vec<NodeChange>,
    pub(crate) code: Vec<(B256, Bytes)>,
}

/// Nothing yet: what the genesis block is applied to.
pub(crate) struct Nothing;

impl Nodes for Nothing {
    fn node(&self, _: Owner, _: &Nibbles) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }
}
