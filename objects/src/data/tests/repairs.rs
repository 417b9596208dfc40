//! Redundancy comes back by itself: onto emptied nodes, onto substitutes, and after failed repairs.

use std::time::Duration;

use ashlar_metadata::namespace::blobs::DeadRow;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::world::{World, random_bytes, seeded, some_bytes};

#[tokio::test]
async fn an_emptied_node_is_filled_again() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let mut blobs = Vec::new();
    for _ in 0..30 {
        let bytes = some_bytes(&mut rng, 1 << 20);
        blobs.push((world.put(&bytes).await, bytes));
    }
    let whole = world.shards();
    for (a, b) in [(1, 2), (3, 6), (4, 5)] {
        world.node(a).wipe();
        world.node(b).wipe();
        let swept = world.data.sweep_once().await.unwrap();
        assert!(swept.missing > 0);
        assert!(!world.data.stats().redundancy_full);
        let repaired = world.data.repair_once().await.unwrap();
        assert_eq!(u64::try_from(repaired).unwrap(), swept.missing);
        assert_eq!(world.data.sweep_once().await.unwrap().missing, 0);
        assert!(world.data.stats().redundancy_full);
        assert_eq!(world.shards(), whole);
        for (blob, bytes) in &blobs {
            world.assert_reads(*blob, bytes).await;
        }
    }
}

#[tokio::test]
async fn shards_of_a_node_that_is_gone_move_to_substitutes() {
    let mut rng = seeded();
    let mut world = World::new(8).await;
    let mut blobs = Vec::new();
    for _ in 0..20 {
        let bytes = some_bytes(&mut rng, 1 << 20);
        blobs.push((world.put(&bytes).await, bytes));
    }
    let on_the_lost = world.node(8).ids().len() + world.node(7).ids().len();
    assert!(on_the_lost > 0);
    world.reopen(1..=6).await;
    let swept = world.data.sweep_once().await.unwrap();
    assert_eq!(swept.missing, u64::try_from(on_the_lost).unwrap());
    assert_eq!(world.data.repair_once().await.unwrap(), on_the_lost);
    assert_eq!(world.data.sweep_once().await.unwrap().missing, 0);
    world.node(1).set_down(true);
    world.node(2).set_down(true);
    for (blob, bytes) in &blobs {
        world.assert_reads(*blob, bytes).await;
    }
    // The lost ones come back: what moved away is a stray there and goes.
    world.node(1).set_down(false);
    world.node(2).set_down(false);
    world.reopen(1..=8).await;
    let swept = world.data.sweep_once().await.unwrap();
    assert_eq!((swept.missing, swept.deleted), (0, u64::try_from(on_the_lost).unwrap()));
    for (blob, bytes) in &blobs {
        world.assert_reads(*blob, bytes).await;
    }
}

#[tokio::test]
async fn a_read_repairs_what_it_finds() {
    let world = World::new(6).await;
    let bytes = random_bytes(&mut seeded(), 900_000);
    let blob = world.put(&bytes).await;
    let (node, shard) = *world.shards().iter().find(|(_, id)| id.shard.0 == 1).unwrap();
    assert!(world.node(node).corrupt(shard, 70_000));
    world.assert_reads(blob, &bytes).await;
    let stats = world.data.stats();
    assert_eq!((stats.repair_queue, stats.corrupt_shards), (1, 1));
    let degraded = stats.degraded_reads;
    assert!(degraded > 0);
    assert_eq!(world.data.repair_once().await.unwrap(), 1);
    world.assert_reads(blob, &bytes).await;
    assert_eq!(world.data.stats().degraded_reads, degraded);
}

#[tokio::test]
async fn what_cannot_be_repaired_now_is_repaired_later() {
    let world = World::new(6).await;
    let bytes = random_bytes(&mut seeded(), 900_000);
    let blob = world.put(&bytes).await;
    world.node(1).wipe();
    (2..=4).for_each(|node| world.node(node).set_down(true));
    world.data.sweep_once().await.unwrap();
    assert_eq!(world.data.repair_once().await.unwrap(), 0);
    assert_eq!(world.data.stats().repair_failures, 1);
    (2..=4).for_each(|node| world.node(node).set_down(false));
    world.data.probe_once(false).await;
    world.data.sweep_once().await.unwrap();
    assert_eq!(world.data.repair_once().await.unwrap(), 1);
    world.assert_reads(blob, &bytes).await;
}

#[tokio::test(start_paused = true)]
async fn redundancy_comes_back_without_being_asked_for() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let bytes = random_bytes(&mut rng, 6 << 20);
    let blob = world.put(&bytes).await;
    let (group, stop) = (TaskTracker::new(), CancellationToken::new());
    world.data.spawn_background(&group, stop.clone());
    let whole = world.shards();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.data.stats().redundancy_full);
    // Found by a read and by the sweep that this brings about, and repaired.
    let (node, _) = whole.iter().find(|(_, shard)| shard.shard.0 == 0).unwrap();
    world.node(*node).wipe();
    world.assert_reads(blob, &bytes).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.data.stats().redundancy_full, "{:?}", world.data.stats());
    assert_eq!(world.shards(), whole);
    // What dies goes without being asked for, too.
    world.bury(DeadRow::Blob(blob)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.shards().is_empty());
    stop.cancel();
    group.close();
    group.wait().await;
}
