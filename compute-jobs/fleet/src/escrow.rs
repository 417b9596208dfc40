//! The market on the chain as a gateway or a provider uses it: with one account, and waiting until things are final.
//!
//! Invariant: every change is an intent with a name that follows from what it does, so that after a crash it is the same
//! transaction and not a second one; what is told from the chain is told as of a block that stays. Does not know books.

use std::sync::Arc;
use std::time::Duration;

use alloy_eips::BlockId;
use alloy_primitives::{B256, Bytes, U256, Uint, keccak256};
use ashlar_chain::contracts::IComputeMarket;
use ashlar_chain::{
    AskError, Call, ContractError, Finality, Inclusion, Market, SETTLEMENT_BYTES, SETTLEMENTS_MAX,
    SenderError, SettlementOutcome, SettlementWords, TransactionSender, outcomes, revert_name,
};
use ashlar_compute_api::vouchers::{Domain, LockTerms, Settlement};
use ashlar_compute_api::{Address, Amount, ContentRoot, LockId};

/// Why the market was not asked or changed.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// The chain could not be asked.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The transaction was not sent.
    #[error(transparent)]
    Sender(SenderError),
    /// The market does not take it.
    #[error("the market refused: {why}")]
    Refused {
        /// The contract's error.
        why: String,
    },
    /// It was in a block and is in none any more, or it reverted there.
    #[error("the transaction did not do what it was to do")]
    Undone,
}

impl From<AskError> for EscrowError {
    fn from(error: AskError) -> Self {
        Self::Contract(error.into())
    }
}

impl From<SenderError> for EscrowError {
    fn from(error: SenderError) -> Self {
        match error {
            SenderError::WouldRevert { message, data } => Self::Refused { why: revert_name(&data, &message) },
            error => Self::Sender(error),
        }
    }
}

/// A provider as the market has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderState {
    /// Signs receipts and links.
    pub signing_key: Address,
    /// Number of its last offer.
    pub offers: u32,
    /// An offence was proven.
    pub is_slashed: bool,
    /// In wei.
    pub stake_wei: u128,
}

/// Terms of an offer. Amounts in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferTerms {
    /// As numbered in docs/formats/market.md; 0 for one that was withdrawn.
    pub kind: u16,
    /// Price of a unit.
    pub unit_price: Amount,
    /// Least cap of a lock.
    pub cap_min: Amount,
    /// Greatest cap of a lock.
    pub cap_max: Amount,
    /// Longest time from opening a lock to its workBy.
    pub work_seconds_max: u32,
    /// Content root of the model.
    pub model_root: ContentRoot,
    /// Content root of the document with further limits.
    pub limits: ContentRoot,
}

/// Where a lock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockStage {
    /// Nobody accepted it.
    Open,
    /// It pays, with this key of the provider.
    Accepted {
        /// The provider's key when it accepted.
        signing_key: Address,
    },
    /// It pays no more.
    Closed,
}

/// A lock as the market has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockState {
    /// Where it stands.
    pub stage: LockStage,
    /// Whose coins.
    pub buyer: Address,
    /// To the provider, so far.
    pub paid: Amount,
}

/// The market, with the account that changes things in it.
pub struct Escrow {
    market: Market,
    sender: Arc<TransactionSender>,
    finality: Finality,
    poll: Duration,
}

fn amount(wei: Uint<96, 2>) -> Amount {
    Amount::try_from(wei.to::<u128>()).expect("96 bits are an amount")
}

fn word(wei: Amount) -> Uint<96, 2> {
    Uint::from(wei.wei())
}

fn ours(address: alloy_primitives::Address) -> Address {
    Address(address.into_array())
}

fn name(parts: &[&[u8]]) -> B256 {
    let hashes: Vec<u8> = parts.iter().flat_map(|part| keccak256(part).0).collect();
    keccak256(hashes)
}

impl From<&OfferTerms> for IComputeMarket::Offer {
    fn from(offer: &OfferTerms) -> Self {
        Self {
            kind: offer.kind,
            unitPrice: word(offer.unit_price),
            capMin: word(offer.cap_min),
            capMax: word(offer.cap_max),
            workSecondsMax: offer.work_seconds_max,
            modelRoot: offer.model_root.0.into(),
            limits: offer.limits.0.into(),
        }
    }
}

impl Escrow {
    /// `poll` is how often a transaction is looked for.
    pub fn new(market: Market, sender: Arc<TransactionSender>, finality: Finality, poll: Duration) -> Self {
        Self { market, sender, finality, poll }
    }

    /// Whose transactions.
    pub fn account(&self) -> Address {
        ours(self.sender.address())
    }

    /// Contract and chain.
    pub fn domain(&self) -> Domain {
        let chain_id = self.market.endpoints().chain_id();
        Domain { chain_id, contract: ours(self.market.address()) }
    }

    /// The newest block that stays.
    async fn settled_block(&self) -> Result<BlockId, EscrowError> {
        Ok(match self.finality {
            Finality::Finalized => BlockId::finalized(),
            Finality::Depth(0) => BlockId::latest(),
            Finality::Depth(depth) => {
                let head = self.market.endpoints().any(|endpoint| endpoint.block_number()).await?;
                BlockId::from(head.saturating_sub(depth))
            }
        })
    }

    /// A provider; `None` where the address never registered.
    pub async fn provider(&self, provider: Address) -> Result<Option<ProviderState>, EscrowError> {
        let found = self.market.provider(provider.0.into(), self.settled_block().await?).await?;
        Ok(found.map(|found| ProviderState {
            signing_key: ours(found.signingKey),
            offers: found.offers,
            is_slashed: found.slashed,
            stake_wei: found.stake,
        }))
    }

    /// An offer with its version.
    pub async fn offer(
        &self,
        provider: Address,
        number: u32,
    ) -> Result<Option<(u32, OfferTerms)>, EscrowError> {
        let found = self.market.offer(provider.0.into(), number, self.settled_block().await?).await?;
        Ok(found.map(|(version, offer)| {
            let terms = OfferTerms {
                kind: offer.kind,
                unit_price: amount(offer.unitPrice),
                cap_min: amount(offer.capMin),
                cap_max: amount(offer.capMax),
                work_seconds_max: offer.workSecondsMax,
                model_root: ContentRoot(offer.modelRoot.0),
                limits: ContentRoot(offer.limits.0),
            };
            (version, terms)
        }))
    }

    /// A lock; `None` where there is none yet.
    pub async fn lock(&self, lock: LockId) -> Result<Option<LockState>, EscrowError> {
        let found = self.market.lock(lock.0.into(), self.settled_block().await?).await?;
        Ok(found.map(|found| LockState {
            stage: match found.state {
                IComputeMarket::State::Open => LockStage::Open,
                IComputeMarket::State::Accepted => {
                    LockStage::Accepted { signing_key: ours(found.signingKey) }
                }
                _ => LockStage::Closed,
            },
            buyer: ours(found.buyer),
            paid: amount(found.paid),
        }))
    }

    /// What the account may withdraw or lock, in wei.
    pub async fn balance_wei(&self) -> Result<U256, EscrowError> {
        Ok(self.market.balance(self.sender.address(), self.settled_block().await?).await?)
    }

    /// Least seconds from a lock's workBy to its settleBy.
    pub async fn grace_seconds(&self) -> Result<u64, EscrowError> {
        Ok(self.market.grace_seconds().await?)
    }

    /// Registers the account as a provider.
    pub async fn register(
        &self,
        signing_key: Address,
        endpoint: &str,
        stake_wei: u128,
    ) -> Result<(), EscrowError> {
        let call = self.market.register(signing_key.0.into(), endpoint, stake_wei);
        self.perform(name(&[b"register", &self.account().0]), &call).await.map(drop)
    }

    /// Changes the provider's key and endpoint.
    pub async fn update(&self, signing_key: Address, endpoint: &str) -> Result<(), EscrowError> {
        let call = self.market.update(signing_key.0.into(), endpoint);
        self.perform(name(&[b"update", &signing_key.0, endpoint.as_bytes()]), &call).await.map(drop)
    }

    /// Publishes an offer, which gets this number: one more than there are.
    pub async fn publish_offer(&self, number: u32, offer: &OfferTerms) -> Result<(), EscrowError> {
        let call = self.market.publish_offer(offer.into());
        self.perform(name(&[b"offer", &number.to_be_bytes()]), &call).await.map(drop)
    }

    /// Gives an offer new terms.
    pub async fn revise_offer(
        &self,
        number: u32,
        version: u32,
        offer: &OfferTerms,
    ) -> Result<(), EscrowError> {
        let call = self.market.revise_offer(number, offer.into());
        let id = name(&[b"revise", &number.to_be_bytes(), &version.to_be_bytes()]);
        self.perform(id, &call).await.map(drop)
    }

    /// What the account's balance lacks of a cap now.
    pub async fn lacking(&self, cap: Amount) -> Result<Amount, EscrowError> {
        let lacking = U256::from(cap.wei()).saturating_sub(self.balance_wei().await?);
        let lacking: u128 = lacking.try_into().expect("a cap has 96 bits");
        Ok(Amount::try_from(lacking).expect("it is at most the cap, which is an amount"))
    }

    /// Opens a lock, with so many coins sent along. Asked again with the same, does what is left to do.
    pub async fn open(&self, terms: &LockTerms, sent: Amount) -> Result<LockId, EscrowError> {
        let lock = terms.lock_id(&self.domain(), self.account());
        if self.lock(lock).await?.is_some() {
            return Ok(lock);
        }
        let call = self.market.open(
            IComputeMarket::Terms {
                provider: terms.provider.0.into(),
                offer: terms.offer,
                offerVersion: terms.offer_version,
                modelRoot: terms.model_root.0.into(),
                unitPrice: word(terms.unit_price),
                cap: word(terms.cap),
                exposureMax: word(terms.exposure_max),
                sessionKey: terms.session_key.0.into(),
                acceptBy: terms.accept_by,
                workBy: terms.work_by,
                settleBy: terms.settle_by,
                salt: terms.salt.0.into(),
            },
            sent.wei(),
        );
        self.perform(name(&[b"open", &lock.0]), &call).await?;
        Ok(lock)
    }

    /// Takes a lock, as its provider.
    pub async fn accept(&self, lock: LockId) -> Result<(), EscrowError> {
        self.perform(name(&[b"accept", &lock.0]), &self.market.accept(lock.0.into())).await.map(drop)
    }

    /// Undoes a lock that nobody accepted.
    pub async fn cancel(&self, lock: LockId) -> Result<(), EscrowError> {
        self.perform(name(&[b"cancel", &lock.0]), &self.market.cancel(lock.0.into())).await.map(drop)
    }

    /// Ends an accepted lock.
    pub async fn close(&self, lock: LockId) -> Result<(), EscrowError> {
        self.perform(name(&[b"close", &lock.0]), &self.market.close(lock.0.into())).await.map(drop)
    }

    /// Takes coins out of the account's balance. `once` tells apart two of the same amount.
    pub async fn withdraw(&self, wei: U256, to: Address, once: u64) -> Result<(), EscrowError> {
        let id = name(&[b"withdraw", &wei.to_be_bytes::<32>(), &to.0, &once.to_be_bytes()]);
        self.perform(id, &self.market.withdraw(wei, to.0.into())).await.map(drop)
    }

    /// What a settlement would pay now, in wei; `None` where it would be refused.
    pub async fn worth_settling(&self, item: &Settlement) -> Result<Option<u128>, EscrowError> {
        let (outcome, wei) = self.market.judge(&words(item), BlockId::latest()).await?;
        Ok((outcome == 0).then_some(wei))
    }

    /// Settles, a batch at a time, and says what became of each.
    pub async fn settle(&self, items: &[Settlement]) -> Result<Vec<SettlementOutcome>, EscrowError> {
        let mut done = Vec::new();
        for batch in items.chunks(SETTLEMENTS_MAX) {
            let batch: Vec<SettlementWords> = batch.iter().map(words).collect();
            let call = self.market.settle(&batch).expect("a chunk is neither empty nor too long");
            let inclusion = self.perform(name(&[b"settle", &call.data]), &call).await?;
            done.extend(outcomes(self.market.address(), &inclusion));
        }
        Ok(done)
    }

    /// Sends a call under its name, waits until its block stays, and forgets it.
    async fn perform(&self, id: B256, call: &Call) -> Result<Inclusion, EscrowError> {
        self.sender.send(id, call).await?;
        let depth = if let Finality::Depth(depth) = self.finality { depth } else { 0 };
        let mut inclusion = self.sender.wait(id, depth, self.poll).await?;
        loop {
            if self.finality != Finality::Finalized {
                break;
            }
            let finalized = BlockId::finalized();
            let header = self.market.endpoints().any(|endpoint| endpoint.header(finalized)).await?;
            if header.is_some_and(|header| header.number >= inclusion.block_number) {
                break;
            }
            tokio::time::sleep(self.poll).await;
            inclusion = self.sender.wait(id, 0, self.poll).await?;
        }
        self.sender.forget(id).await?;
        if inclusion.succeeded { Ok(inclusion) } else { Err(EscrowError::Undone) }
    }
}

fn words(item: &Settlement) -> SettlementWords {
    let bytes: Bytes = item.encode().into();
    <[u8; SETTLEMENT_BYTES]>::try_from(&bytes[..]).expect("a settlement has 22 words")
}
