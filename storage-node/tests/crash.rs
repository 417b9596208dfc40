//! A crash at every sync, with any subset of the unsynced writes lost, torn or reordered: what was
//! acknowledged is there byte for byte, what was not is absent or complete, deletes stay deletes.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/shards.rs"]
mod shards;

use ashlar_disk::{CrashPlan, FaultyDisk, SyncPhase, SyncPoint};
use ashlar_storage_node::{FencingToken, ShardService, Store};
use ledger::{Expected, FOLDER, Ledger, check_crash, flusher, numbered, open};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Clients that work at once.
const CLIENTS: u64 = 3;

/// SplitMix64: one seed is a whole run.
#[derive(Clone)]
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Puts and deletes of one client, each entered in the ledger before it starts and after it is acknowledged.
async fn client(store: Arc<Store>, ledger: Arc<Mutex<Ledger>>, number: u64, ops: u64, seed: u64) {
    let mut rng = Rng(seed ^ number << 32);
    let mut mine = Vec::new();
    for op in 0..ops {
        if mine.len() > 3 && rng.below(3) == 0 {
            let at = usize::try_from(rng.below(u64::try_from(mine.len()).unwrap())).unwrap();
            let (number, len) = mine.swap_remove(at);
            ledger.lock().unwrap().shards.insert(number, (len, Expected::Either));
            store.delete(&[numbered(number, len).id], FencingToken(1)).await.unwrap();
            ledger.lock().unwrap().shards.insert(number, (len, Expected::Absent));
            continue;
        }
        let len = usize::try_from(match rng.below(8) {
            0 => 262_145 + rng.below(700_000),
            1..=3 => 1 + rng.below(10_000),
            _ => 30_000 + rng.below(35_000),
        })
        .unwrap();
        let number = number * 1000 + op;
        let put = numbered(number, len);
        ledger.lock().unwrap().shards.insert(number, (len, Expected::Either));
        if len > 65_536 && rng.below(2) == 0 {
            let mut writer = store.begin(put.id, 4 << 20).await.unwrap();
            for cell in &put.cells {
                writer.write_cell(cell.clone()).await.unwrap();
            }
            writer.seal(put.footer.clone()).await.unwrap();
        } else {
            store.put(put.clone()).await.unwrap();
        }
        ledger.lock().unwrap().shards.insert(number, (len, Expected::Present));
        mine.push((number, len));
    }
}

/// Runs clients and housekeeping on `disk`; how many log files were compacted.
fn work(disk: &FaultyDisk, ledger: &Arc<Mutex<Ledger>>, clients: u64, ops: u64, seed: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let flusher = flusher();
    let store = Arc::new(open(disk, &flusher));
    runtime.block_on(async {
        for round in 0..3 {
            let clients: Vec<_> = (0..clients)
                .map(|number| {
                    let number = round * 10 + number + 1;
                    tokio::spawn(client(Arc::clone(&store), Arc::clone(ledger), number, ops, seed))
                })
                .collect();
            for client in clients {
                client.await.unwrap();
            }
            let store = Arc::clone(&store);
            tokio::task::spawn_blocking(move || while store.maintain() {}).await.unwrap();
        }
    });
    store.close();
    store.stats().compacted_files.get()
}

fn crash_everywhere(seed: u64) {
    println!("seed {seed}");
    let disk = FaultyDisk::default();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let boundaries = Arc::new(AtomicU64::new(0));
    disk.on_sync({
        let (disk, ledger, failures) = (disk.clone(), Arc::clone(&ledger), Arc::clone(&failures));
        let boundaries = Arc::clone(&boundaries);
        move |point: &SyncPoint| {
            boundaries.fetch_add(1, Ordering::Relaxed);
            let plan = match (point.phase, point.index % 3) {
                (SyncPhase::After, 0) => CrashPlan::LoseAll,
                (SyncPhase::After, 1) => CrashPlan::KeepAll,
                (SyncPhase::After, _) => return,
                (SyncPhase::Before, _) => CrashPlan::Seeded(seed ^ point.index),
            };
            // Nothing is acknowledged or begun while the crash is taken.
            let (after, expected) = {
                let ledger = ledger.lock().unwrap();
                (disk.crash(plan), ledger.clone())
            };
            if let Err(wrong) = check_crash(&after, CrashPlan::KeepAll, &expected) {
                failures.lock().unwrap().push(format!("seed {seed}, {point:?}, {plan:?}: {wrong}"));
            }
        }
    });
    let compacted = work(&disk, &ledger, CLIENTS, 14, seed);
    assert!(compacted > 0, "the work compacts");
    assert!(failures.lock().unwrap().is_empty(), "{:#?}", failures.lock().unwrap());
    assert!(boundaries.load(Ordering::Relaxed) > 100, "the work syncs often");
    let ledger = ledger.lock().unwrap();
    assert!(ledger.shards.values().any(|(_, expected)| *expected == Expected::Absent));
    check_crash(&disk, CrashPlan::LoseAll, &ledger).unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_at_any_sync() {
    crash_everywhere(1);
}

#[test]
fn nothing_acknowledged_is_lost_at_any_sync_of_another_run() {
    crash_everywhere(0xA5A5);
}

/// Whether the crash test notices that the syncs of which `ignored` says so are missing.
fn notices(ignored: impl Fn(&SyncPoint) -> bool + Send + Sync + 'static) -> bool {
    let disk = FaultyDisk::default();
    let ignored_any = Arc::new(AtomicBool::new(false));
    disk.ignore_syncs({
        let ignored_any = Arc::clone(&ignored_any);
        move |point| {
            let ignored = ignored(point);
            ignored_any.fetch_or(ignored, Ordering::Relaxed);
            ignored
        }
    });
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    work(&disk, &ledger, 1, 24, 7);
    assert!(ignored_any.load(Ordering::Relaxed), "the work has such a sync");
    let ledger = ledger.lock().unwrap();
    check_crash(&disk, CrashPlan::LoseAll, &ledger).is_err()
}

fn is_of(point: &SyncPoint, prefix: &str) -> bool {
    point.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

#[test]
fn the_work_without_a_sync_removed_passes() {
    let disk = FaultyDisk::default();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    work(&disk, &ledger, 1, 24, 7);
    check_crash(&disk, CrashPlan::LoseAll, &ledger.lock().unwrap()).unwrap();
}

#[test]
fn a_removed_sync_of_the_log_is_noticed() {
    assert!(notices(|point| is_of(point, "log-")));
}

#[test]
fn a_removed_sync_of_segments_is_noticed() {
    assert!(notices(|point| is_of(point, "segment-")));
}

#[test]
fn a_removed_sync_of_the_folder_is_noticed() {
    assert!(notices(|point| point.path == Path::new(FOLDER)));
}

#[test]
fn each_acknowledgement_depends_on_its_own_syncs() {
    for (number, len, prefix) in
        [(1, 4096, "log-"), (2, 60_000, "log-"), (3, 600_000, "log-"), (4, 600_000, "segment-")]
    {
        let disk = FaultyDisk::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let flusher = flusher();
        let store = open(&disk, &flusher);
        let mut ledger = Ledger::default();
        runtime.block_on(async {
            for number in 100..104 {
                // Segments and log files are made here, so that what follows syncs for itself alone.
                let len = if number % 2 == 0 { 5000 } else { 600_000 };
                store.put(numbered(number, len)).await.unwrap();
                ledger.shards.insert(number, (len, Expected::Present));
            }
        });
        check_crash(&disk, CrashPlan::LoseAll, &ledger).unwrap();
        disk.ignore_syncs(move |point| is_of(point, prefix));
        runtime.block_on(store.put(numbered(number, len))).unwrap();
        ledger.shards.insert(number, (len, Expected::Present));
        assert!(check_crash(&disk, CrashPlan::LoseAll, &ledger).is_err(), "{len} bytes without {prefix}");
        assert!(check_crash(&disk, CrashPlan::KeepAll, &ledger).is_ok(), "{len} bytes without {prefix}");
    }
}

#[test]
fn a_delete_depends_on_its_sync() {
    let disk = FaultyDisk::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let flusher = flusher();
    let store = open(&disk, &flusher);
    let mut ledger = Ledger::default();
    for (number, len) in [(1, 5000), (2, 600_000), (3, 5000)] {
        runtime.block_on(store.put(numbered(number, len))).unwrap();
        ledger.shards.insert(number, (len, Expected::Present));
    }
    for (number, len) in [(1, 5000), (2, 600_000)] {
        runtime.block_on(store.delete(&[numbered(number, len).id], FencingToken(1))).unwrap();
        ledger.shards.insert(number, (len, Expected::Absent));
        check_crash(&disk, CrashPlan::LoseAll, &ledger).unwrap();
    }
    disk.ignore_syncs(|point| is_of(point, "log-"));
    runtime.block_on(store.delete(&[numbered(3, 5000).id], FencingToken(1))).unwrap();
    ledger.shards.insert(3, (5000, Expected::Absent));
    assert!(check_crash(&disk, CrashPlan::LoseAll, &ledger).is_err());
}
