//! Why a side does not sign, or does not work. Facts only; nothing here decides.

use crate::amount::Amount;
use crate::bytes::{Address, LockId, TranscriptHead};
use crate::vouchers::SignatureError;

/// Why no book is opened for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockRefusal {
    /// Not a single unit fits into an increment, so that none could be worked.
    #[error("an increment of {exposure_max} wei does not buy a unit of {unit_price}")]
    IncrementBelowUnit {
        /// The increment.
        exposure_max: Amount,
        /// The price.
        unit_price: Amount,
    },
    /// The contract opens no such lock.
    #[error("an increment of {exposure_max} wei is above the cap of {cap}")]
    IncrementAboveCap {
        /// The increment.
        exposure_max: Amount,
        /// The cap.
        cap: Amount,
    },
    /// Between the last work and the lock's end there is less time than the provider wants to settle in.
    #[error("{seconds} s to settle in, and {settle_seconds} s are wanted")]
    NoTimeToSettle {
        /// From workBy to settleBy.
        seconds: u64,
        /// As the provider wants it.
        settle_seconds: u64,
    },
    /// The contract opens no such lock.
    #[error("not in order: accept by {accept_by}, work by {work_by}, settle by {settle_by}")]
    Times {
        /// As in the terms.
        accept_by: u64,
        /// As in the terms.
        work_by: u64,
        /// As in the terms.
        settle_by: u64,
    },
}

/// Why a voucher or a receipt is not signed or not taken, or work not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The voucher is of another lock.
    #[error("of lock {found}, not {expected}")]
    OtherLock {
        /// The book's.
        expected: LockId,
        /// The voucher's.
        found: LockId,
    },
    /// The voucher pays another provider.
    #[error("for provider {found}, not {expected}")]
    OtherProvider {
        /// The lock's.
        expected: Address,
        /// The voucher's.
        found: Address,
    },
    /// The voucher names another end than the lock has.
    #[error("settles by {found}, and the lock by {expected}")]
    OtherDeadline {
        /// The lock's.
        expected: u64,
        /// The voucher's.
        found: u64,
    },
    /// No work was begun for this shard.
    #[error("the shard was never begun")]
    ShardUnknown,
    /// The book has as many shards as it takes.
    #[error("the lock has {maximum} shards")]
    TooManyShards {
        /// [`super::SHARDS_MAX`].
        maximum: usize,
    },
    /// Another lock of this buyer has a receipt for the shard: the chain pays a shard under one lock only.
    #[error("lock {lock} has a receipt for this shard")]
    ReceiptedElsewhere {
        /// The other lock.
        lock: LockId,
    },
    /// A fence only grows.
    #[error("fence {found} is not above {last}")]
    FenceNotAbove {
        /// The shard's.
        last: u64,
        /// The new one.
        found: u64,
    },
    /// The voucher is of another lease than the one under which the shard is worked.
    #[error("of fence {found}, not {expected}")]
    OtherFence {
        /// The shard's.
        expected: u64,
        /// The voucher's.
        found: u64,
    },
    /// A voucher of this seq was countersigned: the receipt of then is the answer, and there is no other.
    #[error("seq {seq} was countersigned")]
    AlreadyCountersigned {
        /// The voucher's.
        seq: u32,
    },
    /// One more than the last is the only seq that may come.
    #[error("seq {found} where {expected} comes next")]
    SeqGap {
        /// What comes next.
        expected: u32,
        /// What came.
        found: u32,
    },
    /// The shard has had as many vouchers as a seq can count.
    #[error("no seq is left")]
    SeqExhausted,
    /// Fees of a shard never fall.
    #[error("a fee of {found} wei after {last}")]
    FeeFell {
        /// Of the last voucher.
        last: Amount,
        /// Of this one.
        found: Amount,
    },
    /// Units of a shard never fall.
    #[error("{found} units after {last}")]
    UnitsFell {
        /// Before.
        last: u64,
        /// Now.
        found: u64,
    },
    /// The provider did not compute this head, or forgot it.
    #[error("head {found} is not of this shard")]
    HeadUnknown {
        /// The voucher's.
        found: TranscriptHead,
    },
    /// The voucher counts less than was done at its head.
    #[error("{found} units where {counted} were done")]
    UnitsBelowHead {
        /// Done at the head.
        counted: u64,
        /// The voucher's.
        found: u64,
    },
    /// The voucher counts more than was done or the fee needs.
    #[error("{found} units where {maximum} are the most")]
    UnitsAhead {
        /// The most.
        maximum: u64,
        /// The voucher's.
        found: u64,
    },
    /// More work than was reserved.
    #[error("{found} units where {reserved} were reserved")]
    NotReserved {
        /// The shard's.
        reserved: u64,
        /// What was worked.
        found: u64,
    },
    /// The contract pays at most price times units.
    #[error("a fee of {fee} wei for {units} units is above the price")]
    AbovePrice {
        /// The voucher's.
        units: u64,
        /// The voucher's.
        fee: Amount,
    },
    /// One voucher adds more than an increment.
    #[error("{added} wei more than the last, and an increment is {exposure_max}")]
    AboveIncrement {
        /// The lock's increment.
        exposure_max: Amount,
        /// What the voucher adds.
        added: Amount,
    },
    /// Unpaid work, or unearned fees, would be more than an increment.
    #[error("{exposed} wei at risk, and an increment is {exposure_max}")]
    AboveExposure {
        /// The lock's increment.
        exposure_max: Amount,
        /// In wei; no more is told than 2¹²⁸ − 1.
        exposed: u128,
    },
    /// All fees of the lock, or all its work, would be more than it holds.
    #[error("{sum} wei, and the cap is {cap}")]
    AboveCap {
        /// The lock's cap.
        cap: Amount,
        /// In wei; no more is told than 2¹²⁸ − 1.
        sum: u128,
    },
    /// Too late for this.
    #[error("at {now}, and until {until} it could be done")]
    TooLate {
        /// Last second in which it could be done.
        until: u64,
        /// The time of the chain.
        now: u64,
    },
    /// The signature is not that of the key that must sign.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A voucher of this shard waits for its receipt: one at a time.
    #[error("the voucher of seq {seq} has no receipt yet")]
    AwaitingReceipt {
        /// The voucher's.
        seq: u32,
    },
    /// No voucher of this shard waits for a receipt.
    #[error("no voucher waits for a receipt")]
    NothingAwaited,
    /// The receipt is not of the voucher, of the lock's model, or of the voucher's units.
    #[error("the receipt differs from the voucher in {what}")]
    OtherReceipt {
        /// The field, as the contract names it.
        what: &'static str,
    },
    /// The shard went on since this was checked; check again.
    #[error("the shard went on meanwhile")]
    Stale,
}
