//! What the chain says, in the form that a verifier checks: state with its proofs, and who vouches for its block.
//!
//! Deliberately judges nothing: `ashlar-verify` does.

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256};
use anyhow::{Context, bail};
use ashlar_chain::{EndpointLimits, Endpoints};
use ashlar_verify::{Answer, ChainEvidence, HexBytes, Slot, State, Trust, header_slot, namespace_slots};

/// The state of both contracts at a block: what shows the batch `sequence`, the log's head and the checkpoint.
pub(crate) async fn state(
    endpoints: &Endpoints,
    trust: &Trust,
    sequence: Option<u64>,
    block: BlockId,
) -> anyhow::Result<(State, u64, B256)> {
    let header = endpoints.any(|endpoint| endpoint.header(block)).await?;
    let header = header.context("the chain has no such block")?;
    let (number, hash) = (header.number, header.hash);
    let mut slots: Vec<B256> =
        namespace_slots(&trust.namespace).iter().map(|slot| B256::from(slot.0)).collect();
    let checkpoint = Some(trust.checkpoint.sequence).filter(|sequence| *sequence > 0);
    for sequence in sequence.into_iter().chain(checkpoint.filter(|of| Some(*of) != sequence)) {
        slots.push(B256::from(header_slot(&trust.namespace, sequence).0));
    }
    let proof = async |address: [u8; 20], slots: &[B256]| {
        let at = BlockId::from(number);
        endpoints.any(|endpoint| endpoint.proof(Address::from(address), slots, at)).await
    };
    let registry = proof(trust.registry.0, &slots).await?;
    let verifier = proof(trust.verifier.0, &[]).await?;
    let nodes =
        |nodes: &[alloy_primitives::Bytes]| nodes.iter().map(|node| HexBytes(node.to_vec())).collect();
    let storage = registry.storage_proof.iter();
    let state = State {
        block_header: HexBytes(alloy_rlp::encode(&header.inner)),
        registry_account: nodes(&registry.account_proof),
        verifier_account: nodes(&verifier.account_proof),
        storage: storage
            .map(|slot| Slot { slot: slot.key.as_b256().0.into(), nodes: nodes(&slot.proof) })
            .collect(),
    };
    Ok((state, number, hash))
}

/// Asks every endpoint on its own: the state from the first, at a block that all have, and each one's word for it.
pub(crate) async fn gather(
    urls: &[String],
    trust: &Trust,
    sequence: Option<u64>,
) -> anyhow::Result<ChainEvidence> {
    let mut endpoints = Vec::new();
    for url in urls {
        let one = Endpoints::connect(std::slice::from_ref(url), trust.chain_id, EndpointLimits::default());
        endpoints.push((url, one.await.with_context(|| format!("asking {url}"))?));
    }
    let Some((_, first)) = endpoints.first() else { bail!("name an endpoint of the chain with --chain-rpc") };
    let mut lowest = u64::MAX;
    for (_, one) in &endpoints {
        lowest = lowest.min(one.any(|endpoint| endpoint.block_number()).await?);
    }
    let (state, number, _) = state(first, trust, sequence, BlockId::from(lowest)).await?;
    let mut answers = Vec::new();
    for (url, one) in &endpoints {
        let hash = async |number: u64| {
            let header = one.any(|endpoint| endpoint.header(BlockId::from(number))).await?;
            anyhow::Ok(header.map(|header| header.hash.0.into()))
        };
        answers.push(Answer {
            endpoint: (*url).clone(),
            chain_id: one.chain_id(),
            block_hash: hash(number).await?.with_context(|| format!("{url} has no block {number}"))?,
            checkpoint_hash: hash(trust.checkpoint.block_number).await?,
        });
    }
    Ok(ChainEvidence::endpoints(answers).with_state(state))
}
