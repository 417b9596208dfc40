//! Single rules, each with its own refusal, and what goes wrong without it.

use super::*;
use crate::vouchers::{Signature, SignatureError, Voucher};

/// A lock that pays 2 a unit, 100 an increment, 1,000 in all.
fn provider() -> ProviderBook {
    ProviderBook::open(lock(1, 2, 100, 1_000), SETTLE_SECONDS).unwrap()
}

fn voucher(book: &ProviderBook, head: TranscriptHead, seq: u32, units: u64, fee: u64) -> Voucher {
    let terms = &book.lock().terms;
    Voucher {
        lock: book.lock().id(),
        provider: terms.provider,
        job: shard(0).job,
        shard: 0,
        fence: 1,
        transcript_head: head,
        units,
        cumulative_fee: fee.into(),
        seq,
        settle_by: terms.settle_by,
    }
}

fn signed(book: &ProviderBook, voucher: &Voucher) -> Signature {
    session().sign(&book.lock().domain.voucher_digest(voucher))
}

fn check(book: &ProviderBook, voucher: &Voucher) -> Result<NextReceipt, Refusal> {
    book.check(voucher, &signed(book, voucher), &CLAIM, None, 0)
}

#[test]
fn locks_that_pay_nobody_are_not_opened() {
    let refused = |lock: Lock| (ProviderBook::open(lock, 0).unwrap_err(), BuyerBook::open(lock).unwrap_err());
    let (provider, buyer) = refused(lock(1, 101, 100, 1_000));
    let error = LockRefusal::IncrementBelowUnit { exposure_max: 100.into(), unit_price: 101.into() };
    assert_eq!((provider, buyer), (error, error));
    refused(lock(1, 0, 100, 1_000));
    let error = LockRefusal::IncrementAboveCap { exposure_max: 100.into(), cap: 99.into() };
    assert_eq!(refused(lock(1, 1, 100, 99)).0, error);
    let mut times = lock(1, 1, 100, 1_000);
    times.terms.work_by = SETTLE_BY;
    assert!(matches!(refused(times).0, LockRefusal::Times { .. }));
    let error = LockRefusal::NoTimeToSettle { seconds: 4_000, settle_seconds: 4_001 };
    assert_eq!(ProviderBook::open(lock(1, 1, 100, 1_000), 4_001), Err(error));
}

#[test]
fn work_side_by_side_shares_one_increment() {
    let mut book = provider();
    book.begin(shard(0), 1).unwrap();
    book.begin(shard(1), 1).unwrap();
    book.reserve(shard(0), 30, 0).unwrap();
    book.reserve(shard(1), 20, 0).unwrap();
    let error = Refusal::AboveExposure { exposure_max: 100.into(), exposed: 102 };
    assert_eq!(book.reserve(shard(0), 1, 0), Err(error));
    let error = Refusal::NotReserved { reserved: 30, found: 31 };
    assert_eq!(book.worked(shard(0), head(1), 31), Err(error));
    book.release(shard(1)).unwrap();
    book.reserve(shard(0), 20, 0).unwrap();
    let error = Refusal::TooLate { until: WORK_BY, now: WORK_BY + 1 };
    assert_eq!(book.reserve(shard(0), 0, WORK_BY + 1), Err(error));
    assert_eq!(book.reserve(shard(9), 0, 0), Err(Refusal::ShardUnknown));
}

#[test]
fn a_new_fence_does_not_forgive_unpaid_work() {
    let mut book = provider();
    for fence in 1..=5 {
        book.begin(shard(0), fence).unwrap();
        book.reserve(shard(0), 10, 0).unwrap();
        book.worked(shard(0), head(fence), 10).unwrap();
    }
    book.begin(shard(0), 6).unwrap();
    let error = Refusal::AboveExposure { exposure_max: 100.into(), exposed: 102 };
    assert_eq!(book.reserve(shard(0), 1, 0), Err(error));
    assert_eq!(book.begin(shard(0), 6), Err(Refusal::FenceNotAbove { last: 6, found: 6 }));
}

#[test]
fn units_without_a_fee_pay_nothing() {
    let mut book = provider();
    book.begin(shard(0), 1).unwrap();
    book.reserve(shard(0), 50, 0).unwrap();
    book.worked(shard(0), head(1), 50).unwrap();
    // The buyer acknowledges all the work and owes nothing for it; the provider may sign, and works no more.
    let next = check(&book, &voucher(&book, head(1), 1, 50, 0)).unwrap();
    book.advance(&next).unwrap();
    assert!(matches!(book.reserve(shard(0), 1, 0), Err(Refusal::AboveExposure { .. })));
    let next = check(&book, &voucher(&book, head(1), 2, 50, 100)).unwrap();
    book.advance(&next).unwrap();
    book.reserve(shard(0), 50, 0).unwrap();
}

#[test]
fn each_rule_of_a_voucher_has_its_refusal() {
    let mut book = provider();
    let first = book.begin(shard(0), 1).unwrap();
    book.reserve(shard(0), 40, 0).unwrap();
    book.worked(shard(0), head(1), 20).unwrap();
    book.worked(shard(0), head(2), 20).unwrap();
    let next = check(&book, &voucher(&book, head(1), 1, 20, 40)).unwrap();
    book.advance(&next).unwrap();
    let good = voucher(&book, head(2), 2, 40, 80);
    assert!(check(&book, &good).is_ok());
    let refused = |change: &dyn Fn(&mut Voucher)| {
        let mut voucher = good;
        change(&mut voucher);
        check(&book, &voucher).unwrap_err()
    };
    use Refusal as R;
    assert!(matches!(refused(&|v| v.lock = LockId::ZERO), R::OtherLock { .. }));
    assert!(matches!(refused(&|v| v.provider = Address::ZERO), R::OtherProvider { .. }));
    assert!(matches!(refused(&|v| v.settle_by += 1), R::OtherDeadline { .. }));
    assert_eq!(refused(&|v| v.shard = 1), R::ShardUnknown);
    assert_eq!(refused(&|v| v.seq = 1), R::AlreadyCountersigned { seq: 1 });
    assert_eq!(refused(&|v| v.seq = 3), R::SeqGap { expected: 2, found: 3 });
    assert_eq!(refused(&|v| v.seq = 0), R::SeqGap { expected: 2, found: 0 });
    assert_eq!(refused(&|v| v.fence = 2), R::OtherFence { expected: 1, found: 2 });
    assert_eq!(refused(&|v| v.transcript_head = first), R::HeadUnknown { found: first });
    assert_eq!(refused(&|v| v.units = 19), R::UnitsFell { last: 20, found: 19 });
    assert_eq!(refused(&|v| v.units = 39), R::UnitsBelowHead { counted: 40, found: 39 });
    assert_eq!(refused(&|v| v.units = 41), R::UnitsAhead { maximum: 40, found: 41 });
    assert_eq!(refused(&|v| v.cumulative_fee = 39.into()), R::FeeFell { last: 40.into(), found: 39.into() });
    assert_eq!(refused(&|v| v.cumulative_fee = 81.into()), R::AbovePrice { units: 40, fee: 81.into() });
    let above = |v: &mut Voucher| (v.cumulative_fee, v.units) = (141.into(), 71);
    assert_eq!(refused(&above), R::AboveIncrement { exposure_max: 100.into(), added: 101.into() });
    let signature = key(9).sign(&book.lock().domain.voucher_digest(&good));
    let error = book.check(&good, &signature, &CLAIM, None, 0).unwrap_err();
    assert!(matches!(error, R::Signature(SignatureError::OtherKey { .. })));
    let other = Some(LockId::ZERO);
    let error = book.check(&good, &signed(&book, &good), &CLAIM, other, 0).unwrap_err();
    assert_eq!(error, R::ReceiptedElsewhere { lock: LockId::ZERO });
    let until = SETTLE_BY - SETTLE_SECONDS;
    let error = book.check(&good, &signed(&book, &good), &CLAIM, None, until + 1).unwrap_err();
    assert_eq!(error, R::TooLate { until, now: until + 1 });
    let same = Some(book.lock().id());
    assert!(book.check(&good, &signed(&book, &good), &CLAIM, same, until).is_ok());
}

#[test]
fn what_was_checked_side_by_side_stays_under_the_cap() {
    let mut book = ProviderBook::open(lock(1, 2, 100, 150), SETTLE_SECONDS).unwrap();
    let heads = [0, 1].map(|number| book.begin(shard(number), 1).unwrap());
    let next = [0u32, 1].map(|number| {
        let head = heads[usize::try_from(number).unwrap()];
        let voucher = Voucher { shard: number, ..voucher(&book, head, 1, 50, 100) };
        check(&book, &voucher).unwrap()
    });
    book.advance(&next[0]).unwrap();
    assert_eq!(book.advance(&next[1]), Err(Refusal::AboveCap { cap: 150.into(), sum: 200 }));

    let mut book = BuyerBook::open(lock(1, 2, 100, 1_000)).unwrap();
    book.begin(shard(0), 1).unwrap();
    book.begin(shard(1), 1).unwrap();
    let next = [0, 1].map(|number| book.check(shard(number), 100.into(), 0).unwrap());
    book.advance(&next[0]).unwrap();
    let error = Refusal::AboveExposure { exposure_max: 100.into(), exposed: 200 };
    assert_eq!(book.advance(&next[1]), Err(error));
}

#[test]
fn a_buyer_signs_one_voucher_at_a_time() {
    let mut book = BuyerBook::open(lock(1, 2, 100, 1_000)).unwrap();
    assert_eq!(book.fee_due(shard(0)), Err(Refusal::ShardUnknown));
    book.begin(shard(0), 1).unwrap();
    book.received(shard(0), head(1), 30).unwrap();
    assert_eq!(book.received(shard(0), head(2), 29), Err(Refusal::UnitsFell { last: 30, found: 29 }));
    assert_eq!(book.fee_due(shard(0)), Ok(60.into()));
    let error = Refusal::AboveIncrement { exposure_max: 100.into(), added: 101.into() };
    assert_eq!(book.check(shard(0), 101.into(), 0), Err(error));
    let error = Refusal::TooLate { until: SETTLE_BY, now: SETTLE_BY + 1 };
    assert_eq!(book.check(shard(0), 60.into(), SETTLE_BY + 1), Err(error));
    let voucher = book.advance(&book.check(shard(0), 60.into(), SETTLE_BY).unwrap()).unwrap();
    assert_eq!((voucher.seq, voucher.units, voucher.transcript_head), (1, 30, head(1)));
    assert_eq!(book.check(shard(0), 60.into(), 0), Err(Refusal::AwaitingReceipt { seq: 1 }));
    assert_eq!(book.begin(shard(0), 2), Err(Refusal::AwaitingReceipt { seq: 1 }));
}

#[test]
fn work_that_is_done_again_is_not_worth_twice() {
    let mut book = BuyerBook::open(lock(1, 2, 100, 1_000)).unwrap();
    for fence in 1..=2 {
        book.begin(shard(0), fence).unwrap();
        book.received(shard(0), head(fence), 50).unwrap();
    }
    for fee in [100, 200] {
        let voucher = book.advance(&book.check(shard(0), fee.into(), 0).unwrap()).unwrap();
        let receipt = crate::vouchers::Receipt {
            voucher_hash: voucher.hash(),
            model_root: book.lock().terms.model_root,
            request_hash: CLAIM.request_hash,
            response_hash: CLAIM.response_hash,
            output_root: CLAIM.output_root,
            usage: voucher.units,
            determinism_class: CLAIM.determinism_class,
            level: CLAIM.level.number(),
        };
        let signature = signing().sign(&book.lock().domain.receipt_digest(&receipt));
        book.countersigned(shard(0), &receipt, &signature).unwrap();
    }
    let error = Refusal::AboveExposure { exposure_max: 100.into(), exposed: 101 };
    assert_eq!(book.check(shard(0), 201.into(), 0), Err(error));
}
