//! Verification by samples: which units are worked a second time, what counts as the same, and what follows.
//!
//! ```text
//! seed       32 secret bytes of the buyer, one for each job
//! commitment = keccak(0x2a ‖ job ‖ seed)                       told before the first unit is leased
//! sampled    = first 8 bytes of BLAKE3 keyed with seed of (job ‖ shard u32), as a number, is below α · 2⁶⁴
//! ```
//!
//! Invariant: nobody who does not have the seed can tell a sampled unit from another, and once the seed is shown
//! everybody can tell that the choice was made before. A provider that cheats in a share p of N units is found with a
//! probability of 1 − (1 − αp)^N. Deliberately knows nothing of how a unit is worked again or by whom.

use ashlar_compute_api::{ContentRoot, Digest, JobId};
use subtle::ConstantTimeEq as _;

use crate::digest::keccak;
use crate::reputation::Outcome;

const COMMITMENT: u8 = 0x2a;
/// Parts of a whole in which a fraction is given.
pub const PARTS_PER_MILLION: u32 = 1_000_000;
/// The share of units that is sampled unless somebody says otherwise: 2 %.
pub const DEFAULT_FRACTION: Fraction = Fraction(20_000);
/// Natural logarithms may differ by so much across determinism classes, unless the buyer says otherwise.
pub const DEFAULT_TOLERANCE_NATS: f32 = 0.05;

/// A share of units, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fraction(u32);

/// More than all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fraction is at most {PARTS_PER_MILLION} millionths")]
pub struct FractionError;

impl Fraction {
    /// In millionths; all is a million.
    pub const fn from_millionths(millionths: u32) -> Result<Self, FractionError> {
        if millionths > PARTS_PER_MILLION { Err(FractionError) } else { Ok(Self(millionths)) }
    }

    /// As a number from 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(PARTS_PER_MILLION)
    }
}

/// Which units of a job are sampled. The seed is the buyer's secret until the job has ended.
#[derive(Clone)]
pub struct Sampling {
    job: JobId,
    seed: [u8; 32],
    fraction: Fraction,
}

impl std::fmt::Debug for Sampling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampling")
            .field("job", &self.job)
            .field("fraction", &self.fraction)
            .finish_non_exhaustive()
    }
}

impl Sampling {
    /// Of a job, by a seed that is drawn at random and shown to nobody before its end.
    pub fn new(job: JobId, seed: [u8; 32], fraction: Fraction) -> Self {
        Self { job, seed, fraction }
    }

    /// What is told before the work.
    pub fn commitment(&self) -> Digest {
        commitment(self.job, &self.seed)
    }

    /// Whether a unit is worked again.
    pub fn is_sampled(&self, shard: u32) -> bool {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&self.job.0).update(&shard.to_be_bytes());
        let hash = hasher.finalize();
        let (first, _) = hash.as_bytes().split_first_chunk::<8>().expect("a hash has 32 bytes");
        let drawn = u128::from(u64::from_be_bytes(*first));
        // In 128 bits: α · 2⁶⁴ of α = 1 does not fit into 64.
        drawn * u128::from(PARTS_PER_MILLION) < u128::from(self.fraction.0) << 64
    }

    /// The seed, for everybody, once the job has ended.
    pub fn reveal(self) -> [u8; 32] {
        self.seed
    }
}

fn commitment(job: JobId, seed: &[u8; 32]) -> Digest {
    keccak(&[&[COMMITMENT], &job.0, seed])
}

/// Whether a seed that was shown is the one that was committed to.
pub fn is_committed(job: JobId, seed: &[u8; 32], told: &Digest) -> bool {
    commitment(job, seed).0.ct_eq(&told.0).into()
}

/// The probability that a provider that cheats in a share of `units` units is found.
pub fn detection(fraction: Fraction, cheated_share: f64, units: u32) -> f64 {
    1.0 - (1.0 - fraction.share() * cheated_share).powf(f64::from(units))
}

/// What a unit's work gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Worked {
    /// Of the runtime; zero where none is claimed.
    pub determinism_class: ContentRoot,
    /// Rows of numbers: vectors, or log-probabilities of labels.
    pub rows: Vec<Vec<f32>>,
}

/// Whether two results of one unit are the same, and where they are not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Equal bytes inside a determinism class, or within the tolerance across classes.
    Same,
    /// They differ in this row.
    Differs {
        /// Which row.
        row: usize,
        /// By so much at most; infinite where not even the number of values is the same.
        by: f32,
    },
    /// There are more rows in one than in the other.
    RowsDiffer {
        /// Of the provider.
        found: usize,
        /// Of the check.
        expected: usize,
    },
}

/// Holds a provider's result against that of a check. Inside one class every bit counts; across classes, or where one
/// claims none, numbers may differ by the tolerance.
pub fn compare(found: &Worked, expected: &Worked, tolerance: f32) -> Verdict {
    if found.rows.len() != expected.rows.len() {
        return Verdict::RowsDiffer { found: found.rows.len(), expected: expected.rows.len() };
    }
    let class = found.determinism_class;
    let is_one_class = !class.is_zero() && class == expected.determinism_class;
    for (row, (one, other)) in found.rows.iter().zip(&expected.rows).enumerate() {
        if one.len() != other.len() {
            return Verdict::Differs { row, by: f32::INFINITY };
        }
        for (a, b) in one.iter().zip(other) {
            let is_equal = a.to_bits() == b.to_bits();
            let by = (a - b).abs();
            // What is no number is the same only as itself, and so is minus infinity.
            let is_near = !is_one_class && by <= tolerance;
            if !is_equal && !is_near {
                return Verdict::Differs { row, by: if by.is_nan() { f32::INFINITY } else { by } };
            }
        }
    }
    Verdict::Same
}

/// What follows from a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// What the provider's reputation takes down.
    pub outcome: Outcome,
    /// Whether vouchers are signed for work of the job that has none yet.
    pub is_paid_on: bool,
    /// Whether units of the job that this provider finished are worked by another.
    pub is_worked_anew: bool,
}

impl Verdict {
    /// What follows. What was receipted stays paid: the chain takes nothing back.
    pub fn consequence(&self) -> Consequence {
        match self {
            Self::Same => Consequence { outcome: Outcome::Answered, is_paid_on: true, is_worked_anew: false },
            Self::Differs { .. } | Self::RowsDiffer { .. } => {
                Consequence { outcome: Outcome::Mismatched, is_paid_on: false, is_worked_anew: true }
            }
        }
    }
}

#[cfg(test)]
mod tests;
