//! Rows of activations as bytes with a scale for each block, as quantised weights are multiplied with.
//!
//! Invariant: a row's bytes follow from that row alone. Codes are within ±127.

use crate::exponential::ROUNDING;
use crate::instructions::for_each_set;
use crate::{BLOCK, Kernels};

/// Rows of one length, in blocks of 32 codes. Keeps its memory from one use to the next.
#[derive(Clone, Debug, Default)]
pub struct QuantisedRows {
    pub(crate) blocks: usize,
    pub(crate) codes: Vec<i8>,
    /// What a code of the block stands for.
    pub(crate) scales: Vec<f32>,
    /// The sum of the block's codes, times its scale.
    pub(crate) sums: Vec<f32>,
    /// The sum of the block's codes, times -128.
    pub(crate) offsets: Vec<i32>,
}

/// One row of [`QuantisedRows`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowView<'a> {
    pub(crate) codes: &'a [i8],
    pub(crate) scales: &'a [f32],
    pub(crate) sums: &'a [f32],
    pub(crate) offsets: &'a [i32],
}

impl QuantisedRows {
    /// Takes rows of `inputs` numbers each in place of those before.
    ///
    /// # Panics
    /// Where `inputs` is no whole number of blocks, or the rows are not whole.
    pub fn quantise(&mut self, kernels: Kernels, rows: &[f32], inputs: usize) {
        assert!(
            inputs > 0 && inputs.is_multiple_of(BLOCK) && rows.len().is_multiple_of(inputs),
            "whole blocks"
        );
        let blocks = rows.len() / BLOCK;
        self.blocks = inputs / BLOCK;
        self.codes.resize(rows.len(), 0);
        self.scales.resize(blocks, 0.0);
        self.sums.resize(blocks, 0.0);
        self.offsets.resize(blocks, 0);
        kernels.quantise_blocks(rows, &mut self.codes, &mut self.scales, &mut self.sums, &mut self.offsets);
    }

    pub(crate) fn rows(&self) -> usize {
        self.scales.len() / self.blocks.max(1)
    }

    pub(crate) fn row(&self, row: usize) -> RowView<'_> {
        let blocks = row * self.blocks..(row + 1) * self.blocks;
        RowView {
            codes: &self.codes[blocks.start * BLOCK..blocks.end * BLOCK],
            scales: &self.scales[blocks.clone()],
            sums: &self.sums[blocks.clone()],
            offsets: &self.offsets[blocks],
        }
    }
}

#[inline(always)]
fn quantise_blocks(
    rows: &[f32],
    codes: &mut [i8],
    scales: &mut [f32],
    sums: &mut [f32],
    offsets: &mut [i32],
) {
    let blocks = rows.chunks_exact(BLOCK).zip(codes.chunks_exact_mut(BLOCK));
    let facts = scales.iter_mut().zip(sums).zip(offsets);
    for ((block, codes), ((scale, scaled), offset)) in blocks.zip(facts) {
        let mut lanes = [0.0f32; BLOCK];
        for lane in 0..BLOCK {
            lanes[lane] = block[lane].abs();
        }
        let mut half = BLOCK / 2;
        while half > 0 {
            for lane in 0..half {
                let (a, b) = (lanes[lane], lanes[lane + half]);
                lanes[lane] = if a > b { a } else { b };
            }
            half /= 2;
        }
        let largest = lanes[0];
        let inverse = 127.0 / largest;
        // Of a block of noughts, and of one so small that its inverse is no number, nothing is left.
        let (inverse, unit) = if inverse.is_finite() { (inverse, largest / 127.0) } else { (0.0, 0.0) };
        let mut sum = 0i32;
        for lane in 0..BLOCK {
            // The low byte of the rounded sum is the code. What is no number falls within the byte like any other.
            let bits = block[lane].mul_add(inverse, ROUNDING).to_bits();
            let code = i32::from_ne_bytes((bits << 24).to_ne_bytes()) >> 24;
            sum += code;
            codes[lane] = code as i8;
        }
        *scale = unit;
        *scaled = unit * sum as f32;
        *offset = sum * -128;
    }
}

for_each_set! {
    /// Blocks of 32 numbers as codes, with each block's scale, scaled sum and sum times -128.
    quantise_blocks = quantise_blocks,
    (rows: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32], offsets: &mut [i32])
}
