//! A `CommitmentRegistry` on a chain, typed.
//!
//! Deliberately knows nothing of transactions: what it encodes, [`crate::TransactionSender`] sends.

use std::sync::Arc;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_rpc_types_eth::Filter;
use alloy_sol_types::{SolCall as _, SolEvent as _};

use crate::batch_header::BatchHeader;
use crate::contracts::{ContractError, ICommitmentRegistry, view};
use crate::endpoints::{AskError, Endpoints};
use crate::sender::Call;

/// A registry at an address.
#[derive(Clone, Debug)]
pub struct Registry {
    endpoints: Arc<Endpoints>,
    address: Address,
}

/// The newest batch of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogHead {
    /// Its sequence; 0 before the first.
    pub sequence: u64,
    /// Its last commit position.
    pub last_position: u64,
    /// Its header's hash; zero before the first.
    pub header_hash: B256,
}

/// Where a batch was anchored, as a node's log tells it; nothing of it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldAnchor {
    /// Block of the transaction.
    pub block_number: u64,
    /// That block's hash.
    pub block_hash: B256,
    /// The transaction.
    pub transaction: B256,
    /// Hash of the header.
    pub header_hash: B256,
    /// The header.
    pub header: Bytes,
    /// Its certificate.
    pub certificate: Bytes,
    /// Commitment to the blob.
    pub commitment: B256,
    /// Bytes of the blob.
    pub blob_length: u64,
    /// Unix seconds until which the blob is served.
    pub keep_until: u64,
}

impl Registry {
    /// The registry at `address`; nothing is asked yet.
    pub fn new(endpoints: Arc<Endpoints>, address: Address) -> Self {
        Self { endpoints, address }
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its chain.
    pub fn endpoints(&self) -> &Arc<Endpoints> {
        &self.endpoints
    }

    /// The id that a namespace of this creator and salt has.
    pub fn namespace_id(&self, creator: Address, salt: B256) -> B256 {
        let chain_id = self.endpoints.chain_id().to_be_bytes();
        keccak256([&chain_id[..], self.address.as_slice(), creator.as_slice(), salt.as_slice()].concat())
    }

    /// Creates a namespace.
    pub fn create_namespace(&self, salt: B256, publisher: Address, verifier: Address, kind: u32) -> Call {
        let call = ICommitmentRegistry::createNamespaceCall { salt, publisher, verifier, kind };
        Call::to(self.address, call.abi_encode().into())
    }

    /// Anchors a batch.
    pub fn anchor(&self, header: &BatchHeader, certificate: &Bytes) -> Call {
        let call = ICommitmentRegistry::anchorCall {
            header: Bytes::copy_from_slice(&header.encode()),
            certificate: certificate.clone(),
        };
        Call::to(self.address, call.abi_encode().into())
    }

    /// The newest batch of a log at a block.
    pub async fn head(&self, namespace: B256, block: BlockId) -> Result<LogHead, ContractError> {
        let head = self.view(&ICommitmentRegistry::headOfCall { namespace }, block).await?;
        Ok(LogHead {
            sequence: head.sequence,
            last_position: head.lastPosition,
            header_hash: head.headerHash,
        })
    }

    /// Hash of the header at a sequence, if there is one at a block.
    pub async fn header_hash(
        &self,
        namespace: B256,
        sequence: u64,
        block: BlockId,
    ) -> Result<Option<B256>, ContractError> {
        let hash = self.view(&ICommitmentRegistry::headerHashOfCall { namespace, sequence }, block).await?;
        Ok((!hash.is_zero()).then_some(hash))
    }

    /// Publisher, verifier and head of a namespace at a block; reverts if nobody created it.
    pub async fn namespace(
        &self,
        namespace: B256,
        block: BlockId,
    ) -> Result<ICommitmentRegistry::Namespace, ContractError> {
        self.view(&ICommitmentRegistry::namespaceOfCall { namespace }, block).await
    }

    /// The event of one anchor in a range of blocks, which nodes bound.
    pub async fn find_anchor(
        &self,
        namespace: B256,
        sequence: u64,
        from_block: u64,
        to_block: u64,
    ) -> Result<Option<ToldAnchor>, AskError> {
        let mut topic = B256::ZERO;
        topic[24..].copy_from_slice(&sequence.to_be_bytes());
        let filter = Filter::new()
            .address(self.address)
            .event_signature(ICommitmentRegistry::Anchored::SIGNATURE_HASH)
            .topic1(namespace)
            .topic2(topic)
            .from_block(from_block)
            .to_block(to_block);
        let logs = self.endpoints.any(|endpoint| endpoint.logs(&filter)).await?;
        Ok(logs.into_iter().find_map(|log| {
            let event = ICommitmentRegistry::Anchored::decode_log_validate(&log.inner).ok()?;
            let wanted = event.namespace == namespace && event.sequence == sequence;
            (wanted && event.address == self.address && !log.removed).then_some(())?;
            Some(ToldAnchor {
                block_number: log.block_number?,
                block_hash: log.block_hash?,
                transaction: log.transaction_hash?,
                header_hash: event.headerHash,
                header: event.header.clone(),
                certificate: event.certificate.clone(),
                commitment: event.commitment,
                blob_length: event.blobLength,
                keep_until: event.keepUntil,
            })
        }))
    }

    async fn view<C: alloy_sol_types::SolCall>(
        &self,
        call: &C,
        block: BlockId,
    ) -> Result<C::Return, ContractError> {
        view(&self.endpoints, self.address, call, block).await
    }
}
