//! Contracts put on the chain once, and the trust file that names them.

use std::path::Path;
use std::sync::Arc;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, keccak256};
use anyhow::{Context, ensure};
use ashlar_chain::{Artifact, Deployed, Finality, Market, Registry, deploy, light};
use ashlar_verify::{Checkpoint, Trust, TrustFormat};

use super::chain::{Account, Connected};
use crate::configuration::Configuration;
use crate::data_directory;

/// Kind of the certificates of `DaQuorum`.
const KIND: u32 = 1;
const QUORUM_ARTIFACT: &str = include_str!("../../../chain/artifacts/DaQuorum.json");
const MARKET_ARTIFACT: &str = include_str!("../../../chain/artifacts/ComputeMarket.json");
/// Least stake of a provider on the embedded chain, whose coins are worth nothing.
const EMBEDDED_STAKE_MIN_WEI: u128 = 0;
const REGISTRY_ARTIFACT: &str = include_str!("../../../chain/artifacts/CommitmentRegistry.json");

/// A contract on the chain.
pub(super) struct Contract {
    pub(super) address: Address,
    /// keccak256 of its code.
    code_hash: B256,
}

/// What lies on the chain.
pub(super) struct Contracts {
    pub(super) quorum: Contract,
    pub(super) registry: Contract,
    /// Where computation is paid, if anywhere.
    pub(super) market: Option<Address>,
    pub(super) namespace: B256,
}

/// The name of one thing to be done once.
pub(super) fn intent(parts: &[&[u8]]) -> B256 {
    let parts: Vec<u8> = parts.iter().flat_map(|part| [keccak256(part).as_slice(), &[]].concat()).collect();
    keccak256(parts)
}

/// Deploys what is not there yet.
pub(super) async fn contracts(
    tree: &Configuration,
    chain: &Connected,
    salt: B256,
) -> anyhow::Result<Contracts> {
    let (governor, publisher) = (&chain.governor, &chain.publisher.sender);
    let (quorum, registry) = match tree.chain.quorum.is_empty() {
        true => deployed(tree, governor).await?,
        false => (existing(chain, &tree.chain.quorum).await?, existing(chain, &tree.chain.registry).await?),
    };
    let log = Registry::new(Arc::clone(&chain.endpoints), registry.address);
    let namespace = log.namespace_id(publisher.address(), salt);
    if log.namespace(namespace, BlockId::latest()).await.is_err() {
        let call = log.create_namespace(salt, publisher.address(), quorum.address, KIND);
        let name = intent(&[b"namespace", namespace.as_slice()]);
        chain.publisher.perform(name, &call).await.context("creating the log's namespace")?;
    }
    let market = market(tree, chain).await?;
    Ok(Contracts { quorum, registry, market, namespace })
}

/// The compute market: the configured one, or our own on the embedded chain.
async fn market(tree: &Configuration, chain: &Connected) -> anyhow::Result<Option<Address>> {
    if !tree.chain.market.is_empty() {
        return Ok(Some(existing(chain, &tree.chain.market).await?.address));
    }
    if chain.embedded.is_none() {
        return Ok(None);
    }
    // A block of the embedded chain is final at once.
    let arguments = Market::constructor_arguments(EMBEDDED_STAKE_MIN_WEI, 0);
    Ok(Some(put(&chain.governor, b"ComputeMarket", MARKET_ARTIFACT, &arguments).await?.address))
}

/// A contract that was deployed before.
async fn existing(chain: &Connected, address: &str) -> anyhow::Result<Contract> {
    let address: Address =
        address.parse().with_context(|| format!("{address} is no address of a contract"))?;
    let code = chain.endpoints.any(|endpoint| endpoint.code(address, BlockId::latest())).await?;
    ensure!(!code.is_empty(), "there is no contract at {address} on this chain");
    Ok(Contract { address, code_hash: keccak256(&code) })
}

async fn deployed(tree: &Configuration, governor: &Account) -> anyhow::Result<(Contract, Contract)> {
    let mut arguments = [0; 64];
    arguments[12..32].copy_from_slice(governor.sender.address().as_slice());
    arguments[56..].copy_from_slice(&tree.publish.epoch.0.as_secs().to_be_bytes());
    let quorum = put(governor, b"DaQuorum", QUORUM_ARTIFACT, &arguments).await?;
    let registry = put(governor, b"CommitmentRegistry", REGISTRY_ARTIFACT, &[]).await?;
    Ok((quorum, registry))
}

/// Deploys a contract once.
async fn put(governor: &Account, name: &[u8], artifact: &str, arguments: &[u8]) -> anyhow::Result<Contract> {
    let artifact = Artifact::parse(artifact).context("reading a contract's artifact")?;
    let call = artifact.deploy(arguments);
    // Never forgotten: asked again at every start, it is found again.
    let name = intent(&[b"deploy", name]);
    let Deployed { address, code_hash, .. } =
        deploy(&governor.sender, name, &call, 0, governor.poll).await.context("deploying a contract")?;
    Ok(Contract { address, code_hash })
}

/// The trust file beside the data. Made once: its checkpoint is what later rewinds are held against.
pub(super) async fn trust(
    path: &Path,
    contracts: &Contracts,
    chain: &Connected,
    receipt_key: [u8; 32],
) -> anyhow::Result<Trust> {
    let (endpoints, publisher) = (&chain.endpoints, &chain.publisher.sender);
    // A block that stays: a checkpoint that the chain took back would fail every verifier.
    let block = match chain.finality {
        Finality::Finalized => BlockId::finalized(),
        Finality::Depth(depth) => {
            let head = endpoints.any(|endpoint| endpoint.block_number()).await?;
            BlockId::from(head.saturating_sub(depth))
        }
    };
    let head = light::header(endpoints, block).await.context("asking for a block of the chain that stays")?;
    let ours = Trust {
        format: TrustFormat::V1,
        chain: chain.kind,
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
