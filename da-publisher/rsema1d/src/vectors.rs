//! The committed vectors of `docs/formats/rsema1d.md`, held against this implementation.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::assign::assign;
use crate::{Commitment, Opening, Profile, encode};

const VECTORS: &str = include_str!("../../../docs/formats/vectors/rsema1d.json");

/// Bytes that any language makes alike: byte i is the low byte of (i · 31 + ⌊i ÷ 256⌋ + seed).
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 31 + i / 256 + seed) % 256).expect("below 256")).collect()
}

fn profile(name: &str) -> Profile {
    if name == "large" { Profile::Large } else { Profile::Small }
}

fn blob_case(name: &str, len: usize, seed: usize, rows: &[u32]) -> Value {
    let encoded = encode(profile(name), Bytes::from(pattern(len, seed))).unwrap();
    let opening = encoded.opening().clone().check(encoded.commitment()).unwrap();
    let rows: Vec<Value> = rows
        .iter()
        .map(|index| {
            let proof = encoded.row(*index).unwrap();
            opening.check_row(proof.clone()).unwrap();
            json!({
                "index": index,
                "blake3_of_row": blake3::hash(&proof.row).to_hex().as_str(),
                "path": proof.path.iter().map(hex::encode).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "profile": name,
        "blob_bytes": len,
        "seed": seed,
        "opening": hex::encode(encoded.opening().to_bytes()),
        "commitment": encoded.commitment().to_string(),
        "rows": rows,
    })
}

fn assignment_case(name: &str, stakes: &[u128], seed: u8) -> Value {
    let assignment = assign(profile(name), stakes, &Commitment([seed; 32])).unwrap();
    let rows: Vec<&[u32]> = (0..stakes.len()).map(|signer| assignment.rows_of(signer)).collect();
    let stakes: Vec<u64> = stakes.iter().map(|stake| u64::try_from(*stake).unwrap()).collect();
    let listed = if name == "large" {
        let text = rows.iter().map(|rows| format!("{rows:?}")).collect::<Vec<_>>().join("\n");
        json!({ "blake3_of_rows": blake3::hash(text.as_bytes()).to_hex().as_str() })
    } else {
        json!(rows)
    };
    json!({ "profile": name, "stakes": stakes, "commitment_byte": seed, "rows": listed })
}

fn computed() -> Value {
    let large: Vec<u128> = (1..=40).map(|i| 1000 + i * i).collect();
    json!({
        "blobs": [
            blob_case("small", 1, 1, &[0, 4, 15]),
            blob_case("small", 256, 2, &[3, 8]),
            blob_case("small", 257, 3, &[1, 12]),
            blob_case("small", 70_000, 4, &[2, 9]),
            blob_case("small", 300_000, 5, &[0, 15]),
            blob_case("large", 20_000, 6, &[0, 255, 256, 1023]),
        ],
        "assignments": [
            assignment_case("small", &[1; 6], 0),
            assignment_case("small", &[22, 22, 22, 6, 6, 6, 6, 0, 1], 0),
            assignment_case("small", &[1; 28], 0),
            assignment_case("large", &large, 7),
        ],
    })
}

#[test]
fn the_committed_vectors_hold() {
    let expected: Value = serde_json::from_str(VECTORS).unwrap();
    let computed = computed();
    assert_eq!(computed, expected, "computed:\n{}", serde_json::to_string_pretty(&computed).unwrap());
    for blob in expected["blobs"].as_array().unwrap() {
        let opening = hex::decode(blob["opening"].as_str().unwrap()).unwrap();
        let opening = Opening::from_bytes(&opening).unwrap();
        assert_eq!(opening.commitment().to_string(), blob["commitment"].as_str().unwrap());
    }
}
