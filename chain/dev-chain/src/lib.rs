//! The embedded dev chain: an Ethereum chain of one producer in one directory, so that nothing else need be
//! installed to publish, anchor and verify on one machine.
//!
//! Owns the whole of it: state in a Merkle-Patricia trie, blocks, receipts and logs in one redb file, a bounded
//! transaction pool, execution by revm under the Prague rules, and JSON-RPC over HTTP for alloy, `cast`, ethers
//! and wallets. A block is one durable transaction of the engine, then one synced record of the *high water*
//! outside of it, and only then announced: a chain never starts from a head older than one it handed out.
//!
//! What it proves is *self-attested*: whoever holds the directory and its high-water file may write another
//! chain. Deliberately knows nothing of Ashlar's contracts.
//!
//! Unlike mainnet: blocks of the same second share a timestamp; no system contracts of the beacon chain (EIP-4788,
//! EIP-2935) are deployed; blob transactions are refused; `pending` means `latest`, except for nonces; the pool is
//! in memory, so what was not in a block when the process ended must be sent again.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod chain;
mod clock;
mod configuration;
mod execution;
mod genesis;
mod high_water;
mod pool;
mod producer;
mod rpc;
mod server;
mod state;
mod store;
mod trie;

pub use chain::{Chain, OpenError, ProduceError};
pub use clock::Clock;
pub use configuration::{Configuration, DEFAULT_CHAIN_ID, PoolLimits, Production, RpcLimits};
pub use high_water::{HighWater, HighWaterError};
pub use pool::PoolError;
pub use server::{DevChain, StartError};
pub use store::{BlockRow, ReceiptRow, StoreError, TransactionRow};
