//! What a commit and a read of the embedded store cost, on a real disk.
//!
//! `cargo bench -p ashlar-metadata --bench kv`. The store lies in a temporary folder; set `TMPDIR` to the
//! disk to measure. Each commit is five rows of about 300 bytes, as an object's PUT writes.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark may panic and has no public face")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ashlar_disk::{Disk, RealDisk};
use ashlar_metadata::embedded::{EmbeddedKv, JournalLocation, Options};
use ashlar_metadata::{Commit, Direction, KeyRange, OrderedKv, Write};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const ROWS: u64 = 200_000;

fn put(number: u64) -> Commit {
    let value = Bytes::from(vec![7; 300]);
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let names = ["head", "version", "current", "manifest", "outbox"];
    let key = |kind: &str| Bytes::from(format!("{kind}/bucket/{scattered:016x}"));
    let writes = names.into_iter().map(|kind| Write::Put { key: key(kind), value: value.clone() }).collect();
    Commit { writes, ..Commit::default() }
}

fn store(dir: &std::path::Path, replicas: usize) -> Arc<EmbeddedKv> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    let names = (0..=replicas).map(|index| dir.join(format!("journal-{index}")));
    let locations: Vec<_> = names.map(|dir| JournalLocation { disk: Arc::clone(&disk), dir }).collect();
    Arc::new(EmbeddedKv::open(&locations, &Options::default()).unwrap())
}

fn commits(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for (clients, replicas) in [(1, 0), (64, 0), (64, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let kv = store(dir.path(), replicas);
        let next = Arc::new(AtomicU64::new(0));
        let mut group = criterion.benchmark_group("commit");
        group.throughput(Throughput::Elements(1)).sample_size(20);
        group.bench_function(format!("{clients} clients, {replicas} replicas"), |bencher| {
            bencher.iter_custom(|iterations| {
                let begun = Instant::now();
                let tasks: Vec<_> = (0..clients)
                    .map(|client| {
                        let (kv, next) = (Arc::clone(&kv), Arc::clone(&next));
                        let share = iterations / clients + u64::from(client < iterations % clients);
                        runtime.spawn(async move {
                            for _ in 0..share {
                                kv.commit(put(next.fetch_add(1, Ordering::Relaxed))).await.unwrap();
                            }
                        })
                    })
                    .collect();
                tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
                begun.elapsed()
            });
        });
        group.finish();
    }
}

fn reads(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let kv = store(dir.path(), 0);
    for first in (0..ROWS).step_by(1000) {
        let writes = (first..first + 1000).flat_map(|number| put(number).writes).collect();
        runtime.block_on(kv.commit(Commit { writes, ..Commit::default() })).unwrap();
    }
    let name = |kind: &str, number: u64| match &put(number).writes[usize::from(kind == "version")] {
        Write::Put { key, .. } => key.clone(),
        other => panic!("{other:?}"),
    };
    let keys: Vec<_> = (0..1024).map(|number| (name("head", number), name("version", number))).collect();
    let mut turn = 0;
    let mut next = || {
        turn = (turn + 1) % keys.len();
        (keys[turn].0.clone(), keys[turn].1.clone())
    };
    let mut group = criterion.benchmark_group("read");
    group.bench_function("get", |bencher| {
        bencher.iter(|| {
            let (key, _) = next();
            black_box(runtime.block_on(kv.get(&key)).unwrap())
        });
    });
    group.bench_function("get_many of 3", |bencher| {
        bencher.iter(|| {
            let (head, version) = next();
            black_box(runtime.block_on(kv.get_many(&[&head, &version, b"no such row"])).unwrap())
        });
    });
    group.bench_function("snapshot and scan of 1000", |bencher| {
        bencher.iter(|| {
            let (key, _) = next();
            let range = KeyRange::starting_at(key);
            runtime.block_on(async {
                let snapshot = kv.snapshot().await.unwrap();
                black_box(snapshot.scan(range, Direction::Forward, 1000).await.unwrap())
            })
        });
    });
    group.finish();
}

criterion_group!(benches, commits, reads);
criterion_main!(benches);
