//! Running transactions by the Prague rules: into a block, or only to see what would happen.
//!
//! Invariant: a block is built from a snapshot and nothing else, so building it again gives the same block. Of the
//! chain's state nothing changes here; the result is rows for the store. Deliberately knows nothing of pools or RPC.

use alloy_consensus::{
    Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Sealed, Transaction as _, TxEnvelope,
    TxType, proofs,
};
use alloy_eips::eip1559::BaseFeeParams;
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bloom, Bytes, U256, keccak256};
use revm::context::result::{EVMError, ExecutionResult, HaltReason};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::either::Either;
use revm::database::CacheDB;
use revm::handler::{EthFrame, Handler as _, MainnetContext, MainnetEvm, MainnetHandler};
use revm::interpreter::interpreter::EthInterpreter;
use revm::primitives::hardfork::SpecId;
use revm::{Context, ExecuteCommitEvm as _, ExecuteEvm as _, MainBuilder as _, MainContext as _};

use crate::genesis;
use crate::state::Changes;
use crate::store::{BlockCommit, BlockRow, ReceiptRow, Snapshot, StoreError, TransactionRow};

type Evm<'s> = MainnetEvm<MainnetContext<CacheDB<&'s Snapshot>>>;

/// A transaction whose signature was checked.
#[derive(Clone, Debug)]
pub(crate) struct SignedTransaction {
    pub(crate) envelope: TxEnvelope,
    pub(crate) sender: Address,
    pub(crate) encoded: Bytes,
}

impl SignedTransaction {
    pub(crate) fn hash(&self) -> B256 {
        *self.envelope.tx_hash()
    }

    /// As it was stored; senders were recovered when it came in.
    pub(crate) fn from_row(row: &TransactionRow) -> Result<Self, StoreError> {
        let envelope = TxEnvelope::decode_2718_exact(&row.encoded)
            .map_err(|_| StoreError::Corrupt("a transaction does not decode"))?;
        Ok(Self { envelope, sender: row.sender, encoded: row.encoded.clone() })
    }

    fn to_row(&self) -> TransactionRow {
        TransactionRow { hash: self.hash(), sender: self.sender, encoded: self.encoded.clone() }
    }

    fn to_env(&self) -> TxEnv {
        let tx = &self.envelope;
        let authorizations = tx.authorization_list().unwrap_or_default();
        TxEnv {
            tx_type: tx.tx_type() as u8,
            caller: self.sender,
            gas_limit: tx.gas_limit(),
            gas_price: tx.max_fee_per_gas(),
            kind: tx.kind(),
            value: tx.value(),
            data: tx.input().clone(),
            nonce: tx.nonce(),
            chain_id: tx.chain_id(),
            access_list: tx.access_list().cloned().unwrap_or_default(),
            gas_priority_fee: tx.max_priority_fee_per_gas(),
            blob_hashes: Vec::new(),
            max_fee_per_blob_gas: 0,
            authorization_list: authorizations.iter().cloned().map(Either::Left).collect(),
        }
    }
}

/// Base fee of the block after `parent`.
pub(crate) fn next_base_fee(parent: &Header) -> u64 {
    parent.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or_default()
}

/// The header of the block after `parent`, without what execution fills in.
pub(crate) fn next_header(parent: &Sealed<Header>, beneficiary: Address, unix_seconds: u64) -> Header {
    let number = parent.number + 1;
    Header {
        parent_hash: parent.hash(),
        beneficiary,
        number,
        gas_limit: parent.gas_limit,
        base_fee_per_gas: Some(next_base_fee(parent)),
        timestamp: unix_seconds.max(parent.timestamp),
        mix_hash: keccak256([parent.hash().as_slice(), &number.to_be_bytes()].concat()),
        ..genesis::header()
    }
}

fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: U256::ZERO,
        prevrandao: Some(header.mix_hash),
        // What `blobBaseFee` says where no blob was ever used.
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: 1 }),
        slot_num: 0,
    }
}

fn evm<'s>(
    snapshot: &'s Snapshot,
    header: &Header,
    chain_id: u64,
    configure: impl FnOnce(&mut CfgEnv),
) -> Evm<'s> {
    Context::mainnet()
        .with_db(CacheDB::new(snapshot))
        .with_block(block_env(header))
        .modify_cfg_chained(|cfg| {
            cfg.set_spec_and_mainnet_gas_params(SpecId::PRAGUE);
            cfg.chain_id = chain_id;
            configure(cfg);
        })
        .build_mainnet()
}

/// Why a transaction could not be run at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecutionError {
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the machine failed: {0}")]
    Machine(String),
}

impl From<EVMError<StoreError>> for ExecutionError {
    fn from(error: EVMError<StoreError>) -> Self {
        match error {
            EVMError::Transaction(invalid) => Self::Invalid(invalid.to_string()),
            EVMError::Database(error) => Self::Store(error),
            other => Self::Machine(other.to_string()),
        }
    }
}

/// Checks what can be checked without state: fees, gas that the bytes alone cost, sizes, chain.
pub(crate) fn validate(
    snapshot: &Snapshot,
    header: &Header,
    chain_id: u64,
    transaction: &SignedTransaction,
) -> Result<(), ExecutionError> {
    let mut evm = evm(snapshot, header, chain_id, |_| ());
    evm.ctx.tx = transaction.to_env();
    let handler = MainnetHandler::<_, EVMError<StoreError>, EthFrame<EthInterpreter>>::default();
    handler.validate_env(&mut evm)?;
    handler.validate_initial_tx_gas(&mut evm)?;
    Ok(())
}

/// Runs `transaction` as a call on top of `header`'s state: no signature, nonce or funds are asked for.
pub(crate) fn call(
    snapshot: &Snapshot,
    header: &Header,
    chain_id: u64,
    transaction: TxEnv,
) -> Result<ExecutionResult<HaltReason>, ExecutionError> {
    let priced = transaction.gas_price > 0;
    let mut evm = evm(snapshot, header, chain_id, |cfg| {
        cfg.disable_nonce_check = true;
        cfg.disable_balance_check = !priced;
        cfg.disable_base_fee = !priced;
        cfg.disable_block_gas_limit = true;
        cfg.disable_eip3607 = true;
    });
    Ok(evm.transact(transaction)?.result)
}

/// What [`build`] made.
pub(crate) struct Built {
    pub(crate) commit: BlockCommit,
    /// Transactions that can never be run as they are, and why.
    pub(crate) dropped: Vec<(B256, String)>,
}

/// Builds a block on `parent`, whose state is `snapshot`'s, out of `candidates` in their order: what does not fit
/// any more is left for the next block, and so is all of its sender's after it.
pub(crate) fn build(
    snapshot: &Snapshot,
    mut header: Header,
    chain_id: u64,
    candidates: Vec<SignedTransaction>,
) -> Result<Built, ExecutionError> {
    let mut evm = evm(snapshot, &header, chain_id, |_| ());
    let mut changes = Changes::default();
    let (mut dropped, mut full) = (Vec::new(), Vec::new());
    let (mut envelopes, mut receipts) = (Vec::new(), Vec::new());
    let (mut body, mut bloom) = (BlockRow::default(), Bloom::ZERO);
    for transaction in candidates {
        if full.contains(&transaction.sender) {
            continue;
        }
        if transaction.envelope.gas_limit() > header.gas_limit - header.gas_used {
            full.push(transaction.sender);
            continue;
        }
        let done = match evm.transact(transaction.to_env()).map_err(ExecutionError::from) {
            Ok(done) => done,
            Err(ExecutionError::Invalid(why)) => {
                dropped.push((transaction.hash(), why));
                full.push(transaction.sender);
                continue;
            }
            Err(error) => return Err(error),
        };
        changes.merge(&done.state);
        evm.commit(done.state);
        header.gas_used += done.result.tx_gas_used();
        let receipt = ReceiptRow {
            succeeded: done.result.is_success(),
            gas_used: done.result.tx_gas_used(),
            cumulative_gas_used: header.gas_used,
            effective_gas_price: transaction.envelope.effective_gas_price(header.base_fee_per_gas),
            created: match transaction.envelope.to() {
                Some(_) => Address::ZERO,
                None => transaction.sender.create(transaction.envelope.nonce()),
            },
            logs: if done.result.is_success() { done.result.into_logs() } else { Vec::new() },
        };
        let envelope = receipt_envelope(transaction.envelope.tx_type(), &receipt, receipt.logs.clone());
        bloom |= *envelope.logs_bloom();
        receipts.push(envelope);
        body.transactions.push(transaction.to_row());
        body.receipts.push(receipt);
        envelopes.push(transaction.envelope);
    }
    let applied = changes.apply(snapshot)?;
    header.state_root = applied.root;
    header.transactions_root = proofs::calculate_transaction_root(&envelopes);
    header.receipts_root = proofs::calculate_receipt_root(&receipts);
    header.logs_bloom = bloom;
    let header = Sealed::new(header);
    Ok(Built { commit: BlockCommit { header, body, nodes: applied.rows, code: applied.code }, dropped })
}

/// A receipt as the receipts root covers it; with RPC's logs, as RPC shows it.
pub(crate) fn receipt_envelope<L>(kind: TxType, row: &ReceiptRow, logs: Vec<L>) -> ReceiptEnvelope<L> {
    let status = Eip658Value::Eip658(row.succeeded);
    let logs_bloom = row.logs.iter().collect::<Bloom>();
    let receipt = Receipt { status, cumulative_gas_used: row.cumulative_gas_used, logs };
    let with_bloom = ReceiptWithBloom { receipt, logs_bloom };
    match kind {
        TxType::Legacy => ReceiptEnvelope::Legacy(with_bloom),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(with_bloom),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(with_bloom),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(with_bloom),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(with_bloom),
    }
}
