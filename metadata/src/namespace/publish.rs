//! Publish groups: versions written where no list or get sees them, made visible all at once.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NamespaceRow;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::types::UnixMillis;
use super::versions::ObjectRow;

/// Most versions that one group publishes.
pub const GROUP_OBJECTS_MAX: usize = 10_000;

/// A group that collects staged objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Who stages.
    pub owner: String,
    /// When it began; groups left alone for a day are dropped.
    pub begun: UnixMillis,
    /// Objects staged.
    pub staged: u64,
}

impl NamespaceRow for GroupRow {
    const KIND: &'static str = "publish group";
}

/// Key of a group.
pub fn key(group: u128) -> Bytes {
    KeyWriter::new(Tag::PublishGroup).u128(group).finish()
}

/// The group in a group row's key.
pub fn parse_key(key: &[u8]) -> Option<u128> {
    let mut reader = KeyReader::new(key, Tag::PublishGroup)?;
    let group = reader.u128()?;
    reader.end()?;
    Some(group)
}

/// Where all groups start.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::PublishGroup).finish()
}

/// One staged object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedRow {
    /// Bucket name it goes to.
    pub bucket: String,
    /// What it will be.
    pub object: ObjectRow,
}

impl NamespaceRow for StagedRow {
    const KIND: &'static str = "staged object";
}

/// Key of a staged object.
pub fn staged_key(group: u128, bucket: &str, key: &str) -> Bytes {
    KeyWriter::new(Tag::Staged).u128(group).text(bucket).text(key).finish()
}

/// Where a group's staged objects start.
pub fn staged_prefix(group: u128) -> Bytes {
    KeyWriter::new(Tag::Staged).u128(group).finish()
}

/// Bucket name and object key in a staged object's key.
pub fn parse_staged_key(key: &[u8]) -> Option<(String, String)> {
    let mut reader = KeyReader::new(key, Tag::Staged)?;
    reader.u128()?;
    let bucket = reader.text()?;
    let object = reader.text()?;
    reader.end()?;
    Some((bucket, object))
}
