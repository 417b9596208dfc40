//! A `DaQuorum` on a chain, typed.
//!
//! Deliberately knows nothing of curves: keys, proofs and certificates are bytes here.

use std::sync::Arc;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall as _;

use crate::contracts::{ContractError, IDaQuorum, view};
use crate::endpoints::Endpoints;
use crate::sender::Call;

/// A quorum contract at an address.
#[derive(Clone, Debug)]
pub struct Quorum {
    endpoints: Arc<Endpoints>,
    address: Address,
}

/// What the contract froze for one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumSnapshot {
    /// Where it lies as code.
    pub snapshot: Address,
    /// Sum of all keys (EIP-2537, 256 bytes).
    pub aggregate: Bytes,
    /// Each member's key (EIP-2537, 256 bytes), in the order of the certificate's bitmap.
    pub keys: Vec<Bytes>,
    /// Each member's stake.
    pub stakes: Vec<u64>,
}

impl Quorum {
    /// The quorum at `address`; nothing is asked yet.
    pub fn new(endpoints: Arc<Endpoints>, address: Address) -> Self {
        Self { endpoints, address }
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Registers a key (EIP-2537, 256 bytes) with its proof of possession (128 bytes).
    pub fn register(&self, key: Bytes, proof_of_possession: Bytes) -> Call {
        self.call(IDaQuorum::registerCall { key, proofOfPossession: proof_of_possession }.abi_encode())
    }

    /// Sets stakes of registered keys, as the governor.
    pub fn set_stakes(&self, ids: Vec<B256>, stakes: Vec<u64>) -> Call {
        self.call(IDaQuorum::setStakesCall { ids, stakes }.abi_encode())
    }

    /// Begins the next epoch.
    pub fn roll_epoch(&self) -> Call {
        self.call(IDaQuorum::rollEpochCall {}.abi_encode())
    }

    /// The current epoch, at the head.
    pub async fn epoch(&self) -> Result<u64, ContractError> {
        view(&self.endpoints, self.address, &IDaQuorum::epochCall {}, BlockId::latest()).await
    }

    /// Unix seconds at which the current epoch may end.
    pub async fn epoch_ends_at(&self) -> Result<u64, ContractError> {
        let block = BlockId::latest();
        let began = view(&self.endpoints, self.address, &IDaQuorum::epochStartedAtCall {}, block).await?;
        let seconds = view(&self.endpoints, self.address, &IDaQuorum::epochSecondsCall {}, block).await?;
        Ok(began.saturating_add(seconds))
    }

    /// What was frozen for an epoch that still counts or is the current one.
    pub async fn members(&self, epoch: u64) -> Result<QuorumSnapshot, ContractError> {
        let call = IDaQuorum::membersOfCall { number: epoch };
        let found = view(&self.endpoints, self.address, &call, BlockId::latest()).await?;
        Ok(QuorumSnapshot {
            snapshot: found.snapshot,
            aggregate: found.aggregate,
            keys: found.keys,
            stakes: found.stakes,
        })
    }

    /// Whether a key is registered, and its stake now.
    pub async fn signer(&self, id: B256) -> Result<(bool, u64), ContractError> {
        let call = IDaQuorum::signerOfCall { id };
        let found = view(&self.endpoints, self.address, &call, BlockId::latest()).await?;
        Ok((found.registered, found.stake))
    }

    /// What a key's owner signs to prove that it is his.
    pub async fn possession_message(&self, key: Bytes) -> Result<Bytes, ContractError> {
        view(&self.endpoints, self.address, &IDaQuorum::possessionMessageCall { key }, BlockId::latest())
            .await
    }

    /// What members sign for a batch, from a certificate whose signature may still be anything.
    pub async fn certificate_message(
        &self,
        namespace: B256,
        sequence: u64,
        header_hash: B256,
        certificate: Bytes,
    ) -> Result<Bytes, ContractError> {
        let call =
            IDaQuorum::certificateMessageCall { namespace, sequence, headerHash: header_hash, certificate };
        view(&self.endpoints, self.address, &call, BlockId::latest()).await
    }

    /// What a certificate vouches for, if it holds now; commitment, blob's bytes, Unix seconds.
    pub async fn verify_certificate(
        &self,
        namespace: B256,
        sequence: u64,
        header_hash: B256,
        certificate: Bytes,
    ) -> Result<(B256, u64, u64), ContractError> {
        let call =
            IDaQuorum::verifyCertificateCall { namespace, sequence, headerHash: header_hash, certificate };
        let what = view(&self.endpoints, self.address, &call, BlockId::latest()).await?;
        Ok((what.commitment, what.blobLength, what.keepUntil))
    }

    fn call(&self, data: Vec<u8>) -> Call {
        Call::to(self.address, data.into())
    }
}
