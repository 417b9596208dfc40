//! The rest of a body that nobody wants, read and dropped so that the client gets to see its answer.
//!
//! Closing a socket with unread bytes resets it, and a reset can overtake the answer. Invariant: bounded in
//! bytes and time; nothing is read of a body whose client still waits for `100 Continue`, because reading
//! is what would send it. Such a client need not send the body after its answer, and what it sends next would
//! be taken for it: [`Source::waiting`] is how the server knows to close the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;

/// Longest a body is drained.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Most bodies drained at a moment.
const DRAINS_MAX: usize = 512;

/// Runs the drains of one server.
pub(crate) struct Drainer {
    tasks: TaskTracker,
    bytes_max: usize,
    running: AtomicUsize,
}

impl Drainer {
    pub(crate) fn new(tasks: TaskTracker, bytes_max: usize) -> Self {
        Self { tasks, bytes_max, running: AtomicUsize::new(0) }
    }

    fn take(self: Arc<Self>, mut incoming: Incoming) {
        if self.tasks.is_closed() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        if self.running.fetch_add(1, Ordering::Relaxed) >= DRAINS_MAX {
            self.running.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.tasks.clone().spawn(async move {
            let mut left = self.bytes_max;
            let drain = async {
                while let Some(Ok(frame)) = incoming.frame().await {
                    let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
                    left = rest;
                }
            };
            let _ended_or_not = tokio::time::timeout(DRAIN_TIME_MAX, drain).await;
            self.running.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// hyper's body, drained when it is dropped early.
pub(crate) struct Source {
    incoming: Option<Incoming>,
    drainer: Arc<Drainer>,
    /// Whether its client still waits for leave to send it, if it ever asked.
    waiting: Option<Arc<AtomicBool>>,
}

impl Source {
    pub(crate) fn new(incoming: Incoming, headers: &HeaderMap, drainer: Arc<Drainer>) -> Self {
        let waits = headers.contains_key(http::header::EXPECT) && !incoming.is_end_stream();
        let waiting = waits.then(|| Arc::new(AtomicBool::new(true)));
        Self { incoming: Some(incoming), drainer, waiting }
    }

    /// Tells, also when the body is gone, whether its client was never given leave to send it; none if it did
    /// not ask for leave.
    pub(crate) fn waiting(&self) -> Option<Arc<AtomicBool>> {
        self.waiting.clone()
    }

    fn is_waiting(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.load(Ordering::Relaxed))
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(waiting) = &self.waiting {
            waiting.store(false, Ordering::Relaxed);
        }
        match &mut self.incoming {
            Some(incoming) => Pin::new(incoming).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        if !incoming.is_end_stream() && !self.is_waiting() {
            self.drainer.clone().take(incoming);
        }
    }
}
