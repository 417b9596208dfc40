//! JSON-RPC over HTTP/1.1, and the running chain: its producer and its listener.
//!
//! Invariant: connections, bodies being read, bodies worked on and answers being sent are bounded, whatever clients
//! do; who is slow loses his connection. There is no key here and no account, so any origin may ask (CORS), as with
//! every node that a wallet talks to. Deliberately knows no method.

mod answer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chain::Chain;
use crate::configuration::RpcLimits;
use crate::producer;
use crate::rpc::Rpc;
use answer::{Answer, Sending};

/// Memory is counted in these.
const UNIT_BYTES: usize = 1024;
/// Pause after an `accept` that failed: what fails there is mostly the number of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection may buffer beside bodies and answers, which are counted.
const CONNECTION_BYTES_MAX: usize = 64 << 10;
/// How long a connection may take to end when the chain stops.
const STOP_MAX: Duration = Duration::from_secs(3);

/// Why a dev chain does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("chain JSON-RPC cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What was said.
        source: io::Error,
    },
    /// Nobody but this machine may ask: the chain trusts whoever can reach it with its time and space.
    #[error("chain JSON-RPC listens on loopback addresses only, not on {address}")]
    NotLoopback {
        /// Which.
        address: SocketAddr,
    },
}

/// A chain that makes blocks and answers.
pub struct DevChain {
    chain: Arc<Chain>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl DevChain {
    /// Starts producing, and answering on `listen` (port 0: any), which must be a loopback address.
    pub async fn start(chain: Chain, listen: SocketAddr) -> Result<Self, StartError> {
        if !listen.ip().is_loopback() {
            return Err(StartError::NotLoopback { address: listen });
        }
        let failed = |source| StartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let chain = Arc::new(chain);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(producer::run(Arc::clone(&chain), stop.clone()));
        let server = Arc::new(Server::new(Arc::clone(&chain), stop.clone(), tasks.clone()));
        tasks.spawn(server.accept(listener));
        Ok(Self { chain, address, stop, tasks })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The chain.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Ends after the block that is being made and the requests that are being served. The directory can be opened
    /// again when this returned and nobody else holds the chain.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Server {
    rpc: Arc<Rpc>,
    limits: RpcLimits,
    connections: Arc<Semaphore>,
    workers: Semaphore,
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    fn new(chain: Arc<Chain>, stop: CancellationToken, tasks: TaskTracker) -> Self {
        let limits = chain.configuration().rpc;
        let units =
            limits.memory_bytes_max.max(limits.body_bytes_max).max(limits.answer_bytes_max) / UNIT_BYTES + 1;
        Self {
            rpc: Arc::new(Rpc::new(chain)),
            limits,
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            workers: Semaphore::new(limits.workers_max),
            bodies: Arc::new(Semaphore::new(units)),
            answers: Arc::new(Semaphore::new(units)),
            stop,
            tasks,
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let permit = tokio::select! {
                () = self.stop.cancelled() => return,
                permit = Arc::clone(&self.connections).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    self.tasks.spawn(Arc::clone(&self).serve(stream, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "dev chain: a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        // Answers are small and asked for one after another; waiting to fill a packet only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "dev chain: a connection keeps Nagle's delay");
        }
        let sending = Sending::default();
        let service = {
            let (server, sending) = (Arc::clone(&self), sending.clone());
            service_fn(move |request| {
                let (server, sending) = (Arc::clone(&server), sending.clone());
                async move { Ok::<_, std::convert::Infallible>(server.answer(request, &sending).await) }
            })
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle_max)
            .max_buf_size(CONNECTION_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut watch = tokio::time::interval(self.limits.idle_max / 4);
        loop {
            tokio::select! {
                done = connection.as_mut() => {
                    if let Err(error) = done {
                        tracing::debug!(%error, "dev chain: a connection ended");
                    }
                    return;
                }
                () = self.stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    if tokio::time::timeout(STOP_MAX, connection).await.is_err() {
                        tracing::debug!("dev chain: a connection did not end in time");
                    }
                    return;
                }
                _ = watch.tick() => if sending.is_slower_than(self.limits.idle_max) {
                    tracing::debug!("dev chain: a connection takes its answer too slowly");
                    return;
                }
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, sending: &Sending) -> Response<Answer> {
        if request.method() == Method::OPTIONS {
            return with_cors(plain(StatusCode::NO_CONTENT, ""));
        }
        if request.method() != Method::POST {
            return with_cors(plain(StatusCode::METHOD_NOT_ALLOWED, "JSON-RPC is sent with POST\n"));
        }
        let (body, _permit) = match self.body(request).await {
            Ok(body) => body,
            Err(refused) => return with_cors(plain(refused, "")),
        };
        let Ok(worker) = self.workers.acquire().await else {
            return with_cors(plain(StatusCode::SERVICE_UNAVAILABLE, ""));
        };
        let rpc = Arc::clone(&self.rpc);
        let done = self.tasks.spawn_blocking(move || rpc.answer(&body)).await;
        drop(worker);
        match done {
            Ok(None) => with_cors(plain(StatusCode::NO_CONTENT, "")),
            Ok(Some(bytes)) => with_cors(self.sent(bytes.into(), sending).await),
            Err(error) => {
                tracing::error!(%error, "dev chain: a request's thread ended");
                with_cors(plain(StatusCode::INTERNAL_SERVER_ERROR, ""))
            }
        }
    }

    /// The whole body, with its share of the memory for bodies.
    async fn body(&self, request: Request<Incoming>) -> Result<(Bytes, OwnedSemaphorePermit), StatusCode> {
        let most = self.limits.body_bytes_max;
        let told = request.body().size_hint().exact();
        let bytes = told.map_or(most, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if bytes > most {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let permit = Arc::clone(&self.bodies).acquire_many_owned(units(bytes));
        let read = async {
            let permit = permit.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
            let whole = Limited::new(request.into_body(), most).collect().await;
            let whole = whole.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
                true => StatusCode::PAYLOAD_TOO_LARGE,
                false => StatusCode::BAD_REQUEST,
            })?;
            Ok((whole.to_bytes(), permit))
        };
        tokio::time::timeout(self.limits.idle_max, read).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
    }

    async fn sent(&self, bytes: Bytes, sending: &Sending) -> Response<Answer> {
        let permit = Arc::clone(&self.answers).acquire_many_owned(units(bytes.len()));
        match tokio::time::timeout(self.limits.idle_max, permit).await {
            Ok(Ok(permit)) => json(Answer::reserved(bytes, permit, sending)),
            _ => plain(StatusCode::SERVICE_UNAVAILABLE, ""),
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes / UNIT_BYTES + 1).unwrap_or(u32::MAX)
}

fn json(body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::small(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

fn with_cors(mut response: Response<Answer>) -> Response<Answer> {
    let headers = response.headers_mut();
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "POST, OPTIONS"),
        ("access-control-allow-headers", "*"),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "600"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}
