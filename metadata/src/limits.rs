//! The bounds of keys, values, commits and scans, each named, and the error that states which was passed.
//!
//! Invariant: whatever passes [`check_commit`] fits one journal record, and whatever passes [`check_key`]
//! can never collide with a row that the store keeps for itself. Knows nothing of any engine.

use crate::commit::{Check, Commit, Write};

/// Longest key, in bytes. For keys that carry the commit position, its 8 bytes count.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Longest value, in bytes. For values that carry the commit position, its 8 bytes count.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of keys and values that one commit writes: 4.8 KiB for each of 10,000 objects published at once,
/// which is what journal groups have room for. While such a commit is decided and made durable it stands some
/// five times in memory (the caller's rows, the group, the engine's pages twice, the write), and once more for
/// each further journal location: 240 MiB with one.
pub const COMMIT_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Most writes in one commit: 10 for each of 10,000 objects. One that replaces another takes 8.
pub const COMMIT_WRITES_MAX: usize = 100_000;
/// Most checks in one commit.
pub const COMMIT_CHECKS_MAX: usize = 50_000;
/// Most rows that one scan call may ask for.
pub const SCAN_ROWS_MAX: usize = 10_000;
/// A scan stops after the row that reaches this many bytes of keys and values.
pub const SCAN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most keys that one `get_many` may ask for.
pub const GET_KEYS_MAX: usize = 10_000;
/// Keys beginning with this byte belong to the store itself.
pub const RESERVED_PREFIX: u8 = 0xff;

/// A bound that a request passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Keys have at least one byte.
    #[error("an empty key")]
    EmptyKey,
    /// Keys beginning with `0xff` belong to the store itself.
    #[error("a key that begins with 0xff, which is reserved")]
    ReservedKey,
    /// A key longer than [`KEY_BYTES_MAX`].
    #[error("a key of {bytes} bytes, at most {KEY_BYTES_MAX} are allowed")]
    KeyBytes {
        /// Its length.
        bytes: usize,
    },
    /// A value longer than [`VALUE_BYTES_MAX`].
    #[error("a value of {bytes} bytes, at most {VALUE_BYTES_MAX} are allowed")]
    ValueBytes {
        /// Its length.
        bytes: usize,
    },
    /// Keys and values together longer than [`COMMIT_BYTES_MAX`].
    #[error("a commit of {bytes} bytes, at most {COMMIT_BYTES_MAX} are allowed")]
    CommitBytes {
        /// Their length.
        bytes: usize,
    },
    /// More writes than [`COMMIT_WRITES_MAX`].
    #[error("a commit of {writes} writes, at most {COMMIT_WRITES_MAX} are allowed")]
    CommitWrites {
        /// Their number.
        writes: usize,
    },
    /// More checks than [`COMMIT_CHECKS_MAX`].
    #[error("a commit with {checks} checks, at most {COMMIT_CHECKS_MAX} are allowed")]
    CommitChecks {
        /// Their number.
        checks: usize,
    },
    /// A scan for more rows than [`SCAN_ROWS_MAX`], or for none.
    #[error("a scan for {rows} rows, between 1 and {SCAN_ROWS_MAX} are allowed")]
    ScanRows {
        /// The rows asked for.
        rows: usize,
    },
    /// A read of more keys than [`GET_KEYS_MAX`].
    #[error("a read of {keys} keys, at most {GET_KEYS_MAX} are allowed")]
    GetKeys {
        /// Their number.
        keys: usize,
    },
}

/// Accepts a key that a caller may read or write.
pub(crate) fn check_key(key: &[u8]) -> Result<(), LimitError> {
    check_key_parts(key, 0)
}

fn check_key_parts(head: &[u8], more_bytes: usize) -> Result<(), LimitError> {
    let bytes = head.len() + more_bytes;
    match head.first() {
        _ if bytes > KEY_BYTES_MAX => Err(LimitError::KeyBytes { bytes }),
        None => Err(LimitError::EmptyKey),
        Some(&RESERVED_PREFIX) => Err(LimitError::ReservedKey),
        Some(_) => Ok(()),
    }
}

fn check_value(bytes: usize) -> Result<usize, LimitError> {
    if bytes > VALUE_BYTES_MAX { Err(LimitError::ValueBytes { bytes }) } else { Ok(bytes) }
}

/// Accepts a commit within every bound; answers the bytes of keys and values that it writes.
pub(crate) fn check_commit(commit: &Commit) -> Result<usize, LimitError> {
    if commit.writes.len() > COMMIT_WRITES_MAX {
        return Err(LimitError::CommitWrites { writes: commit.writes.len() });
    }
    if commit.checks.len() > COMMIT_CHECKS_MAX {
        return Err(LimitError::CommitChecks { checks: commit.checks.len() });
    }
    for check in &commit.checks {
        let (Check::Absent(key) | Check::Present(key) | Check::At(key, _)) = check;
        check_key(key)?;
    }
    let mut bytes = 0;
    for write in &commit.writes {
        bytes += match write {
            Write::Put { key, value } => {
                check_key(key)?;
                key.len() + check_value(value.len())?
            }
            Write::PutAtPosition { key_prefix, key_suffix, value } => {
                check_key_parts(key_prefix, 8 + key_suffix.len())?;
                key_prefix.len() + 8 + key_suffix.len() + check_value(value.len())?
            }
            Write::PutWithPosition { key, value_prefix, value_suffix } => {
                check_key(key)?;
                key.len() + check_value(value_prefix.len() + 8 + value_suffix.len())?
            }
            Write::Delete { key } => {
                check_key(key)?;
                key.len()
            }
        };
    }
    if bytes > COMMIT_BYTES_MAX {
        return Err(LimitError::CommitBytes { bytes });
    }
    Ok(bytes)
}

/// Accepts a number of rows that one scan may ask for.
pub(crate) fn check_scan_rows(rows: usize) -> Result<(), LimitError> {
    if (1..=SCAN_ROWS_MAX).contains(&rows) { Ok(()) } else { Err(LimitError::ScanRows { rows }) }
}

/// Accepts a number of keys that one read may ask for.
pub(crate) fn check_get_keys(keys: usize) -> Result<(), LimitError> {
    if keys > GET_KEYS_MAX { Err(LimitError::GetKeys { keys }) } else { Ok(()) }
}
