//! From a call to signed bytes.

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Bytes, TxKind, U256};
use alloy_rpc_types_eth::{TransactionInput, TransactionRequest};

use super::fees::Fees;
use crate::key::{KeyError, TransactionKey};
use crate::store::{Attempt, Intent};

/// What a transaction is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The contract or account; `None` creates a contract.
    pub to: Option<Address>,
    /// Wei sent along.
    pub value: U256,
    /// Call data, or creation code with arguments.
    pub data: Bytes,
    /// Gas it may use; estimated on the chain where it is not given.
    pub gas_limit: Option<u64>,
}

impl Call {
    /// Calls a contract.
    pub fn to(to: Address, data: Bytes) -> Self {
        Self { to: Some(to), data, ..Self::default() }
    }

    /// Creates a contract.
    pub fn create(code_with_arguments: Bytes) -> Self {
        Self { data: code_with_arguments, ..Self::default() }
    }

    pub(super) fn of(intent: &Intent) -> Self {
        Self {
            to: (intent.to.len() == 20).then(|| Address::from_slice(&intent.to)),
            value: intent.value,
            data: intent.data.clone(),
            gas_limit: Some(intent.gas_limit),
        }
    }

    /// Whether the intent does the same; how much gas it may use is no part of what is done.
    pub(super) fn is_of(&self, intent: &Intent) -> bool {
        let to = self.to.as_ref().map_or(&[][..], |to| to.as_slice());
        *intent.to == *to && intent.value == self.value && intent.data == self.data
    }

    pub(super) fn request(&self) -> TransactionRequest {
        TransactionRequest {
            to: Some(self.kind()),
            value: Some(self.value),
            input: TransactionInput::both(self.data.clone()),
            ..TransactionRequest::default()
        }
    }

    fn kind(&self) -> TxKind {
        self.to.map_or(TxKind::Create, TxKind::Call)
    }
}

pub(super) fn sign(
    key: &TransactionKey,
    chain_id: u64,
    nonce: u64,
    gas_limit: u64,
    call: &Call,
    fees: Fees,
) -> Result<Attempt, KeyError> {
    let transaction = TxEip1559 {
        chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas: fees.max_fee_wei,
        max_priority_fee_per_gas: fees.tip_wei,
        to: call.kind(),
        value: call.value,
        access_list: Default::default(),
        input: call.data.clone(),
    };
    let signature = key.sign(transaction.signature_hash())?;
    let envelope = TxEnvelope::from(transaction.into_signed(signature));
    Ok(Attempt {
        hash: *envelope.tx_hash(),
        max_fee_wei: fees.max_fee_wei,
        tip_wei: fees.tip_wei,
        encoded: envelope.encoded_2718().into(),
    })
}
