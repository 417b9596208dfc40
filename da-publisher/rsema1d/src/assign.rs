//! Who holds which rows.
//!
//! Invariant: any signers with a third of the stake together hold K distinct rows. That does not follow from the
//! number of rows each signer gets (see `one_after_the_other_is_not_enough` in the tests), so it is *shown* for
//! every assignment before it is given out, and where it cannot be shown, signers with little stake get more.
//! Does not know keys, nodes or bytes.
//!
//! A signer with stake s of S gets r = min(K, max(floor, ⌈3·K·s ÷ S⌉)) rows. A signer with K rows needs nobody.
//! The others weigh s ÷ r on each of their rows and choose, heaviest weight first, the rows that weigh least so
//! far. Signers who together hold fewer than K rows have no more stake than K − 1 rows weigh; so the K − 1
//! heaviest rows must weigh less than a third of the stake. If they do not, the floor is doubled; at a floor of
//! K it always holds.

use crate::encode::Commitment;
use crate::hash;
use crate::shape::{Profile, index};

/// The most signers of a snapshot.
pub const SIGNERS_MAX: usize = 1024;
/// The total stake is below 2^96, so that weights fit 128 bits.
pub const STAKE_BITS_MAX: u32 = 96;
/// Binary digits after the point in weights.
const WEIGHT_BITS: u32 = 24;

/// The rows of every signer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    profile: Profile,
    rows: Vec<Vec<u32>>,
    floor: u32,
}

impl Assignment {
    /// The rows of a signer in ascending order; none where it has no stake or does not exist.
    pub fn rows_of(&self, signer: usize) -> &[u32] {
        self.rows.get(signer).map_or(&[], Vec::as_slice)
    }

    /// The signers that hold a row, in snapshot order.
    pub fn holders_of(&self, row: u32) -> impl Iterator<Item = usize> {
        let holds = move |rows: &&Vec<u32>| rows.binary_search(&row).is_ok();
        self.rows.iter().enumerate().filter(move |(_, rows)| holds(rows)).map(|(signer, _)| signer)
    }

    /// The rows that somebody holds, in ascending order. With few signers that is not every row.
    pub fn held_rows(&self) -> Vec<u32> {
        (0..self.profile.rows()).filter(|row| self.holders_of(*row).next().is_some()).collect()
    }

    /// How many distinct rows these signers hold together.
    pub fn distinct_rows(&self, signers: impl IntoIterator<Item = usize>) -> usize {
        let mut held = vec![false; index(self.profile.rows())];
        signers.into_iter().flat_map(|signer| self.rows_of(signer)).for_each(|row| held[index(*row)] = true);
        held.into_iter().filter(|held| *held).count()
    }

    /// The least rows of a signer with stake: more than the profile's where stakes are lopsided.
    pub fn floor(&self) -> u32 {
        self.floor
    }
}

/// Assigns rows to the signers of a snapshot, whose `stakes` are in snapshot order. Deterministic. In
/// [`Profile::Large`] places are drawn from the commitment, so that an encoder cannot know who will check which
/// row before all rows are fixed; in [`Profile::Small`] they follow from the stakes alone.
pub fn assign(profile: Profile, stakes: &[u128], commitment: &Commitment) -> Result<Assignment, AssignError> {
    let signers = stakes.len();
    if signers > SIGNERS_MAX {
        return Err(AssignError::Signers { signers });
    }
    let total = stakes.iter().try_fold(0u128, |sum, stake| sum.checked_add(*stake)).unwrap_or(u128::MAX);
    if total == 0 || total >> STAKE_BITS_MAX != 0 {
        return Err(AssignError::Stake);
    }
    let ranks = ranks(profile, commitment);
    let mut floor = profile.rows_per_signer_min();
    loop {
        let (assignment, is_shown) = attempt(profile, stakes, total, floor, &ranks);
        if is_shown {
            return Ok(assignment);
        }
        assert!(floor < profile.original_rows(), "with K rows each, nobody weighs on any row");
        floor = (2 * floor).min(profile.original_rows());
    }
}

/// In which order equally light rows are taken.
fn ranks(profile: Profile, commitment: &Commitment) -> Vec<u64> {
    match profile {
        Profile::Small => (0..u64::from(profile.rows())).collect(),
        Profile::Large => {
            let mut bytes = vec![0; 8 * index(profile.rows())];
            hash::ASSIGNMENT.clone().update(&commitment.0).finalize_xof().fill(&mut bytes);
            bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect()
        }
    }
}

/// How many rows a signer gets.
fn count(profile: Profile, stake: u128, total: u128, floor: u32) -> u32 {
    if stake == 0 {
        return 0;
    }
    let proportional = (u128::from(profile.parity_rows()) * stake).div_ceil(total);
    let cap = profile.original_rows();
    u32::try_from(proportional).unwrap_or(cap).max(floor).min(cap)
}

/// One row while rows are given out.
#[derive(Clone, Copy)]
struct Slot {
    row: u32,
    weight: u128,
    holders: u32,
    rank: u64,
}

/// The assignment with this floor, and whether the invariant is shown to hold for it.
fn attempt(profile: Profile, stakes: &[u128], total: u128, floor: u32, ranks: &[u64]) -> (Assignment, bool) {
    let cap = profile.original_rows();
    let counts: Vec<u32> = stakes.iter().map(|stake| count(profile, *stake, total, floor)).collect();
    // Heaviest weight first, s ÷ r compared crosswise; those with K rows last, as they weigh nothing.
    let mut order: Vec<usize> = (0..stakes.len()).filter(|signer| counts[*signer] > 0).collect();
    order.sort_by(|a, b| {
        let is_full = |signer: usize| counts[signer] == cap;
        let crosswise = |signer: usize, other: usize| stakes[signer] * u128::from(counts[other]);
        is_full(*a).cmp(&is_full(*b)).then(crosswise(*b, *a).cmp(&crosswise(*a, *b))).then(a.cmp(b))
    });
    let mut slots: Vec<Slot> = (0..profile.rows())
        .zip(ranks)
        .map(|(row, rank)| Slot { row, weight: 0, holders: 0, rank: *rank })
        .collect();
    let mut rows = vec![Vec::new(); stakes.len()];
    for signer in order {
        if counts[signer] == cap {
            slots.sort_by_key(|slot| (slot.holders, slot.rank, slot.row));
        } else {
            slots.sort_by_key(|slot| (slot.weight, slot.rank, slot.row));
        }
        let is_weighed = counts[signer] < cap;
        let weight = (stakes[signer] << WEIGHT_BITS).div_ceil(u128::from(counts[signer]));
        for slot in &mut slots[..index(counts[signer])] {
            slot.weight += if is_weighed { weight } else { 0 };
            slot.holders += 1;
            rows[signer].push(slot.row);
        }
        rows[signer].sort_unstable();
    }
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.weight));
    let heaviest: u128 = slots[..index(cap) - 1].iter().map(|slot| slot.weight).sum();
    (Assignment { profile, rows, floor }, 3 * heaviest < total << WEIGHT_BITS)
}

/// There is no assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// Too many signers.
    #[error("{signers} signers, at most {SIGNERS_MAX} are allowed")]
    Signers {
        /// As found.
        signers: usize,
    },
    /// No stake, or too much.
    #[error("the total stake must be positive and below 2^{STAKE_BITS_MAX}")]
    Stake,
}

#[cfg(test)]
mod tests;
