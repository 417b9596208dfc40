//! JSON-RPC over HTTP for alloy's client, with answers bounded in bytes and time.
//!
//! Invariant: an endpoint, which may be anybody's, cannot make this process hold more than the bound or wait longer
//! than the deadline; it is not followed elsewhere. Deliberately knows no method.

use std::task::{Context, Poll};
use std::time::Duration;

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tower::Service;

/// Bounds of one request.
#[derive(Clone, Copy, Debug)]
pub struct EndpointLimits {
    /// Time to connect.
    pub connect_max: Duration,
    /// Time for a request with its whole answer.
    pub request_max: Duration,
    /// Bytes of an answer.
    pub answer_bytes_max: usize,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            connect_max: Duration::from_secs(5),
            request_max: Duration::from_secs(20),
            answer_bytes_max: 16 << 20,
        }
    }
}

/// How much of an answer that is no JSON is repeated in an error.
const SHOWN_BYTES: usize = 200;

/// One URL.
#[derive(Clone, Debug)]
pub(crate) struct BoundedHttp {
    client: reqwest::Client,
    url: Url,
    answer_bytes_max: usize,
}

impl BoundedHttp {
    pub(crate) fn new(url: Url, limits: EndpointLimits) -> Result<Self, reqwest::Error> {
        // Whichever part of the process comes first installs it; it is the same everywhere.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .connect_timeout(limits.connect_max)
            .timeout(limits.request_max)
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        Ok(Self { client: client.build()?, url, answer_bytes_max: limits.answer_bytes_max })
    }

    async fn post(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let body = serde_json::to_vec(&request).map_err(TransportError::ser_err)?;
        let json = HeaderValue::from_static("application/json");
        let sent = self.client.post(self.url).header(CONTENT_TYPE, json).body(body).send().await;
        let mut response = sent.map_err(told)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(told)? {
            if bytes.len() + piece.len() > self.answer_bytes_max {
                let most = self.answer_bytes_max;
                return Err(TransportErrorKind::custom_str(&format!(
                    "the answer is longer than {most} bytes"
                )));
            }
            bytes.extend_from_slice(&piece);
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]);
            TransportErrorKind::custom_str(&format!("HTTP {status}: {error}: {shown:?}"))
        })
    }
}

/// Without the URL, which may carry a provider's key.
fn told(error: reqwest::Error) -> TransportError {
    TransportErrorKind::custom(error.without_url())
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        None => false,
    }
}

impl Service<RequestPacket> for BoundedHttp {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> TransportFut<'static> {
        Box::pin(self.clone().post(request))
    }
}
