//! What recovery rows restore in another store is there again, byte for byte.

use std::collections::BTreeSet;

use ashlar_metadata::namespace::log::GenerationRow;

use super::*;
use crate::Store;
use crate::clock::Clock;
use crate::restore::{Loss, Restoration, Restored};

/// A store on what a log with these entries carried, with the same nodes, and what came back.
async fn restore(log: &Log, entries: &[LogEntry]) -> (Log, Restored) {
    let kv: Arc<dyn OrderedKv> = Arc::new(MemoryKv::new());
    let mut restoration = Restoration::new(Arc::clone(&kv), Clock::System);
    for entry in entries {
        let rows = rows_of(&log.bench.test.store, entry).await;
        restoration.entry(&entry.record, rows).await.unwrap();
    }
    finish(log, kv, restoration).await
}

async fn finish(log: &Log, kv: Arc<dyn OrderedKv>, mut restoration: Restoration) -> (Log, Restored) {
    restoration.settle().await.unwrap();
    let on = TestStore::on(Arc::clone(&kv), log.bench.test.nodes.clone()).await;
    let adopted = on.store.adopt_shards(&BTreeSet::new()).await.unwrap();
    let restored = restoration.finish(&adopted, GenerationRow::default()).await.unwrap();
    let bench = Bench {
        test: TestStore::on(kv, log.bench.test.nodes.clone()).await,
        cx: log.bench.cx.clone(),
        bucket: log.bench.bucket.clone(),
    };
    (Log { bench, issuer: Arc::clone(&log.issuer), progress: Arc::clone(&log.progress) }, restored)
}

async fn rows_of(store: &Store, entry: &LogEntry) -> Vec<(Bytes, Bytes)> {
    let rows = store.recovery_rows(std::slice::from_ref(entry), usize::MAX).await.unwrap();
    assert_eq!(rows.len(), 1);
    rows.into_iter().next().unwrap().rows
}

/// A wall of two parts, a stone with a null version below, hidden sand, and dust that is gone.
async fn build(bench: &Bench) -> Vec<u8> {
    let store = &bench.test.store;
    let name = upload(bench, "wall").await;
    let halves = [bytes_of(5 << 20, 1), bytes_of(77_777, 2)];
    let mut parts = Vec::new();
    for (number, bytes) in (1..).zip(&halves) {
        let part = store.upload_part(&bench.cx, &name, number, payload(bytes)).await.unwrap();
        parts.push((number, part.etag));
    }
    store.complete_upload(&bench.cx, complete(&name, &parts)).await.unwrap();
    bench.put("stone", b"first").await;
    bench.put("stone", b"replaced").await;
    bench.set_versioning(Versioning::Enabled).await;
    bench.put("stone", &bytes_of(300_000, 9)).await;
    bench.put("sand", b"hidden").await;
    bench.delete("sand", None).await;
    let gone = bench.put("dust", b"gone").await.version;
    bench.delete("dust", gone).await;
    halves.concat()
}

async fn assert_built(again: &Bench, bench: &Bench, wall: &[u8]) {
    assert_eq!(again.get("wall").await.unwrap(), wall);
    assert_eq!(again.get("stone").await.unwrap(), bytes_of(300_000, 9));
    let null = again.read(again.name("stone", Some(VersionId::Null)), Selection::Whole).await;
    assert_eq!(null.unwrap(), b"replaced");
    assert!(matches!(again.get("sand").await, Err(Error::CurrentIsDeleteMarker { .. })));
    assert!(matches!(again.get("dust").await, Err(Error::NoSuchKey)));
    assert_eq!(again.versions().await, bench.versions().await);
}

#[tokio::test]
async fn announced_objects_come_back_elsewhere() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    let wall = build(bench).await;
    let (restored, report) = restore(&log, &log.all().await).await;
    let again = &restored.bench;
    assert_built(again, bench, &wall).await;
    assert_eq!((report.buckets, report.versions, report.objects), (1, 5, 2), "{report:?}");
    assert!(report.lost.is_empty() && report.nameless_users == 1, "{report:?}");
    // A new log has everything anew, and says the same of it.
    let announced = restored.all().await;
    for name in
        [bench.name("wall", None), bench.name("stone", None), bench.name("stone", Some(VersionId::Null))]
    {
        let there = store.log_entry(&bench.cx, &name).await.unwrap();
        let here = again.test.store.log_entry(&bench.cx, &name).await.unwrap();
        assert_eq!(there.record, here.record, "{name:?}");
        assert!(announced.contains(&here), "{name:?}");
    }
    // What is written from now on is above everything, and what is removed is collected with nothing left.
    again.put("stone", b"after").await;
    assert_eq!(again.get("stone").await.unwrap(), b"after");
    let (twice, _) = restore(&restored, &restored.all().await).await;
    assert_eq!(twice.bench.get("stone").await.unwrap(), b"after");
    assert_eq!(twice.bench.versions().await, again.versions().await);
}

#[tokio::test]
async fn what_a_walk_carried_comes_back_with_what_changed_behind_it() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    let wall = build(bench).await;
    // As a publisher does: entries up to here, then a stretch, a few rows at a time, changes in between.
    let kv: Arc<dyn OrderedKv> = Arc::new(MemoryKv::new());
    let mut restoration = Restoration::new(Arc::clone(&kv), Clock::System);
    let (mut place, mut cursor, mut step) = (log.all().await.last().map(LogEntry::place), None, 0);
    let bounds = store.walk_bounds().await.unwrap();
    loop {
        let stretch = store.walk(&bounds, cursor.as_ref(), 250).await.unwrap();
        restoration.carried(stretch.rows).await.unwrap();
        step += 1;
        bench.put(&format!("new-{step}"), b"new").await;
        bench.put("again", format!("written {step} times").as_bytes()).await;
        if step == 4 {
            let removed = bench.put("pebble", b"gone soon").await.version;
            bench.delete("pebble", removed).await;
        }
        cursor = stretch.cursor;
        if cursor.is_none() {
            break;
        }
        for (entry, _) in log.since(&mut place).await {
            let rows = rows_of(store, &entry).await;
            restoration.entry(&entry.record, rows).await.unwrap();
        }
    }
    for (entry, _) in log.since(&mut place).await {
        let rows = rows_of(store, &entry).await;
        restoration.entry(&entry.record, rows).await.unwrap();
    }
    let (restored, report) = finish(&log, kv, restoration).await;
    assert!(step > 8 && report.lost.is_empty(), "{step} stretches, {report:?}");
    assert_built(&restored.bench, bench, &wall).await;
    assert_eq!(restored.bench.get("again").await.unwrap(), format!("written {step} times").as_bytes());
}

#[tokio::test]
async fn shards_are_found_where_they_are_and_versions_without_enough_are_told() {
    let log = Log::new().await;
    let bench = &log.bench;
    let nodes = &bench.test.nodes;
    bench.put("moved", &bytes_of(700_000, 3)).await;
    let moved: Vec<_> = nodes.values().map(|node| node.ids()).collect();
    bench.put("torn", &bytes_of(900_000, 4)).await;
    let entries = log.all().await;
    for (node, moved) in nodes.values().zip(&moved).take(3) {
        for id in node.ids().into_iter().filter(|id| !moved.contains(id)) {
            assert!(node.lose(id));
        }
    }
    // More shards in other places than parity could replace if they were looked for in vain.
    for (one, other) in [(1, 2), (3, 4), (5, 6)] {
        nodes[&one].swap(&nodes[&other]);
    }
    let (restored, report) = restore(&log, &entries).await;
    assert_eq!(restored.bench.get("moved").await.unwrap(), bytes_of(700_000, 3));
    assert!(matches!(restored.bench.get("torn").await, Err(Error::NoSuchKey)));
    let lost: Vec<_> = report.lost.iter().map(|lost| (lost.key.as_str(), lost.reason)).collect();
    assert_eq!(lost, [("torn", Loss::Shards)]);
}

#[tokio::test]
async fn rows_are_those_of_now() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    let entry = || async { store.log_entry(&bench.cx, &bench.name("stone", None)).await.unwrap() };
    bench.put("stone", b"one").await;
    let first = entry().await;
    assert_eq!(rows_of(store, &first).await.len(), 3, "version, manifest, blob");
    bench.put("stone", b"two").await;
    let second = entry().await;
    let both = store.recovery_rows(&[first.clone(), second.clone()], usize::MAX).await.unwrap();
    assert!(both[0].is_later && !both[1].is_later);
    assert_eq!(both[0].rows, both[1].rows, "what replaced it, in case its own entry is never published");
    let few = store.recovery_rows(&[first.clone(), second.clone()], 1).await.unwrap();
    assert!(few.len() == 1 && few[0].is_too_large && few[0].rows.len() == 1, "the version alone");
    let tags = Tags(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    store.put_object_tags(&bench.cx, &bench.name("stone", None), tags).await.unwrap();
    let tagged = store.recovery_rows(std::slice::from_ref(&second), usize::MAX).await.unwrap();
    assert!(tagged[0].is_later && tagged[0].rows.len() == 3, "the same bytes, tagged since");
    bench.delete("stone", None).await;
    for entry in log.all().await {
        let record = Record::decode(&entry.record).unwrap();
        let rows = rows_of(store, &entry).await.len();
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
        let rows = rows_of(&grown.store, entry).await;
        let record = Record::decode(&entry.record).unwrap();
        assert_eq!(record.metadata_digest, *blake3::hash(&rows[0].1).as_bytes());
    }
    assert_ne!(maps[0].record, maps[1].record);
}
