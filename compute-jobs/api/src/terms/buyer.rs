//! The buyer's side of an escrow lock.
//!
//! Invariant: all fees that the book signed are at most what the verified work is worth and one increment, and at most
//! the cap. A seq is given out once: until its receipt is there, the same voucher is the only one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::worth::{Worth, worth};
use super::{Lock, LockRefusal, Paid, Progress, Refusal, SHARDS_MAX, Shard, pairs};
use crate::amount::Amount;
use crate::bytes::{LockId, TranscriptHead};
use crate::transcript::first_head;
use crate::vouchers::{Receipt, Signature, Voucher};

/// What a buyer knows of one lock: the work that he verified and what he signed for it. Made durable by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuyerBook {
    lock: Lock,
    id: LockId,
    #[serde(with = "pairs")]
    shards: BTreeMap<Shard, Bought>,
    /// Worth of the verified work of all shards; what another fence began anew is not in it.
    verified: Worth,
    /// Sum of all fees that were signed.
    fees: Worth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bought {
    fence: u64,
    signed: Paid,
    /// The voucher that waits for its receipt.
    awaited: Option<Voucher>,
    verified: Progress,
}

/// A voucher that may be signed: what to make durable, then to give to [`BuyerBook::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextVoucher {
    voucher: Voucher,
    units_done: u64,
}

impl NextVoucher {
    /// What the session key will sign.
    pub fn voucher(&self) -> &Voucher {
        &self.voucher
    }
}

impl BuyerBook {
    /// Opens the book of a lock that the provider accepted.
    pub fn open(lock: Lock) -> Result<Self, LockRefusal> {
        lock.check()?;
        let nothing = Worth::default();
        Ok(Self { id: lock.id(), lock, shards: BTreeMap::new(), verified: nothing, fees: nothing })
    }

    /// The lock.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Begins a shard, or begins it anew under a higher fence, from where its last voucher's head was. Refused while a
    /// voucher waits for its receipt: both sides must count on from the same one.
    pub fn begin(&mut self, shard: Shard, fence: u64) -> Result<TranscriptHead, Refusal> {
        let head = first_head(self.id, shard.job, shard.number, fence);
        let signed = match self.shards.get(&shard) {
            None if self.shards.len() >= SHARDS_MAX => {
                return Err(Refusal::TooManyShards { maximum: SHARDS_MAX });
            }
            None => Paid::NOTHING,
            Some(bought) if fence <= bought.fence => {
                return Err(Refusal::FenceNotAbove { last: bought.fence, found: fence });
            }
            Some(Bought { awaited: Some(voucher), .. }) => {
                return Err(Refusal::AwaitingReceipt { seq: voucher.seq });
            }
            Some(bought) => {
                let lost = bought.verified.units - bought.signed.units_done;
                self.verified = self.verified.minus(worth(lost, self.lock.terms.unit_price));
                bought.signed
            }
        };
        let verified = Progress { head, units: signed.units_done };
        self.shards.insert(shard, Bought { fence, signed, awaited: None, verified });
        Ok(head)
    }

    /// Writes down work that arrived and that the buyer recounted: the head that he computed from it himself, and the
    /// shard's units in all.
    pub fn received(&mut self, shard: Shard, head: TranscriptHead, units: u64) -> Result<(), Refusal> {
        let bought = self.shards.get_mut(&shard).ok_or(Refusal::ShardUnknown)?;
        if units < bought.verified.units {
            return Err(Refusal::UnitsFell { last: bought.verified.units, found: units });
        }
        let price = self.lock.terms.unit_price;
        self.verified = self.verified.plus(worth(units - bought.verified.units, price));
        bought.verified = Progress { head, units };
        Ok(())
    }

    /// What all verified units of a shard cost, if that is not more than the next voucher may add: the fee that a
    /// buyer offers who neither pays ahead nor holds back.
    pub fn fee_due(&self, shard: Shard) -> Result<Amount, Refusal> {
        let bought = self.shards.get(&shard).ok_or(Refusal::ShardUnknown)?;
        let terms = &self.lock.terms;
        let last = bought.signed.fee;
        let owed = worth(bought.verified.units, terms.unit_price).minus(last).wei();
        let room = Worth::from(terms.cap).minus(self.fees).wei();
        let added = owed.min(room).min(terms.exposure_max().wei());
        let fee = last.wei() + added;
        Ok(Amount::try_from(fee).expect("it is at most the cap, which is an amount"))
    }

    /// The next voucher of a shard, with which it has cost `fee` in all. Up to one increment of the lock may be paid
    /// ahead of verified work.
    pub fn check(&self, shard: Shard, fee: Amount, now: u64) -> Result<NextVoucher, Refusal> {
        let terms = &self.lock.terms;
        if now > terms.settle_by {
            return Err(Refusal::TooLate { until: terms.settle_by, now });
        }
        let bought = self.shards.get(&shard).ok_or(Refusal::ShardUnknown)?;
        if let Some(voucher) = bought.awaited {
            return Err(Refusal::AwaitingReceipt { seq: voucher.seq });
        }
        let seq = bought.signed.seq.checked_add(1).ok_or(Refusal::SeqExhausted)?;
        self.check_fee(bought, fee)?;
        // Units that the fee needs, where it is paid ahead.
        let needed = fee.wei().div_ceil(terms.unit_price.wei());
        let needed = u64::try_from(needed).map_err(|_| Refusal::AbovePrice { units: u64::MAX, fee })?;
        let voucher = Voucher {
            lock: self.id,
            provider: terms.provider,
            job: shard.job,
            shard: shard.number,
            fence: bought.fence,
            transcript_head: bought.verified.head,
            units: bought.verified.units.max(bought.signed.units).max(needed),
            cumulative_fee: fee,
            seq,
            settle_by: terms.settle_by,
        };
        Ok(NextVoucher { voucher, units_done: bought.verified.units })
    }

    /// Takes what was checked, once it is durable, and says what to sign; from then on it counts as paid. Refuses what
    /// does not come next any more.
    pub fn advance(&mut self, next: &NextVoucher) -> Result<Voucher, Refusal> {
        let voucher = next.voucher;
        let shard = Shard { job: voucher.job, number: voucher.shard };
        let bought = self.shards.get(&shard).ok_or(Refusal::ShardUnknown)?;
        let is_next = Some(voucher.seq) == bought.signed.seq.checked_add(1);
        if voucher.fence != bought.fence || !is_next || bought.awaited.is_some() {
            return Err(Refusal::Stale);
        }
        // Others may have been signed since.
        self.fees = self.check_fee(bought, voucher.cumulative_fee)?;
        let bought = self.shards.get_mut(&shard).ok_or(Refusal::ShardUnknown)?;
        bought.signed = Paid {
            seq: voucher.seq,
            fence: voucher.fence,
            units: voucher.units,
            fee: voucher.cumulative_fee,
            units_done: next.units_done,
        };
        bought.awaited = Some(voucher);
        Ok(voucher)
    }

    /// Verified units of a shard in all; where it was begun anew, at least those of its newest voucher's head.
    pub fn verified_units(&self, shard: Shard) -> Option<u64> {
        Some(self.shards.get(&shard)?.verified.units)
    }

    /// Fee of the shard's newest voucher.
    pub fn signed_fee(&self, shard: Shard) -> Option<Amount> {
        Some(self.shards.get(&shard)?.signed.fee)
    }

    /// The voucher that waits for its receipt: what to send again after a crash.
    pub fn awaited(&self, shard: Shard) -> Option<&Voucher> {
        self.shards.get(&shard)?.awaited.as_ref()
    }

    /// Takes the receipt of the voucher that waits for one.
    pub fn countersigned(
        &mut self,
        shard: Shard,
        receipt: &Receipt,
        signature: &Signature,
    ) -> Result<(), Refusal> {
        let bought = self.shards.get_mut(&shard).ok_or(Refusal::ShardUnknown)?;
        let voucher = bought.awaited.as_ref().ok_or(Refusal::NothingAwaited)?;
        let differs = if receipt.voucher_hash != voucher.hash() {
            Some("voucherHash")
        } else if receipt.model_root != self.lock.terms.model_root {
            Some("modelRoot")
        } else if receipt.usage != voucher.units {
            Some("usage")
        } else {
            None
        };
        if let Some(what) = differs {
            return Err(Refusal::OtherReceipt { what });
        }
        signature.verify(&self.lock.domain.receipt_digest(receipt), self.lock.signing_key)?;
        bought.awaited = None;
        Ok(())
    }

    /// All fees that were signed, in wei: the most that the lock can cost by now.
    pub fn signed(&self) -> u128 {
        self.fees.wei()
    }

    /// The sum of all fees with this one, if it may be signed.
    fn check_fee(&self, bought: &Bought, fee: Amount) -> Result<Worth, Refusal> {
        let terms = &self.lock.terms;
        let last = bought.signed.fee;
        if fee < last {
            return Err(Refusal::FeeFell { last, found: fee });
        }
        let (exposure_max, added) = (terms.exposure_max(), fee.saturating_sub(last));
        if added > exposure_max {
            return Err(Refusal::AboveIncrement { exposure_max, added });
        }
        let sum = self.fees.plus(added);
        let exposed = sum.minus(self.verified);
        if exposed > exposure_max.into() {
            return Err(Refusal::AboveExposure { exposure_max, exposed: exposed.wei() });
        }
        if sum > terms.cap.into() {
            return Err(Refusal::AboveCap { cap: terms.cap, sum: sum.wei() });
        }
        Ok(sum)
    }
}
