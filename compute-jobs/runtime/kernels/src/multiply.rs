//! Rows times weights.
//!
//! Invariant: each weight is read once for all rows, sixteen outputs at a time; how rows are taken together changes no
//! bit of what any of them gets.

use crate::instructions::Set;
use crate::packed::Form;
use crate::rows::RowView;
use crate::tiles::{self, BytesGroup, NibblesGroup};
use crate::{BLOCK, Kernels, LANES, Packed, QuantisedRows};

/// Rows that are taken together at most.
pub(crate) const TILE_ROWS: usize = 8;

/// Runs a tile of as many rows as there are, one to eight, each as a kernel of its own.
macro_rules! tiled {
    ($count:expr, $view:ident, $store:ident, |$rows:ident| $kernel:expr) => {
        match $count {
            1 => tiled!(@ 1, $view, $store, $rows, $kernel),
            2 => tiled!(@ 2, $view, $store, $rows, $kernel),
            3 => tiled!(@ 3, $view, $store, $rows, $kernel),
            4 => tiled!(@ 4, $view, $store, $rows, $kernel),
            5 => tiled!(@ 5, $view, $store, $rows, $kernel),
            6 => tiled!(@ 6, $view, $store, $rows, $kernel),
            7 => tiled!(@ 7, $view, $store, $rows, $kernel),
            _ => tiled!(@ 8, $view, $store, $rows, $kernel),
        }
    };
    (@ $number:literal, $view:ident, $store:ident, $rows:ident, $kernel:expr) => {{
        let $rows: [_; $number] = std::array::from_fn($view);
        let lanes: Tile<$number> = $kernel;
        lanes.iter().enumerate().for_each(|(at, lanes)| $store(at, lanes));
    }};
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
        let blocks = rows.blocks;
        for group in 0..weights.groups() {
            let places = group * blocks..(group + 1) * blocks;
            let mut row = 0;
            while row < rows.rows() {
                let count = TILE_ROWS.min(rows.rows() - row);
                let view = |at: usize| rows.row(row + at);
                let mut store = |at: usize, lanes: &[f32; LANES]| {
                    let first = group * LANES;
                    let wanted = LANES.min(weights.outputs - first);
                    let to = (row + at) * weights.outputs + first;
                    products[to..to + wanted].copy_from_slice(&lanes[..wanted]);
                };
                match &weights.form {
                    Form::Nibbles { codes, scales } => {
                        let group = NibblesGroup::new(codes, scales, places.clone());
                        tiled!(count, view, store, |rows| self.nibbles(&group, rows));
                    }
                    Form::Bytes { codes, scales } => {
                        let group = BytesGroup::new(codes, scales, places.clone());
                        tiled!(count, view, store, |rows| self.bytes(&group, rows));
                    }
                    Form::Dense { .. } => panic!("the weights are quantised"),
                }
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
            let first = group * LANES;
            let wanted = LANES.min(outputs - first);
            let count = rows.len() / inputs;
            let mut row = 0;
            while row < count {
                let taken = TILE_ROWS.min(count - row);
                let view = |at: usize| &rows[(row + at) * inputs..(row + at + 1) * inputs];
                let mut store = |at: usize, lanes: &[f32; LANES]| {
                    let to = (row + at) * outputs + first;
                    products[to..to + wanted].copy_from_slice(&lanes[..wanted]);
                };
                tiled!(taken, view, store, |rows| self.dense(numbers, rows));
                row += taken;
            }
        }
    }

    fn nibbles<const R: usize>(self, group: &NibblesGroup<'_>, rows: [RowView<'_>; R]) -> Tile<R> {
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

    fn bytes<const R: usize>(self, group: &BytesGroup<'_>, rows: [RowView<'_>; R]) -> Tile<R> {
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

    fn dense<const R: usize>(self, weights: &[f32], rows: [&[f32]; R]) -> Tile<R> {
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
