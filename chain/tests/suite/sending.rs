//! Transactions: each intent once, whatever happens in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rpc_types_eth::{Filter, TransactionRequest};
use ashlar_chain::{
    Call, Fence, FileTransactionStore, KeyId, KeyRecord, Progress, SenderError, TransactionSender,
    TransactionStore, TransactionStoreError,
};
use async_trait::async_trait;

use super::node::Node;
use super::{POLL, counter, endpoints, intent, key, patient, sender, store};

pub(crate) async fn deploys_calls_logs_and_reverts(node: Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let sender = sender(&node, folder.path()).await;
    let deployed = counter(&sender).await;
    let contract = deployed.address;
    for round in 1..=3u64 {
        let id = intent(&format!("count {round}"));
        let sent = sender.send(id, &Call::to(contract, Bytes::new())).await.expect("it is sent");
        assert_eq!((sent.nonce, sent.announced), (round, true));
        let done = sender.wait(id, 0, POLL).await.expect("it is included");
        assert!(done.succeeded && done.hash == sent.hash);
        assert_eq!(done.logs.len(), 1);
        assert_eq!(done.logs[0].topics(), [B256::from(U256::from(round))]);
    }
    let endpoints = endpoints(&node).await;
    let read = TransactionRequest::default().to(contract).input(Bytes::from_static(&[2]).into());
    let count = endpoints.any(|endpoint| endpoint.call(&read, BlockId::latest())).await.expect("it answers");
    assert_eq!(U256::from_be_slice(&count), U256::from(3));
    let at_first = BlockId::from(deployed.inclusion.block_number);
    let count =
        endpoints.any(|endpoint| endpoint.call(&read, at_first)).await.expect("it knows earlier state");
    assert_eq!(U256::from_be_slice(&count), U256::ZERO);
    let filter = Filter::new()
        .address(contract)
        .from_block(0)
        .event_signature(vec![B256::from(U256::from(2)), B256::from(U256::from(3))]);
    let logs = endpoints.any(|endpoint| endpoint.logs(&filter)).await.expect("it answers");
    assert_eq!(logs.len(), 2);
    match sender.send(intent("no"), &Call::to(contract, Bytes::from_static(&[1]))).await {
        Err(SenderError::WouldRevert { message, data }) => {
            assert!(message.contains("no"), "{message}");
            assert_eq!(data.len(), 100);
        }
        done => panic!("{done:?}"),
    }
    // With its own gas limit it is sent, and uses its nonce.
    let forced = Call { gas_limit: Some(100_000), ..Call::to(contract, Bytes::from_static(&[1])) };
    let sent = sender.send(intent("no"), &forced).await.expect("it is sent");
    assert_eq!(sent.nonce, 4);
    assert!(!sender.wait(intent("no"), 0, POLL).await.expect("it is included").succeeded);
}

pub(crate) async fn an_intent_is_sent_once(node: Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let first = sender(&node, folder.path()).await;
    let contract = counter(&first).await.address;
    let call = Call::to(contract, Bytes::new());
    let sent = first.send(intent("once"), &call).await.expect("it is sent");
    assert_eq!(first.send(intent("once"), &call).await.expect("the same again"), sent);
    let other = Call::to(contract, Bytes::from_static(&[2]));
    assert!(matches!(first.send(intent("once"), &other).await, Err(SenderError::OtherCall { .. })));
    first.wait(intent("once"), 0, POLL).await.expect("it is included");
    drop(first);
    // Another process with the same folder knows it all.
    let second = sender(&node, folder.path()).await;
    assert_eq!(second.send(intent("once"), &call).await.expect("known").hash, sent.hash);
    second.forget(intent("once")).await.expect("it is forgotten");
    let again = second.send(intent("once"), &call).await.expect("a new one");
    assert_eq!(again.nonce, sent.nonce + 1);
}

pub(crate) async fn a_dearer_replacement_reuses_the_nonce(node: Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let sender = sender(&node, folder.path()).await;
    let contract = counter(&sender).await.address;
    let (one, two) = (intent("one"), intent("two"));
    let call = Call::to(contract, Bytes::new());
    let first = sender.send(one, &call).await.expect("it is sent");
    let raised = sender.replace(one).await.expect("it is replaced").expect("the policy allows it");
    assert_eq!(raised.nonce, first.nonce);
    assert_ne!(raised.hash, first.hash);
    let next = sender.send(two, &call).await.expect("it is sent");
    assert_eq!(next.nonce, first.nonce + 1);
    let done = sender.wait(one, 0, POLL).await.expect("it is included");
    assert!(done.hash == raised.hash || done.hash == first.hash);
    sender.wait(two, 1, POLL).await.expect("it is included, and a block follows");
    let address = sender.address();
    let count =
        sender.endpoints().any(|endpoint| endpoint.transaction_count(address, BlockId::latest())).await;
    assert_eq!(count.expect("it answers"), next.nonce + 1);
}

/// A store whose owner dies right after a save.
#[derive(Clone)]
struct DiesAfterSave {
    inside: Arc<FileTransactionStore>,
    dies: Arc<AtomicBool>,
}

#[async_trait]
impl TransactionStore for DiesAfterSave {
    async fn acquire(&self, key: KeyId) -> Result<(Fence, KeyRecord), TransactionStoreError> {
        self.inside.acquire(key).await
    }

    async fn load(&self, key: KeyId, fence: Fence) -> Result<KeyRecord, TransactionStoreError> {
        self.inside.load(key, fence).await
    }

    async fn save(&self, key: KeyId, fence: Fence, record: KeyRecord) -> Result<(), TransactionStoreError> {
        self.inside.save(key, fence, record).await?;
        if self.dies.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

pub(crate) async fn stored_bytes_are_sent_after_a_crash(node: Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let dies = Arc::new(AtomicBool::new(false));
    let dying = DiesAfterSave { inside: store(folder.path()), dies: Arc::clone(&dies) };
    let endpoints = endpoints(&node).await;
    let opened =
        TransactionSender::open(Arc::clone(&endpoints), key(0), Arc::new(dying.clone()), patient()).await;
    let first = opened.expect("the sender opens");
    let contract = counter(&first).await.address;
    let call = Call::to(contract, Bytes::new());
    dies.store(true, Ordering::Relaxed);
    let killed = tokio::time::timeout(Duration::from_millis(500), first.send(intent("killed"), &call)).await;
    assert!(killed.is_err(), "it dies between storing and sending");
    dies.store(false, Ordering::Relaxed);
    // The same process goes on: what it does not know it reads back before it signs anything.
    let other = first.send(intent("other"), &call).await.expect("it is sent");
    let stored = first.intents().await.expect("they are read");
    let killed = stored.iter().find(|stored| stored.id == intent("killed")).expect("it is stored").clone();
    assert_eq!(other.nonce, killed.nonce + 1);
    let known =
        endpoints.any(|endpoint| endpoint.receipt(killed.attempts[0].hash)).await.expect("it answers");
    assert!(known.is_none(), "it was never sent");
    drop(first);
    drop(dying);
    // Another process.
    let second = sender(&node, folder.path()).await;
    second.resume().await.expect("it is sent");
    let done = second.wait(intent("killed"), 0, POLL).await.expect("it is included");
    assert_eq!(done.hash, killed.attempts[0].hash);
    assert!(second.wait(intent("other"), 0, POLL).await.expect("it is included").succeeded);
    let read = TransactionRequest::default().to(contract).input(Bytes::from_static(&[2]).into());
    let count = endpoints.any(|endpoint| endpoint.call(&read, BlockId::latest())).await.expect("it answers");
    assert_eq!(U256::from_be_slice(&count), U256::from(2), "each exactly once");
}

pub(crate) async fn one_sender_a_key(node: Node) {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoints = endpoints(&node).await;
    let shared = store(folder.path());
    let open = |store: Arc<FileTransactionStore>| {
        TransactionSender::open(Arc::clone(&endpoints), key(0), store, patient())
    };
    let first = open(Arc::clone(&shared)).await.expect("the sender opens");
    let call = Call { value: U256::ONE, ..Call::to(Address::repeat_byte(9), Bytes::new()) };
    first.send(intent("first"), &call).await.expect("it is sent");
    // Another store, as another process has: refused.
    let refused = open(store(folder.path())).await;
    assert!(matches!(refused, Err(SenderError::Store(TransactionStoreError::Held { .. }))));
    // Within a process the later one fences the earlier one.
    let second = open(shared).await.expect("the second sender opens");
    let fenced = first.send(intent("late"), &call).await;
    assert!(matches!(fenced, Err(SenderError::Store(TransactionStoreError::Fenced { .. }))));
    let sent = second.send(intent("second"), &call).await.expect("it is sent");
    assert_eq!(sent.nonce, 1);
    let still = first.send(intent("later"), &call).await;
    assert!(matches!(still, Err(SenderError::Store(TransactionStoreError::Fenced { .. }))));
}

pub(crate) async fn a_nonce_used_elsewhere_is_found(node: Node) {
    let (ours, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let dies = Arc::new(AtomicBool::new(true));
    let dying = DiesAfterSave { inside: store(ours.path()), dies: Arc::clone(&dies) };
    let opened = TransactionSender::open(endpoints(&node).await, key(0), Arc::new(dying), patient()).await;
    let first = opened.expect("the sender opens");
    let to = |byte| Call { value: U256::ONE, ..Call::to(Address::repeat_byte(byte), Bytes::new()) };
    let killed = tokio::time::timeout(Duration::from_millis(500), first.send(intent("ours"), &to(2))).await;
    assert!(killed.is_err(), "it dies between storing and sending");
    dies.store(false, Ordering::Relaxed);
    // Meanwhile somebody signs with the same key and another store.
    let other = sender(&node, theirs.path()).await;
    let taken = other.send(intent("theirs"), &to(1)).await.expect("it is sent");
    other.wait(intent("theirs"), 0, POLL).await.expect("it is included");
    let mut looks = 0;
    let found = loop {
        match first.advance(intent("ours")).await {
            Ok(Progress::Waiting) => looks += 1,
            done => break done,
        }
    };
    assert!(looks > 3, "an endpoint that is behind is given time");
    assert!(matches!(found, Err(SenderError::NonceTaken { nonce, .. }) if nonce == taken.nonce), "{found:?}");
}
