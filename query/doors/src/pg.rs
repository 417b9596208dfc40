//! The PostgreSQL protocol, version 3: connections, one session each.
//!
//! Messages and formats are written here and not taken from the crate `pgwire`: it reads text that is not UTF-8
//! as something else, waits for messages of a gigabyte, and its handlers share what here belongs to one
//! connection.
//!
//! Invariant: every connection is a task of one group that stops and is waited for; as many as are allowed, and
//! none unproven for longer than it may take.

mod backend;
mod binary_format;
mod cancel;
mod cells;
mod connection;
mod copy;
mod extended;
mod frontend;
mod parameters;
mod pipes;
mod portal;
mod preparing;
mod rows;
mod running;
mod scram;
mod simple;
mod split;
mod startup;
mod statement;
mod text_format;
mod types;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::users::Users;
use ashlar_query::{Engine, SqlError};
use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::backend::Severity;
use self::cancel::Cancels;
use self::scram::Scram;
use crate::catalog::Catalog;
use crate::credentials::Doorkeeper;
use crate::tls::{Tls, TlsError};

/// How long accepting rests after it failed, as when file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the door is kept.
#[derive(Clone, Debug)]
pub struct PgConfig {
    /// What connections may be encrypted with.
    pub tls: Option<Tls>,
    /// Whether clients on other machines may come in without TLS.
    pub allow_plaintext: bool,
    /// Open connections.
    pub connections_max: usize,
    /// Longest message, in bytes: a statement with its parameters.
    pub message_bytes_max: usize,
    /// How long a client may take to prove who it is.
    pub authentication_timeout: Duration,
    /// How long a client may not read what waits for it.
    pub stall_max: Duration,
    /// How long rows that a client asked for in part wait for it to ask for more.
    pub portal_idle_max: Duration,
    /// How long statements under way may go on after a stop was asked for.
    pub drain_timeout: Duration,
}

impl Default for PgConfig {
    fn default() -> Self {
        Self {
            tls: None,
            allow_plaintext: false,
            connections_max: 100,
            message_bytes_max: 16 << 20,
            authentication_timeout: Duration::from_secs(15),
            stall_max: Duration::from_secs(60),
            portal_idle_max: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The engine.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct PgDoor {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

/// What its connections share.
struct Shared {
    engine: Engine,
    keeper: Doorkeeper,
    scram: Arc<Scram>,
    catalog: Catalog,
    cancels: Cancels,
    config: PgConfig,
    tls: Option<Arc<ServerConfig>>,
}

impl PgDoor {
    /// A door to an engine for these users.
    pub fn new(engine: &Engine, users: Users, config: PgConfig) -> Result<Self, OpenError> {
        let tls = config.tls.as_ref().map(|tls| tls.config(&[b"postgresql"])).transpose()?;
        let shared = Shared {
            engine: engine.clone(),
            keeper: Doorkeeper::new(users),
            scram: Arc::new(Scram::new()?),
            catalog: Catalog::new(engine)?,
            cancels: Cancels::default(),
            config,
            tls,
        };
        Ok(Self { shared: Arc::new(shared), tasks: TaskTracker::new() })
    }

    /// Serves connections until `shutdown`; then statements under way may end within
    /// [`PgConfig::drain_timeout`], and what is left is cut.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.shared.config.connections_max));
        let cut = CancellationToken::new();
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
            let Ok(place) = places.clone().try_acquire_owned() else {
                refuse(&stream);
                continue;
            };
            let (shared, shutdown, cut) = (Arc::clone(&self.shared), shutdown.clone(), cut.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = Box::pin(serve_one(shared, stream, peer, shutdown)) => {}
                    () = cut.cancelled() => {}
                }
                drop(place);
            });
        }
        drop(listener);
        self.tasks.close();
        if tokio::time::timeout(self.shared.config.drain_timeout, self.tasks.wait()).await.is_err() {
            tracing::warn!(target: "ashlar_sql", left = self.tasks.len(), "connections are cut: they did not end in time");
            cut.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Best effort: the socket's buffer is empty and takes it at once.
fn refuse(stream: &TcpStream) {
    let mut out = BytesMut::new();
    let hint = Some("close some, or try again in a moment");
    backend::failure(&mut out, Severity::Fatal, "53300", "too many connections", hint, None);
    let _sent_or_not = stream.try_write(&out);
}

async fn serve_one(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "ashlar_sql", %error, "TCP_NODELAY could not be set");
    }
    let limit = shared.config.authentication_timeout;
    let started = tokio::select! {
        started = tokio::time::timeout(limit, Box::pin(startup::start(Arc::clone(&shared), stream, peer))) => started,
        () = shutdown.cancelled() => return,
    };
    let connection = match started {
        Ok(Ok(Some(connection))) => connection,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::debug!(target: "ashlar_sql", %error, %peer, "a connection was not begun");
            return;
        }
        Err(_) => {
            tracing::debug!(target: "ashlar_sql", %peer, "a client took too long to prove who it is");
            return;
        }
    };
    if let Err(error) = Box::new(connection).serve(shutdown).await {
        tracing::debug!(target: "ashlar_sql", %error, %peer, "a connection ended");
    }
}
