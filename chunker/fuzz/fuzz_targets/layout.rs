//! Any length, coding and range: pieces cover exactly the range, and stay within shards and blocks.
#![no_main]

use ashlar_chunker::*;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, u8, u8, u32, u32, u32, u8)| {
    let (chunk_len, k, m, start, end, any, shard) = input;
    let Ok(coding) = Coding::new(k, m) else { return };
    let Ok(layout) = ChunkLayout::new(chunk_len % (CHUNK_BYTES + 2), coding) else { return };
    let mut next = start;
    for piece in layout.pieces(start..end) {
        assert_eq!(piece.chunk_offset, next);
        assert!(coding.is_data(piece.shard) && piece.row < layout.rows());
        assert!(piece.bytes.start < piece.bytes.end && piece.bytes.end <= layout.padding(piece.shard).start);
        let covered = layout.blocks_range(piece.blocks);
        assert!(covered.start <= piece.bytes.start && piece.bytes.end <= covered.end);
        assert_eq!(layout.chunk_offset(piece.shard, piece.bytes.start), Some(next));
        next += piece.bytes.end - piece.bytes.start;
    }
    assert_eq!(next, end.min(layout.chunk_len()).max(start));
    let runs = layout.shard_ranges(start..end);
    let touched: u32 = runs.iter().map(|run| run.bytes.end - run.bytes.start).sum();
    assert_eq!(touched, next - start);
    // Whatever is asked for, answers stay within the shard.
    let shard = ShardIndex(shard);
    assert!(layout.block_range(any).end <= layout.shard_bytes());
    assert!(layout.row_range(any).end <= layout.chunk_len());
    assert!(layout.cell_bytes(any) <= CELL_BYTES);
    assert!(layout.padding(shard).end <= layout.shard_bytes());
    assert!(layout.chunk_offset(shard, any).is_none_or(|offset| offset < layout.chunk_len()));
});
