//! An object's bytes on their way in: framing taken off, signatures checked, slowness cut.
//!
//! Invariant: frames are passed on as hyper gave them, never copied; an ending that is not the declared
//! one is an error, so nothing truncated can be committed. Deliberately computes no digest of the whole:
//! `objects` does, once, and compares before it commits.

pub(crate) mod chunked;
pub(crate) mod document;
pub(crate) mod drain;
pub(crate) mod pace;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ashlar_objects::requests::{BodyError, BodyStream, Payload, TrailingChecksum};
use ashlar_objects::types::ChecksumAlgorithm;
use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use parking_lot::Mutex;

use crate::auth::PayloadMode;
use crate::failure::{Code, Failure};
use crate::headers::{checksums, number};
use crate::meter::Bytes as ByteMeter;
use chunked::Decoder;
use drain::Source;
use pace::Pace;

/// Trailers, there once the last byte was read.
type Trailers = Arc<Mutex<Option<HeaderMap>>>;

/// A request's body as a stream of its decoded bytes.
pub(crate) struct RequestBody {
    source: Source,
    decoder: Option<Decoder>,
    /// What came in the frame under way and is not yet decoded.
    pending: Bytes,
    trailers: Trailers,
    pace: Pace,
    meter: ByteMeter,
    declared: Option<u64>,
    given: u64,
    ended: bool,
}

impl RequestBody {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let frame = match self.source.poll_frame(cx) {
                Poll::Pending => {
                    return if self.pace.poll_too_slow(cx) {
                        Poll::Ready(Some(Err(BodyError::TooSlow)))
                    } else {
                        Poll::Pending
                    };
                }
                Poll::Ready(frame) => frame,
            };
            match frame {
                None => return Poll::Ready(None),
                Some(Err(_)) => {
                    return Poll::Ready(Some(Err(BodyError::Incomplete { received: self.given })));
                }
                Some(Ok(frame)) => {
                    // Trailers of HTTP itself mean nothing to S3.
                    let Ok(data) = frame.into_data() else { continue };
                    self.pace.progress(data.len());
                    self.meter.add(data.len());
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    fn poll_decoded(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if let Some(decoder) = &mut self.decoder {
                match decoder.next(&mut self.pending) {
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            } else if !self.pending.is_empty() {
                return Poll::Ready(Some(Ok(std::mem::take(&mut self.pending))));
            }
            match ready!(self.poll_incoming(cx)) {
                Some(Ok(data)) => self.pending = data,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let Some(decoder) = &mut self.decoder else { return Poll::Ready(None) };
                    return Poll::Ready(match decoder.finish() {
                        Ok(trailers) => {
                            *self.trailers.lock() = Some(trailers);
                            None
                        }
                        Err(error) => Some(Err(error)),
                    });
                }
            }
        }
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let item = ready!(this.poll_decoded(cx));
        let item = match item {
            Some(Ok(data)) => {
                this.given += u64::try_from(data.len()).expect("a length fits u64");
                if this.declared.is_some_and(|declared| this.given > declared) {
                    Some(Err(BodyError::TooLong))
                } else {
                    Some(Ok(data))
                }
            }
            None if this.declared.is_some_and(|declared| this.given < declared) => {
                Some(Err(BodyError::Incomplete { received: this.given }))
            }
            other => other,
        };
        this.ended = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

/// A request's body before anybody has read of it, with how it is framed.
pub(crate) struct Unread {
    pub(crate) source: Source,
    pub(crate) mode: PayloadMode,
    pub(crate) pace: Pace,
    pub(crate) meter: ByteMeter,
}

impl Unread {
    /// The body as a stream, its decoded length where it is known, and where its trailers will be.
    fn open(self, headers: &HeaderMap) -> Result<(RequestBody, Option<u64>, Trailers), Failure> {
        let framed = self.source.size_hint().exact();
        let decoder;
        let declared = match self.mode {
            PayloadMode::Chunked(signer) => {
                let decoded = number::<u64>(headers, "x-amz-decoded-content-length")?;
                if signer.is_some() && decoded.is_none() {
                    return Err(Failure::new(
                        Code::MissingContentLength,
                        "You must provide the x-amz-decoded-content-length HTTP header.",
                    ));
                }
                decoder = Some(Decoder::new(signer));
                decoded
            }
            PayloadMode::Plain | PayloadMode::Sha256(_) => {
                decoder = None;
                framed
            }
        };
        let trailers = Trailers::default();
        let body = RequestBody {
            source: self.source,
            decoder,
            pending: Bytes::new(),
            trailers: trailers.clone(),
            pace: self.pace,
            meter: self.meter,
            declared,
            given: 0,
            ended: false,
        };
        Ok((body, declared, trailers))
    }

    /// Length of the body as HTTP declares it.
    pub(crate) fn declared_length(&self) -> Option<u64> {
        self.source.size_hint().exact()
    }

    /// The body's decoded bytes and nothing else.
    pub(crate) fn into_stream(self, headers: &HeaderMap) -> Result<RequestBody, Failure> {
        self.open(headers).map(|(body, _, _)| body)
    }

    /// The body as `objects` takes it, with all that the client said of it.
    pub(crate) fn into_payload(self, headers: &HeaderMap) -> Result<Payload, Failure> {
        let asked = checksums::asked(headers)?;
        let content_md5 = checksums::content_md5(headers)?;
        let content_sha256 = match self.mode {
            PayloadMode::Sha256(digest) => Some(digest),
            PayloadMode::Plain | PayloadMode::Chunked(_) => None,
        };
        let chunked = matches!(self.mode, PayloadMode::Chunked(_));
        if asked.in_trailer && !chunked {
            return Err(Failure::new(
                Code::InvalidRequest,
                "A trailing checksum needs a body that is streamed in chunks (x-amz-content-sha256: STREAMING-…-TRAILER).",
            ));
        }
        let (body, length, trailers) = self.open(headers)?;
        let announced = asked.checksum.as_ref().filter(|_| asked.in_trailer).map(|(algorithm, _)| *algorithm);
        let trailing_checksum = chunked.then(|| trailing(trailers, announced));
        Ok(Payload {
            stream: Box::pin(body) as BodyStream,
            length,
            content_md5,
            content_sha256,
            checksum: asked.checksum,
            trailing_checksum,
        })
    }
}

/// Gives the checksum of the trailer, once the body was read to its end.
fn trailing(trailers: Trailers, announced: Option<ChecksumAlgorithm>) -> TrailingChecksum {
    Box::new(move || {
        let trailers = trailers.lock().take().unwrap_or_default();
        let found = checksums::ALGORITHMS
            .iter()
            .find_map(|(algorithm, header, _)| trailers.get(*header).map(|value| (*algorithm, value)));
        let Some((algorithm, value)) = found else {
            return match announced {
                Some(_) => Err(BodyError::Framing { detail: "the announced trailer is missing" }),
                None => Ok(None),
            };
        };
        if announced.is_some_and(|announced| announced != algorithm) {
            return Err(BodyError::Framing { detail: "another trailer came than was announced" });
        }
        let text = value.to_str().map_err(|_| BodyError::Framing { detail: "a trailer is not text" })?;
        let value = checksums::value(algorithm, text).map_err(|_| BodyError::Framing {
            detail: "the trailing checksum is not a value of its algorithm",
        })?;
        Ok(Some((algorithm, value)))
    })
}
