//! What a chunk costs on one core, in object bytes: encode, encode and commit, check, rebuild, prove.
//!
//! Bars at 4+2: encode 6 GB/s, encode and commit 2 GB/s, rebuild two lost data shards 1.2 GB/s.
//! `copies-or-coding` settles at which length a chunk is better coded than copied (`SMALL_CHUNK_BYTES`).

#![allow(missing_docs)] // criterion_group! makes a public function

use ashlar_chunker::*;
use bytes::Bytes;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::time::Duration;

/// The allocator that the binary runs with; the system's maps and unmaps every parity buffer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn coding(k: u8, m: u8) -> Coding {
    Coding::new(k, m).expect("within limits")
}

fn content(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"chunker bench").finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn rows(chunk: &Bytes, coding: Coding) -> Vec<Bytes> {
    let row = usize::try_from(coding.row_bytes()).expect("fits");
    (0..chunk.len()).step_by(row).map(|at| chunk.slice(at..chunk.len().min(at + row))).collect()
}

fn write_path(c: &mut Criterion<CoreTime>) {
    let mut group = c.benchmark_group("write");
    let chunk = content(4 << 20);
    group.throughput(Throughput::Bytes(4 << 20));
    for coding in [coding(4, 2), coding(2, 2), coding(8, 4), coding(1, 2)] {
        let rows = rows(&chunk, coding);
        let mut coder = RowCoder::new(coding);
        group.bench_function(BenchmarkId::new("encode", coding), |b| {
            b.iter(|| rows.iter().for_each(|row| drop(black_box(coder.code(row.clone())))))
        });
        let mut builder = ChunkBuilder::new(coding);
        group.bench_function(BenchmarkId::new("encode-and-commit", coding), |b| {
            b.iter(|| {
                rows.iter().for_each(|row| drop(black_box(builder.push_row(row.clone()))));
                builder.finish()
            })
        });
    }
    group.finish();
}

fn read_path(c: &mut Criterion<CoreTime>) {
    let mut group = c.benchmark_group("read");
    let encoded = encode_chunk(coding(4, 2), content(4 << 20)).expect("a full chunk");
    let commitment = &encoded.commitment;
    let bytes = commitment.encode();
    let root = commitment.root();
    let decode = || UncheckedCommitment::decode(&bytes).expect("well-formed");
    group.bench_function("check-commitment", |b| {
        b.iter_batched(decode, |unchecked| unchecked.check(&root), BatchSize::SmallInput)
    });
    group.bench_function("check-commitment-of-one-shard", |b| {
        let shards = [ShardIndex(1)];
        b.iter_batched(decode, |unchecked| unchecked.check_shards(&root, &shards), BatchSize::SmallInput)
    });
    let shards: Vec<Bytes> = coding(4, 2).shard_indices().map(|shard| encoded.shard(shard)).collect();
    group.throughput(Throughput::Bytes(4 << 20));
    group.bench_function("verify-and-assemble", |b| {
        b.iter(|| {
            let runs = (0..4).map(|shard: u8| {
                let bytes = shards[usize::from(shard)].clone();
                commitment.verify(ShardIndex(shard), 0, bytes).expect("the committed bytes")
            });
            commitment.assemble(0..4 << 20, &runs.collect::<Vec<_>>()).expect("all blocks are there")
        })
    });
    group.finish();
}

fn rebuild(c: &mut Criterion<CoreTime>) {
    let mut group = c.benchmark_group("rebuild");
    let coding = coding(4, 2);
    let encoded = encode_chunk(coding, content(4 << 20)).expect("a full chunk");
    let shards: Vec<Bytes> = coding.shard_indices().map(|shard| encoded.shard(shard)).collect();
    let lost = |lost: &[u8]| -> (Vec<ShardIndex>, Vec<ShardIndex>) {
        coding.shard_indices().partition(|shard| !lost.contains(&shard.0))
    };
    for (name, lost_shards) in [("two-data", &[0, 2][..]), ("one-data", &[1]), ("one-parity", &[4])] {
        let (left, wanted) = lost(lost_shards);
        let rebuilder = Rebuilder::new(coding, &left, &wanted).expect("enough are left");
        let sources: Vec<Bytes> =
            rebuilder.sources().iter().map(|shard| shards[shard.position()].clone()).collect();
        let checked: Vec<CheckedBlocks> = rebuilder
            .sources()
            .iter()
            .map(|shard| encoded.commitment.verify(*shard, 0, shards[shard.position()].clone()))
            .collect::<Result<_, _>>()
            .expect("the committed bytes");
        group.throughput(Throughput::Bytes(4 << 20));
        group.bench_function(BenchmarkId::new("compute", name), |b| b.iter(|| rebuilder.rebuild(&sources)));
        group.bench_function(BenchmarkId::new("compute-and-check", name), |b| {
            b.iter(|| encoded.commitment.rebuild(&rebuilder, &checked).expect("a code word"))
        });
    }
    let (left, wanted) = lost(&[0, 2]);
    group.throughput(Throughput::Elements(1));
    group.bench_function("plan-afresh", |b| b.iter(|| Rebuilder::new(coding, &left, &wanted)));
    let plans = RebuildPlans::new();
    group.bench_function("plan-remembered", |b| b.iter(|| plans.get(coding, &left, &wanted)));
    group.finish();
}

fn copies_or_coding(c: &mut Criterion<CoreTime>) {
    let mut group = c.benchmark_group("copies-or-coding");
    for kib in [4u32, 8, 16, 32, 64, 96, 128, 192, 256] {
        let chunk = content(usize::try_from(kib << 10).expect("fits"));
        group.throughput(Throughput::Bytes(u64::from(kib) << 10));
        for coding in [coding(1, 2), coding(4, 2)] {
            // Coded and hashed as the builder does it, but with this k whatever the length.
            let rows = rows(&chunk, coding);
            let mut coder = RowCoder::new(coding);
            group.bench_function(BenchmarkId::new(coding.to_string(), format!("{kib}KiB")), |b| {
                b.iter(|| {
                    for row in &rows {
                        let row = coder.code(row.clone()).expect("a row");
                        let distinct = if coding.is_copies() { 1 } else { row.cells.len() };
                        for cell in &row.cells[..distinct] {
                            for block in cell.chunks(16 << 10) {
                                black_box(blake3::hash(block));
                            }
                        }
                        black_box(row);
                    }
                })
            });
        }
    }
    group.finish();
}

fn proofs(c: &mut Criterion<CoreTime>) {
    let mut group = c.benchmark_group("proof");
    let encoded = encode_chunk(coding(4, 2), content(4 << 20)).expect("a full chunk");
    let mut blob = BlobCommitment::new();
    for _ in 0..1280 {
        blob.push(encoded.commitment.root(), 4 << 20).expect("a full chunk");
    }
    let part = Part { length: blob.length(), blob: blob.root() };
    let object = ObjectCommitment::new(&[part]).expect("small enough");
    let block = encoded.shard(ShardIndex(3)).slice(0..16 << 10);
    let make = || BlockProof::new(&object, 0, &blob, 700, &encoded.commitment, (ShardIndex(3), 0));
    let proof = make().expect("the block is there");
    let root = object.root();
    group.bench_function("blob-root-5GiB", |b| b.iter(|| blob.root()));
    group.bench_function("make-5GiB", |b| b.iter(make));
    group.bench_function("verify-5GiB", |b| b.iter(|| proof.verify(&root, &block)));
    group.finish();
}

/// Measures the time this thread had a core, so that a busy machine does not blur the figures.
struct CoreTime;

impl Measurement for CoreTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(now).expect("the core time of a thread is not negative")
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn measured() -> Criterion<CoreTime> {
    Criterion::default()
        .with_measurement(CoreTime)
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = measured();
    targets = write_path, read_path, rebuild, copies_or_coding, proofs
}
criterion_main!(benches);
