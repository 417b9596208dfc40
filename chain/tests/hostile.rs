//! Endpoints that lie, stall and flood: none makes the client hold much, wait long, pay more, or believe.

mod suite;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, U256};
use ashlar_chain::light::{self, LightError};
use ashlar_chain::{
    AskError, Call, Endpoint, EndpointLimits, Endpoints, FeePolicy, RpcError, SenderError, TransactionSender,
};
use serde_json::{Value, json};
use suite::node::{Blocks, Node};
use suite::{intent, key, patient, store};

/// What a false endpoint does with a request.
enum Reply {
    Result(Value),
    Error(Value),
    Raw(&'static [u8]),
    Endless,
    Silence,
}

/// An endpoint that answers by `reply`, from the method.
fn endpoint(reply: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("it listens");
    let address: SocketAddr = listener.local_addr().expect("it has an address");
    let reply = Arc::new(reply);
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let reply = Arc::clone(&reply);
            let serve = move || {
                // A client that has enough closes, and that is an error here.
                let _ = serve(stream, &*reply);
            };
            std::thread::Builder::new().name("connection".to_owned()).spawn(serve).expect("a thread starts");
        }
    };
    std::thread::Builder::new().name("endpoint".to_owned()).spawn(accept).expect("a thread starts");
    format!("http://{address}")
}

fn serve(
    mut stream: TcpStream,
    reply: &(dyn Fn(&str, &Value) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    loop {
        let mut request = Vec::new();
        let mut piece = [0; 4096];
        let body = loop {
            let read = stream.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            request.extend_from_slice(&piece[..read]);
            if let Some(end) = request.windows(4).position(|at| at == b"\r\n\r\n")
                && let Ok(body) = serde_json::from_slice::<Value>(&request[end + 4..])
            {
                break body;
            }
        };
        let method = body["method"].as_str().unwrap_or_default();
        let frame =
            |name: &str, value: Value| json!({"jsonrpc": "2.0", "id": body["id"], name: value}).to_string();
        let text = match reply(method, &body["params"]) {
            Reply::Result(value) => frame("result", value),
            Reply::Error(value) => frame("error", value),
            Reply::Raw(bytes) => return stream.write_all(bytes),
            Reply::Silence => {
                std::thread::sleep(Duration::from_secs(60));
                return Ok(());
            }
            Reply::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                loop {
                    stream.write_all(b"1000\r\n")?;
                    stream.write_all(&[b' '; 4096])?;
                    stream.write_all(b"\r\n")?;
                }
            }
        };
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())?;
    }
}

const TIGHT: EndpointLimits = EndpointLimits {
    connect_max: Duration::from_millis(500),
    request_max: Duration::from_millis(800),
    answer_bytes_max: 1 << 20,
};

fn unavailable(error: &RpcError) -> &str {
    match error {
        RpcError::Unavailable { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_bounded_in_bytes_and_time_and_never_followed() {
    let ask = async |reply: fn() -> Reply| {
        let url = endpoint(move |_, _| reply());
        let begun = Instant::now();
        let answer = Endpoint::new(&url, TIGHT).expect("a URL").block_number().await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        answer.expect_err("nothing to believe")
    };
    assert!(unavailable(&ask(|| Reply::Endless).await).contains("longer than"));
    unavailable(&ask(|| Reply::Silence).await);
    unavailable(&ask(|| Reply::Raw(b"")).await);
    unavailable(&ask(|| Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{")).await);
    unavailable(
        &ask(|| {
            Reply::Raw(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
        })
        .await,
    );
    unavailable(&ask(|| Reply::Raw(b"HTTP/1.1 500 No\r\ncontent-length: 6\r\n\r\n<html>")).await);
    unavailable(&ask(|| Reply::Result(json!({"deep": [1]}))).await);
    unavailable(&ask(|| Reply::Result(json!("0xffffffffffffffffffff"))).await);
    match ask(|| Reply::Error(json!({"code": -32000, "message": "x".repeat(100_000)}))).await {
        RpcError::Refused { code: -32000, message, .. } => assert!(message.len() <= 500),
        other => panic!("{other:?}"),
    }
}

/// An endpoint that passes requests on to a real node, but for what `change` makes of them.
fn between(node: &Node, change: impl Fn(&str, &mut Value) + Send + Sync + 'static) -> String {
    let url = node.url();
    let runtime = tokio::runtime::Handle::current();
    endpoint(move |method, params| {
        let (method, params): (&'static str, Value) = (method.to_owned().leak(), params.clone());
        let real = Endpoint::new(&url, EndpointLimits::default()).expect("a URL");
        let answer: Result<Value, RpcError> = runtime.block_on(real.request(method, params));
        match answer {
            Ok(mut value) => {
                change(method, &mut value);
                Reply::Result(value)
            }
            Err(RpcError::Refused { code, message, data, .. }) => {
                Reply::Error(json!({"code": code, "message": message, "data": data}))
            }
            Err(_) => Reply::Silence,
        }
    })
}

async fn connect(url: &str, node: &Node) -> Arc<Endpoints> {
    let connected = Endpoints::connect(&[url.to_owned()], node.chain_id(), EndpointLimits::default()).await;
    Arc::new(connected.expect("it answers"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_is_what_hashes_to_its_hash() {
    let node = Node::dev(Blocks::AtOnce).await;
    node.mine().await;
    for field in ["stateRoot", "parentHash", "timestamp", "number", "logsBloom", "hash"] {
        let url = between(&node, move |method, value| {
            if method.starts_with("eth_getBlock") {
                let text = value[field].as_str().unwrap_or_default().to_owned();
                let last = if text.ends_with('1') { '2' } else { '1' };
                value[field] = json!(format!("{}{last}", &text[..text.len() - 1]));
            }
        });
        let lied = light::header(&*connect(&url, &node).await, BlockId::from(1)).await;
        assert!(matches!(lied, Err(LightError::HeaderHash { .. })), "{field}: {lied:?}");
    }
    // A true header of another block.
    let other = node.ask("eth_getBlockByNumber", json!(["0x0", false])).await;
    let url = between(&node, move |method, value| {
        if method.starts_with("eth_getBlock") {
            *value = other.clone();
        }
    });
    let endpoints = connect(&url, &node).await;
    let lied = light::header(&endpoints, BlockId::from(1)).await;
    assert!(matches!(lied, Err(LightError::Number { asked: 1, told: 0 })), "{lied:?}");
    let lied = light::header(&endpoints, B256::repeat_byte(1).into()).await;
    assert!(matches!(lied, Err(LightError::HeaderHash { .. })), "{lied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_talked_into_paying_more_than_the_cap() {
    let node = Node::dev(Blocks::AtOnce).await;
    let folder = tempfile::tempdir().expect("a folder");
    let url = between(&node, |method, value| match method {
        "eth_feeHistory" => value["baseFeePerGas"] = json!(["0x1", "0xffffffffffffffffffffffffffffff"]),
        "eth_maxPriorityFeePerGas" => *value = json!("0xffffffffffffffffffffffffffffffff"),
        _ => {}
    });
    let endpoints = connect(&url, &node).await;
    let sender = TransactionSender::open(endpoints, key(0), store(folder.path()), patient()).await;
    let sender = sender.expect("it opens");
    let call = Call { value: U256::ONE, ..Call::to(Address::repeat_byte(1), Bytes::new()) };
    let refused = sender.send(intent("dear"), &call).await;
    assert!(matches!(refused, Err(SenderError::Fees { .. })), "{refused:?}");
    assert!(sender.intents().await.expect("they are read").is_empty(), "nothing was signed");
    drop(sender);
    let url = between(&node, |method, value| {
        if method == "eth_maxPriorityFeePerGas" {
            *value = json!("0xffffffffffffffffffffffffffffffff");
        }
    });
    let endpoints = connect(&url, &node).await;
    let sender = TransactionSender::open(endpoints, key(0), store(folder.path()), patient()).await;
    let sender = sender.expect("it opens");
    sender.send(intent("tip"), &call).await.expect("it is sent");
    let attempt = sender.intents().await.expect("they are read")[0].attempts[0].clone();
    assert_eq!(attempt.tip_wei, FeePolicy::default().tip_max_wei);
    assert!(attempt.max_fee_wei <= FeePolicy::default().cap_wei);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_never_pays_twice() {
    let node = Node::dev(Blocks::AtOnce).await;
    let folder = tempfile::tempdir().expect("a folder");
    // The transaction arrives, and the answer is lost, every time.
    let real = node.url();
    let runtime = tokio::runtime::Handle::current();
    let url = endpoint(move |method, params| {
        let (method, params): (&'static str, Value) = (method.to_owned().leak(), params.clone());
        let real = Endpoint::new(&real, EndpointLimits::default()).expect("a URL");
        match runtime.block_on(real.request::<_, Value>(method, params)) {
            Ok(_) if method == "eth_sendRawTransaction" => Reply::Raw(b""),
            Ok(value) => Reply::Result(value),
            Err(RpcError::Refused { code, message, .. }) => {
                Reply::Error(json!({"code": code, "message": message}))
            }
            Err(_) => Reply::Silence,
        }
    });
    let endpoints = connect(&url, &node).await;
    let open = || TransactionSender::open(Arc::clone(&endpoints), key(0), store(folder.path()), patient());
    let payee = Address::repeat_byte(0x21);
    let call = Call { value: U256::from(5), ..Call::to(payee, Bytes::new()) };
    let sender = open().await.expect("it opens");
    let sent = sender.send(intent("pay"), &call).await.expect("it is kept");
    assert!(!sent.announced, "nobody confirmed it");
    drop(sender);
    for _ in 0..3 {
        let sender = open().await.expect("it opens");
        let again = sender.send(intent("pay"), &call).await.expect("it is kept");
        assert_eq!(again.hash, sent.hash);
    }
    let sender = open().await.expect("it opens");
    let done = sender.wait(intent("pay"), 0, suite::POLL).await.expect("it is included");
    assert_eq!(done.hash, sent.hash);
    let paid = endpoints.any(|endpoint| endpoint.balance(payee)).await.expect("it answers");
    assert_eq!(paid, U256::from(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_of_another_chain_is_never_used() {
    let node = Node::dev(Blocks::AtOnce).await;
    let false_one = endpoint(|_, _| Reply::Result(json!("0x1")));
    let urls = [node.url(), false_one];
    let refused = Endpoints::connect(&urls, node.chain_id(), EndpointLimits::default()).await;
    assert!(matches!(refused, Err(AskError::OtherChain { found: 1, .. })), "{refused:?}");
    let refused = Endpoints::connect(&[], node.chain_id(), EndpointLimits::default()).await;
    assert!(matches!(refused, Err(AskError::None)));
}
