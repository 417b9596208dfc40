//! What puts and reads cost on a real disk: 64 concurrent small puts over three stores that share a flusher,
//! 4 MiB chunks at 4+2 streamed to six stores, and both read back.
//!
//! Bar: 5,000 durable 4 KiB puts a second on one core, server and syncs together (`taskset -c 0`).
//! `examples/put_cost.rs` gives the processor time beside it.

#![allow(missing_docs)] // criterion_group! makes a public function

use ashlar_chunker::{BlobId, Coding, EncodedChunk, SessionId, ShardIndex, encode_chunk};
use ashlar_disk::RealDisk;
use ashlar_storage_node::{
    BlockRange, Flusher, FlusherOptions, NodeId, ShardPut, ShardService, Store, StoreOptions, Verify,
};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const CLIENTS: usize = 64;

struct Cluster {
    stores: Vec<Arc<Store>>,
    runtime: Runtime,
    next: AtomicU64,
    _folder: TempDir,
}

fn cluster(nodes: u32) -> Cluster {
    // Beside the build, not in a temporary file system that never reaches a disk.
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let flusher = Flusher::start(FlusherOptions::default()).expect("threads");
    let open = |node| {
        let path = folder.path().join(format!("node-{node}"));
        let options = StoreOptions::default();
        Arc::new(
            Store::open(Arc::new(RealDisk::new()), &path, NodeId(node), options, &flusher).expect("opened"),
        )
    };
    let stores: Vec<_> = (0..nodes).map(open).collect();
    stores.iter().for_each(|store| while store.maintain() {});
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    Cluster { stores, runtime: runtime.expect("a runtime"), next: AtomicU64::new(0), _folder: folder }
}

fn chunk(length: usize) -> EncodedChunk {
    let content: Bytes = (0..length).map(|byte| u8::try_from(byte % 251).expect("small")).collect();
    encode_chunk(Coding::new(4, 2).expect("within limits"), content).expect("not empty")
}

impl Cluster {
    /// Puts all shards of a chunk under a fresh id, one store each; the blob's counter.
    async fn put(&self, chunk: &EncodedChunk, footer: &Bytes) -> u64 {
        let counter = self.next.fetch_add(1, Ordering::Relaxed);
        let id = BlobId { session: SessionId(1), counter }.chunk(0);
        let puts = (0u8..).zip(&self.stores).take(chunk.rows[0].cells.len()).map(|(shard, store)| {
            let cells = chunk.rows.iter().map(|row| row.cells[usize::from(shard)].clone()).collect();
            store.put(ShardPut { id: id.shard(ShardIndex(shard)), cells, footer: footer.clone() })
        });
        try_join_all(puts).await.expect("stored");
        counter
    }

    /// The same, cell by cell.
    async fn stream(&self, chunk: &EncodedChunk, footer: &Bytes) {
        let counter = self.next.fetch_add(1, Ordering::Relaxed);
        let id = BlobId { session: SessionId(1), counter }.chunk(0);
        let writers =
            (0u8..).zip(&self.stores).map(|(shard, store)| store.begin(id.shard(ShardIndex(shard)), 1 << 20));
        let mut writers = try_join_all(writers).await.expect("begun");
        for row in &chunk.rows {
            let cells =
                writers.iter_mut().zip(&row.cells).map(|(writer, cell)| writer.write_cell(cell.clone()));
            try_join_all(cells).await.expect("written");
        }
        try_join_all(writers.into_iter().map(|writer| writer.seal(footer.clone()))).await.expect("sealed");
    }

    async fn read(&self, counter: u64, chunk: &EncodedChunk, verify: Verify) {
        let id = BlobId { session: SessionId(1), counter }.chunk(0);
        let data = usize::from(chunk.commitment.layout().coding().k());
        let reads = (0u8..).zip(&self.stores).take(data).map(|(shard, store)| {
            store.read_with_footer(id.shard(ShardIndex(shard)), BlockRange::ALL, verify)
        });
        try_join_all(reads).await.expect("read");
    }

    fn time<F: Future>(&self, rounds: u64, clients: usize, run: impl Fn() -> F) -> Duration {
        self.runtime.block_on(async {
            let started = Instant::now();
            let mut under_way = FuturesUnordered::new();
            for _ in 0..rounds {
                if under_way.len() == clients {
                    under_way.next().await;
                }
                under_way.push(run());
            }
            while under_way.next().await.is_some() {}
            started.elapsed()
        })
    }
}

fn small(c: &mut Criterion) {
    let (cluster, chunk) = (cluster(3), chunk(4096));
    let footer = chunk.commitment.encode();
    let mut group = c.benchmark_group("4 KiB");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(5));
    group.bench_function("put, 64 clients, 3 stores, 1 flusher", |b| {
        b.iter_custom(|rounds| cluster.time(rounds, CLIENTS, || cluster.put(&chunk, &footer)));
    });
    group.bench_function("put, 1 client", |b| {
        b.iter_custom(|rounds| cluster.time(rounds, 1, || cluster.put(&chunk, &footer)));
    });
    let counter = cluster.runtime.block_on(cluster.put(&chunk, &footer));
    for (name, verify) in
        [("get, checked by the caller", Verify::Caller), ("get, checked by the node", Verify::Node)]
    {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| cluster.time(rounds, 1, || cluster.read(counter, &chunk, verify)));
        });
    }
    group.finish();
}

fn large(c: &mut Criterion) {
    let (cluster, chunk) = (cluster(6), chunk(4 << 20));
    let footer = chunk.commitment.encode();
    let mut group = c.benchmark_group("4 MiB at 4+2");
    group.throughput(Throughput::Bytes(4 << 20)).sample_size(10).measurement_time(Duration::from_secs(5));
    group.bench_function("put, 4 clients", |b| {
        b.iter_custom(|rounds| cluster.time(rounds, 4, || cluster.put(&chunk, &footer)));
    });
    group.bench_function("stream, 4 clients", |b| {
        b.iter_custom(|rounds| cluster.time(rounds, 4, || cluster.stream(&chunk, &footer)));
    });
    let counter = cluster.runtime.block_on(cluster.put(&chunk, &footer));
    for (name, verify) in
        [("get, checked by the caller", Verify::Caller), ("get, checked by the node", Verify::Node)]
    {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| cluster.time(rounds, 2, || cluster.read(counter, &chunk, verify)));
        });
    }
    group.finish();
}

criterion_group!(benches, small, large);
criterion_main!(benches);
