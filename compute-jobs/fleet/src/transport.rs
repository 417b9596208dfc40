//! HTTP/2 on a link, with the roles the other way round: who was called asks, who called answers.
//!
//! So requests are multiplexed, bounded and cancelled by what the field has for it, and a provider behind any router
//! works. Invariant: bounds are those of [`crate::limits`] on both sides; every task belongs to a group. Knows no request.

use std::future::Future;

use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::frame::Outgoing;
use crate::limits::{
    HEADER_BYTES_MAX, HTTP2_FRAME_BYTES_MAX, LINK_WINDOW_BYTES, PING_INTERVAL, PING_MAX, REQUESTS_MAX,
    SEND_BUFFER_BYTES_MAX, STREAM_WINDOW_BYTES,
};

/// Streams besides those of requests: what describes the provider, locks, receipts, counts.
const STREAMS_BESIDE: u32 = 32;

/// A group of tasks that hyper puts its own into. They end with the link: a connection that hyper keeps in a task of its
/// own would otherwise live on as long as a request does.
#[derive(Clone)]
pub(crate) struct Group {
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Group
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                _ = task => {}
            }
        });
    }
}

/// The side that asks: the gateway's. The future is the connection; it ends with the link, which `ended` cuts.
pub(crate) async fn asking<S>(
    stream: S,
    tasks: &TaskTracker,
    ended: CancellationToken,
) -> Result<(SendRequest<Outgoing>, impl Future<Output = hyper::Result<()>> + Send + use<S>), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    hyper::client::conn::http2::Builder::new(Group { tasks: tasks.clone(), ended })
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(LINK_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_MAX)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
}

/// The side that answers: the provider's. Ends with the link.
pub(crate) async fn answering<S, A, F, E>(
    stream: S,
    tasks: &TaskTracker,
    answer: A,
    drained: impl Future<Output = ()>,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(http::Request<hyper::body::Incoming>) -> F,
    F: Future<Output = Result<http::Response<Outgoing>, E>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let ended = CancellationToken::new();
    let _ends = ended.clone().drop_guard();
    let connection = hyper::server::conn::http2::Builder::new(Group { tasks: tasks.clone(), ended })
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS_MAX + STREAMS_BESIDE)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(LINK_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_MAX)
        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = drained => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// A request of the link.
pub(crate) fn request(path: &'static str, body: Outgoing) -> http::Request<Outgoing> {
    let mut request = http::Request::new(body);
    *request.method_mut() = http::Method::POST;
    // HTTP/2 wants an authority; the link has one end only.
    *request.uri_mut() = http::Uri::builder()
        .scheme("http")
        .authority("provider")
        .path_and_query(path)
        .build()
        .expect("scheme, authority and path are constants that make a URI");
    request
}
