//! SIGKILL at random moments while a client sends: no block that it saw is ever gone or another.
//!
//! The page cache survives these; `crash.rs` is about machines. `ASHLAR_KILL_ROUNDS` and `ASHLAR_SEED` set how many
//! rounds and which.

mod stand;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Cargo builds examples beside tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().and_then(Path::parent).expect("it lies in target/<profile>/deps");
    folder.join("examples").join("serve")
}

struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(program())
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()
            .expect("`serve` is built with the tests");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("listening http://").and_then(|at| at.parse().ok());
        match address {
            Some(address) => Self { child, address },
            None => {
                let status = child.wait();
                panic!("it did not start: {line:?}, {status:?}");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hash_of(block: &Value) -> Option<(u64, String)> {
    let block = block.get("result")?;
    Some((stand::number(&block["number"]), block["hash"].as_str()?.to_owned()))
}

#[test]
fn no_block_that_was_seen_is_lost_by_a_kill() {
    let seed = from_environment("ASHLAR_SEED", rand::random());
    let rounds = from_environment("ASHLAR_KILL_ROUNDS", 12);
    println!("ASHLAR_SEED={seed} ASHLAR_KILL_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let [key, _] = stand::keys();
    let mut seen: BTreeMap<u64, String> = BTreeMap::new();
    let mut receipts: Vec<(String, u64)> = Vec::new();
    for round in 0..rounds {
        let running = Running::start(folder.path());
        let address = running.address;
        let head = stand::number(&stand::result(address, "eth_blockNumber", json!([])));
        for (number, hash) in &seen {
            let block =
                stand::result(address, "eth_getBlockByNumber", json!([format!("{number:#x}"), false]));
            assert_eq!(block["hash"], json!(hash), "round {round}: block {number} of {head}");
        }
        for (hash, number) in &receipts {
            let receipt = stand::result(address, "eth_getTransactionReceipt", json!([hash]));
            assert_eq!(stand::number(&receipt["blockNumber"]), *number, "round {round}: {hash}");
        }
        let mut nonce = stand::number(&stand::result(
            address,
            "eth_getTransactionCount",
            json!([key.address(), "latest"]),
        ));
        let end = Instant::now() + Duration::from_millis(random.random_range(5..250));
        let killer = std::thread::Builder::new()
            .name("killer".to_owned())
            .spawn(move || {
                std::thread::sleep(end.saturating_duration_since(Instant::now()));
                drop(running);
            })
            .expect("a thread starts");
        let mut sent = Vec::new();
        // Until it is gone.
        while let Ok(block) = stand::ask(address, "eth_getBlockByNumber", json!(["latest", false])) {
            if let Some((number, hash)) = hash_of(&block) {
                let before = seen.insert(number, hash.clone());
                assert!(before.is_none_or(|before| before == hash), "block {number} changed");
            }
            let encoded = stand::pay(&key, nonce, Address::repeat_byte(7));
            let raw = format!("0x{}", alloy_primitives::hex::encode(encoded));
            let Ok(answer) = stand::ask(address, "eth_sendRawTransaction", json!([raw])) else { break };
            if let Some(hash) = answer["result"].as_str() {
                sent.push(hash.to_owned());
                nonce += 1;
            }
            let Some(last) = sent.last() else { continue };
            let Ok(receipt) = stand::ask(address, "eth_getTransactionReceipt", json!([last])) else { break };
            if receipt["result"].is_object() {
                receipts.push((last.clone(), stand::number(&receipt["result"]["blockNumber"])));
            }
        }
        killer.join().expect("the killer ends");
    }
    println!("{} blocks and {} receipts were seen", seen.len(), receipts.len());
    assert!(seen.len() as u64 > rounds, "too little happened to show anything");
}
