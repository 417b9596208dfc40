//! What is kept of a block beside its header, in RLP.
//!
//! Invariant: what cannot be told from the signed transactions alone (sender, gas, logs) is kept, so that reading a
//! block executes nothing and recovers no signature. Deliberately knows nothing of tables.

use alloy_primitives::{Address, B256, Bytes, Log};
use alloy_rlp::{RlpDecodable, RlpEncodable};

/// A block's transactions with their receipts, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct BlockRow {
    /// What was executed.
    pub transactions: Vec<TransactionRow>,
    /// What came of it; as many.
    pub receipts: Vec<ReceiptRow>,
}

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct TransactionRow {
    /// Its hash.
    pub hash: B256,
    /// Who signed it.
    pub sender: Address,
    /// As it was sent (EIP-2718).
    pub encoded: Bytes,
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct ReceiptRow {
    /// Whether it did what it was to do.
    pub succeeded: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// Gas that the block used up to and with it.
    pub cumulative_gas_used: u64,
    /// Wei a gas that it paid.
    pub effective_gas_price: u128,
    /// The contract it made; zero if none.
    pub created: Address,
    /// What it logged.
    pub logs: Vec<Log>,
}
