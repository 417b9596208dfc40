//! Any coding, content, loss and range: what was written comes back from any k shards.
#![no_main]

use ashlar_chunker::*;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u8, u32, u64, u32, u32, &[u8])| {
    let (k, m, length, lost_bits, start, end, pattern) = input;
    let Ok(coding) = Coding::new(k % 7, m % 5) else { return };
    let length = (length % 600_000) as usize;
    let chunk: Bytes = pattern.iter().chain([&7]).copied().cycle().take(length).collect();
    let Ok(encoded) = encode_chunk(coding, chunk.clone()) else {
        assert!(chunk.is_empty());
        return;
    };
    let commitment = &encoded.commitment;
    let layout = *commitment.layout();
    let coding = layout.coding();
    let lost = coding.shard_indices().filter(|shard| lost_bits >> shard.0 & 1 == 1);
    let lost: Vec<_> = lost.take(usize::from(coding.m())).collect();
    let left: Vec<_> = coding.shard_indices().filter(|shard| !lost.contains(shard)).collect();
    let range = start % (length as u32 + 1)..end % (length as u32 + 1);
    if range.start > range.end {
        assert!(commitment.assemble(range, &[]).is_err());
        return;
    }
    let rebuilder = Rebuilder::new(coding, &left, &lost).expect("at most m are lost");
    let all = |shard: &ShardIndex| commitment.verify(*shard, 0, encoded.shard(*shard)).expect("committed");
    let sources: Vec<_> = rebuilder.sources().iter().map(all).collect();
    let mut blocks = commitment.rebuild(&rebuilder, &sources).expect("a code word");
    for run in &blocks {
        assert_eq!(run.bytes(), &encoded.shard(run.shard()));
    }
    blocks.extend(left.iter().map(all));
    let assembled = commitment.assemble(range.clone(), &blocks).expect("all blocks are there").concat();
    assert_eq!(assembled, chunk[range.start as usize..range.end as usize]);
});
