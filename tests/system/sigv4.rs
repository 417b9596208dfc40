//! A tiny S3 client: one signed request over one connection, its answer whole.
//!
//! Invariant: what is signed is what is sent. Paths and queries must be given as they stand on the wire.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Who asks.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) access: String,
    pub(crate) secret: String,
}

/// Sends `method path` with `body` to `authority`, signed for S3 in us-east-1 where there are keys.
pub(crate) fn call(
    authority: &str,
    keys: Option<&Keys>,
    method: &str,
    path: &str,
    body: &[u8],
) -> std::io::Result<Answer> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let digest = hex::encode(Sha256::digest(body));
    let (date, time) = now();
    let mut head = format!(
        "{method} {path}{}{query} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\ncontent-length: {}\r\n\
         x-amz-content-sha256: {digest}\r\nx-amz-date: {time}\r\n",
        if query.is_empty() { "" } else { "?" },
        body.len()
    );
    if let Some(keys) = keys {
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{method}\n{path}\n{}\nhost:{authority}\nx-amz-content-sha256:{digest}\nx-amz-date:{time}\n\n{signed}\n{digest}",
            canonical_query(query)
        );
        let scope = format!("{date}/us-east-1/s3/aws4_request");
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical.as_bytes()))
        );
        let key = ["us-east-1", "s3", "aws4_request"]
            .iter()
            .fold(mac(format!("AWS4{}", keys.secret).as_bytes(), &date), |key, part| mac(&key, part));
        let signature = hex::encode(mac(&key, &to_sign));
        let access = &keys.access;
        head += &format!(
            "authorization: AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={signed}, Signature={signature}\r\n"
        );
    }
    exchange(authority, &head, body)
}

/// Sends a head (without its last empty line) and a body, and reads the answer to its end.
pub(crate) fn exchange(authority: &str, head: &str, body: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| std::io::Error::other("the answer has no head"))?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("the answer has no status"))?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = bytes.split_off(end + 4);
    Ok(Answer { status, head, body: if chunked { dechunk(&body) } else { body } })
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).unwrap().split(';').next().unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
    body
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    pairs.join("&")
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `20260102` and `20260102T030405Z`.
fn now() -> (String, String) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let moment =
        time::OffsetDateTime::from_unix_timestamp(seconds.try_into().expect("fits")).expect("a date");
    let date = format!("{:04}{:02}{:02}", moment.year(), u8::from(moment.month()), moment.day());
    let time = format!("{date}T{:02}{:02}{:02}Z", moment.hour(), moment.minute(), moment.second());
    (date, time)
}
