//! The provider's side of an escrow lock.
//!
//! Invariant: all work that the book allowed is worth at most the fees of its receipts and one increment, whatever
//! became of it: work under a fence that was given up stays in the sum. What the book countersigned, the contract pays
//! in full, if it is settled in time.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::worth::{Worth, worth};
use super::{Claim, HEADS_MAX, Lock, LockRefusal, Paid, Progress, Refusal, SHARDS_MAX, Shard, pairs};
use crate::bytes::{LockId, TranscriptHead};
use crate::transcript::first_head;
use crate::vouchers::{Receipt, Signature, Voucher};

/// What a provider knows of one lock: its shards, their heads, what is paid. Made durable by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderBook {
    lock: Lock,
    id: LockId,
    /// No receipt after this long before the lock's settleBy: what could not be settled any more pays nothing.
    settle_seconds: u64,
    #[serde(with = "pairs")]
    shards: BTreeMap<Shard, Work>,
    /// Worth of all work that was done or is reserved; what was given up under an older fence stays in it.
    done: Worth,
    /// Sum of all fees that were countersigned.
    fees: Worth,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Work {
    fence: u64,
    paid: Paid,
    /// Heads that a voucher may name, oldest first; the newest says what is done.
    heads: VecDeque<Progress>,
    /// Units that may be worked and are not told yet.
    reserved: u64,
}

impl Work {
    fn newest(&self) -> Progress {
        *self.heads.back().expect("a shard begins with its first head, and the newest is never forgotten")
    }
}

/// A voucher that may be countersigned: what to make durable, then to give to [`ProviderBook::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextReceipt {
    shard: Shard,
    paid: Paid,
    receipt: Receipt,
}

impl NextReceipt {
    /// What the provider will sign.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }
}

impl ProviderBook {
    /// Opens the book of a lock whose acceptance is final. `settle_seconds` is how long before settleBy the provider
    /// stops to countersign, so that there is time to settle.
    pub fn open(lock: Lock, settle_seconds: u64) -> Result<Self, LockRefusal> {
        lock.check()?;
        let (work_by, settle_by) = (lock.terms.work_by, lock.terms.settle_by);
        if settle_by - work_by < settle_seconds {
            return Err(LockRefusal::NoTimeToSettle { seconds: settle_by - work_by, settle_seconds });
        }
        let nothing = Worth::default();
        let shards = BTreeMap::new();
        Ok(Self { id: lock.id(), lock, settle_seconds, shards, done: nothing, fees: nothing })
    }

    /// The lock.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Begins a shard, or begins it anew under a higher fence. Work that no voucher's head covers by then is given
    /// up and stays in the sum of unpaid work, reserved units as well; what was paid stays paid, and units are counted
    /// on from it. Returns the transcript's first head.
    pub fn begin(&mut self, shard: Shard, fence: u64) -> Result<TranscriptHead, Refusal> {
        let paid = match self.shards.get(&shard) {
            None if self.shards.len() >= SHARDS_MAX => {
                return Err(Refusal::TooManyShards { maximum: SHARDS_MAX });
            }
            Some(work) if fence <= work.fence => {
                return Err(Refusal::FenceNotAbove { last: work.fence, found: fence });
            }
            before => before.map_or(Paid::NOTHING, |work| work.paid),
        };
        let head = first_head(self.id, shard.job, shard.number, fence);
        let heads = VecDeque::from([Progress { head, units: paid.units_done }]);
        self.shards.insert(shard, Work { fence, paid, heads, reserved: 0 });
        Ok(head)
    }

    /// Reserves so many units of work on a shard, the most that it may come to, before it begins: with them and all
    /// others that are reserved, no more than one increment is unpaid, and the lock can still pay all of it.
    pub fn reserve(&mut self, shard: Shard, units_more: u64, now: u64) -> Result<(), Refusal> {
        let terms = &self.lock.terms;
        if now > terms.work_by {
            return Err(Refusal::TooLate { until: terms.work_by, now });
        }
        let work = self.shards.get_mut(&shard).ok_or(Refusal::ShardUnknown)?;
        let most = u64::MAX - work.newest().units - work.reserved;
        if units_more > most {
            return Err(Refusal::UnitsAhead { maximum: most, found: units_more });
        }
        let done = self.done.plus(worth(units_more, terms.unit_price));
        let (exposure_max, exposed) = (terms.exposure_max(), done.minus(self.fees));
        if exposed > exposure_max.into() {
            return Err(Refusal::AboveExposure { exposure_max, exposed: exposed.wei() });
        }
        if done > terms.cap.into() {
            return Err(Refusal::AboveCap { cap: terms.cap, sum: done.wei() });
        }
        work.reserved += units_more;
        self.done = done;
        Ok(())
    }

    /// Writes down work that was reserved, with the head after it.
    pub fn worked(&mut self, shard: Shard, head: TranscriptHead, units_more: u64) -> Result<(), Refusal> {
        let work = self.shards.get_mut(&shard).ok_or(Refusal::ShardUnknown)?;
        let reserved = work.reserved;
        let left =
            reserved.checked_sub(units_more).ok_or(Refusal::NotReserved { reserved, found: units_more })?;
        let units = work.newest().units + units_more;
        if work.heads.len() == HEADS_MAX {
            work.heads.pop_front();
        }
        work.heads.push_back(Progress { head, units });
        work.reserved = left;
        Ok(())
    }

    /// Gives back what was reserved and not worked. Only for who knows that no work is under way.
    pub fn release(&mut self, shard: Shard) -> Result<(), Refusal> {
        let work = self.shards.get_mut(&shard).ok_or(Refusal::ShardUnknown)?;
        self.done = self.done.minus(worth(work.reserved, self.lock.terms.unit_price));
        work.reserved = 0;
        Ok(())
    }

    /// Whether to countersign. `receipted_under` is the lock under which this provider has a receipt for the same
    /// (buyer, job, shard), if any: the caller keeps that over all locks, and writes it with the result.
    pub fn check(
        &self,
        voucher: &Voucher,
        signature: &Signature,
        claim: &Claim,
        receipted_under: Option<LockId>,
        now: u64,
    ) -> Result<NextReceipt, Refusal> {
        self.check_lock(voucher, receipted_under, now)?;
        let shard = Shard { job: voucher.job, number: voucher.shard };
        let work = self.shards.get(&shard).ok_or(Refusal::ShardUnknown)?;
        check_order(work, voucher)?;
        let progress = work.heads.iter().find(|progress| progress.head == voucher.transcript_head);
        let progress = progress.ok_or(Refusal::HeadUnknown { found: voucher.transcript_head })?;
        self.check_units(work, progress, voucher)?;
        self.check_fee(work, voucher)?;
        signature.verify(&self.lock.domain.voucher_digest(voucher), self.lock.terms.session_key)?;
        let paid = Paid {
            seq: voucher.seq,
            fence: voucher.fence,
            units: voucher.units,
            fee: voucher.cumulative_fee,
            units_done: progress.units,
        };
        let receipt = Receipt {
            voucher_hash: voucher.hash(),
            model_root: self.lock.terms.model_root,
            request_hash: claim.request_hash,
            response_hash: claim.response_hash,
            output_root: claim.output_root,
            usage: voucher.units,
            determinism_class: claim.determinism_class,
            level: claim.level.number(),
        };
        Ok(NextReceipt { shard, paid, receipt })
    }

    /// Takes what was checked, once it is durable, and says what to sign. Refuses what does not come next any more.
    pub fn advance(&mut self, next: &NextReceipt) -> Result<Receipt, Refusal> {
        let cap = self.lock.terms.cap;
        let work = self.shards.get_mut(&next.shard).ok_or(Refusal::ShardUnknown)?;
        if next.paid.fence != work.fence || Some(next.paid.seq) != work.paid.seq.checked_add(1) {
            return Err(Refusal::Stale);
        }
        let fees = self.fees.plus(next.paid.fee.saturating_sub(work.paid.fee));
        if fees > cap.into() {
            return Err(Refusal::AboveCap { cap, sum: fees.wei() });
        }
        work.paid = next.paid;
        // Work only went on since the check: the voucher's head and those behind it stay.
        while work.heads.len() > 1 && work.heads[0].units < next.paid.units_done {
            work.heads.pop_front();
        }
        self.fees = fees;
        Ok(next.receipt)
    }

    /// What the receipts so far pay, in wei: at most the cap.
    pub fn earned(&self) -> u128 {
        self.fees.wei()
    }

    /// Worth of the work so far, reserved or done, that no receipt pays, in wei: at most the increment.
    pub fn exposed(&self) -> u128 {
        self.done.minus(self.fees).wei()
    }

    fn check_lock(
        &self,
        voucher: &Voucher,
        receipted_under: Option<LockId>,
        now: u64,
    ) -> Result<(), Refusal> {
        let terms = &self.lock.terms;
        if voucher.lock != self.id {
            return Err(Refusal::OtherLock { expected: self.id, found: voucher.lock });
        }
        if voucher.provider != terms.provider {
            return Err(Refusal::OtherProvider { expected: terms.provider, found: voucher.provider });
        }
        if voucher.settle_by != terms.settle_by {
            return Err(Refusal::OtherDeadline { expected: terms.settle_by, found: voucher.settle_by });
        }
        let until = terms.settle_by.saturating_sub(self.settle_seconds);
        if now > until {
            return Err(Refusal::TooLate { until, now });
        }
        match receipted_under {
            Some(lock) if lock != self.id => Err(Refusal::ReceiptedElsewhere { lock }),
            _ => Ok(()),
        }
    }

    fn check_units(&self, work: &Work, progress: &Progress, voucher: &Voucher) -> Result<(), Refusal> {
        let found = voucher.units;
        if found < work.paid.units {
            return Err(Refusal::UnitsFell { last: work.paid.units, found });
        }
        if found < progress.units {
            return Err(Refusal::UnitsBelowHead { counted: progress.units, found });
        }
        // A buyer who pays ahead has to name units that are not done yet: the contract wants them for the fee.
        let price = self.lock.terms.unit_price.wei();
        let paid_for = voucher.cumulative_fee.wei().div_ceil(price);
        let paid_for = u64::try_from(paid_for).unwrap_or(u64::MAX);
        let maximum = work.newest().units.max(work.paid.units).max(paid_for);
        if found > maximum {
            return Err(Refusal::UnitsAhead { maximum, found });
        }
        Ok(())
    }

    fn check_fee(&self, work: &Work, voucher: &Voucher) -> Result<(), Refusal> {
        let terms = &self.lock.terms;
        let (last, fee) = (work.paid.fee, voucher.cumulative_fee);
        if fee < last {
            return Err(Refusal::FeeFell { last, found: fee });
        }
        let (exposure_max, added) = (terms.exposure_max(), fee.saturating_sub(last));
        if added > exposure_max {
            return Err(Refusal::AboveIncrement { exposure_max, added });
        }
        if Worth::from(fee) > worth(voucher.units, terms.unit_price) {
            return Err(Refusal::AbovePrice { units: voucher.units, fee });
        }
        let sum = self.fees.plus(added);
        if sum > terms.cap.into() {
            return Err(Refusal::AboveCap { cap: terms.cap, sum: sum.wei() });
        }
        Ok(())
    }
}

fn check_order(work: &Work, voucher: &Voucher) -> Result<(), Refusal> {
    let found = voucher.seq;
    if found != 0 && found <= work.paid.seq {
        return Err(Refusal::AlreadyCountersigned { seq: found });
    }
    let expected = work.paid.seq.checked_add(1).ok_or(Refusal::SeqExhausted)?;
    if found != expected {
        return Err(Refusal::SeqGap { expected, found });
    }
    if voucher.fence != work.fence {
        return Err(Refusal::OtherFence { expected: work.fence, found: voucher.fence });
    }
    Ok(())
}
