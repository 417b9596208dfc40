//! What encoding, checking and reconstruction cost on one core.

#![allow(missing_docs, reason = "criterion's macros make items without documentation")]
#![allow(clippy::unwrap_used, reason = "a failing bench may panic")]

use ashlar_rsema1d::{CheckedRow, Profile, encode, reconstruct};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const MIB: usize = 1 << 20;

fn noise(len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode_commit");
    group.sample_size(10);
    for (name, profile, mib) in [
        ("small_1MiB", Profile::Small, 1),
        ("small_32MiB", Profile::Small, 32),
        ("large_32MiB", Profile::Large, 32),
    ] {
        let blob = noise(mib * MIB);
        group.throughput(Throughput::Bytes(u64::try_from(blob.len()).unwrap()));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || blob.clone(),
                |blob| encode(profile, blob).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();

    // Throughput is that of the rows a node receives: its share.
    let mut group = criterion.benchmark_group("check_share");
    for (name, profile, mib, rows) in [
        ("small_2_rows_of_512KiB", Profile::Small, 2, 2),
        ("small_1_row_of_8MiB", Profile::Small, 32, 1),
        ("large_148_rows_of_128KiB", Profile::Large, 32, 148),
    ] {
        let encoded = encode(profile, noise(mib * MIB)).unwrap();
        let proofs: Vec<_> = (3..3 + rows).map(|row| encoded.row(row).unwrap()).collect();
        let bytes: usize = proofs.iter().map(|proof| proof.row.len()).sum();
        group.throughput(Throughput::Bytes(u64::try_from(bytes).unwrap()));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let opening = encoded.opening().clone().check(encoded.commitment()).unwrap();
                for proof in &proofs {
                    opening.check_row(proof.clone()).unwrap();
                }
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("reconstruct");
    group.sample_size(10);
    let blob = noise(32 * MIB);
    let encoded = encode(Profile::Small, blob.clone()).unwrap();
    let opening = encoded.opening().clone().check(encoded.commitment()).unwrap();
    for (name, first) in [("small_32MiB_from_originals", 0), ("small_32MiB_from_parity", 4)] {
        let rows: Vec<CheckedRow> =
            (first..first + 4).map(|row| opening.check_row(encoded.row(row).unwrap()).unwrap()).collect();
        group.throughput(Throughput::Bytes(u64::try_from(blob.len()).unwrap()));
        group.bench_function(name, |bencher| bencher.iter(|| reconstruct(&opening, &rows).unwrap()));
    }
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
