//! What the contract `ComputeMarket` would pay: `settle`, `examine` and their checks, in their order.

use std::collections::BTreeMap;

use super::*;
use crate::vouchers::Settlement;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    NotAccepted,
    Late,
    WrongProvider,
    WrongDeadline,
    WrongVoucher,
    WrongModel,
    WrongUsage,
    AbovePrice,
    AboveExposure,
    OtherLock,
    Stale,
    FenceFell,
    FeeFell,
    NotBuyers,
    NotProviders,
}

struct Record {
    fence: u64,
    seq: u32,
    fee: u128,
    lock: LockId,
}

#[derive(Default)]
pub(super) struct Contract {
    accepted: BTreeMap<LockId, (Lock, u128)>,
    records: BTreeMap<(Address, Address, Shard), Record>,
}

impl Contract {
    pub(super) fn of(locks: &[Lock]) -> Self {
        Self { accepted: locks.iter().map(|lock| (lock.id(), (*lock, 0))).collect(), ..Self::default() }
    }

    pub(super) fn paid(&self, lock: &Lock) -> u128 {
        self.accepted[&lock.id()].1
    }

    /// The amount that it pays, or why nothing.
    pub(super) fn settle(&mut self, item: &Settlement, now: u64) -> Result<u128, Outcome> {
        let (voucher, receipt) = (&item.voucher, &item.receipt);
        let (lock, paid) = self.accepted.get_mut(&voucher.lock).ok_or(Outcome::NotAccepted)?;
        let terms = &lock.terms;
        let require = |holds: bool, outcome| if holds { Ok(()) } else { Err(outcome) };
        let (fee, price) = (voucher.cumulative_fee.wei(), terms.unit_price.wei());
        require(now <= terms.settle_by, Outcome::Late)?;
        require(voucher.provider == terms.provider, Outcome::WrongProvider)?;
        require(voucher.settle_by == terms.settle_by, Outcome::WrongDeadline)?;
        require(receipt.voucher_hash == voucher.hash(), Outcome::WrongVoucher)?;
        require(receipt.model_root == terms.model_root, Outcome::WrongModel)?;
        require(receipt.usage == voucher.units, Outcome::WrongUsage)?;
        // Prices of these tests have 64 bits.
        require(fee <= u128::from(voucher.units) * price, Outcome::AbovePrice)?;
        require(fee <= u128::from(voucher.seq) * terms.exposure_max().wei(), Outcome::AboveExposure)?;
        let place = (lock.buyer, terms.provider, Shard { job: voucher.job, number: voucher.shard });
        let nothing = Record { fence: 0, seq: 0, fee: 0, lock: voucher.lock };
        let record = self.records.get(&place).unwrap_or(&nothing);
        require(record.seq == 0 || record.lock == voucher.lock, Outcome::OtherLock)?;
        require(voucher.seq > record.seq, Outcome::Stale)?;
        require(voucher.fence >= record.fence, Outcome::FenceFell)?;
        require(fee >= record.fee, Outcome::FeeFell)?;
        let (session, signing) = (terms.session_key, lock.signing_key);
        let voucher_digest = lock.domain.voucher_digest(voucher);
        require(item.buyer.verify(&voucher_digest, session).is_ok(), Outcome::NotBuyers)?;
        let receipt_digest = lock.domain.receipt_digest(receipt);
        require(item.provider.verify(&receipt_digest, signing).is_ok(), Outcome::NotProviders)?;
        let amount = (fee - record.fee).min(terms.cap.wei() - *paid);
        *paid += amount;
        let fee = record.fee + amount;
        let record = Record { fence: voucher.fence, seq: voucher.seq, fee, lock: voucher.lock };
        self.records.insert(place, record);
        Ok(amount)
    }
}
