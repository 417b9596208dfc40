//! The DA nodes of this process and their epochs on the contract.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use ashlar_chain::Quorum;
use ashlar_da_publisher::bls::{PublicKey, SecretKey, Signature};
use ashlar_da_publisher::publisher::{LogIdentity, PublisherAdmission};
use ashlar_da_publisher::{
    Commitment, DaNode, DaNodeService, Domain, FetchError, Held, LocalNode, Namespace, NodeConfig, NodeError,
    QuorumClient, RowProof, Signer, Snapshot, StoreError, StoreRequest,
};
use ashlar_disk::{Disk, RealDisk};
use async_trait::async_trait;
use ed25519_dalek::VerifyingKey;

use super::Keys;
use super::chain::Account;
use super::setting_up::intent;
use crate::data_directory::Layout;

/// Each node of this process counts alike.
const STAKE: u64 = 1;
/// Most signers that the contract takes.
const MEMBERS_MAX: usize = 120;

/// One DA node on each storage node's disk.
pub(super) struct DaNodes {
    nodes: Vec<Node>,
}

struct Node {
    node: Arc<DaNode>,
    /// Shows the contract that the key is ours.
    possession: Vec<u8>,
}

impl DaNodes {
    pub(super) async fn open(
        layout: &Layout,
        domain: Domain,
        keys: &Keys,
        (identity, publisher): (&LogIdentity, VerifyingKey),
        retention: Duration,
    ) -> anyhow::Result<Self> {
        let places = layout.nodes.iter().take(MEMBERS_MAX);
        let places: Vec<(PathBuf, SecretKey)> =
            places.map(|place| (super::da_folder(&place.dir), keys.da_node(place.number))).collect();
        let publishers = [(Namespace(identity.namespace), publisher)].into();
        let admission = Arc::new(PublisherAdmission { publishers });
        let opened = tokio::task::spawn_blocking(move || {
            let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
            let open = |(folder, key): (PathBuf, SecretKey)| {
                let possession = key.prove_possession(&domain).to_bytes().to_vec();
                let config = NodeConfig {
                    folder: folder.clone(),
                    domain,
                    // A node keeps what a batch asks for; the first seconds of a batch pass before it is asked.
                    keep_seconds_max: retention.as_secs().saturating_mul(2),
                    clock: Arc::new(unix_seconds),
                    admission: Arc::clone(&admission) as _,
                };
                let open = |key| DaNode::open(Arc::clone(&disk), config.clone(), key);
                let node = match open(key.clone()) {
                    Err(error @ NodeError::Promises { .. }) => {
                        // What it signed is not known any more. It begins anew under its key: the others remember, and
                        // are more than a third, so nothing can be certified against what is certified.
                        let aside = folder.with_extension(format!("damaged-{}", unix_seconds()));
                        tracing::error!(%error, "a DA node is set aside as {} and begins anew", aside.display());
                        std::fs::rename(&folder, &aside)?;
                        open(key)
                    }
                    opened => opened,
                };
                let node = node.with_context(|| format!("opening the DA node in {}", folder.display()))?;
                anyhow::Ok(Node { node: Arc::new(node), possession })
            };
            // One that cannot be opened signs no more, and the others are a quorum without it. It is not begun anew: what
            // it signed is not known, and must not be contradicted.
            let opened = places.into_iter().map(open).filter_map(|node| {
                node.inspect_err(|error| {
                    tracing::error!("{error:#}; it is left out, and its folder may be removed")
                })
                .ok()
            });
            opened.collect()
        });
        Ok(Self { nodes: opened.await.context("opening the DA nodes")? })
    }

    /// Has every node give up what is below the floor of this log, and all logs before it: what they carried is in this
    /// one since its first walk.
    pub(super) async fn prune(&self, namespace: [u8; 32], floor: u64) {
        for Node { node, .. } in &self.nodes {
            let node = Arc::clone(node);
            let floor = move |log: &Namespace| Some(if log.0 == namespace { floor } else { u64::MAX });
            match tokio::task::spawn_blocking(move || node.prune(&floor)).await {
                Ok(Ok(report)) if report.pruned > 0 => {
                    tracing::info!(batches = report.pruned, "a DA node gave up old batches");
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!(%error, "a DA node could not give up old batches"),
                Err(error) => tracing::error!(%error, "giving up old batches ended early"),
            }
        }
    }

    /// Registers keys that the contract does not know, takes the stake of those that are no longer here, and begins the
    /// first epoch. Changes count from the epoch after the next.
    pub(super) async fn register(&self, quorum: &Quorum, governor: &Account) -> anyhow::Result<()> {
        let (mut ids, mut stakes) = (Vec::new(), Vec::new());
        for Node { node, possession } in &self.nodes {
            let key = node.public_key().to_bytes();
            let id = alloy_primitives::keccak256(key);
            let (is_registered, stake) = quorum.signer(id).await?;
            if !is_registered {
                let call = quorum.register(key.to_vec().into(), possession.clone().into());
                governor.perform(intent(&[b"register", id.as_slice()]), &call).await?;
            }
            if stake == 0 {
                ids.push(id);
                stakes.push(STAKE);
            }
        }
        let epoch = quorum.epoch().await?;
        if epoch > 0 {
            for key in quorum.members(epoch).await?.keys {
                let is_ours = self.nodes.iter().any(|ours| ours.node.public_key().to_bytes()[..] == key[..]);
                if !is_ours {
                    ids.push(alloy_primitives::keccak256(&key));
                    stakes.push(0);
                }
            }
        }
        if !ids.is_empty() {
            // Named by what it sets and when, so that a later need for the same is another intent.
            let names: Vec<u8> = ids.iter().flat_map(|id| id.to_vec()).collect();
            let set: Vec<u8> = stakes.iter().flat_map(|stake| stake.to_be_bytes()).collect();
            let name = intent(&[&b"stakes"[..], &epoch.to_be_bytes(), &names, &set]);
            governor.perform(name, &quorum.set_stakes(ids, stakes)).await?;
        }
        if epoch == 0 {
            self.roll(quorum, governor, epoch).await?;
        }
        Ok(())
    }

    async fn roll(&self, quorum: &Quorum, governor: &Account, epoch: u64) -> anyhow::Result<()> {
        governor.perform(intent(&[b"roll", &epoch.to_be_bytes()]), &quorum.roll_epoch()).await
    }

    /// Begins the next epoch once the current one has had its time.
    pub(super) async fn roll_if_due(
        &self,
        quorum: &Quorum,
        governor: &Account,
        layer: &QuorumClient,
    ) -> anyhow::Result<()> {
        if quorum.epoch_ends_at().await? > unix_seconds() {
            return Ok(());
        }
        let epoch = quorum.epoch().await?;
        self.roll(quorum, governor, epoch).await?;
        tracing::info!(epoch = epoch + 1, "a new epoch of DA nodes has begun");
        self.install_epochs(quorum, layer).await
    }

    /// Makes the epochs that still count known to the nodes and to their client.
    pub(super) async fn install_epochs(&self, quorum: &Quorum, layer: &QuorumClient) -> anyhow::Result<()> {
        let current = quorum.epoch().await?;
        for epoch in current.saturating_sub(2).max(1)..=current {
            let members = quorum.members(epoch).await?;
            ensure!(members.keys.len() == members.stakes.len(), "the contract's epoch {epoch} is malformed");
            let mut signers = Vec::new();
            let mut services: Vec<Arc<dyn DaNodeService>> = Vec::new();
            for (key, stake) in members.keys.iter().zip(&members.stakes) {
                let bytes = key.as_ref().try_into().context("a registered key has another length")?;
                let key = PublicKey::from_bytes(bytes).context("a registered key is no point")?;
                signers.push(Signer { key, stake: *stake });
                let ours = self.nodes.iter().find(|ours| ours.node.public_key() == key);
                services.push(match ours {
                    Some(ours) => Arc::new(LocalNode(Arc::clone(&ours.node))),
                    None => Arc::new(Elsewhere),
                });
            }
            let snapshot = Arc::new(Snapshot::new(epoch, signers).context("the contract's epoch")?);
            self.nodes.iter().for_each(|node| node.node.install_snapshot(Arc::clone(&snapshot)));
            layer.install_epoch(snapshot, services);
        }
        Ok(())
    }
}

/// A signer that is not in this process; nodes behind a network are planned.
struct Elsewhere;

#[async_trait]
impl DaNodeService for Elsewhere {
    async fn store(&self, _: StoreRequest) -> Result<Signature, StoreError> {
        Err(StoreError::NoAnswer)
    }

    async fn held(&self, _: Commitment) -> Result<Held, FetchError> {
        Err(FetchError::NoAnswer)
    }

    async fn row(&self, _: Commitment, _: u32) -> Result<RowProof, FetchError> {
        Err(FetchError::NoAnswer)
    }
}

fn unix_seconds() -> u64 {
    super::now() / 1000
}
