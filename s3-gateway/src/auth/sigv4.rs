//! AWS Signature Version 4: canonical request, string to sign, signing key, and the comparison.
//!
//! Invariant: signatures are compared in constant time. Pure; held to AWS's published examples by tests.
//! Source: "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API reference.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::request::Parts;
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::credential::Moment;
use crate::failure::{Failure, signature_mismatch};
use crate::query::{PATH, Query, UNRESERVED};

/// HMAC-SHA256 over the concatenation of pieces.
pub(super) fn hmac(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}

/// The key of one day, region and service.
pub(super) fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> [u8; 32] {
    let seed = zeroize::Zeroizing::new(format!("AWS4{secret}"));
    let by_date = hmac(seed.as_bytes(), &[date.as_bytes()]);
    let by_region = hmac(&by_date, &[region.as_bytes()]);
    let by_service = hmac(&by_region, &[service.as_bytes()]);
    hmac(&by_service, &[b"aws4_request"])
}

/// Compares a signature in hex with ours, in time that does not depend on where they differ.
pub(super) fn check_hex(ours: &[u8; 32], given: &str) -> Result<(), Failure> {
    let mut theirs = [0; 32];
    let decoded = hex::decode_to_slice(given, &mut theirs).is_ok();
    if decoded && bool::from(ours.ct_eq(&theirs)) { Ok(()) } else { Err(signature_mismatch()) }
}

/// What a signature of a request covers.
pub(super) struct Request<'a> {
    pub(super) parts: &'a Parts,
    pub(super) query: &'a Query,
    /// In lower case, sorted.
    pub(super) signed_headers: &'a [&'a str],
    /// What stands for the payload.
    pub(super) payload: &'a [u8],
    /// Whether `X-Amz-Signature` is left out of the query.
    pub(super) without_signature: bool,
}

impl Request<'_> {
    /// Checks a signature. A path that the client encoded in its own way is tried as it came, too.
    pub(super) fn check(
        &self,
        key: &[u8; 32],
        moment: &Moment,
        scope: &str,
        given: &str,
    ) -> Result<(), Failure> {
        let raw = self.parts.uri.path();
        let canonical = canonical_path(raw);
        let ours = self.signature(&canonical, key, moment, scope);
        match check_hex(&ours, given) {
            Err(_) if canonical != raw => check_hex(&self.signature(raw, key, moment, scope), given),
            result => result,
        }
    }

    fn signature(&self, path: &str, key: &[u8; 32], moment: &Moment, scope: &str) -> [u8; 32] {
        let digest = Sha256::digest(self.canonical(path));
        let mut digest_hex = [0; 64];
        hex::encode_to_slice(digest, &mut digest_hex).expect("64 digits for 32 bytes");
        hmac(
            key,
            &[b"AWS4-HMAC-SHA256\n", moment.text().as_bytes(), b"\n", scope.as_bytes(), b"\n", &digest_hex],
        )
    }

    pub(super) fn canonical(&self, path: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(self.parts.method.as_str().as_bytes());
        out.push(b'\n');
        out.extend_from_slice(path.as_bytes());
        out.push(b'\n');
        self.canonical_query(&mut out);
        out.push(b'\n');
        for name in self.signed_headers {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            self.canonical_values(name, &mut out);
            out.push(b'\n');
        }
        out.push(b'\n');
        for (at, name) in self.signed_headers.iter().enumerate() {
            if at > 0 {
                out.push(b';');
            }
            out.extend_from_slice(name.as_bytes());
        }
        out.push(b'\n');
        out.extend_from_slice(self.payload);
        out
    }

    fn canonical_query(&self, out: &mut Vec<u8>) {
        if self.query.pairs().is_empty() {
            return;
        }
        let mut pairs: Vec<(String, String)> = self
            .query
            .pairs()
            .iter()
            .filter(|(name, _)| !(self.without_signature && name == "X-Amz-Signature"))
            .map(|(name, value)| {
                (
                    utf8_percent_encode(name, UNRESERVED).to_string(),
                    utf8_percent_encode(value, UNRESERVED).to_string(),
                )
            })
            .collect();
        pairs.sort_unstable();
        for (at, (name, value)) in pairs.iter().enumerate() {
            if at > 0 {
                out.push(b'&');
            }
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
        }
    }

    fn canonical_values(&self, name: &str, out: &mut Vec<u8>) {
        let mut first = true;
        for value in self.parts.headers.get_all(name) {
            if !first {
                out.push(b',');
            }
            first = false;
            push_trimmed(value.as_bytes(), out);
        }
        // HTTP/2 has no Host header; its authority stands for it.
        if first
            && name == "host"
            && let Some(authority) = self.parts.uri.authority()
        {
            out.extend_from_slice(authority.as_str().as_bytes());
        }
    }
}

/// A value without outer white space and with inner runs of spaces made one.
fn push_trimmed(value: &[u8], out: &mut Vec<u8>) {
    let mut space = false;
    for &byte in value.trim_ascii() {
        if byte == b' ' {
            if space {
                continue;
            }
            space = true;
        } else {
            space = false;
        }
        out.push(byte);
    }
}

/// The path as SigV4 for S3 encodes it: decoded once, encoded once, nothing normalised.
fn canonical_path(raw: &str) -> String {
    match percent_decode_str(raw).decode_utf8() {
        Ok(decoded) => utf8_percent_encode(&decoded, PATH).to_string(),
        Err(_) => raw.to_owned(),
    }
}

/// Hex of a SHA-256 over trailers as SigV4 canonicalises them: `name:value\n` each.
pub(super) fn trailer_digest(trailers: &HeaderMap) -> String {
    let mut digest = Sha256::new();
    for (name, value) in trailers {
        digest.update(name.as_str().as_bytes());
        digest.update(b":");
        digest.update(value.as_bytes().trim_ascii());
        digest.update(b"\n");
    }
    hex::encode(digest.finalize())
}
