//! Products of rows with a matrix in panels, with what follows done while the numbers are at hand.
//!
//! The left-hand rows are interleaved in strips that feed one register tile each; a panel is walked in blocks that stay
//! in the first cache. Between blocks a tile rests in the result, as 32-bit floats, so that blocks change no bit.

use pulp::{Simd, WithSimd};

use super::panels::{Floats, Panels};
use super::rows::gelu;

/// Depth that is walked at once: a panel's block and a strip's together stay in half of a first cache, 28 KiB.
const DEPTH_BLOCK: usize = 128;
/// Rows whose strips are made at once: they stay in the second cache with the panel.
pub(crate) const ROWS_BLOCK: usize = 96;

/// What an interleaved block of rows is kept in between products.
pub(crate) type Strips = Floats;

/// `result = f(rows · matrix + bias)`, or `result += rows · matrix + bias`.
pub(crate) struct Multiply<'a> {
    /// The left-hand rows, each `depth` numbers at a multiple of `stride`.
    pub(crate) rows: &'a [f32],
    /// From one row to the next.
    pub(crate) stride: usize,
    /// How many.
    pub(crate) count: usize,
    /// The right-hand side.
    pub(crate) matrix: &'a Panels,
    /// Of each column, or none.
    pub(crate) bias: Option<&'a [f32]>,
    /// Each row's columns at a multiple of `result_stride`.
    pub(crate) result: &'a mut [f32],
    /// From one row to the next.
    pub(crate) result_stride: usize,
    /// Added to what is there, which is not overwritten.
    pub(crate) is_added: bool,
    /// Followed by GELU.
    pub(crate) is_gelu: bool,
    /// Scratch.
    pub(crate) strips: &'a mut Strips,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A tile's accumulators, the panel's vectors and a broadcast fill the registers.
        match (S::REGISTER_COUNT >= 32, self.matrix.vectors) {
            (true, 1) => self.tiles::<S, 8, 1>(simd),
            (true, 2) => self.tiles::<S, 8, 2>(simd),
            (true, _) => self.tiles::<S, 8, 3>(simd),
            (false, 1) => self.tiles::<S, 4, 1>(simd),
            (false, 2) => self.tiles::<S, 4, 2>(simd),
            (false, _) => self.tiles::<S, 4, 3>(simd),
        }
    }
}

/// Interleaves up to `R` rows: depth after depth, a number of each row; rows that are not there are zero.
#[inline(always)]
fn interleave<const R: usize>(rows: &[f32], stride: usize, count: usize, depth: usize, into: &mut [f32]) {
    let (into, _) = into.as_chunks_mut::<R>();
    for row in 0..R {
        if row < count {
            let from = &rows[row * stride..][..depth];
            into.iter_mut().zip(from).for_each(|(into, from)| into[row] = *from);
        } else {
            into.iter_mut().for_each(|into| into[row] = 0.0);
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(self, simd: S) {
        let depth = self.matrix.depth;
        let mut first = 0;
        while first < self.count {
            let rows = ROWS_BLOCK.min(self.count - first);
            let strips = rows.div_ceil(R);
            self.strips.resize(strips * R * depth);
            let interleaved = self.strips.as_mut_slice();
            for (strip, into) in interleaved.chunks_exact_mut(R * depth).enumerate() {
                let row = strip * R;
                let from = &self.rows[(first + row) * self.stride..];
                interleave::<R>(from, self.stride, R.min(rows - row), depth, into);
            }
            for (panel, floats) in self.matrix.panels().enumerate() {
                let column = panel * self.matrix.width();
                let columns = self.matrix.width().min(self.matrix.columns - column);
                let bias = self.bias.map(|bias| &bias[column..column + columns]);
                for begin in (0..depth).step_by(DEPTH_BLOCK) {
                    let end = depth.min(begin + DEPTH_BLOCK);
                    let block = Block {
                        panel: &floats[begin * V * S::F32_LANES..end * V * S::F32_LANES],
                        bias: bias.filter(|_| begin == 0),
                        columns,
                        is_added: self.is_added || begin > 0,
                        is_gelu: self.is_gelu && end == depth,
                    };
                    for (strip, left) in interleaved.chunks_exact(R * depth).enumerate() {
                        let row = strip * R;
                        let result = &mut self.result[(first + row) * self.result_stride + column..];
                        let left = &left[begin * R..end * R];
                        block.tile::<S, R, V>(simd, left, R.min(rows - row), result, self.result_stride);
                    }
                }
            }
            first += rows;
        }
    }
}

/// A panel's block, and what is done with the tiles that it makes.
struct Block<'a> {
    panel: &'a [f32],
    bias: Option<&'a [f32]>,
    columns: usize,
    is_added: bool,
    is_gelu: bool,
}

impl Block<'_> {
    /// One register tile: `R` rows of `V` vectors.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        left: &[f32],
        rows: usize,
        result: &mut [f32],
        stride: usize,
    ) {
        let lanes = S::F32_LANES;
        // Of a row that is there only in part, or not at all, the rest is zero and not written.
        let piece =
            |vector: usize, length: usize| (vector * lanes).min(length)..((vector + 1) * lanes).min(length);
        let is_whole = self.columns == V * lanes;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        if let Some(bias) = self.bias {
            let of_all: [_; V] =
                std::array::from_fn(|vector| simd.partial_load_f32s(&bias[piece(vector, self.columns)]));
            sums = [of_all; R];
        }
        if self.is_added {
            for (row, sums) in sums.iter_mut().enumerate().take(rows) {
                let there = &result[row * stride..][..self.columns];
                let (vectors, _) = S::as_simd_f32s(there);
                for (vector, sum) in sums.iter_mut().enumerate() {
                    let there = match is_whole {
                        true => vectors[vector],
                        false => simd.partial_load_f32s(&there[piece(vector, self.columns)]),
                    };
                    *sum = simd.add_f32s(there, *sum);
                }
            }
        }
        let (left, _) = left.as_chunks::<R>();
        let (right, _) = S::as_simd_f32s(self.panel);
        let (right, _) = right.as_chunks::<V>();
        let sums = add_products(simd, left, right, sums);
        for (row, sums) in sums.iter().enumerate().take(rows) {
            let into = &mut result[row * stride..][..self.columns];
            if is_whole {
                let (vectors, _) = S::as_mut_simd_f32s(into);
                for (into, sum) in vectors.iter_mut().zip(sums) {
                    *into = if self.is_gelu { gelu(simd, *sum) } else { *sum };
                }
                continue;
            }
            for (vector, sum) in sums.iter().enumerate() {
                let sum = if self.is_gelu { gelu(simd, *sum) } else { *sum };
                simd.partial_store_f32s(&mut into[piece(vector, self.columns)], sum);
            }
        }
    }
}

/// The innermost loop. Its sums are a copy that nothing else touches, so that they stay in registers.
#[inline(always)]
fn add_products<S: Simd, const R: usize, const V: usize>(
    simd: S,
    left: &[[f32; R]],
    right: &[[S::f32s; V]],
    begun: [[S::f32s; V]; R],
) -> [[S::f32s; V]; R] {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for row in 0..R {
        for vector in 0..V {
            sums[row][vector] = begun[row][vector];
        }
    }
    for (left, right) in left.iter().zip(right) {
        for row in 0..R {
            let left = simd.splat_f32s(left[row]);
            for vector in 0..V {
                sums[row][vector] = simd.mul_add_f32s(left, right[vector], sums[row][vector]);
            }
        }
    }
    let mut ended = [[simd.splat_f32s(0.0); V]; R];
    for row in 0..R {
        for vector in 0..V {
            ended[row][vector] = sums[row][vector];
        }
    }
    ended
}
