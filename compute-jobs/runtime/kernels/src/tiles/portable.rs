//! Tiles in plain Rust, for any processor, and to hold the others against.

use crate::multiply::Tile;
use crate::packed::{BYTE_CODES, NIBBLE_CODES};
use crate::rows::RowView;
use crate::tiles::{BytesGroup, NibblesGroup, check_rows};
use crate::{BLOCK, LANES};

pub(crate) fn nibbles<const R: usize>(group: &NibblesGroup<'_>, rows: &[RowView<'_>; R]) -> Tile<R> {
    check_rows(rows, group.blocks);
    let mut sums = [[0.0f32; LANES]; R];
    let blocks = group.codes.chunks_exact(NIBBLE_CODES).zip(group.scales.chunks_exact(2 * LANES));
    for (block, (weights, scales)) in blocks.enumerate() {
        for (row, sums) in rows.iter().zip(&mut sums) {
            let codes = &row.codes[block * BLOCK..(block + 1) * BLOCK];
            for lane in 0..LANES {
                let mut product = 0i32;
                for input in 0..BLOCK / 2 {
                    let byte = weights[input / 4 * 4 * LANES + lane * 4 + input % 4];
                    product += i32::from(byte & 15) * i32::from(codes[input]);
                    product += i32::from(byte >> 4) * i32::from(codes[BLOCK / 2 + input]);
                }
                let (scale, minimum) = (scales[lane].to_f32(), scales[LANES + lane].to_f32());
                sums[lane] = (product as f32).mul_add(scale * row.scales[block], sums[lane]);
                sums[lane] = minimum.mul_add(row.sums[block], sums[lane]);
            }
        }
    }
    sums
}

pub(crate) fn bytes<const R: usize>(group: &BytesGroup<'_>, rows: &[RowView<'_>; R]) -> Tile<R> {
    check_rows(rows, group.blocks);
    let mut sums = [[0.0f32; LANES]; R];
    let blocks = group.codes.chunks_exact(BYTE_CODES).zip(group.scales.chunks_exact(LANES));
    for (block, (weights, scales)) in blocks.enumerate() {
        for (row, sums) in rows.iter().zip(&mut sums) {
            let codes = &row.codes[block * BLOCK..(block + 1) * BLOCK];
            for lane in 0..LANES {
                let mut product = row.offsets[block];
                for (input, code) in codes.iter().enumerate() {
                    let weight = weights[input / 4 * 4 * LANES + lane * 4 + input % 4];
                    product += i32::from(weight) * i32::from(*code);
                }
                let scale = scales[lane].to_f32() * row.scales[block];
                sums[lane] = (product as f32).mul_add(scale, sums[lane]);
            }
        }
    }
    sums
}
