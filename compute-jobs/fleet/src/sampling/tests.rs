//! The choice, the rule, and how often cheats are found.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

fn seed() -> u64 {
    let seed = std::env::var("ASHLAR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    eprintln!("ASHLAR_SEED={seed}");
    seed
}

#[test]
fn cheats_are_found_as_often_as_the_fraction_predicts() {
    let mut random = StdRng::seed_from_u64(seed());
    const JOBS: u32 = 20_000;
    for (millionths, cheated, units) in
        [(20_000, 1.0, 50u32), (20_000, 0.25, 200), (100_000, 0.1, 100), (500_000, 0.02, 40)]
    {
        let fraction = Fraction::from_millionths(millionths).unwrap();
        let mut found = 0u32;
        for _ in 0..JOBS {
            let sampling = Sampling::new(JobId(random.random()), random.random(), fraction);
            // The provider cheats where it likes; it does not know the seed.
            let is_found = (0..units).any(|shard| random.random_bool(cheated) && sampling.is_sampled(shard));
            found += u32::from(is_found);
        }
        let (expected, share) = (detection(fraction, cheated, units), f64::from(found) / f64::from(JOBS));
        let deviation = (expected * (1.0 - expected) / f64::from(JOBS)).sqrt();
        // Five standard deviations: once in two million runs by chance.
        assert!(
            (share - expected).abs() < 5.0 * deviation,
            "α {millionths}, p {cheated}, N {units}: {share} for {expected}"
        );
    }
}

#[test]
fn the_choice_is_fixed_by_what_was_committed() {
    let (job, seed) = (JobId([1; 32]), [2; 32]);
    let of = |millionths| Sampling::new(job, seed, Fraction::from_millionths(millionths).unwrap());
    assert!((0..1_000).all(|shard| of(PARTS_PER_MILLION).is_sampled(shard)));
    assert!(!(0..1_000).any(|shard| of(0).is_sampled(shard)));
    // A larger fraction samples what a smaller one does, and more.
    assert!((0..1_000).all(|shard| !of(20_000).is_sampled(shard) || of(100_000).is_sampled(shard)));
    let told = of(20_000).commitment();
    assert!(is_committed(job, &of(20_000).reveal(), &told));
    assert!(!is_committed(job, &[3; 32], &told));
    assert!(!is_committed(JobId([4; 32]), &seed, &told));
    assert!(!format!("{:?}", of(1)).contains("2, 2, 2"), "the seed is not shown");
    assert!(Fraction::from_millionths(PARTS_PER_MILLION + 1).is_err());
}

#[test]
fn inside_a_class_bits_count_and_across_classes_the_tolerance() {
    let result = |class: u8, value: f32| Worked {
        determinism_class: ContentRoot([class; 32]),
        rows: vec![vec![0.5, f32::NEG_INFINITY], vec![value]],
    };
    assert_eq!(compare(&result(1, 0.25), &result(1, 0.25), 0.0), Verdict::Same);
    let near = f32::from_bits(0.25f32.to_bits() + 1);
    let differs = compare(&result(1, near), &result(1, 0.25), 1.0);
    assert!(matches!(differs, Verdict::Differs { row: 1, .. }), "a bit inside a class: {differs:?}");
    assert_eq!(compare(&result(2, near), &result(1, 0.25), 0.01), Verdict::Same);
    assert_eq!(compare(&result(0, near), &result(0, 0.25), 0.01), Verdict::Same, "no class is claimed");
    assert!(matches!(compare(&result(2, 0.5), &result(1, 0.25), 0.01), Verdict::Differs { row: 1, .. }));
    for strange in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(matches!(compare(&result(2, strange), &result(1, 0.25), 0.01), Verdict::Differs { .. }));
    }
    let shorter = Worked { rows: vec![vec![0.5]], ..result(1, 0.0) };
    assert_eq!(compare(&shorter, &result(1, 0.0), 1.0), Verdict::RowsDiffer { found: 1, expected: 2 });
    assert_eq!(Verdict::Same.consequence().outcome, Outcome::Answered);
    let consequence = shorter_row().consequence();
    assert!(!consequence.is_paid_on && consequence.is_worked_anew);
    assert_eq!(consequence.outcome, Outcome::Mismatched);
}

fn shorter_row() -> Verdict {
    Verdict::Differs { row: 0, by: f32::INFINITY }
}

#[test]
fn the_vectors_hold() {
    let vectors = include_str!("../../../../docs/formats/vectors/link.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    for vector in vectors["samples"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let bytes = |name: &str| -> [u8; 32] { hex::decode(text(name)).unwrap().try_into().unwrap() };
        let fraction = Fraction::from_millionths(text("millionths").parse().unwrap()).unwrap();
        let sampling = Sampling::new(JobId(bytes("job")), bytes("seed"), fraction);
        assert_eq!(hex::encode(sampling.commitment().0), text("commitment"));
        let units: u32 = text("units").parse().unwrap();
        let sampled: Vec<u64> =
            (0..units).filter(|shard| sampling.is_sampled(*shard)).map(u64::from).collect();
        let expected: Vec<u64> =
            vector["sampled"].as_array().unwrap().iter().map(|shard| shard.as_u64().unwrap()).collect();
        assert_eq!(sampled, expected);
    }
}
