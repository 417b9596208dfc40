//! The suite that every [`OrderedKv`] must pass.
//!
//! Owns what "ordered, transactional, snapshot-isolated, stable" means in checks that run on any
//! implementation. Invariant: each case begins with an empty store, waits for conditions and never for
//! time, and random ones take a seed that a failure names. Deliberately knows no implementation.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "panicking is how a case fails")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::commit::{Check, Commit, CommitError, Outcome, TransactionId, Write};
use crate::limits::{self, LimitError};
use crate::ordered_kv::{Direction, KeyRange, OrderedKv, Page, Position, ReadError};

/// Makes stores of one implementation.
#[async_trait]
pub trait Harness: Send + Sync {
    /// An empty store.
    async fn open(&self) -> Arc<dyn OrderedKv>;
    /// An empty store with a gate that can hold a commit open.
    async fn open_gated(&self) -> (Arc<dyn OrderedKv>, Arc<dyn Gate>);
    /// Whether a commit can finish while an earlier one is open.
    fn finishes_out_of_order(&self) -> bool;
}

/// Holds a commit between its checks and its effect.
#[async_trait]
pub trait Gate: Send + Sync {
    /// The next commit that comes to the gate is held.
    fn close(&self);
    /// Waits until a commit is held.
    async fn reached(&self);
    /// Lets the held commit go on.
    fn open(&self);
}

/// Makes a test of each case for a harness expression.
#[macro_export]
macro_rules! ordered_kv_conformance {
    ($harness:expr) => {
        $crate::ordered_kv_conformance!($harness;
            rows_come_and_go, checks_decide, a_failed_check_writes_nothing, last_write_of_a_key_wins,
            positions_stand_in_keys_and_values, scans_see_ranges_in_both_directions, scans_are_bounded,
            snapshots_never_change, racing_creators_have_one_winner, conflicts_within_a_burst_are_found,
            an_open_commit_holds_the_stable_position, a_transaction_happens_once, transactions_expire,
            limits_are_errors, counters_are_serialisable
        );
    };
    ($harness:expr; $($case:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::$case(&$harness).await;
        }
    )+};
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(name: &str, value: &str) -> Write {
    Write::Put { key: key(name), value: key(value) }
}

fn delete(name: &str) -> Write {
    Write::Delete { key: key(name) }
}

fn commit(checks: Vec<Check>, writes: Vec<Write>) -> Commit {
    Commit { checks, writes, transaction: None }
}

async fn write(kv: &dyn OrderedKv, writes: Vec<Write>) -> Position {
    kv.commit(commit(vec![], writes)).await.expect("nothing to conflict with")
}

async fn value(kv: &dyn OrderedKv, name: &str) -> Option<String> {
    let row = kv.get(name.as_bytes()).await.expect("a small key reads")?;
    Some(String::from_utf8_lossy(&row.value).into_owned())
}

async fn names(kv: &dyn OrderedKv, range: KeyRange, direction: Direction) -> Vec<String> {
    let page = kv.snapshot().await.expect("open").scan(range, direction, 1000).await.expect("scans");
    assert!(!page.more);
    keys_of(&page)
}

fn keys_of(page: &Page) -> Vec<String> {
    page.rows.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
}

/// What is put is read, at the version of its commit, until it is deleted.
pub async fn rows_come_and_go(harness: &dyn Harness) {
    let kv = harness.open().await;
    assert_eq!(value(&*kv, "a").await, None);
    let before = kv.stable_position();
    let first = write(&*kv, vec![put("a", "1"), put("b", ""), put("a\0", "long")]).await;
    assert!(first > before);
    assert!(kv.stable_position() >= first);
    let row = kv.get(b"a").await.unwrap().unwrap();
    assert_eq!((&row.value[..], row.version), (&b"1"[..], first));
    assert_eq!(value(&*kv, "b").await.as_deref(), Some(""));
    let second = write(&*kv, vec![put("a", "2"), delete("b"), delete("never")]).await;
    assert!(second > first);
    let rows = kv.get_many(&[b"b", b"a", b"a\0", b"zz"]).await.unwrap();
    assert_eq!(rows[0], None);
    assert_eq!(rows[1].as_ref().unwrap().version, second);
    assert_eq!(rows[2].as_ref().unwrap().version, first);
    assert_eq!(rows[3], None);
    let empty = write(&*kv, vec![]).await;
    assert!(empty > second);
}

/// Each kind of check holds exactly when it should, and names itself when not.
pub async fn checks_decide(harness: &dyn Harness) {
    let kv = harness.open().await;
    let first = write(&*kv, vec![put("a", "1")]).await;
    let second = write(&*kv, vec![put("b", "1")]).await;
    let holds = |check| kv.commit(commit(vec![check], vec![]));
    holds(Check::Absent(key("c"))).await.unwrap();
    holds(Check::Present(key("a"))).await.unwrap();
    holds(Check::At(key("a"), first)).await.unwrap();
    let conflict = |check, found| Err(CommitError::Conflict { check, found });
    assert_eq!(holds(Check::Absent(key("a"))).await, conflict(0, Some(first)));
    assert_eq!(holds(Check::Present(key("c"))).await, conflict(0, None));
    assert_eq!(holds(Check::At(key("c"), first)).await, conflict(0, None));
    let checks = vec![Check::Present(key("a")), Check::At(key("b"), first), Check::Absent(key("a"))];
    assert_eq!(kv.commit(commit(checks, vec![])).await, conflict(1, Some(second)));
}

/// A commit whose check fails leaves no trace, and its own writes do not count for its checks.
pub async fn a_failed_check_writes_nothing(harness: &dyn Harness) {
    let kv = harness.open().await;
    write(&*kv, vec![put("a", "1")]).await;
    let checks = vec![Check::Present(key("b"))];
    let failed = kv.commit(commit(checks, vec![put("b", "1"), delete("a")])).await;
    assert_eq!(failed, Err(CommitError::Conflict { check: 0, found: None }));
    assert_eq!(names(&*kv, KeyRange::all(), Direction::Forward).await, ["a"]);
    let checks = vec![Check::Absent(key("b"))];
    kv.commit(commit(checks, vec![put("b", "1")])).await.unwrap();
}

/// Writes of one commit apply in order.
pub async fn last_write_of_a_key_wins(harness: &dyn Harness) {
    let kv = harness.open().await;
    write(&*kv, vec![put("a", "1"), delete("a"), put("b", "1"), delete("b"), put("b", "2"), put("c", "x")])
        .await;
    write(&*kv, vec![put("c", "y"), delete("c")]).await;
    assert_eq!(names(&*kv, KeyRange::all(), Direction::Forward).await, ["b"]);
    assert_eq!(value(&*kv, "b").await.as_deref(), Some("2"));
}

/// Rows named by position sort in commit order and carry the position that was answered.
pub async fn positions_stand_in_keys_and_values(harness: &dyn Harness) {
    let kv = harness.open().await;
    let mut tasks = Vec::new();
    for task in 0..8 {
        let kv = Arc::clone(&kv);
        tasks.push(tokio::spawn(async move {
            let mut positions = Vec::new();
            for round in 0..8 {
                let at = |suffix: &str| Write::PutAtPosition {
                    key_prefix: key("log/"),
                    key_suffix: key(suffix),
                    value: key(&format!("{task} {round}")),
                };
                let inside = Write::PutWithPosition {
                    key: key(&format!("last/{task}")),
                    value_prefix: key("at "),
                    value_suffix: key("!"),
                };
                positions.push(write(&*kv, vec![at("/a"), at("/b"), inside]).await);
            }
            positions
        }));
    }
    let mut positions = Vec::new();
    for task in tasks {
        positions.extend(task.await.unwrap());
    }
    positions.sort();
    let snapshot = kv.snapshot().await.unwrap();
    let page = snapshot.scan(KeyRange::prefix(&b"log/"[..]), Direction::Forward, 1000).await.unwrap();
    let mut expected = Vec::new();
    for position in &positions {
        for suffix in ["/a", "/b"] {
            expected.push([b"log/", &position.to_be_bytes()[..], suffix.as_bytes()].concat());
        }
    }
    let found: Vec<Vec<u8>> = page.rows.iter().map(|(key, _)| key.to_vec()).collect();
    assert_eq!(found, expected);
    let row = kv.get(b"last/3").await.unwrap().unwrap();
    assert_eq!(&row.value[..], [b"at ", &row.version.to_be_bytes()[..], b"!"].concat());
}

/// Ranges include their start, exclude their end, and read backwards too.
pub async fn scans_see_ranges_in_both_directions(harness: &dyn Harness) {
    let kv = harness.open().await;
    let all = ["a", "a/", "a/1", "a/2", "a0", "b", "\u{7f}"];
    write(&*kv, all.iter().map(|name| put(name, "")).collect()).await;
    // Rows that the store keeps for itself are never seen.
    let transaction = Some(TransactionId([1; 16]));
    kv.commit(Commit { transaction, ..Commit::default() }).await.unwrap();
    assert_eq!(names(&*kv, KeyRange::all(), Direction::Forward).await, all);
    let mut backward = names(&*kv, KeyRange::all(), Direction::Backward).await;
    backward.reverse();
    assert_eq!(backward, all);
    let range = |start: &str, end: &str| KeyRange::between(key(start), key(end));
    assert_eq!(names(&*kv, range("a/", "a0"), Direction::Forward).await, ["a/", "a/1", "a/2"]);
    assert_eq!(names(&*kv, range("a/0", "b"), Direction::Backward).await, ["a0", "a/2", "a/1"]);
    assert_eq!(names(&*kv, range("b", "a"), Direction::Forward).await, [""; 0]);
    assert_eq!(names(&*kv, range("b", "b"), Direction::Backward).await, [""; 0]);
    assert_eq!(names(&*kv, KeyRange::prefix(key("a/")), Direction::Forward).await, ["a/", "a/1", "a/2"]);
    assert_eq!(names(&*kv, KeyRange::starting_at(key("a00")), Direction::Forward).await, ["b", "\u{7f}"]);
}

/// A scan stops at its rows or its bytes, says so, and goes on without loss.
pub async fn scans_are_bounded(harness: &dyn Harness) {
    let kv = harness.open().await;
    let rows: Vec<String> = (0..25).map(|row| format!("row-{row:02}")).collect();
    write(&*kv, rows.iter().map(|name| put(name, "v")).collect()).await;
    let snapshot = kv.snapshot().await.unwrap();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut range = KeyRange::all();
        let mut found = Vec::new();
        loop {
            let page = snapshot.scan(range.clone(), direction, 10).await.unwrap();
            assert!(page.rows.len() <= 10);
            found.extend(keys_of(&page));
            let Some((last, _)) = page.rows.last().filter(|_| page.more) else { break };
            range = match direction {
                Direction::Forward => range.after(last),
                Direction::Backward => range.before(last.clone()),
            };
        }
        if direction == Direction::Backward {
            found.reverse();
        }
        assert_eq!(found, rows);
    }
    let exactly = snapshot.scan(KeyRange::all(), Direction::Forward, 25).await.unwrap();
    assert!(!exactly.more);
    let large = Bytes::from(vec![7; limits::VALUE_BYTES_MAX]);
    let at_most = limits::SCAN_BYTES_MAX / limits::VALUE_BYTES_MAX + 1;
    for row in 0..at_most + 1 {
        write(&*kv, vec![Write::Put { key: key(&format!("x{row:02}")), value: large.clone() }]).await;
    }
    let snapshot = kv.snapshot().await.unwrap();
    let page = snapshot.scan(KeyRange::prefix(key("x")), Direction::Forward, 1000).await.unwrap();
    assert!(page.more && page.rows.len() <= at_most, "{} rows of 1 MiB", page.rows.len());
}

/// A snapshot shows one instant, whatever happens afterwards.
pub async fn snapshots_never_change(harness: &dyn Harness) {
    let kv = harness.open().await;
    let first = write(&*kv, vec![put("a", "1"), put("b", "1")]).await;
    let snapshot = kv.snapshot().await.unwrap();
    assert!(snapshot.position() >= first);
    for round in 0..50 {
        write(&*kv, vec![put("a", "2"), delete("b"), put(&format!("c{round}"), "2")]).await;
    }
    assert_eq!(&snapshot.get(b"a").await.unwrap().unwrap().value[..], b"1");
    assert_eq!(snapshot.get(b"b").await.unwrap().unwrap().version, first);
    assert_eq!(snapshot.get(b"c0").await.unwrap(), None);
    let page = snapshot.scan(KeyRange::all(), Direction::Forward, 100).await.unwrap();
    assert_eq!(keys_of(&page), ["a", "b"]);
    let later = kv.snapshot().await.unwrap();
    drop(snapshot);
    assert_eq!(later.scan(KeyRange::all(), Direction::Backward, 100).await.unwrap().rows.len(), 51);
    assert_eq!(later.get_many(&[b"a", b"b"]).await.unwrap()[1], None);
}

/// Of many commits that need a key absent, one happens, and the others learn its position.
pub async fn racing_creators_have_one_winner(harness: &dyn Harness) {
    let kv = harness.open().await;
    for round in 0..20 {
        let name = format!("prize-{round}");
        let tasks: Vec<_> = (0..32)
            .map(|task| {
                let (kv, name) = (Arc::clone(&kv), name.clone());
                tokio::spawn(async move {
                    let checks = vec![Check::Absent(key(&name))];
                    kv.commit(commit(checks, vec![put(&name, &task.to_string())])).await
                })
            })
            .collect();
        let mut won = Vec::new();
        let mut lost = Vec::new();
        for (index, task) in tasks.into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(position) => won.push((index, position)),
                Err(CommitError::Conflict { check: 0, found }) => lost.push(found),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(won.len(), 1);
        assert!(lost.iter().all(|found| *found == Some(won[0].1)));
        assert_eq!(value(&*kv, &name).await, Some(won[0].0.to_string()));
    }
}

/// Commits that wait together see each other's rows and deletions in their checks.
pub async fn conflicts_within_a_burst_are_found(harness: &dyn Harness) {
    let kv = harness.open().await;
    let start = write(&*kv, vec![put("token", "0")]).await;
    for _ in 0..10 {
        let version = kv.get(b"token").await.unwrap().map_or(start, |row| row.version);
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let kv = Arc::clone(&kv);
                tokio::spawn(async move {
                    let writes = vec![delete("token"), put(&format!("seen-{task}"), "")];
                    let take = kv.commit(commit(vec![Check::At(key("token"), version)], writes)).await;
                    let back = vec![Check::Absent(key("token"))];
                    let give = kv.commit(commit(back, vec![put("token", &task.to_string())])).await;
                    (take.is_ok(), give.is_ok())
                })
            })
            .collect();
        let (mut takes, mut gives) = (0, 0);
        for task in tasks {
            let (take, give) = task.await.unwrap();
            takes += u32::from(take);
            gives += u32::from(give);
        }
        assert_eq!((takes, gives), (1, 1));
    }
}

/// While a commit is open the stable position stays below it, whoever finishes later.
pub async fn an_open_commit_holds_the_stable_position(harness: &dyn Harness) {
    let (kv, gate) = harness.open_gated().await;
    write(&*kv, vec![put("before", "")]).await;
    let stable_before = kv.stable_position();
    gate.close();
    let spawn = |name: &'static str| {
        let kv = Arc::clone(&kv);
        tokio::spawn(async move { write(&*kv, vec![put(name, "")]).await })
    };
    let held = spawn("held");
    gate.reached().await;
    let later = spawn("later");
    let (finished_early, waiting) = match harness.finishes_out_of_order() {
        true => (Some(later.await.unwrap()), None),
        false => (None, Some(later)),
    };
    assert_eq!(kv.stable_position(), stable_before);
    let snapshot = kv.snapshot().await.unwrap();
    assert_eq!(snapshot.position(), stable_before);
    assert_eq!(snapshot.get(b"held").await.unwrap(), None);
    if let Some(position) = finished_early {
        assert_eq!(value(&*kv, "later").await.as_deref(), Some(""));
        assert!(position > stable_before);
    }
    gate.open();
    let held_position = held.await.unwrap();
    assert!(held_position > stable_before);
    if let Some(position) = finished_early {
        assert!(position > held_position, "positions are given when commits begin");
    }
    assert_eq!(snapshot.get(b"held").await.unwrap(), None);
    assert_eq!(value(&*kv, "held").await.as_deref(), Some(""));
    if let Some(later) = waiting {
        assert!(later.await.unwrap() > held_position);
    }
    let last = write(&*kv, vec![put("after", "")]).await;
    assert_eq!(kv.stable_position(), last);
}

/// A commit that carries an id happens once, and its outcome can be asked.
pub async fn a_transaction_happens_once(harness: &dyn Harness) {
    let kv = harness.open().await;
    let id = TransactionId([9; 16]);
    assert_eq!(kv.outcome(id).await.unwrap(), Outcome::NotCommitted);
    let once = |value: &str| Commit {
        checks: vec![Check::Absent(key("a"))],
        writes: vec![put("a", value)],
        transaction: Some(id),
    };
    let conflicting = TransactionId([8; 16]);
    let position = kv.commit(once("1")).await.unwrap();
    assert_eq!(kv.outcome(id).await.unwrap(), Outcome::Committed(position));
    assert_eq!(kv.commit(once("2")).await, Ok(position));
    assert_eq!(value(&*kv, "a").await.as_deref(), Some("1"));
    let refused = kv.commit(Commit { transaction: Some(conflicting), ..once("3") }).await;
    assert_eq!(refused, Err(CommitError::Conflict { check: 0, found: Some(position) }));
    assert_eq!(kv.outcome(conflicting).await.unwrap(), Outcome::NotCommitted);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let kv = Arc::clone(&kv);
            let at = Write::PutAtPosition { key_prefix: key("once/"), key_suffix: key(""), value: key("") };
            let transaction = Some(TransactionId([7; 16]));
            tokio::spawn(
                async move { kv.commit(Commit { checks: vec![], writes: vec![at], transaction }).await },
            )
        })
        .collect();
    let mut positions = Vec::new();
    for task in tasks {
        positions.push(task.await.unwrap().unwrap());
    }
    positions.dedup();
    assert_eq!(positions.len(), 1);
    assert_eq!(names(&*kv, KeyRange::prefix(key("once/")), Direction::Forward).await.len(), 1);
}

/// Ids below a position are forgotten, oldest first, and no others.
pub async fn transactions_expire(harness: &dyn Harness) {
    let kv = harness.open().await;
    let mut positions = Vec::new();
    for id in 0..6 {
        let transaction = Some(TransactionId([id; 16]));
        let writes = vec![put(&format!("row-{id}"), "")];
        positions.push(kv.commit(Commit { checks: vec![], writes, transaction }).await.unwrap());
    }
    assert_eq!(kv.expire_transactions(positions[4], 3).await.unwrap(), 3);
    let outcome = |id: u8| kv.outcome(TransactionId([id; 16]));
    assert_eq!(outcome(2).await.unwrap(), Outcome::NotCommitted);
    assert_eq!(outcome(3).await.unwrap(), Outcome::Committed(positions[3]));
    assert_eq!(kv.expire_transactions(positions[4], 100).await.unwrap(), 1);
    assert_eq!(kv.expire_transactions(positions[4], 100).await.unwrap(), 0);
    assert_eq!(outcome(3).await.unwrap(), Outcome::NotCommitted);
    assert_eq!(outcome(4).await.unwrap(), Outcome::Committed(positions[4]));
    assert_eq!(names(&*kv, KeyRange::all(), Direction::Forward).await.len(), 6);
}

/// Every bound is an error with the fact, and what lies at the bound is allowed.
pub async fn limits_are_errors(harness: &dyn Harness) {
    let kv = harness.open().await;
    let longest = Bytes::from(vec![b'k'; limits::KEY_BYTES_MAX]);
    let largest = Bytes::from(vec![b'v'; limits::VALUE_BYTES_MAX]);
    let sized = |key: Bytes, value: Bytes| kv.commit(commit(vec![], vec![Write::Put { key, value }]));
    sized(longest.clone(), largest.clone()).await.unwrap();
    assert_eq!(kv.get(&longest).await.unwrap().unwrap().value, largest);
    let over = |bytes: &Bytes| Bytes::from([bytes, &b"x"[..]].concat());
    let bytes = limits::KEY_BYTES_MAX + 1;
    assert_eq!(sized(over(&longest), key("")).await, Err(LimitError::KeyBytes { bytes }.into()));
    let bytes = limits::VALUE_BYTES_MAX + 1;
    assert_eq!(sized(key("a"), over(&largest)).await, Err(LimitError::ValueBytes { bytes }.into()));
    assert_eq!(sized(key(""), key("")).await, Err(LimitError::EmptyKey.into()));
    let reserved = Bytes::from_static(b"\xffrow");
    assert_eq!(sized(reserved.clone(), key("")).await, Err(LimitError::ReservedKey.into()));
    let prefixed = Write::PutAtPosition { key_prefix: reserved.clone(), key_suffix: key(""), value: key("") };
    assert_eq!(kv.commit(commit(vec![], vec![prefixed])).await, Err(LimitError::ReservedKey.into()));
    let looked = kv.commit(commit(vec![Check::Absent(reserved.clone())], vec![])).await;
    assert_eq!(looked, Err(LimitError::ReservedKey.into()));
    assert_eq!(kv.get(&reserved).await, Err(ReadError::Limit(LimitError::ReservedKey)));
    let rows = |count: usize| commit(vec![], (0..count).map(|row| put(&format!("r{row}"), "")).collect());
    kv.commit(rows(limits::COMMIT_WRITES_MAX)).await.unwrap();
    let writes = limits::COMMIT_WRITES_MAX + 1;
    assert_eq!(kv.commit(rows(writes)).await, Err(LimitError::CommitWrites { writes }.into()));
    let large = |row: usize| Write::Put { key: key(&format!("l{row}")), value: largest.clone() };
    let fits = limits::COMMIT_BYTES_MAX / limits::VALUE_BYTES_MAX - 1;
    kv.commit(commit(vec![], (0..fits).map(large).collect())).await.unwrap();
    let refused = kv.commit(commit(vec![], (0..=fits).map(large).collect())).await;
    assert!(matches!(refused, Err(CommitError::Limit(LimitError::CommitBytes { .. }))), "{refused:?}");
    let snapshot = kv.snapshot().await.unwrap();
    for rows in [0, limits::SCAN_ROWS_MAX + 1] {
        let scanned = snapshot.scan(KeyRange::all(), Direction::Forward, rows).await;
        assert_eq!(scanned, Err(ReadError::Limit(LimitError::ScanRows { rows })));
    }
}

const COUNTERS: u64 = 5;
const WORKERS: u64 = 8;
const ROUNDS: u64 = 40;

/// Workers raise two counters at a time and log what they saw at their position; replaying the log in order
/// must find exactly what each saw, and every snapshot must hold counters and log of one instant.
pub async fn counters_are_serialisable(harness: &dyn Harness) {
    for seed in [1, 2, 3] {
        println!("seed {seed}");
        let kv = harness.open().await;
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| tokio::spawn(raise_counters(Arc::clone(&kv), seed * 1000 + worker)))
            .collect();
        let readers: Vec<_> = (0..2).map(|_| tokio::spawn(check_snapshots(Arc::clone(&kv)))).collect();
        for worker in workers {
            worker.await.unwrap();
        }
        for reader in readers {
            reader.await.unwrap();
        }
        let snapshot = kv.snapshot().await.unwrap();
        let log = snapshot.scan(KeyRange::prefix(key("log/")), Direction::Forward, 10_000).await.unwrap();
        assert_eq!(log.rows.len(), usize::try_from(WORKERS * ROUNDS).unwrap());
        let mut counters = vec![0; usize::try_from(COUNTERS).unwrap()];
        for (_, row) in &log.rows {
            let text = String::from_utf8_lossy(&row.value);
            let seen: Vec<usize> = text.split(' ').map(|number| number.parse().unwrap()).collect();
            for pair in seen.chunks(2) {
                assert_eq!(counters[pair[0]], pair[1], "seed {seed}, at {}", row.version);
                counters[pair[0]] += 1;
            }
        }
    }
}

async fn raise_counters(kv: Arc<dyn OrderedKv>, seed: u64) {
    let mut random = seed;
    let mut next = |below: u64| {
        // SplitMix64: small, seeded, the same everywhere.
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    };
    for _ in 0..ROUNDS {
        let first = next(COUNTERS);
        let second = (first + 1 + next(COUNTERS - 1)) % COUNTERS;
        loop {
            let keys = [format!("counter/{first}"), format!("counter/{second}")];
            let rows = kv.get_many(&[keys[0].as_bytes(), keys[1].as_bytes()]).await.unwrap();
            let mut raise = Commit::default();
            let mut seen = Vec::new();
            for ((name, row), counter) in keys.iter().zip(rows).zip([first, second]) {
                let count = row.as_ref().map_or(0, |row| {
                    String::from_utf8_lossy(&row.value).parse::<u64>().expect("counters are numbers")
                });
                raise.checks.push(match row {
                    Some(row) => Check::At(key(name), row.version),
                    None => Check::Absent(key(name)),
                });
                raise.writes.push(put(name, &(count + 1).to_string()));
                seen.push(format!("{counter} {count}"));
            }
            raise.writes.push(Write::PutAtPosition {
                key_prefix: key("log/"),
                key_suffix: key(""),
                value: key(&seen.join(" ")),
            });
            match kv.commit(raise).await {
                Ok(_) => break,
                Err(CommitError::Conflict { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

async fn check_snapshots(kv: Arc<dyn OrderedKv>) {
    let mut last = 0;
    while last < WORKERS * ROUNDS {
        let snapshot = kv.snapshot().await.unwrap();
        let log = snapshot.scan(KeyRange::prefix(key("log/")), Direction::Forward, 10_000).await.unwrap();
        let page = snapshot.scan(KeyRange::prefix(key("counter/")), Direction::Backward, 100).await.unwrap();
        let count = |value: &Bytes| String::from_utf8_lossy(value).parse::<u64>().unwrap();
        let sum: u64 = page.rows.iter().map(|(_, row)| count(&row.value)).sum();
        let logged = u64::try_from(log.rows.len()).unwrap();
        assert_eq!(sum, 2 * logged);
        assert!(logged >= last);
        last = logged;
        tokio::task::yield_now().await;
    }
}
