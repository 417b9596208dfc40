//! Session ids where metadata knows less than the nodes.

use std::sync::Arc;

use ashlar_metadata::MemoryKv;
use ashlar_storage_node::{FencingToken, ShardService};

use super::world::{World, seeded, some_bytes};

#[tokio::test]
async fn a_session_begins_above_what_nodes_have_seen() {
    let mut rng = seeded();
    let mut world = World::new(6).await;
    for _ in 0..3 {
        world.reopen(1..=6).await;
    }
    world.write(&some_bytes(&mut rng, 300_000)).await.unwrap();
    let before = world.data.inner.session.id();
    world.kv = Arc::new(MemoryKv::new());
    world.reopen(1..=6).await;
    assert!(world.data.inner.session.id() > before, "shards of {before} are on the nodes");

    world.node(3).delete(&[], FencingToken(77)).await.unwrap();
    world.kv = Arc::new(MemoryKv::new());
    world.node(2).set_down(true);
    world.reopen(1..=6).await;
    assert_eq!(world.data.inner.session.id().0, 78);
    assert_eq!(world.data.inner.sink.token, FencingToken(78));
}
