//! A DA node's folder without its node: what a recovery reads.
//!
//! Invariant: nothing is changed. A node that opens its folder removes rows that no promise speaks of; after a fire
//! promises may be what is missing. Rows are checked as a node checks them before they are given out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ashlar_disk::Disk;
use ashlar_rsema1d::{Commitment, RowProof};
use async_trait::async_trait;

use super::promises;
use super::rows::RowStore;
use crate::bls::Signature;
use crate::service::{DaNodeService, FetchError, Held, StoreError, StoreRequest};
use crate::statement::Statement;

/// Rows of one folder.
pub struct Archive {
    rows: RowStore,
    /// Every blob of which there are rows, with the epochs of the files.
    blobs: BTreeMap<Commitment, Vec<u64>>,
}

impl Archive {
    /// Reads a folder, and what its node promised, as far as its records are whole. What is damaged is passed over; a folder
    /// that is not there has nothing.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path) -> io::Result<(Self, Vec<Statement>)> {
        let statements = promises::read_whole(&*disk, folder)?;
        let rows = RowStore::at(disk, folder);
        let mut blobs: BTreeMap<Commitment, Vec<u64>> = BTreeMap::new();
        for (commitment, epoch) in rows.list()? {
            blobs.entry(commitment).or_default().push(epoch);
        }
        Ok((Self { rows, blobs }, statements))
    }

    /// Blobs of which there are rows.
    pub fn commitments(&self) -> impl Iterator<Item = &Commitment> {
        self.blobs.keys()
    }

    fn epochs(&self, commitment: &Commitment) -> &[u64] {
        self.blobs.get(commitment).map_or(&[], Vec::as_slice)
    }
}

/// An archive as clients of nodes see it. It signs nothing.
#[derive(Clone)]
pub struct ArchivedNode(pub Arc<Archive>);

#[async_trait]
impl DaNodeService for ArchivedNode {
    async fn store(&self, _: StoreRequest) -> Result<Signature, StoreError> {
        Err(StoreError::NotAdmitted)
    }

    async fn held(&self, commitment: Commitment) -> Result<Held, FetchError> {
        let archive = Arc::clone(&self.0);
        let work = move || archive.rows.held(&commitment, archive.epochs(&commitment));
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(FetchError::NoAnswer))
    }

    async fn row(&self, commitment: Commitment, index: u32) -> Result<RowProof, FetchError> {
        let archive = Arc::clone(&self.0);
        let work = move || archive.rows.row(&commitment, archive.epochs(&commitment), index);
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(FetchError::NoAnswer))
    }
}
