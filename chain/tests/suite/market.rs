//! The compute market through its whole life: every state of a lock, and every coin accounted for at its end.

use std::sync::Arc;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, U256};
use ashlar_chain::contracts::IComputeMarket::{Offer, State, Terms};
use ashlar_chain::{
    Call, Inclusion, Market, SETTLEMENTS_MAX, SenderError, SettleError, SettlementOutcome, SettlementWords,
    TransactionSender, deploy, outcomes,
};
use ashlar_compute_api::vouchers::{Domain, Key, LockTerms, Receipt, Settlement, Voucher};
use ashlar_compute_api::{Amount, ContentRoot, JobId, LockId, Salt, TranscriptHead};

use super::node::Node;
use super::{POLL, artifact, intent, sender_of};

const STAKE: u128 = 1_000;
const PRICE: u64 = 10;
const CAP: u64 = 10_000;
const HOUR: u64 = 3_600;
const MODEL: [u8; 32] = [5; 32];

/// A market with a registered provider, its offer, and the accounts of both sides.
struct Life {
    node: Node,
    market: Market,
    buyer: TransactionSender,
    provider: TransactionSender,
    session: Key,
    signing: Key,
    steps: u64,
    _folders: [tempfile::TempDir; 2],
}

fn key(byte: u8) -> Key {
    Key::from_secret(&[byte; 32]).expect("a key")
}

impl Life {
    async fn begin(node: Node) -> Self {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let buyer = sender_of(&node, folders[0].path(), 0).await;
        let provider = sender_of(&node, folders[1].path(), 1).await;
        let code = artifact("ComputeMarket").deploy(&Market::constructor_arguments(STAKE, 0));
        let deployed = deploy(&buyer, intent("market"), &code, 0, POLL).await.expect("it is deployed");
        let market = Market::new(Arc::clone(buyer.endpoints()), deployed.address);
        let (session, signing) = (key(1), key(2));
        let mut life = Self { node, market, buyer, provider, session, signing, steps: 0, _folders: folders };
        let stranger = life.market.provider(life.provider.address(), BlockId::latest()).await;
        assert_eq!(stranger.expect("it answers"), None);
        let signing_key = Address::from(life.signing.address().0);
        life.provides(life.market.register(signing_key, "here", STAKE)).await;
        life.provides(life.market.publish_offer(life.offer())).await;
        let found = life.market.provider(life.provider.address(), BlockId::latest()).await;
        let found = found.expect("it answers").expect("it is registered");
        assert_eq!((found.signingKey, found.stake, found.offers), (signing_key, STAKE, 1));
        let offer = life.market.offer(life.provider.address(), 1, BlockId::latest()).await;
        assert_eq!(offer.expect("it answers"), Some((1, life.offer())));
        assert_eq!(life.market.grace_seconds().await.expect("it answers"), HOUR);
        assert_eq!(life.market.stake_min_wei().await.expect("it answers"), STAKE);
        life
    }

    fn offer(&self) -> Offer {
        Offer {
            kind: 1,
            unitPrice: alloy_primitives::Uint::from(PRICE),
            capMin: alloy_primitives::Uint::from(1),
            capMax: alloy_primitives::Uint::from(CAP),
            workSecondsMax: 86_400,
            modelRoot: MODEL.into(),
            limits: B256::ZERO,
        }
    }

    async fn now(&self) -> u64 {
        let header = self.market.endpoints().any(|endpoint| endpoint.header(BlockId::latest())).await;
        header.expect("it answers").expect("there is a head").timestamp
    }

    async fn terms(&self, salt: u8) -> LockTerms {
        let now = self.now().await;
        LockTerms {
            provider: ashlar_compute_api::Address(self.provider.address().into_array()),
            offer: 1,
            offer_version: 1,
            model_root: ContentRoot(MODEL),
            unit_price: PRICE.into(),
            cap: CAP.into(),
            exposure_max: Amount::ZERO,
            session_key: self.session.address(),
            accept_by: now + 100,
            work_by: now + 200,
            settle_by: now + 200 + HOUR,
            salt: Salt([salt; 32]),
        }
    }

    fn domain(&self) -> Domain {
        let contract = ashlar_compute_api::Address(self.market.address().into_array());
        Domain { chain_id: self.market.endpoints().chain_id(), contract }
    }

    fn id(&self, terms: &LockTerms) -> LockId {
        terms.lock_id(&self.domain(), ashlar_compute_api::Address(self.buyer.address().into_array()))
    }

    async fn send(
        &self,
        sender: &TransactionSender,
        name: u64,
        call: &Call,
    ) -> Result<Inclusion, SenderError> {
        let id = intent(&format!("step {name}"));
        sender.send(id, call).await?;
        let done = sender.wait(id, 0, POLL).await?;
        assert!(done.succeeded, "it was estimated before");
        Ok(done)
    }

    async fn buys(&mut self, call: Call) -> Inclusion {
        self.steps += 1;
        self.send(&self.buyer, self.steps, &call).await.expect("it is done")
    }

    async fn provides(&mut self, call: Call) -> Inclusion {
        self.steps += 1;
        self.send(&self.provider, self.steps, &call).await.expect("it is done")
    }

    async fn refused(&mut self, is_buyer: bool, call: Call) -> String {
        self.steps += 1;
        let sender = if is_buyer { &self.buyer } else { &self.provider };
        match self.send(sender, self.steps, &call).await {
            Err(SenderError::WouldRevert { message, data }) => ashlar_chain::revert_name(&data, &message),
            done => panic!("{done:?}"),
        }
    }

    async fn balance(&self, of: &TransactionSender) -> U256 {
        self.market.balance(of.address(), BlockId::latest()).await.expect("it answers")
    }

    /// All coins of the contract stand somewhere: balances, what locks hold, the provider's stake.
    async fn assert_conserved(&self, locked: u64) {
        let address = self.market.address();
        let held =
            self.market.endpoints().any(|endpoint| endpoint.balance(address)).await.expect("it answers");
        let provider = self.market.provider(self.provider.address(), BlockId::latest()).await;
        let provider = provider.expect("it answers").expect("it is registered");
        let stakes = U256::from(provider.stake) + U256::from(provider.leaving);
        let balances = self.balance(&self.buyer).await + self.balance(&self.provider).await;
        assert_eq!(held, stakes + balances + U256::from(locked));
    }

    fn settlement(&self, terms: &LockTerms, seq: u32, fee: u64) -> SettlementWords {
        let voucher = Voucher {
            lock: self.id(terms),
            provider: terms.provider,
            job: JobId([7; 32]),
            shard: 3,
            fence: 1,
            transcript_head: TranscriptHead([8; 32]),
            units: fee / PRICE,
            cumulative_fee: fee.into(),
            seq,
            settle_by: terms.settle_by,
        };
        let receipt = Receipt {
            voucher_hash: voucher.hash(),
            model_root: terms.model_root,
            request_hash: ContentRoot([9; 32]),
            response_hash: ContentRoot([10; 32]),
            output_root: ContentRoot::ZERO,
            usage: voucher.units,
            determinism_class: ContentRoot::ZERO,
            level: 1,
        };
        let domain = self.domain();
        let settlement = Settlement {
            voucher,
            receipt,
            buyer: self.session.sign(&domain.voucher_digest(&voucher)),
            provider: self.signing.sign(&domain.receipt_digest(&receipt)),
        };
        settlement.encode().try_into().expect("a settlement has its bytes")
    }
}

fn of_contract(terms: &LockTerms) -> Terms {
    Terms {
        provider: terms.provider.0.into(),
        offer: terms.offer,
        offerVersion: terms.offer_version,
        modelRoot: terms.model_root.0.into(),
        unitPrice: alloy_primitives::Uint::from(terms.unit_price.wei()),
        cap: alloy_primitives::Uint::from(terms.cap.wei()),
        exposureMax: alloy_primitives::Uint::from(terms.exposure_max.wei()),
        sessionKey: terms.session_key.0.into(),
        acceptBy: terms.accept_by,
        workBy: terms.work_by,
        settleBy: terms.settle_by,
        salt: terms.salt.0.into(),
    }
}

pub(crate) async fn a_lock_lives_from_opening_to_withdrawal(node: Node) {
    let mut life = Life::begin(node).await;
    life.buys(life.market.deposit(life.buyer.address(), 4_000)).await;
    let terms = life.terms(1).await;
    let lock: B256 = life.id(&terms).0.into();
    let first_block =
        life.market.endpoints().any(|endpoint| endpoint.block_number()).await.expect("it answers");
    life.buys(life.market.open(of_contract(&terms), 7_000)).await;
    life.assert_conserved(CAP).await;
    assert_eq!(life.balance(&life.buyer).await, U256::from(1_000));
    let found = life.market.lock(lock, BlockId::latest()).await.expect("it answers").expect("it was opened");
    assert_eq!(
        (found.state, found.cap.to::<u64>(), found.exposureMax.to::<u64>()),
        (State::Open, CAP, CAP / 100)
    );
    let head = life.market.endpoints().any(|endpoint| endpoint.block_number()).await.expect("it answers");
    let told = life.market.opened_for(life.provider.address(), first_block, head).await.expect("it answers");
    assert_eq!((told.len(), told[0].lock, &told[0].terms), (1, lock, &of_contract(&terms)));
    let item = life.settlement(&terms, 1, 100);
    let judged = life.market.judge(&item, BlockId::latest()).await.expect("it answers");
    assert_eq!(judged, (1, 0), "nothing is paid before acceptance");
    life.provides(life.market.accept(lock)).await;
    let found = life.market.lock(lock, BlockId::latest()).await.expect("it answers").expect("it is there");
    assert_eq!((found.state, found.signingKey.0.0), (State::Accepted, life.signing.address().0));
    assert_eq!(life.market.judge(&item, BlockId::latest()).await.expect("it answers"), (0, 100));

    // The highest seq wins; the one before and a forged one change nothing and stop nothing.
    let second = life.settlement(&terms, 2, 150);
    let mut forged = life.settlement(&terms, 3, 160);
    forged[0] ^= 1;
    let batch = life.market.settle(&[forged, second, item]).expect("it is a batch");
    let done = life.provides(batch).await;
    let found = outcomes(life.market.address(), &done);
    assert!(matches!(found[0], SettlementOutcome::Refused { index: 0, outcome: 1, .. }), "{found:?}");
    let paid = SettlementOutcome::Paid {
        lock,
        job: [7; 32].into(),
        shard: 3,
        seq: 2,
        amount_wei: 150,
        fee_wei: 150,
    };
    assert_eq!(found[1], paid);
    assert!(matches!(found[2], SettlementOutcome::Refused { index: 2, outcome: 11, .. }), "{found:?}");
    let (buyer, provider) = (life.buyer.address(), life.provider.address());
    let record = life.market.settled(buyer, provider, [7; 32].into(), 3, BlockId::latest()).await;
    let record = record.expect("it answers");
    assert_eq!((record.seq, record.fee.to::<u64>()), (2, 150));
    life.assert_conserved(CAP - 150).await;

    assert!(
        life.refused(false, life.market.withdraw(U256::from(151), provider))
            .await
            .contains("BalanceTooSmall")
    );
    life.provides(life.market.withdraw(U256::from(150), Address::repeat_byte(0xaa))).await;
    let taken = life.market.endpoints().any(|endpoint| endpoint.balance(Address::repeat_byte(0xaa))).await;
    assert_eq!(taken.expect("it answers"), U256::from(150));
    life.provides(life.market.close(lock)).await;
    assert_eq!(life.balance(&life.buyer).await, U256::from(1_000 + CAP - 150));
    life.assert_conserved(0).await;

    assert_eq!(life.market.settle(&[]), Err(SettleError::Empty));
    let many = vec![item; SETTLEMENTS_MAX + 1];
    assert_eq!(life.market.settle(&many), Err(SettleError::TooMany { found: SETTLEMENTS_MAX + 1 }));
    // The largest batch is a transaction that nodes take.
    life.provides(life.market.settle(&many[1..]).expect("it is a batch")).await;
    life.assert_conserved(0).await;
}

pub(crate) async fn what_is_not_settled_goes_back_after_the_time(node: Node) {
    let mut life = Life::begin(node).await;
    let terms = life.terms(2).await;
    let lock: B256 = life.id(&terms).0.into();
    life.buys(life.market.open(of_contract(&terms), CAP.into())).await;
    life.provides(life.market.accept(lock)).await;
    life.provides(life.market.settle(&[life.settlement(&terms, 1, 100)]).expect("it is a batch")).await;
    let refused = life.refused(true, life.market.close(lock)).await;
    assert!(refused.contains("NotAllowed"), "the buyer takes nothing back before the time: {refused}");
    life.node.pass(200 + HOUR + 1).await;
    let late = life.settlement(&terms, 2, 200);
    assert_eq!(life.market.judge(&late, BlockId::latest()).await.expect("it answers"), (2, 0));
    life.buys(life.market.close(lock)).await;
    assert_eq!(life.balance(&life.buyer).await, U256::from(CAP - 100));
    assert_eq!(life.balance(&life.provider).await, U256::from(100));
    life.buys(life.market.withdraw(U256::from(CAP - 100), life.buyer.address())).await;
    life.assert_conserved(0).await;
    // The stake as well has a way out.
    life.provides(life.market.begin_unstake(STAKE)).await;
    assert!(life.refused(false, life.market.finish_unstake()).await.contains("StakeNotFree"));
    life.node.pass(7 * 86_400 + HOUR).await;
    life.provides(life.market.finish_unstake()).await;
    assert_eq!(life.balance(&life.provider).await, U256::from(100 + STAKE));
    life.assert_conserved(0).await;
}

pub(crate) async fn what_nobody_accepts_is_cancelled(node: Node) {
    let mut life = Life::begin(node).await;
    let terms = life.terms(3).await;
    let lock: B256 = life.id(&terms).0.into();
    life.buys(life.market.open(of_contract(&terms), CAP.into())).await;
    assert!(
        life.refused(true, life.market.open(of_contract(&terms), CAP.into())).await.contains("LockExists")
    );
    life.buys(life.market.cancel(lock)).await;
    assert_eq!(life.balance(&life.buyer).await, U256::from(CAP));
    assert!(life.refused(false, life.market.accept(lock)).await.contains("LockState"));
    // Its buyer gone, anybody ends one after acceptBy; before, nobody but the two.
    let terms = life.terms(4).await;
    let lock: B256 = life.id(&terms).0.into();
    life.buys(life.market.open(of_contract(&terms), 0)).await;
    life.node.pass(101).await;
    assert!(life.refused(false, life.market.accept(lock)).await.contains("AcceptedTooLate"));
    life.provides(life.market.cancel(lock)).await;
    assert_eq!(life.balance(&life.buyer).await, U256::from(CAP));
    // A withdrawn offer opens no lock.
    life.provides(life.market.withdraw_offer(1)).await;
    let terms = life.terms(5).await;
    assert!(life.refused(true, life.market.open(of_contract(&terms), 0)).await.contains("OfferDiffers"));
    life.assert_conserved(0).await;
}
