//! What the tests of this crate share: accounts, signed transactions, a client without a library, a contract.

#![allow(dead_code, reason = "each test uses its part")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Bytes, TxKind, U256, hex};
use alloy_signer::SignerSync as _;
use alloy_signer_local::PrivateKeySigner;
use ashlar_dev_chain::{Configuration, DEFAULT_CHAIN_ID};
use serde_json::{Value, json};

pub(crate) const RICH: u128 = 10_000_000_000_000_000_000_000;

/// Creation code of a contract that counts: without call data it adds one and logs the count as topic and data, with
/// data that begins with 1 it reverts with `Error("no")`, with other data it returns the count.
pub(crate) const COUNTER: [u8; 82] = hex!(
    "60498060095f395ff3366014575f54600101805f55805f5260205fa1005b5f355f1a6001146027575f545f5260205ff3"
    "5b6308c379a060e01b5f5260206004526002602452616e6f60f01b60445260645ffd"
);

/// The first two accounts that every test kit knows.
pub(crate) fn keys() -> [PrivateKeySigner; 2] {
    [
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    ]
    .map(|key| key.parse().expect("a key"))
}

pub(crate) fn configuration() -> Configuration {
    let accounts = keys().iter().map(|key| (key.address(), U256::from(RICH))).collect();
    Configuration { accounts, ..Configuration::default() }
}

/// A transaction that a test changes before it signs it.
pub(crate) fn transaction(nonce: u64, to: TxKind, input: impl Into<Bytes>) -> TxEip1559 {
    TxEip1559 {
        chain_id: DEFAULT_CHAIN_ID,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: 3_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to,
        value: U256::ZERO,
        access_list: Default::default(),
        input: input.into(),
    }
}

pub(crate) fn sign(key: &PrivateKeySigner, transaction: TxEip1559) -> Vec<u8> {
    let signature = key.sign_hash_sync(&transaction.signature_hash()).expect("a hash is signed");
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718()
}

/// One wei to an address.
pub(crate) fn pay(key: &PrivateKeySigner, nonce: u64, to: Address) -> Vec<u8> {
    sign(
        key,
        TxEip1559 { value: U256::ONE, gas_limit: 21_000, ..transaction(nonce, to.into(), Bytes::new()) },
    )
}

/// Sends raw bytes of one HTTP request and reads the answer's status and body.
pub(crate) fn raw(address: SocketAddr, request: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let short = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let end = answer.windows(4).position(|at| at == b"\r\n\r\n").ok_or_else(short)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(short)?;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    if length.is_some_and(|length: usize| answer.len() - end - 4 < length) {
        return Err(short());
    }
    Ok((status, answer.split_off(end + 4)))
}

pub(crate) fn post(address: SocketAddr, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    let mut request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    raw(address, &request)
}

/// One call; the whole answer.
pub(crate) fn ask(address: SocketAddr, method: &str, params: Value) -> std::io::Result<Value> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let (_, answer) = post(address, body.as_bytes())?;
    serde_json::from_slice(&answer).map_err(std::io::Error::other)
}

/// One call that must succeed.
pub(crate) fn result(address: SocketAddr, method: &str, params: Value) -> Value {
    let mut answer = ask(address, method, params).expect("the chain answers");
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].take()
}

/// One call that must fail with this code; its words.
pub(crate) fn refused(address: SocketAddr, method: &str, params: Value, code: i64) -> String {
    let answer = ask(address, method, params).expect("the chain answers");
    assert_eq!(answer["error"]["code"], code, "{method}: {answer}");
    answer["error"]["message"].as_str().expect("a message").to_owned()
}

pub(crate) fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("no number: {value}"));
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hex")
}
