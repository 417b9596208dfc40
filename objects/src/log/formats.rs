//! Digests around a record: where an object's bytes lie, and the leaf of an entry. Normative text:
//! `docs/formats/record.md`.
//!
//! Pure. Every keccak input begins with a tag of its own, so none of these can be taken for a node of a tree.

use ashlar_metadata::namespace::manifests::PartRef;
use tiny_keccak::{Hasher, Keccak};

/// Tag of an entry's leaf.
const ENTRY_LEAF: u8 = 0x10;
/// Tag of a manifest's root.
const MANIFEST_ROOT: u8 = 0x13;
/// Context in which the key of all salts is derived from the namespace's key.
const SALT_CONTEXT: &str = "ashlar 2026-11 log salt v1";

fn keccak(pieces: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Keccak::v256();
    pieces.iter().for_each(|piece| hasher.update(piece));
    let mut out = [0; 32];
    hasher.finalize(&mut out);
    out
}

/// Commits to where an object's bytes lie: all parts of its manifest, further pages included, in order.
#[must_use]
pub fn manifest_root(parts: &[PartRef]) -> [u8; 32] {
    let count = u32::try_from(parts.len()).expect("an object has at most 10,000 parts");
    let mut hasher = Keccak::v256();
    hasher.update(&[MANIFEST_ROOT]);
    hasher.update(&count.to_be_bytes());
    for part in parts {
        let mut bytes = [0; 60];
        bytes[..4].copy_from_slice(&part.number.to_be_bytes());
        bytes[4..20].copy_from_slice(&part.blob.0.to_be_bytes());
        bytes[20..28].copy_from_slice(&part.length.to_be_bytes());
        bytes[28..].copy_from_slice(&part.blob_root);
        hasher.update(&bytes);
    }
    let mut out = [0; 32];
    hasher.finalize(&mut out);
    out
}

/// The key that salts every entry of a namespace. As secret as the namespace's key.
#[must_use]
pub fn salt_key(namespace_key: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(SALT_CONTEXT, namespace_key)
}

/// The salt of one entry: who knows it can show that this record stands there, and nothing of any other.
#[must_use]
pub fn entry_salt(salt_key: &[u8; 32], position: u64, index: u32) -> [u8; 32] {
    let mut place = [0; 12];
    place[..8].copy_from_slice(&position.to_be_bytes());
    place[8..].copy_from_slice(&index.to_be_bytes());
    *blake3::keyed_hash(salt_key, &place).as_bytes()
}

/// What a leaf commits to: keccak of the salt and the record.
#[must_use]
pub fn record_digest(salt: &[u8; 32], record: &[u8]) -> [u8; 32] {
    keccak(&[salt, record])
}

/// The leaf of an entry in its batch.
#[must_use]
pub fn entry_leaf(
    chain_id: u64,
    registry: &[u8; 20],
    namespace: &[u8; 32],
    (position, index): (u64, u32),
    record_digest: &[u8; 32],
) -> [u8; 32] {
    keccak(&[
        &[ENTRY_LEAF],
        &chain_id.to_be_bytes(),
        registry,
        namespace,
        &position.to_be_bytes(),
        &index.to_be_bytes(),
        record_digest,
    ])
}
