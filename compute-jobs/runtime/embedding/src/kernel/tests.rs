//! Kernels beside 64-bit arithmetic, and whether a row's neighbours can change it.

use proptest::prelude::*;
use pulp::{Simd, WithSimd};

use super::rows::{erf, exp};
use super::*;

struct Each<'a>(&'a mut [f32], bool);

impl WithSimd for Each<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (whole, rest) = S::as_mut_simd_f32s(self.0);
        assert!(rest.is_empty(), "a whole number of vectors");
        whole.iter_mut().for_each(|x| *x = if self.1 { erf(simd, *x) } else { exp(simd, *x) });
    }
}

/// erf by its series; all terms positive, so that none cancel.
fn erf_exactly(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200_u32 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()
}

fn points(from: f32, to: f32) -> Vec<f32> {
    let step = (to - from) / 4_095.0;
    (0..4_096_u16).map(|n| from + step * f32::from(n)).collect()
}

#[test]
fn exp_is_exact_to_a_few_units_of_the_last_place() {
    let kernels = Kernels::new();
    let x = points(-80.0, 0.0);
    let mut y = x.clone();
    kernels.run(Each(&mut y, false));
    for (x, y) in x.iter().zip(&y) {
        let exact = f64::from(*x).exp();
        assert!((f64::from(*y) - exact).abs() <= 4e-7 * exact, "exp({x}) = {exact}, not {y}");
    }
    let mut low = vec![-1e30; 64];
    kernels.run(Each(&mut low, false));
    assert!(low.iter().all(|y| (0.0..1e-37).contains(y)));
}

#[test]
fn erf_is_exact_to_a_few_units_of_the_last_place() {
    let x = points(-5.0, 5.0);
    let mut y = x.clone();
    Kernels::new().run(Each(&mut y, true));
    for (x, y) in x.iter().zip(&y) {
        let exact = erf_exactly(f64::from(*x));
        assert!((f64::from(*y) - exact).abs() <= 5e-7, "erf({x}) = {exact}, not {y}");
    }
}

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f32::from(u16::try_from(state >> 16).expect("16 bits")) / 32_768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn multiply(rows: &[f32], depth: usize, matrix: &Panels, bias: &[f32], onto: Option<&[f32]>) -> Vec<f32> {
    let columns = bias.len();
    let count = rows.len() / depth;
    let mut result = onto.map_or_else(|| vec![f32::NAN; count * columns], <[f32]>::to_vec);
    Kernels::new().run(Multiply {
        rows,
        stride: depth,
        count,
        matrix,
        bias: Some(bias),
        result: &mut result,
        result_stride: columns,
        is_added: onto.is_some(),
        is_gelu: false,
        strips: &mut Strips::default(),
    });
    result
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn products_are_right_and_rows_are_alone(
        count in 1_usize..230, depth in 1_usize..450, columns in 1_usize..130, seed: u32,
    ) {
        let rows = numbers(count * depth, seed);
        let matrix = numbers(columns * depth, seed ^ 1);
        let bias = numbers(columns, seed ^ 2);
        let onto = numbers(count * columns, seed ^ 3);
        let panels = Panels::of_transposed(&matrix, depth, columns, Kernels::new().lanes());
        let all = multiply(&rows, depth, &panels, &bias, None);
        let added = multiply(&rows, depth, &panels, &bias, Some(&onto));
        for row in 0..count {
            let of = &rows[row * depth..(row + 1) * depth];
            let alone = multiply(of, depth, &panels, &bias, None);
            prop_assert_eq!(&alone, &all[row * columns..(row + 1) * columns], "row {} alone", row);
            for column in 0..columns {
                let to = &matrix[column * depth..(column + 1) * depth];
                let exact = of.iter().zip(to).fold(f64::from(bias[column]), |sum, (a, b)| {
                    sum + f64::from(*a) * f64::from(*b)
                });
                prop_assert!((f64::from(alone[column]) - exact).abs() < 1e-4);
                let more = exact + f64::from(onto[row * columns + column]);
                prop_assert!((f64::from(added[row * columns + column]) - more).abs() < 1e-4);
            }
        }
        let mut straight = Panels::default();
        let transposed: Vec<f32> =
            (0..depth).flat_map(|d| (0..columns).map(|c| matrix[c * depth + d]).collect::<Vec<_>>()).collect();
        straight.fill(&transposed, columns, depth, columns, Kernels::new().lanes());
        prop_assert_eq!(multiply(&rows, depth, &straight, &bias, None), all);
    }

    #[test]
    fn norms_and_shares_are_right(length in 1_usize..300, seed: u32) {
        let row = numbers(length, seed);
        let (scale, bias) = (numbers(length, seed ^ 1), numbers(length, seed ^ 2));
        let exact: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let share = crate::forward::share(length);
        let mut normal = row.clone();
        let kernels = Kernels::new();
        kernels.run(LayerNorm { rows: &mut normal, scale: &scale, bias: &bias, epsilon: 1e-5, share });
        let mean = exact.iter().sum::<f64>() * f64::from(share);
        let variance = exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() * f64::from(share);
        for at in 0..length {
            let y = (exact[at] - mean) / (variance + 1e-5).sqrt() * f64::from(scale[at]) + f64::from(bias[at]);
            prop_assert!((f64::from(normal[at]) - y).abs() < 2e-5, "{} {}", normal[at], y);
        }
        let mut shares = row.clone();
        kernels.run(Softmax { rows: &mut shares, length, scale: 3.0 });
        let sum: f64 = exact.iter().map(|x| (3.0 * x).exp()).sum();
        for at in 0..length {
            prop_assert!((f64::from(shares[at]) - (3.0 * exact[at]).exp() / sum).abs() < 1e-6);
        }
        let mut pooled = vec![0.0; length];
        kernels.run(Pool { rows: &row, into: &mut pooled, share: 1.0, is_normalised: true });
        let norm = exact.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
        for at in 0..length {
            prop_assert!((f64::from(pooled[at]) - exact[at] / norm).abs() < 1e-6);
        }
    }
}
