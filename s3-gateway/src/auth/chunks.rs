//! The chain of signatures over the chunks and trailers of a streamed body.
//!
//! Invariant: each signature covers the one before it, beginning with the request's, so chunks cannot be
//! dropped, repeated or reordered. Compared in constant time. Deliberately knows nothing of framing.

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::auth::sigv4;
use crate::failure::Failure;

/// SHA-256 of nothing, in hex: what stands for a chunk's (absent) headers.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Checks chunk signatures one after the other.
pub(crate) struct ChunkSigner {
    key: zeroize::Zeroizing<[u8; 32]>,
    /// `<moment>\n<scope>\n`.
    context: String,
    previous: String,
    digest: Sha256,
    /// Whether trailers come with a signature of their own.
    pub(crate) signs_trailer: bool,
}

impl ChunkSigner {
    /// Starts the chain with the request's own signature.
    pub(crate) fn new(key: [u8; 32], moment: &str, scope: &str, seed: &str) -> Self {
        Self {
            key: zeroize::Zeroizing::new(key),
            context: format!("{moment}\n{scope}\n"),
            previous: seed.to_owned(),
            digest: Sha256::new(),
            signs_trailer: false,
        }
    }

    /// Takes in bytes of the chunk under way.
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.digest.update(data);
    }

    /// Ends the chunk under way and checks its signature.
    pub(crate) fn finish_chunk(&mut self, given: &str) -> Result<(), Failure> {
        let digest = hex::encode(self.digest.finalize_reset());
        self.check(b"AWS4-HMAC-SHA256-PAYLOAD\n", &[EMPTY_SHA256.as_bytes(), b"\n", digest.as_bytes()], given)
    }

    /// Checks the signature over the trailers, in the order they came.
    pub(crate) fn finish_trailers(&mut self, trailers: &HeaderMap, given: &str) -> Result<(), Failure> {
        let digest = sigv4::trailer_digest(trailers);
        self.check(b"AWS4-HMAC-SHA256-TRAILER\n", &[digest.as_bytes()], given)
    }

    fn check(&mut self, algorithm: &[u8], rest: &[&[u8]], given: &str) -> Result<(), Failure> {
        let mut pieces: Vec<&[u8]> =
            vec![algorithm, self.context.as_bytes(), self.previous.as_bytes(), b"\n"];
        pieces.extend_from_slice(rest);
        let ours = sigv4::hmac(&*self.key, &pieces);
        sigv4::check_hex(&ours, given)?;
        given.clone_into(&mut self.previous);
        Ok(())
    }
}
