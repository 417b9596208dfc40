//! Arrow Flight SQL: gRPC over HTTP/2, rows as Arrow.
//!
//! Invariant: every connection and every call is a task of one group that stops and is waited for; a secret in
//! clear comes from this machine only, unless somebody allowed it.

mod answers;
mod handles;
mod identity;
mod metadata;
mod sealing;
mod service;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::sql::metadata::SqlInfoData;
use ashlar_objects::clock::Clock;
use ashlar_objects::users::Users;
use ashlar_query::Engine;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use self::answers::Streaming;
use self::identity::Identity;
use self::sealing::Sealing;
use self::service::Service;
use crate::credentials::{Doorkeeper, Peer};
use crate::pg::OpenError;
use crate::tls::Tls;

/// How long accepting rests after it failed, as when file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Calls of one connection at a time.
const CALLS_MAX: u32 = 64;
/// Headers of one call.
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// What waits to be written on one connection.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// How often a connection is asked whether somebody is there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client may take to begin with TLS.
const TLS_TIMEOUT: Duration = Duration::from_secs(15);

/// How the door is kept.
#[derive(Clone, Debug)]
pub struct FlightConfig {
    /// What connections are encrypted with; without it they are in clear.
    pub tls: Option<Tls>,
    /// Whether clients on other machines may come in without TLS.
    pub allow_plaintext: bool,
    /// Open connections.
    pub connections_max: usize,
    /// Longest message of a client, in bytes.
    pub message_bytes_max: usize,
    /// How long a client may not read what waits for it.
    pub stall_max: Duration,
    /// How long calls under way may go on after a stop was asked for.
    pub drain_timeout: Duration,
}

impl Default for FlightConfig {
    fn default() -> Self {
        Self {
            tls: None,
            allow_plaintext: false,
            connections_max: 100,
            message_bytes_max: 16 << 20,
            stall_max: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct FlightDoor {
    shared: Arc<Shared>,
    tls: Option<Arc<ServerConfig>>,
    routes: Routes,
}

/// What its calls share.
struct Shared {
    engine: Engine,
    identity: Identity,
    streaming: Streaming,
    sql_info: SqlInfoData,
    config: FlightConfig,
    tasks: TaskTracker,
}

impl FlightDoor {
    /// A door to an engine for these users. With `token_key` it seals its tokens: the same key at every gateway,
    /// and nobody else's.
    pub fn new(
        engine: &Engine,
        users: Users,
        token_key: &[u8; 32],
        config: FlightConfig,
    ) -> Result<Self, OpenError> {
        let tls = config.tls.as_ref().map(|tls| tls.config(&[b"h2"])).transpose()?;
        let message_bytes_max = config.message_bytes_max;
        let identity =
            Identity { keeper: Doorkeeper::new(users), sealing: Sealing::new(token_key, Clock::System) };
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            identity,
            streaming: Streaming::default(),
            sql_info: metadata::sql_info()?,
            config,
            tasks: TaskTracker::new(),
        });
        let service = FlightServiceServer::new(Service(Arc::clone(&shared)))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(usize::MAX);
        Ok(Self { shared, tls, routes: Routes::new(service).prepare() })
    }

    /// Serves connections until `shutdown`; then calls under way may end within
    /// [`FlightConfig::drain_timeout`], and what is left is cut.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.shared.config.connections_max));
        let cut = CancellationToken::new();
        let tasks = &self.shared.tasks;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(target: "ashlar_sql", %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // There is no way to say it before HTTP/2 has begun.
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let (door, shutdown, cut) = (self.clone(), shutdown.clone(), cut.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = Box::pin(door.connection(stream, peer, shutdown)) => {}
                    () = cut.cancelled() => {}
                }
                drop(place);
            });
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(self.shared.config.drain_timeout, tasks.wait()).await.is_err() {
            tracing::warn!(target: "ashlar_sql", left = tasks.len(), "calls are cut: they did not end in time");
            cut.cancel();
            tasks.wait().await;
        }
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, shutdown: CancellationToken) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(target: "ashlar_sql", %error, "TCP_NODELAY could not be set");
        }
        let from = Peer { ip: peer.ip(), encrypted: self.tls.is_some() };
        let Some(tls) = self.tls.clone() else {
            if !from.ip.to_canonical().is_loopback() && !self.shared.config.allow_plaintext {
                tracing::debug!(target: "ashlar_sql", %peer, "a client on another machine came in clear");
                return;
            }
            return self.calls(stream, from, shutdown).await;
        };
        match tokio::time::timeout(TLS_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
            Ok(Ok(stream)) => self.calls(stream, from, shutdown).await,
            Ok(Err(error)) => tracing::debug!(target: "ashlar_sql", %error, %peer, "TLS was not begun"),
            Err(_) => {
                tracing::debug!(target: "ashlar_sql", %peer, "a client took too long to begin with TLS")
            }
        }
    }

    async fn calls(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        shutdown: CancellationToken,
    ) {
        let routes = self.routes.clone();
        let service = tower::service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let mut routes = routes.clone();
            async move { tower::Service::call(&mut routes, request).await }
        });
        let connection = http2::Builder::new(InGroup(self.shared.tasks.clone()))
            .timer(TokioTimer::new())
            .max_concurrent_streams(CALLS_MAX)
            .max_header_list_size(HEADERS_BYTES_MAX)
            .max_send_buf_size(WAITING_BYTES_MAX)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(target: "ashlar_sql", %error, ip = %peer.ip, "connection ended");
        }
    }
}

/// Calls are tasks of the door's group.
#[derive(Clone)]
struct InGroup(TaskTracker);

impl<F> hyper::rt::Executor<F> for InGroup
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.spawn(call);
    }
}
