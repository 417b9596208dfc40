//! What a shard of a coded chunk is made of, as coefficients of k others.
//!
//! The stock decoder is asked once, for unit vectors, so the field's arithmetic stays its own affair.

use crate::coding::{CODER_BYTES, Coding, position};
use crate::id::ShardIndex;
use reed_solomon_simd::engine::{GfElement, tables};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

/// Field elements in a 64-byte unit of the coder: 32 low bytes, then their 32 high bytes.
const ELEMENTS_PER_UNIT: usize = 32;

/// Per wanted shard, per source: the logarithm of the coefficient, `None` where it is zero. Decodes k unit vectors at once, one to an element of the coder's unit.
pub(super) fn coefficients(
    coding: Coding,
    sources: &[ShardIndex],
    wanted: &[ShardIndex],
) -> Vec<Vec<Option<GfElement>>> {
    let k = sources.len();
    if coding.is_copies() {
        return vec![vec![Some(0)]; wanted.len()];
    }
    let units = k.div_ceil(ELEMENTS_PER_UNIT);
    let one = tables::get_exp_log().exp[0].to_le_bytes();
    let unit_vector = |source: usize| {
        let mut shard = vec![0; units * position(CODER_BYTES)];
        let (low, high) = element_position(source);
        (shard[low], shard[high]) = (one[0], one[1]);
        shard
    };
    let inputs: Vec<_> = (0..k).map(unit_vector).collect();
    let shards = decode_all(coding, sources, &inputs);
    let log = &tables::get_exp_log().log;
    let logarithm = |shard: &[u8], source: usize| {
        let (low, high) = element_position(source);
        match GfElement::from_le_bytes([shard[low], shard[high]]) {
            0 => None,
            element => Some(log[usize::from(element)]),
        }
    };
    let row =
        |shard: &ShardIndex| (0..k).map(|source| logarithm(&shards[shard.position()], source)).collect();
    wanted.iter().map(row).collect()
}

/// The two bytes of element `index` of a shard, low and high.
const fn element_position(index: usize) -> (usize, usize) {
    let low = index / ELEMENTS_PER_UNIT * 64 + index % ELEMENTS_PER_UNIT;
    (low, low + ELEMENTS_PER_UNIT)
}

/// All k + m shards from k of them, by the stock coder.
fn decode_all(coding: Coding, sources: &[ShardIndex], inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    const WITHIN: &str = "counts and sizes are within the coder's limits, and k distinct shards are given";
    let (k, m, length) = (usize::from(coding.k()), usize::from(coding.m()), inputs[0].len());
    let mut shards = vec![Vec::new(); k + m];
    for (source, input) in sources.iter().zip(inputs) {
        shards[source.position()].clone_from(input);
    }
    if m == 0 {
        return shards;
    }
    let mut decoder = ReedSolomonDecoder::new(k, m, length).expect(WITHIN);
    for (source, input) in sources.iter().zip(inputs) {
        match source.position().checked_sub(k) {
            None => decoder.add_original_shard(source.position(), input).expect(WITHIN),
            Some(parity) => decoder.add_recovery_shard(parity, input).expect(WITHIN),
        }
    }
    for (index, shard) in decoder.decode().expect(WITHIN).restored_original_iter() {
        shards[index] = shard.to_vec();
    }
    let mut encoder = ReedSolomonEncoder::new(k, m, length).expect(WITHIN);
    shards[..k].iter().for_each(|shard| encoder.add_original_shard(shard).expect(WITHIN));
    let parity = encoder.encode().expect(WITHIN);
    for (shard, parity) in shards[k..].iter_mut().zip(parity.recovery_iter()) {
        *shard = parity.to_vec();
    }
    shards
}
