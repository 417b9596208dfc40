//! Every change is announced once, in order, and told again byte for byte from the version's rows.

use ashlar_metadata::namespace::outbox;
use ashlar_metadata::{Commit, Write};

use super::*;
use crate::access::AclRequest;
use crate::object_lock::{Retention, RetentionMode};
use crate::requests::CannedAcl;
use crate::types::UnixMillis;

fn tags(text: &str) -> Tags {
    Tags(BTreeMap::from([("layer".to_owned(), text.to_owned())]))
}

#[tokio::test]
async fn every_change_announces_itself_in_the_order_of_commits() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    let mut place = None;
    // The map that the store made when it was opened, and the bucket.
    assert_eq!(operations(&log.since(&mut place).await), [Operation::ClusterMap, Operation::BucketSet]);

    let put = bench.put("stone", b"first").await;
    let entries = log.since(&mut place).await;
    let (entry, record) = &entries[0];
    assert_eq!((entries.len(), entry.position, entry.index), (1, put.position, 0));
    assert_eq!(log.promised(put.receipt.as_ref()), *entry);
    assert_eq!((record.operation, record.version, record.length), (Operation::Put, VersionId::Null, 5));
    assert_eq!(record.content_root, put.content_root.0.0);
    assert_eq!(record.object_root, put.object_root.0.0);
    assert_eq!(record.time, u64::try_from(put.modified.0).unwrap());
    assert_eq!(record.bucket.as_ref(), Some(&bench.bucket));
    assert_eq!(record.key.as_ref().map(ObjectKey::as_str), Some("stone"));

    let again = store.put_object_tags(&bench.cx, &bench.name("stone", None), tags("1")).await.unwrap();
    let entries = log.since(&mut place).await;
    assert_eq!(log.promised(again.receipt.as_ref()), entries[0].0);
    let changed = Record { metadata_digest: entries[0].1.metadata_digest, ..record.clone() };
    assert_eq!(entries[0].1, changed, "the same put, with other metadata");
    assert_ne!(changed.metadata_digest, record.metadata_digest);

    bench.set_versioning(Versioning::Enabled).await;
    let marker = bench.delete("stone", None).await;
    let removed = bench.delete("stone", Some(VersionId::Null)).await;
    let entries = log.since(&mut place).await;
    assert_eq!(operations(&entries), [Operation::BucketSet, Operation::Mark, Operation::Remove]);
    assert_eq!(Some(entries[1].1.version), marker.version);
    assert_eq!(entries[2].1.content_root, put.content_root.0.0);
    for (deleted, (entry, _)) in [&marker, &removed].into_iter().zip(&entries[1..]) {
        assert_eq!(
            (log.promised(deleted.receipt.as_ref()), deleted.position),
            (entry.clone(), Some(entry.position))
        );
    }
    let absent = bench.delete("sand", Some(VersionId::Id(1 << 64))).await;
    assert_eq!((absent.position, absent.receipt), (None, None), "nothing was removed");
    bench.delete("stone", marker.version).await;
    let gone = store.delete_bucket(&bench.cx, &bench.bucket).await.unwrap();
    let entries = log.since(&mut place).await;
    assert_eq!(operations(&entries), [Operation::Remove, Operation::BucketRemoved]);
    assert_eq!(log.promised(gone.receipt.as_ref()), entries[1].0);
}

#[tokio::test]
async fn every_change_of_a_bucket_is_another_state_of_it() {
    let log = Log::new().await;
    let (bench, store, cx, name) = (&log.bench, &log.bench.test.store, &log.bench.cx, &log.bench.bucket);
    let mut place = log.all().await.last().map(LogEntry::place);
    let policy = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*",
        "Action": "s3:GetObject", "Resource": "arn:aws:s3:::quarry/none"}]}"#;
    store.put_bucket_tags(cx, name, tags("1")).await.unwrap();
    store.put_bucket_acl(cx, name, AclRequest::Canned(CannedAcl::PublicRead)).await.unwrap();
    store.delete_bucket_tags(cx, name).await.unwrap();
    bench.set_versioning(Versioning::Enabled).await;
    store.put_bucket_policy(cx, name, policy.into()).await.unwrap();
    let entries = log.since(&mut place).await;
    assert_eq!(operations(&entries), [Operation::BucketSet; 5]);
    let digests: std::collections::BTreeSet<_> =
        entries.iter().map(|(_, record)| record.metadata_digest).collect();
    assert_eq!(digests.len(), entries.len(), "each says something else");
    // A deletion that found the bucket in use changed nothing.
    bench.put("stone", b"here").await;
    assert!(matches!(store.delete_bucket(cx, name).await, Err(Error::BucketNotEmpty)));
    assert_eq!(operations(&log.since(&mut place).await), [Operation::Put]);
    let last = entries.last().unwrap();
    let rows = store.recovery_rows(std::slice::from_ref(&last.0), usize::MAX).await.unwrap().remove(0).rows;
    assert_eq!(crate::log::rows_digest(&rows), last.1.metadata_digest, "the rows are what was announced");
}

/// Announced and told anew must be the same bytes at the same place.
async fn told_again(log: &Log, name: &ObjectName) -> LogEntry {
    let told = log.bench.test.store.log_entry(&log.bench.cx, name).await.unwrap();
    let all = log.all().await;
    let announced = all.iter().find(|entry| entry.place() == told.place()).expect("an entry at its place");
    assert_eq!(told, *announced);
    let of_version = |entry: &&LogEntry| {
        let record = Record::decode(&entry.record).unwrap();
        let told = Record::decode(&told.record).unwrap();
        record.operation != Operation::Remove && (record.key, record.version) == (told.key, told.version)
    };
    assert_eq!(all.iter().rfind(of_version), Some(announced), "the newest of the version");
    told
}

#[tokio::test]
async fn a_version_knows_its_newest_entry() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    let (stone, copy) = (bench.name("stone", None), bench.name("copy", None));
    bench.put("stone", &bytes_of(100_000, 1)).await;
    let first = told_again(&log, &stone).await;
    bench.put("stone", b"the null version replaced").await;
    let second = told_again(&log, &stone).await;
    assert!(second.place() > first.place());

    bench.set_versioning(Versioning::Enabled).await;
    let version = bench.put("stone", b"a version").await.version;
    told_again(&log, &stone).await;
    assert_eq!(told_again(&log, &bench.name("stone", Some(VersionId::Null))).await, second);
    store.put_object_tags(&bench.cx, &stone, tags("x")).await.unwrap();
    let tagged = told_again(&log, &stone).await;
    let public = AclRequest::Canned(CannedAcl::PublicRead);
    store.put_object_acl(&bench.cx, &bench.name("stone", version), public).await.unwrap();
    assert!(told_again(&log, &stone).await.place() > tagged.place());

    let request = CopyObject {
        source: stone.clone(),
        source_conditions: Conditions::default(),
        bucket: bench.bucket.clone(),
        key: copy.key.clone(),
        attributes: None,
        storage_class: None,
        tags: None,
        acl: None,
        checksum: None,
        lock: Lock::default(),
        conditions: Conditions::default(),
    };
    let copied = store.copy_object(&bench.cx, request).await.unwrap();
    let of_copy = told_again(&log, &copy).await;
    assert_eq!(log.promised(copied.written.receipt.as_ref()), of_copy);
    let (of_copy, of_source) = (of_copy.record, told_again(&log, &stone).await.record);
    let root = |bytes: &[u8]| Record::decode(bytes).unwrap().manifest_root;
    assert_eq!(root(&of_copy), root(&of_source));

    let marker = bench.delete("stone", None).await;
    assert!(matches!(store.log_entry(&bench.cx, &stone).await, Err(Error::CurrentIsDeleteMarker { .. })));
    told_again(&log, &bench.name("stone", marker.version)).await;
    bench.delete("stone", marker.version).await;
    told_again(&log, &stone).await;
    let other = request_of("mallory", false);
    assert!(matches!(store.log_entry(&other, &copy).await, Err(Error::AccessDenied)));
}

#[tokio::test]
async fn locks_of_a_version_are_in_its_entry() {
    let (bench, _) = Bench::by_hand(true).await;
    let store = &bench.test.store;
    let name = bench.name("stone", None);
    bench.put("stone", b"locked").await;
    let entry = || async { store.log_entry(&bench.cx, &name).await.unwrap() };
    let before = entry().await;
    let until = UnixMillis(1_800_000_000_000);
    let retention = Some(Retention { mode: RetentionMode::Governance, until });
    store.put_object_retention(&bench.cx, &name, retention, false).await.unwrap();
    let retained = entry().await;
    store.put_object_legal_hold(&bench.cx, &name, true).await.unwrap();
    let held = entry().await;
    assert!(before.place() < retained.place() && retained.place() < held.place());
    assert_ne!(before.record, retained.record);
    assert_ne!(retained.record, held.record);
}

#[tokio::test]
async fn objects_of_a_group_are_entries_of_one_position() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    bench.put("t/1", b"old").await;
    let group = store.begin_group(&bench.cx).await.unwrap();
    for key in ["t/0", "t/1", "t/2"] {
        store.stage(&bench.cx, group, bench.new_object(key, key.as_bytes()).unwrap()).await.unwrap();
    }
    let mut place = log.all().await.last().map(LogEntry::place);
    let published = store.publish(&bench.cx, group, vec![]).await.unwrap();
    let entries = log.since(&mut place).await;
    assert_eq!(operations(&entries), [Operation::Put; 3]);
    for ((published, (entry, record)), index) in published.iter().zip(&entries).zip(0..) {
        assert_eq!(entry.place(), (published.written.position, index));
        assert_eq!(record.key.as_ref(), Some(&published.key));
        let name = ObjectName::current(&published.bucket, &published.key);
        assert_eq!(told_again(&log, &name).await, *entry);
    }
    assert_eq!(log.promised(published[0].written.receipt.as_ref()), entries[0].0);
    assert!(published[1..].iter().all(|published| published.written.receipt.is_none()));
}

#[tokio::test]
async fn a_completed_upload_is_promised_and_promised_again() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    let name = upload(bench, "wall").await;
    let mut parts = Vec::new();
    for (number, bytes) in [(2, bytes_of(5 << 20, 1)), (7, bytes_of(1_000, 2))] {
        let part = store.upload_part(&bench.cx, &name, number, payload(&bytes)).await.unwrap();
        parts.push((number, part.etag));
    }
    let done = store.complete_upload(&bench.cx, complete(&name, &parts)).await.unwrap();
    let entry = told_again(&log, &bench.name("wall", None)).await;
    assert_eq!(log.promised(done.receipt.as_ref()), entry);
    let again = store.complete_upload(&bench.cx, complete(&name, &parts)).await.unwrap();
    assert_eq!((again.receipt.as_deref(), again.position), (done.receipt.as_deref(), done.position));
    store.trim_outbox(entry.place()).await.unwrap();
    let late = store.complete_upload(&bench.cx, complete(&name, &parts)).await.unwrap();
    assert_eq!(late.receipt, None, "it is sealed by now");
    assert_eq!(store.log_entry(&bench.cx, &bench.name("wall", None)).await.unwrap(), entry);
}

#[tokio::test]
async fn what_was_announced_outlives_a_restart() {
    let log = Log::new().await;
    let bench = &log.bench;
    bench.put("stone", &bytes_of(300_000, 4)).await;
    let name = bench.name("stone", None);
    bench.test.store.put_object_tags(&bench.cx, &name, tags("1")).await.unwrap();
    let (all, entry) = (log.all().await, told_again(&log, &name).await);
    let again = TestStore::on(Arc::clone(&bench.test.kv), bench.test.nodes.clone()).await;
    assert_eq!(again.store.outbox_after(None, 1_000).await.unwrap(), all, "the map is the same: no entry");
    assert_eq!(again.store.log_entry(&bench.cx, &name).await.unwrap(), entry);
}

#[tokio::test]
async fn the_outbox_is_read_piece_by_piece_and_trimmed() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    for key in ["a", "b", "c", "d", "e"] {
        bench.put(key, key.as_bytes()).await;
    }
    let all = log.all().await;
    for limit in [1, 2, 3, 100] {
        let (mut found, mut place) = (Vec::new(), None);
        loop {
            let piece = store.outbox_after(place, limit).await.unwrap();
            assert!(piece.len() <= limit);
            let Some(last) = piece.last() else { break };
            place = Some(last.place());
            found.extend(piece);
        }
        assert_eq!(found, all, "by {limit}");
    }
    assert!(all.windows(2).all(|pair| pair[0].place() < pair[1].place()));
    assert_eq!(store.trim_outbox(all[3].place()).await.unwrap(), 4);
    assert_eq!(log.all().await, all[4..]);
    assert_eq!(store.trim_outbox(all[3].place()).await.unwrap(), 0);
    assert_eq!(store.outbox_after(Some(all[1].place()), 1).await.unwrap(), all[4..5]);
}

#[tokio::test]
async fn rows_from_before_there_was_a_log_are_passed_over() {
    let log = Log::new().await;
    let store = &log.bench.test.store;
    let before = log.all().await.len();
    let old = Write::PutAtPosition {
        key_prefix: outbox::prefix(),
        key_suffix: outbox::suffix(0),
        value: Bytes::from_static(&[1, 0, 3]),
    };
    let writes = vec![old];
    log.bench.test.kv.commit(Commit { checks: vec![], writes, transaction: None }).await.unwrap();
    log.bench.put("stone", b"new").await;
    assert_eq!(log.all().await.len(), before + 1);
    assert_eq!(store.outbox_after(None, before + 1).await.unwrap().len(), before + 1);
    assert_eq!(store.trim_outbox((u64::MAX, 0)).await.unwrap(), before + 2);
}
