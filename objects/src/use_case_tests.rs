//! The use cases as a front door meets them, on memory.

mod interleaved;
mod lifecycle;
mod locks;
mod log;
mod ownership;
mod pinning;
mod rights;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use ashlar_metadata::MemoryKv;
use ashlar_storage_node::MemoryNode;
use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::Error;
use crate::access::RequestContext;
use crate::clock::Clock;
use crate::object_lock::Lock;
use crate::requests::{
    CompleteUpload, CompletedPart, CopyObject, CreateBucket, CreateUpload, DeleteObject, ListObjects,
    ListVersions, ObjectName, Payload, PutObject, ReadObject, Selection, UploadName, Versioning, Written,
};
use crate::testing::{TestStore, request_of};
use crate::types::{
    Attributes, BucketName, ByteRange, Checksum, ChecksumAlgorithm, ChecksumType, Conditions, ETag,
    ObjectKey, TagMatch, Tags, VersionId,
};

fn payload(bytes: &[u8]) -> Payload {
    let pieces: Vec<_> = bytes.chunks(70_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Payload {
        stream: Box::pin(stream::iter(pieces)),
        length: Some(bytes.len() as u64),
        content_md5: None,
        content_sha256: None,
        checksum: None,
        trailing_checksum: None,
    }
}

fn bytes_of(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8).wrapping_add(seed)).collect()
}

struct Bench {
    test: TestStore,
    cx: RequestContext,
    bucket: BucketName,
}

impl Bench {
    async fn new() -> Self {
        Self::on(TestStore::new().await, false).await
    }

    /// By a clock that is set by hand, with or without object lock.
    async fn by_hand(object_lock: bool) -> (Self, Arc<AtomicI64>) {
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
        let nodes = (1..=6).map(|node| (node, Arc::new(MemoryNode::new()))).collect();
        let kv = Arc::new(MemoryKv::new());
        let test = TestStore::by_clock(kv, nodes, Clock::Manual(Arc::clone(&clock))).await;
        (Self::on(test, object_lock).await, clock)
    }

    async fn on(test: TestStore, object_lock: bool) -> Self {
        let cx = request_of("root", true);
        let bucket = BucketName::new("quarry").unwrap();
        let request =
            CreateBucket { bucket: bucket.clone(), acl: None, ownership: None, location: None, object_lock };
        test.store.create_bucket(&cx, request).await.unwrap();
        Self { test, cx, bucket }
    }

    fn name(&self, key: &str, version: Option<VersionId>) -> ObjectName {
        ObjectName { bucket: self.bucket.clone(), key: ObjectKey::new(key).unwrap(), version }
    }

    /// A plain put, to be changed.
    fn new_object(&self, key: &str, bytes: &[u8]) -> Result<PutObject, Error> {
        Ok(PutObject {
            bucket: self.bucket.clone(),
            key: ObjectKey::new(key)?,
            attributes: Attributes::default(),
            tags: Tags::default(),
            acl: None,
            conditions: Conditions::default(),
            lock: Lock::default(),
            payload: payload(bytes),
        })
    }

    async fn put_if(&self, key: &str, bytes: &[u8], conditions: Conditions) -> Result<Written, Error> {
        let request = PutObject { conditions, ..self.new_object(key, bytes)? };
        self.test.store.put_object(&self.cx, request).await
    }

    async fn put(&self, key: &str, bytes: &[u8]) -> Written {
        self.put_if(key, bytes, Conditions::default()).await.unwrap()
    }

    async fn read(&self, name: ObjectName, selection: Selection) -> Result<Vec<u8>, Error> {
        let request = ReadObject { name, selection, conditions: Conditions::default() };
        let mut read = self.test.store.get_object(&self.cx, request).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = read.body.next().await {
            bytes.extend_from_slice(&piece?);
        }
        assert_eq!(bytes.len() as u64, read.length);
        Ok(bytes)
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, Error> {
        self.read(self.name(key, None), Selection::Whole).await
    }

    async fn delete(&self, key: &str, version: Option<VersionId>) -> crate::requests::Deleted {
        let request = DeleteObject {
            name: self.name(key, version),
            conditions: Conditions::default(),
            bypass_governance: false,
        };
        self.test.store.delete_object(&self.cx, request).await.unwrap()
    }

    async fn keys(&self, prefix: &str, delimiter: Option<&str>, max: u32) -> (Vec<String>, Vec<String>) {
        let (mut keys, mut groups, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let request = ListObjects {
                bucket: self.bucket.clone(),
                prefix: prefix.into(),
                delimiter: delimiter.map(Into::into),
                after: after.take(),
                max,
            };
            let page = self.test.store.list_objects(&self.cx, request).await.unwrap();
            assert!(page.objects.len() + page.common_prefixes.len() <= max as usize);
            keys.extend(page.objects.into_iter().map(|object| object.key));
            groups.extend(page.common_prefixes);
            after = page.next_after;
            if after.is_none() {
                return (keys, groups);
            }
        }
    }

    async fn versions(&self) -> Vec<(String, VersionId, bool, bool)> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let request = ListVersions {
                bucket: self.bucket.clone(),
                prefix: String::new(),
                delimiter: None,
                after: after.take(),
                max: 2,
            };
            let page = self.test.store.list_versions(&self.cx, request).await.unwrap();
            all.extend(page.versions.into_iter().map(|v| (v.key, v.version, v.latest, v.object.is_some())));
            after = page.next_after;
            if after.is_none() {
                return all;
            }
        }
    }

    async fn set_versioning(&self, versioning: Versioning) {
        self.test.store.set_versioning(&self.cx, &self.bucket, versioning).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_put_is_read_whole_and_in_ranges() {
    let bench = Bench::new().await;
    for length in [0, 1, 63, 4096, 65_536, 65_537, 262_144, 1_000_000, (4 << 20) + 17, (9 << 20) + 5] {
        let bytes = bytes_of(length, 3);
        let written = bench.put("stone", &bytes).await;
        assert_eq!(written.length, length as u64);
        assert_eq!(written.content_root.0.0, *blake3::hash(&bytes).as_bytes());
        assert_eq!(bench.get("stone").await.unwrap(), bytes, "length {length}");
        if length > 10 {
            let range = ByteRange::From { first: 5, last: Some(length as u64 - 3) };
            let read = bench.read(bench.name("stone", None), Selection::Range(range)).await.unwrap();
            assert_eq!(read, bytes[5..length - 2]);
            let suffix = bench
                .read(bench.name("stone", None), Selection::Range(ByteRange::Suffix { length: 7 }))
                .await
                .unwrap();
            assert_eq!(suffix, bytes[length - 7..]);
        }
    }
    assert!(matches!(bench.get("sand").await, Err(Error::NoSuchKey)));
}

#[tokio::test]
async fn of_racing_creators_one_wins() {
    let bench = Bench::new().await;
    let create = || Conditions { if_none_match: Some(TagMatch::Any), ..Default::default() };
    let bodies: Vec<_> = (0..32).map(|i| bytes_of(100, i)).collect();
    let all = bodies.iter().map(|body| bench.put_if("corner", body, create()));
    let outcomes = futures::future::join_all(all).await;
    let won: Vec<_> =
        outcomes.iter().zip(&bodies).filter(|(outcome, _)| outcome.is_ok()).map(|(_, body)| body).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(&bench.get("corner").await.unwrap(), won[0]);
    let lost = |outcome: &Result<Written, Error>| matches!(outcome, Err(Error::PreconditionFailed { .. }));
    assert_eq!(outcomes.iter().filter(|outcome| lost(outcome)).count(), 31);
}

#[tokio::test]
async fn compare_and_swap_loses_no_update() {
    let bench = Bench::new().await;
    bench.put("count", b"0").await;
    let add = || async {
        loop {
            let read = ReadObject {
                name: bench.name("count", None),
                selection: Selection::Whole,
                conditions: Conditions::default(),
            };
            let mut found = bench.test.store.get_object(&bench.cx, read).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(piece) = found.body.next().await {
                bytes.extend_from_slice(&piece.unwrap());
            }
            let next = std::str::from_utf8(&bytes).unwrap().parse::<u32>().unwrap() + 1;
            let same = Some(TagMatch::OneOf(vec![found.head.etag.to_string()]));
            let conditions = Conditions { if_match: same, ..Default::default() };
            match bench.put_if("count", next.to_string().as_bytes(), conditions).await {
                Ok(_) => return,
                Err(Error::PreconditionFailed { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    futures::future::join_all((0..12).map(|_| add())).await;
    assert_eq!(bench.get("count").await.unwrap(), b"12");
}

#[tokio::test]
async fn versions_pile_up_and_are_taken_away_one_by_one() {
    let bench = Bench::new().await;
    let null = bench.put("stone", b"null").await;
    assert_eq!(null.version, None);
    bench.set_versioning(Versioning::Enabled).await;
    let first = bench.put("stone", b"first").await.version;
    let marker = bench.delete("stone", None).await;
    assert!(marker.delete_marker);
    assert!(matches!(bench.get("stone").await, Err(Error::CurrentIsDeleteMarker { .. })));
    assert_eq!(bench.keys("", None, 10).await.0, Vec::<String>::new());
    assert_eq!(bench.read(bench.name("stone", first), Selection::Whole).await.unwrap(), b"first");
    let all = bench.versions().await;
    let flags: Vec<_> =
        all.iter().map(|(_, id, latest, object)| (*id == VersionId::Null, *latest, *object)).collect();
    assert_eq!(flags, [(false, true, false), (false, false, true), (true, false, true)]);

    bench.delete("stone", marker.version).await;
    assert_eq!(bench.get("stone").await.unwrap(), b"first");
    bench.delete("stone", first).await;
    assert_eq!(bench.get("stone").await.unwrap(), b"null");
    bench.set_versioning(Versioning::Suspended).await;
    bench.put("stone", b"null again").await;
    assert_eq!(bench.versions().await.len(), 1);
    let gone = bench.delete("stone", Some(VersionId::Null)).await;
    assert!(!gone.delete_marker);
    assert!(bench.versions().await.is_empty());
    bench.test.store.delete_bucket(&bench.cx, &bench.bucket).await.unwrap();
}

#[tokio::test]
async fn listings_group_and_go_on_exactly_once() {
    let bench = Bench::new().await;
    let keys =
        ["a", "a/b", "a/b/c", "a/z", "a0", "b//x", "b/x", "c\u{0}d", "c\u{ff}", "d/1", "d/2", "d/3", "e"];
    for key in keys {
        bench.put(key, key.as_bytes()).await;
    }
    let mut sorted: Vec<String> = keys.iter().map(ToString::to_string).collect();
    sorted.sort();
    for max in [1, 2, 3, 1000] {
        assert_eq!(bench.keys("", None, max).await.0, sorted, "max {max}");
        let (plain, groups) = bench.keys("", Some("/"), max).await;
        assert_eq!(groups, ["a/", "b/", "d/"], "max {max}");
        assert_eq!(plain, ["a", "a0", "c\u{0}d", "c\u{ff}", "e"], "max {max}");
        let (plain, groups) = bench.keys("a/", Some("/"), max).await;
        assert_eq!((plain, groups), (vec!["a/b".into(), "a/z".into()], vec!["a/b/".into()]), "max {max}");
        assert_eq!(bench.keys("b/", Some("/"), max).await, (vec!["b/x".into()], vec!["b//".into()]));
    }
}

#[tokio::test]
async fn copies_share_bytes_and_outlive_their_source() {
    let bench = Bench::new().await;
    let bytes = bytes_of(300_000, 9);
    let written = bench.put("source", &bytes).await;
    let copy = |key: &str, checksum| CopyObject {
        source: bench.name("source", None),
        source_conditions: Conditions::default(),
        bucket: bench.bucket.clone(),
        key: ObjectKey::new(key).unwrap(),
        attributes: None,
        storage_class: None,
        tags: None,
        acl: None,
        checksum,
        lock: Lock::default(),
        conditions: Conditions::default(),
    };
    let stored: usize = bench.test.nodes.values().map(|node| node.ids().len()).sum();
    let copied = bench.test.store.copy_object(&bench.cx, copy("copy", None)).await.unwrap();
    assert_eq!(copied.written.etag, written.etag);
    assert_eq!(bench.test.nodes.values().map(|node| node.ids().len()).sum::<usize>(), stored);
    let checked = bench
        .test
        .store
        .copy_object(&bench.cx, copy("checked", Some(ChecksumAlgorithm::Sha256)))
        .await
        .unwrap();
    assert_eq!(checked.written.checksum.unwrap().algorithm, ChecksumAlgorithm::Sha256);
    assert!(matches!(
        bench.test.store.copy_object(&bench.cx, copy("source", None)).await,
        Err(Error::CopyToItself)
    ));
    bench.delete("source", None).await;
    assert_eq!(bench.get("copy").await.unwrap(), bytes);
    assert_eq!(bench.get("checked").await.unwrap(), bytes);
}

#[tokio::test]
async fn long_lists_of_parts_are_read_page_by_page() {
    use ashlar_metadata::namespace::NamespaceRow;
    use ashlar_metadata::namespace::manifests::{self, ManifestId, ManifestRow, PartRef, PartsPage};
    use ashlar_metadata::{Commit, Write};

    let bench = Bench::new().await;
    let store = &bench.test.store;
    let mut blobs: Vec<(PartRef, Vec<u8>)> = Vec::new();
    for (key, length) in [("a", 7), ("b", 11), ("c", 3)] {
        bench.put(key, &bytes_of(length, length as u8)).await;
        let request = ReadObject {
            name: bench.name(key, None),
            selection: Selection::Whole,
            conditions: Conditions::default(),
        };
        let lease = store.lease(crate::leases::LEASE_MAX).await.unwrap();
        let object = store.pin(&bench.cx, &lease, &request).await.unwrap();
        blobs.push((object.parts[0].clone(), bytes_of(length, length as u8)));
    }
    let (parts, bytes): (Vec<PartRef>, Vec<Vec<u8>>) = blobs.iter().cloned().cycle().take(1_250).unzip();
    let bytes = bytes.concat();
    let id = ManifestId(42);
    let (row, pages) = crate::put::manifest(bytes.len() as u64, true, parts.clone()).unwrap();
    assert_eq!((ManifestRow::decode(&row.encode()).unwrap().parts.len(), pages.len()), (500, 2));
    let put = |(page, number): (&PartsPage, u32)| Write::Put {
        key: manifests::page_key(id, number),
        value: page.encode(),
    };
    let writes = pages.iter().zip(1..).map(put).collect();
    bench.test.kv.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    let end = bytes.len();
    for range in [0..end, 0..1, 3..4000, 3490..3520, 3500..3501, 6000..end, end - 1..end] {
        let (from, to) = (range.start as u64, range.end as u64);
        let mut read = Box::pin(store.read_parts(id, &parts, from..to, store.inner.data.enter_reader()));
        let mut got = Vec::new();
        while let Some(piece) = read.next().await {
            got.extend_from_slice(&piece.unwrap());
        }
        assert!(got == bytes[range.clone()], "{range:?}");
    }
}

async fn upload(bench: &Bench, key: &str) -> UploadName {
    let request = CreateUpload {
        bucket: bench.bucket.clone(),
        key: ObjectKey::new(key).unwrap(),
        attributes: Attributes::default(),
        tags: Tags::default(),
        acl: None,
        checksum: Some((ChecksumAlgorithm::Crc32c, ChecksumType::FullObject)),
        lock: Lock::default(),
    };
    let upload = bench.test.store.create_upload(&bench.cx, request).await.unwrap().upload;
    UploadName { bucket: bench.bucket.clone(), key: ObjectKey::new(key).unwrap(), upload }
}

fn complete(name: &UploadName, parts: &[(u32, ETag)]) -> CompleteUpload {
    let parts = parts.iter().map(|(number, etag)| CompletedPart {
        number: *number,
        etag: etag.to_string(),
        checksum: None,
    });
    CompleteUpload {
        name: name.clone(),
        parts: parts.collect(),
        checksum: None,
        checksum_kind: None,
        length: None,
        conditions: Conditions::default(),
    }
}

#[tokio::test]
async fn parts_become_an_object_once_and_the_answer_is_repeated() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    let name = upload(&bench, "wall").await;
    let (first, second) = (bytes_of(5 << 20, 1), bytes_of(77_777, 2));
    let mut parts = Vec::new();
    for (number, bytes) in [(7, &second), (2, &second), (2, &first), (9, &second)] {
        let part = store.upload_part(&bench.cx, &name, number, payload(bytes)).await.unwrap();
        parts.retain(|(known, _)| *known != number);
        parts.push((number, part.etag));
    }
    parts.sort_by_key(|(number, _)| *number);
    let swapped = complete(&name, &[parts[1], parts[0]]);
    assert!(matches!(store.complete_upload(&bench.cx, swapped).await, Err(Error::InvalidPartOrder)));
    let wrong = complete(&name, &[(2, ETag::Md5([0; 16]))]);
    assert!(matches!(store.complete_upload(&bench.cx, wrong).await, Err(Error::InvalidPart { number: 2 })));
    let small = complete(&name, &parts);
    assert!(matches!(
        store.complete_upload(&bench.cx, small).await,
        Err(Error::PartTooSmall { number: 7, .. })
    ));

    let chosen = [parts[0], parts[2]];
    let done = store.complete_upload(&bench.cx, complete(&name, &chosen)).await.unwrap();
    let whole = [first.clone(), second.clone()].concat();
    assert_eq!(bench.get("wall").await.unwrap(), whole);
    assert!(matches!(done.etag, ETag::Multipart(_, 2)));
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &whole);
    let expected = Checksum {
        algorithm: ChecksumAlgorithm::Crc32c,
        kind: ChecksumType::FullObject,
        value: u32::try_from(crc).unwrap().to_be_bytes().to_vec(),
        parts: None,
    };
    assert_eq!(done.checksum, Some(expected));
    let part = bench.read(bench.name("wall", None), Selection::Part(2)).await.unwrap();
    assert_eq!(part, second);

    bench.put("wall", b"overwritten since").await;
    let again = store.complete_upload(&bench.cx, complete(&name, &chosen)).await.unwrap();
    assert_eq!((again.etag, again.position), (done.etag, done.position));
    assert_eq!(bench.get("wall").await.unwrap(), b"overwritten since");
    let other = complete(&name, &chosen[..1]);
    assert!(matches!(store.complete_upload(&bench.cx, other).await, Err(Error::NoSuchUpload)));
    assert!(matches!(store.abort_upload(&bench.cx, &name).await, Err(Error::NoSuchUpload)));
    let late = store.upload_part(&bench.cx, &name, 1, payload(b"late")).await;
    assert!(matches!(late, Err(Error::NoSuchUpload)));
}

#[tokio::test]
async fn a_bucket_is_not_deleted_under_a_write() {
    let bench = Bench::new().await;
    let (put, deleted) = tokio::join!(
        bench.put_if("stone", b"here", Conditions::default()),
        bench.test.store.delete_bucket(&bench.cx, &bench.bucket)
    );
    match (put, deleted) {
        (Ok(_), Err(Error::BucketNotEmpty | Error::ConditionalConflict)) => {
            assert_eq!(bench.get("stone").await.unwrap(), b"here");
        }
        (Err(Error::NoSuchBucket), Ok(_)) => {}
        (put, deleted) => panic!("put {:?}, delete {deleted:?}", put.map(|w| w.etag)),
    }
}

#[tokio::test]
async fn a_group_is_seen_all_at_once_or_not_at_all() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    bench.put("t/0", b"old").await;
    let stage = |key: &str, text: &'static [u8]| PutObject {
        bucket: bench.bucket.clone(),
        key: ObjectKey::new(key).unwrap(),
        attributes: Attributes::default(),
        tags: Tags::default(),
        acl: None,
        conditions: Conditions::default(),
        lock: Lock::default(),
        payload: payload(text),
    };
    let group = store.begin_group(&bench.cx).await.unwrap();
    for key in ["t/0", "t/1", "t/2"] {
        store.stage(&bench.cx, group, stage(key, b"new")).await.unwrap();
    }
    assert_eq!(bench.keys("t/", None, 10).await.0, ["t/0"]);
    assert_eq!(bench.get("t/0").await.unwrap(), b"old");
    let absent = crate::publish::Precondition::Absent(bench.bucket.clone(), ObjectKey::new("t/0").unwrap());
    assert!(matches!(
        store.publish(&bench.cx, group, vec![absent]).await,
        Err(Error::PreconditionFailed { .. })
    ));
    assert_eq!(store.publish(&bench.cx, group, vec![]).await.unwrap().len(), 3);
    assert_eq!(bench.keys("t/", None, 10).await.0, ["t/0", "t/1", "t/2"]);
    assert_eq!(bench.get("t/0").await.unwrap(), b"new");
    let dropped = store.begin_group(&bench.cx).await.unwrap();
    store.stage(&bench.cx, dropped, stage("t/3", b"never")).await.unwrap();
    store.abandon(&bench.cx, dropped).await.unwrap();
    assert!(store.publish(&bench.cx, dropped, vec![]).await.is_err());
    assert!(bench.get("t/3").await.is_err());
}

#[tokio::test]
async fn nobody_else_reads_or_writes() {
    let bench = Bench::new().await;
    bench.put("stone", b"mine").await;
    let other = request_of("mallory", false);
    let request = ReadObject {
        name: bench.name("stone", None),
        selection: Selection::Whole,
        conditions: Conditions::default(),
    };
    assert!(matches!(bench.test.store.get_object(&other, request).await, Err(Error::AccessDenied)));
    let absent = ReadObject {
        name: bench.name("sand", None),
        selection: Selection::Whole,
        conditions: Conditions::default(),
    };
    assert!(matches!(bench.test.store.get_object(&other, absent).await, Err(Error::AccessDenied)));
    let (name, conditions) = (bench.name("stone", None), Conditions::default());
    let delete = DeleteObject { name, conditions, bypass_governance: false };
    assert!(matches!(bench.test.store.delete_object(&other, delete).await, Err(Error::AccessDenied)));
    assert!(matches!(bench.test.store.delete_bucket(&other, &bench.bucket).await, Err(Error::AccessDenied)));
    assert_eq!(bench.get("stone").await.unwrap(), b"mine");
}
