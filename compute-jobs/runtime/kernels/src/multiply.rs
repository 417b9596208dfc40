//! Rows times weights.
//!
//! Invariant: each weight is read once for all rows, sixteen outputs at a time; how rows are taken together changes no
//! bit of what any of them gets.

use std::ops::Range;

use crate::instructions::Set;
use crate::packed::Form;
use crate::rows::RowView;
use crate::tiles::{self, BytesGroup, NibblesGroup};
use crate::{BLOCK, Kernels, LANES, Packed, QuantisedRows};

/// Rows that are taken together at most.
pub(crate) const TILE_ROWS: usize = 8;

/// Runs with as many rows as there are, one to eight, each number as a kernel of its own.
macro_rules! tiled {
    ($count:expr, $view:ident, |$rows:ident| $body:expr) => {
        match $count {
            1 => tiled!(@ 1, $view, $rows, $body),
            2 => tiled!(@ 2, $view, $rows, $body),
            3 => tiled!(@ 3, $view, $rows, $body),
            4 => tiled!(@ 4, $view, $rows, $body),
            5 => tiled!(@ 5, $view, $rows, $body),
            6 => tiled!(@ 6, $view, $rows, $body),
            7 => tiled!(@ 7, $view, $rows, $body),
            _ => tiled!(@ 8, $view, $rows, $body),
        }
    };
    (@ $number:literal, $view:ident, $rows:ident, $body:expr) => {{
        let $rows: [_; $number] = std::array::from_fn($view);
        $body
    }};
}

/// Groups of outputs whose weights are read again for each tile of rows: they fit in a core's second cache.
const NEAR_GROUPS: usize = 8;

/// The kernel of a form of weights, for any number of rows.
trait TileKernel<G> {
    fn tile<const R: usize>(&self, kernels: Kernels, group: &G, rows: &[RowView<'_>; R]) -> Tile<R>;
}

struct Nibbles;

impl TileKernel<NibblesGroup<'_>> for Nibbles {
    fn tile<const R: usize>(
        &self,
        kernels: Kernels,
        group: &NibblesGroup<'_>,
        rows: &[RowView<'_>; R],
    ) -> Tile<R> {
        kernels.nibbles(group, rows)
    }
}

struct Bytes;

impl TileKernel<BytesGroup<'_>> for Bytes {
    fn tile<const R: usize>(
        &self,
        kernels: Kernels,
        group: &BytesGroup<'_>,
        rows: &[RowView<'_>; R],
    ) -> Tile<R> {
        kernels.bytes(group, rows)
    }
}

/// Puts what a tile gave where it belongs; outputs that only fill the last group up are left out.
#[inline(always)]
fn store<const R: usize>(tile: &Tile<R>, row: usize, group: usize, outputs: usize, products: &mut [f32]) {
    let first = group * LANES;
    for (at, lanes) in tile.iter().enumerate() {
        let to = (row + at) * outputs + first;
        match products.get_mut(to..to + LANES) {
            Some(places) if first + LANES <= outputs => places.copy_from_slice(lanes),
            _ => {
                let wanted = outputs - first;
                products[to..to + wanted].copy_from_slice(&lanes[..wanted]);
            }
        }
    }
}

/// What a tile of rows gets from sixteen outputs.
pub(crate) type Tile<const R: usize> = [[f32; LANES]; R];

impl Kernels {
    /// Multiplies quantised rows with quantised weights; products of a row are `weights.outputs()` numbers.
    ///
    /// # Panics
    /// Where rows and weights have not as many inputs, the weights are not quantised, or `products` has not a place
    /// for each product.
    pub fn multiply_quantised(self, weights: &Packed, rows: &QuantisedRows, products: &mut [f32]) {
        assert!(rows.blocks * BLOCK == weights.inputs, "rows of as many inputs as the weights have");
        assert!(products.len() == rows.rows() * weights.outputs, "a place for each product");
        match &weights.form {
            Form::Nibbles { codes, scales } => self.multiply_groups(
                weights.outputs,
                rows,
                products,
                |places| NibblesGroup::new(codes, scales, places),
                Nibbles,
            ),
            Form::Bytes { codes, scales } => self.multiply_groups(
                weights.outputs,
                rows,
                products,
                |places| BytesGroup::new(codes, scales, places),
                Bytes,
            ),
            Form::Dense { .. } => panic!("the weights are quantised"),
        }
    }

    /// Takes some groups of outputs at a time, so that their weights stay near while all rows pass by them.
    fn multiply_groups<G>(
        self,
        outputs: usize,
        rows: &QuantisedRows,
        products: &mut [f32],
        group_at: impl Fn(Range<usize>) -> G,
        kernel: impl TileKernel<G>,
    ) {
        let blocks = rows.blocks;
        let groups = outputs.div_ceil(LANES);
        for first_group in (0..groups).step_by(NEAR_GROUPS) {
            let near = first_group..groups.min(first_group + NEAR_GROUPS);
            let mut row = 0;
            while row < rows.rows() {
                let count = TILE_ROWS.min(rows.rows() - row);
                let view = |at: usize| rows.row(row + at);
                tiled!(count, view, |rows| {
                    for group in near.clone() {
                        let tile = kernel.tile(self, &group_at(group * blocks..(group + 1) * blocks), &rows);
                        store(&tile, row, group, outputs, products);
                    }
                });
                row += count;
            }
        }
    }

    /// Multiplies rows with plain weights.
    ///
    /// # Panics
    /// Where the rows are not whole, the weights are quantised, or `products` has not a place for each product.
    pub fn multiply_dense(self, weights: &Packed, rows: &[f32], products: &mut [f32]) {
        let Form::Dense { weights: numbers } = &weights.form else { panic!("the weights are plain") };
        let (inputs, outputs) = (weights.inputs, weights.outputs);
        assert!(rows.len().is_multiple_of(inputs), "whole rows");
        assert!(products.len() == rows.len() / inputs * outputs, "a place for each product");
        for (group, numbers) in numbers.chunks_exact(inputs * LANES).enumerate() {
            let count = rows.len() / inputs;
            let mut row = 0;
            while row < count {
                let taken = TILE_ROWS.min(count - row);
                let view = |at: usize| &rows[(row + at) * inputs..(row + at + 1) * inputs];
                tiled!(taken, view, |rows| {
                    let tile = self.dense(numbers, &rows);
                    store(&tile, row, group, outputs, products);
                });
                row += taken;
            }
        }
    }

    fn nibbles<const R: usize>(self, group: &NibblesGroup<'_>, rows: &[RowView<'_>; R]) -> Tile<R> {
        match self.0 {
            Set::Portable => tiles::portable::nibbles(group, rows),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where its instructions were found.
            Set::Avx2 => unsafe { tiles::avx2::nibbles(group, rows) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Set::Avx512 => unsafe { tiles::avx512::nibbles(group, rows) },
        }
    }

    fn bytes<const R: usize>(self, group: &BytesGroup<'_>, rows: &[RowView<'_>; R]) -> Tile<R> {
        match self.0 {
            Set::Portable => tiles::portable::bytes(group, rows),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where its instructions were found.
            Set::Avx2 => unsafe { tiles::avx2::bytes(group, rows) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Set::Avx512 => unsafe { tiles::avx512::bytes(group, rows) },
        }
    }

    fn dense<const R: usize>(self, weights: &[f32], rows: &[&[f32]; R]) -> Tile<R> {
        match self.0 {
            Set::Portable => tiles::dense::portable(weights, rows),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where its instructions were found.
            Set::Avx2 => unsafe { tiles::dense::avx2(weights, rows) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Set::Avx512 => unsafe { tiles::dense::avx512(weights, rows) },
        }
    }
}
