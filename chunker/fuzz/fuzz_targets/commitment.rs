//! Foreign bytes as a chunk commitment, and as blocks of what it describes.
#![no_main]

use ashlar_chunker::*;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, u8, &[u8], u8, u8, u32, &[u8])| {
    let (chunk_len, raw, bytes, k, m, first_block, block) = input;
    let described;
    // Mostly a header within limits and tables of the right length, so that the fuzzer gets past the length.
    let bytes = if raw < 32 {
        bytes
    } else {
        let Ok(coding) = Coding::new(k % 9, m % 6) else { return };
        let Ok(layout) = ChunkLayout::new(chunk_len % (1 << 19), coding) else { return };
        let tables = if coding.k() == 1 { 1 } else { usize::from(coding.shards()) };
        let mut forged = 1u16.to_be_bytes().to_vec();
        forged.extend_from_slice(&ChunkHeader::new(layout).encode());
        forged.extend(bytes.iter().cycle().take(tables * 32 * (1 + layout.blocks() as usize)));
        if raw == 255 {
            forged.push(0);
        }
        described = forged;
        &described
    };
    let Ok(unchecked) = UncheckedCommitment::decode(bytes) else { return };
    assert!(unchecked.check_shards_of_itself(bytes));
    let root = unchecked.claimed_root();
    let shard = ShardIndex(k);
    if let Ok(checked) = unchecked.clone().check_shards(&root, &[shard]) {
        let outcome = checked.check_blocks(shard, first_block, block);
        assert!(outcome.is_err() || !block.is_empty());
    }
    if let Ok(checked) = unchecked.check(&root) {
        for shard in checked.layout().coding().shard_indices() {
            let _ = checked.check_blocks(shard, first_block, block);
        }
    }
});

trait Encodes {
    fn check_shards_of_itself(&self, bytes: &[u8]) -> bool;
}

impl Encodes for UncheckedCommitment {
    /// With no leaf table checked, a commitment always fits the root that it claims, and encodes as it came.
    fn check_shards_of_itself(&self, bytes: &[u8]) -> bool {
        let checked = self.clone().check_shards(&self.claimed_root(), &[]).expect("its own root");
        checked.encode() == bytes && checked.check_blocks(ShardIndex(0), 0, bytes).is_err()
    }
}
