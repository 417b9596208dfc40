//! A provider that follows its book loses at most one increment of a lock, whatever the buyer does.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::vouchers::{Settlement, Voucher};

#[derive(Clone, Debug)]
enum Step {
    /// The buyer leases a shard, or leases it anew under a fence so much higher.
    Begin { lock: usize, shard: u32, higher: u64 },
    /// The provider works as many units as its book lets it, but no more than these, of which it reserved some in vain.
    Work { lock: usize, shard: u32, units: u64, in_vain: u64 },
    /// The buyer sends a voucher that is right but for what `trick` does to it.
    Voucher { lock: usize, shard: u32, trick: u8, by: u64 },
    /// Somebody settles a receipt of any time.
    Settle { which: prop::sample::Index },
    /// Time passes.
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0usize..2, 0u32..3);
    prop_oneof![
        2 => (place(), 0u64..3).prop_map(|((lock, shard), higher)| Step::Begin { lock, shard, higher }),
        6 => (place(), 0u64..60, 0u64..9)
            .prop_map(|((lock, shard), units, in_vain)| Step::Work { lock, shard, units, in_vain }),
        8 => (place(), 0u8..40, 0u64..50)
            .prop_map(|((lock, shard), trick, by)| Step::Voucher { lock, shard, trick, by }),
        2 => any::<prop::sample::Index>().prop_map(|which| Step::Settle { which }),
        1 => (0u64..900).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// What the buyer knows of a shard.
#[derive(Clone, Default)]
struct Known {
    fence: u64,
    seq: u32,
    units: u64,
    fee: u128,
    /// Heads of this fence with the units behind them.
    heads: Vec<(TranscriptHead, u64)>,
    /// Units that the newest receipt's head stands for.
    base: u64,
}

struct World {
    locks: [Lock; 2],
    books: [ProviderBook; 2],
    contract: Contract,
    known: [BTreeMap<u32, Known>; 2],
    /// Under which lock a shard has its receipts: the provider keeps it over all its locks.
    receipted: BTreeMap<u32, LockId>,
    settlements: Vec<Settlement>,
    worked: [u64; 2],
    now: u64,
    heads: u64,
}

impl World {
    fn new(price: u64, exposure_max: u64, cap: u64) -> Self {
        let locks = [1, 2].map(|number| lock(number, price, exposure_max, cap));
        Self {
            books: locks.map(|lock| ProviderBook::open(lock, SETTLE_SECONDS).unwrap()),
            contract: Contract::of(&locks),
            locks,
            known: Default::default(),
            receipted: BTreeMap::new(),
            settlements: Vec::new(),
            worked: [0, 0],
            now: 0,
            heads: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Begin { lock, shard: number, higher } => {
                let known = self.known[lock].entry(number).or_default();
                let fence = known.fence + higher;
                if let Ok(first) = self.books[lock].begin(shard(number), fence) {
                    known.fence = fence;
                    known.heads = vec![(first, known.base)];
                }
            }
            Step::Work { lock, shard: number, units, in_vain } => self.work(lock, number, units, in_vain),
            Step::Voucher { lock, shard, trick, by } => self.voucher(lock, shard, trick, by),
            Step::Settle { which } => {
                if !self.settlements.is_empty() {
                    let item = self.settlements[which.index(self.settlements.len())];
                    let _refused_or_paid = self.contract.settle(&item, self.now);
                }
            }
            Step::Wait { seconds } => self.now += seconds,
        }
        self.books = self.books.each_ref().map(stored);
    }

    fn work(&mut self, lock: usize, number: u32, units: u64, in_vain: u64) {
        let book = &mut self.books[lock];
        if book.reserve(shard(number), units + in_vain, self.now).is_err() {
            return;
        }
        self.heads += 1;
        book.worked(shard(number), head(self.heads), units).unwrap();
        if in_vain.is_multiple_of(2) {
            book.release(shard(number)).unwrap();
        }
        self.worked[lock] += units;
        let known = self.known[lock].get_mut(&number).unwrap();
        let units = known.heads.last().unwrap().1 + units;
        known.heads.push((head(self.heads), units));
    }

    fn voucher(&mut self, lock: usize, number: u32, trick: u8, by: u64) {
        let Some(known) = self.known[lock].get(&number).cloned() else { return };
        let Some(&(newest, done)) = known.heads.last() else { return };
        let terms = &self.locks[lock].terms;
        let increment = terms.exposure_max().wei();
        let units = done.max(known.units);
        let owed = u128::from(units) * terms.unit_price.wei();
        let mut voucher = Voucher {
            lock: self.locks[lock].id(),
            provider: terms.provider,
            job: shard(number).job,
            shard: number,
            fence: known.fence,
            transcript_head: newest,
            units,
            cumulative_fee: Amount::try_from(owed.min(known.fee + increment)).unwrap(),
            seq: known.seq + 1,
            settle_by: terms.settle_by,
        };
        let mut signer = session();
        let fee = |wei: u128| Amount::try_from(wei).unwrap();
        let wei = voucher.cumulative_fee.wei();
        match trick {
            0 => voucher.cumulative_fee = fee(wei + u128::from(by)),
            1 => (voucher.cumulative_fee, voucher.units) = (Amount::MAX, u64::MAX),
            2 => voucher.seq = voucher.seq.wrapping_add(u32::try_from(by).unwrap()),
            3 => voucher.seq = voucher.seq.saturating_sub(u32::try_from(by).unwrap()),
            4 => voucher.seq = u32::MAX,
            5 => voucher.fence += by,
            6 => voucher.fence = voucher.fence.saturating_sub(by),
            7 => voucher.transcript_head = head(by),
            8 => voucher.transcript_head = known.heads[usize::try_from(by).unwrap() % known.heads.len()].0,
            9 => voucher.units += by,
            10 => voucher.units = voucher.units.saturating_sub(by),
            11 => voucher.provider = Address([8; 20]),
            12 => voucher.settle_by = voucher.settle_by.wrapping_add(by),
            13 => voucher.lock = self.locks[1 - lock].id(),
            14 => signer = key(7),
            15 => voucher.cumulative_fee = fee(wei.saturating_sub(u128::from(by))),
            16 => voucher.cumulative_fee = fee(known.fee),
            17 => {
                // Paid ahead by an increment.
                voucher.cumulative_fee = fee(known.fee + increment);
                let needed = (known.fee + increment).div_ceil(terms.unit_price.wei());
                voucher.units = voucher.units.max(u64::try_from(needed).unwrap());
            }
            18 => voucher.job = JobId([12; 32]),
            19 => {
                // More than an increment at once.
                let more = known.fee + increment + u128::from(by);
                voucher.cumulative_fee = fee(more);
                let needed = more.div_ceil(terms.unit_price.wei());
                voucher.units = voucher.units.max(u64::try_from(needed).unwrap());
            }
            _ => {}
        }
        let book = &mut self.books[lock];
        let signature = signer.sign(&self.locks[lock].domain.voucher_digest(&voucher));
        let elsewhere = self.receipted.get(&number).copied();
        let Ok(next) = book.check(&voucher, &signature, &CLAIM, elsewhere, self.now) else { return };
        let next = stored(&next);
        let receipt = book.advance(&next).unwrap();
        assert_eq!(book.advance(&next), Err(Refusal::Stale), "one receipt for a seq");
        let again = book.check(&voucher, &signature, &CLAIM, elsewhere, self.now);
        assert_eq!(again, Err(Refusal::AlreadyCountersigned { seq: voucher.seq }));
        self.receipted.insert(number, voucher.lock);
        let provider = signing().sign(&self.locks[lock].domain.receipt_digest(&receipt));
        self.settlements.push(Settlement { voucher, receipt, buyer: signature, provider });
        let known = self.known[lock].get_mut(&number).unwrap();
        let at = known.heads.iter().position(|(head, _)| *head == voucher.transcript_head).unwrap();
        known.base = known.heads[at].1;
        known.heads.drain(..at);
        (known.seq, known.units, known.fee) = (voucher.seq, voucher.units, voucher.cumulative_fee.wei());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_provider_loses_at_most_one_increment_of_a_lock(
        price in 1u64..5,
        increment in 5u64..200,
        increments in 1u64..12,
        steps in prop::collection::vec(step(), 0..80),
        order in any::<u64>(),
    ) {
        let mut world = World::new(price, increment, increment * increments);
        for step in steps {
            world.take(step);
            for (book, lock) in world.books.iter().zip(&world.locks) {
                prop_assert!(book.exposed() <= lock.terms.exposure_max().wei());
                prop_assert!(book.earned() <= lock.terms.cap.wei());
            }
        }
        // At the last moment the provider settles all it has, in any order; nothing but the newest must pay.
        let last = SETTLE_BY.min(world.now.max(SETTLE_BY - SETTLE_SECONDS));
        let mut left = world.settlements.clone();
        let mut order = order;
        while !left.is_empty() {
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(order >> 33).unwrap() % left.len();
            if let Err(refused) = world.contract.settle(&left.swap_remove(at), last) {
                prop_assert_eq!(refused, contract::Outcome::Stale);
            }
        }
        for (at, lock) in world.locks.iter().enumerate() {
            let paid = world.contract.paid(lock);
            prop_assert_eq!(paid, world.books[at].earned(), "all that was countersigned is paid");
            let worth = u128::from(world.worked[at]) * u128::from(price);
            let lost = worth.saturating_sub(paid);
            prop_assert!(lost <= lock.terms.exposure_max().wei(), "lost {lost}");
        }
    }
}
