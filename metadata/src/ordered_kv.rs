//! The seam to whatever keeps metadata: an ordered map with atomic, conditional, numbered commits.
//!
//! Owns the traits [`OrderedKv`] and [`Snapshot`] and the types that cross them. The invariant: commits are
//! serialisable, a commit position is the version of each row it wrote, and what was answered stays.
//! Deliberately knows nothing of journals, files or SQL, so that an embedded engine, memory and a database
//! server can stand behind it alike.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::commit::{Commit, CommitError, Outcome, TransactionId};
use crate::limits::{LimitError, RESERVED_PREFIX};

/// Where a commit stands in the order of all commits: strictly increasing, with gaps, never reused. It is
/// also the version of every row the commit wrote. Zero is before the first commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);

    /// The form used inside keys and values; sorts as the number does.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Reads [`Position::to_be_bytes`].
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The bytes.
    pub value: Bytes,
    /// The position of the commit that wrote them.
    pub version: Position,
}

/// A range of keys in byte order: start included, end excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key inside; empty for the very first.
    pub start: Bytes,
    /// First key outside, `None` for no bound.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub const fn all() -> Self {
        Self { start: Bytes::new(), end: None }
    }

    /// `start ≤ key < end`; empty when `end ≤ start`.
    #[must_use]
    pub fn between(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: Some(end.into()) }
    }

    /// `start ≤ key`.
    #[must_use]
    pub fn starting_at(start: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: None }
    }

    /// Every key that begins with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self { start, end }
    }

    /// The range without what lies at or before `key`: where a forward scan goes on.
    #[must_use]
    pub fn after(&self, key: &[u8]) -> Self {
        let mut next = Vec::with_capacity(key.len() + 1);
        next.extend_from_slice(key);
        next.push(0);
        let start = if next.as_slice() > &self.start[..] { Bytes::from(next) } else { self.start.clone() };
        Self { start, end: self.end.clone() }
    }

    /// The range without what lies at or after `key`: where a backward scan goes on.
    #[must_use]
    pub fn before(&self, key: impl Into<Bytes>) -> Self {
        let key = key.into();
        let end = match &self.end {
            Some(end) if *end < key => end.clone(),
            _ => key,
        };
        Self { start: self.start.clone(), end: Some(end) }
    }

    /// Whether no key can lie inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// The same range without the rows that the store keeps for itself; start and excluded end.
    pub(crate) fn visible(&self) -> (&[u8], &[u8]) {
        const END: &[u8] = &[RESERVED_PREFIX];
        let end = self.end.as_deref().map_or(END, |end| end.min(END));
        (&self.start, end)
    }
}

/// The first key after every key that begins with `prefix`; `None` when there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(Bytes::from(end))
}

/// Which end of the range a scan begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

/// A piece of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Rows in scan order.
    pub rows: Vec<(Bytes, Row)>,
    /// Whether the scan stopped at a bound (rows asked for, or
    /// [`SCAN_BYTES_MAX`](crate::limits::SCAN_BYTES_MAX)) before the end of the range, so that more rows may
    /// follow; go on with [`KeyRange::after`] or [`KeyRange::before`] the last key. `false` only when the
    /// range holds nothing further.
    pub more: bool,
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A bound was passed.
    #[error("the read is not allowed: {0}")]
    Limit(#[from] LimitError),
    /// An earlier failure stopped the store.
    #[error("the store answers no reads until it is reopened: {cause}")]
    Poisoned {
        /// What went wrong then.
        cause: String,
    },
    /// The engine could not read its files, or they are damaged.
    #[error("the engine failed to read: {cause}")]
    Engine {
        /// What it said.
        cause: String,
    },
}

/// An ordered transactional key-value store.
///
/// Commits are serialisable: each takes effect at one instant between call and answer, and reads that begin
/// after the answer see it. Every method is cancel-safe in this sense: a dropped `commit` either happens
/// whole or not at all, and `outcome` tells which.
#[async_trait]
pub trait OrderedKv: Send + Sync + 'static {
    /// Applies `commit` atomically and durably if all its checks hold, and answers its position.
    ///
    /// An empty commit is allowed and takes a position. See [`CommitError`] for what can happen instead.
    async fn commit(&self, commit: Commit) -> Result<Position, CommitError>;

    /// A view that never changes and holds every commit answered before this call.
    ///
    /// It pins old row versions while it lives; let it go soon.
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError>;

    /// The position at or below which nothing will ever appear. Never goes back while the store is open.
    fn stable_position(&self) -> Position;

    /// Reads one row, as a snapshot taken now would.
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, ReadError> {
        self.snapshot().await?.get(key).await
    }

    /// Reads several rows of one instant, in the order asked.
    async fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Row>>, ReadError> {
        self.snapshot().await?.get_many(keys).await
    }

    /// What became of the commit that carried `id`. Waits for it while it is under way; the answer is final
    /// unless the commit is sent again.
    async fn outcome(&self, id: TransactionId) -> Result<Outcome, ReadError>;

    /// Forgets up to `limit` transaction ids of commits below `below`, oldest first; answers how many.
    /// Nobody may still need their outcome.
    async fn expire_transactions(&self, below: Position, limit: usize) -> Result<usize, CommitError>;
}

/// An immutable view of the store.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// Every commit at or below it is in this view, and none will ever appear there that is not. An engine
    /// that finishes commits out of order may also show commits above it; the embedded one never does.
    fn position(&self) -> Position;

    /// Reads one row.
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, ReadError>;

    /// Reads several rows, in the order asked.
    async fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Row>>, ReadError> {
        crate::limits::check_get_keys(keys.len())?;
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            rows.push(self.get(key).await?);
        }
        Ok(rows)
    }

    /// Reads up to `limit` rows of `range` (1 to [`SCAN_ROWS_MAX`](crate::limits::SCAN_ROWS_MAX)), seeking
    /// straight to its beginning.
    async fn scan(&self, range: KeyRange, direction: Direction, limit: usize) -> Result<Page, ReadError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_ends_before_the_next_prefix() {
        assert_eq!(prefix_end(b"ab"), Some(Bytes::from_static(b"ac")));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(Bytes::from_static(b"b")));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn going_on_never_leaves_the_range() {
        let range = KeyRange::between(&b"b"[..], &b"d"[..]);
        assert_eq!(range.after(b"b").start, &b"b\0"[..]);
        assert_eq!(range.after(b"a").start, &b"b"[..]);
        assert_eq!(range.before(&b"c"[..]).end.as_deref(), Some(&b"c"[..]));
        assert_eq!(range.before(&b"z"[..]).end.as_deref(), Some(&b"d"[..]));
        assert!(range.before(&b"b"[..]).is_empty());
        assert!(!range.is_empty());
    }

    #[test]
    fn reserved_rows_are_outside_every_visible_range() {
        assert_eq!(KeyRange::all().visible().1, &[RESERVED_PREFIX]);
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]).visible().1, &[RESERVED_PREFIX]);
        assert_eq!(KeyRange::prefix(&b"a"[..]).visible(), (&b"a"[..], &b"b"[..]));
    }
}
