//! e to the power of x, the same bits everywhere.
//!
//! Invariant: within 2 units in the last place of the truth from -87 to 88, and held to those ends beyond them. Plain
//! additions and fused multiplications in one order, so that it can stand in loops that become vectors.

/// 1.5 × 2^23: adding it rounds to a whole number, which then is in the low bits.
pub(crate) const ROUNDING: f32 = 12_582_912.0;

const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// e to the power of `x`, where `x` is held to -87 up to 88.
#[inline(always)]
pub fn exponential(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let whole_bits = x.mul_add(std::f32::consts::LOG2_E, ROUNDING);
    let whole = whole_bits - ROUNDING;
    let rest = whole.mul_add(-LN2_HIGH, x);
    let rest = whole.mul_add(-LN2_LOW, rest);
    // Taylor's coefficients, fitted to half a binary order around nought (Cephes).
    let series = 1.987_569_1e-4_f32;
    let series = series.mul_add(rest, 1.398_2e-3);
    let series = series.mul_add(rest, 8.333_452e-3);
    let series = series.mul_add(rest, 4.166_579_6e-2);
    let series = series.mul_add(rest, 1.666_666_5e-1);
    let series = series.mul_add(rest, 0.5);
    let power = series.mul_add(rest * rest, rest) + 1.0;
    // The low bits of the rounded sum are the exponent; shifted into place, and biased.
    power * f32::from_bits((whole_bits.to_bits() << 23).wrapping_add(127 << 23))
}
