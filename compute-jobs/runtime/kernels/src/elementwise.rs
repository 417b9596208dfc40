//! What is done to each number of a row by itself, and sums of a row.
//!
//! Invariant: sums run in as many lanes as a block has, lane `i` taking every number whose place leaves `i`, and lanes
//! are then added in pairs; nothing depends on the width of the processor's vectors.

use crate::exponential::exponential;
use crate::instructions::for_each_set;
use crate::{BLOCK, LANES};

/// Adds lanes in pairs: the upper half onto the lower, until one is left.
#[inline(always)]
pub(crate) fn fold(mut lanes: [f32; LANES], pair: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = pair(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn normalise(row: &[f32], weights: &[f32], epsilon: f32, normalised: &mut [f32]) {
    assert!(row.len() == weights.len() && row.len() == normalised.len(), "rows of one length");
    let mut squares = [0.0f32; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            squares[lane] = chunk[lane].mul_add(chunk[lane], squares[lane]);
        }
    }
    for (lane, value) in chunks.remainder().iter().enumerate() {
        squares[lane] = value.mul_add(*value, squares[lane]);
    }
    let mean = fold(squares, |a, b| a + b) / row.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    for ((to, value), weight) in normalised.iter_mut().zip(row).zip(weights) {
        *to = value * scale * weight;
    }
}

for_each_set! {
    /// Root-mean-square norm: each number of the row over the root of their mean square, times its weight.
    ///
    /// # Panics
    /// Where the three are not of one length.
    normalise = normalise, (row: &[f32], weights: &[f32], epsilon: f32, normalised: &mut [f32])
}

#[inline(always)]
fn gate(gates: &mut [f32], ups: &[f32]) {
    assert_eq!(gates.len(), ups.len(), "rows of one length");
    for (gate, up) in gates.iter_mut().zip(ups) {
        *gate = *gate / (1.0 + exponential(-*gate)) * up;
    }
}

for_each_set! {
    /// SwiGLU: what each gate lets through of `ups`, into `gates`.
    ///
    /// # Panics
    /// Where the two are not of one length.
    gate = gate, (gates: &mut [f32], ups: &[f32])
}

#[inline(always)]
fn add(sums: &mut [f32], more: &[f32]) {
    assert_eq!(sums.len(), more.len(), "rows of one length");
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

for_each_set! {
    /// Adds the one to the other.
    ///
    /// # Panics
    /// Where the two are not of one length.
    add = add, (sums: &mut [f32], more: &[f32])
}

#[inline(always)]
fn rotate(heads: &mut [f32], cosines: &[f32], sines: &[f32]) {
    assert_eq!(cosines.len(), sines.len(), "an angle has both");
    for head in heads.chunks_exact_mut(2 * cosines.len()) {
        for ((pair, cosine), sine) in head.chunks_exact_mut(2).zip(cosines).zip(sines) {
            let (a, b) = (pair[0], pair[1]);
            pair[0] = a * cosine - b * sine;
            pair[1] = a * sine + b * cosine;
        }
    }
}

for_each_set! {
    /// Turns neighbouring pairs of numbers by the angles, in each head alike. A head has two numbers for each angle.
    rotate = rotate, (heads: &mut [f32], cosines: &[f32], sines: &[f32])
}

#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    let rest = chunks.remainder().iter().copied();
    rest.fold(fold(lanes, f32::max), f32::max)
}

for_each_set! {
    /// The greatest number of a row; negative infinity of none. Numbers that are none count for nothing.
    maximum = maximum, (row: &[f32]) -> f32
}

#[inline(always)]
fn exponentials(row: &[f32], shift: f32, factor: f32, powers: &mut [f32]) -> f64 {
    assert_eq!(row.len(), powers.len(), "rows of one length");
    for (to, value) in powers.iter_mut().zip(row) {
        *to = exponential((value - shift) * factor);
    }
    let mut sums = [0.0f64; BLOCK];
    let mut chunks = powers.chunks_exact(BLOCK);
    for chunk in &mut chunks {
        for lane in 0..BLOCK {
            sums[lane] += f64::from(chunk[lane]);
        }
    }
    for (lane, value) in chunks.remainder().iter().enumerate() {
        sums[lane] += f64::from(*value);
    }
    sums.iter().sum()
}

for_each_set! {
    /// e to the power of `(x - shift) × factor` for each number of the row, and the sum of all.
    ///
    /// # Panics
    /// Where the two are not of one length.
    exponentials = exponentials, (row: &[f32], shift: f32, factor: f32, powers: &mut [f32]) -> f64
}
