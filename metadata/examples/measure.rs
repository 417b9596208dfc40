//! Measures the embedded store at size: bulk load, 64 concurrent commits with latencies, reads, LIST with
//! prefixes and delimiter skipping, LIST behind a million deleted rows, reopening.
//!
//! `cargo run --release -p ashlar-metadata --example measure -- DIR [ROWS] [REPLICAS]`; DIR must not exist.
//! All locations lie below DIR, so replicas share its disk here.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a measurement may panic, and rounds")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_disk::{Disk, RealDisk};
use ashlar_metadata::embedded::{EmbeddedKv, JournalLocation, Options, Stats};
use ashlar_metadata::{Commit, Direction, KeyRange, OrderedKv, Write};
use bytes::Bytes;

const CLIENTS: u64 = 64;
const COMMITS: u64 = 100_000;

fn listed(number: u64) -> Bytes {
    Bytes::from(format!("current/bucket/dir{:05}/object-{number:010}", number / 1000))
}

fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn value() -> Bytes {
    Bytes::from(vec![7; 300])
}

fn put(number: u64, rows: u64) -> Commit {
    let key = |kind: &str| Bytes::from(format!("{kind}/bucket/{:016x}", scattered(number)));
    let append = Bytes::from(format!("manifest/{number:016x}"));
    let keys = [key("head"), key("version"), listed(scattered(number) % rows), append];
    let mut writes: Vec<_> = keys.into_iter().map(|key| Write::Put { key, value: value() }).collect();
    let (key_prefix, key_suffix) = (Bytes::from_static(b"outbox/"), Bytes::new());
    writes.push(Write::PutAtPosition { key_prefix, key_suffix, value: value() });
    Commit { writes, ..Commit::default() }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let (half, most, all) = (at(0.5), at(0.99), at(1.0));
    println!("{what}: p50 {half:.1} µs, p99 {most:.1} µs, max {all:.1} µs");
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}

fn open(dir: &std::path::Path, replicas: usize) -> Arc<EmbeddedKv> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    let names = (0..=replicas).map(|index| dir.join(format!("journal-{index}")));
    let locations: Vec<_> = names.map(|dir| JournalLocation { disk: Arc::clone(&disk), dir }).collect();
    Arc::new(EmbeddedKv::open(&locations, &Options::default()).unwrap())
}

fn print_groups(before: &Stats, after: &Stats, time: Duration) {
    let groups = (after.groups - before.groups) as f64;
    let commits = (after.commits - before.commits) as f64;
    println!(
        "  {:.0} commits/s; {:.1} commits a group; journal {:.0} µs, rest of apply {:.0} µs a group; \
         {} persists, {} checkpoints, {} MiB resident",
        commits / time.as_secs_f64(),
        commits / groups,
        (after.sync_time - before.sync_time).as_secs_f64() * 1e6 / groups,
        (after.apply_time - before.apply_time).as_secs_f64() * 1e6 / groups,
        after.persists - before.persists,
        after.checkpoints - before.checkpoints,
        resident_mib(),
    );
}

async fn commits(kv: &Arc<EmbeddedKv>, clients: u64, count: u64, from: u64, rows: u64) {
    let (before, begun) = (kv.stats(), Instant::now());
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let kv = Arc::clone(kv);
            tokio::spawn(async move {
                let mut times = Vec::new();
                for number in (from + client..from + count).step_by(usize::try_from(clients).unwrap()) {
                    let commit = put(number, rows);
                    let begun = Instant::now();
                    kv.commit(commit).await.unwrap();
                    times.push(begun.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let time = begun.elapsed();
    report(&format!("{clients} clients committing five rows"), times);
    print_groups(&before, &kv.stats(), time);
}

async fn list(kv: &EmbeddedKv, range: KeyRange) -> Duration {
    let begun = Instant::now();
    let snapshot = kv.snapshot().await.unwrap();
    let page = snapshot.scan(range, Direction::Forward, 1000).await.unwrap();
    assert_eq!(page.rows.len(), 1000);
    begun.elapsed()
}

async fn reads(kv: &EmbeddedKv, rows: u64) {
    for (what, among) in [("hot", 20_000.min(rows)), ("any", rows)] {
        let mut times = Vec::new();
        for turn in 0..50_000 {
            let key = |salt: u64| listed(scattered(turn * 3 + salt) % among);
            let keys = [key(0), key(1), key(2)];
            let begun = Instant::now();
            kv.get_many(&[&keys[0], &keys[1], &keys[2]]).await.unwrap();
            times.push(begun.elapsed());
        }
        report(&format!("three {what} rows read"), times);
    }
    let mut times = Vec::new();
    for turn in 0..1000 {
        times.push(list(kv, KeyRange::starting_at(listed(scattered(turn) % (rows - 2000)))).await);
    }
    report("LIST of 1000", times);
    let (begun, snapshot) = (Instant::now(), kv.snapshot().await.unwrap());
    let mut range = KeyRange::prefix(&b"current/bucket/"[..]);
    let mut prefixes = 0;
    while prefixes < 1000 {
        let page = snapshot.scan(range.clone(), Direction::Forward, 1).await.unwrap();
        let Some((key, _)) = page.rows.first() else { break };
        let common = KeyRange::prefix(key.slice(.."current/bucket/dir00000/".len()));
        range = KeyRange { start: common.end.unwrap(), end: range.end };
        prefixes += 1;
    }
    println!("LIST with delimiter: {prefixes} common prefixes by seek in {:?}", begun.elapsed());
}

async fn deleted(kv: &EmbeddedKv, rows: u64) {
    let (from, count) = (rows / 2, 1_000_000.min(rows / 2 - 2000));
    let begun = Instant::now();
    for first in (from..from + count).step_by(1000) {
        let writes = (first..(first + 1000).min(from + count)).map(|row| Write::Delete { key: listed(row) });
        kv.commit(Commit { writes: writes.collect(), ..Commit::default() }).await.unwrap();
    }
    println!("{count} rows deleted in {:?}", begun.elapsed());
    let behind = || list(kv, KeyRange::starting_at(listed(from)));
    println!("LIST of 1000 behind them: {:?}, again {:?}", behind().await, behind().await);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let dir = PathBuf::from(arguments.get(1).expect("the first argument is a new folder"));
    assert!(!dir.exists(), "{} exists", dir.display());
    let number =
        |index: usize, default: u64| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let (rows, replicas) = (number(2, 1_000_000), usize::try_from(number(3, 0)).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kv = open(&dir, replicas);
    runtime.block_on(async {
        commits(&kv, 1, 5_000, 0, rows).await;
        commits(&kv, CLIENTS, COMMITS, 5_000, rows).await;
        let begun = Instant::now();
        for first in (0..rows).step_by(2000) {
            let writes =
                (first..(first + 2000).min(rows)).map(|row| Write::Put { key: listed(row), value: value() });
            kv.commit(Commit { writes: writes.collect(), ..Commit::default() }).await.unwrap();
        }
        println!("{rows} rows loaded in {:?}, {} MiB resident", begun.elapsed(), resident_mib());
        commits(&kv, CLIENTS, COMMITS, 1_000_000, rows).await;
        reads(&kv, rows).await;
        deleted(&kv, rows).await;
    });
    let begun = Instant::now();
    drop(kv);
    println!("closed in {:?}", begun.elapsed());
    let begun = Instant::now();
    let kv = open(&dir, replicas);
    println!("opened in {:?}: {:?}", begun.elapsed(), kv.report());
}
