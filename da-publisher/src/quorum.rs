//! The embedded layer: rows to all signers at once, signatures back, and blobs from whoever serves them.
//!
//! Invariants: a certificate carries only signatures that were verified here, of more than two thirds of the
//! stake, whose signers were assigned at least K distinct rows; bytes are given out only when re-encoding them
//! gives the commitment. Trusts no node: up to a third of the stake may be silent, slow or lying. Does not know
//! how nodes are reached, nor what a blob contains.

mod disperse;
mod retrieve;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use rand::RngCore;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::layer::{
    BlobReference, DaLayer, DisperseError, Dispersed, Limits, RetrieveError, SampleError, SampleReport,
};
use crate::service::DaNodeService;
use crate::snapshot::Snapshot;
use crate::statement::{Dispersal, Domain};

/// Epochs whose nodes are still asked for rows.
const EPOCHS_KEPT: usize = 64;

/// Bounds and deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumConfig {
    /// Until when a node must have signed.
    pub store_deadline: Duration,
    /// Until when a node must have served one row.
    pub fetch_deadline: Duration,
    /// Dispersals under way at once, those that wait for stragglers included. Each holds four times its blob.
    pub dispersals_max: usize,
    /// What the layer takes.
    pub limits: Limits,
}

impl Default for QuorumConfig {
    fn default() -> Self {
        Self {
            store_deadline: Duration::from_secs(5),
            fetch_deadline: Duration::from_secs(5),
            dispersals_max: 8,
            // One commit writes up to 48 MiB, and a batch holds whole commits.
            limits: Limits { blob_bytes_max: 64 << 20, keep_seconds_max: 30 * 24 * 3600 },
        }
    }
}

/// An epoch's signers and where they are reached, in the same order.
#[derive(Clone)]
struct Epoch {
    snapshot: Arc<Snapshot>,
    nodes: Vec<Arc<dyn DaNodeService>>,
}

/// Client of the quorum.
pub struct QuorumClient {
    domain: Domain,
    config: QuorumConfig,
    epochs: RwLock<BTreeMap<u64, Epoch>>,
    dispersals: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl fmt::Debug for QuorumClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuorumClient").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl QuorumClient {
    /// A client that knows no signers yet.
    pub fn new(domain: Domain, config: QuorumConfig) -> Self {
        let dispersals = Arc::new(Semaphore::new(config.dispersals_max.max(1)));
        Self { domain, config, epochs: RwLock::default(), dispersals, tasks: TaskTracker::new() }
    }

    /// Makes an epoch's signers known, with a service for each in snapshot order. The newest epoch disperses;
    /// older ones are asked for rows.
    ///
    /// # Panics
    /// If there are more or fewer services than signers.
    pub fn install_epoch(&self, snapshot: Arc<Snapshot>, nodes: Vec<Arc<dyn DaNodeService>>) {
        assert_eq!(snapshot.signers().len(), nodes.len(), "a service for each signer");
        let mut epochs = self.epochs.write();
        epochs.insert(snapshot.epoch(), Epoch { snapshot, nodes });
        while epochs.len() > EPOCHS_KEPT {
            epochs.pop_first();
        }
    }

    /// Takes no more dispersals and waits for stragglers, at most until their deadline.
    pub async fn close(&self) {
        self.dispersals.close();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn newest(&self) -> Option<Epoch> {
        self.epochs.read().last_key_value().map(|(_, epoch)| epoch.clone())
    }

    fn epoch(&self, number: u64) -> Option<Epoch> {
        self.epochs.read().get(&number).cloned()
    }

    /// Every node that is known, newest epoch first; one that signs in several epochs is named once.
    fn all_nodes(&self) -> Vec<Arc<dyn DaNodeService>> {
        let epochs = self.epochs.read();
        let mut seen = Vec::new();
        let mut nodes = Vec::new();
        for epoch in epochs.values().rev() {
            for (signer, node) in epoch.snapshot.signers().iter().zip(&epoch.nodes) {
                if !seen.contains(&signer.key) {
                    seen.push(signer.key);
                    nodes.push(Arc::clone(node));
                }
            }
        }
        nodes
    }
}

#[async_trait]
impl DaLayer for QuorumClient {
    fn limits(&self) -> Limits {
        self.config.limits
    }

    async fn disperse(
        &self,
        dispersal: &Dispersal,
        blob: Bytes,
        authorization: Bytes,
    ) -> Result<Dispersed, DisperseError> {
        self.disperse_to_quorum(dispersal, blob, authorization).await
    }

    async fn retrieve(&self, reference: &BlobReference) -> Result<Bytes, RetrieveError> {
        self.retrieve_from_any(reference).await
    }

    async fn sample(
        &self,
        reference: &BlobReference,
        samples: u32,
        rng: &mut (dyn RngCore + Send),
    ) -> Result<SampleReport, SampleError> {
        self.sample_rows(reference, samples, rng).await
    }
}
