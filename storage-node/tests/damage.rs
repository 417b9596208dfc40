//! Half-made files, pages that do not read, footers and segments that are not what they were: a node opens
//! all the same, keeps what it can, and never takes one shard's space for another's.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/shards.rs"]
mod shards;

use ashlar_disk::{CrashPlan, Disk, Fault, FaultyDisk, FileOpKind, OpenMode};
use ashlar_storage_node::{BlockRange, FencingToken, PutError, ShardPut, ShardService, Store, Verify};
use ledger::{Expected, FOLDER, Ledger, flusher, numbered, open};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PAGE: u64 = 4096;

async fn maintained(store: &Arc<Store>) {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || while store.maintain() {}).await.unwrap();
}

async fn assert_held(store: &Store, put: &ShardPut) {
    let read = store.read(put.id, BlockRange::ALL, Verify::Node).await.unwrap();
    assert_eq!(read.bytes, put.cells.concat());
}

/// The files whose name starts so.
fn files(disk: &FaultyDisk, prefix: &str) -> Vec<PathBuf> {
    let is_meant = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(prefix);
    disk.files().into_iter().filter(is_meant).collect()
}

/// Makes one page of a file unreadable.
fn spoil(disk: &FaultyDisk, path: &Path, page: u64) {
    let path = path.to_path_buf();
    disk.set_fault(move |op| {
        let hit = op.offset < (page + 1) * PAGE && op.offset + op.len > page * PAGE;
        (op.kind == FileOpKind::Read && op.path == path && hit).then_some(Fault::Eio)
    });
}

#[tokio::test]
async fn a_segment_that_was_never_completed_is_no_obstacle() {
    for len in [0, PAGE, 4 << 20] {
        let disk = FaultyDisk::default();
        disk.create_dir_all(Path::new(FOLDER)).unwrap();
        let half = Path::new(FOLDER).join("segment-00000000");
        disk.open(&half, OpenMode::CreateNew).unwrap().set_len(len).unwrap();
        let store = open(&disk, &flusher());
        let puts = async {
            for number in 0..8 {
                store.put(numbered(number, 4_000_000)).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), puts).await.expect("no put waits for ever");
        assert!(!disk.exists(&half).unwrap());
    }
}

#[tokio::test]
async fn a_page_that_does_not_read_costs_at_most_its_records_and_only_for_now() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = open(&disk, &flusher);
    let mut ledger = Ledger::default();
    for number in 0..40 {
        let len = if number % 8 == 7 { 900_000 } else { 60_000 };
        store.put(numbered(number, len)).await.unwrap();
        ledger.shards.insert(number, (len, Expected::Present));
    }
    drop(store);
    let whole = disk.crash(CrashPlan::KeepAll);
    let mut opened = 0;
    for path in files(&whole, "log-") {
        let pages = whole.open(&path, OpenMode::Existing).unwrap().len().unwrap() / PAGE;
        for page in [0, 1, 2, 30, 31, 120, 200, pages - 2, pages - 1] {
            let disk = whole.crash(CrashPlan::KeepAll);
            spoil(&disk, &path, page);
            let store = Arc::new(open(&disk, &flusher));
            let report = store.report().clone();
            opened += usize::from(!report.damaged.is_empty());
            assert!(report.shards >= 20, "{} page {page}: {report:?}", path.display());
            if page % 2 == 1 {
                disk.clear_fault();
            }
            maintained(&store).await;
            let fresh = [numbered(100, 50_000), numbered(101, 900_000)];
            for put in &fresh {
                store.put(put.clone()).await.unwrap();
                assert_held(&store, put).await;
            }
            drop(store);
            disk.clear_fault();
            let store = open(&disk, &flusher);
            let mut ledger = ledger.clone();
            ledger.shards.extend([(100, (50_000, Expected::Present)), (101, (900_000, Expected::Present))]);
            ledger
                .check(&store)
                .await
                .unwrap_or_else(|wrong| panic!("{} page {page}: {wrong}", path.display()));
        }
    }
    assert!(opened >= 9, "{opened} openings noticed what did not read");
}

#[tokio::test]
async fn compaction_passes_over_a_file_that_does_not_read() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = Arc::new(open(&disk, &flusher));
    let shards: Vec<ShardPut> = (0..60).map(|number| numbered(number, 60_000)).collect();
    for put in &shards {
        store.put(put.clone()).await.unwrap();
    }
    let gone: Vec<_> =
        shards.iter().enumerate().filter(|(at, _)| at % 8 != 0).map(|(_, put)| put.id).collect();
    let path = files(&disk, "log-")[0].clone();
    disk.set_fault(move |op| (op.kind == FileOpKind::Read && op.path == path).then_some(Fault::Eio));
    store.delete(&gone, FencingToken(1)).await.unwrap();
    maintained(&store).await;
    assert!(store.stats().compacted_files.get() > 0);
    disk.clear_fault();
    for put in shards.iter().step_by(8) {
        assert_held(&store, put).await;
    }
    assert!(store.quarantined().is_empty(), "what does not read is not corrupt");
    drop(store);
    let store = open(&disk, &flusher);
    assert_eq!(store.report().shards, 8);
}

#[tokio::test]
async fn a_damaged_footer_does_not_make_a_delete_punch_its_neighbours() {
    // Of the footer's header: bytes 8 are of the id, 36 and 37 of the commitment's length.
    for (byte, bit) in [(37, 5), (38, 7), (9, 1), (20, 0)] {
        let disk = FaultyDisk::default();
        let flusher = flusher();
        let store = Arc::new(open(&disk, &flusher));
        let shards: Vec<ShardPut> = (0..3).map(|number| numbered(number, 900_000)).collect();
        for put in &shards {
            store.put(put.clone()).await.unwrap();
        }
        let segment = files(&disk, "segment-").remove(0);
        let content = {
            let file = disk.open(&segment, OpenMode::Existing).unwrap();
            let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_exact_at(&mut content, 0).unwrap();
            content
        };
        let shard = shards[0].cells.concat();
        let at = content.windows(shard.len()).position(|window| window == shard).unwrap() + shard.len();
        assert_eq!(content[at..at + 4], *b"AFTR");
        disk.flip_bit(&segment, (u64::try_from(at).unwrap() + byte) * 8 + bit).unwrap();
        store.delete(&[shards[0].id], FencingToken(1)).await.unwrap();
        maintained(&store).await;
        assert!(store.stats().punched_bytes.get() > 0);
        for put in &shards[1..] {
            assert_held(&store, put).await;
        }
    }
}

#[tokio::test]
async fn the_number_of_a_lost_segment_is_not_given_again() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = open(&disk, &flusher);
    store.put(numbered(1, 3_000_000)).await.unwrap();
    drop(store);
    let lost = files(&disk, "segment-");
    lost.iter().for_each(|path| disk.remove_file(path).unwrap());
    let store = open(&disk, &flusher);
    assert_eq!(store.report().lost_shards, 1);
    store.put(numbered(2, 3_000_000)).await.unwrap();
    assert!(files(&disk, "segment-").iter().all(|path| !lost.contains(path)));
    drop(store);
    let store = open(&disk, &flusher);
    assert_eq!((store.report().lost_shards, store.report().shards), (1, 1));
    assert_held(&store, &numbered(2, 3_000_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_puts_that_wait_for_a_segment() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = Arc::new(open(&disk, &flusher));
    let (entered, may_go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let is_closed = Arc::new(AtomicBool::new(false));
    disk.set_fault({
        let (entered, may_go_on) = (Arc::clone(&entered), Arc::clone(&may_go_on));
        let is_closed = Arc::clone(&is_closed);
        move |op| {
            if op.kind == FileOpKind::Allocate {
                entered.store(true, Ordering::SeqCst);
                while !may_go_on.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            }
            assert!(
                op.kind != FileOpKind::Write || !is_closed.load(Ordering::SeqCst),
                "{op:?} after closing"
            );
            None
        }
    });
    let put = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.put(numbered(1, 900_000)).await }
    });
    while !entered.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let closing = tokio::task::spawn_blocking({
        let (store, is_closed) = (Arc::clone(&store), Arc::clone(&is_closed));
        move || {
            store.close();
            is_closed.store(true, Ordering::SeqCst);
        }
    });
    while store.list(None, 1).await.is_ok() {
        tokio::task::yield_now().await;
    }
    may_go_on.store(true, Ordering::SeqCst);
    closing.await.unwrap();
    let outcome = put.await.unwrap();
    disk.clear_fault();
    let again = open(&disk, &flusher);
    match outcome {
        Ok(()) => assert_held(&again, &numbered(1, 900_000)).await,
        Err(PutError::Unavailable { .. } | PutError::ReadOnly { .. }) => assert_eq!(again.report().shards, 0),
        Err(error) => panic!("{error}"),
    }
}
