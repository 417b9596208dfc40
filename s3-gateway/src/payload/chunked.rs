//! The `aws-chunked` framing: `<hex>[;chunk-signature=<hex>]CRLF <bytes> CRLF` …, a last chunk of 0, trailers.
//!
//! Invariant: for any split of the input into pieces the output is the same; data is given out as slices of
//! the input. Lines, trailers and their number are bounded. Nothing after the end is accepted.
//! Signatures are checked when a chunk ends, so the last verdict is in before anything is committed.
//! Source: "Signature calculations for the Authorization header: transferring payload in multiple chunks"
//! and "… with trailing headers" of the Amazon S3 API reference.

use ashlar_objects::requests::BodyError;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::ChunkSigner;

/// Longest line, be it a chunk's head or a trailer.
const LINE_BYTES_MAX: usize = 1024;
/// Most trailers.
const TRAILERS_MAX: usize = 16;
/// Name of the trailer that signs the others.
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

enum State {
    /// In a chunk's head.
    Head,
    /// In a chunk's bytes.
    Data { left: u64 },
    /// In the line end after a chunk's bytes.
    DataEnd,
    /// In the trailers after the last chunk.
    Trailers,
    /// After the empty line.
    End,
}

/// Takes the framing off.
pub struct Decoder {
    state: State,
    line: Vec<u8>,
    signer: Option<Box<ChunkSigner>>,
    signature: String,
    trailers: HeaderMap,
    trailer_signature: Option<String>,
}

fn framing(detail: &'static str) -> BodyError {
    BodyError::Framing { detail }
}

impl Decoder {
    pub(crate) fn new(signer: Option<Box<ChunkSigner>>) -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            signer,
            signature: String::new(),
            trailers: HeaderMap::new(),
            trailer_signature: None,
        }
    }

    /// A decoder of unsigned chunks, for fuzzing.
    pub fn unsigned() -> Self {
        Self::new(None)
    }

    /// The next data in `input`, which is used up when there is none.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, BodyError> {
        while !input.is_empty() {
            match self.state {
                State::Head => {
                    if self.take_line(input)? {
                        self.head()?;
                    }
                }
                State::Data { left } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(take);
                    if let Some(signer) = &mut self.signer {
                        signer.update(&data);
                    }
                    let left = left - u64::try_from(take).expect("a length fits u64");
                    self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
                    return Ok(Some(data));
                }
                State::DataEnd => {
                    if self.take_line(input)? {
                        if !self.line.is_empty() {
                            return Err(framing("a chunk is longer than its head says"));
                        }
                        self.check_chunk()?;
                        self.state = State::Head;
                    }
                }
                State::Trailers => {
                    if self.take_line(input)? {
                        self.trailer()?;
                    }
                }
                State::End => return Err(framing("bytes follow the last chunk")),
            }
        }
        Ok(None)
    }

    /// The input has ended: the trailers, if it ended where it may.
    pub fn finish(&mut self) -> Result<HeaderMap, BodyError> {
        match self.state {
            State::End => {}
            // Some clients leave out the empty line after the last chunk or trailer.
            State::Trailers if self.line.is_empty() => self.check_trailers()?,
            _ => return Err(framing("it ends within a chunk")),
        }
        Ok(std::mem::take(&mut self.trailers))
    }

    /// Takes input up to a line end; true when `line` holds a whole line, without its end.
    fn take_line(&mut self, input: &mut Bytes) -> Result<bool, BodyError> {
        let end = input.iter().position(|&b| b == b'\n');
        let take = end.map_or(input.len(), |end| end + 1);
        if self.line.len() + take > LINE_BYTES_MAX {
            return Err(framing("a line is too long"));
        }
        self.line.extend_from_slice(&input[..take]);
        input.advance(take);
        if end.is_none() {
            return Ok(false);
        }
        self.line.pop();
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(true)
    }

    fn head(&mut self) -> Result<(), BodyError> {
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).map_err(|_| framing("a chunk's head is not text"))?;
        let (size, extension) = text.split_once(';').unwrap_or((text, ""));
        let hex = size.trim();
        if hex.is_empty() || hex.len() > 16 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(framing("a chunk's size is not a number in hex"));
        }
        let size =
            u64::from_str_radix(hex, 16).map_err(|_| framing("a chunk's size is not a number in hex"))?;
        self.signature.clear();
        if self.signer.is_some() {
            let signature = extension
                .trim()
                .strip_prefix("chunk-signature=")
                .ok_or_else(|| framing("a chunk has no signature"))?;
            self.signature.push_str(signature);
        }
        self.line = line;
        self.line.clear();
        if size == 0 {
            self.check_chunk()?;
            self.state = State::Trailers;
        } else {
            self.state = State::Data { left: size };
        }
        Ok(())
    }

    fn check_chunk(&mut self) -> Result<(), BodyError> {
        if let Some(signer) = &mut self.signer {
            signer.finish_chunk(&self.signature).map_err(|_| BodyError::ChunkSignature)?;
        }
        Ok(())
    }

    fn trailer(&mut self) -> Result<(), BodyError> {
        if self.line.is_empty() {
            self.check_trailers()?;
            self.state = State::End;
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        let colon = line.iter().position(|&b| b == b':').ok_or_else(|| framing("a trailer has no colon"))?;
        let name =
            HeaderName::from_bytes(line[..colon].trim_ascii()).map_err(|_| framing("a trailer's name"))?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii())
            .map_err(|_| framing("a trailer's value"))?;
        if self.trailers.len() >= TRAILERS_MAX {
            return Err(framing("there are too many trailers"));
        }
        if name == TRAILER_SIGNATURE {
            let text = value.to_str().map_err(|_| framing("a trailer's value"))?;
            self.trailer_signature = Some(text.to_owned());
        } else if self.trailer_signature.is_some() {
            return Err(framing("a trailer follows the trailers' signature"));
        } else if self.trailers.insert(name, value).is_some() {
            return Err(framing("a trailer came twice"));
        }
        self.line = line;
        self.line.clear();
        Ok(())
    }

    fn check_trailers(&mut self) -> Result<(), BodyError> {
        let Some(signer) = &mut self.signer else { return Ok(()) };
        if !signer.signs_trailer {
            // Without a signature of their own trailers vouch for nothing.
            return if self.trailers.is_empty() {
                Ok(())
            } else {
                Err(framing("trailers were not announced"))
            };
        }
        let signature =
            self.trailer_signature.take().ok_or_else(|| framing("the trailers have no signature"))?;
        signer.finish_trailers(&self.trailers, &signature).map_err(|_| BodyError::ChunkSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds pieces; all data and the trailers, or the error.
    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, HeaderMap), BodyError> {
        let mut decoder = Decoder::unsigned();
        let mut out = Vec::new();
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(data) = decoder.next(&mut input)? {
                out.extend_from_slice(&data);
            }
            assert!(input.is_empty(), "input is used up when there is no more data");
        }
        Ok((out, decoder.finish()?))
    }

    const BODY: &[u8] =
        b"5\r\nhello\r\nA;x=y\r\n world 123\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\nx-b:2\r\n\r\n";

    #[test]
    fn framing_comes_off() {
        let (data, trailers) = decode(&[BODY]).expect("decoded");
        assert_eq!(data, b"hello world 123");
        assert_eq!(trailers["x-amz-checksum-crc32"], "AAAAAA==");
        assert_eq!(decode(&[b"0\r\n\r\n"]).expect("empty").0, b"");
        assert_eq!(decode(&[b"1\r\na\r\n0\r\n"]).expect("no last line").0, b"a");
    }

    #[test]
    fn broken_framing_is_named() {
        let long = vec![b'a'; LINE_BYTES_MAX + 1];
        for bad in [
            &b""[..],
            b"5\r\nhel",
            b"5\r\nhello",
            b"5\r\nhello\r\n",
            b"5\r\nhelloworld\r\n0\r\n\r\n",
            b"x\r\n",
            b"-1\r\n",
            b"11111111111111111\r\n",
            b"\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\na:1\r\na:2\r\n\r\n",
            b"0\r\n\r\nmore",
            &long,
        ] {
            assert!(matches!(decode(&[bad]), Err(BodyError::Framing { .. })), "{:?}", bad.get(..20));
        }
    }

    #[test]
    fn signed_chunks_are_checked_and_bound_to_their_order() {
        let key = [7; 32];
        let signer =
            || Box::new(ChunkSigner::new(key, "20130524T000000Z", "20130524/r/s3/aws4_request", "seed"));
        let mut decoder = Decoder::new(Some(signer()));
        let mut unsigned = Bytes::from_static(b"1\r\na\r\n");
        assert!(decoder.next(&mut unsigned).is_err(), "a chunk without a signature");
        let mut decoder = Decoder::new(Some(signer()));
        let mut wrong = Bytes::from(format!("1;chunk-signature={}\r\na\r\n", "0".repeat(64)));
        assert_eq!(decoder.next(&mut wrong).expect("data first").expect("data"), "a");
        assert_eq!(decoder.next(&mut wrong), Err(BodyError::ChunkSignature));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(cuts in proptest::collection::vec(0..BODY.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&BODY[from..cut]);
                from = cut;
            }
            pieces.push(&BODY[from..]);
            prop_assert_eq!(decode(&pieces).expect("decoded"), decode(&[BODY]).expect("decoded"));
        }

        #[test]
        fn any_chunks_come_back(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8), step in 1_usize..64) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let pieces: Vec<&[u8]> = wire.chunks(step).collect();
            prop_assert_eq!(decode(&pieces).expect("decoded").0, chunks.concat());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1_usize..64) {
            let pieces: Vec<&[u8]> = bytes.chunks(step).collect();
            let _ = decode(&pieces);
        }
    }
}
