//! Connections: accepting, limits, pace of writing, and an orderly end.
//!
//! Invariant: every connection is a task of one group that can stop and be waited for; a client that does
//! not read is cut as one that does not send is.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::Store;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{GatewayConfig, Limits};
use crate::front::Front;
use crate::paced_stream::PacedStream;
use crate::payload::drain::Drainer;

/// The S3 front door. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    front: Arc<Front>,
    limits: Limits,
    tasks: TaskTracker,
}

/// What a client beyond the limit of connections is told before its connection is closed.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 114\r\n\r\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Too many connections</Message></Error>";

/// How long accepting rests after it failed, as when file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Gateway {
    /// A gateway over a store.
    pub fn new(store: Store, config: GatewayConfig) -> Self {
        let tasks = TaskTracker::new();
        let limits = config.limits.clone();
        let drainer = Arc::new(Drainer::new(tasks.clone(), limits.drain_bytes_max));
        Self { front: Arc::new(Front::new(store, config, drainer)), limits, tasks }
    }

    /// Serves connections until `shutdown`, then lets open requests end for at most
    /// [`Limits::drain_timeout`] and cuts the rest.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        let cut = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(target: "ashlar_s3", %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                metrics::counter!("ashlar_s3_connections_refused_total").increment(1);
                // Best effort: the socket's buffer is empty and takes it at once.
                let _sent_or_not = stream.try_write(TOO_MANY);
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(target: "ashlar_s3", %error, "TCP_NODELAY could not be set");
            }
            let connection = self.clone().connection(stream, peer.ip(), shutdown.clone(), cut.clone());
            self.tasks.spawn(async move {
                connection.await;
                drop(place);
            });
        }
        drop(listener);
        self.tasks.close();
        if tokio::time::timeout(self.limits.drain_timeout, self.tasks.wait()).await.is_err() {
            tracing::warn!(target: "ashlar_s3", left = self.tasks.len(), "connections are cut: they did not end in time");
            cut.cancel();
            self.tasks.wait().await;
        }
    }

    async fn connection(
        self,
        stream: TcpStream,
        peer: IpAddr,
        shutdown: CancellationToken,
        cut: CancellationToken,
    ) {
        let (rate, window) = (self.limits.pace_bytes_per_second, self.limits.pace_window);
        let io = TokioIo::new(PacedStream::new(stream, rate, window));
        let front = self.front;
        // Boxed: an idle connection holds no room for a request.
        let service = service_fn(move |request| {
            let answer = Box::pin(front.clone().serve(peer, request));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Who has said all he has to say still gets his answer.
            .half_close(true)
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(self.limits.connection_buffer_bytes.max(8192))
            .serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(target: "ashlar_s3", %error, %peer, "connection ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(TOO_MANY).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }
}
