//! Sixteen outputs times a tile of rows, the innermost loops.
//!
//! Invariant: for each row and output the same operations in the same order, whatever the instructions: for each block,
//! the whole-number product of codes `p`, then `sum = fma(p, weight scale × row scale, sum)`, and where weights have a
//! minimum `sum = fma(minimum, row's scaled sum, sum)`. Whole-number products are exact in any order.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod dense;
pub(crate) mod portable;

use std::ops::Range;

use half::f16;

use crate::LANES;
use crate::packed::{BYTE_CODES, NIBBLE_CODES};
use crate::rows::RowView;

/// Sixteen outputs of weights with 4 bits a code. Invariant: codes and scales of exactly `blocks` blocks.
pub(crate) struct NibblesGroup<'a> {
    pub(crate) blocks: usize,
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [f16],
}

impl<'a> NibblesGroup<'a> {
    pub(crate) fn new(codes: &'a [u8], scales: &'a [f16], places: Range<usize>) -> Self {
        Self {
            blocks: places.len(),
            codes: &codes[places.start * NIBBLE_CODES..places.end * NIBBLE_CODES],
            scales: &scales[places.start * 2 * LANES..places.end * 2 * LANES],
        }
    }
}

/// Sixteen outputs of weights with 8 bits a code. Invariant: codes and scales of exactly `blocks` blocks.
pub(crate) struct BytesGroup<'a> {
    pub(crate) blocks: usize,
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [f16],
}

impl<'a> BytesGroup<'a> {
    pub(crate) fn new(codes: &'a [u8], scales: &'a [f16], places: Range<usize>) -> Self {
        Self {
            blocks: places.len(),
            codes: &codes[places.start * BYTE_CODES..places.end * BYTE_CODES],
            scales: &scales[places.start * LANES..places.end * LANES],
        }
    }
}

/// What loops without bounds checks rest on: each row has exactly `blocks` blocks.
fn check_rows(rows: &[RowView<'_>], blocks: usize) {
    for row in rows {
        let lengths = (row.codes.len(), row.scales.len(), row.sums.len(), row.offsets.len());
        assert!(lengths == (blocks * crate::BLOCK, blocks, blocks, blocks), "rows are whole");
    }
}
