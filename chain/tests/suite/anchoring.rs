//! Batches on the chain: states, order, alarms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_eips::BlockId;
use alloy_primitives::{B256, Bytes, U256};
use alloy_rpc_types_eth::Filter;
use alloy_sol_types::SolValue as _;
use ashlar_chain::{
    AnchorAlarm, AnchorError, AnchorState, Anchorer, Attempt, Batch, BatchHeader, Call, Finality, LogHead,
    Quorum, Registry, SenderError, TransactionSender, TransactionStoreError, deploy, header_hash_slot, light,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::node::Node;
use super::{AGREEABLE, POLL, artifact, intent, key, patient, sender, store};

struct Log {
    registry: Registry,
    sender: Arc<TransactionSender>,
    namespace: B256,
    folder: tempfile::TempDir,
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
        Self { registry, sender, namespace, folder }
    }

    /// The same log after its publisher's process ended and another began.
    async fn reopened(self, node: &Node) -> Self {
        let Self { registry, sender, namespace, folder } = self;
        drop(sender);
        loop {
            let store = store(folder.path());
            let opened =
                TransactionSender::open(Arc::clone(registry.endpoints()), key(0), store, patient()).await;
            match opened {
                Ok(sender) => return Self { registry, sender: Arc::new(sender), namespace, folder },
                // What the one before was storing is stored first.
                Err(SenderError::Store(TransactionStoreError::Held { .. })) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(error) => panic!("{}: {error}", node.url()),
            }
        }
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

pub(crate) async fn batches_become_final_in_order(node: Node) {
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

pub(crate) async fn another_header_is_an_alarm_that_stops(node: Node) {
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
pub(crate) async fn a_reorganisation_steps_back(node: Node) {
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

/// A publisher that dies again and again at any await; the file store goes on with what it had begun, as a disk does.
pub(crate) async fn killed_at_any_moment_nothing_is_lost_or_doubled(node: Node) {
    let from_environment = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seed: u64 = from_environment("ASHLAR_SEED").unwrap_or_else(rand::random);
    let rounds: u64 = from_environment("ASHLAR_KILL_ROUNDS").unwrap_or(200);
    println!("ASHLAR_SEED={seed} ASHLAR_KILL_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut log = Log::new(&node).await;
    let batches = Mutex::new(vec![log.batch(None, 0)]);
    // Nonce → intent, and every attempt that was ever stored under it.
    let mut nonces: BTreeMap<u64, (B256, Vec<Attempt>)> = BTreeMap::new();
    for round in 0..rounds {
        log = log.reopened(&node).await;
        for intent in log.sender.intents().await.expect("they are read") {
            let (id, attempts) = nonces.entry(intent.nonce).or_insert((intent.id, Vec::new()));
            assert_eq!(*id, intent.id, "round {round}: nonce {} has two intents", intent.nonce);
            assert!(
                intent.attempts.starts_with(attempts),
                "round {round}: nonce {} has other bytes",
                intent.nonce
            );
            *attempts = intent.attempts;
        }
        let anchorer = log.anchorer(0);
        let work = async {
            loop {
                let batch = batches.lock().last().cloned().expect("there is one");
                match anchorer.step(&batch).await {
                    Ok(AnchorState::Final) => {
                        let next = log.batch(Some(&batch), batch.header.batch_root[0].wrapping_add(1));
                        batches.lock().push(next);
                    }
                    Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Err(error) => panic!("round {round}: {error}"),
                }
            }
        };
        let moment = Duration::from_micros(random.random_range(0..40_000));
        let _ = tokio::time::timeout(moment, work).await;
    }
    log = log.reopened(&node).await;
    let batches = batches.into_inner();
    let anchorer = log.anchorer(0);
    let last = batches.last().expect("there is one");
    until(&anchorer, last, AnchorState::Final).await.expect("it is anchored");
    assert!(batches.len() as u64 > rounds / 10, "only {} batches in {rounds} rounds", batches.len());
    for batch in &batches {
        assert_eq!(anchorer.step(batch).await.expect("it is looked at"), AnchorState::Final);
    }
    let filter = Filter::new()
        .address(log.registry.address())
        .from_block(0)
        .event("Anchored(bytes32,uint64,bytes32,bytes32,uint64,uint64,bytes,bytes)");
    let anchors = log.registry.endpoints().any(|endpoint| endpoint.logs(&filter)).await.expect("it answers");
    assert_eq!(anchors.len(), batches.len(), "each once");
    // Registry, verifier and namespace before; then one transaction a batch, none lost, none twice.
    let address = log.sender.address();
    let count =
        log.registry.endpoints().any(|endpoint| endpoint.transaction_count(address, BlockId::latest())).await;
    assert_eq!(count.expect("it answers"), 3 + batches.len() as u64);
}

/// Its constructor runs known answers through the precompiles of EIP-2537.
pub(crate) async fn the_quorum_deploys(node: Node) {
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
