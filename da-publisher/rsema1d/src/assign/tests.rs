//! Any third of the stake holds K rows: exhaustively for few signers, with random and hostile stakes for many.

use super::*;
use proptest::prelude::*;

fn drawn(profile: Profile, stakes: &[u128], seed: u8) -> Assignment {
    assign(profile, stakes, &Commitment([seed; 32])).unwrap()
}

/// The largest stake of signers that hold only rows of some K − 1 = 3, by trying all 560 sets.
fn largest_in_three_rows(rows: &[Vec<u32>], stakes: &[u128]) -> u128 {
    let mut largest = 0;
    for set in (0..1u32 << 16).filter(|set| set.count_ones() == 3) {
        let inside = |rows: &[u32]| rows.iter().all(|row| set >> row & 1 == 1);
        let stake = rows.iter().zip(stakes).filter(|(rows, _)| inside(rows)).map(|(_, stake)| stake).sum();
        largest = largest.max(stake);
    }
    largest
}

fn any_third_holds_four(stakes: &[u128]) {
    let assignment = drawn(Profile::Small, stakes, 0);
    let total: u128 = stakes.iter().sum();
    assert!(3 * largest_in_three_rows(&assignment.rows, stakes) < total, "{stakes:?}: {assignment:?}");
    for (signer, stake) in stakes.iter().enumerate() {
        let expected = (12 * stake).div_ceil(total).min(4);
        let rows = assignment.rows_of(signer);
        assert_eq!(u128::try_from(rows.len()).unwrap(), expected, "{stakes:?}: the formula is enough");
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]) && rows.iter().all(|row| *row < 16));
    }
}

#[test]
fn every_way_to_share_out_small_stakes() {
    fn each(left: u128, largest: u128, stakes: &mut Vec<u128>, seen: &mut u32) {
        if left == 0 {
            any_third_holds_four(stakes);
            *seen += 1;
            return;
        }
        for stake in (1..=largest.min(left)).rev() {
            stakes.push(stake);
            each(left - stake, stake, stakes, seen);
            stakes.pop();
        }
    }
    // All partitions of these totals: 77, 231 and 385 of them at 12, 16 and 18. Multiples of 12 meet ⌈⌉ exactly.
    for (total, partitions) in [(12, 77), (16, 231), (18, 385)] {
        let mut seen = 0;
        each(total, total, &mut Vec::new(), &mut seen);
        assert_eq!(seen, partitions);
    }
}

/// The same numbers of rows, given out one after the other in snapshot order as Celestia Fibre does, wrapping
/// around: six of 28 signers hold half of the stake and only three rows.
#[test]
fn one_after_the_other_is_not_enough() {
    let mut stakes = [6u128; 28];
    for heavy in [0, 1, 2, 16, 17, 18] {
        stakes[heavy] = 22;
    }
    let total: u128 = stakes.iter().sum();
    let mut next = 0;
    let wrapped: Vec<Vec<u32>> = stakes
        .iter()
        .map(|stake| {
            let rows = count(Profile::Small, *stake, total, 1);
            next += rows;
            (next - rows..next).map(|slot| slot % 16).collect()
        })
        .collect();
    assert_eq!(largest_in_three_rows(&wrapped, &stakes), total / 2);
    any_third_holds_four(&stakes);
}

/// For the large profile: two signers with a third of the stake, and small ones between them in snapshot order.
#[test]
fn one_after_the_other_is_not_enough_for_many_rows_either() {
    let mut stakes = vec![148u128, 1, 1, 1, 1, 1, 1, 108];
    stakes.extend([100; 5]);
    stakes.extend([6, 0]);
    let total: u128 = stakes.iter().sum();
    assert_eq!(total, 768);
    let mut next = 0;
    let wrapped: Vec<std::collections::BTreeSet<u32>> = stakes
        .iter()
        .map(|stake| {
            let rows = count(Profile::Large, *stake, total, 148);
            next += rows;
            (next - rows..next).map(|slot| slot % 1024).collect()
        })
        .collect();
    assert_eq!(3 * (stakes[0] + stakes[7]), total);
    assert!(wrapped[0].union(&wrapped[7]).count() < 256);
    let assignment = drawn(Profile::Large, &stakes, 1);
    assert!(assignment.distinct_rows([0, 7]) >= 256);
}

/// Looks for a third of the stake with few rows: from each start, always the signer with most stake a new row.
fn greedy_minimum(assignment: &Assignment, stakes: &[u128]) -> usize {
    let total: u128 = stakes.iter().sum();
    let staked: Vec<usize> = (0..stakes.len()).filter(|signer| stakes[*signer] > 0).collect();
    let mut least = usize::MAX;
    for start in &staked {
        let mut chosen = vec![*start];
        while 3 * chosen.iter().map(|signer| stakes[*signer]).sum::<u128>() < total {
            let held = assignment.distinct_rows(chosen.iter().copied());
            let cost = |signer: usize| {
                let more = assignment.distinct_rows(chosen.iter().copied().chain([signer])) - held;
                (u128::try_from(more).unwrap() << 64) / stakes[signer]
            };
            let next = staked.iter().filter(|signer| !chosen.contains(signer)).min_by_key(|s| cost(**s));
            chosen.push(*next.expect("all together hold all stake"));
        }
        least = least.min(assignment.distinct_rows(chosen));
    }
    least
}

#[test]
fn the_large_profile_withstands_a_greedy_search() {
    let equal = |signers: usize| vec![1_000u128; signers];
    let halving: Vec<u128> = (0..40).map(|i| 1 << (60 - i)).collect();
    let steep: Vec<u128> = (1..=60u128).map(|i| 1_000_000 / i).collect();
    let mixed: Vec<u128> = (0..45u128).map(|i| if i < 5 { 150_000 } else { 450 }).collect();
    for stakes in [equal(29), equal(30), equal(64), equal(100), halving, steep, mixed] {
        for seed in 0..3 {
            let assignment = drawn(Profile::Large, &stakes, seed);
            assert!(greedy_minimum(&assignment, &stakes) >= 256, "{} signers, seed {seed}", stakes.len());
            assert_eq!(assignment.floor(), 148, "{} signers, seed {seed}", stakes.len());
        }
    }
}

#[test]
fn places_of_the_large_profile_are_drawn_from_the_commitment() {
    let stakes = vec![1u128; 40];
    assert_ne!(drawn(Profile::Large, &stakes, 1), drawn(Profile::Large, &stakes, 2));
    assert_eq!(drawn(Profile::Large, &stakes, 1), drawn(Profile::Large, &stakes, 1));
    assert_eq!(drawn(Profile::Small, &stakes[..28], 1), drawn(Profile::Small, &stakes[..28], 2));
}

#[test]
fn one_signer_holds_all_it_takes_and_none_without_stake() {
    let assignment = drawn(Profile::Small, &[0, 5, 0], 0);
    assert_eq!(assignment.rows_of(0), &[] as &[u32]);
    assert_eq!(assignment.rows_of(1).len(), 4);
    assert_eq!(assignment.held_rows().len(), 4);
    assert_eq!(assign(Profile::Small, &[0, 0], &Commitment([0; 32])), Err(AssignError::Stake));
    assert_eq!(assign(Profile::Small, &[1 << 96], &Commitment([0; 32])), Err(AssignError::Stake));
    assert_eq!(assign(Profile::Small, &[u128::MAX; 2], &Commitment([0; 32])), Err(AssignError::Stake));
    let error = assign(Profile::Large, &[1; 1025], &Commitment([0; 32]));
    assert_eq!(error, Err(AssignError::Signers { signers: 1025 }));
}

fn stakes(signers: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u128>> {
    let stake = prop_oneof![Just(1u128), 1..=12u128, 1..=1_000u128, 1u128..1 << 60, Just(1000), Just(2000)];
    proptest::collection::vec(stake, signers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn any_third_of_up_to_28_signers_holds_four_rows(stakes in stakes(1..=28)) {
        any_third_holds_four(&stakes);
    }

    /// Heavy signers wherever one-after-the-other would let them meet, dust between.
    #[test]
    fn dust_between_heavy_signers_changes_nothing(
        heavy in proptest::collection::vec((0..28usize, 1..=5u128), 1..8), unit in 1..200u128,
    ) {
        let mut stakes = vec![1u128; 28];
        heavy.iter().for_each(|(at, times)| stakes[*at] = unit * times);
        any_third_holds_four(&stakes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_third_of_many_signers_holds_k_rows(stakes in stakes(29..=48), seed: u8) {
        let assignment = drawn(Profile::Large, &stakes, seed);
        prop_assert!(greedy_minimum(&assignment, &stakes) >= 256);
        for (signer, stake) in stakes.iter().enumerate() {
            let total: u128 = stakes.iter().sum();
            let least = (768 * stake).div_ceil(total).clamp(148, 256);
            prop_assert!(u128::try_from(assignment.rows_of(signer).len()).unwrap() >= least);
        }
    }
}
