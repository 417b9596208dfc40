//! Errors, full disks, flipped bits, foreign and vanished folders: each is told apart, none panics, and
//! what can be read stays readable.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/shards.rs"]
mod shards;

use ashlar_chunker::ShardId;
use ashlar_disk::{CrashPlan, Disk, Fault, FaultyDisk, FileOpKind, OpenMode};
use ashlar_storage_node::{
    BlockRange, Corruption, DeleteError, FencingToken, NodeHealth, NodeId, OpenError, PutError, ReadError,
    ShardPut, ShardService, Store, StoreOptions, Verify,
};
use ledger::{Expected, FOLDER, Ledger, flusher, numbered, open, options};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

async fn read(store: &Store, id: ShardId) -> Result<Vec<u8>, ReadError> {
    Ok(store.read(id, BlockRange::ALL, Verify::Node).await?.bytes.to_vec())
}

async fn put_all(store: &Store, shards: &[ShardPut]) {
    for put in shards {
        store.put(put.clone()).await.unwrap();
    }
}

fn three() -> Vec<ShardPut> {
    vec![numbered(1, 5000), numbered(2, 60_000), numbered(3, 900_000)]
}

async fn in_blocking(store: &Arc<Store>) {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || while store.maintain() {}).await.unwrap();
}

fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// The file, among those whose name starts so, in which `bytes` stand, and where.
fn find(disk: &FaultyDisk, prefix: &str, bytes: &[u8]) -> (PathBuf, u64) {
    for path in disk.files() {
        if !path.file_name().unwrap().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let file = disk.open(&path, OpenMode::Existing).unwrap();
        let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut content, 0).unwrap();
        if let Some(at) = content.windows(bytes.len()).position(|window| window == bytes) {
            return (path, u64::try_from(at).unwrap());
        }
    }
    panic!("no file {prefix}* holds the bytes");
}

#[tokio::test]
async fn a_failed_write_or_sync_stops_writing_until_reopened() {
    for (kind, prefix) in [
        (FileOpKind::Write, "log-"),
        (FileOpKind::Sync, "log-"),
        (FileOpKind::Write, "segment-"),
        (FileOpKind::Sync, "segment-"),
    ] {
        println!("{kind:?} of {prefix}");
        let disk = FaultyDisk::default();
        let flusher = flusher();
        let store = open(&disk, &flusher);
        put_all(&store, &three()).await;
        disk.set_fault(move |op| {
            let hit = op.kind == kind && op.path.to_string_lossy().contains(prefix);
            hit.then_some(Fault::Eio)
        });
        for number in [4, 5] {
            let refused = store.put(numbered(number, 900_000)).await.unwrap_err();
            assert!(matches!(refused, PutError::ReadOnly { .. }), "{refused}");
        }
        disk.clear_fault();
        let refused = store.put(numbered(6, 100)).await.unwrap_err();
        assert!(matches!(refused, PutError::ReadOnly { .. }), "an error is not forgotten: {refused}");
        assert!(store.begin(numbered(6, 100).id, 4096).await.is_err());
        let refused = store.delete(&[numbered(1, 5000).id], FencingToken(1)).await.unwrap_err();
        assert!(matches!(refused, DeleteError::ReadOnly { .. }), "{refused}");
        assert!(matches!(store.health().await, NodeHealth::ReadOnly { .. }));
        for put in three() {
            assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat());
        }
        drop(store);
        for plan in [CrashPlan::KeepAll, CrashPlan::LoseAll, CrashPlan::Seeded(4)] {
            let after = disk.crash(plan);
            let store = open(&after, &flusher);
            for put in three() {
                assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat(), "{plan:?}");
            }
            store.put(numbered(6, 100)).await.unwrap();
            assert_eq!(store.health().await, NodeHealth::Writable);
        }
    }
}

#[tokio::test]
async fn a_failed_read_is_an_error_and_not_corruption() {
    let disk = FaultyDisk::default();
    let store = open(&disk, &flusher());
    put_all(&store, &three()).await;
    disk.set_fault(|op| (op.kind == FileOpKind::Read).then_some(Fault::Eio));
    for put in three() {
        assert!(matches!(read(&store, put.id).await, Err(ReadError::Io { .. })));
    }
    disk.clear_fault();
    for put in three() {
        assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat());
    }
}

#[tokio::test]
async fn a_full_node_refuses_puts_and_still_deletes() {
    let disk = FaultyDisk::new(40 << 20);
    let flusher = flusher();
    let store = Arc::new(open(&disk, &flusher));
    let mut held = Vec::new();
    let refused = loop {
        let put = numbered(
            u64::try_from(held.len()).unwrap() + 1,
            if held.len() % 2 == 0 { 60_000 } else { 3_000_000 },
        );
        match store.put(put.clone()).await {
            Ok(()) => held.push(put),
            Err(refused) => break refused,
        }
        assert!(held.len() < 500, "a disk of 40 MiB takes no more");
    };
    assert!(matches!(refused, PutError::Full { .. }), "{refused}");
    in_blocking(&store).await;
    assert_eq!(store.health().await, NodeHealth::Full);
    assert!(matches!(store.put(numbered(999, 100)).await, Err(PutError::Full { .. })));
    assert!(matches!(store.begin(numbered(999, 100).id, 100).await, Err(PutError::Full { .. })));
    for put in &held {
        assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat());
    }
    let ids: Vec<_> = held.iter().map(|put| put.id).collect();
    store.delete(&ids, FencingToken(1)).await.unwrap();
    disk.set_total_bytes(60 << 20);
    in_blocking(&store).await;
    assert_eq!(store.health().await, NodeHealth::Writable);
    store.put(numbered(999, 3_000_000)).await.unwrap();
    drop(store);
    let store = open(&disk, &flusher);
    assert_eq!(store.report().shards, 1);
}

#[tokio::test]
async fn the_reserve_is_left_alone() {
    let disk = FaultyDisk::new(100 << 20);
    let options = StoreOptions { reserve_bytes: None, ..options() };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let flusher = flusher();
    let store = Arc::new(Store::open(shared, Path::new(FOLDER), NodeId(1), options, &flusher).unwrap());
    let mut number = 0;
    while store.put(numbered(number, 3_000_000)).await.is_ok() {
        number += 1;
    }
    in_blocking(&store).await;
    let available = disk.space(Path::new(FOLDER)).unwrap().available_bytes;
    assert!(available >= 5 << 20, "{available} bytes are left of 5 % of 100 MiB");
    assert_eq!(store.health().await, NodeHealth::Full);
    assert!(store.space().await.unwrap().writable_bytes < 6 << 20);
}

#[tokio::test]
async fn deletes_use_the_reserve_when_a_full_node_was_opened_again() {
    const SMALL: u64 = 1400;
    const LARGE: u64 = 12;
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let try_open = || {
        // Only empty files are compacted, so that the tombstones need new ones.
        let options = StoreOptions { reserve_bytes: Some(8 << 20), compact_live_percent: 0, ..options() };
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Arc::new(Store::open(shared, Path::new(FOLDER), NodeId(1), options, &flusher).unwrap())
    };
    let large = |number| numbered(SMALL + number, 3_000_000);
    let store = try_open();
    for number in 0..SMALL {
        store.put(numbered(number, 20_000)).await.unwrap();
    }
    for number in 0..LARGE {
        store.put(large(number)).await.unwrap();
    }
    drop(store);
    let space = disk.space(Path::new(FOLDER)).unwrap();
    disk.set_total_bytes(space.total_bytes - space.available_bytes + (6 << 20));
    let store = try_open();
    in_blocking(&store).await;
    assert_eq!(store.health().await, NodeHealth::Full);
    // A few of every log file at a time, so that none is empty before nearly all are gone.
    for number in (0..26).flat_map(|first| (first..SMALL).step_by(26)) {
        store.delete(&[numbered(number, 20_000).id], FencingToken(1)).await.unwrap();
    }
    let ids: Vec<_> = (0..LARGE).map(|number| large(number).id).collect();
    store.delete(&ids, FencingToken(1)).await.unwrap();
    in_blocking(&store).await;
    assert_eq!(store.health().await, NodeHealth::Writable);
}

#[tokio::test]
async fn deleted_extents_give_their_space_back() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = Arc::new(open(&disk, &flusher));
    for number in 0..12 {
        store.put(numbered(number, 4_000_000)).await.unwrap();
    }
    in_blocking(&store).await;
    let used = |disk: &FaultyDisk| {
        let space = disk.space(Path::new(FOLDER)).unwrap();
        space.total_bytes - space.available_bytes
    };
    let before = used(&disk);
    let gone: Vec<_> =
        (0..12).filter(|number| number % 2 == 0).map(|number| numbered(number, 4_000_000).id).collect();
    store.delete(&gone, FencingToken(1)).await.unwrap();
    in_blocking(&store).await;
    assert!(before - used(&disk) >= 6 * 900_000, "{before} before, {} now", used(&disk));
    for number in (0..12).filter(|number| number % 2 == 1) {
        let put = numbered(number, 4_000_000);
        assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat());
    }
    // Segments that are empty are filled again instead of new ones being made.
    let all: Vec<_> = (0..12).map(|number| numbered(number, 4_000_000).id).collect();
    for _ in 0..4 {
        store.delete(&all, FencingToken(1)).await.unwrap();
        in_blocking(&store).await;
        for number in 0..12 {
            store.put(numbered(number, 4_000_000)).await.unwrap();
        }
        in_blocking(&store).await;
    }
    assert!(used(&disk) <= before + (6 << 20), "{before} before, {} now", used(&disk));
    // A writer that was dropped gives back what it took.
    for _ in 0..30 {
        let put = numbered(77, 4_000_000);
        let mut writer = store.begin(put.id, 1 << 20).await.unwrap();
        for cell in &put.cells {
            writer.write_cell(cell.clone()).await.unwrap();
        }
        drop(writer);
        in_blocking(&store).await;
    }
    assert!(used(&disk) <= before + (6 << 20), "{before} before, {} now", used(&disk));
    drop(store);
    let store = open(&disk, &flusher);
    for number in 0..12 {
        let put = numbered(number, 4_000_000);
        assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat());
    }
}

#[tokio::test]
async fn flipped_bits_are_found_by_reads_and_by_scrubs_and_repaired_by_puts() {
    let flusher = flusher();
    let (small, large) = (three().remove(0), three().remove(2));
    for (put, prefix, in_block) in [
        (&small, "log-", true),
        (&small, "log-", false),
        (&large, "segment-", true),
        (&large, "segment-", false),
    ] {
        let disk = FaultyDisk::default();
        let store = open(&disk, &flusher);
        put_all(&store, &three()).await;
        let content = put.cells.concat();
        let (path, at) = find(&disk, prefix, if in_block { &content[..64] } else { &put.footer });
        disk.flip_bit(&path, (at + 20) * 8 + 3).unwrap();
        let found = store.read(put.id, BlockRange::ALL, Verify::Node).await.map(|_| ()).unwrap_err();
        let ReadError::Corrupt { corruption, .. } = found else { panic!("{found}") };
        assert_eq!(matches!(corruption, Corruption::Block { .. }), in_block, "{corruption}");
        let found = store.read(put.id, BlockRange::ALL, Verify::Caller).await.map(|_| ()).unwrap_err();
        assert!(matches!(found, ReadError::Corrupt { corruption: Corruption::Quarantined, .. }));
        assert_eq!(store.quarantined(), [put.id]);
        store.put(put.clone()).await.unwrap();
        assert_eq!(read(&store, put.id).await.unwrap(), content);
        assert!(store.quarantined().is_empty());
    }
    let disk = FaultyDisk::default();
    let store = open(&disk, &flusher);
    put_all(&store, &three()).await;
    for (put, prefix) in [(&small, "log-"), (&large, "segment-")] {
        let (path, at) = find(&disk, prefix, &put.cells.concat()[..64]);
        disk.flip_bit(&path, at * 8).unwrap();
    }
    let named = Mutex::new(Vec::new());
    let report = store.scrub(u64::MAX, &|id, _| named.lock().unwrap().push(id)).await.unwrap();
    assert_eq!((report.shards, report.corrupt, report.unreadable), (3, 2, 0));
    assert_eq!(report.corrupt_ids, [small.id, large.id]);
    assert_eq!(*named.lock().unwrap(), report.corrupt_ids);
    assert!(matches!(read(&store, small.id).await, Err(ReadError::Corrupt { .. })));
    put_all(&store, &three()).await;
    let report = store.scrub(u64::MAX, &|_, _| {}).await.unwrap();
    assert_eq!((report.shards, report.corrupt), (3, 0));
    assert_eq!(
        report.bytes,
        three().iter().map(|put| u64::try_from(put.cells.concat().len()).unwrap()).sum::<u64>()
    );
}

#[tokio::test]
async fn damage_in_the_log_is_reported_and_the_rest_is_kept() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = open(&disk, &flusher);
    let mut ledger = Ledger::default();
    for number in 0..8 {
        store.put(numbered(number, 5000)).await.unwrap();
        ledger.shards.insert(number, (5000, Expected::Present));
    }
    drop(store);
    let (path, at) = find(&disk, "log-", &numbered(3, 5000).cells.concat()[..64]);
    // The group's mark: a page before the shard's bytes at most.
    let mark = at / 4096 * 4096;
    for (bit, gone) in [(at * 8 + 700, vec![3]), (mark * 8 + 5, vec![3])] {
        let damaged = disk.crash(CrashPlan::KeepAll);
        damaged.flip_bit(&path, bit).unwrap();
        let store = open(&damaged, &flusher);
        assert_eq!(store.report().damaged.len(), 1, "{:?}", store.report());
        assert_eq!(store.report().damaged[0].file, path.file_name().unwrap());
        let mut ledger = ledger.clone();
        for number in gone {
            ledger.shards.insert(number, (5000, Expected::Absent));
        }
        ledger.check(&store).await.unwrap();
        store.put(numbered(3, 5000)).await.unwrap();
        store.put(numbered(50, 5000)).await.unwrap();
        ledger.shards.extend([(3, (5000, Expected::Present)), (50, (5000, Expected::Present))]);
        drop(store);
        let store = open(&damaged, &flusher);
        ledger.check(&store).await.unwrap();
    }
}

#[tokio::test]
async fn a_sealed_file_without_its_seal_and_a_lost_header_sector_lose_nothing() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = open(&disk, &flusher);
    let mut ledger = Ledger::default();
    for number in 0..40 {
        store.put(numbered(number, 60_000)).await.unwrap();
        ledger.shards.insert(number, (60_000, Expected::Present));
    }
    drop(store);
    let sealed = find(&disk, "log-", &numbered(0, 60_000).cells.concat()[..64]).0;
    let file_bytes = disk.open(&sealed, OpenMode::Existing).unwrap().len().unwrap();
    disk.flip_bit(&sealed, 77).unwrap();
    let store = open(&disk, &flusher);
    assert!(store.report().damaged.is_empty(), "the header has a second copy");
    ledger.check(&store).await.unwrap();
    drop(store);
    disk.flip_bit(&sealed, (file_bytes - 4096) * 8 + 100).unwrap();
    let store = open(&disk, &flusher);
    assert_eq!(store.report().damaged.len(), 1, "{:?}", store.report());
    ledger.check(&store).await.unwrap();
    drop(store);
    let store = open(&disk, &flusher);
    assert!(store.report().damaged.is_empty(), "it was sealed again");
    drop(store);
    disk.flip_bit(&sealed, 2048 * 8 + 77).unwrap();
    let store = open(&disk, &flusher);
    assert_eq!(store.report().damaged.len(), 1, "both copies are gone");
    assert!(store.report().shards < 40 && store.report().shards > 0);
    for number in 0..40 {
        store.put(numbered(number, 60_000)).await.unwrap();
    }
    ledger.check(&store).await.unwrap();
}

#[tokio::test]
async fn a_folder_of_another_node_or_in_use_is_refused() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let try_open = |node| {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Store::open(shared, Path::new(FOLDER), NodeId(node), options(), &flusher)
    };
    let store = try_open(1).unwrap();
    put_all(&store, &three()).await;
    assert!(matches!(try_open(1), Err(OpenError::Locked { .. })));
    drop(store);
    assert!(matches!(try_open(2), Err(OpenError::WrongNode { found: NodeId(1), .. })));
    disk.remove_file(&file("superblock")).unwrap();
    assert!(matches!(try_open(2), Err(OpenError::WrongNode { found: NodeId(1), .. })));
    let store = try_open(1).unwrap();
    assert!(store.report().restored_superblock);
    let uuid = store.uuid();
    drop(store);
    disk.flip_bit(&file("superblock"), 100).unwrap();
    let store = try_open(1).unwrap();
    assert!(store.report().restored_superblock && store.uuid() == uuid);
    for put in three() {
        assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat());
    }
}

#[tokio::test]
async fn a_folder_that_vanishes_is_an_error_and_an_empty_one_starts_over() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = Arc::new(open(&disk, &flusher));
    put_all(&store, &three()).await;
    disk.wipe(Path::new(FOLDER));
    in_blocking(&store).await;
    assert!(matches!(store.health().await, NodeHealth::ReadOnly { .. }));
    assert!(matches!(store.put(numbered(9, 100)).await, Err(PutError::ReadOnly { .. })));
    for put in three() {
        // Open files live on; others are gone, and either is an answer.
        match read(&store, put.id).await {
            Ok(bytes) => assert_eq!(bytes, put.cells.concat()),
            Err(error) => assert!(matches!(error, ReadError::NotFound { .. }), "{error}"),
        }
    }
    drop(store);
    let store = open(&disk, &flusher);
    for put in three() {
        assert!(matches!(read(&store, put.id).await, Err(ReadError::NotFound { .. })));
    }
    put_all(&store, &three()).await;
    for put in three() {
        assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat());
    }
}

#[tokio::test]
async fn lost_segments_and_log_files_lose_their_shards_and_nothing_else() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = open(&disk, &flusher);
    put_all(&store, &three()).await;
    let (segment, _) = find(&disk, "segment-", &numbered(3, 900_000).cells[0]);
    disk.remove_file(&segment).unwrap();
    drop(store);
    let store = open(&disk, &flusher);
    assert_eq!((store.report().lost_shards, store.report().shards), (1, 2));
    assert!(matches!(read(&store, numbered(3, 900_000).id).await, Err(ReadError::NotFound { .. })));
    put_all(&store, &three()).await;
    for put in three() {
        assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat());
    }
    // Cut short while it is open.
    let (segment, _) = find(&disk, "segment-", &numbered(3, 900_000).cells[0]);
    disk.open(&segment, OpenMode::Existing).unwrap().set_len(4096).unwrap();
    let found = read(&store, numbered(3, 900_000).id).await.unwrap_err();
    assert!(matches!(found, ReadError::Corrupt { .. } | ReadError::NotFound { .. }), "{found}");
}
