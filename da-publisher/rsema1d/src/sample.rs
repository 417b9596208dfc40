//! Sampling: which random rows to ask for, and what it says when all of them come.
//!
//! Invariant: draws are independent and uniform over the rows that somebody should hold, with an injected source
//! of randomness. Does not fetch.

use std::collections::BTreeSet;

use rand::{Rng, RngCore};

use crate::shape::Profile;

/// Rows drawn for one sampling.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// The distinct rows to fetch.
    pub rows: BTreeSet<u32>,
    /// If they are all served, and fewer than K rows are available to this requester, then what happened had a
    /// chance of at most 2^-bits.
    pub bits: f64,
}

/// Draws `samples` times among `held` rows, repeats included (a row that is drawn twice is asked for once).
///
/// Where at least 4·(K − 1) rows are held, 20 samples give 40 bits: ((K − 1) ÷ held)^20. With very few signers
/// fewer rows are held, and `bits` says what is left of that.
pub fn draw(profile: Profile, held: &[u32], samples: u32, rng: &mut dyn RngCore) -> Draw {
    if held.is_empty() {
        return Draw { rows: BTreeSet::new(), bits: 0.0 };
    }
    let rows: BTreeSet<u32> = (0..samples).map(|_| held[rng.random_range(0..held.len())]).collect();
    let count = u32::try_from(held.len()).unwrap_or(u32::MAX);
    let bits = if rows.len() >= crate::shape::index(profile.original_rows()) {
        f64::from(samples) * (f64::from(count) / f64::from(profile.original_rows() - 1)).log2()
    } else {
        0.0
    };
    Draw { rows, bits: bits.max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn twenty_samples_give_forty_bits() {
        let mut rng = StdRng::seed_from_u64(1);
        for (profile, held) in [(Profile::Small, 12), (Profile::Small, 16), (Profile::Large, 1024)] {
            let held: Vec<u32> = (0..held).collect();
            let draw = draw(profile, &held, 20, &mut rng);
            assert!(draw.rows.iter().all(|row| held.contains(row)));
            assert!(profile == Profile::Large || draw.bits >= 40.0, "{draw:?}");
        }
        let few = draw(Profile::Small, &[0, 3, 7, 9], 20, &mut rng);
        assert!(few.bits > 8.0 && few.bits < 9.0);
        assert_eq!(draw(Profile::Small, &[], 20, &mut rng).bits, 0.0);
    }

    /// The bound against chance: three of twelve rows are there; how often does a sampling see only those?
    #[test]
    fn a_withheld_blob_is_noticed_as_often_as_promised() {
        let mut rng = StdRng::seed_from_u64(2);
        let held: Vec<u32> = (0..12).collect();
        let (mut fooled, rounds) = (0u32, 200_000u32);
        for _ in 0..rounds {
            let drawn: Vec<u32> = draw(Profile::Small, &held, 4, &mut rng).rows.into_iter().collect();
            fooled += u32::from(drawn.iter().all(|row| *row < 3));
        }
        let share = f64::from(fooled) / f64::from(rounds);
        assert!(share < 1.3 / 256.0 && share > 0.7 / 256.0, "{share}, expected (3/12)^4");
    }
}
