//! Nodes to be scrubbed out of turn, because damage was found there: known across restarts until it is done.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyReader, KeyWriter, Tag};

/// That a node is to be scrubbed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRow {
    /// The session that found the damage.
    pub session: u64,
}

impl NamespaceRow for ScrubRow {
    const KIND: &'static str = "scrub";
}

/// Key of a node's.
pub fn key(node: u16) -> Bytes {
    KeyWriter::new(Tag::Scrub).u32(u32::from(node)).finish()
}

/// The node in a key.
pub fn parse_key(key: &[u8]) -> Option<u16> {
    let mut reader = KeyReader::new(key, Tag::Scrub)?;
    let node = reader.u32()?;
    reader.end()?;
    u16::try_from(node).ok()
}

/// Where all of them start.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::Scrub).finish()
}
