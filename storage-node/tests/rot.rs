//! Flipped bits in a node's own bookkeeping never harm the shards beside them.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/shards.rs"]
mod shards;

use ashlar_chunker::ShardId;
use ashlar_disk::{Disk, FaultyDisk, OpenMode};
use ashlar_storage_node::{BlockRange, FencingToken, ReadError, ShardService, Store, Verify};
use ledger::{flusher, numbered, open};
use std::path::PathBuf;
use std::sync::Arc;

const PAGE: u64 = 4096;
/// Bytes of a large object: its shards are extents.
const LARGE: usize = 4_000_000;

async fn read(store: &Store, id: ShardId) -> Result<Vec<u8>, ReadError> {
    store.read(id, BlockRange::ALL, Verify::Node).await.map(|read| read.bytes.to_vec())
}

async fn in_blocking(store: &Arc<Store>) {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || while store.maintain() {}).await.unwrap();
}

/// The file, among those whose name starts so, in which `bytes` stand, and where.
fn find(disk: &FaultyDisk, prefix: &str, bytes: &[u8]) -> (PathBuf, u64) {
    let files = disk.files().into_iter();
    files
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .find_map(|path| {
            let file = disk.open(&path, OpenMode::Existing).unwrap();
            let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_exact_at(&mut content, 0).unwrap();
            let at = content.windows(bytes.len()).position(|window| window == bytes)?;
            Some((path, u64::try_from(at).unwrap()))
        })
        .expect("it was put")
}

#[tokio::test]
async fn what_a_damaged_footer_says_of_its_length_is_not_punched() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = Arc::new(open(&disk, &flusher));
    for number in 0..3 {
        store.put(numbered(number, LARGE)).await.unwrap();
    }
    let first = numbered(0, LARGE);
    let (path, footer) = find(&disk, "segment-", &first.footer);
    // 64 KiB more: the length stands 12 bytes before the commitment.
    disk.flip_bit(&path, (footer - 12 + 1) * 8).unwrap();
    store.delete(&[first.id], FencingToken(1)).await.unwrap();
    in_blocking(&store).await;
    for number in 1..3 {
        let put = numbered(number, LARGE);
        assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat(), "{number}");
    }
}

#[tokio::test]
async fn a_shard_that_comes_back_with_its_lost_tombstone_takes_nobodys_place() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = Arc::new(open(&disk, &flusher));
    let (gone, there) = (numbered(0, LARGE), numbered(1, LARGE));
    store.put(gone.clone()).await.unwrap();
    let place = find(&disk, "segment-", &gone.cells.concat()[..64]);
    store.delete(&[gone.id], FencingToken(1)).await.unwrap();
    in_blocking(&store).await;
    store.put(there.clone()).await.unwrap();
    assert_eq!(find(&disk, "segment-", &there.cells.concat()[..64]), place);
    drop(store);
    // Groups: the first put, the tombstone, the second put, a page each.
    let (log, mark) = find(&disk, "log-", b"AGRP");
    disk.flip_bit(&log, (mark + PAGE) * 8).unwrap();
    let store = Arc::new(open(&disk, &flusher));
    assert_eq!((store.report().damaged.len(), store.report().lost_shards), (1, 1), "{:?}", store.report());
    assert!(matches!(read(&store, gone.id).await, Err(ReadError::NotFound { .. })));
    store.delete(&[gone.id], FencingToken(1)).await.unwrap();
    in_blocking(&store).await;
    assert_eq!(read(&store, there.id).await.unwrap(), there.cells.concat());
}

#[tokio::test]
async fn a_damaged_log_file_is_freed_when_what_it_still_says_is_copied() {
    let disk = FaultyDisk::default();
    let flusher = flusher();
    let store = Arc::new(open(&disk, &flusher));
    for number in 0..40 {
        store.put(numbered(number, 60_000)).await.unwrap();
    }
    let (log, at) = find(&disk, "log-", &numbered(3, 60_000).cells.concat()[..64]);
    let log_bytes = disk.open(&log, OpenMode::Existing).unwrap().len().unwrap();
    // The mark of the group, and the seal that would do without it.
    disk.flip_bit(&log, at / PAGE * PAGE * 8).unwrap();
    disk.flip_bit(&log, (log_bytes - PAGE) * 8).unwrap();
    let ids: Vec<ShardId> = (4..12).map(|number| numbered(number, 60_000).id).collect();
    store.delete(&ids, FencingToken(1)).await.unwrap();
    in_blocking(&store).await;
    assert_eq!(store.stats().compacted_files.get(), 1);
    for number in (0..3).chain(12..40) {
        let put = numbered(number, 60_000);
        assert_eq!(read(&store, put.id).await.unwrap(), put.cells.concat(), "{number}");
    }
    let lost = numbered(3, 60_000);
    assert!(matches!(read(&store, lost.id).await, Err(ReadError::Corrupt { .. })));
    assert!(store.list(None, 100).await.unwrap().iter().all(|entry| entry.id != lost.id));
    store.put(lost.clone()).await.unwrap();
    assert_eq!(read(&store, lost.id).await.unwrap(), lost.cells.concat());
}
