//! What must not pass for a proof: nodes of other levels, splices of true proofs, any changed bit.

use super::*;
use crate::builder::{EncodedChunk, encode_chunk};
use crate::digest::ChunkRoot;
use crate::object::Part;
use bytes::Bytes;

const CHUNK: u32 = 70_000;

/// An object of three parts with 5, 2 and 3 chunks, all coded 4+2 with two blocks a shard and no two blocks
/// alike; enough that every tree has promoted and paired nodes.
struct Fixture {
    object: ObjectCommitment,
    blobs: Vec<BlobCommitment>,
    chunks: Vec<Vec<EncodedChunk>>,
}

impl Fixture {
    fn new() -> Self {
        let coding = Coding::new(4, 2).unwrap();
        let (mut blobs, mut chunks) = (Vec::new(), Vec::new());
        for (part, count) in [(0u8, 5u8), (1, 2), (2, 3)] {
            let mut blob = BlobCommitment::with_chunk_bytes(CHUNK).unwrap();
            let encoded: Vec<_> = (0..count)
                .map(|index| {
                    // The last chunk of each part is short, but not small.
                    let length = if index + 1 == count { 66_000 } else { 70_000 };
                    let mut bytes = vec![0; length];
                    blake3::Hasher::new().update(&[part, index]).finalize_xof().fill(&mut bytes);
                    encode_chunk(coding, bytes.into()).unwrap()
                })
                .collect();
            for chunk in &encoded {
                blob.push(chunk.commitment.root(), chunk.commitment.layout().chunk_len()).unwrap();
            }
            blobs.push(blob);
            chunks.push(encoded);
        }
        let parts: Vec<Part> = blobs.iter().map(|b| Part { length: b.length(), blob: b.root() }).collect();
        Self { object: ObjectCommitment::new(&parts).unwrap(), blobs, chunks }
    }

    fn prove(&self, part: u32, chunk: u32, shard: u8, block: u32) -> (BlockProof, Bytes) {
        let blob = &self.blobs[part as usize];
        let encoded = &self.chunks[part as usize][chunk as usize];
        let shard = ShardIndex(shard);
        let proof =
            BlockProof::new(&self.object, part, blob, chunk, &encoded.commitment, (shard, block)).unwrap();
        let range = encoded.commitment.layout().block_range(block);
        (proof, encoded.shard(shard).slice(range.start as usize..range.end as usize))
    }

    fn places(&self) -> impl Iterator<Item = (u32, u32, u8, u32)> {
        [(0, 5), (1, 2), (2, 3)].into_iter().flat_map(|(part, chunks)| {
            (0..chunks).flat_map(move |chunk| {
                (0..6u8).flat_map(move |s| (0..2u32).map(move |b| (part, chunk, s, b)))
            })
        })
    }

    /// Every node there is, with the name of its level.
    fn nodes(&self) -> Vec<(&'static str, Node)> {
        let mut nodes = vec![("object root", *self.object.root().as_bytes()), ("nothing", [0; 32])];
        let leaves: Vec<Node> = (0..3).map(|part| self.object.leaf(part).unwrap()).collect();
        nodes.push(("node over parts", tree::root::<PARTS>(&leaves[..2])));
        nodes.push(("root over parts", tree::root::<PARTS>(&leaves)));
        nodes.extend(leaves.iter().map(|leaf| ("part leaf", *leaf)));
        for (blob, chunks) in self.blobs.iter().zip(&self.chunks) {
            let roots: Vec<Node> = chunks.iter().map(|c| *c.commitment.root().as_bytes()).collect();
            nodes.push(("blob root", *blob.root().as_bytes()));
            nodes.push(("root over chunks", tree::root::<CHUNKS>(&roots)));
            nodes.push(("node over chunks", tree::root::<CHUNKS>(&roots[..2])));
            nodes.extend(roots.iter().map(|root| ("chunk root", *root)));
            let commitment = &chunks[0].commitment;
            let shards: Vec<Node> =
                (0..6).map(|shard| *commitment.shard_root(ShardIndex(shard)).unwrap().as_bytes()).collect();
            nodes.push(("root over shards", tree::root::<SHARDS>(&shards)));
            nodes.push(("node over shards", tree::root::<SHARDS>(&shards[..2])));
            nodes.extend(shards.iter().map(|root| ("shard root", *root)));
            let blocks = (0..6).flat_map(|shard| commitment.leaves(ShardIndex(shard)).unwrap().to_vec());
            nodes.extend(blocks.map(|leaf| ("block", leaf)));
        }
        nodes
    }
}

#[test]
fn every_block_of_the_object_is_proven_at_its_own_place_only() {
    let fixture = Fixture::new();
    let root = fixture.object.root();
    let all: Vec<_> = fixture.places().map(|(p, c, s, b)| fixture.prove(p, c, s, b)).collect();
    assert_eq!(all.len(), 10 * 6 * 2);
    for (at, (proof, block)) in all.iter().enumerate() {
        assert!(proof.verify(&root, block).is_ok());
        for (other, (_, other_block)) in all.iter().enumerate().filter(|(other, _)| *other != at) {
            assert!(proof.verify(&root, other_block).is_err(), "block {other} by proof {at}");
        }
    }
}

/// In the place of every sibling, every node of every level: shard root for block, chunk root for shard root,
/// inner node for leaf, and so on. None verifies but the sibling itself.
#[test]
fn no_node_of_any_level_stands_in_for_a_sibling() {
    let fixture = Fixture::new();
    let (root, nodes) = (fixture.object.root(), fixture.nodes());
    for (part, chunk, shard, block) in [(0, 0, 0, 0), (0, 4, 5, 1), (1, 1, 3, 0), (2, 2, 4, 1)] {
        let (proof, bytes) = fixture.prove(part, chunk, shard, block);
        for level in 0..4 {
            for at in 0..proof.paths[level].len() {
                for (name, node) in nodes.iter().filter(|(_, node)| *node != proof.paths[level][at]) {
                    let mut other = proof.clone();
                    other.paths[level][at] = *node;
                    assert!(other.verify(&root, &bytes).is_err(), "{name} in path {level} at {at}");
                }
            }
        }
        for (name, node) in nodes.iter().filter(|(_, node)| *node != *root.as_bytes()) {
            assert!(proof.verify(&(*node).into(), &bytes).is_err(), "{name} as object root");
        }
    }
}

/// The same digests under another level's header or tag make another root, whatever their number.
#[test]
fn no_level_shares_a_root_with_another() {
    let fixture = Fixture::new();
    let leaves: Vec<Node> = fixture.nodes().into_iter().map(|(_, node)| node).collect();
    for count in [1, 2, 3, 5] {
        let leaves = &leaves[..count];
        let trees = [
            tree::root::<BLOCKS>(leaves),
            tree::root::<SHARDS>(leaves),
            tree::root::<CHUNKS>(leaves),
            tree::root::<PARTS>(leaves),
        ];
        let length = u64::try_from(count).unwrap() * u64::from(CHUNK);
        let blob = BlobHeader::new(length, CHUNK).unwrap();
        let object = ObjectHeader { length, part_count: u32::try_from(count).unwrap() };
        let layout = crate::ChunkLayout::new(CHUNK, Coding::new(u8::try_from(count).unwrap(), 0).unwrap());
        let chunk = ChunkHeader::new(layout.unwrap());
        let mut roots = vec![];
        for tree in &trees {
            roots.push(*blob.root(tree).as_bytes());
            roots.push(*chunk.root(tree).as_bytes());
            roots.push(*object.root(tree).as_bytes());
            roots.push(part_leaf(length, &(*tree).into()));
        }
        // A tree of one leaf is that leaf in every tree; from two leaves on all four differ.
        let distinct_trees = if count == 1 { 1 } else { 4 };
        roots.sort_unstable();
        roots.dedup();
        assert_eq!(roots.len(), 4 * distinct_trees, "{count} leaves");
        assert!(roots.iter().all(|root| !leaves.contains(root)));
    }
}

/// Every mixture of two true proofs' headers, indexes and paths: it is one of the two, or it fails.
#[test]
fn splices_of_true_proofs_fail() {
    let fixture = Fixture::new();
    let root = fixture.object.root();
    let places =
        [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 3, 5, 1), (0, 4, 2, 0), (1, 1, 0, 0), (2, 2, 4, 1)];
    let proofs = places.map(|(p, c, s, b)| fixture.prove(p, c, s, b));
    for (ours, block) in &proofs {
        for (theirs, _) in proofs.iter().filter(|(theirs, _)| theirs != ours) {
            for taken in 1u32..1 << 10 {
                let spliced = splice(ours, theirs, taken);
                if spliced == *ours {
                    continue;
                }
                let verified = BlockProof::decode(&spliced.encode()).map(|proof| proof.verify(&root, block));
                assert!(!matches!(verified, Ok(Ok(_))), "{taken:#b} of {theirs:?} in {ours:?}");
            }
        }
    }
}

fn splice(ours: &BlockProof, theirs: &BlockProof, taken: u32) -> BlockProof {
    let takes = |bit: u32| taken >> bit & 1 == 1;
    let mut spliced = ours.clone();
    let (place, other) = (&mut spliced.place, &theirs.place);
    if takes(0) {
        place.part = other.part;
    }
    if takes(1) {
        place.blob = other.blob;
    }
    if takes(2) {
        place.chunk = other.chunk;
    }
    if takes(3) {
        place.header = other.header;
    }
    if takes(4) {
        place.shard = other.shard;
    }
    if takes(5) {
        place.block = other.block;
    }
    for level in 0..4 {
        if takes(6 + level) {
            let level = usize::try_from(level).unwrap();
            spliced.paths[level].clone_from(&theirs.paths[level]);
        }
    }
    spliced
}

#[test]
fn any_changed_bit_and_any_other_length_fails() {
    let fixture = Fixture::new();
    let root = fixture.object.root();
    for (part, chunk, shard, block) in [(0, 4, 5, 1), (0, 1, 2, 0), (2, 0, 0, 1)] {
        let (proof, bytes) = fixture.prove(part, chunk, shard, block);
        let encoding = proof.encode();
        for bit in 0..encoding.len() * 8 {
            let mut changed = encoding.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let verified = BlockProof::decode(&changed).map(|proof| proof.verify(&root, &bytes));
            assert!(!matches!(verified, Ok(Ok(_))), "bit {bit}");
        }
        for length in 0..encoding.len() {
            assert!(BlockProof::decode(&encoding[..length]).is_err(), "cut to {length} bytes");
        }
        for more in [1, 31, 32, 64] {
            let mut longer = encoding.clone();
            longer.resize(encoding.len() + more, 0);
            assert!(BlockProof::decode(&longer).is_err(), "{more} more bytes");
        }
        let short = ProofError::BlockLength { length: bytes.len() - 1, expected: bytes.len() };
        assert_eq!(proof.verify(&root, &bytes[1..]), Err(short));
    }
}

#[test]
fn a_proof_is_only_made_of_what_belongs_together() {
    let fixture = Fixture::new();
    let (object, blob) = (&fixture.object, &fixture.blobs[0]);
    let chunk = &fixture.chunks[0][0].commitment;
    let prove =
        |part, blob, index, chunk, place| BlockProof::new(object, part, blob, index, chunk, place).err();
    let place = (ShardIndex(0), 0);
    assert_eq!(prove(0, blob, 0, chunk, place), None);
    assert_eq!(prove(1, blob, 0, chunk, place), Some(ProveError::Part { part: 1 }));
    assert_eq!(prove(3, blob, 0, chunk, place), Some(ProveError::Part { part: 3 }));
    assert_eq!(prove(0, &fixture.blobs[1], 0, chunk, place), Some(ProveError::Part { part: 0 }));
    assert_eq!(prove(0, blob, 1, chunk, place), Some(ProveError::Chunk { chunk: 1 }));
    assert_eq!(prove(0, blob, 5, chunk, place), Some(ProveError::Chunk { chunk: 5 }));
    for (shard, block) in [(ShardIndex(6), 0), (ShardIndex(0), 2), (ShardIndex(255), u32::MAX)] {
        assert_eq!(prove(0, blob, 0, chunk, (shard, block)), Some(ProveError::Block { shard, block }));
    }
    // A leaf table that nobody checked proves nothing.
    let unchecked = crate::UncheckedCommitment::decode(&chunk.encode()).unwrap();
    let partly = unchecked.check_shards(&chunk.root(), &[ShardIndex(1)]).unwrap();
    let block = ProveError::Block { shard: ShardIndex(0), block: 0 };
    assert_eq!(prove(0, blob, 0, &partly, place), Some(block));
    assert_eq!(prove(0, blob, 0, &partly, (ShardIndex(1), 0)), None);
    assert_ne!(chunk.root(), ChunkRoot(Digest::ZERO));
}
