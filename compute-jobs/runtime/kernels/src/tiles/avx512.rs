//! Tiles with AVX-512 VNNI: a vector is sixteen outputs; one instruction multiplies four codes of each and adds them.

use std::arch::x86_64::*;

use crate::multiply::Tile;
use crate::packed::{BYTE_CODES, NIBBLE_CODES};
use crate::rows::RowView;
use crate::tiles::{BytesGroup, NibblesGroup, check_rows};
use crate::{BLOCK, LANES};

/// Four codes of a row in every lane.
///
/// # Safety
/// Four codes can be read there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn four(codes: *const i8) -> __m512i {
    // SAFETY: the caller says that four bytes are there; any four are an integer.
    _mm512_set1_epi32(unsafe { codes.cast::<i32>().read_unaligned() })
}

/// Sixteen half-precision numbers in full precision.
///
/// # Safety
/// Sixteen can be read there.
#[inline]
#[target_feature(enable = "avx512f,avx2,f16c")]
unsafe fn scales(halves: *const half::f16) -> __m512 {
    // SAFETY: the caller says that 32 bytes are there.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn told<const R: usize>(sums: [__m512; R]) -> Tile<R> {
    let mut tile = [[0.0; LANES]; R];
    for (lanes, sum) in tile.iter_mut().zip(sums) {
        // SAFETY: there is a place for sixteen.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sum) };
    }
    tile
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(crate) fn nibbles<const R: usize>(group: &NibblesGroup<'_>, rows: &[RowView<'_>; R]) -> Tile<R> {
    check_rows(rows, group.blocks);
    let low_half = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_ps(); R];
    let blocks = group.codes.chunks_exact(NIBBLE_CODES).zip(group.scales.chunks_exact(2 * LANES));
    for (block, (weights, halves)) in blocks.enumerate() {
        let mut products = [_mm512_setzero_si512(); R];
        for run in 0..4 {
            // SAFETY: a block has four runs of 64 bytes.
            let packed = unsafe { _mm512_loadu_si512(weights.as_ptr().add(run * 64).cast()) };
            let low = _mm512_and_si512(packed, low_half);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(packed), low_half);
            for at in 0..R {
                // SAFETY: the row has this block (checked above), 32 codes; these are eight of them.
                let (first, second) = unsafe {
                    let codes = rows[at].codes.as_ptr().add(block * BLOCK + run * 4);
                    (four(codes), four(codes.add(BLOCK / 2)))
                };
                products[at] = _mm512_dpbusd_epi32(products[at], low, first);
                products[at] = _mm512_dpbusd_epi32(products[at], high, second);
            }
        }
        // SAFETY: a block has sixteen scales and sixteen minima.
        let (scale, minimum) = unsafe { (scales(halves.as_ptr()), scales(halves.as_ptr().add(LANES))) };
        for at in 0..R {
            // SAFETY: the row has this block (checked above).
            let (row_scale, row_sum) =
                unsafe { (*rows[at].scales.get_unchecked(block), *rows[at].sums.get_unchecked(block)) };
            let factor = _mm512_mul_ps(scale, _mm512_set1_ps(row_scale));
            sums[at] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[at]), factor, sums[at]);
            sums[at] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(row_sum), sums[at]);
        }
    }
    told(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(crate) fn bytes<const R: usize>(group: &BytesGroup<'_>, rows: &[RowView<'_>; R]) -> Tile<R> {
    check_rows(rows, group.blocks);
    let mut sums = [_mm512_setzero_ps(); R];
    let blocks = group.codes.chunks_exact(BYTE_CODES).zip(group.scales.chunks_exact(LANES));
    for (block, (weights, halves)) in blocks.enumerate() {
        let mut products = [_mm512_setzero_si512(); R];
        for at in 0..R {
            // SAFETY: the row has this block (checked above).
            products[at] = _mm512_set1_epi32(unsafe { *rows[at].offsets.get_unchecked(block) });
        }
        for run in 0..8 {
            // SAFETY: a block has eight runs of 64 bytes.
            let codes = unsafe { _mm512_loadu_si512(weights.as_ptr().add(run * 64).cast()) };
            for at in 0..R {
                // SAFETY: the row has this block (checked above), 32 codes; these are four of them.
                let four = unsafe { four(rows[at].codes.as_ptr().add(block * BLOCK + run * 4)) };
                products[at] = _mm512_dpbusd_epi32(products[at], codes, four);
            }
        }
        // SAFETY: a block has sixteen scales.
        let scale = unsafe { scales(halves.as_ptr()) };
        for at in 0..R {
            // SAFETY: the row has this block (checked above).
            let row_scale = unsafe { *rows[at].scales.get_unchecked(block) };
            let factor = _mm512_mul_ps(scale, _mm512_set1_ps(row_scale));
            sums[at] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[at]), factor, sums[at]);
        }
    }
    told(sums)
}
