//! RSEMA1D: a blob as rows of which any K give it back, and a commitment that each row is checked against.
//!
//! Pure: no I/O, no tasks, nothing internal. A blob is cut into K original rows, extended by N = 3K parity
//! rows, committed to by a Merkle tree over all rows and by the *fingerprints* (random linear combinations) of
//! the original ones. Whoever receives a row checks its path and that its fingerprint fits the code word of
//! fingerprints: so each holder knows alone, at receipt, that his rows belong to one encoding.
//! Whoever wants the blob takes any K checked rows, decodes, encodes again and compares the commitment.
//!
//! [`assign`] says who holds which rows, so that any third of the stake holds K. [`spec`] is the same
//! construction as Celestia's SPEC.md has it, with SHA-256, held against its vectors; nothing else uses it.
//! Format: `docs/formats/rsema1d.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

pub mod assign;
mod encode;
mod extend;
mod field;
mod fingerprint;
mod hash;
mod opening;
mod reconstruct;
pub mod sample;
mod shape;
pub mod spec;
mod tree;
#[cfg(test)]
mod vectors;

#[cfg(feature = "hostile")]
pub use encode::commit_to_any_rows;
pub use encode::{Commitment, Encoded, encode};
pub use opening::{CheckedOpening, CheckedRow, Opening, OpeningError, RowError, RowProof};
pub use reconstruct::{ReconstructError, reconstruct};
pub use shape::{BLOB_BYTES_MAX, Profile, SCHEME, Shape, ShapeError, UNIT_BYTES};
