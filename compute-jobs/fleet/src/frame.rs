//! Frames: messages of known length on the body of a request or an answer.
//!
//! ```text
//! frame = length u32 ‖ message         length: bytes of the message, at most what the direction allows
//! ```
//!
//! Invariant: of a peer's bytes no more are kept than one frame and what HTTP/2 lets it send ahead; a length above the
//! bound is refused before anything of it is read. Reading is cancel-safe: what came of a frame stays. Knows no message.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::limits::FRAMES_WAITING_MAX;

const LENGTH_BYTES: usize = 4;

/// Why no message came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame is longer than it may be.
    #[error("a frame of {found} bytes, and {maximum} are the most")]
    TooLong {
        /// Its length.
        found: usize,
        /// The most.
        maximum: usize,
    },
    /// The body ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// The bytes are no message.
    #[error("the bytes of a frame are no message")]
    Malformed,
    /// The request was broken off.
    #[error("the stream was broken off: {why}")]
    Broken {
        /// As HTTP/2 has it.
        why: String,
    },
    /// The other side reads no more.
    #[error("the other side has left")]
    Gone,
}

/// A message as a frame's bytes.
pub(crate) fn encode<T: Serialize>(message: &T, bytes_max: usize) -> Result<Bytes, FrameError> {
    let mut bytes = BytesMut::zeroed(LENGTH_BYTES);
    let written = postcard::to_extend(message, Writer(&mut bytes));
    written.map_err(|_| FrameError::Malformed)?;
    let found = bytes.len() - LENGTH_BYTES;
    let length = u32::try_from(found).ok().filter(|_| found <= bytes_max);
    let length = length.ok_or(FrameError::TooLong { found, maximum: bytes_max })?;
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(bytes.freeze())
}

struct Writer<'a>(&'a mut BytesMut);

impl Extend<u8> for Writer<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        bytes.into_iter().for_each(|byte| self.0.put_u8(byte));
    }
}

/// Exactly one message.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Malformed),
    }
}

/// Messages from a body.
pub(crate) struct Incoming<B> {
    body: B,
    buffer: BytesMut,
    bytes_max: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Incoming<B>
where
    B::Error: std::fmt::Display,
{
    pub(crate) fn new(body: B, bytes_max: usize) -> Self {
        Self { body, buffer: BytesMut::new(), bytes_max }
    }

    /// The next message; `None` where the body ended between two. Cancel-safe.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            if let Some(message) = self.take()? {
                return decode(&message).map(Some);
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FrameError::Truncated),
                Some(Err(error)) => return Err(FrameError::Broken { why: error.to_string() }),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<BytesMut>, FrameError> {
        let Some((length, _)) = self.buffer.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let maximum = self.bytes_max;
        let found = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if found > maximum {
            return Err(FrameError::TooLong { found, maximum });
        }
        if self.buffer.len() < LENGTH_BYTES + found {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(found)))
    }
}

/// The body of a request or an answer that is written frame by frame.
pub(crate) struct Outgoing(mpsc::Receiver<Bytes>);

impl Outgoing {
    /// A body of one frame.
    pub(crate) fn once(frame: Bytes) -> Self {
        let (frames, waiting) = mpsc::channel(1);
        frames.try_send(frame).expect("a new channel has room for one");
        Self(waiting)
    }
}

/// Where its frames are put. Dropping it ends the body.
#[derive(Clone)]
pub(crate) struct Outbox {
    frames: mpsc::Sender<Bytes>,
    bytes_max: usize,
}

/// A body with the box that fills it.
pub(crate) fn outgoing(bytes_max: usize) -> (Outbox, Outgoing) {
    let (frames, waiting) = mpsc::channel(FRAMES_WAITING_MAX);
    (Outbox { frames, bytes_max }, Outgoing(waiting))
}

impl Outbox {
    /// Waits while too many frames wait. Cancel-safe: the message was put in whole, or not at all.
    pub(crate) async fn send<T: Serialize>(&self, message: &T) -> Result<(), FrameError> {
        let frame = encode(message, self.bytes_max)?;
        self.frames.send(frame).await.map_err(|_| FrameError::Gone)
    }

    /// Until nobody reads any more.
    pub(crate) async fn closed(&self) {
        self.frames.closed().await;
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use proptest::prelude::*;

    fn in_pieces(bytes: &[u8], piece: usize) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces: Vec<_> =
            bytes.chunks(piece).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        StreamBody::new(futures::stream::iter(pieces))
    }

    proptest! {
        #[test]
        fn frames_come_as_they_went_in_any_pieces(texts: Vec<String>, piece in 1usize..50) {
            let frames = texts.iter().map(|text| encode(text, 1 << 20).unwrap());
            let bytes: Vec<u8> = frames.flatten().collect();
            let mut incoming = Incoming::new(in_pieces(&bytes, piece), 1 << 20);
            futures::executor::block_on(async {
                for text in &texts {
                    assert_eq!(incoming.next::<String>().await.unwrap().as_ref(), Some(text));
                }
                assert_eq!(incoming.next::<String>().await, Ok(None));
            });
        }

        #[test]
        fn foreign_bytes_are_refused_and_nothing_else(bytes: Vec<u8>, piece in 1usize..9) {
            let mut incoming = Incoming::new(in_pieces(&bytes, piece), 64);
            while let Ok(Some(_)) = futures::executor::block_on(incoming.next::<crate::wire::Up>()) {}
            let mut incoming = Incoming::new(in_pieces(&bytes, piece), 64);
            while let Ok(Some(_)) = futures::executor::block_on(incoming.next::<crate::wire::Down>()) {}
        }
    }

    #[test]
    fn a_length_above_the_bound_is_refused_before_its_bytes_come() {
        let body = in_pieces(&[0, 0, 1, 1], 4);
        let found = futures::executor::block_on(Incoming::new(body, 256).next::<String>());
        assert_eq!(found, Err(FrameError::TooLong { found: 257, maximum: 256 }));
        let body = in_pieces(&[0, 0, 0, 2, 1], 4);
        assert_eq!(
            futures::executor::block_on(Incoming::new(body, 256).next::<String>()),
            Err(FrameError::Truncated)
        );
        assert!(encode(&"long".repeat(100), 100).is_err());
    }
}
