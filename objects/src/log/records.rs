//! From rows to records: what the log says of each kind of change.
//!
//! Invariant: the record of a put or a mark follows from the version's row and its manifest alone, so that it can
//! be told again when its outbox row is trimmed. So its time is the version's own.

use ashlar_metadata::namespace::record::{Operation, Record};
use ashlar_metadata::namespace::versions::{ObjectRow, VersionRow};
use bytes::Bytes;

use super::metadata_digest::{List, metadata_digest};
use crate::types::{BucketName, ObjectKey, UnixMillis};

fn of_version(operation: Operation, bucket: &BucketName, key: &ObjectKey, row: &VersionRow) -> Record {
    Record {
        version: row.id,
        bucket: Some(bucket.clone()),
        key: Some(key.clone()),
        ..Record::of(operation, row.modified)
    }
}

/// A version that is `object`, as its row says.
pub(crate) fn of_put(
    bucket: &BucketName,
    key: &ObjectKey,
    row: &VersionRow,
    object: &ObjectRow,
    manifest_root: [u8; 32],
) -> Record {
    Record {
        length: object.length,
        content_root: object.content_root,
        object_root: object.object_root,
        manifest_root,
        metadata_digest: metadata_digest(row),
        ..of_version(Operation::Put, bucket, key, row)
    }
}

/// A delete marker.
pub(crate) fn of_mark(bucket: &BucketName, key: &ObjectKey, row: &VersionRow) -> Record {
    Record { metadata_digest: metadata_digest(row), ..of_version(Operation::Mark, bucket, key, row) }
}

/// A version or marker that goes; it says which bytes it had.
pub(crate) fn of_removal(bucket: &BucketName, key: &ObjectKey, row: &VersionRow, now: UnixMillis) -> Record {
    let mut record = Record {
        time: Record::of(Operation::Remove, now).time,
        ..of_version(Operation::Remove, bucket, key, row)
    };
    if let Some(object) = &row.object {
        record.length = object.length;
        record.content_root = object.content_root;
        record.object_root = object.object_root;
    }
    record
}

/// A bucket as it now is; `digest` is [`rows_digest`] of its rows.
pub(crate) fn of_bucket(bucket: &BucketName, digest: [u8; 32], now: UnixMillis) -> Record {
    Record { bucket: Some(bucket.clone()), metadata_digest: digest, ..Record::of(Operation::BucketSet, now) }
}

/// A bucket that went.
pub(crate) fn of_bucket_removed(bucket: &BucketName, now: UnixMillis) -> Record {
    Record { bucket: Some(bucket.clone()), ..Record::of(Operation::BucketRemoved, now) }
}

/// A cluster map, by its row's bytes.
pub(crate) fn of_cluster_map(row: &[u8], now: UnixMillis) -> Record {
    Record { metadata_digest: *blake3::hash(row).as_bytes(), ..Record::of(Operation::ClusterMap, now) }
}

/// The digest of rows in byte order of their keys.
pub(crate) fn rows_digest(rows: &[(Bytes, Bytes)]) -> [u8; 32] {
    let mut list = List::default();
    for (key, value) in rows {
        list.pair(&[key], value);
    }
    list.digest()
}
