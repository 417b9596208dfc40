//! Shards to test with: real chunks, coded and committed.

use ashlar_chunker::{BlobId, Coding, SessionId, ShardId, ShardIndex, encode_chunk};
use ashlar_storage_node::ShardPut;
use bytes::Bytes;

/// Shard `shard` of the only chunk of blob `counter`.
pub(crate) fn id(counter: u64, shard: u8) -> ShardId {
    BlobId { session: SessionId(7), counter }.chunk(0).shard(ShardIndex(shard))
}

/// All shards of a chunk of `len` bytes at 4+2 (copies when small), content decided by `counter`.
pub(crate) fn shard(counter: u64, len: usize) -> Vec<ShardPut> {
    shard_filled(counter, len, counter)
}

/// The same, content decided by `seed`.
pub(crate) fn shard_filled(counter: u64, len: usize, seed: u64) -> Vec<ShardPut> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let content: Bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(len.div_ceil(8))
    .flatten()
    .take(len)
    .collect();
    let chunk = encode_chunk(Coding::new(4, 2).expect("within limits"), content).expect("not empty");
    let footer = chunk.commitment.encode();
    let shards = u8::try_from(chunk.rows[0].cells.len()).expect("at most 64");
    (0..shards)
        .map(|index| ShardPut {
            id: id(counter, index),
            cells: chunk.rows.iter().map(|row| row.cells[usize::from(index)].clone()).collect(),
            footer: footer.clone(),
        })
        .collect()
}
