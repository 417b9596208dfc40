//! A running node, ours or another's.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::U256;
use ashlar_chain::TransactionKey;
use ashlar_dev_chain::{Chain, Clock, Configuration, DevChain, Production};
use ashlar_disk::RealDisk;
use serde_json::{Value, json};

use super::KEYS;

/// When a node makes blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blocks {
    /// On transactions.
    AtOnce,
    /// Every second.
    EachSecond,
}

pub(crate) enum Node {
    Dev { chain: DevChain, clock: Option<Arc<AtomicU64>>, _folder: tempfile::TempDir },
    Anvil { child: Child, url: String },
}

const ANVIL_CHAIN_ID: u64 = 31_337;

impl Node {
    pub(crate) async fn dev(blocks: Blocks) -> Self {
        Self::dev_at(blocks, None).await
    }

    /// One whose time of day passes by [`Node::pass`] alone.
    pub(crate) async fn dev_by_hand(unix_seconds: u64) -> Self {
        Self::dev_at(Blocks::AtOnce, Some(Arc::new(AtomicU64::new(unix_seconds)))).await
    }

    async fn dev_at(blocks: Blocks, clock: Option<Arc<AtomicU64>>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rich = U256::from(10_000) * U256::from(10).pow(U256::from(18));
        let address = |text| TransactionKey::from_hex(text).expect("a key").address();
        let configuration = Configuration {
            accounts: KEYS.map(|text| (address(text), rich)).to_vec(),
            production: match blocks {
                Blocks::AtOnce => Configuration::default().production,
                Blocks::EachSecond => Production::Every(Duration::from_secs(1)),
            },
            ..Configuration::default()
        };
        let time = clock.clone().map_or(Clock::System, Clock::Manual);
        let chain = Chain::open(&RealDisk::new(), folder.path(), None, configuration, time);
        let listen = "127.0.0.1:0".parse().expect("an address");
        let chain = DevChain::start(chain.expect("it opens"), listen).await.expect("it listens");
        Self::Dev { chain, clock, _folder: folder }
    }

    /// Installed on the first use; `install` says where.
    pub(crate) async fn anvil(blocks: Blocks) -> Self {
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/conformance/chain/install");
        let output = Command::new(&install).output().expect("the script runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let folder = String::from_utf8(output.stdout).expect("a path");
        let program = Path::new(folder.trim()).join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
        let mut command = Command::new(program);
        command
            .args(["--port", "0", "--hardfork", "prague", "--slots-in-an-epoch", "1"])
            .stdout(Stdio::piped());
        if let Blocks::EachSecond = blocks {
            command.args(["--block-time", "1"]);
        }
        let mut child = command.spawn().expect("anvil starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned))
            .expect("anvil says where it listens");
        // Whoever reads no more would stop it once the pipe is full.
        std::thread::Builder::new()
            .name("anvil's words".to_owned())
            .spawn(move || lines.map_while(Result::ok).for_each(drop))
            .expect("a thread starts");
        Self::Anvil { child, url: format!("http://{address}") }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Dev { chain, .. } => chain.url(),
            Self::Anvil { url, .. } => url.clone(),
        }
    }

    pub(crate) fn chain_id(&self) -> u64 {
        match self {
            Self::Dev { chain, .. } => chain.chain().configuration().chain_id,
            Self::Anvil { .. } => ANVIL_CHAIN_ID,
        }
    }

    /// One raw request.
    pub(crate) async fn ask(&self, method: &'static str, params: Value) -> Value {
        let endpoint = ashlar_chain::Endpoint::new(&self.url(), Default::default()).expect("a URL");
        endpoint.request(method, params).await.expect("the node answers")
    }

    /// Lets so many seconds pass, and makes a block then.
    pub(crate) async fn pass(&self, seconds: u64) {
        match self {
            Self::Dev { clock, .. } => {
                let clock = clock.as_ref().expect("the node's time passes by hand");
                clock.fetch_add(seconds, Ordering::Relaxed);
            }
            Self::Anvil { .. } => {
                self.ask("evm_increaseTime", json!([seconds])).await;
            }
        }
        self.mine().await;
    }

    /// A block more.
    pub(crate) async fn mine(&self) {
        match self {
            Self::Dev { chain, .. } => {
                let chain = std::sync::Arc::clone(chain.chain());
                let made =
                    tokio::task::spawn_blocking(move || chain.produce(true)).await.expect("it ends well");
                made.expect("a block is made");
            }
            Self::Anvil { .. } => {
                self.ask("evm_mine", json!([])).await;
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Self::Anvil { child, .. } = self {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
