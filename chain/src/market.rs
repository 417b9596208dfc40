//! A `ComputeMarket` on a chain, typed: providers, offers, deposits, locks, settlement.
//!
//! Invariant: a settlement travels as the words that were signed over (docs/formats/market.md §3), so nothing here can
//! change what it pays. Deliberately knows nothing of keys, vouchers' meaning or transactions: what it encodes,
//! [`crate::TransactionSender`] makes durable and sends.

use std::sync::Arc;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rpc_types_eth::{Filter, TransactionInput, TransactionRequest};
use alloy_sol_types::{SolCall, SolError as _, SolEvent as _};

use crate::contracts::{ContractError, IComputeMarket, view};
use crate::endpoint::RpcError;
use crate::endpoints::{AskError, Endpoints};
use crate::sender::{Call, Inclusion};

/// Most settlements of one transaction; the contract's own bound.
pub const SETTLEMENTS_MAX: usize = 128;
/// Bytes of one settlement: voucher, receipt and two signatures, 22 words.
pub const SETTLEMENT_BYTES: usize = 22 * 32;

/// A settlement as it stands in calldata.
pub type SettlementWords = [u8; SETTLEMENT_BYTES];

const SETTLEMENT_TYPE: &str = "((bytes32,address,bytes32,uint32,uint64,bytes32,uint64,uint96,uint32,uint64),\
    (bytes32,bytes32,bytes32,bytes32,bytes32,uint64,bytes32,uint8),(bytes32,bytes32),(bytes32,bytes32))";

/// A batch that no transaction can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// There is nothing in it.
    #[error("a batch has at least one settlement")]
    Empty,
    /// More than the contract takes.
    #[error("{found} settlements, and a batch has at most {SETTLEMENTS_MAX}")]
    TooMany {
        /// So many.
        found: usize,
    },
}

/// What became of one item of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementOutcome {
    /// So much went to the provider's balance.
    Paid {
        /// The lock that paid.
        lock: B256,
        /// The job.
        job: B256,
        /// Its shard.
        shard: u32,
        /// The voucher's.
        seq: u32,
        /// The difference that was paid, in wei.
        amount_wei: u128,
        /// All that was paid for the shard, in wei.
        fee_wei: u128,
    },
    /// It changed nothing.
    Refused {
        /// The lock that it named.
        lock: B256,
        /// Which item of the batch.
        index: usize,
        /// Why: the number of docs/formats/market.md §3.
        outcome: u8,
    },
}

/// A market at an address.
#[derive(Clone, Debug)]
pub struct Market {
    endpoints: Arc<Endpoints>,
    address: Address,
}

fn selector(signature: &str) -> [u8; 4] {
    let hash = keccak256(signature);
    [hash[0], hash[1], hash[2], hash[3]]
}

impl Market {
    /// The market at `address`; nothing is asked yet.
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

    /// Arguments of the constructor: least stake in wei, and after how long a block of this chain is final.
    pub fn constructor_arguments(stake_min_wei: u128, finality_seconds: u64) -> [u8; 64] {
        let mut words = [0; 64];
        words[16..32].copy_from_slice(&stake_min_wei.to_be_bytes());
        words[56..].copy_from_slice(&finality_seconds.to_be_bytes());
        words
    }

    // What changes the market

    /// Registers the sender as a provider with so much stake.
    pub fn register(&self, signing_key: Address, endpoint: &str, stake_wei: u128) -> Call {
        let call = IComputeMarket::registerCall { signingKey: signing_key, endpoint: endpoint.to_owned() };
        Call { value: U256::from(stake_wei), ..self.call(&call) }
    }

    /// Changes the sender's key and endpoint, for locks that it accepts from then on.
    pub fn update(&self, signing_key: Address, endpoint: &str) -> Call {
        self.call(&IComputeMarket::updateCall { signingKey: signing_key, endpoint: endpoint.to_owned() })
    }

    /// Adds to the sender's stake.
    pub fn add_stake(&self, wei: u128) -> Call {
        Call { value: U256::from(wei), ..self.call(&IComputeMarket::addStakeCall {}) }
    }

    /// Asks stake back.
    pub fn begin_unstake(&self, wei: u128) -> Call {
        self.call(&IComputeMarket::beginUnstakeCall { amount: wei })
    }

    /// Moves what has left the stake to the sender's balance.
    pub fn finish_unstake(&self) -> Call {
        self.call(&IComputeMarket::finishUnstakeCall {})
    }

    /// Publishes an offer of the sender; its number is one more than the provider's offers before.
    pub fn publish_offer(&self, offer: IComputeMarket::Offer) -> Call {
        self.call(&IComputeMarket::publishOfferCall { offer })
    }

    /// Gives an offer of the sender new terms.
    pub fn revise_offer(&self, number: u32, offer: IComputeMarket::Offer) -> Call {
        self.call(&IComputeMarket::reviseOfferCall { number, offer })
    }

    /// Takes an offer of the sender back.
    pub fn withdraw_offer(&self, number: u32) -> Call {
        self.call(&IComputeMarket::withdrawOfferCall { number })
    }

    /// Puts coins into an account.
    pub fn deposit(&self, account: Address, wei: u128) -> Call {
        Call { value: U256::from(wei), ..self.call(&IComputeMarket::depositCall { account }) }
    }

    /// Takes coins out of the sender's balance.
    pub fn withdraw(&self, wei: U256, to: Address) -> Call {
        self.call(&IComputeMarket::withdrawCall { amount: wei, to })
    }

    /// Locks the terms' cap of the sender's balance, to which `wei` is added first.
    pub fn open(&self, terms: IComputeMarket::Terms, wei: u128) -> Call {
        Call { value: U256::from(wei), ..self.call(&IComputeMarket::openCall { terms }) }
    }

    /// Takes a lock, as its provider.
    pub fn accept(&self, lock: B256) -> Call {
        self.call(&IComputeMarket::acceptCall { id: lock })
    }

    /// Undoes a lock that nobody accepted.
    pub fn cancel(&self, lock: B256) -> Call {
        self.call(&IComputeMarket::cancelCall { id: lock })
    }

    /// Ends an accepted lock: what it did not pay goes back to its buyer.
    pub fn close(&self, lock: B256) -> Call {
        self.call(&IComputeMarket::closeCall { id: lock })
    }

    /// Settles a batch. Items that are refused stop no other: [`outcomes`] says which.
    pub fn settle(&self, items: &[SettlementWords]) -> Result<Call, SettleError> {
        match items.len() {
            0 => return Err(SettleError::Empty),
            found if found > SETTLEMENTS_MAX => return Err(SettleError::TooMany { found }),
            _ => {}
        }
        let mut data = selector(&format!("settle({SETTLEMENT_TYPE}[])")).to_vec();
        // One argument of dynamic size, at the first word behind the head; then how many items.
        data.extend_from_slice(&U256::from(32).to_be_bytes::<32>());
        data.extend_from_slice(&U256::from(items.len()).to_be_bytes::<32>());
        items.iter().for_each(|item| data.extend_from_slice(item));
        Ok(Call::to(self.address, data.into()))
    }

    // What the market says

    /// A provider as of a block; `None` where the address never registered.
    pub async fn provider(
        &self,
        provider: Address,
        block: BlockId,
    ) -> Result<Option<IComputeMarket::Provider>, ContractError> {
        match self.view(&IComputeMarket::providerOfCall { provider }, block).await {
            Ok(found) => Ok(Some(found)),
            Err(ContractError::Reverted { data, .. })
                if data.starts_with(&IComputeMarket::ProviderUnknown::SELECTOR) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// An offer's version and terms as of a block; `None` where there never was one. Kind 0 was withdrawn.
    pub async fn offer(
        &self,
        provider: Address,
        number: u32,
        block: BlockId,
    ) -> Result<Option<(u32, IComputeMarket::Offer)>, ContractError> {
        let found = self.view(&IComputeMarket::offerOfCall { provider, number }, block).await?;
        Ok((found.version != 0).then_some((found.version, found.offer)))
    }

    /// What an account may withdraw or lock as of a block, in wei.
    pub async fn balance(&self, account: Address, block: BlockId) -> Result<U256, ContractError> {
        self.view(&IComputeMarket::balanceOfCall { account }, block).await
    }

    /// A lock as of a block; `None` where there is none.
    pub async fn lock(
        &self,
        lock: B256,
        block: BlockId,
    ) -> Result<Option<IComputeMarket::Lock>, ContractError> {
        let found = self.view(&IComputeMarket::lockOfCall { id: lock }, block).await?;
        Ok((found.state != IComputeMarket::State::None).then_some(found))
    }

    /// What was settled for a shard as of a block; seq 0 where nothing was.
    pub async fn settled(
        &self,
        buyer: Address,
        provider: Address,
        job: B256,
        shard: u32,
        block: BlockId,
    ) -> Result<IComputeMarket::Settled, ContractError> {
        self.view(&IComputeMarket::settledCall { buyer, provider, job, shard }, block).await
    }

    /// What [`Market::settle`] would do with this item as of a block: the outcome's number, and the wei it would pay.
    pub async fn judge(&self, item: &SettlementWords, block: BlockId) -> Result<(u8, u128), ContractError> {
        let data = [&selector(&format!("judge({SETTLEMENT_TYPE})"))[..], item].concat();
        let request = TransactionRequest {
            to: Some(self.address.into()),
            input: TransactionInput::both(data.into()),
            ..TransactionRequest::default()
        };
        let contract = self.address;
        let answer = match self.endpoints.any(|endpoint| endpoint.call(&request, block)).await {
            Ok(answer) => answer,
            Err(AskError::Rpc(RpcError::Refused { message, data: Some(data), .. })) => {
                return Err(ContractError::Reverted { contract, data, message });
            }
            Err(error) => return Err(error.into()),
        };
        let words = (answer.len() == 64).then(|| {
            (U256::from_be_slice(&answer[..32]).try_into(), U256::from_be_slice(&answer[32..]).try_into())
        });
        match words {
            Some((Ok(outcome), Ok(amount))) => Ok((outcome, amount)),
            _ => Err(ContractError::Answer { contract }),
        }
    }

    /// Least seconds from a lock's workBy to its settleBy.
    pub async fn grace_seconds(&self) -> Result<u64, ContractError> {
        self.view(&IComputeMarket::graceSecondsCall {}, BlockId::latest()).await
    }

    /// Least stake with which a lock may be accepted, in wei.
    pub async fn stake_min_wei(&self) -> Result<u128, ContractError> {
        self.view(&IComputeMarket::stakeMinCall {}, BlockId::latest()).await
    }

    /// Locks that were opened for a provider in a range of blocks, which nodes bound; nothing of it is checked.
    pub async fn opened_for(
        &self,
        provider: Address,
        from_block: u64,
        to_block: u64,
    ) -> Result<Vec<IComputeMarket::LockOpened>, AskError> {
        let filter = Filter::new()
            .address(self.address)
            .event_signature(IComputeMarket::LockOpened::SIGNATURE_HASH)
            .topic3(provider.into_word())
            .from_block(from_block)
            .to_block(to_block);
        let logs = self.endpoints.any(|endpoint| endpoint.logs(&filter)).await?;
        let told = logs.into_iter().filter(|log| log.inner.address == self.address && !log.removed);
        let events = told.filter_map(|log| IComputeMarket::LockOpened::decode_log_validate(&log.inner).ok());
        Ok(events.map(|event| event.data).filter(|event| event.provider == provider).collect())
    }

    fn call<C: SolCall>(&self, call: &C) -> Call {
        Call::to(self.address, Bytes::from(call.abi_encode()))
    }

    async fn view<C: SolCall>(&self, call: &C, block: BlockId) -> Result<C::Return, ContractError> {
        view(&self.endpoints, self.address, call, block).await
    }
}

/// What became of the items of a batch, as the market's events in its transaction tell, in their order.
pub fn outcomes(market: Address, inclusion: &Inclusion) -> Vec<SettlementOutcome> {
    let of_market = inclusion.logs.iter().filter(|log| log.inner.address == market);
    of_market
        .filter_map(|log| {
            if let Ok(paid) = IComputeMarket::SettlementPaid::decode_log_validate(&log.inner) {
                return Some(SettlementOutcome::Paid {
                    lock: paid.lock,
                    job: paid.job,
                    shard: paid.shard,
                    seq: paid.seq,
                    amount_wei: paid.amount.to(),
                    fee_wei: paid.fee.to(),
                });
            }
            let refused = IComputeMarket::SettlementRefused::decode_log_validate(&log.inner).ok()?;
            Some(SettlementOutcome::Refused {
                lock: refused.lock,
                index: refused.index.try_into().ok()?,
                outcome: refused.outcome as u8,
            })
        })
        .collect()
}
