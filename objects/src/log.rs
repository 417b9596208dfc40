//! The log as the store keeps it: every change of the namespace announces itself in the transaction that makes it.
//!
//! An entry is a record at a place, its commit's position and its number among that commit's entries. A publisher
//! reads entries in order ([`Store::outbox_after`]), takes along what restoring them needs
//! ([`Store::recovery_rows`]) and the next stretch of a walk through all rows ([`Store::walk`]), and trims what it has sealed for good ([`Store::trim_outbox`]). The entry of a
//! version can be told at any time from its rows ([`Store::log_entry`]), whether its outbox row is there or not.
//!
//! What publishing gives back comes through two seams, both optional: [`ReceiptIssuer`] promises an entry to who
//! made the change, [`Durability`] tells when it got as far as its bucket asks for. Formats:
//! `docs/formats/record.md`. Deliberately knows nothing of batches, DA layers, chains and keys.

mod durability;
mod entry;
mod formats;
mod metadata_digest;
mod outbox;
mod records;
mod recovery;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::durability::DurableWhen;
pub use self::formats::{entry_leaf, entry_salt, manifest_root, record_digest, salt_key};
pub use self::metadata_digest::metadata_digest;
pub use self::recovery::RecoveryRows;
pub use self::walk::Stretch;
pub use ashlar_metadata::namespace::record::{Operation, Record, RecordError};

pub(crate) use self::durability::Logged;
pub(crate) use self::entry::stored_manifest_root;
pub(crate) use self::records::{
    of_bucket, of_bucket_removed, of_cluster_map, of_mark, of_put, of_removal, rows_digest,
};
pub(crate) use self::walk::WALKED;

#[cfg(doc)]
use crate::Store;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Position of the commit that made the change.
    pub position: u64,
    /// Which of that commit's entries it is, from 0.
    pub index: u32,
    /// The encoded record.
    pub record: Bytes,
}

impl LogEntry {
    /// Its place: entries are in the order of their places.
    #[must_use]
    pub fn place(&self) -> (u64, u32) {
        (self.position, self.index)
    }
}

/// Promises entries to those who made the changes.
pub trait ReceiptIssuer: Send + Sync {
    /// The receipt of a change that was just committed, as the header `x-ashlar-receipt` carries it: visible
    /// ASCII. `None`: no promise is made. It is called on the answer's way, so it must not wait.
    fn issue(&self, position: u64, index: u32, record: &[u8]) -> Option<Arc<str>>;
}

/// A level will not be reached, as far as anybody knows now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log does not go on: {reason}")]
pub struct LogHalted {
    /// Why.
    pub reason: String,
}

/// Tells how far the log has come.
#[async_trait]
pub trait Durability: Send + Sync {
    /// Returns once every entry at or below `position` has reached `level`, which is more than
    /// [`DurableWhen::Quorum`]. `position` is always that of an entry. Cancel-safe: who waits may stop at any time.
    async fn reached(&self, position: u64, level: DurableWhen) -> Result<(), LogHalted>;

    /// Every entry at or below it can be had from the data-availability layer. What died later is not collected
    /// yet: should metadata be lost, it is what comes back.
    fn covered(&self) -> u64;
}

/// How a store publishes; by default it does not.
#[derive(Clone)]
pub struct Publishing {
    /// Who promises entries; without one no answer has a receipt.
    pub receipts: Option<Arc<dyn ReceiptIssuer>>,
    /// Who tells how far the log has come; without one no bucket may ask for more than a quorum.
    pub durability: Option<Arc<dyn Durability>>,
    /// How long an answer waits for what its bucket asks for.
    pub durable_wait: Duration,
}

/// How long an answer waits by default: anchoring takes a few blocks, and clients give up after a minute.
const DURABLE_WAIT: Duration = Duration::from_secs(30);

impl Default for Publishing {
    fn default() -> Self {
        Self { receipts: None, durability: None, durable_wait: DURABLE_WAIT }
    }
}

impl std::fmt::Debug for Publishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publishing")
            .field("receipts", &self.receipts.is_some())
            .field("durability", &self.durability.is_some())
            .field("durable_wait", &self.durable_wait)
            .finish()
    }
}

#[cfg(test)]
mod vectors;
