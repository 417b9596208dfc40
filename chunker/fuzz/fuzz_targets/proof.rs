//! Foreign bytes as a proof, and a true proof with bytes changed, cut off or added.
#![no_main]

use ashlar_chunker::*;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

struct Fixture {
    root: ObjectRoot,
    proofs: Vec<(Vec<u8>, Bytes)>,
}

/// An object of three parts; every block of its second part with its true proof.
fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let coding = Coding::new(4, 2).expect("within limits");
        let mut blob = BlobCommitment::with_chunk_bytes(70_000).expect("within limits");
        let mut chunks = Vec::new();
        for (index, length) in [70_000usize, 70_000, 66_000].into_iter().enumerate() {
            let content: Vec<u8> = (0..length).map(|i| (i * 167 + i / 251 + index * 31) as u8).collect();
            let encoded = encode_chunk(coding, content.into()).expect("a chunk");
            blob.push(encoded.commitment.root(), length as u32).expect("in order");
            chunks.push(encoded);
        }
        let part = Part { length: blob.length(), blob: blob.root() };
        let other = Part { length: 5, blob: BlobRoot(Digest([9; 32])) };
        let object = ObjectCommitment::new(&[other, part, other]).expect("small");
        let mut proofs = Vec::new();
        for (index, encoded) in chunks.iter().enumerate() {
            for shard in coding.shard_indices() {
                for block in 0..2 {
                    let place = (shard, block);
                    let proof = BlockProof::new(&object, 1, &blob, index as u32, &encoded.commitment, place);
                    let range = encoded.commitment.layout().block_range(block);
                    let bytes = encoded.shard(shard).slice(range.start as usize..range.end as usize);
                    proofs.push((proof.expect("it is there").encode(), bytes));
                }
            }
        }
        Fixture { root: object.root(), proofs }
    })
}

fuzz_target!(|input: (u8, u8, Vec<(u16, u8)>, i8, &[u8])| {
    let (mode, pick, changes, length, foreign) = input;
    let fixture = fixture();
    let (proof, block) = &fixture.proofs[usize::from(pick) % fixture.proofs.len()];
    let mut bytes = if mode < 64 { foreign.to_vec() } else { proof.clone() };
    for (at, xor) in changes {
        let length = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(usize::from(at) % length) {
            *byte ^= xor;
        }
    }
    if mode >= 192 {
        let length = bytes.len().saturating_add_signed(length.into());
        bytes.resize(length, 0x5a);
    }
    let Ok(decoded) = BlockProof::decode(&bytes) else { return };
    assert_eq!(decoded.encode(), bytes);
    assert!(bytes.len() <= BlockProof::BYTES_MAX);
    let _ = decoded.verify(&fixture.root, foreign);
    if decoded.verify(&fixture.root, block).is_ok() {
        assert_eq!(&bytes, proof, "another proof of the same block");
    }
});
