//! The contracts' interfaces as the client calls them, and calls in general.
//!
//! Invariant: these declarations are those of `chain/contracts/`; what a call returns is decoded strictly, and no
//! contract at an address is an error of its own. Deliberately knows nothing of when something is called.

mod interfaces;

pub use interfaces::{ICommitmentRegistry, IComputeMarket, IDaQuorum};

use alloy_eips::BlockId;
use alloy_primitives::{Address, Bytes};
use alloy_rpc_types_eth::{TransactionInput, TransactionRequest};
use alloy_sol_types::{SolCall, SolInterface as _};

use crate::endpoint::RpcError;
use crate::endpoints::{AskError, Endpoints};

/// Why a view call gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ContractError {
    /// The chain could not be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The contract refused.
    #[error("contract {contract} reverted: {}", revert_name(.data, .message))]
    Reverted {
        /// Which.
        contract: Address,
        /// What it returned.
        data: Bytes,
        /// What the node says.
        message: String,
    },
    /// It returned something else than its interface says.
    #[error("{contract} does not answer as the contract it should be (is it deployed there?)")]
    Answer {
        /// Which.
        contract: Address,
    },
}

/// The name of a known error with its fields, or the node's words.
pub fn revert_name(data: &[u8], message: &str) -> String {
    use ICommitmentRegistry::ICommitmentRegistryErrors as RegistryErrors;
    use IComputeMarket::IComputeMarketErrors as MarketErrors;
    use IDaQuorum::IDaQuorumErrors as QuorumErrors;
    if let Ok(error) = RegistryErrors::abi_decode(data) {
        return format!("{error:?}");
    }
    if let Ok(error) = MarketErrors::abi_decode(data) {
        return format!("{error:?}");
    }
    match QuorumErrors::abi_decode(data) {
        Ok(error) => format!("{error:?}"),
        Err(_) => message.to_owned(),
    }
}

/// Calls a view function as of a block.
pub async fn view<C: SolCall>(
    endpoints: &Endpoints,
    contract: Address,
    call: &C,
    block: BlockId,
) -> Result<C::Return, ContractError> {
    let request = TransactionRequest {
        to: Some(contract.into()),
        input: TransactionInput::both(call.abi_encode().into()),
        ..TransactionRequest::default()
    };
    let answer = match endpoints.any(|endpoint| endpoint.call(&request, block)).await {
        Ok(answer) => answer,
        Err(AskError::Rpc(RpcError::Refused { message, data, code, .. })) if code == 3 || data.is_some() => {
            return Err(ContractError::Reverted { contract, data: data.unwrap_or_default(), message });
        }
        Err(error) => return Err(error.into()),
    };
    C::abi_decode_returns_validate(&answer).map_err(|_| ContractError::Answer { contract })
}

#[cfg(test)]
mod tests;
