//! Proofs that an entry is in the log, or that none is, from what metadata keeps of every batch.

use ashlar_metadata::namespace::log::BatchStage;
use ashlar_metadata::namespace::manifests::{ManifestRow, PartRef, PartsPage, parse_key, parse_page_key};
use ashlar_metadata::namespace::{NamespaceRow, RowError};
use bytes::Bytes;

use super::Publisher;
use super::batch::path;
use super::rows::LogError;

/// A leaf and its way to its batch's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedLeaf {
    /// Commit position.
    pub position: u64,
    /// Number among the entries of that commit.
    pub index: u32,
    /// keccak of salt and record.
    pub record_digest: [u8; 32],
    /// Number of the leaf in its batch.
    pub leaf_index: u32,
    /// Siblings from the leaf up.
    pub path: Vec<[u8; 32]>,
}

/// What the log has at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// An entry.
    Entry {
        /// Its leaf.
        leaf: PlacedLeaf,
        /// What hides the record.
        salt: [u8; 32],
    },
    /// None: these stand before and after the place in its batch, as far as it has such.
    Absent {
        /// The last leaf before the place.
        left: Option<PlacedLeaf>,
        /// The first leaf after it.
        right: Option<PlacedLeaf>,
    },
}

/// A place in the log, and the batch that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceProof {
    /// The batch: the first that ends at the position or after it.
    pub sequence: u64,
    /// Its header's bytes.
    pub header: Vec<u8>,
    /// Header of the batch before, if there is one.
    pub previous_header: Option<Vec<u8>>,
    /// Whether the batch is on the chain to stay.
    pub is_settled: bool,
    /// What is there.
    pub placed: Placed,
}

/// There is no proof now.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Its batch is not sealed yet.
    #[error(
        "position {position} is not in the log yet; it will be within seconds unless publishing is stopped"
    )]
    NotYet {
        /// The commit position.
        position: u64,
    },
    /// The log's rows.
    #[error("{0}")]
    Log(#[from] LogError),
}

impl Publisher {
    /// Proves what the log has at a place. Reads the digests of its batch: at most some hundred kilobytes.
    pub async fn prove(&self, position: u64, index: u32) -> Result<PlaceProof, ProofError> {
        let sequence = self.rows.batch_of(position).await?.ok_or(ProofError::NotYet { position })?;
        let (batch, _) = self.rows.sealed(sequence).await?;
        let previous = match sequence {
            1 => None,
            _ => Some(self.rows.sealed(sequence - 1).await?.0.row.header),
        };
        let digests = self.rows.leaves(sequence).await?;
        let leaf = |(position, index, digest): &(u64, u32, [u8; 32])| {
            self.parts.identity.leaf(*position, *index, digest)
        };
        let nodes: Vec<[u8; 32]> = digests.iter().map(leaf).collect();
        let placed = |at: usize| {
            let (position, index, record_digest) = digests[at];
            let leaf_index = u32::try_from(at).ok()?;
            Some(PlacedLeaf { position, index, record_digest, leaf_index, path: path(&nodes, at)? })
        };
        let search =
            digests.binary_search_by_key(&(position, index), |(position, index, _)| (*position, *index));
        let placed = match search {
            Ok(at) => Placed::Entry {
                leaf: placed(at).ok_or(LogError::Broken { sequence, what: "its leaves" })?,
                salt: self.parts.keys.entry_salt(position, index),
            },
            Err(at) => Placed::Absent {
                left: at.checked_sub(1).and_then(placed),
                right: (at < digests.len()).then(|| placed(at)).flatten(),
            },
        };
        Ok(PlaceProof {
            sequence,
            header: batch.row.header,
            previous_header: previous,
            is_settled: matches!(batch.row.stage, BatchStage::Settled { .. }),
            placed,
        })
    }
}

/// The parts of the object whose rows these are, in order; none where there is no manifest among them.
pub fn manifest_parts(rows: &[(Bytes, Bytes)]) -> Result<Vec<PartRef>, RowError> {
    let mut parts = Vec::new();
    for (key, value) in rows {
        if parse_key(key).is_some() {
            parts.extend(ManifestRow::decode(value)?.parts);
        } else if parse_page_key(key).is_some() {
            parts.extend(PartsPage::decode(value)?.0);
        }
    }
    Ok(parts)
}
