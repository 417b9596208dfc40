//! The S3 front door: HTTP/1.1, Signature Version 4, S3's XML and headers, over `objects`.
//!
//! A request takes this way: `server` (connection, pace) → `front` (limits, ids) → `auth` (who) →
//! `operation` (what) → a handler in `ops` (translate, one use case of [`ashlar_objects::Store`]) →
//! `reply`. Hot operations (objects in and out, listings, forms) are handled from headers to frames here;
//! the rest goes through `s3s`, which reads and writes S3's XML. s3s is given no signature, no object body
//! and only the headers it must parse, so what it does not verify it never sees.
//!
//! Invariants kept here: a principal is named only by a verified signature; what is not implemented answers
//! 501 before a body is read; every answer carries a request id; memory is bounded whatever clients do
//! ([`Limits`]). Who may do what is decided in `objects` alone.
//!
//! Metrics go to the `metrics` facade: `ashlar_s3_requests_total{operation,code}`,
//! `ashlar_s3_request_seconds{operation}`, `ashlar_s3_bytes_in_total`, `ashlar_s3_bytes_out_total`,
//! `ashlar_s3_in_flight`, `ashlar_s3_connections_refused_total`. The log target is `ashlar_s3`: a client's
//! mistakes at debug, overload at warn, faults of ours at error. s3s logs every failed request at error under
//! its own name: the binary's filter must hold [`LOG_DIRECTIVE`].

mod auth;
mod call;
mod config;
mod cors;
mod failure;
mod form;
mod front;
mod headers;
mod ids;
mod meter;
mod operation;
mod ops;
mod paced_stream;
mod payload;
mod query;
mod reply;
mod server;
mod target;
mod tokens;
mod xml;

pub use config::{GatewayConfig, Limits};
pub use paced_stream::PacedStream;
pub use server::Gateway;

/// What a `tracing` filter must say of s3s, whose own log repeats every client's mistake as an error.
pub const LOG_DIRECTIVE: &str = "s3s=off";

/// Parsers of foreign bytes, for the fuzz targets in `s3-gateway/fuzz` alone.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::form::fields::{FileDecoder, FormReader};
    pub use crate::payload::chunked::Decoder;
    pub use crate::tokens::Tokens;

    /// Encodes and decodes text as RFC 2047 has it.
    pub fn rfc2047(raw: &[u8]) -> (String, String) {
        let decoded = crate::headers::rfc2047::decode(raw);
        let again = crate::headers::rfc2047::decode(crate::headers::rfc2047::encode(&decoded).as_bytes());
        (decoded, again)
    }
}
