//! The command line's side of the API: one request, one JSON answer.
//!
//! Invariant: a secret key goes only to loopback, unless somebody said that the way is safe. Plain HTTP
//! only; an `https` endpoint is refused with a word of what to do.

mod aws_profile;

use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Method, Request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::api::answers::Failure;
use crate::command_line::ServerAddress;
use aws_profile::AwsCredentials;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A server's API, and who asks it.
pub(crate) struct Client {
    endpoint: String,
    authority: String,
    credentials: AwsCredentials,
}

impl Client {
    /// Reads the endpoint and finds credentials; nothing is connected yet.
    pub(crate) fn new(address: &ServerAddress) -> anyhow::Result<Self> {
        let endpoint = address.endpoint.trim_end_matches('/').to_owned();
        let authority = authority_of(&endpoint)?;
        if !address.allow_plaintext_auth && !is_loopback(&authority) {
            bail!(
                "{endpoint} is another machine and plain HTTP would carry your secret key in clear; \
                 go through a tunnel (`ssh -L 9001:127.0.0.1:9001 …`), or say --allow-plaintext-auth"
            );
        }
        let credentials = AwsCredentials::find(address.profile.as_deref())?;
        Ok(Self { endpoint, authority, credentials })
    }

    /// `GET`
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// `POST`
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    /// `PUT`
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.ask(Method::PUT, path, serde_json::to_vec(body)?.into()).await
    }

    /// `DELETE`
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.ask::<serde_json::Value>(Method::DELETE, path, Bytes::new()).await.map(drop)
    }

    /// `POST /sql`, its answer given on piece by piece. Ends with an error unless the answer came whole.
    pub(crate) async fn sql(
        &self,
        statements: String,
        accept: &'static str,
        mut give: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let request = self.request(Method::POST, "/sql", "application/sql", accept, statements.into())?;
        let (mut sender, connection) = self.connect().await?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let (head, mut body) = answer.into_parts();
            if !head.status.is_success() {
                let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
                let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
                bail!(
                    failed_statement(&body).unwrap_or_else(|| format!("the server answered {}", head.status))
                );
            }
            while let Some(frame) = body.frame().await {
                let frame = frame.context("the answer broke off: the statement failed in the middle")?;
                if let Some(piece) = frame.data_ref() {
                    give(piece)?;
                }
            }
            anyhow::Ok(())
        };
        tokio::pin!(exchange);
        tokio::select! {
            done = &mut exchange => done,
            _ = connection => exchange.await,
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        accept: &'static str,
        body: Bytes,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let pair = format!("{}:{}", self.credentials.access_key, *self.credentials.secret_key);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)))
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT, accept)
            .body(Full::new(body))?;
        Ok(request)
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let request = self.request(method, path, "application/json", "application/json", body)?;
        let (status, body) =
            tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(request)).await.with_context(|| {
                format!("{} did not answer within {} s", self.endpoint, ANSWER_TIMEOUT.as_secs())
            })??;
        if status.is_success() {
            let text: &[u8] = if body.is_empty() { b"null" } else { &body };
            return serde_json::from_slice(text)
                .with_context(|| format!("{} answered {status} with something else than expected; is it Ashlar's API, of this version?", self.endpoint));
        }
        match serde_json::from_slice::<Failure>(&body) {
            Ok(failure) if failure.code == "Unauthenticated" => bail!(
                "{} does not know this pair of keys ({}); check them, or name others with --profile",
                self.endpoint,
                self.credentials.source
            ),
            Ok(failure) => bail!("{} ({}, request {})", failure.message, failure.code, failure.request_id),
            Err(_) => {
                bail!("{} answered {status}; is it Ashlar's API? S3 has a port of its own", self.endpoint)
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<Connected> {
        let unreachable = || {
            format!(
                "{} cannot be reached; is `ashlar up` running there? Name another one with --endpoint or ASHLAR_ENDPOINT",
                self.endpoint
            )
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(with_port(&self.authority)))
            .await
            .with_context(unreachable)?
            .with_context(unreachable)?;
        http1::handshake(TokioIo::new(stream)).await.with_context(unreachable)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(hyper::StatusCode, Bytes)> {
        let (mut sender, connection) = self.connect().await?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let (head, body) = answer.into_parts();
            let body =
                Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
            anyhow::Ok((head.status, body.to_bytes()))
        };
        tokio::pin!(exchange);
        // The connection does the work; once it ended, what it got is still to be taken.
        let answer = tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        };
        answer.with_context(|| format!("{} broke the connection off", self.endpoint))
    }
}

/// A connection, and what drives it.
type Connected = (http1::SendRequest<Full<Bytes>>, http1::Connection<TokioIo<TcpStream>, Full<Bytes>>);

/// What a failed statement says of itself.
fn failed_statement(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    if let Ok(failure) = serde_json::from_value::<Failure>(answer.clone()) {
        return Some(format!("{} ({}, request {})", failure.message, failure.code, failure.request_id));
    }
    let error = answer.get("error")?;
    let text = |key| error.get(key).and_then(serde_json::Value::as_str);
    let hint = text("hint").map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    Some(format!("{} ({}){hint}", text("message")?, text("sqlstate")?))
}

/// Host and port of an endpoint.
fn authority_of(endpoint: &str) -> anyhow::Result<String> {
    let wanted = "write it like http://127.0.0.1:9001";
    if endpoint.starts_with("https://") {
        bail!(
            "{endpoint}: this build speaks no TLS; go through a tunnel (`ssh -L 9001:127.0.0.1:9001 …`) and name http://127.0.0.1:9001"
        );
    }
    let rest =
        endpoint.strip_prefix("http://").with_context(|| format!("'{endpoint}' is no endpoint; {wanted}"))?;
    if rest.is_empty() || rest.contains(['/', '?', '#', '@']) {
        bail!("'{endpoint}' is no endpoint; {wanted}");
    }
    Ok(rest.to_owned())
}

fn with_port(authority: &str) -> String {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { authority.to_owned() } else { format!("{authority}:80") }
}

fn is_loopback(authority: &str) -> bool {
    let host = with_port(authority);
    let host = host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_gets_a_secret_unasked() {
        for host in ["127.0.0.1:9001", "localhost:1", "[::1]:9001", "localhost", "127.8.8.8:1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["10.0.0.1:9001", "example.org", "localhost.example.org:1", "[fe80::1]:9001"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn endpoints_are_plain_http_with_a_host() {
        assert_eq!(authority_of("http://127.0.0.1:9001").unwrap(), "127.0.0.1:9001");
        for bad in ["127.0.0.1:9001", "http://", "http://a/b", "http://user@a", "ftp://a"] {
            assert!(authority_of(bad).unwrap_err().to_string().contains("write it like"), "{bad}");
        }
        assert!(authority_of("https://a").unwrap_err().to_string().contains("TLS"));
    }
}
