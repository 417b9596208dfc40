//! The committed vectors of `docs/formats/record.md`: computes them again and compares.
//!
//! A difference means that the format changed, and with it every leaf ever anchored. Where that is meant,
//! `ASHLAR_WRITE_VECTORS=1 cargo test -p ashlar-objects vectors` writes the file anew.

use std::collections::BTreeMap;

use ashlar_metadata::namespace::blobs::BlobId;
use ashlar_metadata::namespace::locks::{Lock, Retention, RetentionMode};
use ashlar_metadata::namespace::manifests::{ManifestId, PartRef};
use ashlar_metadata::namespace::versions::{ObjectRow, VersionRow};
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::types::{
    Attributes, BucketName, Checksum, ChecksumAlgorithm, ChecksumType, ETag, ObjectKey, Tags, UnixMillis,
    VersionId,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats/vectors/record.json");
const TIME: UnixMillis = UnixMillis(1_764_000_000_123);

fn bucket() -> BucketName {
    BucketName::new("quarry").unwrap()
}

fn key() -> ObjectKey {
    ObjectKey::new("slabs/é 1").unwrap()
}

fn parts(count: u32) -> Vec<PartRef> {
    let part = |number: u32| PartRef {
        number,
        blob: BlobId(u128::from(number) << 64 | 7),
        length: 5 << 20,
        blob_root: [number as u8; 32],
        etag: None,
        checksum: None,
    };
    (1..=count).map(part).collect()
}

fn object(attributes: Attributes, tags: &[(&str, &str)]) -> ObjectRow {
    let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ObjectRow {
        manifest: ManifestId(1),
        length: 10 << 20,
        etag: ETag::Multipart([0xab; 16], 2),
        checksum: None,
        attributes,
        tags: Tags(tags.collect()),
        acl: None,
        object_root: [2; 32],
        content_root: [1; 32],
    }
}

fn version(id: VersionId, object: Option<ObjectRow>) -> VersionRow {
    VersionRow { id, modified: TIME, owner: "0f".repeat(32), object, lock: Lock::default(), log: None }
}

/// A version with everything a version can have.
fn full() -> VersionRow {
    let text = |text: &str| Some(text.to_owned());
    let attributes = Attributes {
        content_type: text("text/plain; charset=utf-8"),
        cache_control: text("no-cache"),
        content_disposition: text("inline"),
        content_encoding: text("gzip"),
        content_language: text("en"),
        expires: text("Wed, 21 Oct 2026 07:28:00 GMT"),
        website_redirect: text("/elsewhere"),
        storage_class: text("GLACIER"),
        user: BTreeMap::from([("mason".to_owned(), "José".to_owned()), ("a".to_owned(), String::new())]),
    };
    let mut object = object(attributes, &[("layer", "3"), ("Layer", "4")]);
    object.acl = text("{\"owner\":\"x\"}");
    object.checksum = Some(Checksum {
        algorithm: ChecksumAlgorithm::Crc32c,
        kind: ChecksumType::Composite,
        value: vec![1, 2, 3, 4],
        parts: Some(2),
    });
    let mut row = version(VersionId::Id((3 << 64) | 0xfeed), Some(object));
    let until = UnixMillis(1_800_000_000_000);
    let retention = Some(Retention { mode: RetentionMode::Compliance, until });
    row.lock = Lock { retention, legal_hold: Some(true) };
    row
}

/// The pairs that the text asks for, written out by hand.
fn full_pairs() -> Value {
    json!([
        ["acl", "{\"owner\":\"x\"}"],
        ["cache-control", "no-cache"],
        ["checksum-crc32c", "AQIDBA==-2"],
        ["checksum-type", "COMPOSITE"],
        ["content-disposition", "inline"],
        ["content-encoding", "gzip"],
        ["content-language", "en"],
        ["content-type", "text/plain; charset=utf-8"],
        ["etag", "abababababababababababababababab-2"],
        ["expires", "Wed, 21 Oct 2026 07:28:00 GMT"],
        ["legal-hold", "ON"],
        ["meta:a", ""],
        ["meta:mason", "José"],
        ["owner", "0f".repeat(32)],
        ["retain-until", "1800000000000"],
        ["retention-mode", "COMPLIANCE"],
        ["storage-class", "GLACIER"],
        ["tag:Layer", "4"],
        ["tag:layer", "3"],
        ["website-redirect", "/elsewhere"]
    ])
}

fn records() -> Vec<(&'static str, Record)> {
    let put = |row: &VersionRow, root| of_put(&bucket(), &key(), row, row.object.as_ref().unwrap(), root);
    let plain = version(VersionId::Null, Some(object(Attributes::default(), &[])));
    let marker = version(VersionId::Id(4 << 64), None);
    vec![
        ("a put of the null version", put(&plain, manifest_root(&parts(1)))),
        ("a put with everything", put(&full(), manifest_root(&parts(2)))),
        ("a marker", of_mark(&bucket(), &key(), &marker)),
        ("a version removed", of_removal(&bucket(), &key(), &full(), UnixMillis(TIME.0 + 5))),
        ("a marker removed", of_removal(&bucket(), &key(), &marker, UnixMillis(TIME.0 + 6))),
        ("a bucket set", of_bucket(&bucket(), rows_digest(&rows()), TIME)),
        ("a bucket removed", of_bucket_removed(&bucket(), TIME)),
        ("a cluster map", of_cluster_map(b"a map's row", TIME)),
    ]
}

fn rows() -> Vec<(Bytes, Bytes)> {
    let row = |key: &'static [u8], value: &'static [u8]| (Bytes::from_static(key), Bytes::from_static(value));
    vec![row(b"\x01quarry\0\0", b"\x01row"), row(b"\x13\0\0\0\0\0\0\0\x01\x02", b"{}")]
}

fn record_vector((what, record): &(&str, Record)) -> Value {
    let version = match record.version {
        VersionId::Null => 0,
        VersionId::Id(id) => id,
    };
    json!({
        "what": what,
        "fields": {
            "operation": record.operation as u8, "time": record.time, "version": format!("{version:032x}"),
            "length": record.length, "content_root": hex::encode(record.content_root),
            "object_root": hex::encode(record.object_root), "manifest_root": hex::encode(record.manifest_root),
            "metadata_digest": hex::encode(record.metadata_digest),
            "bucket": record.bucket.as_ref().map_or("", |name| name.as_str()),
            "key": record.key.as_ref().map_or("", |name| name.as_str()),
        },
        "record": hex::encode(record.encode()),
    })
}

/// Byte strings close to records that are none.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let put = records()[1].1.encode().to_vec();
    let with = |at: usize, byte: u8| {
        let mut bytes = put.clone();
        bytes[at] = byte;
        bytes
    };
    vec![
        ("no bytes", Vec::new()),
        ("the last byte missing", put[..put.len() - 1].to_vec()),
        ("a byte too many", [&put[..], b"x"].concat()),
        ("another format", with(0, 2)),
        ("operation 0", with(1, 0)),
        ("operation 7", with(1, 7)),
        ("a put said to be a marker", with(1, 2)),
        ("a put said to be a removal", with(1, 3)),
        ("a put said to be of a bucket", with(1, 4)),
        ("a put said to be of the cluster map", with(1, 6)),
        ("a bucket's name that begins with a capital", with(164, b'Q')),
        ("a key that is not UTF-8", with(put.len() - 1, 0xff)),
        ("a bucket longer than the rest", with(162, 0xff)),
    ]
}

fn vectors() -> Value {
    let manifest = |parts: Vec<PartRef>| {
        let each: Vec<_> = parts
            .iter()
            .map(|part| {
                json!({ "number": part.number, "blob": format!("{:032x}", part.blob.0), "length": part.length,
                    "blob_root": hex::encode(part.blob_root) })
            })
            .collect();
        json!({ "parts": each, "manifest_root": hex::encode(manifest_root(&parts)) })
    };
    let marker = version(VersionId::Null, None);
    let (namespace_key, registry, namespace) = ([9; 32], [0xaa; 20], [0xbb; 32]);
    let salt_key = salt_key(&namespace_key);
    let entry = |position: u64, index: u32, record: &Record| {
        let salt = entry_salt(&salt_key, position, index);
        let record = record.encode();
        let leaf =
            entry_leaf(31_337, &registry, &namespace, (position, index), &record_digest(&salt, &record));
        json!({ "namespace_key": hex::encode(namespace_key), "salt_key": hex::encode(salt_key),
            "position": position, "index": index, "chain_id": 31_337, "registry": hex::encode(registry),
            "namespace": hex::encode(namespace), "salt": hex::encode(salt), "record": hex::encode(&record),
            "leaf": hex::encode(leaf) })
    };
    let records = records();
    json!({
        "about": "Vectors of docs/formats/record.md. Byte strings are hexadecimal; times are Unix milliseconds.",
        "records": records.iter().map(record_vector).collect::<Vec<_>>(),
        "refused": refused().iter().map(|(what, bytes)| json!({ "what": what, "bytes": hex::encode(bytes) })).collect::<Vec<_>>(),
        "manifests": [manifest(Vec::new()), manifest(parts(1)), manifest(parts(3))],
        "versions": [
            { "what": "everything", "pairs": full_pairs(), "metadata_digest": hex::encode(metadata_digest(&full())) },
            { "what": "a marker", "pairs": [["owner", "0f".repeat(32)]], "metadata_digest": hex::encode(metadata_digest(&marker)) },
        ],
        "buckets": [{
            "rows": rows().iter().map(|(key, value)| [hex::encode(key), hex::encode(value)]).collect::<Vec<_>>(),
            "metadata_digest": hex::encode(rows_digest(&rows())),
        }],
        "entries": [entry(0, 0, &records[2].1), entry(u64::MAX, u32::MAX, &records[1].1), entry(77, 9_999, &records[5].1)],
    })
}

#[test]
fn vectors_are_as_committed() {
    let computed = serde_json::to_string_pretty(&vectors()).unwrap() + "\n";
    if std::env::var_os("ASHLAR_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, &computed).unwrap();
    }
    assert_eq!(std::fs::read_to_string(FILE).unwrap(), computed, "the format of records changed");
}

#[test]
fn what_is_listed_as_no_record_is_refused() {
    for (what, bytes) in refused() {
        assert!(Record::decode(&bytes).is_err(), "{what}");
    }
    for (what, record) in records() {
        assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(&record), "{what}");
    }
}

/// The digest is over the pairs that the text lists, in its order.
#[test]
fn the_digest_of_a_version_is_that_of_its_pairs() {
    let mut bytes = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for pair in full_pairs().as_array().unwrap() {
        let (name, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        bytes.extend_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(value.as_bytes());
        names.push(name.to_owned());
    }
    assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(metadata_digest(&full()), *blake3::hash(&bytes).as_bytes());
}
