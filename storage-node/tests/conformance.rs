//! One suite for every [`ShardService`], run on each implementation.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "support/shards.rs"]
mod shards;

use ashlar_chunker::{BLOCK_BYTES, ShardIndex};
use ashlar_disk::{Disk, FaultyDisk, RealDisk};
use ashlar_storage_node::{
    BlockRange, Corruption, DeleteError, FencingToken, Flusher, FlusherOptions, HighWater, MalformedShard,
    MemoryNode, NodeHealth, NodeId, PutError, ReadError, ShardPut, ShardService, Store, StoreOptions, Verify,
};
use bytes::Bytes;
use shards::{id, shard};
use std::path::Path;
use std::sync::Arc;

fn open(disk: Arc<dyn Disk>, folder: &Path) -> Arc<dyn ShardService> {
    let flusher = Flusher::start(FlusherOptions::default()).unwrap();
    // Small files, so that the suite fills several.
    let options = StoreOptions { log_bytes: 1 << 20, segment_bytes: 5 << 20, ..StoreOptions::default() };
    Arc::new(Store::open(disk, folder, NodeId(1), options, &flusher).unwrap())
}

async fn on_each<F: Future<Output = ()>>(test: impl Fn(Arc<dyn ShardService>) -> F) {
    println!("on the node in memory");
    test(Arc::new(MemoryNode::new())).await;
    println!("on a store in memory");
    test(open(Arc::new(FaultyDisk::default()), Path::new("/node"))).await;
    println!("on a store on disk");
    let folder = tempfile::tempdir().unwrap();
    test(open(Arc::new(RealDisk::new()), &folder.path().join("node"))).await;
}

async fn read_all(node: &dyn ShardService, id: ashlar_chunker::ShardId) -> Bytes {
    node.read(id, BlockRange::ALL, Verify::Node).await.unwrap().bytes
}

#[tokio::test]
async fn what_was_put_is_read_back_in_any_range() {
    on_each(|node| async move {
        for (counter, len) in [(1, 1), (2, 4096), (3, 65_536), (4, 300_000), (5, 4 << 20)] {
            for put in shard(counter, len) {
                let whole = put.cells.concat();
                node.put(put.clone()).await.unwrap();
                node.put(put.clone()).await.unwrap();
                assert_eq!(read_all(&*node, put.id).await, whole);
                assert_eq!(node.footer(put.id).await.unwrap(), put.footer);
                let blocks = u32::try_from(whole.len()).unwrap().div_ceil(BLOCK_BYTES);
                for (first_block, count) in [(0, 1), (blocks - 1, 1), (blocks / 2, 3), (blocks / 3, u32::MAX)]
                {
                    for verify in [Verify::Node, Verify::Caller] {
                        let range = BlockRange { first_block, count };
                        let read = node.read_with_footer(put.id, range, verify).await.unwrap();
                        let from = usize::try_from(first_block * BLOCK_BYTES).unwrap();
                        let to = usize::try_from(u64::from(count) * u64::from(BLOCK_BYTES)).unwrap();
                        let to = from.saturating_add(to).min(whole.len());
                        assert_eq!(read.bytes, whole[from..to]);
                        assert_eq!(read.footer, put.footer);
                    }
                }
                for (first_block, count) in [(blocks, 1), (0, 0)] {
                    let range = BlockRange { first_block, count };
                    let refused = node.read(put.id, range, Verify::Node).await.unwrap_err();
                    assert!(matches!(refused, ReadError::OutOfRange { .. }), "{refused}");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn cells_stream_and_an_unsealed_writer_leaves_nothing() {
    on_each(|node| async move {
        for put in shard(1, 1 << 20) {
            let bytes_max = u32::try_from(put.cells.concat().len()).unwrap();
            let mut dropped = node.begin(put.id, bytes_max).await.unwrap();
            dropped.write_cell(put.cells[0].clone()).await.unwrap();
            let busy = node.begin(put.id, bytes_max).await.err().unwrap();
            assert!(matches!(busy, PutError::Busy { .. }), "{busy}");
            assert!(matches!(node.put(put.clone()).await, Err(PutError::Busy { .. })));
            drop(dropped);
            assert!(matches!(node.footer(put.id).await, Err(ReadError::NotFound { .. })));

            let mut short = node.begin(put.id, bytes_max).await.unwrap();
            short.write_cell(put.cells[0].clone()).await.unwrap();
            let refused = short.seal(put.footer.clone()).await.unwrap_err();
            let PutError::Malformed { reason: MalformedShard::Length { .. }, .. } = refused else {
                panic!("{refused}");
            };
            let mut long = node.begin(put.id, bytes_max - 1).await.unwrap();
            let mut outcome = Ok(());
            for cell in &put.cells {
                outcome = outcome.and(long.write_cell(cell.clone()).await);
            }
            let refused = outcome.unwrap_err();
            assert!(matches!(refused, PutError::Malformed { reason: MalformedShard::Overrun { .. }, .. }));
            drop(long);

            let mut writer = node.begin(put.id, bytes_max).await.unwrap();
            for cell in &put.cells {
                writer.write_cell(cell.clone()).await.unwrap();
            }
            writer.seal(put.footer.clone()).await.unwrap();
            assert_eq!(read_all(&*node, put.id).await, put.cells.concat());
            node.put(put.clone()).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_tells_how_far_sessions_and_tokens_have_come() {
    on_each(|node| async move {
        assert_eq!(node.high_water().await.unwrap(), HighWater::default());
        let put = shard(1, 5000).remove(0);
        node.put(put.clone()).await.unwrap();
        node.delete(&[], FencingToken(9)).await.unwrap();
        let session = Some(put.id.chunk.blob.session);
        assert_eq!(node.high_water().await.unwrap(), HighWater { session, token: FencingToken(9) });
        node.delete(&[put.id], FencingToken(10)).await.unwrap();
        let token = FencingToken(10);
        assert_eq!(node.high_water().await.unwrap(), HighWater { session: None, token });
    })
    .await;
}

#[tokio::test]
async fn other_content_and_malformed_shards_are_refused() {
    on_each(|node| async move {
        for (counter, len) in [(1, 5000), (3, 500_000)] {
            let put = shard(counter, len).remove(1);
            let other = shards::shard_filled(counter, len, 9).remove(1);
            node.put(put.clone()).await.unwrap();
            assert_eq!(put.id, other.id);
            assert!(matches!(node.put(other).await, Err(PutError::Conflict { .. })));
            assert_eq!(read_all(&*node, put.id).await, put.cells.concat());
            let fresh = shard(counter + 1, len).remove(0);
            for wrong in [
                ShardPut { footer: fresh.footer.slice(1..), ..fresh.clone() },
                ShardPut { footer: Bytes::new(), ..fresh.clone() },
                ShardPut { footer: vec![0; 1 << 20].into(), ..fresh.clone() },
                ShardPut { cells: Vec::new(), ..fresh.clone() },
                ShardPut { cells: [fresh.cells.clone(), fresh.cells.clone()].concat(), ..fresh.clone() },
                ShardPut { id: fresh.id.chunk.shard(ShardIndex(200)), ..fresh.clone() },
            ] {
                let refused = node.put(wrong).await.unwrap_err();
                assert!(matches!(refused, PutError::Malformed { .. }), "{refused}");
            }
            assert!(matches!(node.footer(fresh.id).await, Err(ReadError::NotFound { .. })));
        }
    })
    .await;
}

#[tokio::test]
async fn deletes_are_fenced_and_leave_nothing_to_read() {
    on_each(|node| async move {
        let small = shard(1, 5000).remove(0);
        let large = shard(2, 1 << 20).remove(0);
        for put in [&small, &large] {
            node.put(put.clone()).await.unwrap();
        }
        node.delete(&[small.id, id(77, 0), large.id], FencingToken(5)).await.unwrap();
        for put in [small, large] {
            let gone = node.read(put.id, BlockRange::ALL, Verify::Caller).await.unwrap_err();
            assert!(matches!(gone, ReadError::NotFound { .. }), "{gone}");
            node.put(put.clone()).await.unwrap();
            let stale = node.delete(&[put.id], FencingToken(4)).await.unwrap_err();
            assert!(matches!(stale, DeleteError::StaleToken { highest: FencingToken(5), .. }), "{stale}");
            assert_eq!(read_all(&*node, put.id).await, put.cells.concat());
        }
    })
    .await;
}

#[tokio::test]
async fn the_inventory_is_sorted_and_paged() {
    on_each(|node| async move {
        let mut expected = Vec::new();
        for (counter, len) in [(9, 100), (1, 200_000), (5, 70_000), (3, 4096)] {
            for put in shard(counter, len) {
                expected.push((put.id, u32::try_from(put.cells.concat().len()).unwrap()));
                node.put(put).await.unwrap();
            }
        }
        expected.sort();
        for limit in [1, 3, 1000] {
            let mut found = Vec::new();
            loop {
                let after = found.last().map(|(id, _)| *id);
                let page = node.list(after, limit).await.unwrap();
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                found.extend(page.into_iter().map(|entry| (entry.id, entry.bytes)));
            }
            assert_eq!(found, expected);
        }
        let space = node.space().await.unwrap();
        assert_eq!(space.shards, u64::try_from(expected.len()).unwrap());
        assert_eq!(space.shard_bytes, expected.iter().map(|(_, bytes)| u64::from(*bytes)).sum::<u64>());
        assert_eq!(node.health().await, NodeHealth::Writable);
    })
    .await;
}

#[tokio::test]
async fn a_quarantined_shard_is_not_served_until_it_is_put_again() {
    on_each(|node| async move {
        for put in [shard(1, 5000).remove(0), shard(2, 1 << 20).remove(0)] {
            node.put(put.clone()).await.unwrap();
            node.quarantine(put.id).await.unwrap();
            node.quarantine(id(99, 0)).await.unwrap();
            let refused = node.read(put.id, BlockRange::ALL, Verify::Caller).await.unwrap_err();
            assert!(matches!(refused, ReadError::Corrupt { corruption: Corruption::Quarantined, .. }));
            assert!(node.list(None, 10).await.unwrap().iter().all(|entry| entry.id != put.id));
            node.put(put.clone()).await.unwrap();
            assert_eq!(read_all(&*node, put.id).await, put.cells.concat());
        }
    })
    .await;
}

#[tokio::test]
async fn a_memory_node_fails_as_it_is_told() {
    let node = MemoryNode::new();
    let put = shard(1, 5000).remove(0);
    node.put(put.clone()).await.unwrap();
    node.set_down(true);
    assert!(matches!(node.put(put.clone()).await, Err(PutError::Unavailable { .. })));
    assert!(matches!(node.footer(put.id).await, Err(ReadError::Unavailable { .. })));
    node.set_health(NodeHealth::Full);
    assert!(matches!(node.put(put.clone()).await, Err(PutError::Full { .. })));
    node.set_down(false);
    assert!(node.corrupt(put.id, 77));
    assert_ne!(node.read(put.id, BlockRange::ALL, Verify::Caller).await.unwrap().bytes, put.cells.concat());
    let found = node.read(put.id, BlockRange::ALL, Verify::Node).await.unwrap_err();
    assert!(matches!(found, ReadError::Corrupt { corruption: Corruption::Block { block: 0 }, .. }));
    assert!(node.lose(put.id) && node.ids().is_empty());
}
