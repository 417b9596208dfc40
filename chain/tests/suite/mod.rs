//! What must hold on every node that speaks Ethereum's JSON-RPC: run on the dev chain and on `anvil`.

#![allow(dead_code, reason = "each node's file uses its part")]

pub(crate) mod anchoring;
pub(crate) mod market;
pub(crate) mod node;
pub(crate) mod proofs;
pub(crate) mod sending;

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{B256, Bytes, hex, keccak256};
use ashlar_chain::{
    Artifact, EndpointLimits, Endpoints, FeePolicy, FileTransactionStore, TransactionKey, TransactionSender,
};
use ashlar_disk::RealDisk;
use node::Node;
use std::time::Duration;

pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Keys of the first two funded accounts that every test kit knows.
pub(crate) const KEYS: [&str; 2] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
];

/// Creation code of a contract that counts: without call data it adds one and logs the count as topic and data, with
/// data that begins with 1 it reverts with `Error("no")`, with other data it returns the count.
pub(crate) const COUNTER: [u8; 82] = hex!(
    "60498060095f395ff3366014575f54600101805f55805f5260205fa1005b5f355f1a6001146027575f545f5260205ff3"
    "5b6308c379a060e01b5f5260206004526002602452616e6f60f01b60445260645ffd"
);

/// Creation code of a verifier that calls itself kind 1 and vouches for everything.
pub(crate) const AGREEABLE: [u8; 17] = hex!("60088060095f395ff3" "60015f5260605ff3");

/// An idempotency key.
pub(crate) fn intent(name: &str) -> B256 {
    keccak256(name)
}

pub(crate) fn key(index: usize) -> TransactionKey {
    TransactionKey::from_hex(KEYS[index]).expect("a key")
}

/// A contract as it was compiled.
pub(crate) fn artifact(name: &str) -> Artifact {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(format!("{name}.json"));
    Artifact::parse(&std::fs::read_to_string(path).expect("it reads")).expect("it is an artifact")
}

pub(crate) async fn endpoints(node: &Node) -> Arc<Endpoints> {
    let connected = Endpoints::connect(&[node.url()], node.chain_id(), EndpointLimits::default()).await;
    Arc::new(connected.expect("the node answers"))
}

pub(crate) fn store(folder: &Path) -> Arc<FileTransactionStore> {
    Arc::new(FileTransactionStore::open(Arc::new(RealDisk::new()), folder).expect("the store opens"))
}

pub(crate) fn patient() -> FeePolicy {
    FeePolicy { resend_after: Duration::from_millis(200), ..FeePolicy::default() }
}

/// A sender of the first key with a store in a folder.
pub(crate) async fn sender(node: &Node, folder: &Path) -> TransactionSender {
    sender_of(node, folder, 0).await
}

/// A sender of one of the keys.
pub(crate) async fn sender_of(node: &Node, folder: &Path, index: usize) -> TransactionSender {
    let opened = TransactionSender::open(endpoints(node).await, key(index), store(folder), patient()).await;
    opened.expect("the sender opens")
}

/// Deploys the counter.
pub(crate) async fn counter(sender: &TransactionSender) -> ashlar_chain::Deployed {
    let call = ashlar_chain::Call::create(Bytes::from_static(&COUNTER));
    ashlar_chain::deploy(sender, intent("counter"), &call, 0, POLL).await.expect("it is deployed")
}
