//! What must be durable before a transaction is sent: intents with their nonces and every byte that was signed.
//!
//! Invariant of every [`TransactionStore`]: after `save` returned, `load` gives what was saved, whatever crashes; and
//! after `acquire` returned, nobody who acquired the key before can save again. Deliberately knows nothing of chains or
//! of why a transaction is sent.

mod file;
mod record;

pub use file::FileTransactionStore;
pub use record::{Attempt, Intent, KeyRecord, RecordError};

use std::path::PathBuf;

use alloy_primitives::Address;
use async_trait::async_trait;

/// Whose nonces: one account on one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The account.
    pub address: Address,
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:#x}", self.chain_id, self.address)
    }
}

/// The right to sign with a key, until somebody else takes it. Larger ones fence smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// Why nothing was stored or loaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionStoreError {
    /// Another process holds the key.
    #[error("transactions of {key} are sent by another process")]
    Held {
        /// Which.
        key: KeyId,
    },
    /// Another sender took the key over.
    #[error("another sender took over {key}: fence {ours} was followed by {newest}")]
    Fenced {
        /// Which.
        key: KeyId,
        /// Ours.
        ours: u64,
        /// The newest.
        newest: u64,
    },
    /// It does not read as what was written.
    #[error("stored transactions {path} are damaged: {why}")]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: RecordError,
    },
    /// The medium failed.
    #[error("transaction store: {0}")]
    Failed(String),
}

/// Keeps one record a key. Small: a record is read and written whole.
#[async_trait]
pub trait TransactionStore: Send + Sync + 'static {
    /// Takes the key: refused while another holds it, or else that other is fenced from now on. Durable when it
    /// returns, with the record as it was last saved.
    async fn acquire(&self, key: KeyId) -> Result<(Fence, KeyRecord), TransactionStoreError>;

    /// The record as it was last saved, unless `fence` is not the newest.
    async fn load(&self, key: KeyId, fence: Fence) -> Result<KeyRecord, TransactionStoreError>;

    /// Replaces the record, atomically and durably, unless `fence` is not the newest. When it fails, the record is the
    /// old or the new one, and the caller may not assume which.
    async fn save(&self, key: KeyId, fence: Fence, record: KeyRecord) -> Result<(), TransactionStoreError>;
}
