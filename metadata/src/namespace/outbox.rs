//! The outbox: every change of the namespace in commit order, for the publisher.
//!
//! It is read only up to the KV's stable position, so nothing can appear behind a reader. A row's value is a
//! format byte and the record's own bytes, those that the log's leaf commits to. Rows of format 1, from before
//! there were records, lack most of what a record says: they are no entries of the log, and readers pass over
//! them.

use bytes::Bytes;

use super::RowError;
use super::keys::{KeyReader, KeyWriter, Tag};
use super::record::Record;

/// Format byte of a row that holds a record.
const RECORD_FORMAT: u8 = 2;
/// Format byte of rows from before there were records.
const FORMAT_BEFORE_RECORDS: u8 = 1;

/// The row of a record.
#[must_use]
pub fn encode(record: &Record) -> Bytes {
    let mut out = Vec::with_capacity(1 + record.encoded_bytes());
    out.push(RECORD_FORMAT);
    Bytes::from(record.append_to(out))
}

/// The bytes of the record in a row, not decoded; `None` in a row from before there were records.
pub fn record_bytes(row: &Bytes) -> Result<Option<Bytes>, RowError> {
    match row.first() {
        Some(&RECORD_FORMAT) => Ok(Some(row.slice(1..))),
        Some(&FORMAT_BEFORE_RECORDS) => Ok(None),
        Some(format) => Err(RowError { kind: "outbox", reason: format!("format {format} is unknown") }),
        None => Err(RowError { kind: "outbox", reason: "it is empty".into() }),
    }
}

/// What stands before the commit position in an outbox key.
pub fn prefix() -> Bytes {
    KeyWriter::new(Tag::Outbox).finish()
}

/// What stands after it: which of the commit's changes this is.
pub fn suffix(index: u32) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

/// Key of the row of one change.
pub fn key(position: u64, index: u32) -> Bytes {
    KeyWriter::new(Tag::Outbox).u64(position).u32(index).finish()
}

/// Position and index in an outbox key.
pub fn parse_key(key: &[u8]) -> Option<(u64, u32)> {
    let mut reader = KeyReader::new(key, Tag::Outbox)?;
    let position = reader.u64()?;
    let index = reader.u32()?;
    reader.end()?;
    Some((position, index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::record::Operation;
    use crate::namespace::types::{BucketName, UnixMillis};

    #[test]
    fn a_row_gives_the_records_very_bytes() {
        let bucket = BucketName::new("quarry").ok();
        let record = Record { bucket, ..Record::of(Operation::BucketRemoved, UnixMillis(5)) };
        assert_eq!(record_bytes(&encode(&record)).unwrap(), Some(record.encode()));
        assert_eq!(parse_key(&key(9, 4)), Some((9, 4)));
        assert_eq!(&key(9, 4)[..], [&prefix()[..], &9_u64.to_be_bytes(), &suffix(4)].concat());
    }

    #[test]
    fn rows_from_before_there_were_records_are_told_apart() {
        // As written then: operation, bucket, key, version, two digests, time.
        let before = postcard::to_extend(
            &(0_u8, "quarry", "stone", 0_u8, [1_u8; 32], [2_u8; 32], 1_700_000_000_000_i64),
            vec![1],
        );
        assert_eq!(record_bytes(&Bytes::from(before.unwrap())).unwrap(), None);
        assert!(record_bytes(&Bytes::from_static(&[3, 1])).is_err());
        assert!(record_bytes(&Bytes::new()).is_err());
    }
}
