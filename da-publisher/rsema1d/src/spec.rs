//! The same construction as SPEC.md of celestia-app `pkg/rsema1d` has it (commit 0a76213), with SHA-256.
//!
//! Held against that document's vectors, so that what Ashlar means by RSEMA1D is what others mean. Differs from
//! our profile in the hash, in coefficients (each drawn by a hash of its own) and in committing to fingerprints
//! by a tree. Invariant: a proof is accepted only for exactly the lengths that K, N and the row length imply.
//! Written for agreement, not for speed; no path of Ashlar's own data goes through it.

use sha2::{Digest as _, Sha256};

use crate::extend::{extend, extend_elements};
use crate::field::{Element, multiply};
use crate::hash::Digest;
use crate::shape::index;
use crate::tree::{Tree, fold};

/// Numbers of rows, as the SPEC allows them: K and K + N powers of two, K + N at most 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    original: u32,
    parity: u32,
}

impl Rows {
    /// K original and N parity rows, if the SPEC allows them.
    pub fn new(original: u32, parity: u32) -> Option<Self> {
        let total = original.checked_add(parity)?;
        let is_valid =
            original.is_power_of_two() && parity > 0 && total.is_power_of_two() && total <= 1 << 16;
        is_valid.then_some(Self { original, parity })
    }

    fn total(self) -> u32 {
        self.original + self.parity
    }
}

/// A proof of one row; what goes with it depends on which kind of row it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Which row.
    pub index: u32,
    /// Its bytes.
    pub row: Vec<u8>,
    /// Siblings in the tree over rows.
    pub row_path: Vec<[u8; 32]>,
    /// How its combination is tied to the commitment.
    pub combination: Combination,
}

/// How a row's linear combination is tied to the commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Combination {
    /// An original row: siblings in the tree over combinations.
    Path(Vec<[u8; 32]>),
    /// A parity row: the combinations of all original rows, 16 bytes each.
    Originals(Vec<[u8; 16]>),
}

/// Rows with their trees.
#[derive(Clone, Debug)]
pub struct Extended {
    counts: Rows,
    rows: Vec<Vec<u8>>,
    row_tree: Tree,
    combinations: Vec<[u8; 16]>,
    combination_tree: Tree,
}

fn sha256(pieces: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize().into()
}

fn leaf(data: &[u8]) -> Digest {
    sha256(&[&[0], data])
}

fn node(left: &Digest, right: &Digest) -> Digest {
    sha256(&[&[1], left, right])
}

/// One coefficient for each symbol of a row.
fn coefficients(row_root: &Digest, counts: Rows, row_len: usize) -> Vec<[u16; 8]> {
    let row_bytes = u32::try_from(row_len).expect("rows are shorter than 4 GiB");
    let parameters = [counts.original, counts.parity, row_bytes].map(u32::to_le_bytes).concat();
    let seed = sha256(&[row_root, &parameters]);
    let draw = |symbol: u32| {
        let digest = sha256(&[&seed, &symbol.to_le_bytes()]);
        let (limbs, _) = digest.as_chunks::<2>();
        std::array::from_fn(|i| u16::from_le_bytes(limbs[i]) ^ u16::from_le_bytes(limbs[8 + i]))
    };
    (0..row_bytes / 2).map(draw).collect()
}

/// The linear combination of a row's symbols.
fn combine(row: &[u8], coefficients: &[[u16; 8]]) -> [u16; 8] {
    let (units, _) = row.as_chunks::<64>();
    let symbols = units.iter().flat_map(|unit| (0..32).map(|i| u16::from_le_bytes([unit[i], unit[32 + i]])));
    symbols.zip(coefficients).fold([0; 8], |sum, (symbol, coefficient)| {
        std::array::from_fn(|i| sum[i] ^ multiply(symbol, coefficient[i]))
    })
}

fn serialize(combination: [u16; 8]) -> [u8; 16] {
    let limbs = combination.map(u16::to_le_bytes);
    std::array::from_fn(|i| limbs[i / 2][i % 2])
}

fn deserialize(bytes: &[u8; 16]) -> Element {
    Element::from_symbols(std::array::from_fn(|i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])))
}

fn commitment(row_root: &Digest, combination_root: &Digest) -> [u8; 32] {
    sha256(&[row_root, combination_root])
}

impl Extended {
    /// Extends K rows of equal length, a positive multiple of 64; `None` if they are not that.
    pub fn new(counts: Rows, original: &[&[u8]]) -> Option<Self> {
        let row_len = original.first()?.len();
        let fits = original.len() == index(counts.original) && row_len > 0 && row_len.is_multiple_of(64);
        if !fits || original.iter().any(|row| row.len() != row_len) {
            return None;
        }
        let parity = extend(original, index(counts.parity));
        let rows: Vec<Vec<u8>> =
            original.iter().copied().chain(parity.chunks(row_len)).map(<[u8]>::to_vec).collect();
        let row_tree = Tree::new(node, rows.iter().map(|row| leaf(row)).collect());
        let coefficients = coefficients(&row_tree.root(), counts, row_len);
        let combinations: Vec<[u8; 16]> =
            original.iter().map(|row| serialize(combine(row, &coefficients))).collect();
        let combination_tree = Tree::new(node, combinations.iter().map(|bytes| leaf(bytes)).collect());
        Some(Self { counts, rows, row_tree, combinations, combination_tree })
    }

    /// SHA-256 of both roots.
    pub fn commitment(&self) -> [u8; 32] {
        commitment(&self.row_tree.root(), &self.combination_tree.root())
    }

    /// The proof of a row; `None` if there is no such row.
    pub fn proof(&self, row: u32) -> Option<Proof> {
        let row_path = self.row_tree.path(index(row))?;
        let combination = match self.combination_tree.path(index(row)) {
            Some(path) => Combination::Path(path),
            None => Combination::Originals(self.combinations.clone()),
        };
        Some(Proof { index: row, row: self.rows[index(row)].clone(), row_path, combination })
    }

    /// How many rows there are.
    pub fn rows(&self) -> u32 {
        self.counts.total()
    }
}

/// Whether the proof shows that its row is part of the encoding behind `expected`, as SPEC §3.5 has it.
pub fn verify(proof: &Proof, expected: &[u8; 32], counts: Rows) -> bool {
    if proof.row.is_empty() || !proof.row.len().is_multiple_of(64) || u32::try_from(proof.row.len()).is_err()
    {
        return false;
    }
    let Some(row_root) = fold(node, leaf(&proof.row), proof.index, counts.total(), &proof.row_path) else {
        return false;
    };
    let coefficients = coefficients(&row_root, counts, proof.row.len());
    let combination = combine(&proof.row, &coefficients);
    let root = match &proof.combination {
        Combination::Path(path) => {
            fold(node, leaf(&serialize(combination)), proof.index, counts.original, path)
        }
        Combination::Originals(originals) if originals.len() == index(counts.original) => {
            let elements: Vec<Element> = originals.iter().map(deserialize).collect();
            let extended = extend_elements(&elements, index(counts.parity));
            let is_parity = proof.index >= counts.original;
            let fits = is_parity && extended[index(proof.index)] == Element::from_symbols(combination);
            fits.then(|| Tree::new(node, originals.iter().map(|bytes| leaf(bytes)).collect()).root())
        }
        Combination::Originals(_) => None,
    };
    root.is_some_and(|root| commitment(&row_root, &root) == *expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §6.1 and §6.2: rows that are zero but for the last byte, which counts from 1.
    fn vector(parity: u32, row_len: usize) -> (Rows, Extended) {
        let rows: Vec<Vec<u8>> = (1..=4u8).map(|last| [vec![0; row_len - 1], vec![last]].concat()).collect();
        let slices: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        let counts = Rows::new(4, parity).unwrap();
        (counts, Extended::new(counts, &slices).unwrap())
    }

    #[test]
    fn the_commitments_are_those_of_the_spec() {
        let first = "f57fdff87d54f71bc0c860808b046356c8d4850e67b923e08411208df08cb5ab";
        let second = "8ac46440862f280346635eee5075f81ff04b659fb7a86c1e25a28f5f71c3f97e";
        assert_eq!(hex::encode(vector(4, 64).1.commitment()), first);
        assert_eq!(hex::encode(vector(12, 256).1.commitment()), second);
    }

    /// §6.3, for every row: accepted as made; refused with another row, combination, path, index or commitment.
    #[test]
    fn proofs_are_accepted_as_made_and_not_otherwise() {
        for (counts, extended) in [vector(4, 64), vector(12, 256)] {
            let expected = extended.commitment();
            for row in 0..extended.rows() {
                let proof = extended.proof(row).unwrap();
                assert!(verify(&proof, &expected, counts), "row {row}");
                let refused = |change: &dyn Fn(&mut Proof)| {
                    let mut other = proof.clone();
                    change(&mut other);
                    assert!(!verify(&other, &expected, counts), "row {row}: {other:?}");
                };
                refused(&|proof| proof.row[3] ^= 1);
                refused(&|proof| proof.row.extend([0; 64]));
                refused(&|proof| proof.row.clear());
                refused(&|proof| proof.index ^= 1);
                refused(&|proof| proof.row_path[0][0] ^= 1);
                refused(&|proof| proof.row_path.push([0; 32]));
                refused(&|proof| match &mut proof.combination {
                    Combination::Path(path) => path[1][5] ^= 1,
                    Combination::Originals(originals) => originals[2][9] ^= 1,
                });
                refused(&|proof| match &mut proof.combination {
                    Combination::Path(path) => path.truncate(1),
                    Combination::Originals(originals) => originals.truncate(3),
                });
                assert!(!verify(&proof, &[1; 32], counts));
            }
            assert!(extended.proof(extended.rows()).is_none());
        }
    }

    #[test]
    fn other_numbers_of_rows_are_refused() {
        assert!(Rows::new(3, 1).is_none() && Rows::new(4, 5).is_none() && Rows::new(4, 0).is_none());
        assert!(Rows::new(0, 4).is_none() && Rows::new(1 << 16, 1 << 16).is_none());
        assert!(Rows::new(1, 1).is_some() && Rows::new(1 << 15, 1 << 15).is_some());
        let counts = Rows::new(4, 4).unwrap();
        assert!(Extended::new(counts, &[&[0u8; 64][..]; 3]).is_none());
        assert!(Extended::new(counts, &[&[0u8; 63][..]; 4]).is_none());
    }
}
