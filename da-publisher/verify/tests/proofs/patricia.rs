//! Ethereum's Merkle-Patricia tries, built and proven as plainly as possible, for keys of one length.

use crate::world::keccak;
use ashlar_verify::HexBytes;

/// RLP of a byte string.
pub fn text(bytes: &[u8]) -> Vec<u8> {
    if let [byte @ ..0x80] = bytes { vec![*byte] } else { prefixed(0x80, bytes) }
}

/// RLP of a number.
pub fn number(number: u64) -> Vec<u8> {
    text(trimmed(&number.to_be_bytes()))
}

/// RLP of a list of encoded items.
pub fn list(items: &[Vec<u8>]) -> Vec<u8> {
    prefixed(0xc0, &items.concat())
}

pub fn trimmed(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

fn prefixed(base: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().to_be_bytes();
    let mut encoded = if payload.len() < 56 {
        vec![base + u8::try_from(payload.len()).unwrap()]
    } else {
        let digits = trimmed(&length);
        [&[base + 55 + u8::try_from(digits.len()).unwrap()], digits].concat()
    };
    encoded.extend_from_slice(payload);
    encoded
}

/// A trie over (hashed key, RLP value).
pub struct Trie(Vec<(Vec<u8>, Vec<u8>)>);

impl Trie {
    pub fn new(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let mut pairs: Vec<_> =
            pairs.into_iter().map(|(key, value)| (nibbles(&keccak(&[&key])), value)).collect();
        pairs.sort();
        Self(pairs)
    }

    pub fn root(&self) -> [u8; 32] {
        keccak(&[&node(&self.0, 0)])
    }

    /// The nodes on the way to `key`, the root first.
    pub fn prove(&self, key: &[u8]) -> Vec<HexBytes> {
        let key = nibbles(&keccak(&[key]));
        let mut proof = Vec::new();
        let (mut pairs, mut depth) = (self.0.as_slice(), 0);
        loop {
            let encoded = node(pairs, depth);
            if depth == 0 || encoded.len() >= 32 {
                proof.push(HexBytes(encoded));
            }
            let shared = shared(pairs, depth);
            if pairs.len() < 2 || !key[depth..].starts_with(&pairs[0].0[depth..depth + shared]) {
                return proof;
            }
            depth += shared;
            let branch = node(pairs, depth);
            if shared > 0 && branch.len() >= 32 {
                proof.push(HexBytes(branch));
            }
            pairs = below(pairs, depth, key[depth]);
            depth += 1;
            if pairs.is_empty() {
                return proof;
            }
        }
    }
}

fn nibbles(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect()
}

fn compact(path: &[u8], is_leaf: bool) -> Vec<u8> {
    let flag = if is_leaf { 2 } else { 0 };
    let padded = if path.len() % 2 == 1 { [&[flag + 1], path].concat() } else { [&[flag, 0], path].concat() };
    text(&padded.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>())
}

/// How many nibbles from `depth` on all keys share.
fn shared(pairs: &[(Vec<u8>, Vec<u8>)], depth: usize) -> usize {
    let [(first, _), .., (last, _)] = pairs else { return 0 };
    first[depth..].iter().zip(&last[depth..]).take_while(|(a, b)| a == b).count()
}

fn below(pairs: &[(Vec<u8>, Vec<u8>)], depth: usize, nibble: u8) -> &[(Vec<u8>, Vec<u8>)] {
    let from = pairs.partition_point(|(key, _)| key[depth] < nibble);
    let to = pairs.partition_point(|(key, _)| key[depth] <= nibble);
    &pairs[from..to]
}

fn reference(pairs: &[(Vec<u8>, Vec<u8>)], depth: usize) -> Vec<u8> {
    let encoded = node(pairs, depth);
    if encoded.len() < 32 { encoded } else { text(&keccak(&[&encoded])) }
}

fn node(pairs: &[(Vec<u8>, Vec<u8>)], depth: usize) -> Vec<u8> {
    match pairs {
        [] => text(&[]),
        [(key, value)] => list(&[compact(&key[depth..], true), text(value)]),
        _ => match shared(pairs, depth) {
            0 => {
                let child = |nibble| match below(pairs, depth, nibble) {
                    [] => text(&[]),
                    pairs => reference(pairs, depth + 1),
                };
                let mut items: Vec<_> = (0..16).map(child).collect();
                items.push(text(&[]));
                list(&items)
            }
            shared => {
                let path = compact(&pairs[0].0[depth..depth + shared], false);
                list(&[path, reference(pairs, depth + shared)])
            }
        },
    }
}
