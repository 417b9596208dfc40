//! Every set of instructions against plain arithmetic in double precision, and bit for bit against each other; rows
//! alone against rows together.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use half::f16;
use proptest::prelude::*;

use crate::{AttentionShape, BLOCK, Kernels, PAGE_POSITIONS, PackError, Packed, QuantisedRows, exponential};

/// Numbers that look like any, from a seed.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(next).collect()
}

fn bytes(count: usize, seed: u64) -> Vec<u8> {
    numbers(count, seed).iter().map(|number| (number * 127.0) as i8 as u8).collect()
}

/// Blocks of `Q4_1` (with minima), `Q4_0` or `Q8_0`.
fn blocks(count: usize, codes: usize, halves: usize, seed: u64) -> Vec<u8> {
    let facts = numbers(count * halves, seed);
    let codes_of = bytes(count * codes, seed ^ 0x5555);
    let mut blocks = Vec::new();
    for block in 0..count {
        for half in 0..halves {
            blocks.extend(f16::from_f32(facts[block * halves + half] * 0.1).to_le_bytes());
        }
        blocks.extend(&codes_of[block * codes..(block + 1) * codes]);
    }
    blocks
}

fn weights(outputs: usize, inputs: usize, seed: u64) -> Vec<Packed> {
    let count = outputs * inputs / BLOCK;
    let plain: Vec<u8> =
        numbers(outputs * inputs, seed).iter().flat_map(|number| number.to_le_bytes()).collect();
    vec![
        Packed::from_q4_1(&blocks(count, 16, 2, seed), outputs, inputs).unwrap(),
        Packed::from_q4_0(&blocks(count, 16, 1, seed), outputs, inputs).unwrap(),
        Packed::from_q8_0(&blocks(count, 32, 1, seed), outputs, inputs).unwrap(),
        Packed::from_f32(&plain, outputs, inputs).unwrap(),
    ]
}

fn multiply(kernels: Kernels, weights: &Packed, rows: &[f32]) -> Vec<f32> {
    let mut products = vec![0.0; rows.len() / weights.inputs() * weights.outputs()];
    if weights.is_quantised() {
        let mut quantised = QuantisedRows::default();
        quantised.quantise(kernels, rows, weights.inputs());
        kernels.multiply_quantised(weights, &quantised, &mut products);
    } else {
        kernels.multiply_dense(weights, rows, &mut products);
    }
    products
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn rows_of_a_file_come_back() {
    let (outputs, inputs) = (3, 64);
    let packed = blocks(outputs * inputs / BLOCK, 16, 2, 9);
    let weights = Packed::from_q4_1(&packed, outputs, inputs).unwrap();
    let mut row = vec![0.0; inputs];
    for (output, blocks) in packed.chunks(2 * 20).enumerate() {
        weights.row(output, &mut row);
        for (block, told) in blocks.chunks(20).zip(row.chunks(BLOCK)) {
            let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            for (at, told) in told.iter().enumerate() {
                let code = if at < 16 { block[4 + at] & 15 } else { block[4 + at - 16] >> 4 };
                assert_eq!(*told, f32::from(code) * half(0) + half(2));
            }
        }
    }
    let packed = blocks(outputs * inputs / BLOCK, 32, 1, 9);
    let weights = Packed::from_q8_0(&packed, outputs, inputs).unwrap();
    weights.row(2, &mut row);
    let block = &packed[4 * 34..5 * 34];
    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
    assert_eq!(row[7], f32::from(block[2 + 7] as i8) * scale);
}

#[test]
fn what_is_no_weight_is_refused() {
    let shape = Err(PackError::Shape { outputs: 1, inputs: 33 });
    assert_eq!(Packed::from_q8_0(&[], 1, 33).map(|_| ()), shape);
    let length = Err(PackError::Length { found: 33, expected: 34 });
    assert_eq!(Packed::from_q8_0(&[0; 33], 1, 32).map(|_| ()), length);
    let huge = Packed::from_q4_1(&[], usize::MAX, 32).map(|_| ());
    assert!(matches!(huge, Err(PackError::Length { .. })));
    let mut infinite = [0; 34];
    infinite[..2].copy_from_slice(&f16::INFINITY.to_le_bytes());
    assert_eq!(Packed::from_q8_0(&infinite, 1, 32).map(|_| ()), Err(PackError::NotFinite { output: 0 }));
}

#[test]
fn the_exponential_is_near_the_truth() {
    let mut x = -87.0f32;
    while x < 88.0 {
        let (told, truth) = (f64::from(exponential(x)), f64::from(x).exp());
        assert!((told / truth - 1.0).abs() < 2.5e-7, "{x}: {told} {truth}");
        x += 0.003_7;
    }
    assert_eq!(exponential(0.0), 1.0);
    assert!(exponential(f32::NEG_INFINITY) < 1e-37 && exponential(f32::INFINITY).is_finite());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_are_the_same_bits_everywhere(
        outputs in 1usize..50, blocks in 1usize..9, rows in 1usize..20, seed in any::<u64>(),
    ) {
        let inputs = blocks * BLOCK;
        let activations = numbers(rows * inputs, !seed);
        for weights in weights(outputs, inputs, seed) {
            let all: Vec<_> =
                Kernels::available().iter().map(|kernels| multiply(*kernels, &weights, &activations)).collect();
            let mut row = vec![0.0; inputs];
            for (at, told) in all[0].iter().enumerate() {
                weights.row(at % outputs, &mut row);
                let values = &activations[at / outputs * inputs..(at / outputs + 1) * inputs];
                let pairs = || row.iter().zip(values).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (truth, size) = (pairs().sum::<f64>(), pairs().map(f64::abs).sum::<f64>());
                let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                let sizes: f64 = row.iter().map(|w| f64::from(w.abs())).sum();
                let rounding = if weights.is_quantised() { sizes * f64::from(largest) / 254.0 } else { 0.0 };
                prop_assert!((f64::from(*told) - truth).abs() <= rounding + 1e-5 * (size + sizes) + 1e-6);
            }
            for (set, products) in Kernels::available().iter().zip(&all) {
                prop_assert_eq!(bits(products), bits(&all[0]), "{}", set.name());
                for (row, together) in activations.chunks(inputs).zip(products.chunks(outputs)) {
                    prop_assert_eq!(bits(&multiply(*set, &weights, row)), bits(together), "alone");
                }
            }
        }
    }

    #[test]
    fn attention_is_the_same_bits_in_any_portions(
        key_heads in 1usize..3, shared in 1usize..4, wide in 1usize..3, positions in 1usize..70, seed in any::<u64>(),
    ) {
        let shape = AttentionShape { heads: key_heads * shared, key_heads, dimensions: 16 * wide };
        let numbers_of = shape.heads * shape.dimensions;
        let queries = numbers(positions * numbers_of, seed);
        let keys = numbers(positions * key_heads * shape.dimensions, seed ^ 1 << 20);
        let values = numbers(positions * key_heads * shape.dimensions, seed ^ 1 << 30);
        let count = positions.div_ceil(PAGE_POSITIONS);
        let mut pages = vec![vec![0.0; shape.page_numbers()]; count];
        let step = key_heads * shape.dimensions;
        for (position, (keys, values)) in keys.chunks(step).zip(values.chunks(step)).enumerate() {
            shape.store(&mut pages[position / PAGE_POSITIONS], position % PAGE_POSITIONS, keys, values);
        }
        let pages: Vec<&[f32]> = pages.iter().map(Vec::as_slice).collect();
        let mut scores = vec![f32::NAN; 3];
        let mut first = None;
        for kernels in Kernels::available() {
            let mut together = vec![0.0; queries.len()];
            kernels.attend(&shape, &queries, 0, &pages, &mut scores, &mut together);
            for (position, query) in queries.chunks(numbers_of).enumerate() {
                let mut alone = vec![0.0; numbers_of];
                let seen = &pages[..=position / PAGE_POSITIONS];
                kernels.attend(&shape, query, position, seen, &mut scores, &mut alone);
                prop_assert_eq!(bits(&alone), bits(&together[position * numbers_of..][..numbers_of]));
            }
            prop_assert_eq!(bits(first.get_or_insert_with(|| together.clone())), bits(&together));
        }
        let told = first.unwrap();
        let (position, head) = (positions - 1, shape.heads - 1);
        let query = &queries[(position * shape.heads + head) * shape.dimensions..][..shape.dimensions];
        let of = |from: &[f32], position: usize| {
            from[(position * key_heads + head / shared) * shape.dimensions..][..shape.dimensions].to_vec()
        };
        let score = |position| {
            let pairs = query.iter().zip(of(&keys, position));
            pairs.map(|(q, k)| f64::from(*q) * f64::from(k)).sum::<f64>() / (shape.dimensions as f64).sqrt()
        };
        let powers: Vec<f64> = (0..positions).map(|position| score(position).exp()).collect();
        let total: f64 = powers.iter().sum();
        for dimension in 0..shape.dimensions {
            let parts = powers.iter().enumerate();
            let truth: f64 = parts.map(|(at, power)| power / total * f64::from(of(&values, at)[dimension])).sum();
            let told = told[(position * shape.heads + head) * shape.dimensions + dimension];
            prop_assert!((f64::from(told) - truth).abs() < 1e-5);
        }
    }

    #[test]
    fn rows_are_the_same_bits_everywhere(count in 1usize..200, seed in any::<u64>()) {
        let (row, weights) = (numbers(count, seed), numbers(count, !seed));
        let all: Vec<_> = Kernels::available().into_iter().map(|kernels| {
            let mut normalised = vec![0.0; count];
            kernels.normalise(&row, &weights, 1e-5, &mut normalised);
            let mut gates = row.clone();
            kernels.gate(&mut gates, &weights);
            kernels.add(&mut gates, &row);
            let mut heads = numbers(64, seed);
            kernels.rotate(&mut heads, &numbers(16, seed), &numbers(16, !seed));
            let mut powers = vec![0.0; count];
            let sum = kernels.exponentials(&row, kernels.maximum(&row), 1.5, &mut powers);
            [bits(&normalised), bits(&gates), bits(&heads), bits(&powers), vec![(sum as f32).to_bits()]]
        }).collect();
        prop_assert!(all.iter().all(|told| told == &all[0]));
        let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        let truth = f64::from(row[0]) / (squares / count as f64 + 1e-5).sqrt() * f64::from(weights[0]);
        prop_assert!((f64::from(f32::from_bits(all[0][0][0])) - truth).abs() < 1e-5 * (1.0 + truth.abs()));
    }
}
