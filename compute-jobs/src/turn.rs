//! One try at a change of rows: what it read, what it writes, and whether that still held.
//!
//! Invariant: every row that a turn got is checked when it commits, so that turns take effect one after the other; a lost
//! answer is asked for until it is known. Does not know what rows mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ashlar_metadata::namespace::{NamespaceRow, RowError};
use ashlar_metadata::{
    Check, Commit, CommitError, Direction, KeyRange, OrderedKv, Outcome, Page, Position, ReadError, Snapshot,
    TransactionId, Write,
};
use bytes::Bytes;

use crate::rows;

/// Times that a change is tried again after losing a race.
pub(crate) const TURNS_MAX: u32 = 50;
/// Times that an unknown outcome is asked for.
const OUTCOME_QUESTIONS_MAX: u32 = 20;

/// Why rows were not read or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RowsError {
    /// Another coordinates now.
    #[error("another process coordinates the jobs")]
    Fenced,
    /// Metadata could not be read.
    #[error("jobs cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A row does not read.
    #[error("{0}")]
    Row(Arc<RowError>),
    /// Metadata took no commit, or nobody knows.
    #[error("jobs cannot be changed: {reason}")]
    Commit {
        /// Why.
        reason: String,
    },
    /// It lost every race.
    #[error("too many changed the same job at once")]
    Contended,
}

impl From<RowError> for RowsError {
    fn from(error: RowError) -> Self {
        Self::Row(Arc::new(error))
    }
}

/// The right to coordinate, as long as nobody else took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// Of the term's row, since this process wrote it.
    pub(crate) version: Position,
    pub(crate) number: u64,
}

/// A change being put together on one snapshot.
pub(crate) struct Turn {
    kv: Arc<dyn OrderedKv>,
    snapshot: Arc<dyn Snapshot>,
    checks: Vec<Check>,
    /// What was written in this turn, by key, in the order of keys' first writes.
    written: HashMap<Bytes, Option<Bytes>>,
    order: Vec<Bytes>,
    is_termed: bool,
}

impl Turn {
    /// A turn of anybody.
    pub(crate) async fn begin(kv: &Arc<dyn OrderedKv>) -> Result<Self, RowsError> {
        let snapshot = kv.snapshot().await?;
        let kv = Arc::clone(kv);
        Ok(Self {
            kv,
            snapshot,
            checks: Vec::new(),
            written: HashMap::new(),
            order: Vec::new(),
            is_termed: false,
        })
    }

    /// A turn of who coordinates.
    pub(crate) async fn of_term(kv: &Arc<dyn OrderedKv>, term: Term) -> Result<Self, RowsError> {
        let mut turn = Self::begin(kv).await?;
        // Looked at now as well, so that who is fenced learns it although it has nothing to write.
        let found = turn.snapshot.get(&rows::term()).await?;
        if found.is_none_or(|row| row.version != term.version) {
            return Err(RowsError::Fenced);
        }
        turn.checks.push(Check::At(rows::term(), term.version));
        turn.is_termed = true;
        Ok(turn)
    }

    /// A row as it stands, this turn's own writes included. It is checked that it stays so.
    pub(crate) async fn get<R: NamespaceRow>(&mut self, key: &Bytes) -> Result<Option<R>, RowsError> {
        if let Some(written) = self.written.get(key) {
            return Ok(written.as_ref().map(|bytes| R::decode(bytes)).transpose()?);
        }
        let found = self.snapshot.get(key).await?;
        self.checks.push(match &found {
            None => Check::Absent(key.clone()),
            Some(row) => Check::At(key.clone(), row.version),
        });
        Ok(found.map(|row| R::decode(&row.value)).transpose()?)
    }

    /// A row as it stood when the turn began; nobody checks it.
    pub(crate) async fn peek<R: NamespaceRow>(&self, key: &[u8]) -> Result<Option<R>, RowsError> {
        peek(&*self.snapshot, key).await
    }

    pub(crate) async fn scan(&self, range: KeyRange, limit: usize) -> Result<Page, RowsError> {
        Ok(self.snapshot.scan(range, Direction::Forward, limit).await?)
    }

    pub(crate) fn put<R: NamespaceRow>(&mut self, key: Bytes, row: &R) {
        self.write(key, Some(row.encode()));
    }

    pub(crate) fn put_bytes(&mut self, key: Bytes, value: Bytes) {
        self.write(key, Some(value));
    }

    pub(crate) fn delete(&mut self, key: Bytes) {
        self.write(key, None);
    }

    fn write(&mut self, key: Bytes, value: Option<Bytes>) {
        if self.written.insert(key.clone(), value).is_none() {
            self.order.push(key);
        }
    }

    /// Commits. `None`: something that was got has changed, and nothing happened.
    pub(crate) async fn commit(mut self) -> Result<Option<Position>, RowsError> {
        let write = |key: Bytes| match self.written.remove(&key).flatten() {
            Some(value) => Write::Put { key, value },
            None => Write::Delete { key },
        };
        let writes = std::mem::take(&mut self.order).into_iter().map(write).collect();
        let id = TransactionId(rand::random());
        let commit = Commit { checks: self.checks, writes, transaction: Some(id) };
        // Gone before the commit: old rows need not be kept for it.
        drop(self.snapshot);
        match self.kv.commit(commit).await {
            Ok(position) => Ok(Some(position)),
            Err(CommitError::Conflict { check: 0, .. }) if self.is_termed => Err(RowsError::Fenced),
            Err(CommitError::Conflict { .. }) => Ok(None),
            Err(CommitError::Unknown { cause }) => {
                tracing::warn!(%cause, "the outcome of a job's change is not known; asking for it");
                outcome(&self.kv, id).await
            }
            Err(error) => Err(RowsError::Commit { reason: error.to_string() }),
        }
    }
}

/// A row of a snapshot.
pub(crate) async fn peek<R: NamespaceRow>(
    snapshot: &dyn Snapshot,
    key: &[u8],
) -> Result<Option<R>, RowsError> {
    Ok(snapshot.get(key).await?.map(|row| R::decode(&row.value)).transpose()?)
}

async fn outcome(kv: &Arc<dyn OrderedKv>, id: TransactionId) -> Result<Option<Position>, RowsError> {
    for question in 0..OUTCOME_QUESTIONS_MAX {
        match kv.outcome(id).await {
            Ok(Outcome::Committed(position)) => return Ok(Some(position)),
            Ok(Outcome::NotCommitted) => return Ok(None),
            Err(ReadError::Poisoned { .. }) => break,
            Err(error) => {
                tracing::warn!(%error, question, "the outcome is still not known");
                tokio::time::sleep(Duration::from_millis(50 << question.min(6))).await;
            }
        }
    }
    Err(RowsError::Commit { reason: "whether it was made is not known".to_owned() })
}

/// Waits before a turn, longer the more were lost.
pub(crate) async fn back_off(turn: u32) {
    if turn > 1 {
        let most = 1_u64 << turn.min(6);
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..=most * 700))).await;
    }
}
