//! The checks that a shard passes on its way in and on its way out, the same for every implementation.

use crate::service::{BlockRange, Corruption, FOOTER_BYTES_MAX, MalformedShard, PutError, ReadError};
use ashlar_chunker::{BLOCK_BYTES, ChunkLayout, ShardId, UncheckedCommitment};
use bytes::Bytes;
use std::ops::Range;

/// Refuses a shard whose length or index its own commitment contradicts.
pub(crate) fn check_shape(id: ShardId, shard_bytes: u64, footer: &Bytes) -> Result<ChunkLayout, PutError> {
    let malformed = |reason| PutError::Malformed { id, reason };
    if footer.len() > FOOTER_BYTES_MAX {
        return Err(malformed(MalformedShard::FooterBytes { bytes: footer.len() }));
    }
    let commitment = UncheckedCommitment::decode_bytes(footer.clone())
        .map_err(|error| malformed(MalformedShard::Footer(error)))?;
    let layout = *commitment.claimed_layout();
    if !layout.coding().contains(id.shard) {
        return Err(malformed(MalformedShard::NoSuchShard { shards: layout.coding().shards() }));
    }
    let expected = u64::from(layout.shard_bytes());
    if shard_bytes != expected {
        return Err(malformed(MalformedShard::Length { found: shard_bytes, expected }));
    }
    Ok(layout)
}

/// The bytes of a shard of `shard_bytes` that `range` covers; never empty.
pub(crate) fn byte_range(id: ShardId, shard_bytes: u32, range: BlockRange) -> Result<Range<u32>, ReadError> {
    let blocks = shard_bytes.div_ceil(BLOCK_BYTES);
    let BlockRange { first_block, count } = range;
    if first_block >= blocks || count == 0 {
        return Err(ReadError::OutOfRange { id, first_block, count, blocks });
    }
    let end = first_block.saturating_add(count).min(blocks).saturating_mul(BLOCK_BYTES).min(shard_bytes);
    Ok(first_block * BLOCK_BYTES..end)
}

/// Compares blocks from `first_block` on with the leaves in `footer`.
pub(crate) fn check_blocks(
    id: ShardId,
    first_block: u32,
    bytes: &[u8],
    footer: &Bytes,
) -> Result<(), Corruption> {
    let unchecked = UncheckedCommitment::decode_bytes(footer.clone()).map_err(|_| Corruption::Commitment)?;
    let root = unchecked.claimed_root();
    let commitment = unchecked.check_shards(&root, &[id.shard]).map_err(|_| Corruption::Commitment)?;
    commitment.check_blocks(id.shard, first_block, bytes).map_err(|mismatch| match mismatch {
        ashlar_chunker::BlockMismatch::Digest { block, .. } => Corruption::Block { block },
        _ => Corruption::Commitment,
    })
}
