//! The hashes of our profile: BLAKE3 in key-derivation mode, one context for each use.
//!
//! Invariant: no two uses share a context, so that no digest of one can stand for another. Knows nothing of
//! what is hashed. The hashes of Celestia's profile are in `spec.rs`.

use std::sync::LazyLock;

use blake3::Hasher;

/// Any digest.
pub(crate) type Digest = [u8; 32];

/// Hashes one row into a leaf.
pub(crate) static ROW: LazyLock<Hasher> =
    LazyLock::new(|| Hasher::new_derive_key("ashlar 2026-11 rsema1d row v1"));
/// Hashes two nodes of the row tree into one.
static NODE: LazyLock<Hasher> = LazyLock::new(|| Hasher::new_derive_key("ashlar 2026-11 rsema1d node v1"));
/// Draws the points of the fingerprint.
pub(crate) static POINTS: LazyLock<Hasher> =
    LazyLock::new(|| Hasher::new_derive_key("ashlar 2026-11 rsema1d points v1"));
/// Hashes an opening into the commitment.
pub(crate) static COMMITMENT: LazyLock<Hasher> =
    LazyLock::new(|| Hasher::new_derive_key("ashlar 2026-11 rsema1d commitment v1"));
/// Draws the order of rows for an assignment.
pub(crate) static ASSIGNMENT: LazyLock<Hasher> =
    LazyLock::new(|| Hasher::new_derive_key("ashlar 2026-11 rsema1d assignment v1"));

/// The leaf of a row.
pub(crate) fn leaf(row: &[u8]) -> Digest {
    *ROW.clone().update(row).finalize().as_bytes()
}

/// The parent of two nodes.
pub(crate) fn node(left: &Digest, right: &Digest) -> Digest {
    *NODE.clone().update(left).update(right).finalize().as_bytes()
}
