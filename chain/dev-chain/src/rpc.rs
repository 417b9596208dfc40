//! JSON-RPC: a body of one or many requests in, the body of the answer out.
//!
//! Invariant: what a body may cost is bounded before it is done: requests, gas of calls, blocks and logs looked at,
//! bytes of the answer. Errors carry codes that Ethereum's clients know; internal detail goes to the log. Deliberately
//! knows nothing of HTTP.

mod blocks;
mod calls;
mod envelope;
mod failure;
mod fees;
mod logs;
mod params;
mod shapes;
mod transactions;

use std::sync::Arc;

use alloy_consensus::{Header, Sealed};
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Bytes, U64, keccak256};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::chain::Chain;
use crate::store::Snapshot;
use envelope::Request;
use failure::Failure;
use params::Params;

/// Answers requests about one chain.
pub(crate) struct Rpc {
    chain: Arc<Chain>,
}

/// One body's requests, with what they may still cost together.
struct Session<'c> {
    chain: &'c Chain,
    gas_left: u64,
    blocks_left: u64,
    bytes_left: usize,
}

type Answer = Result<Box<RawValue>, Failure>;

fn answer(value: &impl Serialize) -> Answer {
    to_raw_value(value).map_err(|error| Failure::internal(&error))
}

impl Rpc {
    pub(crate) fn new(chain: Arc<Chain>) -> Self {
        Self { chain }
    }

    /// The answer to a body; `None` where it only held notifications. Blocks: runs on a blocking thread.
    pub(crate) fn answer(&self, body: &[u8]) -> Option<Vec<u8>> {
        let limits = self.chain.configuration().rpc;
        let mut session = Session {
            chain: &self.chain,
            gas_left: limits.call_gas_max,
            blocks_left: limits.log_blocks_max,
            bytes_left: limits.answer_bytes_max,
        };
        envelope::answer(body, limits.batch_max, |request| session.serve(request))
    }
}

impl Session<'_> {
    fn serve(&mut self, request: &Request<'_>) -> Answer {
        let params = Params::parse(request.params)?;
        let answer = self.dispatch(&request.method, &params)?;
        let bytes = answer.get().len();
        self.bytes_left = self
            .bytes_left
            .checked_sub(bytes)
            .ok_or_else(|| Failure::limit("the answer is too large: ask for less, or in more requests"))?;
        Ok(answer)
    }

    fn dispatch(&mut self, method: &str, params: &Params<'_>) -> Answer {
        match method {
            "eth_chainId" => answer(&U64::from(self.chain.configuration().chain_id)),
            "net_version" => answer(&self.chain.configuration().chain_id.to_string()),
            "net_listening" => answer(&true),
            "net_peerCount" => answer(&U64::ZERO),
            "web3_clientVersion" => answer(&concat!("ashlar-dev-chain/", env!("CARGO_PKG_VERSION"))),
            "web3_sha3" => answer(&keccak256(params.required::<Bytes>(0, "data")?)),
            "eth_syncing" => answer(&false),
            "eth_accounts" => answer(&[(); 0]),
            "eth_blockNumber" => answer(&U64::from(self.chain.head().number)),
            "eth_getBlockByNumber" => self.block_by_number(params),
            "eth_getBlockByHash" => self.block_by_hash(params),
            "eth_getBlockReceipts" => self.block_receipts(params),
            "eth_getBlockTransactionCountByNumber" | "eth_getBlockTransactionCountByHash" => {
                self.block_transaction_count(params)
            }
            "eth_getUncleCountByBlockNumber" | "eth_getUncleCountByBlockHash" => answer(&U64::ZERO),
            "eth_getTransactionByHash" => self.transaction_by_hash(params),
            "eth_getTransactionReceipt" => self.transaction_receipt(params),
            "eth_sendRawTransaction" => self.send_raw_transaction(params),
            "eth_getBalance" => self.balance(params),
            "eth_getTransactionCount" => self.transaction_count(params),
            "eth_getCode" => self.code(params),
            "eth_getStorageAt" => self.storage_at(params),
            "eth_getProof" => self.proof(params),
            "eth_call" => self.call(params),
            "eth_estimateGas" => self.estimate_gas(params),
            "eth_gasPrice" => self.gas_price(),
            "eth_maxPriorityFeePerGas" => self.priority_fee(),
            "eth_feeHistory" => self.fee_history(params),
            "eth_getLogs" => self.logs(params),
            _ => Err(Failure::method_not_found(method)),
        }
    }

    /// Takes blocks from those that this body may still look at.
    fn look_at_blocks(&mut self, count: u64) -> Result<(), Failure> {
        let left = self.blocks_left.checked_sub(count);
        self.blocks_left = left.ok_or_else(|| {
            Failure::limit(format!(
                "one body may look at {} blocks",
                self.chain.configuration().rpc.log_blocks_max
            ))
        })?;
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, Failure> {
        Ok(self.chain.snapshot()?)
    }

    /// Number of a block that `snapshot` has.
    fn number(&self, snapshot: &Snapshot, block: BlockId) -> Result<Option<u64>, Failure> {
        Ok(match block {
            BlockId::Hash(hash) => snapshot.number(hash.block_hash)?,
            BlockId::Number(tag) => {
                let number = match tag {
                    BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => snapshot.at(),
                    BlockNumberOrTag::Safe | BlockNumberOrTag::Finalized => {
                        snapshot.at().saturating_sub(self.chain.configuration().final_depth)
                    }
                    BlockNumberOrTag::Earliest => 0,
                    BlockNumberOrTag::Number(number) => number,
                };
                (number <= snapshot.at()).then_some(number)
            }
        })
    }

    /// The chain as of a block whose state is kept, with the block's header.
    fn state_at(&self, block: Option<BlockId>) -> Result<(Snapshot, Sealed<Header>), Failure> {
        let snapshot = self.snapshot()?;
        let number = self.number(&snapshot, block.unwrap_or_default())?;
        let number = number.ok_or_else(|| Failure::server("header not found"))?;
        if number < snapshot.oldest_state() {
            return Err(Failure::server(format!(
                "state of block {number} is not kept any more; the oldest is that of block {}",
                snapshot.oldest_state()
            )));
        }
        let header = header(&snapshot, number)?;
        Ok((snapshot.back_to(number), header))
    }
}

/// The header of a block that is there.
fn header(snapshot: &Snapshot, number: u64) -> Result<Sealed<Header>, Failure> {
    snapshot.header(number)?.ok_or_else(|| Failure::internal(&"a header is missing"))
}
