//! Nodes that are down, slow, full, or lose and damage what they hold, while bytes are written and read.

use std::time::Duration;

use ashlar_storage_node::NodeHealth;
use bytes::Bytes;
use futures::StreamExt;
use rand::Rng;
use tokio::time::Instant;

use super::world::{World, random_bytes, seeded, some_bytes};
use crate::error::Error;
use crate::requests::BodyStream;

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (1..=6).flat_map(|a| (a + 1..=6).map(move |b| (a, b)))
}

/// A body during which something happens, after `after` bytes.
fn eventful(bytes: &Bytes, after: usize, event: impl FnOnce() + Send + 'static) -> BodyStream {
    let mut event = Some(event);
    let mut sent = 0;
    let pieces: Vec<Bytes> = bytes.chunks(50_000).map(Bytes::copy_from_slice).collect();
    let pieces = pieces.into_iter().map(move |piece| {
        sent += piece.len();
        if sent > after
            && let Some(event) = event.take()
        {
            event();
        }
        Ok(piece)
    });
    futures::stream::iter(pieces).boxed()
}

#[tokio::test]
async fn any_two_nodes_may_be_down_while_reading() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let small = random_bytes(&mut rng, 4_000);
    let large = random_bytes(&mut rng, (5 << 20) + 123);
    let (small_blob, large_blob) = (world.put(&small).await, world.put(&large).await);
    for (a, b) in pairs() {
        world.node(a).set_down(true);
        world.node(b).set_down(true);
        world.assert_reads(small_blob, &small).await;
        world.assert_reads(large_blob, &large).await;
        world.node(a).set_down(false);
        world.node(b).set_down(false);
        world.data.probe_once(false).await;
    }
    assert_eq!(world.data.stats().repair_queue, 0, "a node that is down keeps its shards");
    for node in 1..=3 {
        world.node(node).set_down(true);
    }
    let read = world.read(large_blob, 0..5 << 20).await.map(|bytes| bytes.len());
    assert!(matches!(read, Err(Error::Unreadable { .. })), "{read:?}");
}

#[tokio::test]
async fn any_two_shards_may_be_damaged_or_lost_and_come_back() {
    let mut rng = seeded();
    for (a, b) in pairs() {
        let world = World::new(6).await;
        let bytes = some_bytes(&mut rng, 6 << 20);
        let blob = world.put(&bytes).await;
        let mut bad = 0;
        for (node, shard) in world.shards().into_iter().filter(|(node, _)| *node == a || *node == b) {
            bad += 1;
            if rng.random() {
                assert!(world.node(node).lose(shard));
            } else {
                assert!(world.node(node).corrupt(shard, 0));
            }
        }
        world.assert_reads(blob, &bytes).await;
        // A read finds what it touches; the scrub finds the rest.
        world.data.scrub_once().await.unwrap();
        assert_eq!(world.data.repair_once().await.unwrap(), bad);
        let swept = world.data.sweep_once().await.unwrap();
        assert_eq!((swept.missing, swept.deleted), (0, 0));
        for node in (1..=6).filter(|node| *node != a && *node != b).take(2) {
            world.node(node).set_down(true);
        }
        world.assert_reads(blob, &bytes).await;
    }
}

#[tokio::test]
async fn nodes_may_fail_in_the_middle_of_a_put() {
    let mut rng = seeded();
    for (nodes, round) in [6, 7, 8, 9].into_iter().flat_map(|nodes| (0..4).map(move |round| (nodes, round))) {
        let world = World::new(nodes).await;
        let bytes = some_bytes(&mut rng, 10 << 20);
        let after = rng.random_range(0..bytes.len());
        let first = rng.random_range(1..=nodes);
        let second = rng.random_range(1..=nodes);
        let (a, b) = (world.node(first).clone(), world.node(second).clone());
        let stream = eventful(&bytes, after, move || {
            a.set_down(true);
            b.set_health(NodeHealth::Full);
        });
        let stored = world.write_stream(stream, None).await;
        let stored =
            stored.unwrap_or_else(|e| panic!("{nodes} nodes, {first} and {second} fail after {after}: {e}"));
        for at in &stored.row.chunks {
            assert_eq!(at.m, 2);
            assert!(at.k >= if nodes >= 8 && at.length > 65_536 { 4 } else { 1 }, "{at:?} on {nodes} nodes");
        }
        let blob = world.commit(stored).await;
        world.assert_reads(blob, &bytes).await;
        // m more may go: the first is down already.
        let third = (1..=nodes).find(|node| *node != first).unwrap();
        world.node(third).set_down(true);
        world.assert_reads(blob, &bytes).await;
        for node in 1..=nodes {
            world.node(node).set_down(false);
        }
        world.data.probe_once(false).await;
        world.data.sweep_once().await.unwrap();
        let swept = world.data.sweep_once().await.unwrap();
        assert_eq!((swept.missing, swept.deleted, swept.waiting), (0, 0, 0), "round {round}");
        world.assert_reads(blob, &bytes).await;
    }
}

#[tokio::test]
async fn too_few_nodes_is_an_error_and_k_shrinks_before() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let bytes = random_bytes(&mut rng, 3 << 20);
    for (full, k) in [(0, 4), (1, 3), (2, 2), (3, 1)] {
        (1..=full).for_each(|node| world.node(node).set_health(NodeHealth::Full));
        world.data.probe_once(false).await;
        let stored = world.write(&bytes).await.unwrap();
        assert!(stored.row.chunks.iter().all(|at| (at.k, at.m) == (k, 2)));
        let blob = world.commit(stored).await;
        world.assert_reads(blob, &bytes).await;
    }
    world.node(4).set_health(NodeHealth::ReadOnly { reason: "a test".into() });
    for length in [1_000, 3 << 20] {
        // Found out by trying, then known.
        for _ in 0..2 {
            let refused = world.write(&bytes.slice(..length)).await.map(|_| ());
            assert!(matches!(refused, Err(Error::TooFewNodes { writable: 2, needed: 3 })), "{refused:?}");
        }
    }
    (1..=6).for_each(|node| world.node(node).set_health(NodeHealth::Writable));
    world.data.probe_once(false).await;
    assert_eq!(world.write(&bytes).await.unwrap().row.chunks[0].k, 4);
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_is_hedged_within_the_token_bucket() {
    let world = World::new(6).await;
    let bytes = random_bytes(&mut seeded(), 1 << 20);
    let blob = world.put(&bytes).await;
    for _ in 0..40 {
        world.assert_reads(blob, &bytes).await;
    }
    world.node(2).set_delay(Duration::from_secs(2));
    let begun = Instant::now();
    world.assert_reads(blob, &bytes).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let stats = world.data.stats();
    assert!(stats.hedged_reads > 0 && stats.degraded_reads > 0, "{stats:?}");
    assert_eq!(stats.repair_queue, 0, "slow is not lost");
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_given_up_on_for_reads_and_writes() {
    let world = World::new(7).await;
    let bytes = random_bytes(&mut seeded(), 2 << 20);
    let blob = world.put(&bytes).await;
    world.node(3).set_delay(Duration::from_secs(3600));
    let begun = Instant::now();
    world.assert_reads(blob, &bytes).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    for _ in 0..6 {
        let stored = world.write(&bytes).await.unwrap();
        let blob = world.commit(stored).await;
        world.assert_reads(blob, &bytes).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    assert_eq!(world.data.stats().nodes_writable, 6);
    let writes = Instant::now();
    world.write(&bytes).await.unwrap();
    assert!(writes.elapsed() < Duration::from_secs(1), "a suspect is left out: {:?}", writes.elapsed());
}

#[tokio::test]
async fn damaged_metadata_of_a_shard_never_gives_bytes() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let bytes = random_bytes(&mut rng, 200_000);
    let mut stored = world.write(&bytes).await.unwrap();
    stored.row.chunks[0].root[5] ^= 1;
    let id = world.commit(stored).await;
    let stream = world.data.read_blob(id, 0..1000, world.data.enter_reader()).unwrap();
    let pieces: Vec<Result<Bytes, Error>> = stream.collect().await;
    assert!(matches!(&pieces[..], [Err(Error::Unreadable { .. })]), "{pieces:?}");
}
