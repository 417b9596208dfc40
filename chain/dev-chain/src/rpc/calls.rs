//! State and what would happen to it: balances, code, slots, proofs, calls, estimates.
//!
//! Invariant: gas of all calls of one body together is bounded, so a body's CPU time is.

use alloy_consensus::{Header, Sealed};
use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, TxKind, U64, U256};
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof, TransactionRequest};
use alloy_serde::JsonStorageKey;
use alloy_trie::KECCAK_EMPTY;
use revm::context::TxEnv;
use revm::context::result::{ExecutionResult, HaltReason};
use revm::context_interface::either::Either;
use serde_json::Value;

use super::failure::Failure;
use super::params::Params;
use super::{Answer, Session, answer};
use crate::execution::{self, ExecutionError};
use crate::state;
use crate::store::Snapshot;

/// Gas of the cheapest transaction.
const TRANSFER_GAS: u64 = 21_000;
/// An estimate is at most this much too high, in thousandths.
const ESTIMATE_SLACK: u64 = 15;

impl Session<'_> {
    pub(super) fn balance(&self, params: &Params<'_>) -> Answer {
        let address: Address = params.required(0, "address")?;
        let (snapshot, _) = self.state_at(params.optional(1, "block")?)?;
        answer(&state::account(&snapshot, address)?.unwrap_or_default().balance)
    }

    pub(super) fn transaction_count(&self, params: &Params<'_>) -> Answer {
        let address: Address = params.required(0, "address")?;
        let block: Option<BlockId> = params.optional(1, "block")?;
        let (snapshot, _) = self.state_at(block)?;
        let nonce = state::account(&snapshot, address)?.map_or(0, |account| account.nonce);
        let pending = block.is_some_and(|block| block.is_pending());
        answer(&U64::from(if pending { self.chain.pending_nonce(address, nonce) } else { nonce }))
    }

    pub(super) fn code(&self, params: &Params<'_>) -> Answer {
        let address: Address = params.required(0, "address")?;
        let (snapshot, _) = self.state_at(params.optional(1, "block")?)?;
        let hash = state::account(&snapshot, address)?.map_or(KECCAK_EMPTY, |account| account.code_hash);
        answer(&snapshot.code(hash)?.unwrap_or_default())
    }

    pub(super) fn storage_at(&self, params: &Params<'_>) -> Answer {
        let address: Address = params.required(0, "address")?;
        let slot: JsonStorageKey = params.required(1, "slot")?;
        let (snapshot, _) = self.state_at(params.optional(2, "block")?)?;
        answer(&B256::from(state::slot(&snapshot, address, slot.as_b256())?))
    }

    pub(super) fn proof(&self, params: &Params<'_>) -> Answer {
        let address: Address = params.required(0, "address")?;
        let slots: Vec<JsonStorageKey> = params.required(1, "slots")?;
        let most = self.chain.configuration().rpc.proof_slots_max;
        if slots.len() > most {
            return Err(Failure::limit(format!("at most {most} slots a proof")));
        }
        let (snapshot, _) = self.state_at(params.optional(2, "block")?)?;
        let account = state::account(&snapshot, address)?.unwrap_or_default();
        let proofs = slots.into_iter().map(|key| {
            let slot = key.as_b256();
            let value = state::slot(&snapshot, address, slot)?;
            Ok(EIP1186StorageProof { key, value, proof: state::slot_proof(&snapshot, address, slot)? })
        });
        answer(&EIP1186AccountProofResponse {
            address,
            balance: account.balance,
            code_hash: account.code_hash,
            nonce: account.nonce,
            storage_hash: account.storage_root,
            account_proof: state::account_proof(&snapshot, address)?,
            storage_proof: proofs.collect::<Result<_, Failure>>()?,
        })
    }

    pub(super) fn call(&mut self, params: &Params<'_>) -> Answer {
        let (snapshot, header, mut transaction) = self.to_be_run(params)?;
        if params
            .optional::<Value>(2, "overrides")?
            .is_some_and(|some| some != Value::Object(Default::default()))
        {
            return Err(Failure::invalid_params("state overrides are not supported"));
        }
        transaction.gas_limit = transaction.gas_limit.min(self.gas_left);
        match self.run(&snapshot, &header, transaction)? {
            ExecutionResult::Success { output, .. } => answer(output.data()),
            ExecutionResult::Revert { output, .. } => Err(Failure::reverted(&output)),
            ExecutionResult::Halt { reason, .. } => Err(halted(&reason)),
        }
    }

    pub(super) fn estimate_gas(&mut self, params: &Params<'_>) -> Answer {
        let (snapshot, header, mut transaction) = self.to_be_run(params)?;
        if transaction.gas_price > 0 {
            let balance = state::account(&snapshot, transaction.caller)?.unwrap_or_default().balance;
            let left = balance.saturating_sub(transaction.value) / U256::from(transaction.gas_price);
            transaction.gas_limit = transaction.gas_limit.min(left.saturating_to());
        }
        let (used, floor) = match self.run(&snapshot, &header, transaction.clone())? {
            ExecutionResult::Success { gas, .. } => (gas.tx_gas_used(), gas.tx_gas_used().saturating_sub(1)),
            ExecutionResult::Revert { output, .. } => return Err(Failure::reverted(&output)),
            ExecutionResult::Halt { reason, .. } => return Err(halted(&reason)),
        };
        if used == TRANSFER_GAS {
            return answer(&U64::from(used));
        }
        // What a run uses need not be enough to run: refunds come at the end, and a call keeps a 64th back.
        let (mut low, mut high) = (floor, transaction.gas_limit);
        let mut next = used.saturating_add(used / 63).saturating_add(2_300).min(high);
        while high - low > high / 1_000 * ESTIMATE_SLACK + 1 && next > low && next < high {
            transaction.gas_limit = next;
            match self.run(&snapshot, &header, transaction.clone()) {
                Ok(done) if done.is_success() => high = next,
                Ok(_) => low = next,
                Err(failure) if failure.is_about_the_transaction() => low = next,
                Err(failure) => return Err(failure),
            }
            next = low + (high - low) / 2;
        }
        answer(&U64::from(high))
    }

    /// Runs what a request describes, and takes its gas from what the body may still spend.
    fn run(
        &mut self,
        snapshot: &Snapshot,
        header: &Sealed<Header>,
        transaction: TxEnv,
    ) -> Result<ExecutionResult<HaltReason>, Failure> {
        if self.gas_left < TRANSFER_GAS {
            return Err(Failure::limit("calls of one body may not spend more gas: send fewer"));
        }
        let chain_id = self.chain.configuration().chain_id;
        let done = execution::call(snapshot, header, chain_id, transaction).map_err(|error| match error {
            ExecutionError::Invalid(why) => Failure::server(why),
            ExecutionError::Store(error) => error.into(),
            ExecutionError::Machine(_) => Failure::internal(&error),
        })?;
        self.gas_left = self.gas_left.saturating_sub(done.gas().total_gas_spent().max(TRANSFER_GAS));
        Ok(done)
    }

    /// What `eth_call` and `eth_estimateGas` ask for: state, the header that the call sees, the call.
    fn to_be_run(&self, params: &Params<'_>) -> Result<(Snapshot, Sealed<Header>, TxEnv), Failure> {
        let request: TransactionRequest = params.required(0, "transaction")?;
        let (snapshot, header) = self.state_at(params.optional(1, "block")?)?;
        let chain_id = self.chain.configuration().chain_id;
        if request.chain_id.is_some_and(|wanted| wanted != chain_id) {
            return Err(Failure::invalid_params(format!("this is chain {chain_id}")));
        }
        let price = request.gas_price.or(request.max_fee_per_gas).unwrap_or_default();
        let transaction = TxEnv {
            tx_type: if request.authorization_list.is_some() { 4 } else { 2 },
            caller: request.from.unwrap_or_default(),
            gas_limit: request.gas.unwrap_or(header.gas_limit).min(header.gas_limit),
            gas_price: price,
            kind: request.to.unwrap_or(TxKind::Create),
            value: request.value.unwrap_or_default(),
            data: request.input.into_input().unwrap_or_default(),
            nonce: request.nonce.unwrap_or_default(),
            chain_id: Some(chain_id),
            access_list: request.access_list.unwrap_or_default(),
            gas_priority_fee: Some(request.max_priority_fee_per_gas.unwrap_or_default().min(price)),
            blob_hashes: Vec::new(),
            max_fee_per_blob_gas: 0,
            authorization_list: request
                .authorization_list
                .unwrap_or_default()
                .into_iter()
                .map(Either::Left)
                .collect(),
        };
        let balance = state::account(&snapshot, transaction.caller)?.unwrap_or_default().balance;
        if transaction.value > balance {
            return Err(Failure::server("insufficient funds for transfer"));
        }
        Ok((snapshot, header, transaction))
    }
}

fn halted(reason: &HaltReason) -> Failure {
    Failure::server(match reason {
        HaltReason::OutOfGas(_) => "out of gas".to_owned(),
        other => format!("execution halted: {other:?}"),
    })
}
