//! What a caller asks the store to commit, and what can become of it.
//!
//! Invariant: a commit is a value, free of closures and engine types, so that any engine, in process or
//! remote, can take it. Checks are judged against the state before the commit's own writes; writes apply
//! in their order, so the last write to a key wins. Knows nothing of how an engine serialises commits.

use bytes::Bytes;

use crate::limits::LimitError;
use crate::ordered_kv::Position;

/// Names one attempt to commit, so that an outcome that was lost can be asked for, and a repeat is harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub [u8; 16]);

impl std::fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TransactionId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// Point checks and writes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// All must hold, or the commit is a [`CommitError::Conflict`].
    pub checks: Vec<Check>,
    /// Applied in order when all checks hold; may be empty.
    pub writes: Vec<Write>,
    /// When set, the commit happens at most once under this id, however often it is sent: a repeat is
    /// answered with the position of the first, its checks and writes unread.
    pub transaction: Option<TransactionId>,
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The key has no row.
    Absent(Bytes),
    /// The key has a row of exactly this version.
    At(Bytes, Position),
    /// The key has a row of any version.
    Present(Bytes),
}

impl Check {
    /// The key it looks at.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        let (Self::Absent(key) | Self::At(key, _) | Self::Present(key)) = self;
        key
    }

    /// Whether it holds for a key whose row is at `found`.
    #[must_use]
    pub fn holds(&self, found: Option<Position>) -> bool {
        match self {
            Self::Absent(_) => found.is_none(),
            Self::At(_, position) => found == Some(*position),
            Self::Present(_) => found.is_some(),
        }
    }
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a row.
    Put {
        /// Its key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Sets a row whose key holds the position of this commit: prefix, then 8 bytes big-endian, then suffix.
    /// Rows of one prefix therefore sort in commit order.
    PutAtPosition {
        /// What comes before the position; not empty.
        key_prefix: Bytes,
        /// What comes after it; tells apart several such rows of one commit.
        key_suffix: Bytes,
        /// The row's value.
        value: Bytes,
    },
    /// Sets a row whose value holds the position of this commit: prefix, then 8 bytes big-endian, then
    /// suffix. The row keeps that number when a later commit copies the value, unlike its version.
    PutWithPosition {
        /// The row's key.
        key: Bytes,
        /// What comes before the position in the value.
        value_prefix: Bytes,
        /// What comes after it.
        value_suffix: Bytes,
    },
    /// Removes a row; nothing happens when there is none.
    Delete {
        /// Its key.
        key: Bytes,
    },
}

/// Why a commit was not answered with a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A check did not hold; nothing was written.
    #[error("check {check} did not hold: the row is {}", describe(.found))]
    Conflict {
        /// Index into [`Commit::checks`] of the first that did not hold.
        check: usize,
        /// The version found, `None` when the key has no row.
        found: Option<Position>,
    },
    /// Whether it was written is not known, and may not be guessed: ask
    /// [`OrderedKv::outcome`](crate::OrderedKv::outcome) with the transaction id, if need be after reopening.
    #[error("the outcome of the commit is not known: {cause}")]
    Unknown {
        /// What went wrong.
        cause: String,
    },
    /// An earlier failure stopped the store; nothing of this commit was written.
    #[error("the store takes no commits until it is reopened: {cause}")]
    Poisoned {
        /// What went wrong then.
        cause: String,
    },
    /// A bound was passed; nothing was written.
    #[error("the commit is not allowed: {0}")]
    Limit(#[from] LimitError),
    /// Reading the rows that the checks name failed; nothing was written.
    #[error("the commit could not be checked: {cause}")]
    Read {
        /// What went wrong.
        cause: String,
    },
}

fn describe(found: &Option<Position>) -> String {
    found.map_or_else(|| "absent".to_owned(), |position| format!("at position {position}"))
}

/// What became of a commit that carried a transaction id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened at this position.
    Committed(Position),
    /// It did not happen, and only sending it again can make it happen. (Or its id was expired.)
    NotCommitted,
}
