//! Where books lie: durable before a signature leaves.
//!
//! Invariant of every [`Books`]: after `store` returned, `load` gives what was stored, whatever crashes; when it failed,
//! it is the old or the new, and the caller signs nothing more in that lock until it was loaded again. Knows no book.

mod file;

pub use file::FileBooks;

use ashlar_compute_api::LockId;
use async_trait::async_trait;

/// Why nothing was stored or loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    /// Another process has them.
    #[error("the books are held by another process")]
    Held,
    /// It does not read as what was written.
    #[error("the book of lock {lock} is damaged")]
    Damaged {
        /// Whose.
        lock: LockId,
    },
    /// The medium failed.
    #[error("books: {reason}")]
    Failed {
        /// As it says.
        reason: String,
    },
}

/// Keeps one value a lock; whole values are read and written.
#[async_trait]
pub trait Books: Send + Sync + 'static {
    /// All that is stored.
    async fn load(&self) -> Result<Vec<(LockId, Vec<u8>)>, BooksError>;

    /// Replaces a lock's value, atomically and durably.
    async fn store(&self, lock: LockId, value: Vec<u8>) -> Result<(), BooksError>;

    /// Forgets a lock that has ended on the chain for good. Nothing where there is none.
    async fn remove(&self, lock: LockId) -> Result<(), BooksError>;
}
