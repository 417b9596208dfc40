//! Sessions, one a gateway process life, and read leases.
//!
//! Every commit that makes shards reachable checks that its session is live. Fencing a session therefore
//! ends its writing for good, and its unreferenced shards become orphans at that moment.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::types::UnixMillis;

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Whether its commits still count.
    pub live: bool,
    /// When it began.
    pub started: UnixMillis,
}

impl NamespaceRow for SessionRow {
    const KIND: &'static str = "session";
}

/// Key of a session.
pub fn key(session: u64) -> Bytes {
    KeyWriter::new(Tag::Session).u64(session).byte(0).finish()
}

/// Where all session rows start.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::Session).finish()
}

/// The session in a session row's key; `None` for its progress row.
pub fn parse_key(key: &[u8]) -> Option<u64> {
    let mut reader = KeyReader::new(key, Tag::Session)?;
    let session = reader.u64()?;
    let kind = reader.byte()?;
    reader.end()?;
    (kind == 0).then_some(session)
}

/// What a session publishes for GC. A row of its own, so that publishing disturbs no commit's check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRow {
    /// Counter below which no blob of this session is in flight any more.
    pub oldest_blob_in_flight: u64,
    /// Position below which none of its readers reads any more.
    pub oldest_reader: u64,
}

impl NamespaceRow for ProgressRow {
    const KIND: &'static str = "session progress";
}

/// Key of a session's progress.
pub fn progress_key(session: u64) -> Bytes {
    KeyWriter::new(Tag::Session).u64(session).byte(1).finish()
}

/// Key of the counter that session ids come from; its value is the last id given, u64 big-endian.
pub fn last_id_key() -> Bytes {
    KeyWriter::new(Tag::Counter).byte(2).finish()
}

/// A promise that what was readable at `position` stays readable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// Position of the snapshot.
    pub position: u64,
    /// Session that holds it.
    pub session: u64,
    /// When it lapses unless renewed.
    pub expires: UnixMillis,
}

impl NamespaceRow for LeaseRow {
    const KIND: &'static str = "lease";
}

/// Key of a lease.
pub fn lease_key(lease: u128) -> Bytes {
    KeyWriter::new(Tag::Lease).u128(lease).finish()
}

/// The lease in a lease row's key.
pub fn parse_lease_key(key: &[u8]) -> Option<u128> {
    let mut reader = KeyReader::new(key, Tag::Lease)?;
    let lease = reader.u128()?;
    reader.end()?;
    Some(lease)
}

/// Where all leases start.
pub fn leases_prefix() -> Bytes {
    KeyWriter::new(Tag::Lease).finish()
}
