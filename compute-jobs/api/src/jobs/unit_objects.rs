//! Where the bytes of units lie: what stages write, providers read and answers become.
//!
//! Invariant: bytes are named by their content root, and what is read was checked against it. The same bytes twice are
//! one object. Does not know what the bytes say ([`crate::unit_data`]).

use async_trait::async_trait;
use bytes::Bytes;

use crate::bytes::{ContentRoot, JobId};

/// Why bytes of a unit were not stored or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitObjectsError {
    /// There is no such object, or it has other bytes than its name says.
    #[error("there is no object {root}")]
    NotFound {
        /// Asked for.
        root: ContentRoot,
    },
    /// It is longer than who asked can take.
    #[error("object {root} has {bytes} bytes, and {maximum} are the most")]
    TooLong {
        /// Asked for.
        root: ContentRoot,
        /// So long it is.
        bytes: u64,
        /// So long it may be.
        maximum: usize,
    },
    /// The store could not; it may later.
    #[error("{reason}")]
    Unavailable {
        /// For the log.
        reason: String,
    },
}

/// Objects of units, of one family of jobs each: of all attempts at one statement.
#[async_trait]
pub trait UnitObjects: Send + Sync {
    /// Stores bytes durably and answers what they are named by.
    async fn put(&self, family: JobId, bytes: Bytes) -> Result<ContentRoot, UnitObjectsError>;

    /// Reads bytes whole, if they are at most so many.
    async fn get(
        &self,
        family: JobId,
        root: ContentRoot,
        bytes_max: usize,
    ) -> Result<Bytes, UnitObjectsError>;

    /// Removes all objects of a family, which nobody asks for any more.
    async fn forget(&self, family: JobId) -> Result<(), UnitObjectsError>;
}
