//! Contracts put on the chain once, and the trust file that names them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy_eips::BlockId;
use alloy_primitives::{B256, keccak256};
use anyhow::{Context, ensure};
use ashlar_chain::{Artifact, Call, Deployed, Registry, TransactionSender, deploy, light};
use ashlar_verify::{ChainKind, Checkpoint, Trust, TrustFormat};

use crate::configuration::Configuration;
use crate::data_directory;

/// Kind of the certificates of `DaQuorum`.
const KIND: u32 = 1;
/// How often a transaction is looked for.
const POLL: Duration = Duration::from_millis(20);
const QUORUM_ARTIFACT: &str = include_str!("../../../chain/artifacts/DaQuorum.json");
const REGISTRY_ARTIFACT: &str = include_str!("../../../chain/artifacts/CommitmentRegistry.json");

/// What lies on the chain.
pub(super) struct Contracts {
    pub(super) quorum: Deployed,
    pub(super) registry: Deployed,
    pub(super) namespace: B256,
}

/// The name of one thing to be done once.
pub(super) fn intent(parts: &[&[u8]]) -> B256 {
    let parts: Vec<u8> = parts.iter().flat_map(|part| [keccak256(part).as_slice(), &[]].concat()).collect();
    keccak256(parts)
}

/// Sends a call under its name and waits for it; a call that was made before is found again.
pub(super) async fn perform(sender: &TransactionSender, name: B256, call: &Call) -> anyhow::Result<()> {
    sender.send(name, call).await?;
    let inclusion = sender.wait(name, 0, POLL).await?;
    ensure!(inclusion.succeeded, "transaction {} reverted", inclusion.hash);
    sender.forget(name).await?;
    Ok(())
}

/// Deploys what is not there yet.
pub(super) async fn contracts(
    tree: &Configuration,
    governor: &TransactionSender,
    publisher: &TransactionSender,
    salt: B256,
) -> anyhow::Result<Contracts> {
    let mut arguments = [0; 64];
    arguments[12..32].copy_from_slice(governor.address().as_slice());
    arguments[56..].copy_from_slice(&tree.publish.epoch.0.as_secs().to_be_bytes());
    let put = async |name: &[u8], artifact: &str, arguments: &[u8]| {
        let artifact = Artifact::parse(artifact).context("reading a contract's artifact")?;
        let call = artifact.deploy(arguments);
        // Never forgotten: asked again at every start, it is found again.
        deploy(governor, intent(&[b"deploy", name]), &call, 0, POLL).await.context("deploying a contract")
    };
    let quorum = put(b"DaQuorum", QUORUM_ARTIFACT, &arguments).await?;
    let registry = put(b"CommitmentRegistry", REGISTRY_ARTIFACT, &[]).await?;
    let log = Registry::new(Arc::clone(publisher.endpoints()), registry.address);
    let namespace = log.namespace_id(publisher.address(), salt);
    if log.namespace(namespace, BlockId::latest()).await.is_err() {
        let call = log.create_namespace(salt, publisher.address(), quorum.address, KIND);
        perform(publisher, intent(&[b"namespace", namespace.as_slice()]), &call)
            .await
            .context("creating the log's namespace")?;
    }
    Ok(Contracts { quorum, registry, namespace })
}

/// The trust file beside the data. Made once: its checkpoint is what later rewinds are held against.
pub(super) async fn trust(
    path: &Path,
    contracts: &Contracts,
    publisher: &TransactionSender,
    receipt_key: [u8; 32],
) -> anyhow::Result<Trust> {
    let endpoints = publisher.endpoints();
    let head = light::header(endpoints, BlockId::latest()).await.context("asking for the chain's head")?;
    let ours = Trust {
        format: TrustFormat::V1,
        chain: ChainKind::Embedded,
        chain_id: endpoints.chain_id(),
        registry: contracts.registry.address.into_array().into(),
        registry_code_hash: contracts.registry.code_hash.0.into(),
        verifier: contracts.quorum.address.into_array().into(),
        verifier_code_hash: contracts.quorum.code_hash.0.into(),
        namespace: contracts.namespace.0.into(),
        publisher: publisher.address().into_array().into(),
        receipt_key: receipt_key.into(),
        checkpoint: Checkpoint {
            block_number: head.number(),
            block_hash: head.hash().0.into(),
            sequence: 0,
            header_hash: [0; 32].into(),
        },
    };
    let Some(file) = data_directory::read_public(path)? else {
        data_directory::write_public(path, &format!("{}\n", ours.to_json()))?;
        return Ok(ours);
    };
    let kept = Trust::parse(&file).with_context(|| format!("reading {}", path.display()))?;
    ensure!(
        Trust { checkpoint: ours.checkpoint, ..kept } == ours,
        "{} names another chain, log or key than this data directory has; put back the file, or the chain and the \
         master key, that belong together",
        path.display()
    );
    Ok(kept)
}
