//! From a [`Commit`] and a position to the exact row changes it makes; the rows the store keeps for itself.
//!
//! Invariant: the changes depend on the commit and its position alone, so what is written to a journal and
//! replayed equals what was applied. Knows nothing of where rows are kept.

use bytes::{BufMut, Bytes, BytesMut};

use crate::commit::{Commit, CommitError, TransactionId, Write};
use crate::limits::RESERVED_PREFIX;
use crate::ordered_kv::Position;

/// One row set (`Some`) or removed (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

/// Transaction id → (the row's version is the position).
const TRANSACTION: u8 = b't';
/// Position, transaction id → nothing: the order in which ids are forgotten.
const TRANSACTION_AGE: u8 = b'u';

/// Key of the row that records that a transaction happened; its version says where.
pub(crate) fn transaction_key(id: TransactionId) -> Bytes {
    let mut key = BytesMut::with_capacity(18);
    key.put_slice(&[RESERVED_PREFIX, TRANSACTION]);
    key.put_slice(&id.0);
    key.freeze()
}

fn transaction_age_key(position: Position, id: TransactionId) -> Bytes {
    let mut key = BytesMut::with_capacity(26);
    key.put_slice(&[RESERVED_PREFIX, TRANSACTION_AGE]);
    key.put_slice(&position.to_be_bytes());
    key.put_slice(&id.0);
    key.freeze()
}

/// Start and excluded end of the age rows of transactions below `below`.
pub(crate) fn transaction_ages_below(below: Position) -> (Bytes, Bytes) {
    let mut end = BytesMut::with_capacity(10);
    end.put_slice(&[RESERVED_PREFIX, TRANSACTION_AGE]);
    let start = end.clone().freeze();
    end.put_slice(&below.to_be_bytes());
    (start, end.freeze())
}

/// The changes that forget the transactions of these age rows.
pub(crate) fn forget_transactions(age_keys: &[Bytes]) -> Vec<Change> {
    let mut changes = Vec::with_capacity(age_keys.len() * 2);
    for age_key in age_keys {
        let id = age_key.last_chunk::<16>().expect("age rows are made here, with an id at the end");
        changes.push(Change { key: age_key.clone(), value: None });
        changes.push(Change { key: transaction_key(TransactionId(*id)), value: None });
    }
    changes
}

/// The first check that does not hold, given what `version_of` finds under a key.
pub(crate) fn first_conflict<E>(
    commit: &Commit,
    mut version_of: impl FnMut(&Bytes) -> Result<Option<Position>, E>,
) -> Result<Option<CommitError>, E> {
    for (check, condition) in commit.checks.iter().enumerate() {
        let found = version_of(condition.key())?;
        if !condition.holds(found) {
            return Ok(Some(CommitError::Conflict { check, found }));
        }
    }
    Ok(None)
}

/// The row changes of `commit` at `position`, in order.
pub(crate) fn changes(commit: Commit, position: Position) -> Vec<Change> {
    let mut changes = Vec::with_capacity(commit.writes.len() + 2);
    for write in commit.writes {
        changes.push(match write {
            Write::Put { key, value } => Change { key, value: Some(value) },
            Write::PutAtPosition { key_prefix, key_suffix, value } => {
                Change { key: around(&key_prefix, position, &key_suffix), value: Some(value) }
            }
            Write::PutWithPosition { key, value_prefix, value_suffix } => {
                Change { key, value: Some(around(&value_prefix, position, &value_suffix)) }
            }
            Write::Delete { key } => Change { key, value: None },
        });
    }
    if let Some(id) = commit.transaction {
        changes.push(Change { key: transaction_key(id), value: Some(Bytes::new()) });
        changes.push(Change { key: transaction_age_key(position, id), value: Some(Bytes::new()) });
    }
    changes
}

fn around(prefix: &[u8], position: Position, suffix: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(prefix.len() + 8 + suffix.len());
    bytes.put_slice(prefix);
    bytes.put_slice(&position.to_be_bytes());
    bytes.put_slice(suffix);
    bytes.freeze()
}
