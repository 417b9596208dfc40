//! Crashes at every sync boundary: any subset of what was not synced is lost, kept, torn or reordered.
//!
//! At each boundary the disk as a crash would leave it is opened, as it is and with all but one location
//! gone. What had been answered must be there, everything else whole or absent, and the store must work.
//! The meta-test shows that the harness notices a missing sync of every kind.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_disk::{CrashPlan, SyncPhase, SyncPoint};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::*;
use crate::commit::Check;

/// Commits that were answered.
type Answered = Arc<Mutex<BTreeSet<u64>>>;

const TINY: Options = Options {
    cache_bytes: 1024 * 1024,
    segment_bytes: 20 * 1024,
    checkpoint_journal_bytes_min: u64::MAX,
    checkpoint_bytes_per_second: u64::MAX,
    locations_min: 1,
    queue_bytes_max: 64 * 1024 * 1024,
    may_make: true,
};

fn open_tiny(disk: &FaultyDisk, replicas: usize) -> Result<EmbeddedKv, OpenError> {
    EmbeddedKv::open(&locations(disk, replicas), &TINY)
}

/// Commit `number`: three rows that must come together, one named by position, and one that it removes.
fn numbered(number: u64) -> Commit {
    let name = |kind: &str| key(&format!("{kind}/{number}"));
    let value = key(&format!("{number}"));
    let mut writes = vec![
        Write::Put { key: name("a"), value: value.clone() },
        Write::Put { key: name("b"), value: value.clone() },
        Write::PutAtPosition { key_prefix: key("log/"), key_suffix: key(""), value },
    ];
    if number.is_multiple_of(3) {
        writes.push(Write::Delete { key: key(&format!("c/{}", number / 3)) });
    }
    let transaction = Some(TransactionId(u128::from(number).to_be_bytes()));
    Commit { checks: vec![Check::Absent(name("a"))], writes, transaction }
}

/// Looks at a store after a crash; the error says what is wrong with it.
fn verify(kv: &EmbeddedKv, answered: &BTreeSet<u64>) -> Result<(), String> {
    let view = kv.shared.view();
    let scan = |prefix: &str| -> BTreeMap<String, u64> {
        let range = KeyRange::prefix(key(prefix));
        let (start, end) = range.visible();
        let page = view.scan(start, end, Direction::Forward, limits::SCAN_ROWS_MAX).unwrap();
        let number = |value: &Bytes| String::from_utf8_lossy(value).parse().unwrap();
        let suffix = |key: &Bytes| String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
        page.rows.iter().map(|(key, row)| (suffix(key), number(&row.value))).collect()
    };
    let numbers = |rows: BTreeMap<String, u64>| -> BTreeSet<u64> { rows.into_values().collect() };
    let (a, b, log) = (numbers(scan("a/")), numbers(scan("b/")), numbers(scan("log/")));
    if a != b || a != log {
        return Err(format!("a commit came back in part: {a:?} {b:?} {log:?}"));
    }
    match answered.difference(&a).next() {
        Some(lost) => Err(format!("answered commit {lost} is lost")),
        None => Ok(()),
    }
}

/// Opens what a crash left and goes on with it.
fn survive(disk: &FaultyDisk, replicas: usize, answered: &BTreeSet<u64>) -> Result<(), String> {
    let kv = open_tiny(disk, replicas).map_err(|error| format!("it does not open: {error}"))?;
    verify(&kv, answered)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(kv.commit(numbered(1_000_000))).map_err(|error| format!("no more commits: {error}"))?;
    drop(kv);
    let kv = open_tiny(disk, replicas).map_err(|error| format!("it does not open again: {error}"))?;
    let mut answered = answered.clone();
    answered.insert(1_000_000);
    verify(&kv, &answered)
}

/// What a crash at a boundary leaves, tried with everything and with one surviving location.
fn try_crash(
    disk: &FaultyDisk,
    replicas: usize,
    plan: CrashPlan,
    survivor: Option<usize>,
    answered: &BTreeSet<u64>,
) -> Result<(), String> {
    let crashed = disk.crash(plan);
    if let Some(survivor) = survivor {
        for (index, location) in locations(disk, replicas).iter().enumerate() {
            if index != survivor {
                crashed.wipe(dir(location));
            }
        }
    }
    // A disk that lied about a sync may leave the engine with pages that it panics at.
    let survive = std::panic::AssertUnwindSafe(|| survive(&crashed, replicas, answered));
    let survived = std::panic::catch_unwind(survive);
    survived
        .unwrap_or_else(|_| Err("it panicked".to_owned()))
        .map_err(|error| format!("{plan:?}, survivor {survivor:?}: {error}; files {:?}", crashed.files()))
}

/// Opens, commits from `tasks` writers, makes bases, goes on, closes, reopens, goes on.
fn workload(disk: &FaultyDisk, replicas: usize, tasks: u64, answered: &Answered) {
    let runtime = Runtime::new().unwrap();
    let burst = |kv: &Arc<EmbeddedKv>, from: u64, each: u64| {
        let writers: Vec<_> = (0..tasks)
            .map(|task| {
                let (kv, answered) = (Arc::clone(kv), Arc::clone(answered));
                runtime.spawn(async move {
                    for round in 0..each {
                        let number = from + round * tasks + task;
                        kv.commit(numbered(number)).await.unwrap();
                        answered.lock().insert(number);
                    }
                })
            })
            .collect();
        for writer in writers {
            runtime.block_on(writer).unwrap();
        }
    };
    for opening in 0..2 {
        let kv = Arc::new(open_tiny(disk, replicas).unwrap());
        for part in 0..2 {
            burst(&kv, 1 + opening * 1000 + part * 100, 5);
            assert!(kv.checkpoint_now());
        }
        burst(&kv, 500 + opening * 1000, 3);
    }
}

/// A boundary at which a crash lost something, or nothing usable was left.
struct Failure(String);

/// Crashes `disk` at each of its sync boundaries that `at` lets through, until one loses something.
fn watch(
    disk: &FaultyDisk,
    replicas: usize,
    answered: &Answered,
    at: impl Fn(&SyncPoint) -> Vec<(CrashPlan, Option<usize>)> + Send + Sync + 'static,
) -> Arc<Mutex<Option<Failure>>> {
    let failure: Arc<Mutex<Option<Failure>>> = Arc::default();
    let (crashing, noted, failed) = (disk.clone(), Arc::clone(answered), Arc::clone(&failure));
    disk.on_sync(move |point: &SyncPoint| {
        if failed.lock().is_some() {
            return;
        }
        // Taken before the crash: whatever was answered by now must survive it.
        let answered = noted.lock().clone();
        for (plan, survivor) in at(point) {
            if let Err(error) = try_crash(&crashing, replicas, plan, survivor, &answered) {
                let (index, path, phase) = (point.index, point.path.display(), point.phase);
                *failed.lock() = Some(Failure(format!("sync {index} of {path}, {phase:?}: {error}")));
                return;
            }
        }
    });
    failure
}

/// Runs the workload and crashes at every boundary; answers the number of syncs.
fn crash_everywhere(replicas: usize, tasks: u64, seed: u64) -> Result<u64, String> {
    let disk = FaultyDisk::default();
    let answered = Answered::default();
    let failure = watch(&disk, replicas, &answered, move |point| {
        let mixed = seed.wrapping_mul(1_000_003).wrapping_add(point.index * 2);
        let turn = usize::try_from(point.index).unwrap();
        let one = (replicas > 0).then(|| turn % (replicas + 1));
        match point.phase {
            SyncPhase::Before => vec![(CrashPlan::Seeded(mixed), None), (CrashPlan::Seeded(mixed + 1), one)],
            SyncPhase::After => vec![(CrashPlan::LoseAll, None), (CrashPlan::LoseAll, one)],
        }
    });
    workload(&disk, replicas, tasks, &answered);
    disk.on_sync(|_| ());
    let failure = failure.lock().take();
    failure.map_or_else(|| Ok(disk.syncs()), |Failure(failure)| Err(failure))
}

#[test]
fn nothing_answered_is_lost_at_any_sync_boundary() {
    // More rounds, with other seeds, for a long run.
    let rounds = std::env::var("ASHLAR_CRASH_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let kinds = [(0, 1), (0, 4), (1, 3), (2, 4)];
    for (seed, (replicas, tasks)) in (11..).zip(kinds.into_iter().cycle().take(kinds.len() * rounds)) {
        println!("replicas {replicas}, writers {tasks}, seed {seed}");
        let syncs = crash_everywhere(replicas, tasks, seed).unwrap();
        assert!(syncs > 50, "{syncs} syncs");
    }
}

#[test]
fn a_crash_while_it_recovers_loses_nothing() {
    let disk = FaultyDisk::default();
    let answered = Answered::default();
    workload(&disk, 2, 3, &answered);
    for (survivor, seed) in [(1, 31), (2, 32), (0, 33)] {
        println!("survivor {survivor}, seed {seed}");
        let left = disk.crash(CrashPlan::LoseAll);
        for (index, location) in locations(&disk, 2).iter().enumerate() {
            if index != survivor {
                left.wipe(dir(location));
            }
        }
        let failure = watch(&left, 2, &answered, move |point| match point.phase {
            SyncPhase::Before => vec![(CrashPlan::Seeded(seed * 1000 + point.index), None)],
            SyncPhase::After => vec![(CrashPlan::LoseAll, None), (CrashPlan::LoseAll, Some(survivor))],
        });
        let kv = open_tiny(&left, 2).unwrap();
        left.on_sync(|_| ());
        if let Some(Failure(failure)) = failure.lock().take() {
            panic!("{failure}");
        }
        verify(&kv, &answered.lock()).unwrap();
    }
}

/// The kind of file or directory that a sync covers.
fn kind(path: &Path) -> &'static str {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let kinds = ["segment-", "next-segment", "superblock", "checkpoint-", "rows.redb"];
    kinds.into_iter().find(|kind| name.starts_with(kind)).unwrap_or("directory")
}

/// Boundaries after a removed sync at which the meta-test still crashes.
const LATER_BOUNDARIES: u64 = 12;

/// Runs the workload without sync number `ignored`; answers what that sync covered, and whether any crash
/// soon after shows that it is missing.
fn is_noticed(replicas: usize, ignored: u64) -> (&'static str, bool) {
    let disk = FaultyDisk::default();
    disk.ignore_sync(ignored);
    let answered = Answered::default();
    let covered = Arc::new(Mutex::new("nothing"));
    let noting = Arc::clone(&covered);
    let failure = watch(&disk, replicas, &answered, move |point| {
        if point.index == ignored {
            *noting.lock() = kind(&point.path);
        }
        if point.index < ignored || point.index > ignored + LATER_BOUNDARIES {
            return Vec::new();
        }
        let survivors = if replicas == 0 { vec![None] } else { vec![Some(1)] };
        survivors.into_iter().map(|survivor| (CrashPlan::LoseAll, survivor)).collect()
    });
    workload(&disk, replicas, 1, &answered);
    disk.on_sync(|_| ());
    let covered = *covered.lock();
    let noticed = failure.lock().is_some();
    (covered, noticed)
}

#[test]
fn removing_a_sync_is_noticed() {
    for (replicas, kinds) in [
        (0, &["segment-", "next-segment", "superblock", "rows.redb", "directory"][..]),
        (1, &["checkpoint-"]),
    ] {
        let disk = FaultyDisk::default();
        workload(&disk, replicas, 1, &Answered::default());
        let mut noticed: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for index in 0..disk.syncs() {
            let (kind, found) = is_noticed(replicas, index);
            let (of_kind, all) = noticed.entry(kind).or_default();
            *of_kind += u32::from(found);
            *all += 1;
        }
        println!("noticed, of all, by kind: {noticed:?}");
        for kind in kinds {
            assert!(noticed[kind].0 > 0, "no removed sync of {kind} was noticed: {noticed:?}");
        }
        if replicas == 0 {
            // Each of the 26 commits of the workload has a sync of its own, and each one counts.
            assert!(noticed["segment-"].0 >= 26, "{noticed:?}");
        }
    }
}
