//! What recovery rows restore in another store is there again, byte for byte.

use ashlar_metadata::{Commit, Write};

use super::*;

/// Everything that was announced, put into empty metadata, oldest first.
async fn restore(log: &Log) -> Arc<dyn OrderedKv> {
    let kv: Arc<dyn OrderedKv> = Arc::new(MemoryKv::new());
    for entry in log.all().await {
        let rows = log.bench.test.store.recovery_rows(&entry).await.unwrap();
        let writes = rows.into_iter().map(|(key, value)| Write::Put { key, value }).collect();
        kv.commit(Commit { checks: vec![], writes, transaction: None }).await.unwrap();
    }
    kv
}

#[tokio::test]
async fn announced_objects_come_back_elsewhere() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    let name = upload(bench, "wall").await;
    let halves = [bytes_of(5 << 20, 1), bytes_of(77_777, 2)];
    let mut parts = Vec::new();
    for (number, bytes) in (1..).zip(&halves) {
        let part = store.upload_part(&bench.cx, &name, number, payload(bytes)).await.unwrap();
        parts.push((number, part.etag));
    }
    store.complete_upload(&bench.cx, complete(&name, &parts)).await.unwrap();
    bench.put("stone", b"replaced").await;
    bench.set_versioning(Versioning::Enabled).await;
    bench.put("stone", &bytes_of(300_000, 9)).await;
    bench.put("sand", b"hidden").await;
    bench.delete("sand", None).await;
    let gone = bench.put("dust", b"gone").await.version;
    bench.delete("dust", gone).await;

    let restored = Log {
        bench: Bench {
            test: TestStore::on(restore(&log).await, bench.test.nodes.clone()).await,
            cx: bench.cx.clone(),
            bucket: bench.bucket.clone(),
        },
        issuer: Arc::clone(&log.issuer),
        progress: Arc::clone(&log.progress),
    };
    let again = &restored.bench;
    assert_eq!(again.get("wall").await.unwrap(), halves.concat());
    assert_eq!(again.get("stone").await.unwrap(), bytes_of(300_000, 9));
    let null = again.read(again.name("stone", Some(VersionId::Null)), Selection::Whole).await;
    assert_eq!(null.unwrap(), b"replaced");
    assert!(matches!(again.get("sand").await, Err(Error::CurrentIsDeleteMarker { .. })));
    assert!(matches!(again.get("dust").await, Err(Error::NoSuchKey)));
    assert_eq!(again.versions().await, bench.versions().await);
    for name in
        [bench.name("wall", None), bench.name("stone", None), bench.name("stone", Some(VersionId::Null))]
    {
        let there = store.log_entry(&bench.cx, &name).await.unwrap();
        assert_eq!(again.test.store.log_entry(&bench.cx, &name).await.unwrap(), there, "{name:?}");
    }
    // What is written there from now on stands where it is written.
    let put = again.put("stone", b"after").await;
    let entry = again.test.store.log_entry(&bench.cx, &bench.name("stone", None)).await.unwrap();
    assert_eq!(entry.position, put.position);
}

#[tokio::test]
async fn rows_of_what_was_replaced_are_not_given_for_it() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    let entry = || async { store.log_entry(&bench.cx, &bench.name("stone", None)).await.unwrap() };
    bench.put("stone", b"one").await;
    let first = entry().await;
    assert_eq!(store.recovery_rows(&first).await.unwrap().len(), 5, "head, version, current, manifest, blob");
    bench.put("stone", b"two").await;
    assert!(store.recovery_rows(&first).await.unwrap().is_empty(), "the null version is another now");
    let second = entry().await;
    let tags = Tags(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    store.put_object_tags(&bench.cx, &bench.name("stone", None), tags).await.unwrap();
    assert_eq!(store.recovery_rows(&second).await.unwrap().len(), 5, "the same bytes, tagged since");
    bench.delete("stone", None).await;
    for entry in log.all().await {
        let record = Record::decode(&entry.record).unwrap();
        let rows = store.recovery_rows(&entry).await.unwrap().len();
        let expected = match record.operation {
            Operation::BucketSet => 2,
            Operation::ClusterMap => 1,
            _ => 0,
        };
        assert_eq!(rows, expected, "{record:?}");
    }
}

#[tokio::test]
async fn a_past_cluster_map_is_found_by_its_entry() {
    let log = Log::new().await;
    let bench = &log.bench;
    let mut nodes = bench.test.nodes.clone();
    nodes.insert(7, Arc::new(MemoryNode::new()));
    let grown = TestStore::on(Arc::clone(&bench.test.kv), nodes).await;
    let all = grown.store.outbox_after(None, 100).await.unwrap();
    let maps: Vec<_> = all
        .into_iter()
        .filter(|entry| Record::decode(&entry.record).unwrap().operation == Operation::ClusterMap)
        .collect();
    assert_eq!(maps.len(), 2);
    for entry in &maps {
        let rows = grown.store.recovery_rows(entry).await.unwrap();
        let record = Record::decode(&entry.record).unwrap();
        assert_eq!(record.metadata_digest, *blake3::hash(&rows[0].1).as_bytes());
    }
    assert_ne!(maps[0].record, maps[1].record);
}
