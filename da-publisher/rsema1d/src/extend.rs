//! The Reed–Solomon code: parity rows from original rows, and original rows from any K.
//!
//! The code is the *high rate* form of the Leopard code over GF(2^16), which is what the vectors of Celestia's
//! SPEC.md hold (its low rate form, quicker for N > K, gives other parity). It is position-wise in units of 64
//! bytes, so rows are coded in slices that stay in the cache. Knows nothing of hashes.

use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

use crate::field::Element;

/// Bytes of all rows of a slice together while encoding. Of 256 KiB to 1 MiB the quickest at 32 MiB: 188 ms instead
/// of 229 with K = 256, 140 instead of 166 with K = 4; the coder works on a copy in a cache of 2 MiB.
const ENCODE_BYTES: usize = 1 << 20;
/// The same while decoding: each call costs 0.29 ms before the first byte, so slices are larger.
const DECODE_BYTES: usize = 4 << 20;
/// Bytes of a unit of the code.
const UNIT: usize = 64;

fn slice_len(total: usize, rows: usize) -> usize {
    (total / rows / UNIT).max(1) * UNIT
}

/// The parity rows of `original` rows of equal length, a multiple of 64: one after the other.
///
/// # Panics
/// If the code has no such number of rows, or rows differ in length.
pub(crate) fn extend(original: &[&[u8]], parities: usize) -> Vec<u8> {
    let row_len = original[0].len();
    let mut parity = vec![0; parities * row_len];
    extend_into(original, &mut parity, parities);
    parity
}

/// [`extend`] into a buffer of `parities` rows.
fn extend_into(original: &[&[u8]], parity: &mut [u8], parities: usize) {
    const VALID: &str = "the shape's rows are within the code's limits";
    let (originals, row_len) = (original.len(), original[0].len());
    let slice = slice_len(ENCODE_BYTES, originals + parities).min(row_len);
    let mut encoder =
        HighRateEncoder::new(originals, parities, slice, DefaultEngine::new(), None).expect(VALID);
    for start in (0..row_len).step_by(slice) {
        let end = (start + slice).min(row_len);
        if end - start < slice {
            encoder.reset(originals, parities, end - start).expect(VALID);
        }
        for row in original {
            encoder.add_original_shard(&row[start..end]).expect(VALID);
        }
        let encoded = encoder.encode().expect("every original row was added");
        for (row, slice) in parity.chunks_exact_mut(row_len).zip(encoded.recovery_iter()) {
            row[start..end].copy_from_slice(slice);
        }
    }
}

/// All K original rows, from K or more of the K + N rows, each with its index and all of `row_len` bytes.
///
/// # Panics
/// If there are fewer than K rows, indexes repeat or are out of range, or rows differ in length.
pub(crate) fn restore(originals: usize, parities: usize, rows: &[(usize, &[u8])]) -> Vec<Vec<u8>> {
    const VALID: &str = "indexes are distinct and in range, and rows equally long";
    let row_len = rows[0].1.len();
    let mut restored: Vec<Vec<u8>> = vec![Vec::new(); originals];
    for (index, row) in rows.iter().filter(|(index, _)| *index < originals) {
        restored[*index] = row.to_vec();
    }
    let missing: Vec<usize> = (0..originals).filter(|index| restored[*index].is_empty()).collect();
    if missing.is_empty() {
        return restored;
    }
    for index in &missing {
        restored[*index].resize(row_len, 0);
    }
    let slice = slice_len(DECODE_BYTES, originals + parities).min(row_len);
    let mut decoder =
        HighRateDecoder::new(originals, parities, slice, DefaultEngine::new(), None).expect(VALID);
    for start in (0..row_len).step_by(slice) {
        let end = (start + slice).min(row_len);
        if end - start < slice {
            decoder.reset(originals, parities, end - start).expect(VALID);
        }
        for (index, row) in rows {
            let cell = &row[start..end];
            match index.checked_sub(originals) {
                None => decoder.add_original_shard(*index, cell).expect(VALID),
                Some(parity) => decoder.add_recovery_shard(parity, cell).expect(VALID),
            }
        }
        let decoded = decoder.decode().expect("K rows are enough");
        for index in &missing {
            let cell = decoded.restored_original(*index).expect("it was missing");
            restored[*index][start..end].copy_from_slice(cell);
        }
    }
    restored
}

/// The elements of all K + N rows from those of the K original ones, by the same code.
pub(crate) fn extend_elements(original: &[Element], parities: usize) -> Vec<Element> {
    let packed: Vec<[u8; UNIT]> = original.iter().map(|element| pack(*element)).collect();
    let slices: Vec<&[u8]> = packed.iter().map(<[u8; UNIT]>::as_slice).collect();
    let parity = extend(&slices, parities);
    let (units, _) = parity.as_chunks::<UNIT>();
    original.iter().copied().chain(units.iter().map(unpack)).collect()
}

/// An element as the first eight symbols of a unit, the others zero.
fn pack(element: Element) -> [u8; UNIT] {
    let mut unit = [0; UNIT];
    let bytes = element.to_bytes();
    unit[..8].copy_from_slice(&bytes[..8]);
    unit[32..40].copy_from_slice(&bytes[8..]);
    unit
}

fn unpack(unit: &[u8; UNIT]) -> Element {
    let (octets, _) = unit.as_chunks::<8>();
    Element::from_planes(octets[0], octets[4])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn subset(rows: usize, keep: usize, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..rows).collect();
        let random = noise(8 * rows, seed);
        order.sort_by_key(|index| random[8 * index..8 * index + 8].to_vec());
        order.truncate(keep);
        order
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_k_rows_give_all_back(seed: u64, units in 1..40usize, extra in 0..4usize) {
            let (k, n, row_len) = (4, 12, units * 64);
            let data = noise(k * row_len, seed);
            let original: Vec<&[u8]> = data.chunks(row_len).collect();
            let parity = extend(&original, n);
            let all: Vec<&[u8]> = original.iter().copied().chain(parity.chunks(row_len)).collect();
            let kept: Vec<(usize, &[u8])> =
                subset(k + n, k + extra, !seed).into_iter().map(|index| (index, all[index])).collect();
            prop_assert_eq!(restore(k, n, &kept).concat(), data);
        }
    }

    #[test]
    fn slices_do_not_matter() {
        let (k, n, row_len) = (4, 12, slice_len(DECODE_BYTES, 16) + 640);
        let data = noise(k * row_len, 5);
        let original: Vec<&[u8]> = data.chunks(row_len).collect();
        let parity = extend(&original, n);
        let whole = {
            let mut encoder = HighRateEncoder::new(k, n, row_len, DefaultEngine::new(), None).unwrap();
            original.iter().for_each(|row| encoder.add_original_shard(row).unwrap());
            encoder.encode().unwrap().recovery_iter().flatten().copied().collect::<Vec<u8>>()
        };
        assert!(parity == whole);
        let kept: Vec<(usize, &[u8])> =
            parity.chunks(row_len).take(k).enumerate().map(|(i, row)| (k + i, row)).collect();
        assert!(restore(k, n, &kept).concat() == data);
    }

    #[test]
    fn the_large_profile_comes_back_from_parity_alone() {
        let (k, n, row_len) = (256, 768, 192);
        let data = noise(k * row_len, 6);
        let original: Vec<&[u8]> = data.chunks(row_len).collect();
        let parity = extend(&original, n);
        let kept: Vec<(usize, &[u8])> =
            parity.chunks(row_len).enumerate().skip(300).take(k).map(|(i, row)| (k + i, row)).collect();
        assert!(restore(k, n, &kept).concat() == data);
    }
}
