//! A buyer who follows his book loses at most one increment of a lock, whatever the provider does; and with two who
//! follow theirs, all work is done and paid.

use proptest::prelude::*;

use super::*;
use crate::vouchers::{Receipt, Settlement, Signature, Voucher};

#[derive(Clone, Debug)]
enum Step {
    Begin {
        shard: u32,
        higher: u64,
    },
    /// The provider sends work that the buyer verifies; what he cannot verify does not count and is not told.
    Deliver {
        shard: u32,
        units: u64,
    },
    /// The provider asks for so much more than is due.
    Ask {
        shard: u32,
        more: u64,
    },
    /// It countersigns, rightly but for a trick, or not at all.
    Answer {
        shard: u32,
        trick: u8,
    },
    /// It settles any voucher that it was given, or one that it made up, whatever receipts the buyer has seen.
    Settle {
        which: prop::sample::Index,
        trick: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let shard = || 0u32..3;
    prop_oneof![
        1 => (shard(), 0u64..3).prop_map(|(shard, higher)| Step::Begin { shard, higher }),
        4 => (shard(), 0u64..60).prop_map(|(shard, units)| Step::Deliver { shard, units }),
        6 => (shard(), prop_oneof![Just(0), 0u64..300]).prop_map(|(shard, more)| Step::Ask { shard, more }),
        6 => (shard(), 0u8..12).prop_map(|(shard, trick)| Step::Answer { shard, trick }),
        3 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(which, trick)| Step::Settle { which, trick }),
    ]
}

fn receipt_of(voucher: &Voucher, lock: &Lock) -> Receipt {
    Receipt {
        voucher_hash: voucher.hash(),
        model_root: lock.terms.model_root,
        request_hash: CLAIM.request_hash,
        response_hash: CLAIM.response_hash,
        output_root: CLAIM.output_root,
        usage: voucher.units,
        determinism_class: CLAIM.determinism_class,
        level: CLAIM.level.number(),
    }
}

fn countersign(receipt: &Receipt, lock: &Lock) -> Signature {
    signing().sign(&lock.domain.receipt_digest(receipt))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_buyer_loses_at_most_one_increment_of_a_lock(
        price in 1u64..5,
        increment in 5u64..200,
        increments in 1u64..12,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let lock = lock(1, price, increment, increment * increments);
        let mut book = BuyerBook::open(lock).unwrap();
        let mut contract = Contract::of(&[lock]);
        let mut vouchers: Vec<(Voucher, Signature)> = Vec::new();
        let (mut received, mut fences, mut heads) = ([0u64; 3], [0u64; 3], 0u64);
        // Units now, and at the newest voucher.
        let (mut units, mut signed) = ([0u64; 3], [0u64; 3]);
        for step in steps {
            match step {
                Step::Begin { shard: number, higher } => {
                    let at = usize::try_from(number).unwrap();
                    if book.begin(shard(number), fences[at] + higher).is_ok() {
                        fences[at] += higher;
                        // Counted on from the newest voucher's head; what is done again is worth nothing more.
                        units[at] = signed[at];
                    }
                }
                Step::Deliver { shard: number, units: more } => {
                    heads += 1;
                    let at = usize::try_from(number).unwrap();
                    if book.received(shard(number), head(heads), units[at] + more).is_ok() {
                        units[at] += more;
                        received[at] = received[at].max(units[at]);
                    }
                }
                Step::Ask { shard: number, more } => {
                    let Ok(due) = book.fee_due(shard(number)) else { continue };
                    let fee = due.checked_add(more.into()).unwrap();
                    let Ok(next) = book.check(shard(number), fee, 0) else { continue };
                    let voucher = book.advance(&stored(&next)).unwrap();
                    prop_assert_eq!(book.advance(&next), Err(Refusal::Stale), "one voucher for a seq");
                    prop_assert_eq!(book.awaited(shard(number)), Some(&voucher));
                    let at = usize::try_from(number).unwrap();
                    signed[at] = units[at];
                    let same_seq =
                        |(other, _): &(Voucher, _)| other.shard == voucher.shard && other.seq == voucher.seq;
                    prop_assert!(!vouchers.iter().any(same_seq));
                    vouchers.push((voucher, session().sign(&lock.domain.voucher_digest(&voucher))));
                }
                Step::Answer { shard: number, trick } => {
                    let Some(voucher) = book.awaited(shard(number)).copied() else { continue };
                    let mut receipt = receipt_of(&voucher, &lock);
                    match trick {
                        0 => receipt.usage += 1,
                        1 => receipt.model_root = ContentRoot([1; 32]),
                        2 => receipt.voucher_hash = vouchers[0].0.hash(),
                        _ => {}
                    }
                    let mut signature = countersign(&receipt, &lock);
                    match trick {
                        3 => signature = key(9).sign(&lock.domain.receipt_digest(&receipt)),
                        4 => continue,
                        _ => {}
                    }
                    let taken = book.countersigned(shard(number), &receipt, &signature).is_ok();
                    let is_right = trick > 3 || (trick == 2 && vouchers[0].0 == voucher);
                    prop_assert_eq!(taken, is_right);
                }
                Step::Settle { which, trick } => {
                    if vouchers.is_empty() {
                        continue;
                    }
                    let (mut voucher, buyer) = vouchers[which.index(vouchers.len())];
                    match trick {
                        0 => voucher.cumulative_fee = lock.terms.cap,
                        1 => voucher.seq += 1,
                        2 => voucher.shard += 1,
                        3 => (voucher.units, voucher.cumulative_fee) = (u64::MAX, lock.terms.exposure_max()),
                        _ => {}
                    }
                    let is_forged = voucher != vouchers[which.index(vouchers.len())].0;
                    let receipt = receipt_of(&voucher, &lock);
                    let provider = countersign(&receipt, &lock);
                    let item = Settlement { voucher, receipt, buyer, provider };
                    prop_assert!(!(contract.settle(&item, 0).is_ok() && is_forged));
                }
            }
            book = stored(&book);
            prop_assert!(contract.paid(&lock) <= book.signed());
        }
        // Whatever he signed is settled in the end.
        for (voucher, buyer) in vouchers {
            let receipt = receipt_of(&voucher, &lock);
            let provider = countersign(&receipt, &lock);
            let settled = contract.settle(&Settlement { voucher, receipt, buyer, provider }, SETTLE_BY);
            prop_assert!(matches!(settled, Ok(_) | Err(contract::Outcome::Stale)), "{:?}", settled);
        }
        let paid = contract.paid(&lock);
        prop_assert_eq!(paid, book.signed());
        prop_assert!(paid <= lock.terms.cap.wei());
        let lost = paid.saturating_sub(u128::from(received.iter().sum::<u64>()) * u128::from(price));
        prop_assert!(lost <= lock.terms.exposure_max().wei(), "lost {}", lost);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn two_who_follow_their_books_do_and_pay_all(
        price in 1u64..5,
        increment in 5u64..200,
        increments in 1u64..12,
        portions in prop::collection::vec((0u32..3, 1u64..60, any::<bool>()), 1..40),
    ) {
        let lock = lock(1, price, increment, increment * increments);
        let mut buyer = BuyerBook::open(lock).unwrap();
        let mut provider = ProviderBook::open(lock, SETTLE_SECONDS).unwrap();
        let mut fences = [0u64; 3];
        let mut units = [0u64; 3];
        for number in 0..3 {
            prop_assert_eq!(buyer.begin(shard(number), 0), provider.begin(shard(number), 0));
        }
        let mut heads = 0;
        let mut delivered = 0;
        for (number, most, is_begun_anew) in portions {
            let at = usize::try_from(number).unwrap();
            if is_begun_anew {
                fences[at] += 1;
                prop_assert_eq!(
                    buyer.begin(shard(number), fences[at]),
                    provider.begin(shard(number), fences[at])
                );
            }
            // No more than the cap has room for, in increments at most.
            let room = (lock.terms.cap.wei() - provider.earned()) / u128::from(price);
            let room = u64::try_from(room).unwrap().min(increment / price).min(most);
            heads += 1;
            provider.reserve(shard(number), room, 0).unwrap();
            provider.worked(shard(number), head(heads), room).unwrap();
            units[at] += room;
            delivered += room;
            buyer.received(shard(number), head(heads), units[at]).unwrap();
            let fee = buyer.fee_due(shard(number)).unwrap();
            let voucher = buyer.advance(&buyer.check(shard(number), fee, 0).unwrap()).unwrap();
            let signature = session().sign(&lock.domain.voucher_digest(&voucher));
            let next = provider.check(&voucher, &signature, &CLAIM, None, 0).unwrap();
            let receipt = provider.advance(&next).unwrap();
            buyer.countersigned(shard(number), &receipt, &countersign(&receipt, &lock)).unwrap();
            prop_assert_eq!(provider.exposed(), 0);
            prop_assert_eq!(buyer.signed(), u128::from(delivered) * u128::from(price));
        }
    }
}
