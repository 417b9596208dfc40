//! Publishing: the chain, the contracts on it, the DA nodes, and the publisher that ties them to the store.
//!
//! Opened in two steps, because receipts name the log before the store takes its first write: [`Prepared`] has chain,
//! contracts, DA nodes and keys; [`Prepared::start`] adds the store. Invariant: every transaction of setting up is an
//! intent with a name, so a start that was killed goes on where it was. Every key comes from the master key, so keys
//! and nodes are all that a recovery needs.

mod chain;
mod quorum;
mod setting_up;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ashlar_chain::{Anchorer, Endpoints, Market, Quorum, Registry, TransactionKey};
use ashlar_da_publisher::bls::SecretKey;
use ashlar_da_publisher::history::KeysOf;
use ashlar_da_publisher::publisher::{
    LogIdentity, NamespaceKeys, Progress, Publisher, PublisherConfig, PublisherParts, Receipts,
};
use ashlar_da_publisher::{Domain, QuorumClient, QuorumConfig};
use ashlar_dev_chain::DevChain;
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::log::{GenerationRow, generation_key, key as log_key};
use ashlar_metadata::{Check, Commit, EmbeddedKv, OrderedKv, Write};
use ashlar_objects::Store;
use ashlar_verify::Trust;
use ed25519_dalek::VerifyingKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::configuration::Configuration;
use crate::data_directory::Layout;
use chain::Account;
use quorum::DaNodes;

/// What a verifier has to trust, in the data directory.
const TRUST_NAME: &str = "trust.json";
const LOGS_CONTEXT: &str = "ashlar 2026-11 keys of logs";
/// How often DA nodes give up what nobody needs: this often in the time that they keep batches, within bounds.
const PRUNES_PER_RETENTION: u32 = 48;
const PRUNE_INTERVAL_MIN: Duration = Duration::from_secs(5);
const PRUNE_INTERVAL_MAX: Duration = Duration::from_secs(6 * 3600);
/// How often epochs are looked at.
const EPOCH_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The secrets of publishing, all from the master key.
pub(crate) struct Keys {
    publisher: TransactionKey,
    governor: TransactionKey,
    /// What each log's keys come from.
    logs: Zeroizing<[u8; 32]>,
    /// What the DA nodes' keys come from.
    da_nodes: Zeroizing<[u8; 32]>,
}

/// The keys of the log in a namespace: of each others, so that a salt is never given twice.
pub(crate) fn log_keys(master_key: &[u8; 32]) -> KeysOf {
    let logs = Zeroizing::new(blake3::derive_key(LOGS_CONTEXT, master_key));
    Arc::new(move |namespace| keys_of(&logs, namespace))
}

fn keys_of(logs: &[u8; 32], namespace: &[u8; 32]) -> NamespaceKeys {
    NamespaceKeys::new(blake3::keyed_hash(logs, namespace).as_bytes())
}

impl Keys {
    pub(crate) fn derive(master_key: &[u8; 32]) -> anyhow::Result<Self> {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, master_key));
        let transaction_key = |context| {
            TransactionKey::from_bytes(&derive(context))
                .context("deriving a transaction key from the master key")
        };
        Ok(Self {
            publisher: transaction_key("ashlar 2026-11 publisher's transaction key")?,
            governor: transaction_key("ashlar 2026-11 quorum governor's transaction key")?,
            logs: derive(LOGS_CONTEXT),
            da_nodes: derive("ashlar 2026-11 keys of DA nodes"),
        })
    }

    /// The key of the DA node with this number. It does not lie in the node's folder, so a node that lost its folder is
    /// the signer that it was, and two lost disks do not leave the quorum short until the next epochs.
    pub(crate) fn da_node(&self, number: u16) -> SecretKey {
        let material = blake3::keyed_hash(&self.da_nodes, &number.to_be_bytes());
        SecretKey::derive(material.as_bytes())
    }
}

/// Everything but the store.
pub(crate) struct Prepared {
    chain: Option<DevChain>,
    keys: NamespaceKeys,
    identity: LogIdentity,
    generation: GenerationRow,
    layer: Arc<QuorumClient>,
    nodes: Arc<DaNodes>,
    quorum: Quorum,
    anchorer: Arc<Anchorer>,
    governor: Account,
    progress: Arc<Progress>,
    config: PublisherConfig,
    promise: Duration,
    endpoints: Arc<Endpoints>,
    trust: Trust,
    market: Option<Market>,
    rpc: String,
}

/// Publishing, under way.
pub(crate) struct Publishing {
    chain: tokio::sync::Mutex<Option<DevChain>>,
    chain_url: String,
    /// Seals, disperses, anchors, proves.
    pub(crate) publisher: Arc<Publisher>,
    /// Where batches are kept available.
    pub(crate) da: Arc<QuorumClient>,
    /// What a verifier has to trust.
    pub(crate) trust: Trust,
    /// Checks receipts.
    pub(crate) receipt_key: VerifyingKey,
    /// The chain.
    pub(crate) endpoints: Arc<Endpoints>,
    /// Where computation is paid, if anywhere on it.
    pub(crate) market: Option<Market>,
}

/// Opens chain, contracts and DA nodes.
pub(crate) async fn prepare(
    tree: &Configuration,
    layout: &Layout,
    metadata: &EmbeddedKv,
    master_key: &[u8; 32],
) -> anyhow::Result<Prepared> {
    let keys = Keys::derive(master_key)?;
    let generation = generation(metadata).await.context("reading which log this is")?;
    let chain = chain::connect(tree, &keys).await?;
    let endpoints = Arc::clone(&chain.endpoints);
    let contracts = setting_up::contracts(tree, &chain, generation.salt.into()).await?;
    let quorum = Quorum::new(Arc::clone(&endpoints), contracts.quorum.address);
    let registry = Registry::new(Arc::clone(&endpoints), contracts.registry.address);
    let identity = LogIdentity {
        chain_id: tree.chain.id,
        registry: contracts.registry.address.into_array(),
        namespace: contracts.namespace.0,
    };
    let domain = Domain { chain_id: tree.chain.id, verifier: contracts.quorum.address.into_array() };
    let retention = tree.publish.retention.0;
    let log_keys = keys_of(&keys.logs, &identity.namespace);
    let receipt_key = log_keys.receipt_key().verifying_key();
    let nodes = Arc::new(DaNodes::open(layout, domain, &keys, (&identity, receipt_key), retention).await?);
    let layer = Arc::new(QuorumClient::new(domain, QuorumConfig::default()));
    nodes.register(&quorum, &chain.governor).await.context("registering the DA nodes with their contract")?;
    nodes.install_epochs(&quorum, &layer).await.context("reading the DA nodes' epochs")?;
    let path = tree.data_dir.join(TRUST_NAME);
    let trust = setting_up::trust(&path, &contracts, &chain, receipt_key.to_bytes()).await?;
    let publisher = Arc::clone(&chain.publisher.sender);
    let anchorer = Arc::new(Anchorer::new(registry, publisher, chain.finality));
    Ok(Prepared {
        keys: log_keys,
        identity,
        generation,
        layer,
        nodes,
        quorum,
        anchorer,
        governor: chain.governor,
        progress: Arc::default(),
        config: PublisherConfig {
            interval: tree.publish.interval.0,
            step: chain.step,
            blob_bytes_max: tree.publish.batch.to_usize(),
            retention,
        },
        promise: tree.publish.promise.0,
        market: contracts.market.map(|address| Market::new(Arc::clone(&endpoints), address)),
        endpoints,
        trust,
        rpc: chain.url,
        chain: chain.embedded,
    })
}

/// Which of the store's logs this is. The first has a random salt as well: another store may have had the same keys.
async fn generation(metadata: &EmbeddedKv) -> anyhow::Result<GenerationRow> {
    let key = generation_key();
    if let Some(row) = metadata.get(&key).await? {
        return Ok(GenerationRow::decode(&row.value)?);
    }
    if metadata.get(&log_key()).await?.is_some() {
        // From before there were generations.
        return Ok(GenerationRow::default());
    }
    let row = GenerationRow { salt: rand::random(), ..GenerationRow::default() };
    let writes = vec![Write::Put { key: key.clone(), value: row.encode() }];
    metadata.commit(Commit { checks: vec![Check::Absent(key)], writes, transaction: None }).await?;
    Ok(row)
}

impl Prepared {
    /// What the store needs of it: receipts, and how far the log is.
    pub(crate) fn for_store(&self) -> ashlar_objects::log::Publishing {
        let receipts = Receipts::new(
            self.identity,
            self.keys.clone(),
            self.promise,
            unix_millis(),
            Arc::clone(&self.progress),
        );
        ashlar_objects::log::Publishing {
            receipts: Some(Arc::new(receipts)),
            durability: Some(Arc::clone(&self.progress) as _),
            ..Default::default()
        }
    }

    /// Begins to publish what the store commits, and committed before.
    pub(crate) async fn start(
        self,
        store: Store,
        metadata: &Arc<EmbeddedKv>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<Publishing> {
        let parts = PublisherParts {
            store,
            kv: Arc::clone(metadata) as Arc<dyn OrderedKv>,
            layer: Arc::clone(&self.layer) as _,
            anchorer: Arc::clone(&self.anchorer),
            identity: self.identity,
            generation: self.generation.clone(),
            keys: self.keys.clone(),
            config: self.config,
            clock: unix_millis(),
            progress: Arc::clone(&self.progress),
        };
        let publisher = Publisher::open(parts).await.context("opening the log")?;
        publisher.start(tasks, stop);
        let (nodes, quorum, governor, layer) =
            (Arc::clone(&self.nodes), self.quorum.clone(), self.governor.clone(), Arc::clone(&self.layer));
        let stopping = stop.clone();
        tasks.spawn(async move {
            let mut timer = tokio::time::interval(EPOCH_CHECK_INTERVAL);
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    _ = timer.tick() => {}
                }
                if let Err(error) = nodes.roll_if_due(&quorum, &governor, &layer).await {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the DA nodes' epoch could not be looked after"
                    );
                }
            }
        });
        let interval =
            (self.config.retention / PRUNES_PER_RETENTION).clamp(PRUNE_INTERVAL_MIN, PRUNE_INTERVAL_MAX);
        let (nodes, log, namespace) = (self.nodes, Arc::clone(&publisher), self.identity.namespace);
        let stopping = stop.clone();
        tasks.spawn(async move {
            let mut timer = tokio::time::interval(interval);
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    _ = timer.tick() => {}
                }
                if let Some(floor) = log.floor().await {
                    nodes.prune(namespace, floor).await;
                }
            }
        });
        Ok(Publishing {
            chain: tokio::sync::Mutex::new(self.chain),
            chain_url: self.rpc,
            da: self.layer,
            publisher,
            trust: self.trust,
            receipt_key: self.keys.receipt_key().verifying_key(),
            endpoints: self.endpoints,
            market: self.market,
        })
    }
}

impl Publishing {
    /// Ends what is left when the publisher's tasks have ended.
    pub(crate) async fn close(&self) {
        self.da.close().await;
        if let Some(chain) = self.chain.lock().await.take() {
            chain.stop().await;
        }
    }

    /// Where the chain answers.
    pub(crate) fn chain_url(&self) -> &str {
        &self.chain_url
    }
}

/// Where a node's DA rows are.
fn da_folder(node: &Path) -> std::path::PathBuf {
    node.join(crate::data_directory::DA_NAME)
}

/// Unix milliseconds.
fn now() -> u64 {
    u64::try_from(ashlar_objects::clock::Clock::System.now().0).unwrap_or(0)
}

fn unix_millis() -> Arc<dyn Fn() -> u64 + Send + Sync> {
    Arc::new(now)
}
