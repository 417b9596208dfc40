//! Accepting connections of the API: few, bounded, and closed when a stop is asked for.
//!
//! Invariant: however many clients come, at most [`CONNECTIONS_MAX`] are held, and one that sends nothing or does
//! not read is dropped. Deliberately knows no routes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ashlar_s3_gateway::PacedStream;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Server, router};

/// Open connections.
const CONNECTIONS_MAX: usize = 512;
/// How long a client may take for a request's head, and idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Slowest a client may take an answer, in bytes a second, and the credit in time with which it starts.
const PACE_BYTES_PER_SECOND: u64 = 2048;
const PACE_WINDOW: Duration = Duration::from_secs(30);
/// How long answers under way may take after the end was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait after an accept failed, which is when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

tokio::task_local! {
    /// Where the connection under way comes from.
    static PEER: IpAddr;
}

/// Where the request under way comes from.
pub(super) fn peer() -> Option<IpAddr> {
    PEER.try_get().ok()
}

/// Serves until `stop`, then lets answers under way finish.
pub(crate) async fn serve(listener: TcpListener, server: Arc<Server>, stop: CancellationToken) {
    let router = router(server);
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = Arc::clone(&room).acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    PEER.scope(peer.ip(), serve_connection(stream, router, stop)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting an API connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::info!(connections = connections.len(), "API connections are cut off");
    }
}

async fn serve_connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let stream = PacedStream::new(stream, PACE_BYTES_PER_SECOND, PACE_WINDOW);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an API connection ended early");
            }
            return;
        }
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}
