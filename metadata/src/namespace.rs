//! The namespace on an ordered KV: one module a key type, each with its row.
//!
//! A key is a tag byte and fixed-width or escaped fields, so that byte order is the order the use cases
//! scan in and no key is a prefix of another. A row is a format byte and a postcard body. Rows are facts
//! about one thing each and none grows with an object: what grows has pages of its own.
//!
//! Deliberately knows no use case: which rows change together is decided above, in objects.

pub mod api_keys;
pub mod blobs;
pub mod buckets;
pub mod cluster;
pub mod heads;
pub mod keys;
pub mod lifecycle;
pub mod locks;
pub mod log;
pub mod manifests;
pub mod outbox;
pub mod publish;
pub mod record;
pub mod scrubs;
pub mod sessions;
pub mod types;
pub mod uploads;
pub mod users;
pub mod versions;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Format byte of every row written today.
const ROW_FORMAT: u8 = 1;

/// A row that does not read back: corruption, or one written by a newer Ashlar.
#[derive(Debug, thiserror::Error)]
#[error("a {kind} row does not read: {reason}")]
pub struct RowError {
    /// Which kind of row.
    pub kind: &'static str,
    /// Why.
    pub reason: String,
}

/// A value that stands under a key of the namespace.
pub trait NamespaceRow: Serialize + DeserializeOwned {
    /// The row's name in errors.
    const KIND: &'static str;

    /// The bytes to store.
    fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(128);
        out.push(ROW_FORMAT);
        let out = postcard::to_extend(self, out).expect("encoding plain data into memory cannot fail");
        Bytes::from(out)
    }

    /// Reads stored bytes.
    fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        match bytes.split_first() {
            Some((&ROW_FORMAT, body)) => {
                postcard::from_bytes(body).map_err(|e| RowError { kind: Self::KIND, reason: e.to_string() })
            }
            Some((format, _)) => {
                Err(RowError { kind: Self::KIND, reason: format!("format {format} is unknown") })
            }
            None => Err(RowError { kind: Self::KIND, reason: "it is empty".into() }),
        }
    }
}
