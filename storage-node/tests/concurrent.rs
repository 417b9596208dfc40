//! Writers, deleters, readers, compaction and scrubs at once: a reader sees a shard whole or not at all.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/shards.rs"]
mod shards;

use ashlar_disk::{Disk, FaultyDisk, RealDisk};
use ashlar_storage_node::{
    BlockRange, FencingToken, NodeId, PutError, ReadError, ShardPut, ShardService, ShardWriter, Store, Verify,
};
use ledger::{flusher, numbered, options};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shards that come and go.
const SHARDS: u64 = 24;

fn len(number: u64) -> usize {
    [4096, 60_000, 20_000, 700_000][usize::try_from(number % 4).unwrap()]
}

async fn churn(disk: Arc<dyn Disk>, folder: &Path) {
    let flusher = flusher();
    let store = Arc::new(Store::open(disk, folder, NodeId(1), options(), &flusher).unwrap());
    let shards: Arc<Vec<ShardPut>> =
        Arc::new((0..SHARDS).map(|number| numbered(number, len(number))).collect());
    let (done, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (store, shards) = (Arc::clone(&store), Arc::clone(&shards));
            let (done, reads) = (Arc::clone(&done), Arc::clone(&reads));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    for put in shards.iter() {
                        let verify = if reader == 0 { Verify::Node } else { Verify::Caller };
                        match store.read_with_footer(put.id, BlockRange::ALL, verify).await {
                            Ok(read) => {
                                assert_eq!(read.bytes, put.cells.concat());
                                assert_eq!(read.footer, put.footer);
                                reads.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(ReadError::NotFound { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let keeper = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        tokio::task::spawn_blocking(move || {
            while !done.load(Ordering::Relaxed) {
                store.maintain();
                std::thread::yield_now();
            }
        })
    };
    let writers: Vec<_> = (0..3u64)
        .map(|writer| {
            let (store, shards) = (Arc::clone(&store), Arc::clone(&shards));
            tokio::spawn(async move {
                for round in 0..25u64 {
                    for (number, put) in
                        (0u64..).zip(shards.iter()).filter(|(number, _)| number % 3 == writer)
                    {
                        if (number / 3 + round) % 2 == 0 {
                            store.put(put.clone()).await.unwrap();
                        } else {
                            store.delete(&[put.id], FencingToken(1)).await.unwrap();
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let report = store.scrub(u64::MAX, &|id, corruption| panic!("{id}: {corruption}")).await.unwrap();
    assert_eq!((report.corrupt, report.unreadable), (0, 0));
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    keeper.await.unwrap();
    assert!(reads.load(Ordering::Relaxed) > 0 && store.stats().compacted_files.get() > 0);
    assert!(store.quarantined().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_see_whole_shards_or_none_in_memory() {
    churn(Arc::new(FaultyDisk::default()), Path::new("/node")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_see_whole_shards_or_none_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    churn(Arc::new(RealDisk::new()), folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_puts_of_a_shard_store_it_once() {
    let flusher = flusher();
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::default());
    let store = Arc::new(Store::open(disk, Path::new("/node"), NodeId(1), options(), &flusher).unwrap());
    for number in 0..20 {
        let put = numbered(number, len(number));
        let racers: Vec<_> = (0..8)
            .map(|_| {
                let (store, put) = (Arc::clone(&store), put.clone());
                tokio::spawn(async move { store.put(put).await })
            })
            .collect();
        let mut stored = 0;
        for racer in racers {
            match racer.await.unwrap() {
                Ok(()) => stored += 1,
                Err(PutError::Busy { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(stored > 0);
    }
    assert_eq!(store.stats().puts.get(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_what_was_begun_and_refuses_the_rest() {
    let flusher = flusher();
    let disk = FaultyDisk::default();
    let store = Arc::new(ledger::open(&disk, &flusher));
    let large = numbered(99, 900_000);
    let mut writer: Box<dyn ShardWriter> = store.begin(large.id, 1 << 20).await.unwrap();
    writer.write_cell(large.cells[0].clone()).await.unwrap();
    let puts: Vec<_> = (0..30)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.put(numbered(number, len(number))).await })
        })
        .collect();
    let closing = Arc::clone(&store);
    tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
    let mut acknowledged = Vec::new();
    for (number, put) in (0..).zip(puts) {
        match put.await.unwrap() {
            Ok(()) => acknowledged.push(number),
            Err(PutError::Unavailable { .. } | PutError::ReadOnly { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(writer.write_cell(large.cells[1].clone()).await.is_err());
    drop(writer);
    assert!(store.list(None, 1).await.is_err());
    let again = ledger::open(&disk, &flusher);
    for number in acknowledged {
        let put = numbered(number, len(number));
        assert_eq!(
            again.read(put.id, BlockRange::ALL, Verify::Node).await.unwrap().bytes,
            put.cells.concat()
        );
    }
    assert!(matches!(again.footer(large.id).await, Err(ReadError::NotFound { .. })));
}
