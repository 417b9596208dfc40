//! The committed vectors of `docs/formats/commitment.md`: computes them again and compares.
//!
//! A difference means that the format changed, and with it the root of everything ever written. Where that is
//! meant, `ASHLAR_WRITE_VECTORS=1 cargo test -p ashlar-chunker vectors` writes the file anew.

use crate::tree::{self, BLOCKS, CHUNKS, Node, PARTS, SHARDS};
use crate::*;
use bytes::Bytes;
use serde_json::{Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats/vectors/commitment.json");
const COUNTS: [usize; 4] = [1, 2, 3, 5];

/// What the vectors' content is made of: (i · 167 + ⌊i / 256⌋ · 13 + seed) mod 256.
fn content(seed: usize, length: usize) -> Bytes {
    (0..length).map(|i| u8::try_from((i * 167 + i / 256 * 13 + seed) % 256).unwrap()).collect()
}

fn coding(k: u8, m: u8) -> Coding {
    Coding::new(k, m).unwrap()
}

fn hex_all(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(hex::encode).collect()
}

fn tree_vectors<const TAG: u8>(name: &str) -> Vec<Value> {
    let of_count = |count: usize| {
        let leaves: Vec<Node> =
            (0..count).map(|i| *blake3::hash(&[u8::try_from(i).unwrap()]).as_bytes()).collect();
        let paths: Vec<_> =
            (0..count).map(|index| hex_all(&tree::path::<TAG>(&leaves, index).unwrap())).collect();
        json!({
            "tree": name, "node_tag": hex::encode([TAG]), "leaves": hex_all(&leaves),
            "root": hex::encode(tree::root::<TAG>(&leaves)), "paths": paths,
        })
    };
    COUNTS.into_iter().map(of_count).collect()
}

fn chunk_vector(preferred: Coding, seed: usize, length: usize) -> Value {
    let encoded = encode_chunk(preferred, content(seed, length)).unwrap();
    let layout = encoded.commitment.layout();
    let shards: Vec<_> = layout.coding().shard_indices().collect();
    json!({
        "seed": seed, "length": length, "preferred": preferred.to_string(),
        "coding": layout.coding().to_string(), "rows": layout.rows(), "shard_bytes": layout.shard_bytes(),
        "blocks": layout.blocks(),
        "shard_blake3": shards.iter().map(|s| blake3::hash(&encoded.shard(*s)).to_string()).collect::<Vec<_>>(),
        "shard_roots": shards.iter().map(|s| encoded.commitment.shard_root(*s).unwrap().to_string()).collect::<Vec<_>>(),
        "chunk_root": encoded.commitment.root().to_string(),
        "commitment": hex::encode(encoded.commitment.encode()),
    })
}

/// An object with one part per length; proves the first and the last block of every chunk's last shard.
fn object_vector(preferred: Coding, chunk_bytes: u32, lengths: &[usize]) -> Value {
    let mut blobs = Vec::new();
    let mut chunks = Vec::new();
    for (seed, length) in lengths.iter().enumerate() {
        let mut blob = BlobCommitment::with_chunk_bytes(chunk_bytes).unwrap();
        let mut rest = content(seed, *length);
        let mut of_part = Vec::new();
        while !rest.is_empty() {
            let encoded =
                encode_chunk(preferred, rest.split_to(rest.len().min(chunk_bytes as usize))).unwrap();
            blob.push(encoded.commitment.root(), encoded.commitment.layout().chunk_len()).unwrap();
            of_part.push(encoded);
        }
        blobs.push(blob);
        chunks.push(of_part);
    }
    let parts: Vec<Part> = blobs.iter().map(|b| Part { length: b.length(), blob: b.root() }).collect();
    let object = ObjectCommitment::new(&parts).unwrap();
    let mut proofs = Vec::new();
    for (part, of_part) in chunks.iter().enumerate() {
        for (chunk, encoded) in of_part.iter().enumerate() {
            let layout = *encoded.commitment.layout();
            let shard = layout.coding().shard_indices().next_back().unwrap();
            let mut blocks = vec![0, layout.blocks() - 1];
            blocks.dedup();
            for block in blocks {
                let place = (shard, block);
                let blob = &blobs[part];
                let proof =
                    BlockProof::new(&object, part as u32, blob, chunk as u32, &encoded.commitment, place);
                proofs.push(json!({
                    "part": part, "chunk": chunk, "shard": shard.0, "block": block,
                    "leaf": hex::encode(encoded.commitment.leaves(shard).unwrap()[block as usize]),
                    "proof": hex::encode(proof.unwrap().encode()),
                }));
            }
        }
    }
    let roots = |of_part: &Vec<EncodedChunk>| -> Vec<String> {
        of_part.iter().map(|chunk| chunk.commitment.root().to_string()).collect()
    };
    let contents: Vec<_> = lengths
        .iter()
        .enumerate()
        .map(|(seed, length)| (*length as u64, ContentHasher::digest(&content(seed, *length))))
        .collect();
    json!({
        "preferred": preferred.to_string(), "chunk_bytes": chunk_bytes, "part_lengths": lengths,
        "chunk_roots": chunks.iter().map(roots).collect::<Vec<_>>(),
        "blob_roots": blobs.iter().map(|blob| blob.root().to_string()).collect::<Vec<_>>(),
        "object_root": object.root().to_string(),
        "content_root_of_first_part": contents[0].1.to_string(),
        "content_root_of_parts": content_root_of_parts(contents.iter().copied()).to_string(),
        "proofs": proofs,
    })
}

fn compute() -> Value {
    let mut trees = tree_vectors::<BLOCKS>("blocks");
    trees.extend(tree_vectors::<SHARDS>("shards"));
    trees.extend(tree_vectors::<CHUNKS>("chunks"));
    trees.extend(tree_vectors::<PARTS>("parts"));
    let chunks = vec![
        // 1, 2, 3 and 5 blocks a shard, and one shard more than a tree of blocks can hide.
        chunk_vector(coding(1, 0), 1, 1),
        chunk_vector(coding(1, 1), 2, 20_000),
        chunk_vector(coding(1, 2), 3, 40_000),
        chunk_vector(coding(1, 4), 4, 70_000),
        // Small, so copies; one byte more, so coded; one row and a bit.
        chunk_vector(coding(4, 2), 5, 65_536),
        chunk_vector(coding(4, 2), 6, 65_537),
        chunk_vector(coding(4, 2), 7, 262_244),
        chunk_vector(coding(3, 2), 8, 70_000),
        chunk_vector(coding(2, 2), 9, 131_072),
        chunk_vector(coding(5, 0), 10, 400_000),
    ];
    let mut objects = vec![object_vector(coding(4, 2), CHUNK_BYTES, &[0])];
    // 1, 2, 3 and 5 chunks in a part; 1, 2, 3 and 5 parts.
    objects.extend(COUNTS.map(|count| object_vector(coding(1, 2), 1000, &[1000 * count - 1])));
    objects.extend(COUNTS.map(|count| object_vector(coding(1, 1), 1000, &vec![100; count])));
    objects.push(object_vector(coding(4, 2), 70_000, &[150_000, 70_000, 0]));
    json!({
        "about": "Vectors of docs/formats/commitment.md. Digests, proofs and commitments are hexadecimal. \
                  Byte i of content with a seed is (i * 167 + i / 256 * 13 + seed) mod 256; leaf i of a tree \
                  is BLAKE3 of the one byte i; part i of an object has seed i.",
        "trees": trees, "chunks": chunks, "objects": objects,
    })
}

#[test]
fn committed_vectors_are_what_we_compute() {
    let computed = compute();
    if std::env::var_os("ASHLAR_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, serde_json::to_string_pretty(&computed).unwrap() + "\n").unwrap();
    }
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    for section in ["about", "trees", "chunks", "objects"] {
        if let (Some(computed), Some(committed)) =
            (computed[section].as_array(), committed[section].as_array())
        {
            assert_eq!(computed.len(), committed.len(), "{section}");
            computed.iter().zip(committed).for_each(|(ours, theirs)| assert_eq!(ours, theirs, "{section}"));
        } else {
            assert_eq!(computed[section], committed[section], "{section}");
        }
    }
}
