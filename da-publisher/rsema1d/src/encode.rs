//! From a blob to its rows, fingerprints and commitment.
//!
//! Invariant: the same blob and profile always give the same commitment, and what is given out as a row's proof
//! passes the check of `opening.rs`. Does not know who will hold which row.

use std::fmt;

use bytes::Bytes;

use crate::extend::extend;
use crate::fingerprint::Points;
use crate::hash::{self, Digest};
use crate::opening::{Opening, RowProof};
use crate::shape::{Profile, Shape, ShapeError, index};
use crate::tree::Tree;

/// Commits to a blob, its length and all its rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commitment(pub [u8; 32]);

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commitment({self})")
    }
}

/// A blob with all its rows and what proves them. Memory: four times the blob, but for whole original rows,
/// which are shared with it.
#[derive(Clone, Debug)]
pub struct Encoded {
    commitment: Commitment,
    opening: Opening,
    rows: Vec<Bytes>,
    tree: Tree,
}

impl Encoded {
    /// What commits to it.
    pub fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// Its rows' number and length.
    pub fn shape(&self) -> Shape {
        self.opening.shape()
    }

    /// What every row is checked with.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// Row `index` and its path; `None` if there is no such row.
    pub fn row(&self, number: u32) -> Option<RowProof> {
        let path = self.tree.path(index(number))?;
        Some(RowProof { index: number, row: self.rows[index(number)].clone(), path })
    }
}

/// Encodes a blob of 1 to [`crate::BLOB_BYTES_MAX`] bytes. Takes about 4 ms a MiB; callers keep it off
/// asynchronous threads.
pub fn encode(profile: Profile, blob: Bytes) -> Result<Encoded, ShapeError> {
    let blob_bytes = u64::try_from(blob.len()).unwrap_or(u64::MAX);
    let shape = Shape::new(profile, blob_bytes)?;
    Ok(encode_rows(shape, original_rows(shape, &blob)))
}

/// The original rows of a blob: whole ones share its bytes, the rest is padded with zeros.
fn original_rows(shape: Shape, blob: &Bytes) -> Vec<Bytes> {
    let row_len = shape.row_len();
    (0..shape.originals())
        .map(|number| {
            let start = (number * row_len).min(blob.len());
            let end = (start + row_len).min(blob.len());
            if end - start == row_len {
                return blob.slice(start..end);
            }
            let mut padded = vec![0; row_len];
            padded[..end - start].copy_from_slice(&blob[start..end]);
            padded.into()
        })
        .collect()
}

/// Extends, hashes and commits to original rows, whatever they hold.
pub(crate) fn encode_rows(shape: Shape, mut rows: Vec<Bytes>) -> Encoded {
    let (originals, parities, row_len) = (shape.originals(), index(shape.parity_rows()), shape.row_len());
    let slices: Vec<&[u8]> = rows.iter().map(Bytes::as_ref).collect();
    let parity = Bytes::from(extend(&slices, parities));
    rows.extend((0..parities).map(|number| parity.slice(number * row_len..(number + 1) * row_len)));
    commit(shape, rows, originals)
}

/// Hashes and commits to K + N rows as they are: whether they are a code word is not looked at.
pub(crate) fn commit(shape: Shape, rows: Vec<Bytes>, originals: usize) -> Encoded {
    let leaves: Vec<Digest> = rows.iter().map(|row| hash::leaf(row)).collect();
    let tree = Tree::new(hash::node, leaves);
    let points = Points::draw(shape, &tree.root());
    let fingerprints = rows[..originals].iter().map(|row| points.fingerprint(row)).collect();
    let opening = Opening::new(shape, tree.root(), fingerprints);
    Encoded { commitment: opening.commitment(), opening, rows, tree }
}

/// Commits to rows that need not be a code word, as a lying encoder would.
#[cfg(feature = "hostile")]
pub fn commit_to_any_rows(shape: Shape, rows: Vec<Bytes>) -> Encoded {
    assert_eq!(rows.len(), index(shape.rows()), "all rows");
    commit(shape, rows, shape.originals())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_rows_are_shared_and_the_rest_is_padded() {
        let blob = Bytes::from(vec![7; 600]);
        let encoded = encode(Profile::Small, blob.clone()).unwrap();
        assert_eq!(encoded.shape().row_bytes(), 192);
        assert_eq!(encoded.rows[0].as_ptr(), blob.as_ptr());
        assert_eq!(encoded.rows[3][..24], [7; 24]);
        assert_eq!(encoded.rows[3][24..], [0; 168]);
        assert!(encoded.row(16).is_none());
    }

    #[test]
    fn lengths_and_profiles_commit_apart() {
        let commitment = |profile, len| encode(profile, Bytes::from(vec![0; len])).unwrap().commitment();
        assert_ne!(commitment(Profile::Small, 100), commitment(Profile::Small, 101));
        assert_ne!(commitment(Profile::Small, 100), commitment(Profile::Large, 100));
        assert_eq!(commitment(Profile::Small, 100), commitment(Profile::Small, 100));
    }
}
