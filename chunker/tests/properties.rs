//! Properties of the whole crate over random codings, lengths, losses and ranges: what is written comes back
//! from any k shards, and what is not exactly what was committed never does.

#![allow(clippy::unwrap_used)]

use ashlar_chunker::*;
use bytes::Bytes;
use proptest::prelude::*;

const CELL: usize = CELL_BYTES as usize;
const BLOCK: usize = BLOCK_BYTES as usize;

fn content(seed: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// Lengths around every boundary of the format, and in between.
fn chunk_len() -> impl Strategy<Value = usize> {
    let near = prop_oneof![Just(64), Just(BLOCK), Just(CELL), Just(4 * CELL), Just(6 * CELL)];
    prop_oneof![
        1..200usize,
        1..12 * CELL,
        (near, 1..4usize, -2isize..=2).prop_map(|(at, times, off)| (at * times).saturating_add_signed(off)),
    ]
}

fn coding() -> impl Strategy<Value = Coding> {
    (1u8..=9, 0u8..=5).prop_map(|(k, m)| Coding::new(k, m).unwrap())
}

/// A coding, a chunk coded with it, and at most m of its shards, which are lost.
fn damaged_chunk() -> impl Strategy<Value = (Bytes, EncodedChunk, Vec<ShardIndex>)> {
    (coding(), chunk_len(), any::<u64>()).prop_flat_map(|(coding, length, seed)| {
        let chunk = content(seed, length);
        let encoded = encode_chunk(coding, chunk.clone()).unwrap();
        let coding = encoded.commitment.layout().coding();
        let shards: Vec<_> = coding.shard_indices().collect();
        let lost = proptest::sample::subsequence(shards, 0..=usize::from(coding.m()));
        (Just(chunk), Just(encoded), lost)
    })
}

fn left_of(coding: Coding, lost: &[ShardIndex]) -> Vec<ShardIndex> {
    coding.shard_indices().filter(|shard| !lost.contains(shard)).collect()
}

/// Checked blocks `blocks` of `shard`, as a node would return them.
fn fetch(encoded: &EncodedChunk, shard: ShardIndex, blocks: std::ops::Range<u32>) -> CheckedBlocks {
    let bytes = encoded.commitment.layout().blocks_range(blocks.clone());
    let shard_bytes = encoded.shard(shard).slice(bytes.start as usize..bytes.end as usize);
    encoded.commitment.verify(shard, blocks.start, shard_bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_range_comes_back_after_any_losses(
        (chunk, encoded, lost) in damaged_chunk(), start: prop::sample::Index, end: prop::sample::Index,
    ) {
        let commitment = &encoded.commitment;
        let layout = *commitment.layout();
        let (start, end) = (start.index(chunk.len() + 1), end.index(chunk.len() + 1));
        let range = start.min(end)..start.max(end);
        let wire = range.start as u32..range.end as u32;
        let plans = RebuildPlans::new();
        let left = left_of(layout.coding(), &lost);
        let mut blocks = Vec::new();
        for run in layout.shard_ranges(wire.clone()) {
            if !lost.contains(&run.shard) {
                blocks.push(fetch(&encoded, run.shard, run.blocks));
                continue;
            }
            let plan = plans.get(layout.coding(), &left, &[run.shard]).unwrap();
            let sources: Vec<_> =
                plan.sources().iter().map(|shard| fetch(&encoded, *shard, run.blocks.clone())).collect();
            blocks.extend(commitment.rebuild(&plan, &sources).unwrap());
        }
        let assembled = commitment.assemble(wire, &blocks).unwrap();
        prop_assert_eq!(assembled.concat(), chunk.slice(range));
    }

    #[test]
    fn all_lost_shards_are_rebuilt_to_the_byte((_, encoded, lost) in damaged_chunk()) {
        let layout = *encoded.commitment.layout();
        let left = left_of(layout.coding(), &lost);
        let rebuilder = Rebuilder::new(layout.coding(), &left, &lost).unwrap();
        prop_assert_eq!(rebuilder.wanted(), &lost[..]);
        let sources: Vec<_> =
            rebuilder.sources().iter().map(|shard| fetch(&encoded, *shard, 0..layout.blocks())).collect();
        let rebuilt = encoded.commitment.rebuild(&rebuilder, &sources).unwrap();
        prop_assert_eq!(rebuilt.len(), lost.len());
        for (run, shard) in rebuilt.iter().zip(&lost) {
            prop_assert_eq!(run.shard(), *shard);
            prop_assert_eq!(run.bytes(), &encoded.shard(*shard));
        }
    }

    #[test]
    fn commitments_survive_their_encoding_and_nothing_else_does(
        (_, encoded, _) in damaged_chunk(), at: prop::sample::Index, flip in 1u8..=255,
    ) {
        let commitment = &encoded.commitment;
        let bytes = commitment.encode();
        let decoded = UncheckedCommitment::decode(&bytes).unwrap();
        prop_assert_eq!(decoded.claimed_root(), commitment.root());
        prop_assert_eq!(&decoded.check(&commitment.root()).unwrap(), commitment);

        let mut changed = bytes.to_vec();
        changed[at.index(bytes.len())] ^= flip;
        let checked = UncheckedCommitment::decode(&changed).map(|other| other.check(&commitment.root()));
        prop_assert!(!matches!(checked, Ok(Ok(_))), "byte {}", at.index(bytes.len()));
        prop_assert!(UncheckedCommitment::decode(&bytes[..at.index(bytes.len())]).is_err());
        changed.clone_from(&bytes.to_vec());
        changed.push(0);
        prop_assert!(UncheckedCommitment::decode(&changed).is_err());
    }

    #[test]
    fn a_changed_block_is_named(
        (_, encoded, _) in damaged_chunk(), shard: prop::sample::Index, at: prop::sample::Index, flip in 1u8..=255,
    ) {
        let commitment = &encoded.commitment;
        let shards = usize::from(commitment.layout().coding().shards());
        let shard = ShardIndex(shard.index(shards) as u8);
        let mut bytes = encoded.shard(shard).to_vec();
        prop_assert_eq!(commitment.check_blocks(shard, 0, &bytes), Ok(()));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let block = (at / BLOCK) as u32;
        prop_assert_eq!(commitment.check_blocks(shard, 0, &bytes), Err(BlockMismatch::Digest { shard, block }));
    }

    #[test]
    fn only_runs_of_whole_blocks_are_checked(
        (_, encoded, _) in damaged_chunk(), first: prop::sample::Index, length: prop::sample::Index,
    ) {
        let layout = *encoded.commitment.layout();
        let bytes = encoded.shard(ShardIndex(0));
        let first_block = first.index(layout.blocks() as usize + 2) as u32;
        let start = (first_block as usize * BLOCK).min(bytes.len());
        let run = bytes.slice(start..start + length.index(bytes.len() - start + 1));
        let end = start + run.len();
        let whole = !run.is_empty() && (end == bytes.len() || end.is_multiple_of(BLOCK));
        let verified = encoded.commitment.verify(ShardIndex(0), first_block, run.clone());
        prop_assert_eq!(verified.is_ok(), whole);
        if let Ok(verified) = verified {
            prop_assert_eq!(verified.range(), start as u32..end as u32);
            prop_assert_eq!(verified.bytes().as_ptr(), run.as_ptr());
        }
    }

    #[test]
    fn rows_pushed_one_by_one_are_the_chunk_coded_at_once((chunk, encoded, _) in damaged_chunk(), seed: u64) {
        // A builder that has already coded something else starts afresh.
        let preferred = encoded.commitment.layout().coding();
        let mut builder = ChunkBuilder::new(preferred);
        builder.push_row(content(seed, builder.row_bytes() as usize)).unwrap();
        builder.finish().unwrap();
        let mut rest = chunk;
        for expected in &encoded.rows {
            let row = builder.push_row(rest.split_to(rest.len().min(builder.row_bytes() as usize))).unwrap();
            prop_assert_eq!(&row.cells, &expected.cells);
        }
        prop_assert_eq!(builder.finish().unwrap(), encoded.commitment);
        prop_assert_eq!(builder.finish(), Err(EmptyChunk));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Objects of no bytes to several chunks and parts: every sampled block is proven, and the proof says
    /// which bytes of the part it holds.
    #[test]
    fn blocks_of_any_object_are_proven(
        lengths in prop::collection::vec(prop_oneof![Just(0usize), 1..200_000usize, 1..700_000usize], 1..4),
        chunk_bytes in prop_oneof![Just(100_000u32), Just(65_536), Just(300_000)],
        coding in coding(), picks in prop::collection::vec(any::<(prop::sample::Index, u8, u32)>(), 6), seed: u64,
    ) {
        let parts: Vec<Bytes> = lengths.iter().map(|length| content(seed, *length)).collect();
        let (blobs, chunks): (Vec<_>, Vec<_>) =
            parts.iter().map(|part| committed(part, chunk_bytes, coding)).unzip();
        let listed: Vec<Part> =
            blobs.iter().map(|blob| Part { length: blob.length(), blob: blob.root() }).collect();
        let object = ObjectCommitment::new(&listed).unwrap();
        let places: Vec<(usize, usize)> =
            chunks.iter().enumerate().flat_map(|(part, chunks)| (0..chunks.len()).map(move |c| (part, c))).collect();
        for (place, shard, block) in picks.into_iter().filter(|_| !places.is_empty()) {
            let (part, index) = *place.get(&places);
            let encoded = &chunks[part][index];
            let layout = *encoded.commitment.layout();
            let (shard, block) = (ShardIndex(shard % layout.coding().shards()), block % layout.blocks());
            let proof =
                BlockProof::new(&object, part as u32, &blobs[part], index as u32, &encoded.commitment, (shard, block))
                    .unwrap();
            let bytes = fetch(encoded, shard, block..block + 1).bytes().clone();
            let encoding = proof.encode();
            prop_assert!(encoding.len() <= BlockProof::BYTES_MAX);
            prop_assert_eq!(BlockProof::decode(&encoding).unwrap(), proof.clone());
            let proven = proof.verify(&object.root(), &bytes).unwrap();
            prop_assert_eq!((proven.part, proven.shard, proven.block), (part as u32, shard, block));
            if let Some(range) = proven.part_bytes {
                let held = &bytes[..(range.end - range.start) as usize];
                // A block lies within one cell, so its object bytes follow each other in the part.
                prop_assert_eq!(held, &parts[part][range.start as usize..range.end as usize]);
            }
            for at in [0, encoding.len() / 2, encoding.len() - 1] {
                let mut changed = encoding.clone();
                changed[at] ^= 1;
                let verified = BlockProof::decode(&changed).map(|proof| proof.verify(&object.root(), &bytes));
                prop_assert!(!matches!(verified, Ok(Ok(_))), "byte {}", at);
            }
        }
    }
}

fn committed(part: &Bytes, chunk_bytes: u32, coding: Coding) -> (BlobCommitment, Vec<EncodedChunk>) {
    let mut blob = BlobCommitment::with_chunk_bytes(chunk_bytes).unwrap();
    let mut chunks = Vec::new();
    let mut rest = part.clone();
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(chunk_bytes as usize));
        let length = chunk.len() as u32;
        let encoded = encode_chunk(coding, chunk).unwrap();
        blob.push(encoded.commitment.root(), length).unwrap();
        chunks.push(encoded);
    }
    assert_eq!(blob.length(), part.len() as u64);
    (blob, chunks)
}

/// Every way to lose up to m shards, for the codings that clusters use.
#[test]
fn every_erasure_pattern_of_common_codings_is_rebuilt() {
    for (k, m) in [(2, 1), (2, 2), (3, 2), (4, 2), (3, 3), (5, 3), (2, 4), (6, 3)] {
        let coding = Coding::new(k, m).unwrap();
        // Two rows, the last one short and padded.
        let chunk = content(u64::from(k) << 8 | u64::from(m), coding.row_bytes() as usize + 1000);
        let encoded = encode_chunk(coding, chunk).unwrap();
        let shards: Vec<Bytes> = coding.shard_indices().map(|shard| encoded.shard(shard)).collect();
        for lost_bits in 0u32..1 << coding.shards() {
            if lost_bits.count_ones() > u32::from(m) {
                continue;
            }
            let lost: Vec<_> = coding.shard_indices().filter(|shard| lost_bits >> shard.0 & 1 == 1).collect();
            let rebuilder = Rebuilder::new(coding, &left_of(coding, &lost), &lost).unwrap();
            let sources: Vec<_> =
                rebuilder.sources().iter().map(|shard| shards[shard.position()].clone()).collect();
            let rebuilt = rebuilder.rebuild(&sources).unwrap();
            for (bytes, shard) in rebuilt.iter().zip(&lost) {
                assert_eq!(bytes, &shards[shard.position()], "{coding}, lost {lost:?}, shard {shard}");
            }
        }
    }
}

/// Codings at the limits, where the unit vectors no longer fit one unit of the coder.
#[test]
fn wide_codings_are_rebuilt() {
    for (k, m) in [(62, 2), (32, 32), (33, 31), (2, 62), (40, 8)] {
        let coding = Coding::new(k, m).unwrap();
        let encoded = encode_chunk(coding, content(7, 300_000)).unwrap();
        let lost: Vec<_> = coding.shard_indices().step_by(2).take(usize::from(m)).collect();
        let rebuilder = Rebuilder::new(coding, &left_of(coding, &lost), &lost).unwrap();
        let sources: Vec<_> = rebuilder.sources().iter().map(|shard| encoded.shard(*shard)).collect();
        let rebuilt = rebuilder.rebuild(&sources).unwrap();
        for (bytes, shard) in rebuilt.iter().zip(&lost) {
            assert_eq!(bytes, &encoded.shard(*shard), "{coding}, shard {shard}");
        }
    }
}

#[test]
fn a_full_chunk_is_coded_without_copying_its_data() {
    let coding = Coding::new(4, 2).unwrap();
    let chunk = content(1, CHUNK_BYTES as usize);
    let encoded = encode_chunk(coding, chunk.clone()).unwrap();
    assert_eq!(encoded.rows.len(), 16);
    for (index, cell) in encoded.rows.iter().flat_map(|row| &row.cells[..4]).enumerate() {
        assert_eq!(cell.as_ptr(), chunk[index * CELL..].as_ptr());
    }
    let small = content(2, 4096);
    let copies = encode_chunk(coding, small.clone()).unwrap();
    assert_eq!(copies.commitment.layout().coding().to_string(), "1+2");
    assert_eq!(copies.rows[0].cells.len(), 3);
    assert!(copies.rows[0].cells.iter().all(|cell| cell.as_ptr() == small.as_ptr()));
}

#[test]
fn rows_that_cannot_come_next_leave_the_builder_as_it_was() {
    let coding = Coding::new(4, 2).unwrap();
    let mut builder = ChunkBuilder::new(coding);
    let row = content(3, 4 * CELL);
    let too_long = builder.push_row(content(3, 4 * CELL + 1));
    assert!(matches!(too_long, Err(PushRowError::RowLength(_))));
    assert!(matches!(builder.push_row(Bytes::new()), Err(PushRowError::RowLength(_))));
    builder.push_row(row.clone()).unwrap();
    builder.push_row(row.slice(..5)).unwrap();
    let chunk_len = 4 * CELL_BYTES + 5;
    assert_eq!(builder.push_row(row.clone()).err(), Some(PushRowError::AfterLast { chunk_len }));
    assert_eq!(builder.chunk_len(), chunk_len);
    let expected = encode_chunk(coding, Bytes::from([&row[..], &row[..5]].concat())).unwrap().commitment;
    assert_eq!(builder.finish(), Ok(expected));

    (0..16).for_each(|_| drop(builder.push_row(row.clone()).unwrap()));
    let chunk_len = CHUNK_BYTES + 1;
    assert_eq!(builder.push_row(row.slice(..1)).err(), Some(PushRowError::ChunkLength { chunk_len }));
    assert!(builder.finish().is_ok());
    assert!(encode_chunk(coding, Bytes::new()).is_err());
}
