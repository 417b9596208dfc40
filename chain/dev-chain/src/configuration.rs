//! What a dev chain is started with. Limits have names and defaults here; nothing else in the crate invents one.
//!
//! Deliberately knows nothing of files or flags: the binary fills it in.

use std::time::Duration;

use alloy_primitives::{Address, U256};

/// The letters `ASHL`: far from the small numbers that public chains take.
pub const DEFAULT_CHAIN_ID: u64 = 0x4153_484c;

/// A dev chain's settings. `chain_id`, `accounts`, `gas_limit` and `base_fee_wei` count when the chain is made;
/// later only `chain_id` is compared.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Funded accounts of the genesis block, in wei.
    pub accounts: Vec<(Address, U256)>,
    /// When blocks are made.
    pub production: Production,
    /// A block is `safe` and `finalized` when this many follow it. There is one producer and no reorganisation, so
    /// zero is honest; more exercises what waits for depth elsewhere.
    pub final_depth: u64,
    /// Gas of a block, and so the most of one transaction.
    pub gas_limit: u64,
    /// Base fee of the genesis block; from there EIP-1559 moves it.
    pub base_fee_wei: u64,
    /// Who gets the fees.
    pub beneficiary: Address,
    /// State of this many blocks before the head can be asked for (`eth_call`, `eth_getProof`, …); older is refused.
    pub state_history_blocks: u64,
    /// Bounds of the transaction pool.
    pub pool: PoolLimits,
    /// Bounds of JSON-RPC.
    pub rpc: RpcLimits,
}

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Production {
    /// As soon as a transaction is ready; all that came while the last block was written share the next. With a
    /// `final_depth`, empty blocks follow one `settle` apart until the last transaction is final, and no more.
    OnTransaction {
        /// Time between settling blocks.
        settle: Duration,
    },
    /// One block each interval, empty or not.
    Every(Duration),
}

/// Bounds of the transaction pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Transactions in all.
    pub transactions_max: usize,
    /// Transactions of one sender, ready or waiting for a nonce before theirs.
    pub per_sender_max: usize,
    /// Encoded bytes of one transaction.
    pub transaction_bytes_max: usize,
    /// Encoded bytes in all.
    pub bytes_max: usize,
}

/// Bounds of JSON-RPC.
#[derive(Clone, Copy, Debug)]
pub struct RpcLimits {
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Requests of a batch.
    pub batch_max: usize,
    /// Bytes of an answer, whole batch.
    pub answer_bytes_max: usize,
    /// Gas that one body may spend in `eth_call` and `eth_estimateGas`, all of its requests together.
    pub call_gas_max: u64,
    /// Blocks that one body may look at with `eth_getLogs` and `eth_feeHistory`, all of its requests together.
    pub log_blocks_max: u64,
    /// Logs that one `eth_getLogs` may return.
    pub logs_max: usize,
    /// Storage slots of one `eth_getProof`.
    pub proof_slots_max: usize,
    /// Bytes of request bodies that may be in memory at a time, and as many again of large answers.
    pub memory_bytes_max: usize,
    /// Open connections; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Bodies worked on at a time; more wait.
    pub workers_max: usize,
    /// A connection that sends no complete request, or takes no complete answer, for so long is closed.
    pub idle_max: Duration,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            chain_id: DEFAULT_CHAIN_ID,
            accounts: Vec::new(),
            production: Production::OnTransaction { settle: Duration::from_secs(1) },
            final_depth: 0,
            gas_limit: 30_000_000,
            base_fee_wei: 1_000_000_000,
            beneficiary: Address::ZERO,
            state_history_blocks: 1024,
            pool: PoolLimits::default(),
            rpc: RpcLimits::default(),
        }
    }
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            transactions_max: 4096,
            per_sender_max: 256,
            transaction_bytes_max: 128 << 10,
            bytes_max: 16 << 20,
        }
    }
}

impl Default for RpcLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 2 << 20,
            batch_max: 100,
            answer_bytes_max: 16 << 20,
            call_gas_max: 300_000_000,
            log_blocks_max: 10_000,
            logs_max: 10_000,
            proof_slots_max: 256,
            memory_bytes_max: 64 << 20,
            connections_max: 256,
            workers_max: 4,
            idle_max: Duration::from_secs(60),
        }
    }
}
