//! Tiles of plain weights: one fused multiplication for each input, in their order.

use crate::LANES;
use crate::multiply::Tile;

#[inline(always)]
fn tile<const R: usize>(weights: &[f32], rows: &[&[f32]; R]) -> Tile<R> {
    let mut sums = [[0.0f32; LANES]; R];
    for row in rows {
        assert!(row.len() * LANES == weights.len(), "a weight for each input and output");
    }
    for (input, weights) in weights.chunks_exact(LANES).enumerate() {
        for at in 0..R {
            let value = rows[at][input];
            for lane in 0..LANES {
                sums[at][lane] = weights[lane].mul_add(value, sums[at][lane]);
            }
        }
    }
    sums
}

pub(crate) fn portable<const R: usize>(weights: &[f32], rows: &[&[f32]; R]) -> Tile<R> {
    tile(weights, rows)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn avx2<const R: usize>(weights: &[f32], rows: &[&[f32]; R]) -> Tile<R> {
    tile(weights, rows)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
pub(crate) fn avx512<const R: usize>(weights: &[f32], rows: &[&[f32]; R]) -> Tile<R> {
    tile(weights, rows)
}
