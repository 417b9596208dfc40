//! A gateway with two users, and requests signed as they would.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_objects::testing::{TestStore, request_of};
use ashlar_objects::users::SecretKey;
use ashlar_s3_gateway::{Gateway, GatewayConfig, Limits};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::gateway::wire::{self, Answer};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Who sends a request.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    Main,
    Alt,
    Nobody,
}

impl Who {
    fn key(self) -> Option<(&'static str, &'static str)> {
        match self {
            Who::Main => Some(("MAINMAINMAINMAINMAIN", "main-secret-main-secret")),
            Who::Alt => Some(("ALTALTALTALTALTALTAL", "alt-secret-alt-secret-")),
            Who::Nobody => None,
        }
    }
}

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    pub(crate) main_id: String,
    _store: TestStore,
}

static BUCKETS: AtomicU64 = AtomicU64::new(0);

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::on(TestStore::new().await, limits).await
    }

    pub(crate) async fn on(store: TestStore, limits: Limits) -> Self {
        let root = request_of("root", true);
        let users = store.store.users();
        users.bootstrap_root(None).await.expect("root");
        let mut main_id = String::new();
        for (name, who) in [("main", Who::Main), ("alt", Who::Alt)] {
            let facts = users.add_user(&root, name).await.expect("user");
            let (access, secret) = who.key().expect("a user");
            users.import_key(&root, name, access, &SecretKey::new(secret.into())).await.expect("key");
            if name == "main" {
                main_id = facts.id;
            }
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut config = GatewayConfig::new(address);
        config.limits = limits;
        config.domains = vec!["s3.test".into()];
        let gateway = Gateway::new(store.store.clone(), config);
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let served = tokio::spawn(async move { gateway.serve(listener, stop).await });
        Self { address, shutdown, served, main_id, _store: store }
    }

    /// A fresh bucket of Main's.
    pub(crate) async fn bucket(&self) -> String {
        let name = format!("bucket-{}", BUCKETS.fetch_add(1, Ordering::Relaxed));
        let made = self.send(Who::Main, Request::new("PUT", &format!("/{name}"))).await;
        assert_eq!(made.status, 200, "{made:?}");
        name
    }

    /// Signs and sends; the answer.
    pub(crate) async fn send(&self, who: Who, request: Request) -> Answer {
        wire::exchange(self.address, &request.signed(who)).await
    }

    pub(crate) async fn get(&self, who: Who, path: &str) -> Answer {
        self.send(who, Request::new("GET", path)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.send(Who::Main, Request::new("PUT", path).body(body)).await
    }
}

/// A request under way. `path` is decoded; the query is as given.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) with_length: bool,
    /// Seconds that the sender's clock is ahead.
    pub(crate) clock: i64,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            headers: Vec::new(),
            payload: None,
            body: Vec::new(),
            with_length: true,
            clock: 0,
        }
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// What stands for the payload, instead of its SHA-256.
    pub(crate) fn payload(mut self, payload: &str) -> Self {
        self.payload = Some(payload.into());
        self
    }

    pub(crate) fn without_length(mut self) -> Self {
        self.with_length = false;
        self
    }

    fn uri(&self) -> String {
        let path = utf8_percent_encode(&self.path, PATH).to_string();
        if self.query.is_empty() { path } else { format!("{path}?{}", self.query) }
    }

    /// The bytes on the wire; also what a chunk signer needs.
    pub(crate) fn signed(self, who: Who) -> Vec<u8> {
        self.signed_with(who).0
    }

    pub(crate) fn signed_with(mut self, who: Who) -> (Vec<u8>, Option<Signed>) {
        let host = self
            .headers
            .iter()
            .find(|(name, _)| name == "host")
            .map_or_else(|| "localhost".to_owned(), |(_, value)| value.clone());
        if !self.headers.iter().any(|(name, _)| name == "host") {
            self.headers.push(("host".into(), host));
        }
        let payload = self.payload.clone().unwrap_or_else(|| hex::encode(Sha256::digest(&self.body)));
        let mut signed = None;
        if let Some((access, secret)) = who.key() {
            let now = time::OffsetDateTime::now_utc() + time::Duration::seconds(self.clock);
            let moment = moment(now);
            self.headers.push(("x-amz-date".into(), moment.clone()));
            self.headers.push(("x-amz-content-sha256".into(), payload.clone()));
            let mut lines: Vec<(String, String)> =
                self.headers.iter().map(|(n, v)| (n.to_lowercase(), v.trim().to_owned())).collect();
            lines.sort();
            let names = lines.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(";");
            let headers: String = lines.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
            let mut pairs: Vec<(&str, &str)> = self
                .query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .collect();
            pairs.sort_unstable();
            let query = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("&");
            let path = utf8_percent_encode(&self.path, PATH);
            let canonical = format!("{}\n{path}\n{query}\n{headers}\n{names}\n{payload}", self.method);
            let scope = format!("{}/us-east-1/s3/aws4_request", &moment[..8]);
            let key = signing_key(secret, &moment[..8]);
            let to_sign = format!(
                "AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}",
                hex::encode(Sha256::digest(canonical.as_bytes()))
            );
            let signature = hex::encode(hmac(&key, to_sign.as_bytes()));
            self.headers.push((
                "authorization".into(),
                format!(
                    "AWS4-HMAC-SHA256 Credential={access}/{scope},SignedHeaders={names},Signature={signature}"
                ),
            ));
            signed = Some(Signed { key, moment, scope, previous: signature });
        }
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.uri());
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.with_length {
            out.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        out.push_str("connection: close\r\n\r\n");
        let mut bytes = out.into_bytes();
        bytes.extend_from_slice(&self.body);
        (bytes, signed)
    }
}

/// What the chain of chunk signatures goes on from.
pub(crate) struct Signed {
    key: [u8; 32],
    moment: String,
    scope: String,
    previous: String,
}

impl Signed {
    /// The signature of the next chunk.
    pub(crate) fn chunk(&mut self, data: &[u8]) -> String {
        let empty = hex::encode(Sha256::digest(b""));
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{empty}\n{}",
            self.moment,
            self.scope,
            self.previous,
            hex::encode(Sha256::digest(data))
        );
        self.previous = hex::encode(hmac(&self.key, text.as_bytes()));
        self.previous.clone()
    }

    /// The signature of the trailers.
    pub(crate) fn trailers(&mut self, lines: &str) -> String {
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{}",
            self.moment,
            self.scope,
            self.previous,
            hex::encode(Sha256::digest(lines.as_bytes()))
        );
        hex::encode(hmac(&self.key, text.as_bytes()))
    }
}

/// A presigned URL's path and query.
pub(crate) fn presign(who: Who, method: &str, path: &str, extra: &str, expires: i64) -> String {
    let (access, secret) = who.key().expect("a user signs");
    let moment = moment(time::OffsetDateTime::now_utc());
    let scope = format!("{}/us-east-1/s3/aws4_request", &moment[..8]);
    let credential = utf8_percent_encode(&format!("{access}/{scope}"), UNRESERVED).to_string();
    let mut pairs = vec![
        "X-Amz-Algorithm=AWS4-HMAC-SHA256".to_owned(),
        format!("X-Amz-Credential={credential}"),
        format!("X-Amz-Date={moment}"),
        format!("X-Amz-Expires={expires}"),
        "X-Amz-SignedHeaders=host".to_owned(),
    ];
    pairs.extend(extra.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned));
    pairs.sort();
    let query = pairs.join("&");
    let encoded = utf8_percent_encode(path, PATH);
    let pinned = extra.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Content-Sha256="));
    let payload = pinned.unwrap_or(UNSIGNED);
    let canonical = format!("{method}\n{encoded}\n{query}\nhost:localhost\n\nhost\n{payload}");
    let to_sign =
        format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", hex::encode(Sha256::digest(canonical.as_bytes())));
    let signature = hex::encode(hmac(&signing_key(secret, &moment[..8]), to_sign.as_bytes()));
    format!("{path}?{query}&X-Amz-Signature={signature}")
}

/// Signs a form's policy: fields to send.
pub(crate) fn sign_policy(conditions: &str) -> Vec<(String, String)> {
    use base64::Engine;
    let (access, secret) = Who::Main.key().expect("a user signs");
    let moment = moment(time::OffsetDateTime::now_utc());
    let credential = format!("{access}/{}/us-east-1/s3/aws4_request", &moment[..8]);
    let policy = format!(
        "{{\"expiration\":\"2099-01-01T00:00:00Z\",\"conditions\":[{conditions},{{\"x-amz-algorithm\":\"AWS4-HMAC-SHA256\"}},{{\"x-amz-credential\":\"{credential}\"}},{{\"x-amz-date\":\"{moment}\"}}]}}"
    );
    let policy = base64::engine::general_purpose::STANDARD.encode(policy);
    let signature = hex::encode(hmac(&signing_key(secret, &moment[..8]), policy.as_bytes()));
    [
        ("policy", policy),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256".into()),
        ("x-amz-credential", credential),
        ("x-amz-date", moment),
        ("x-amz-signature", signature),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn moment(at: time::OffsetDateTime) -> String {
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn signing_key(secret: &str, date: &str) -> [u8; 32] {
    let by_date = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
    let by_service = hmac(&hmac(&by_date, b"us-east-1"), b"s3");
    hmac(&by_service, b"aws4_request")
}
