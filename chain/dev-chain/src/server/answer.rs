//! The body of an answer, sent in pieces and holding its share of memory until the last one left.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// What hyper is given at a time, so that a slow reader holds the rest here, counted.
const PIECE_BYTES: usize = 64 << 10;

/// Answers of one connection that are being sent.
#[derive(Clone, Default)]
pub(super) struct Sending(Arc<Mutex<BTreeSet<Instant>>>);

impl Sending {
    /// Whether one has been on its way for longer than `most`.
    pub(super) fn is_slower_than(&self, most: Duration) -> bool {
        self.0.lock().first().is_some_and(|begun| begun.elapsed() > most)
    }
}

/// An answer's body.
pub(super) struct Answer {
    rest: Bytes,
    held: Option<Held>,
}

struct Held {
    _permit: OwnedSemaphorePermit,
    begun: Instant,
    sending: Sending,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sending.0.lock().remove(&self.begun);
    }
}

impl Answer {
    /// A few bytes that cost nothing to hold.
    pub(super) fn small(rest: Bytes) -> Self {
        Self { rest, held: None }
    }

    /// Bytes whose memory was reserved.
    pub(super) fn reserved(rest: Bytes, permit: OwnedSemaphorePermit, sending: &Sending) -> Self {
        let begun = Instant::now();
        sending.0.lock().insert(begun);
        Self { rest, held: Some(Held { _permit: permit, begun, sending: sending.clone() }) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            self.held = None;
            return Poll::Ready(None);
        }
        let most = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(most)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
