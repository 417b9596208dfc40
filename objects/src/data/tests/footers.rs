//! Damage of every kind on up to two nodes: bytes, footers, whole shards. Reads stay right, all of it is found
//! from the first that is, and redundancy is called full only when it is.

use std::time::Duration;

use ashlar_chunker::{ChunkRoot, ShardId};
use ashlar_metadata::namespace::blobs::BlobId;
use ashlar_storage_node::ShardService;
use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::world::{World, random_bytes, seeded, some_bytes};
use crate::data::repair_queue::Reported;

/// What a shard is, byte for byte.
async fn held(world: &World) -> Vec<(usize, ShardId, Bytes, Bytes)> {
    let mut held = Vec::new();
    for (node, id) in world.shards() {
        let all = ashlar_storage_node::BlockRange::ALL;
        let read = world.node(node).read_with_footer(id, all, ashlar_storage_node::Verify::Node).await;
        let read = read.unwrap_or_else(|e| panic!("node {node}: {e}"));
        held.push((node, id, read.bytes, read.footer));
    }
    held
}

async fn footers_length(world: &World, node: usize, id: ShardId) -> usize {
    world.node(node).footer(id).await.unwrap().len()
}

#[tokio::test]
async fn a_damaged_footer_is_found_and_replaced() {
    let mut rng = seeded();
    for length in [4_000, 300_000, 5 << 20] {
        let world = World::new(6).await;
        let bytes = random_bytes(&mut rng, length);
        let blob = world.put(&bytes).await;
        let before = held(&world).await;
        let mut damaged = 0;
        for (node, id) in world.shards().into_iter().filter(|(_, id)| id.shard.0 < 2) {
            let byte = rng.random_range(0..footers_length(&world, node, id).await);
            assert!(world.node(node).corrupt_footer(id, byte));
            damaged += 1;
        }
        world.assert_reads(blob, &bytes).await;
        world.data.scrub_once().await.unwrap();
        assert_eq!(world.data.repair_once().await.unwrap(), damaged, "{length} bytes");
        assert_eq!(held(&world).await, before);
        world.assert_reads(blob, &bytes).await;
    }
}

#[tokio::test]
async fn what_is_known_to_be_bad_is_asked_last_and_not_counted_as_lost() {
    let world = World::new(6).await;
    let bytes = random_bytes(&mut seeded(), 900_000);
    let blob = world.put(&bytes).await;
    let shards = world.shards();
    let queue = &world.data.inner.repairs;
    let (suspect, id) = *shards.iter().find(|(_, id)| id.shard.0 == 0).unwrap();
    assert_eq!(queue.report(id), Reported::Queued);
    let before = world.node(suspect).calls();
    world.assert_reads(blob, &bytes).await;
    assert_eq!(world.node(suspect).calls(), before, "four others are enough");
    for (_, id) in &shards {
        queue.report(*id);
    }
    world.assert_reads(blob, &bytes).await;
    for (node, id) in shards.iter().filter(|(_, id)| id.shard.0 % 3 == 0) {
        assert!(world.node(*node).corrupt(*id, 0));
    }
    world.assert_reads(blob, &bytes).await;
    assert_eq!(world.data.repair_once().await.unwrap(), 2);
    assert_eq!(world.data.stats().repair_queue, 0);
    world.assert_reads(blob, &bytes).await;
}

#[tokio::test]
async fn a_missing_shard_found_by_a_read_asks_for_a_sweep() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let (one, other) = (random_bytes(&mut rng, 900_000), random_bytes(&mut rng, 900_000));
    let (one_blob, other_blob) = (world.put(&one).await, world.put(&other).await);
    world.data.sweep_once().await.unwrap();
    assert!(world.data.stats().redundancy_full && !world.data.inner.is_sweep_due());
    let (node, _) = *world.shards().iter().find(|(_, id)| id.shard.0 == 1).unwrap();
    let whole = world.shards();
    world.node(node).wipe();
    world.assert_reads(one_blob, &one).await;
    world.assert_reads(other_blob, &other).await;
    world.data.repair_once().await.unwrap();
    assert!(world.data.inner.is_sweep_due());
    assert!(!world.data.stats().redundancy_full, "what was read is restored, the rest is not known");
    world.data.sweep_once().await.unwrap();
    world.data.repair_once().await.unwrap();
    world.data.sweep_once().await.unwrap();
    assert!(world.data.stats().redundancy_full && !world.data.inner.is_sweep_due());
    assert_eq!(world.shards(), whole);
}

#[tokio::test]
async fn damage_found_by_a_read_starts_a_scrub_that_outlives_restarts() {
    let mut rng = seeded();
    let mut world = World::new(6).await;
    let bytes = random_bytes(&mut rng, 900_000);
    let blob = world.put(&bytes).await;
    for _ in 0..20 {
        world.put(&some_bytes(&mut rng, 300_000)).await;
    }
    world.data.sweep_once().await.unwrap();
    let before = held(&world).await;
    let (bad, read) = *world.shards().iter().find(|(_, id)| id.shard.0 == 1).unwrap();
    let ids = world.node(bad).ids();
    for id in &ids {
        if *id == read || rng.random() {
            world.node(bad).corrupt(*id, 0);
        } else {
            world.node(bad).corrupt_footer(*id, 40);
        }
    }
    assert!(world.data.stats().redundancy_full, "nobody knows yet");
    world.assert_reads(blob, &bytes).await;
    assert_eq!(world.data.stats().scrub_nodes, 1);
    world.data.scrub_wished_once().await.unwrap();
    assert_eq!(world.data.stats().repair_queue, u64::try_from(ids.len()).unwrap());
    // Forgotten with the process, but not that there was something.
    world.data.keep_scrub_wishes_once().await.unwrap();
    world.reopen(1..=6).await;
    world.data.sweep_once().await.unwrap();
    assert_eq!(world.data.stats().scrub_nodes, 1);
    assert!(!world.data.stats().redundancy_full);
    world.data.scrub_wished_once().await.unwrap();
    assert_eq!(world.data.repair_once().await.unwrap(), ids.len());
    assert!(!world.data.stats().redundancy_full);
    world.data.scrub_wished_once().await.unwrap();
    assert!(world.data.stats().redundancy_full);
    assert_eq!(held(&world).await, before);
    world.reopen(1..=6).await;
    assert_eq!(world.data.stats().scrub_nodes, 0);
}

#[tokio::test]
async fn a_kept_footer_is_a_copy() {
    let world = World::new(6).await;
    let bytes = random_bytes(&mut seeded(), 300_000);
    let stored = world.write(&bytes).await.unwrap();
    let at = stored.row.chunks[0].clone();
    let blob = world.commit(stored).await;
    world.assert_reads(blob, &bytes).await;
    let root = ChunkRoot::from(at.root);
    let chunk = crate::data::chunker_id(blob).chunk(0);
    let kept = world.data.inner.commitments.get(chunk, &root).unwrap().encode();
    for (node, id) in world.shards() {
        let footer = world.node(node).footer(id).await.unwrap();
        assert_eq!(footer, kept);
        assert_ne!(footer.as_ptr(), kept.as_ptr(), "a slice would hold what the node read");
    }
}

#[tokio::test]
async fn redundancy_is_not_called_full_on_an_older_sweeps_word() {
    let world = World::new(6).await;
    let bytes = random_bytes(&mut seeded(), 900_000);
    let blob = world.put(&bytes).await;
    assert!(!world.data.stats().redundancy_full, "no sweep yet");
    world.data.sweep_once().await.unwrap();
    assert!(world.data.stats().redundancy_full);
    // A node that falls silent.
    world.node(1).set_down(true);
    world.assert_reads(blob, &bytes).await;
    world.data.probe_once(false).await;
    assert!(!world.data.stats().redundancy_full);
    world.node(1).set_down(false);
    world.data.probe_once(false).await;
    assert!(!world.data.stats().redundancy_full);
    world.data.sweep_once().await.unwrap();
    assert!(world.data.stats().redundancy_full);
    // Damage that cannot be repaired now is not forgotten: the inventories do not show it.
    let damaged = world.shards().into_iter().find(|(node, _)| *node == 2).unwrap();
    world.node(2).corrupt(damaged.1, 0);
    world.data.scrub_once().await.unwrap();
    (3..=5).for_each(|node| world.node(node).set_down(true));
    assert_eq!(world.data.repair_once().await.unwrap(), 0);
    (3..=5).for_each(|node| world.node(node).set_down(false));
    world.data.probe_once(false).await;
    assert!(!world.data.stats().redundancy_full);
    world.data.sweep_once().await.unwrap();
    assert_eq!(world.data.repair_once().await.unwrap(), 1);
    world.data.scrub_wished_once().await.unwrap();
    assert!(world.data.stats().redundancy_full, "{:?}", world.data.stats());
}

#[tokio::test]
async fn a_shard_on_a_bad_sector_is_found_and_stored_again() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let (one, other) = (random_bytes(&mut rng, 900_000), random_bytes(&mut rng, 900_000));
    let (one_blob, other_blob) = (world.put(&one).await, world.put(&other).await);
    world.data.sweep_once().await.unwrap();
    let before = held(&world).await;
    let first_of = |blob: BlobId| {
        let chunk = crate::data::chunker_id(blob).chunk(0);
        *world.shards().iter().find(|(_, id)| id.chunk == chunk && id.shard.0 == 1).unwrap()
    };
    let (read, (node, scrubbed)) = (first_of(one_blob), first_of(other_blob));
    assert!(world.node(read.0).make_unreadable(read.1) && world.node(node).make_unreadable(scrubbed));
    world.assert_reads(one_blob, &one).await;
    assert_eq!(world.data.stats().scrub_nodes, 1, "found by a read");
    assert_eq!(world.data.repair_once().await.unwrap(), 1);
    world.data.scrub_once().await.unwrap();
    assert_eq!(world.data.repair_once().await.unwrap(), 1, "found by the scrub");
    world.data.scrub_wished_once().await.unwrap();
    world.data.scrub_wished_once().await.unwrap();
    assert_eq!(world.data.stats().scrub_nodes, 0, "{:?}", world.data.stats());
    world.data.sweep_once().await.unwrap();
    assert!(world.data.stats().redundancy_full);
    assert_eq!(held(&world).await, before);
    world.assert_reads(other_blob, &other).await;
}

#[tokio::test]
async fn a_disk_that_fails_as_a_whole_keeps_its_shards_for_a_while() {
    let mut rng = seeded();
    let world = World::new(7).await;
    let mut blobs = Vec::new();
    for _ in 0..20 {
        let bytes = some_bytes(&mut rng, 300_000);
        blobs.push((world.put(&bytes).await, bytes));
    }
    let before = world.shards();
    for id in world.node(3).ids() {
        world.node(3).make_unreadable(id);
    }
    for (blob, bytes) in &blobs {
        world.assert_reads(*blob, bytes).await;
    }
    world.data.scrub_once().await.unwrap();
    assert_eq!(world.data.repair_once().await.unwrap(), 0, "the node is suspect");
    assert_eq!(world.shards(), before);
}

/// Damages what lies on a node, each shard in its own way; some are spared.
async fn ruin(world: &World, node: usize, rng: &mut StdRng) {
    for id in world.node(node).ids() {
        let footer_bytes = footers_length(world, node, id).await;
        match rng.random_range(0..5) {
            0 => drop(world.node(node).lose(id)),
            1 | 2 => drop(world.node(node).corrupt(id, 0)),
            3 => drop(world.node(node).corrupt_footer(id, rng.random_range(0..footer_bytes))),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_ruined_nodes_come_back_by_themselves() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let mut blobs: Vec<(BlobId, Bytes)> = Vec::new();
    for _ in 0..25 {
        let bytes = some_bytes(&mut rng, 2 << 20);
        blobs.push((world.put(&bytes).await, bytes));
    }
    let before = held(&world).await;
    let (group, stop) = (TaskTracker::new(), CancellationToken::new());
    world.data.spawn_background(&group, stop.clone());
    for _ in 0..3 {
        let bad = (1..=6).choose_multiple(&mut rng, 2);
        for node in &bad {
            ruin(&world, *node, &mut rng).await;
        }
        for (blob, bytes) in &blobs {
            world.assert_reads(*blob, bytes).await;
        }
        let restored = async {
            while !world.data.stats().redundancy_full {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let restored = tokio::time::timeout(Duration::from_secs(120), restored).await;
        restored.unwrap_or_else(|_| panic!("{:?}", world.data.stats()));
        assert!(held(&world).await == before, "a shard is not what it was");
    }
    stop.cancel();
    group.close();
    group.wait().await;
}
