//! From any K checked rows back to the blob.
//!
//! Invariant: bytes come out only when re-encoding them gives the very commitment, padding included. So every
//! reader of a commitment gets the same bytes, or none: an encoder that lied about any row, also one that this
//! reader never saw, is found out here. Does not know where rows come from.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::encode::{Commitment, encode_rows};
use crate::extend::restore;
use crate::opening::{CheckedOpening, CheckedRow};
use crate::shape::index;

/// The blob that `rows` belong to. Needs K distinct ones; more are not looked at. About 6 ms a MiB.
pub fn reconstruct(opening: &CheckedOpening, rows: &[CheckedRow]) -> Result<Bytes, ReconstructError> {
    let (shape, commitment) = (opening.shape(), opening.commitment());
    if let Some(foreign) = rows.iter().find(|row| row.commitment() != commitment) {
        return Err(ReconstructError::Foreign { index: foreign.index(), expected: commitment });
    }
    let distinct: BTreeMap<u32, &CheckedRow> = rows.iter().map(|row| (row.index(), row)).collect();
    let needed = shape.originals();
    if distinct.len() < needed {
        return Err(ReconstructError::TooFew { rows: distinct.len(), needed });
    }
    // Original rows sort first, so that decoding is skipped where all are there.
    let chosen: Vec<(usize, &[u8])> = distinct
        .iter()
        .take(needed)
        .map(|(number, row)| (index(*number), row.proof().row.as_ref()))
        .collect();
    let restored = restore(needed, index(shape.parity_rows()), &chosen);
    let mut blob = restored.concat();
    if blob[shape.blob_len()..].iter().any(|byte| *byte != 0) {
        return Err(ReconstructError::Padding { commitment });
    }
    let originals = restored.into_iter().map(Bytes::from).collect();
    if encode_rows(shape, originals).commitment() != commitment {
        return Err(ReconstructError::NoCodeWord { commitment });
    }
    blob.truncate(shape.blob_len());
    Ok(blob.into())
}

/// The rows give no blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconstructError {
    /// Fewer than K distinct rows.
    #[error("{rows} distinct rows, {needed} are needed")]
    TooFew {
        /// Distinct ones given.
        rows: usize,
        /// K.
        needed: usize,
    },
    /// A row that was checked against another commitment.
    #[error("row {index} was not checked against commitment {expected}")]
    Foreign {
        /// Which.
        index: u32,
        /// What the rows are decoded for.
        expected: Commitment,
    },
    /// Committed rows are no code word: the encoder lied. No choice of rows will ever give bytes.
    #[error("commitment {commitment} is not that of an encoded blob: whoever encoded it lied")]
    NoCodeWord {
        /// The commitment.
        commitment: Commitment,
    },
    /// What is left of the original rows is not zero: the encoder lied.
    #[error("commitment {commitment} has rows whose padding is not zero: whoever encoded it lied")]
    Padding {
        /// The commitment.
        commitment: Commitment,
    },
}

#[cfg(test)]
mod tests;
