//! What each side checks before it signs, so that it loses at most one increment (docs/formats/market.md §5).
//!
//! A [`ProviderBook`] is what a provider must know of an escrow lock to work under it and to countersign its vouchers;
//! a [`BuyerBook`] what a buyer must know to sign the next one. Both are values: `check…` says what comes next or why
//! not and changes nothing, the caller makes that durable, and only then `advance` takes it and the key signs. So a
//! crash between any two steps leaves at most one statement for a seq, and asking again gives the same one.
//!
//! Invariant: with e the lock's increment, work that a provider did and no receipt of its book pays is worth at most e;
//! fees that a buyer signed and no work he verified covers are at most e; fees of a lock are at most its cap.
//! Deliberately does not know whether work is right, clocks, or how anything travels.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::bytes::{Address, ContentRoot, JobId, LockId, TranscriptHead};
use crate::vouchers::{Domain, Level, LockTerms};

mod buyer;
mod provider;
mod refusal;
mod worth;

pub use buyer::{BuyerBook, NextVoucher};
pub use provider::{NextReceipt, ProviderBook};
pub use refusal::{LockRefusal, Refusal};

/// Places of one lock whose receipts a book keeps; a lock for more work is opened anew.
pub const SHARDS_MAX: usize = 65_536;
/// Heads of one shard that a provider still takes vouchers for; of more than so many, the oldest are forgotten.
pub const HEADS_MAX: usize = 256;

/// A shard of a job, as the buyer names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// The job.
    pub job: JobId,
    /// Which piece of it.
    pub number: u32,
}

/// An escrow lock as both sides know it once its acceptance is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Contract and chain.
    pub domain: Domain,
    /// Whose coins are locked.
    pub buyer: Address,
    /// The provider's key at acceptance, as the contract recorded it.
    pub signing_key: Address,
    /// What it was opened under.
    pub terms: LockTerms,
}

impl Lock {
    /// Its name.
    pub fn id(&self) -> LockId {
        self.terms.lock_id(&self.domain, self.buyer)
    }

    /// Checks what makes a lock worth working under: its increment buys a unit and is within the cap, and its times
    /// are ordered. That the chain has it, accepted and final, is for the caller to know.
    pub fn check(&self) -> Result<(), LockRefusal> {
        let terms = &self.terms;
        let exposure_max = terms.exposure_max();
        if terms.unit_price == Amount::ZERO || exposure_max < terms.unit_price {
            return Err(LockRefusal::IncrementBelowUnit { exposure_max, unit_price: terms.unit_price });
        }
        if exposure_max > terms.cap {
            return Err(LockRefusal::IncrementAboveCap { exposure_max, cap: terms.cap });
        }
        let LockTerms { accept_by, work_by, settle_by, .. } = *terms;
        if accept_by >= work_by || work_by >= settle_by {
            return Err(LockRefusal::Times { accept_by, work_by, settle_by });
        }
        Ok(())
    }
}

/// What a receipt says of an increment beyond its voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// BLAKE3 of what was asked in the increment.
    pub request_hash: ContentRoot,
    /// BLAKE3 of what was answered in the increment.
    pub response_hash: ContentRoot,
    /// Content root of the output so far; zero where there is none yet.
    pub output_root: ContentRoot,
    /// BLAKE3 of the class's name; zero where none is claimed.
    pub determinism_class: ContentRoot,
    /// How the work is verified.
    pub level: Level,
}

/// What the newest voucher of a shard says that both sides count on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paid {
    seq: u32,
    fence: u64,
    units: u64,
    fee: Amount,
    /// Units that were done at the voucher's head; a voucher that pays ahead says more.
    units_done: u64,
}

impl Paid {
    const NOTHING: Self = Self { seq: 0, fence: 0, units: 0, fee: Amount::ZERO, units_done: 0 };
}

/// How far the work of a shard has come under a fence: units in all, and the head behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    head: TranscriptHead,
    units: u64,
}

/// `BTreeMap`s by shard as lists of pairs: JSON has text keys only.
mod pairs {
    use std::collections::BTreeMap;

    use serde::de::{DeserializeOwned, Error as _};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Shard;

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        map: &BTreeMap<Shard, T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'a, T: DeserializeOwned, D: Deserializer<'a>>(
        from: D,
    ) -> Result<BTreeMap<Shard, T>, D::Error> {
        let pairs = Vec::<(Shard, T)>::deserialize(from)?;
        let count = pairs.len();
        let map: BTreeMap<_, _> = pairs.into_iter().collect();
        if map.len() == count { Ok(map) } else { Err(D::Error::custom("a shard stands there twice")) }
    }
}

#[cfg(test)]
mod tests;
