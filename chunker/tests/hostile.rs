//! Commitments that are consistent in themselves but were made by somebody who means harm, and uses of checked
//! bytes where they do not belong.

#![allow(clippy::unwrap_used)]

use ashlar_chunker::*;
use bytes::Bytes;

fn content(name: &str, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn coding() -> Coding {
    Coding::new(4, 2).unwrap()
}

/// Checks a forged commitment against the root that it makes itself: a malicious writer's own.
fn adopt(forged: &[u8]) -> ChunkCommitment {
    let forged = UncheckedCommitment::decode(forged).unwrap();
    let root = forged.claimed_root();
    forged.check(&root).unwrap()
}

#[test]
fn shards_that_are_no_code_words_of_each_other_raise_an_alarm() {
    let (one, two) = (
        encode_chunk(coding(), content("one", 70_000)).unwrap(),
        encode_chunk(coding(), content("two", 70_000)).unwrap(),
    );
    let blocks = one.commitment.layout().blocks() as usize;
    let (mut forged, foreign) = (one.commitment.encode().to_vec(), two.commitment.encode());
    // Parity shard 4: its root and its leaves are those of another chunk.
    let root_at = 12 + 4 * 32;
    let table_at = 12 + 6 * 32 + 4 * blocks * 32;
    for (at, length) in [(root_at, 32), (table_at, blocks * 32)] {
        forged[at..at + length].copy_from_slice(&foreign[at..at + length]);
    }
    let commitment = adopt(&forged);
    assert_ne!(commitment.root(), one.commitment.root());

    let (lost, all) = (ShardIndex(1), coding().shard_indices());
    let left: Vec<_> = all.filter(|shard| *shard != lost && *shard != ShardIndex(5)).collect();
    let rebuilder = Rebuilder::new(coding(), &left, &[lost]).unwrap();
    let sources: Vec<_> = rebuilder
        .sources()
        .iter()
        .map(|shard| {
            let of = if *shard == ShardIndex(4) { &two } else { &one };
            commitment.verify(*shard, 0, of.shard(*shard)).unwrap()
        })
        .collect();
    let alarm = RebuildContradiction { chunk: commitment.root(), shard: lost, block: 0 };
    assert_eq!(commitment.rebuild(&rebuilder, &sources).unwrap_err(), RebuildError::Contradiction(alarm));
}

#[test]
fn padding_that_is_not_zero_is_neither_assembled_nor_proven() {
    // 70,000 committed bytes, declared as 69,990: what was content is now padding.
    let encoded = encode_chunk(coding(), content("padded", 70_000)).unwrap();
    let mut forged = encoded.commitment.encode().to_vec();
    forged[2..6].copy_from_slice(&69_990u32.to_be_bytes());
    let commitment = adopt(&forged);
    let last = ShardIndex(3);
    let padding = commitment.layout().padding(last);
    let run = commitment.verify(last, 0, encoded.shard(last)).unwrap();
    let error = AssembleError::Padding { shard: last, offset: padding.start };
    assert_eq!(commitment.assemble(69_000..69_990, &[run]).unwrap_err(), error);

    let mut blob = BlobCommitment::new();
    blob.push(commitment.root(), 69_990).unwrap();
    let object = ObjectCommitment::new(&[Part { length: 69_990, blob: blob.root() }]).unwrap();
    let proof = BlockProof::new(&object, 0, &blob, 0, &commitment, (last, 1)).unwrap();
    let block = encoded.shard(last).slice(BLOCK_BYTES as usize..);
    assert_eq!(proof.verify(&object.root(), &block), Err(ProofError::Padding));
    let proof = BlockProof::new(&object, 0, &blob, 0, &commitment, (last, 0)).unwrap();
    assert!(proof.verify(&object.root(), &encoded.shard(last).slice(..BLOCK_BYTES as usize)).is_ok());
}

/// Every copy is checked, not only the first.
#[test]
fn padding_of_copies_is_checked_too() {
    let encoded = encode_chunk(coding(), content("copies", 128)).unwrap();
    let mut forged = encoded.commitment.encode().to_vec();
    forged[2..6].copy_from_slice(&100u32.to_be_bytes());
    let commitment = adopt(&forged);
    for shard in commitment.layout().coding().shard_indices() {
        let run = commitment.verify(shard, 0, encoded.shard(shard)).unwrap();
        let error = AssembleError::Padding { shard, offset: 100 };
        assert_eq!(commitment.assemble(0..100, &[run]).unwrap_err(), error);
        let mut blob = BlobCommitment::new();
        blob.push(commitment.root(), 100).unwrap();
        let object = ObjectCommitment::new(&[Part { length: 100, blob: blob.root() }]).unwrap();
        let proof = BlockProof::new(&object, 0, &blob, 0, &commitment, (shard, 0)).unwrap();
        assert_eq!(proof.verify(&object.root(), &encoded.shard(shard)), Err(ProofError::Padding));
    }
}

#[test]
fn checked_blocks_serve_their_own_chunk_only() {
    let one = encode_chunk(coding(), content("one", 300_000)).unwrap();
    let two = encode_chunk(coding(), content("two", 300_000)).unwrap();
    let run = |of: &EncodedChunk, shard: u8| {
        of.commitment.verify(ShardIndex(shard), 0, of.shard(ShardIndex(shard))).unwrap()
    };
    let (expected, found) = (one.commitment.root(), two.commitment.root());
    let mixed = [run(&one, 0), run(&two, 1)];
    let error = AssembleError::OtherChunk { expected, found };
    assert_eq!(one.commitment.assemble(0..10, &mixed).unwrap_err(), error);

    let rebuilder = Rebuilder::new(coding(), &[0, 1, 2, 3].map(ShardIndex), &[ShardIndex(4)]).unwrap();
    let mixed = [run(&one, 0), run(&two, 1), run(&one, 2), run(&one, 3)];
    let error = RebuildError::Sources(RebuildSources::OtherChunk { expected, found });
    assert_eq!(one.commitment.rebuild(&rebuilder, &mixed).unwrap_err(), error);
}

#[test]
fn what_is_missing_is_said() {
    let encoded = encode_chunk(coding(), content("gaps", 300_000)).unwrap();
    let commitment = &encoded.commitment;
    let shard = encoded.shard(ShardIndex(0));
    let first = commitment.verify(ShardIndex(0), 0, shard.slice(..BLOCK_BYTES as usize)).unwrap();
    let missing = AssembleError::Missing { shard: ShardIndex(0), offset: BLOCK_BYTES };
    assert_eq!(commitment.assemble(100..20_000, std::slice::from_ref(&first)).unwrap_err(), missing);
    assert_eq!(
        commitment.assemble(100..200, std::slice::from_ref(&first)).unwrap().concat(),
        shard[100..200]
    );
    assert!(commitment.assemble(7..7, &[]).unwrap().is_empty());
    let range = AssembleError::Range { start: 5, end: 300_001, chunk_len: 300_000 };
    assert_eq!(commitment.assemble(5..300_001, &[]).unwrap_err(), range);
    #[expect(clippy::reversed_empty_ranges)]
    let backwards = commitment.assemble(9..8, &[]);
    assert!(matches!(backwards, Err(AssembleError::Range { .. })));

    let rebuilder = Rebuilder::new(coding(), &[0, 1, 2, 3].map(ShardIndex), &[ShardIndex(4)]).unwrap();
    let run = RebuildSources::Run { shard: ShardIndex(1) };
    assert_eq!(commitment.rebuild(&rebuilder, std::slice::from_ref(&first)).unwrap_err(), run.into());
    let other_run =
        commitment.verify(ShardIndex(1), 1, encoded.shard(ShardIndex(1)).slice(16384..32768)).unwrap();
    assert_eq!(commitment.rebuild(&rebuilder, &[first, other_run]).unwrap_err(), run.into());
    let sources = RebuildSources::Count { expected: 4, found: 1 };
    assert_eq!(rebuilder.rebuild(std::slice::from_ref(&shard)), Err(sources));
    let uneven = [shard.clone(), shard.clone(), shard.slice(..64), shard.clone()];
    let length = RebuildSources::Length { first: shard.len(), length: 64 };
    assert_eq!(rebuilder.rebuild(&uneven), Err(length));
}

#[test]
fn a_partly_checked_commitment_checks_only_those_shards() {
    let encoded = encode_chunk(coding(), content("partly", 300_000)).unwrap();
    let root = encoded.commitment.root();
    let mut bytes = encoded.commitment.encode().to_vec();
    *bytes.last_mut().unwrap() ^= 1; // a leaf of shard 5
    let decode = || UncheckedCommitment::decode(&bytes).unwrap();
    let table = CommitmentMismatch::Table { shard: ShardIndex(5) };
    assert_eq!(decode().check(&root).unwrap_err(), table);
    let partly = decode().check_shards(&root, &[ShardIndex(0)]).unwrap();
    assert_eq!(partly.check_blocks(ShardIndex(0), 0, &encoded.shard(ShardIndex(0))), Ok(()));
    let shard = ShardIndex(1);
    let not_checked = BlockMismatch::TableNotChecked { shard };
    assert_eq!(partly.check_blocks(shard, 0, &encoded.shard(shard)), Err(not_checked));
    assert_eq!(partly.leaves(shard), None);
    let more = partly.check_more(&[shard]).unwrap();
    assert_eq!(more.check_blocks(shard, 0, &encoded.shard(shard)), Ok(()));
    assert_eq!(more.check_more(&[ShardIndex(5)]).unwrap_err(), table);
    let shard = ShardIndex(6);
    let no_shard = CommitmentMismatch::NoSuchShard { shard };
    assert_eq!(decode().check_shards(&root, &[shard]).unwrap_err(), no_shard);
    assert_eq!(encoded.commitment.check_blocks(shard, 0, b"x"), Err(BlockMismatch::NoSuchShard { shard }));
    let other = ChunkRoot(Digest::ZERO);
    let mismatch = CommitmentMismatch::Root { expected: other, found: root };
    assert_eq!(decode().check(&other).unwrap_err(), mismatch);
}

/// Headers that ask for huge tables are refused by their limits or by the length of what follows.
#[test]
fn hostile_headers_are_refused_before_anything_is_allocated() {
    let header = |chunk_len: u32, k: u8, m: u8, cell: u32| {
        [&1u16.to_be_bytes()[..], &chunk_len.to_be_bytes(), &[k, m], &cell.to_be_bytes()].concat()
    };
    let refused = |bytes: &[u8]| UncheckedCommitment::decode(bytes).unwrap_err();
    assert!(matches!(refused(&header(u32::MAX, 1, 0, CELL_BYTES)), CommitmentDecodeError::Header(_)));
    assert!(matches!(refused(&header(CHUNK_BYTES, 0, 4, CELL_BYTES)), CommitmentDecodeError::Header(_)));
    assert!(matches!(refused(&header(CHUNK_BYTES, 255, 255, CELL_BYTES)), CommitmentDecodeError::Header(_)));
    assert!(matches!(refused(&header(CHUNK_BYTES, 4, 2, 0)), CommitmentDecodeError::Header(_)));
    assert!(matches!(refused(&header(0, 4, 2, CELL_BYTES)), CommitmentDecodeError::Header(_)));
    assert!(matches!(refused(&header(CHUNK_BYTES, 2, 62, CELL_BYTES)), CommitmentDecodeError::Length { .. }));
    assert!(matches!(refused(&[]), CommitmentDecodeError::Truncated { length: 0 }));
    assert!(matches!(refused(&[0, 1, 0]), CommitmentDecodeError::Truncated { length: 3 }));
    assert!(matches!(refused(&[0, 2, 0]), CommitmentDecodeError::Header(HeaderError::Format { format: 2 })));
}

#[test]
fn too_few_shards_rebuild_nothing() {
    let shards = |indices: &[u8]| indices.iter().map(|index| ShardIndex(*index)).collect::<Vec<_>>();
    let plan = |left: &[u8], wanted: &[u8]| Rebuilder::new(coding(), &shards(left), &shards(wanted)).err();
    assert_eq!(plan(&[0, 1, 4], &[2]), Some(RebuilderError::TooFew { available: 3, k: 4 }));
    assert_eq!(plan(&[0, 0, 1, 1, 4, 4], &[2]), Some(RebuilderError::TooFew { available: 3, k: 4 }));
    assert_eq!(plan(&[0, 1, 4, 6], &[2]), Some(RebuilderError::NoSuchShard { shard: ShardIndex(6) }));
    assert_eq!(plan(&[0, 1, 4, 5], &[9]), Some(RebuilderError::NoSuchShard { shard: ShardIndex(9) }));
    assert_eq!(plan(&[5, 4, 1, 0, 0], &[2, 3, 2]), None);
    let other = Rebuilder::new(Coding::new(2, 2).unwrap(), &shards(&[0, 1]), &shards(&[2])).unwrap();
    let encoded = encode_chunk(coding(), content("coding", 70_000)).unwrap();
    let mismatch = RebuildSources::Coding { rebuilder: Coding::new(2, 2).unwrap(), chunk: coding() };
    assert_eq!(encoded.commitment.rebuild(&other, &[]).unwrap_err(), mismatch.into());
}
