//! Lines of canonical JSON: how any of them is written and read.
//!
//! Invariant: what is read encodes to the very bytes that were read, so that fields in another order, twice, with white space
//! or in another spelling are refused. Does not know what lines say.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes of one line, its end not counted.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is too long.
    #[error("more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JSON of the form that is wanted.
    #[error("{reason}")]
    Form {
        /// What the parser says, with the column.
        reason: String,
    },
    /// It says something in another spelling than the one that it has.
    #[error("not in its canonical spelling, which is {canonical}")]
    Spelling {
        /// How it is written, cut to 200 characters.
        canonical: String,
    },
    /// Something in it is out of bounds, or does not fit the header.
    #[error("{reason}")]
    Value {
        /// What.
        reason: &'static str,
    },
    /// Rows ascend.
    #[error("row {row} does not come after row {before}")]
    Order {
        /// The row.
        row: u64,
        /// The one before it.
        before: u64,
    },
}

/// Why bytes are no rows of a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitDataError {
    /// There is no header.
    #[error("there is no line")]
    Empty,
    /// Too long altogether.
    #[error("{bytes} bytes, and {maximum} are the most")]
    TooLong {
        /// So long.
        bytes: usize,
        /// So long it may be.
        maximum: usize,
    },
    /// Too many rows.
    #[error("more than {maximum} rows")]
    TooManyRows {
        /// So many there may be.
        maximum: usize,
    },
    /// The last line has no end.
    #[error("line {line} has no end")]
    Unfinished {
        /// Its number, from 1.
        line: u64,
    },
    /// A line is wrong.
    #[error("line {line}: {error}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        error: LineError,
    },
}

/// Reads one line, without its end.
pub(super) fn read<T: Serialize + DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError::TooLong);
    }
    let value: T =
        serde_json::from_slice(line).map_err(|error| LineError::Form { reason: error.to_string() })?;
    let canonical = text(&value);
    if canonical.as_bytes() != line {
        return Err(LineError::Spelling { canonical: canonical.chars().take(200).collect() });
    }
    Ok(value)
}

/// The one spelling of a value.
pub(super) fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("lines have text keys and finite numbers")
}

/// All lines of a file with their numbers, the last one ended.
pub(super) fn split(bytes: &[u8], bytes_max: usize) -> Result<Vec<(u64, &[u8])>, UnitDataError> {
    if bytes.len() > bytes_max {
        return Err(UnitDataError::TooLong { bytes: bytes.len(), maximum: bytes_max });
    }
    let mut lines: Vec<(u64, &[u8])> = (1..).zip(bytes.split(|byte| *byte == b'\n')).collect();
    match lines.pop() {
        Some((1, [])) | None => Err(UnitDataError::Empty),
        Some((_, [])) if lines.len() > super::ROWS_MAX + 1 => {
            Err(UnitDataError::TooManyRows { maximum: super::ROWS_MAX })
        }
        Some((_, [])) => Ok(lines),
        Some((line, _)) => Err(UnitDataError::Unfinished { line }),
    }
}

/// Puts lines together again.
pub(super) fn join(
    header: String,
    rows: impl ExactSizeIterator<Item = String>,
    bytes_max: usize,
) -> Result<Vec<u8>, UnitDataError> {
    if rows.len() > super::ROWS_MAX {
        return Err(UnitDataError::TooManyRows { maximum: super::ROWS_MAX });
    }
    let mut bytes = header.into_bytes();
    bytes.push(b'\n');
    for (line, row) in (2..).zip(rows) {
        if row.len() > LINE_BYTES_MAX {
            return Err(UnitDataError::Line { line, error: LineError::TooLong });
        }
        bytes.extend(row.as_bytes());
        bytes.push(b'\n');
        if bytes.len() > bytes_max {
            return Err(UnitDataError::TooLong { bytes: bytes.len(), maximum: bytes_max });
        }
    }
    Ok(bytes)
}
