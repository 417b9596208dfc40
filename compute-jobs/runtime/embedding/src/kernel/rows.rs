//! What is done to rows between products: layer norm, softmax, GELU, pooling.
//!
//! exp is 2ⁿ times a polynomial, erf a quotient of two; both within a few units of the last place of a float, which the
//! tests hold against 64-bit arithmetic.

use pulp::{Simd, WithSimd};

/// e^x for x ≤ 0. Below -87, where a float would lose precision, as for -87.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |x: f32| simd.splat_f32s(x);
    // 1.5 · 2²³: a sum with it is rounded to a whole number, in its lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = simd.max_f32s(x, splat(-87.0));
    let rounded = simd.mul_add_f32s(x, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let whole = simd.sub_f32s(rounded, splat(ROUND));
    // ln 2 in two pieces, the first with few enough bits to be exact times any such number.
    let rest = simd.mul_add_f32s(whole, splat(-0.693_359_4), x);
    let rest = simd.mul_add_f32s(whole, splat(2.121_944_4e-4), rest);
    let mut sum = splat(1.0 / 5_040.0);
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = simd.mul_add_f32s(sum, rest, splat(term));
    }
    let exponent = simd
        .wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(f32::MANTISSA_DIGITS - 1));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(sum), exponent))
}

/// erf, as the quotient of polynomials in x² that Eigen and XLA use.
#[inline(always)]
pub(super) fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |x: f32| simd.splat_f32s(x);
    // erf is 1 to the last place of a float from here on.
    const END: f32 = 3.832_507;
    let x = simd.min_f32s(simd.max_f32s(x, splat(-END)), splat(END));
    let square = simd.mul_f32s(x, x);
    let mut above = splat(2.290_506_5e-4);
    for term in [3.408_291e-3, 5.095_569_5e-2, 1.852_083_2e-1, std::f32::consts::FRAC_2_SQRT_PI] {
        above = simd.mul_add_f32s(above, square, splat(term));
    }
    let mut below = splat(-1.179_160_3e-7);
    for term in [2.354_796_6e-5, 1.017_962_5e-3, 1.407_047e-2, 1.109_850_5e-1, 4.974_692_5e-1, 1.0] {
        below = simd.mul_add_f32s(below, square, splat(term));
    }
    simd.div_f32s(simd.mul_f32s(x, above), below)
}

/// x · Φ(x).
#[inline(always)]
pub(super) fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let erf = erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2)));
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    simd.mul_add_f32s(half, erf, half)
}

/// The whole vectors of a row, and the numbers behind them as one more with zeros.
#[inline(always)]
fn vectors<S: Simd>(simd: S, row: &[f32]) -> (&[S::f32s], S::f32s) {
    let (whole, rest) = S::as_simd_f32s(row);
    (whole, simd.partial_load_f32s(rest))
}

/// Each row made mean 0 and variance 1, then scaled and moved.
pub(crate) struct LayerNorm<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) scale: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f32,
    /// 1 / length of a row.
    pub(crate) share: f32,
}

impl WithSimd for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.rows.chunks_exact_mut(self.scale.len()) {
            let (whole, rest) = vectors(simd, row);
            let sum = whole.iter().fold(rest, |sum, x| simd.add_f32s(sum, *x));
            let mean = simd.splat_f32s(simd.reduce_sum_f32s(sum) * self.share);
            let (whole, rest) = S::as_mut_simd_f32s(row);
            let mut squares = simd.splat_f32s(0.0);
            for x in whole.iter_mut() {
                *x = simd.sub_f32s(*x, mean);
                squares = simd.mul_add_f32s(*x, *x, squares);
            }
            let moved = simd.sub_f32s(simd.partial_load_f32s(rest), mean);
            simd.partial_store_f32s(rest, moved);
            let moved = simd.partial_load_f32s(rest);
            squares = simd.mul_add_f32s(moved, moved, squares);
            let variance = simd.reduce_sum_f32s(squares) * self.share;
            let factor = simd.splat_f32s(1.0 / (variance + self.epsilon).sqrt());
            let (scale, scale_rest) = vectors(simd, self.scale);
            let (bias, bias_rest) = vectors(simd, self.bias);
            for ((x, scale), bias) in whole.iter_mut().zip(scale).zip(bias) {
                *x = simd.mul_add_f32s(simd.mul_f32s(*x, factor), *scale, *bias);
            }
            let last = simd.mul_add_f32s(simd.mul_f32s(moved, factor), scale_rest, bias_rest);
            simd.partial_store_f32s(rest, last);
        }
    }
}

/// Each row's numbers, times `scale`, as shares of 1 by their exponentials.
pub(crate) struct Softmax<'a> {
    pub(crate) rows: &'a mut [f32],
    /// Numbers of a row.
    pub(crate) length: usize,
    pub(crate) scale: f32,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scale = simd.splat_f32s(self.scale);
        for row in self.rows.chunks_exact_mut(self.length) {
            let (whole, rest) = S::as_mut_simd_f32s(row);
            let largest = simd.splat_f32s(f32::NEG_INFINITY);
            let largest = whole.iter().fold(largest, |largest, x| simd.max_f32s(largest, *x));
            let largest = rest.iter().fold(simd.reduce_max_f32s(largest), |largest, x| largest.max(*x));
            let moved = simd.splat_f32s(-largest * self.scale);
            let mut sum = simd.splat_f32s(0.0);
            for x in whole.iter_mut() {
                *x = exp(simd, simd.mul_add_f32s(*x, scale, moved));
                sum = simd.add_f32s(sum, *x);
            }
            let last = exp(simd, simd.mul_add_f32s(simd.partial_load_f32s(rest), scale, moved));
            simd.partial_store_f32s(rest, last);
            sum = simd.add_f32s(sum, simd.partial_load_f32s(rest));
            let factor = 1.0 / simd.reduce_sum_f32s(sum);
            whole.iter_mut().for_each(|x| *x = simd.mul_f32s(*x, simd.splat_f32s(factor)));
            rest.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// The mean of rows, then, where it is wanted, made length 1.
pub(crate) struct Pool<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) into: &'a mut [f32],
    /// 1 / number of rows.
    pub(crate) share: f32,
    pub(crate) is_normalised: bool,
}

/// Lengths below it are not divided by, as in PyTorch's `normalize`.
const LENGTH_MIN: f32 = 1e-12;

impl WithSimd for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.into.fill(0.0);
        for row in self.rows.chunks_exact(self.into.len()) {
            self.into.iter_mut().zip(row).for_each(|(into, x)| *into += x);
        }
        self.into.iter_mut().for_each(|into| *into *= self.share);
        if self.is_normalised {
            let (whole, rest) = vectors(simd, self.into);
            let squares = simd.mul_f32s(rest, rest);
            let squares = whole.iter().fold(squares, |sum, x| simd.mul_add_f32s(*x, *x, sum));
            let length = simd.reduce_sum_f32s(squares).sqrt().max(LENGTH_MIN);
            self.into.iter_mut().for_each(|into| *into /= length);
        }
    }
}
