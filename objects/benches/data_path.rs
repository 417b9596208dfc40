//! What a put and a get cost over nodes and metadata in memory: everything of the store but disks and HTTP.
//!
//! `cargo bench -p ashlar-objects --features testing --bench data_path`; pin it to one core to compare
//! with the bars, which are per core.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that fails may panic")]

use ashlar_objects::access::RequestContext;
use ashlar_objects::object_lock::Lock;
use ashlar_objects::requests::{CreateBucket, ObjectName, Payload, PutObject, ReadObject, Selection};
use ashlar_objects::testing::{TestStore, request_of};
use ashlar_objects::types::{Attributes, BucketName, Conditions, ObjectKey, Tags};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{StreamExt, TryStreamExt};
use tokio::runtime::Runtime;

/// Bytes of a piece in which large bodies come.
const PIECE: usize = 64 << 10;

struct Bench {
    runtime: Runtime,
    store: TestStore,
    cx: RequestContext,
    bucket: BucketName,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bucket = BucketName::new("bench").unwrap();
        let cx = request_of("root", true);
        let store = runtime.block_on(async {
            let store = TestStore::new().await;
            let (acl, ownership, location) = (None, None, None);
            let request =
                CreateBucket { bucket: bucket.clone(), acl, ownership, location, object_lock: false };
            store.store.create_bucket(&cx, request).await.unwrap();
            store
        });
        Self { runtime, store, cx, bucket }
    }

    fn put(&self, key: &str, bytes: &Bytes) {
        let pieces: Vec<_> =
            (0..bytes.len()).step_by(PIECE).map(|at| bytes.slice(at..bytes.len().min(at + PIECE))).collect();
        let payload = Payload {
            stream: futures::stream::iter(pieces.into_iter().map(Ok)).boxed(),
            length: u64::try_from(bytes.len()).ok(),
            content_md5: None,
            content_sha256: None,
            checksum: None,
            trailing_checksum: None,
        };
        let request = PutObject {
            bucket: self.bucket.clone(),
            key: ObjectKey::new(key).unwrap(),
            attributes: Attributes::default(),
            tags: Tags::default(),
            acl: None,
            conditions: Conditions::default(),
            lock: Lock::default(),
            payload,
        };
        self.runtime.block_on(self.store.store.put_object(&self.cx, request)).unwrap();
    }

    fn get(&self, key: &str) -> usize {
        let name =
            ObjectName { bucket: self.bucket.clone(), key: ObjectKey::new(key).unwrap(), version: None };
        let request = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
        self.runtime.block_on(async {
            let read = self.store.store.get_object(&self.cx, request).await.unwrap();
            read.body.try_fold(0, async |sum, piece| Ok(sum + piece.len())).await.unwrap()
        })
    }
}

fn benches(c: &mut Criterion) {
    let bench = Bench::new();
    let small = Bytes::from(vec![7; 4096]);
    bench.put("small", &small);
    c.bench_function("put 4 KiB", |b| b.iter(|| bench.put("small", &small)));
    c.bench_function("get 4 KiB", |b| b.iter(|| assert_eq!(bench.get("small"), small.len())));
    let large: Bytes = (0..64_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut group = c.benchmark_group("64 MiB");
    group.sample_size(10).throughput(Throughput::Bytes(64 << 20));
    bench.put("large", &large);
    group.bench_function("get", |b| b.iter(|| assert_eq!(bench.get("large"), large.len())));
    for (down, name) in [(2, "get, one node down"), (5, "get, two nodes down")] {
        bench.store.nodes[&down].set_down(true);
        group.bench_function(name, |b| b.iter(|| assert_eq!(bench.get("large"), large.len())));
    }
    bench.store.nodes.values().for_each(|node| node.set_down(false));
    // In a store of its own: memory nodes keep what is replaced, since nothing collects here.
    let writes = Bench::new();
    group.bench_function("put", |b| {
        b.iter(|| {
            writes.put("large", &large);
            writes.store.nodes.values().for_each(|node| node.wipe());
        });
    });
    group.finish();
}

criterion_group!(data_path, benches);
criterion_main!(data_path);
