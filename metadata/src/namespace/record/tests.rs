//! Records read back as they were written, and nothing else reads.

use proptest::prelude::*;

use super::*;

fn digests() -> impl Strategy<Value = [u8; 32]> {
    prop_oneof![Just(NO_DIGEST), any::<[u8; 32]>()]
}

fn versions() -> impl Strategy<Value = VersionId> {
    prop_oneof![Just(VersionId::Null), (1_u128..).prop_map(VersionId::Id)]
}

prop_compose! {
    fn objects()(time: u64, version in versions(), length: u64, content_root in digests(), object_root in digests(),
        manifest_root in digests(), metadata_digest in digests(), bucket in "[a-z0-9]{3,63}", key in "\\PC{1,40}",
    ) -> Record {
        let (bucket, key) = (BucketName::new(&bucket).ok(), ObjectKey::new(&key).ok());
        let operation = Operation::Put;
        Record { operation, time, version, length, content_root, object_root, manifest_root, metadata_digest, bucket, key }
    }
}

/// Valid records of every operation.
fn records() -> impl Strategy<Value = Record> {
    (objects(), 0..Operation::ALL.len()).prop_map(|(full, at)| {
        let operation = Operation::ALL[at];
        let mut record = Record { operation, time: full.time, ..Record::of(operation, UnixMillis(0)) };
        if operation != Operation::ClusterMap {
            record.bucket = full.bucket.clone();
        }
        if operation.is_of_version() {
            (record.version, record.key) = (full.version, full.key.clone());
        }
        if !matches!(operation, Operation::Remove | Operation::BucketRemoved) {
            record.metadata_digest = full.metadata_digest;
        }
        match operation {
            Operation::Put => full,
            Operation::Remove => Record {
                length: full.length,
                content_root: full.content_root,
                object_root: full.object_root,
                ..record
            },
            _ => record,
        }
    })
}

fn whole() -> Record {
    Record {
        version: VersionId::Id(7 << 64),
        length: 4096,
        content_root: [1; 32],
        object_root: [2; 32],
        manifest_root: [3; 32],
        metadata_digest: [4; 32],
        bucket: BucketName::new("quarry").ok(),
        key: ObjectKey::new("a/é").ok(),
        ..Record::of(Operation::Put, UnixMillis(1_700_000_000_123))
    }
}

proptest! {
    #[test]
    fn records_read_back(record in records()) {
        let bytes = record.encode();
        prop_assert_eq!(bytes.len(), record.encoded_bytes());
        prop_assert!(bytes.len() <= RECORD_BYTES_MAX);
        prop_assert_eq!(Record::decode(&bytes), Ok(record));
    }

    #[test]
    fn what_reads_has_one_encoding(record in records(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = record.encode().to_vec();
        prop_assert!(Record::decode(&bytes[..cut.index(bytes.len())]).is_err(), "a record that ends early");
        prop_assert!(Record::decode(&[&bytes[..], &[byte]].concat()).is_err(), "a record that goes on");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Record::decode(&bytes) {
            prop_assert_eq!(&read.encode()[..], &bytes[..]);
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), operation in 0_u8..8) {
        let _ = Record::decode(&bytes);
        let mut bytes = bytes;
        if bytes.len() > 1 {
            (bytes[0], bytes[1]) = (FORMAT, operation);
        }
        if let Ok(read) = Record::decode(&bytes) {
            prop_assert_eq!(&read.encode()[..], &bytes[..]);
        }
    }
}

#[test]
fn the_layout_is_the_one_of_the_text() {
    let bytes = whole().encode();
    assert_eq!(&bytes[..2], [1, 1]);
    assert_eq!(&bytes[2..10], 1_700_000_000_123_u64.to_be_bytes());
    assert_eq!(&bytes[10..26], (7_u128 << 64).to_be_bytes());
    assert_eq!(&bytes[26..34], 4096_u64.to_be_bytes());
    assert_eq!(&bytes[34..162], [[1; 32], [2; 32], [3; 32], [4; 32]].concat());
    assert_eq!(&bytes[162..], b"\0\x06quarry\0\x04a/\xc3\xa9");
}

#[test]
fn one_byte_more_or_less_is_no_record() {
    let bytes = whole().encode();
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Record::decode(&longer), Err(RecordError::Length { bytes: bytes.len() + 1 }));
    for end in 0..bytes.len() {
        assert!(Record::decode(&bytes[..end]).is_err(), "cut to {end} bytes");
    }
}

#[test]
fn other_formats_operations_and_names_are_refused() {
    let with = |at: usize, byte: u8| {
        let mut bytes = whole().encode().to_vec();
        bytes[at] = byte;
        Record::decode(&bytes)
    };
    assert_eq!(with(0, 2), Err(RecordError::Format { format: 2 }));
    for operation in [0, 7, 255] {
        assert_eq!(with(1, operation), Err(RecordError::Operation { operation }));
    }
    assert_eq!(with(164, b'_'), Err(RecordError::Name { field: "bucket" }), "not a bucket's name");
    assert_eq!(with(174, 0xff), Err(RecordError::Name { field: "key" }), "not UTF-8");
    for lost in [Record { key: None, ..whole() }, Record { bucket: None, ..whole() }] {
        assert!(matches!(Record::decode(&lost.encode()), Err(RecordError::Name { .. })));
    }
}

#[test]
fn what_does_not_apply_must_be_zero() {
    let inapplicable = |record: Record| match Record::decode(&record.encode()) {
        Err(RecordError::Inapplicable { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let full = whole();
    assert_eq!(inapplicable(Record { operation: Operation::Mark, ..full.clone() }), "length");
    assert_eq!(inapplicable(Record { operation: Operation::Remove, ..full.clone() }), "manifest_root");
    for operation in [Operation::BucketSet, Operation::BucketRemoved, Operation::ClusterMap] {
        assert_eq!(inapplicable(Record { operation, ..full.clone() }), "version");
    }
    let bucket = Record { bucket: full.bucket.clone(), ..Record::of(Operation::BucketSet, UnixMillis(1)) };
    assert!(Record::decode(&bucket.encode()).is_ok());
    assert_eq!(inapplicable(Record { key: full.key.clone(), ..bucket.clone() }), "key");
    let digest = Record { operation: Operation::BucketRemoved, metadata_digest: [1; 32], ..bucket.clone() };
    assert_eq!(inapplicable(digest), "metadata_digest");
    assert_eq!(inapplicable(Record { operation: Operation::ClusterMap, ..bucket }), "bucket");
}

#[test]
fn times_before_1970_count_as_1970() {
    assert_eq!(Record::of(Operation::Mark, UnixMillis(-5)).time, 0);
}
