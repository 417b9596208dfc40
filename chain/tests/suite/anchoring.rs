//! Batches on the chain: states, order, alarms.

use std::sync::Arc;

use alloy_eips::BlockId;
use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::SolValue as _;
use ashlar_chain::{
    AnchorAlarm, AnchorError, AnchorState, Anchorer, Batch, BatchHeader, Call, Finality, LogHead, Quorum,
    Registry, TransactionSender, deploy, header_hash_slot, light,
};
use serde_json::json;

use super::node::Node;
use super::{AGREEABLE, POLL, artifact, intent, sender};

struct Log {
    registry: Registry,
    sender: Arc<TransactionSender>,
    namespace: B256,
    _folder: tempfile::TempDir,
}

impl Log {
    /// A registry with a namespace whose verifier vouches for everything.
    async fn new(node: &Node) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sender = Arc::new(sender(node, folder.path()).await);
        let code = artifact("CommitmentRegistry").deploy(&[]);
        let deployed = deploy(&sender, intent("registry"), &code, 0, POLL).await.expect("it is deployed");
        let code = Call::create(Bytes::from_static(&AGREEABLE));
        let verifier =
            deploy(&sender, intent("verifier"), &code, 0, POLL).await.expect("it is deployed").address;
        let registry = Registry::new(Arc::clone(sender.endpoints()), deployed.address);
        let salt = B256::repeat_byte(1);
        let call = registry.create_namespace(salt, sender.address(), verifier, 1);
        sender.send(intent("namespace"), &call).await.expect("it is sent");
        assert!(sender.wait(intent("namespace"), 0, POLL).await.expect("it is included").succeeded);
        for name in ["registry", "verifier", "namespace"] {
            sender.forget(intent(name)).await.expect("it is forgotten");
        }
        let namespace = registry.namespace_id(sender.address(), salt);
        let found = registry.namespace(namespace, BlockId::latest()).await.expect("it exists");
        assert_eq!((found.publisher, found.verifier), (sender.address(), verifier));
        Self { registry, sender, namespace, _folder: folder }
    }

    fn anchorer(&self, depth: u64) -> Anchorer {
        Anchorer::new(self.registry.clone(), Arc::clone(&self.sender), Finality::Depth(depth))
    }

    /// The batch after another.
    fn batch(&self, after: Option<&Batch>, root: u8) -> Batch {
        let before = after.map(|batch| &batch.header);
        let first_position = before.map_or(10, |before| before.last_position + 1);
        let header = BatchHeader {
            chain_id: self.registry.endpoints().chain_id(),
            registry: self.registry.address(),
            namespace: self.namespace,
            sequence: before.map_or(1, |before| before.sequence + 1),
            previous_header_hash: before.map_or(B256::ZERO, BatchHeader::hash),
            first_position,
            last_position: first_position + 5,
            entry_count: 3,
            batch_root: B256::repeat_byte(root),
            key_epoch: 0,
        };
        Batch { header, certificate: Some(Bytes::from_static(b"certificate")) }
    }
}

/// Steps until the batch is at least so far.
async fn until(
    anchorer: &Anchorer,
    batch: &Batch,
    state: AnchorState,
) -> Result<Vec<AnchorState>, AnchorError> {
    let mut states = Vec::new();
    loop {
        let now = anchorer.step(batch).await?;
        if states.last() != Some(&now) {
            states.push(now);
        }
        if now >= state {
            return Ok(states);
        }
        tokio::time::sleep(POLL).await;
    }
}

pub async fn batches_become_final_in_order(node: Node) {
    let log = Log::new(&node).await;
    let anchorer = log.anchorer(2);
    let mut first = log.batch(None, 1);
    let certificate = first.certificate.take();
    assert_eq!(anchorer.step(&first).await.expect("it is looked at"), AnchorState::Sealed);
    first.certificate = certificate;
    let second = log.batch(Some(&first), 2);
    let gap = anchorer.step(&second).await;
    assert!(matches!(gap, Err(AnchorError::Gap { anchored: 0, found: 2 })), "{gap:?}");
    assert!(until(&anchorer, &first, AnchorState::Included).await.is_ok());
    assert_eq!(anchorer.step(&first).await.expect("it is looked at"), AnchorState::Included);
    assert!(until(&anchorer, &second, AnchorState::Included).await.is_ok());
    assert_eq!(anchorer.final_head(log.namespace).await.expect("it is read").sequence, 0);
    node.mine().await;
    node.mine().await;
    for batch in [&first, &second] {
        assert_eq!(anchorer.step(batch).await.expect("it is looked at"), AnchorState::Final);
    }
    assert!(log.sender.intents().await.expect("they are read").is_empty(), "what is final is forgotten");
    let head = anchorer.final_head(log.namespace).await.expect("it is read");
    let hash = second.header.hash();
    let wanted = LogHead { sequence: 2, last_position: second.header.last_position, header_hash: hash };
    assert_eq!(head, wanted);
    // Somebody who starts anew with the same batch finds it done.
    assert_eq!(log.anchorer(2).step(&first).await.expect("it is looked at"), AnchorState::Final);
    let told = log.registry.find_anchor(log.namespace, 2, 0, 10_000).await.expect("it answers");
    let told = told.expect("it is found");
    assert_eq!((told.header_hash, told.header.as_ref()), (hash, &second.header.encode()[..]));
    // What a light client reads.
    let endpoints = log.registry.endpoints();
    let header = light::header(endpoints, BlockId::latest()).await.expect("a header");
    let slot = header_hash_slot(log.namespace, 2);
    let proven =
        light::account(endpoints, &header, log.registry.address(), &[slot]).await.expect("it is proven");
    assert_eq!(proven.slots, [U256::from_be_bytes(hash.0)]);
}

pub async fn another_header_is_an_alarm_that_stops(node: Node) {
    let log = Log::new(&node).await;
    let first = log.batch(None, 1);
    until(&log.anchorer(0), &first, AnchorState::Final).await.expect("it is anchored");
    let anchorer = log.anchorer(0);
    let other = log.batch(None, 7);
    let (ours, anchored) = (other.header.hash(), first.header.hash());
    match anchorer.step(&other).await {
        Err(AnchorError::Alarm(AnchorAlarm::OtherHeader { ours: found, anchored: on_chain, .. })) => {
            assert_eq!((found, on_chain), (ours, anchored));
        }
        done => panic!("{done:?}"),
    }
    // Nothing goes on after it, not even what would be fine.
    let next = log.batch(Some(&first), 2);
    assert!(matches!(anchorer.step(&next).await, Err(AnchorError::Alarm(_))));
    assert!(anchorer.alarm().is_some());
    // A batch that continues another log.
    let stray = log.batch(Some(&other), 2);
    let done = log.anchorer(0).step(&stray).await;
    assert!(matches!(done, Err(AnchorError::Alarm(AnchorAlarm::OtherPrevious { .. }))), "{done:?}");
    let mut back = log.batch(Some(&first), 2);
    back.header.first_position = first.header.last_position;
    let done = log.anchorer(0).step(&back).await;
    assert!(matches!(done, Err(AnchorError::Alarm(AnchorAlarm::OtherPositions { .. }))), "{done:?}");
    let mut elsewhere = log.batch(Some(&first), 2);
    elsewhere.header.chain_id += 1;
    assert!(matches!(log.anchorer(0).step(&elsewhere).await, Err(AnchorError::OtherRegistry { .. })));
    assert!(until(&log.anchorer(0), &next, AnchorState::Final).await.is_ok(), "a new start goes on");
}

/// Needs a node that can take blocks back.
pub async fn a_reorganisation_steps_back(node: Node) {
    let log = Log::new(&node).await;
    let anchorer = log.anchorer(3);
    let first = log.batch(None, 1);
    let snapshot = node.ask("evm_snapshot", json!([])).await;
    until(&anchorer, &first, AnchorState::Included).await.expect("it is anchored");
    let sent = log.sender.intents().await.expect("they are read");
    assert_eq!(node.ask("evm_revert", json!([snapshot])).await, json!(true));
    let states = until(&anchorer, &first, AnchorState::Included).await.expect("it is anchored again");
    assert_eq!(states.first(), Some(&AnchorState::Certified), "it stepped back");
    assert_eq!(log.sender.intents().await.expect("they are read"), sent, "with the same bytes");
    for _ in 0..3 {
        node.mine().await;
    }
    let snapshot = node.ask("evm_snapshot", json!([])).await;
    assert_eq!(anchorer.step(&first).await.expect("it is looked at"), AnchorState::Final);
    let second = log.batch(Some(&first), 2);
    let anchorer = log.anchorer(0);
    until(&anchorer, &second, AnchorState::Final).await.expect("it is anchored");
    assert_eq!(node.ask("evm_revert", json!([snapshot])).await, json!(true));
    // Behind what was seen, nothing is said yet.
    let behind = anchorer.step(&second).await;
    assert!(matches!(behind, Err(AnchorError::Behind { .. })), "{behind:?}");
    node.mine().await;
    let undone = anchorer.step(&second).await;
    assert!(matches!(undone, Err(AnchorError::Alarm(AnchorAlarm::FinalUndone { .. }))), "{undone:?}");
}

/// Its constructor runs known answers through the precompiles of EIP-2537.
pub async fn the_quorum_deploys(node: Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let sender = sender(&node, folder.path()).await;
    let arguments = (sender.address(), U256::from(60)).abi_encode();
    let code = artifact("DaQuorum").deploy(&arguments);
    let deployed = deploy(&sender, intent("quorum"), &code, 0, POLL).await.expect("it is deployed");
    let quorum = Quorum::new(Arc::clone(sender.endpoints()), deployed.address);
    assert_eq!(quorum.epoch().await.expect("it answers"), 0);
    let nowhere = Quorum::new(Arc::clone(sender.endpoints()), sender.address());
    assert!(nowhere.epoch().await.is_err());
}
