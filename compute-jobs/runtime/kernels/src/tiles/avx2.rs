//! Tiles with AVX2: a vector is eight outputs, so that sixteen are done in two passes over the group.

use std::arch::x86_64::*;

use crate::multiply::Tile;
use crate::packed::{BYTE_CODES, NIBBLE_CODES};
use crate::rows::RowView;
use crate::tiles::{BytesGroup, NibblesGroup, check_rows};
use crate::{BLOCK, LANES};

/// Outputs of a vector.
const WIDE: usize = LANES / 2;

/// Four codes of a row in every lane.
///
/// # Safety
/// Four codes can be read there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four(codes: *const i8) -> __m256i {
    // SAFETY: the caller says that four bytes are there; any four are an integer.
    _mm256_set1_epi32(unsafe { codes.cast::<i32>().read_unaligned() })
}

/// Eight half-precision numbers in full precision.
///
/// # Safety
/// Eight can be read there.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales(halves: *const half::f16) -> __m256 {
    // SAFETY: the caller says that 16 bytes are there.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.cast()) })
}

/// Adds to each lane the products of its four pairs of bytes. No pair of neighbouring products leaves 16 bits: weights
/// are at most 128, codes at most 127.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply_add(sum: __m256i, weights: __m256i, codes: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(weights, codes);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn nibbles<const R: usize>(group: &NibblesGroup<'_>, rows: &[RowView<'_>; R]) -> Tile<R> {
    check_rows(rows, group.blocks);
    let mut tile = [[0.0; LANES]; R];
    let low_half = _mm256_set1_epi8(15);
    for first in [0, WIDE] {
        let mut sums = [_mm256_setzero_ps(); R];
        let blocks = group.codes.chunks_exact(NIBBLE_CODES).zip(group.scales.chunks_exact(2 * LANES));
        for (block, (weights, halves)) in blocks.enumerate() {
            let mut products = [_mm256_setzero_si256(); R];
            for run in 0..4 {
                // SAFETY: a block has four runs of 64 bytes, of which these are one half.
                let packed = unsafe { _mm256_loadu_si256(weights.as_ptr().add(run * 64 + first * 4).cast()) };
                let low = _mm256_and_si256(packed, low_half);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), low_half);
                for at in 0..R {
                    // SAFETY: the row has this block (checked above), 32 codes; these are eight of them.
                    let (four_low, four_high) = unsafe {
                        let codes = rows[at].codes.as_ptr().add(block * BLOCK + run * 4);
                        (four(codes), four(codes.add(BLOCK / 2)))
                    };
                    products[at] = multiply_add(products[at], low, four_low);
                    products[at] = multiply_add(products[at], high, four_high);
                }
            }
            // SAFETY: a block has sixteen scales and sixteen minima, of which these are one half.
            let (scale, minimum) = unsafe {
                let halves = halves.as_ptr().add(first);
                (scales(halves), scales(halves.add(LANES)))
            };
            for at in 0..R {
                let factor = _mm256_mul_ps(scale, _mm256_set1_ps(rows[at].scales[block]));
                sums[at] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[at]), factor, sums[at]);
                sums[at] = _mm256_fmadd_ps(minimum, _mm256_set1_ps(rows[at].sums[block]), sums[at]);
            }
        }
        tell(&mut tile, sums, first);
    }
    tile
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn bytes<const R: usize>(group: &BytesGroup<'_>, rows: &[RowView<'_>; R]) -> Tile<R> {
    check_rows(rows, group.blocks);
    let mut tile = [[0.0; LANES]; R];
    let bias = _mm256_set1_epi8(-128);
    for first in [0, WIDE] {
        let mut sums = [_mm256_setzero_ps(); R];
        let blocks = group.codes.chunks_exact(BYTE_CODES).zip(group.scales.chunks_exact(LANES));
        for (block, (weights, halves)) in blocks.enumerate() {
            let mut products = [_mm256_setzero_si256(); R];
            for run in 0..8 {
                // SAFETY: a block has eight runs of 64 bytes, of which these are one half.
                let biased = unsafe { _mm256_loadu_si256(weights.as_ptr().add(run * 64 + first * 4).cast()) };
                let signed = _mm256_xor_si256(biased, bias);
                let sizes = _mm256_abs_epi8(signed);
                for at in 0..R {
                    // SAFETY: the row has this block (checked above), 32 codes; these are four of them.
                    let four = unsafe { four(rows[at].codes.as_ptr().add(block * BLOCK + run * 4)) };
                    products[at] = multiply_add(products[at], sizes, _mm256_sign_epi8(four, signed));
                }
            }
            // SAFETY: a block has sixteen scales, of which these are one half.
            let scale = unsafe { scales(halves.as_ptr().add(first)) };
            for at in 0..R {
                let factor = _mm256_mul_ps(scale, _mm256_set1_ps(rows[at].scales[block]));
                sums[at] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[at]), factor, sums[at]);
            }
        }
        tell(&mut tile, sums, first);
    }
    tile
}

#[inline]
#[target_feature(enable = "avx2")]
fn tell<const R: usize>(tile: &mut Tile<R>, sums: [__m256; R], first: usize) {
    for (lanes, sum) in tile.iter_mut().zip(sums) {
        let lanes = &mut lanes[first..first + WIDE];
        // SAFETY: there is a place for eight.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
    }
}
