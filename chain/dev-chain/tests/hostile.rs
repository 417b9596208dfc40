//! What clients must not be able to do to the chain: hostile bodies, ranges, connections.

mod stand;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, TxKind, hex};
use ashlar_dev_chain::{Chain, Clock, Configuration, DevChain, StartError};
use ashlar_disk::RealDisk;
use serde_json::{Value, json};
use stand::{keys, post, raw, refused, result, sign, transaction};

struct Stand {
    chain: DevChain,
    _folder: tempfile::TempDir,
}

async fn start(configuration: Configuration) -> Stand {
    let folder = tempfile::tempdir().expect("a folder");
    let chain = Chain::open(&RealDisk::new(), folder.path(), None, configuration, Clock::System);
    let listen = "127.0.0.1:0".parse().expect("an address");
    let chain = DevChain::start(chain.expect("it opens"), listen).await.expect("it listens");
    Stand { chain, _folder: folder }
}

/// A blocking client on a thread of its own, while the chain runs.
async fn with<T: Send + 'static>(
    stand: &Stand,
    client: impl FnOnce(std::net::SocketAddr) -> T + Send + 'static,
) -> T {
    let address = stand.chain.address();
    tokio::task::spawn_blocking(move || client(address)).await.expect("the client ends well")
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_requests_are_told_and_cost_little() {
    let stand = start(stand::configuration()).await;
    with(&stand, |address| {
        let answer = |body: &[u8]| -> (u16, Value) {
            let (status, body) = post(address, body).expect("it answers");
            (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
        };
        let batch = |count: usize| {
            let one = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
            format!("[{}]", vec![one; count].join(",")).into_bytes()
        };
        assert_eq!(answer(&batch(100)).1.as_array().expect("a batch").len(), 100);
        assert_eq!(answer(&batch(101)).1["error"]["code"], -32600);
        assert_eq!(answer(&[b'['; 1 << 20]).1["error"]["code"], -32700);
        assert_eq!(answer(&vec![b'{'; 1 << 20]).1["error"]["code"], -32700);
        let deep = format!(
            r#"{{"id":1,"method":"eth_call","params":[{}{}]}}"#,
            "[".repeat(50_000),
            "]".repeat(50_000)
        );
        assert_eq!(answer(deep.as_bytes()).1["error"]["code"], -32602);
        let zeros = format!("[{}0]", "0,".repeat(1_000_000));
        assert_eq!(answer(zeros.as_bytes()).1["error"]["code"], -32600);
        // The rest is not read: the connection may be cut before all of it is taken.
        match post(address, &vec![b' '; (2 << 20) + 1]) {
            Ok((status, _)) => assert_eq!(status, 413),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}")
            }
        }
        let mut endless = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..3 * 1024 {
            endless.extend_from_slice(b"400\r\n");
            endless.extend_from_slice(&[b' '; 1024]);
            endless.extend_from_slice(b"\r\n");
        }
        // The connection may be cut before all of it is taken.
        if let Ok((status, _)) = raw(address, &endless) {
            assert_eq!(status, 413);
        }
        assert_eq!(
            raw(address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it answers").0,
            405
        );
        let (status, _) =
            raw(address, b"OPTIONS / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it answers");
        assert_eq!(status, 204);
        assert_eq!(result(address, "eth_chainId", json!([])), json!("0x4153484c"));
    })
    .await;
    stand.chain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_have_their_codes() {
    let stand = start(stand::configuration()).await;
    with(&stand, |address| {
        let zero = Address::ZERO;
        refused(address, "eth_nothing", json!([]), -32601);
        refused(address, "eth_sendTransaction", json!([{}]), -32601);
        refused(address, "eth_getBalance", json!([]), -32602);
        refused(address, "eth_getBalance", json!({"address": zero}), -32602);
        refused(address, "eth_getBalance", json!(["0x12", "latest"]), -32602);
        refused(address, "eth_getBalance", json!([zero, "yesterday"]), -32602);
        refused(address, "eth_getBalance", json!([zero, "0xffffffffffffffffff"]), -32602);
        refused(address, "eth_getBalance", json!([zero, "0x5"]), -32000);
        refused(address, "eth_sendRawTransaction", json!(["0x"]), -32000);
        refused(address, "eth_sendRawTransaction", json!(["0x02c0"]), -32000);
        refused(address, "eth_sendRawTransaction", json!(["nothing"]), -32602);
        refused(address, "eth_feeHistory", json!(["0x1", "latest", [50, 10]]), -32602);
        refused(address, "eth_getProof", json!([zero, vec!["0x0"; 257], "latest"]), -32005);
        assert_eq!(result(address, "eth_getBlockByNumber", json!(["0x5", false])), Value::Null);
        assert_eq!(
            result(address, "eth_getTransactionReceipt", json!([format!("0x{}", "00".repeat(32))])),
            Value::Null
        );
        let many: Vec<_> = (0..9).collect();
        refused(address, "eth_chainId", json!(many), -32602);
    })
    .await;
    stand.chain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_blocks_and_logs_of_one_body_are_bounded() {
    let mut configuration = stand::configuration();
    configuration.rpc.log_blocks_max = 20;
    configuration.rpc.logs_max = 10;
    configuration.rpc.call_gas_max = 60_000_000;
    let stand = start(configuration).await;
    let [key, _] = keys();
    let counter = key.address().create(0);
    let chain = stand.chain.chain();
    chain.submit(&sign(&key, transaction(0, TxKind::Create, stand::COUNTER))).expect("it is taken");
    for nonce in 1..=30 {
        chain.submit(&sign(&key, transaction(nonce, counter.into(), vec![]))).expect("it is taken");
        // One block each, so that there are enough.
        while chain.waiting() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    with(&stand, move |address| {
        let logs = |from: u64, to: u64| json!([{"address": counter, "fromBlock": format!("{from:#x}"), "toBlock": format!("{to:#x}")}]);
        let head = stand::number(&result(address, "eth_blockNumber", json!([])));
        assert!(head > 25, "{head}");
        assert_eq!(result(address, "eth_getLogs", logs(head - 4, head)).as_array().expect("logs").len(), 5);
        assert_eq!(result(address, "eth_getLogs", logs(head + 5, head + 9)), json!([]));
        let said = refused(address, "eth_getLogs", logs(head - 15, head), -32005);
        assert!(said.contains("logs"), "{said}");
        let said = refused(address, "eth_getLogs", logs(0, head), -32005);
        assert!(said.contains("blocks"), "{said}");
        refused(address, "eth_getLogs", logs(0, u64::MAX), -32005);
        // An endless loop: JUMPDEST PUSH0 JUMP.
        let endless = json!([{"input": format!("0x{}", hex::encode([0x5b, 0x5f, 0x56]))}]);
        let batch: Vec<_> = (0..50)
            .map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "eth_call", "params": endless}))
            .collect();
        let begun = Instant::now();
        let (_, answer) = post(address, json!(batch).to_string().as_bytes()).expect("it answers");
        let answers: Vec<Value> = serde_json::from_slice(&answer).expect("a batch");
        let code = |code: i64| answers.iter().filter(|answer| answer["error"]["code"] == code).count();
        assert_eq!((code(-32000), code(-32005)), (2, 48), "{answers:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        refused(address, "eth_estimateGas", endless, -32000);
    })
    .await;
    stand.chain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_many_connections_lose_theirs_and_others_are_served() {
    let mut configuration = stand::configuration();
    configuration.rpc.connections_max = 4;
    configuration.rpc.idle_max = Duration::from_millis(400);
    let stand = start(configuration).await;
    with(&stand, |address| {
        let mut idle: Vec<TcpStream> = (0..8)
            .map(|at| {
                let mut stream = TcpStream::connect(address).expect("it connects");
                let begun: &[u8] = match at % 3 {
                    0 => b"",
                    1 => b"POST / HTT",
                    _ => b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 90\r\n\r\n{",
                };
                stream.write_all(begun).expect("it is sent");
                stream
            })
            .collect();
        assert_eq!(result(address, "eth_chainId", json!([])), json!("0x4153484c"));
        for stream in &mut idle {
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout is set");
            let mut rest = Vec::new();
            // Cut, or answered that it took too long, and then cut.
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
        }
    })
    .await;
    stand.chain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_this_machine_may_ask() {
    let folder = tempfile::tempdir().expect("a folder");
    let chain = Chain::open(&RealDisk::new(), folder.path(), None, stand::configuration(), Clock::System);
    let anywhere = "0.0.0.0:0".parse().expect("an address");
    let refused = DevChain::start(chain.expect("it opens"), anywhere).await;
    assert!(matches!(refused, Err(StartError::NotLoopback { .. })));
}

/// Found by `cast send --legacy`: its estimate failed while the base fee fell.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_at_the_quoted_gas_price_runs() {
    let stand = start(stand::configuration()).await;
    let [key, _] = keys();
    let chain = stand.chain.chain();
    chain.submit(&stand::pay(&key, 0, Address::repeat_byte(1))).expect("it is taken");
    while chain.waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    with(&stand, move |address| {
        let price = result(address, "eth_gasPrice", json!([]));
        let call = json!([{"from": key.address(), "to": Address::repeat_byte(1), "value": "0x7", "gasPrice": price}]);
        assert_eq!(result(address, "eth_estimateGas", call), json!("0x5208"));
    })
    .await;
    stand.chain.stop().await;
}
