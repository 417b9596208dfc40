//! Answers: head and body, and what happens when the last byte is out or the client is gone.
//!
//! Invariant: dropping an answer's body releases all that its request held, and only then is the request
//! over. Bodies are frames of `Bytes`, passed on as they come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};

use crate::meter::{self, Meter};
use crate::operation::Operation;

/// An object's bytes.
pub(crate) type ObjectStream =
    Pin<Box<dyn Stream<Item = Result<Bytes, ashlar_objects::error::Error>> + Send>>;

/// What an answer's body is made of.
pub(crate) enum Content {
    Empty,
    Whole(Bytes),
    Object { stream: ObjectStream, left: u64 },
    S3s(s3s::Body),
}

/// An answer before it is dressed with ids.
pub(crate) type Reply = Response<Content>;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode, headers: HeaderMap) -> Reply {
    let mut reply = Response::new(Content::Empty);
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    reply
}

/// An XML answer.
pub(crate) fn xml(status: StatusCode, document: String) -> Reply {
    let mut reply = Response::new(Content::Whole(Bytes::from(document)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    reply
}

/// Ends a request when it is dropped.
pub(crate) struct Ending {
    pub(crate) meter: Arc<Meter>,
    pub(crate) operation: Option<Operation>,
    pub(crate) started: Instant,
    pub(crate) slot: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.meter.in_flight().decrement(1.0);
        self.meter.over(self.operation, self.started);
    }
}

/// The body that hyper sends.
pub(crate) struct ReplyBody {
    content: Content,
    bytes: meter::Bytes,
    request_id: Arc<str>,
    _ending: Ending,
}

impl ReplyBody {
    pub(crate) fn new(content: Content, bytes: meter::Bytes, request_id: Arc<str>, ending: Ending) -> Self {
        Self { content, bytes, request_id, _ending: ending }
    }
}

/// Why an answer broke off; hyper closes the connection, so a client sees that bytes are missing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    #[error("the object's bytes could not be read to their end")]
    Read,
    #[error("the object gave another number of bytes than was announced")]
    Length,
    #[error("the document could not be written")]
    Document,
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        let data = match &mut this.content {
            Content::Empty => None,
            Content::Whole(whole) => {
                let whole = std::mem::take(whole);
                this.content = Content::Empty;
                (!whole.is_empty()).then_some(whole)
            }
            Content::Object { stream, left } => match ready!(stream.as_mut().poll_next(cx)) {
                Some(Ok(data)) => {
                    let length = u64::try_from(data.len()).expect("a length fits u64");
                    let Some(rest) = left.checked_sub(length) else {
                        return Poll::Ready(Some(Err(BrokenOff::Length)));
                    };
                    *left = rest;
                    if rest == 0 {
                        // The reader goes now: hyper may keep the body until the next request.
                        this.content = Content::Empty;
                    }
                    Some(data)
                }
                None if *left == 0 => None,
                None => return Poll::Ready(Some(Err(BrokenOff::Length))),
                Some(Err(error)) => {
                    tracing::error!(target: "ashlar_s3", request_id = &*this.request_id, %error, "answer broken off");
                    return Poll::Ready(Some(Err(BrokenOff::Read)));
                }
            },
            Content::S3s(body) => match ready!(http_body::Body::poll_frame(Pin::new(body), cx)) {
                Some(Ok(frame)) => frame.into_data().ok(),
                Some(Err(_)) => return Poll::Ready(Some(Err(BrokenOff::Document))),
                None => None,
            },
        };
        let Some(data) = data else { return Poll::Ready(None) };
        this.bytes.add(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(whole) => whole.is_empty(),
            Content::Object { left, .. } => *left == 0,
            Content::S3s(body) => http_body::Body::is_end_stream(body),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(whole) => {
                SizeHint::with_exact(u64::try_from(whole.len()).expect("a length fits u64"))
            }
            Content::Object { left, .. } => SizeHint::with_exact(*left),
            Content::S3s(body) => http_body::Body::size_hint(body),
        }
    }
}
