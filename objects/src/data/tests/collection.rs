//! What nothing can reach is collected, and nothing else is.

use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{self, BlobId, DeadRow};
use ashlar_metadata::namespace::manifests::{self, ManifestId, ManifestRow, ManifestState, PartRef};
use ashlar_metadata::namespace::sessions::{self, LeaseRow};
use ashlar_metadata::namespace::types::UnixMillis;
use ashlar_metadata::{Commit, OrderedKv, Write};
use bytes::Bytes;
use futures::StreamExt;
use rand::Rng;
use tokio::sync::mpsc;

use super::world::{World, random_bytes, seeded};
use crate::data::DigestRequest;
use crate::requests::{BodyError, BodyStream};

/// A body that the test feeds.
fn fed() -> (mpsc::UnboundedSender<Result<Bytes, BodyError>>, BodyStream) {
    let (feed, mut pieces) = mpsc::unbounded_channel();
    (feed, futures::stream::poll_fn(move |cx| pieces.poll_recv(cx)).boxed())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{what} does not come to hold");
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_only_what_is_collected() {
    let mut rng = seeded();
    for _ in 0..10 {
        let world = World::new(6).await;
        let kept_bytes = random_bytes(&mut rng, 3_000_000);
        let kept = world.put(&kept_bytes).await;
        let kept_shards = world.shards().len();
        let (feed, stream) = fed();
        let data = world.data.clone();
        let write = tokio::spawn(async move {
            data.write_blob(stream, Some(64 << 20), u64::MAX, DigestRequest::default()).await.map(|_| ())
        });
        let sent = rng.random_range(5..12);
        for _ in 0..sent {
            feed.send(Ok(random_bytes(&mut rng, 1 << 20))).unwrap();
        }
        until("a chunk is sealed", || world.shards().len() >= kept_shards + 6).await;
        let swept = world.data.sweep_once().await.unwrap();
        assert_eq!(swept.deleted, 0, "the blob is in flight");
        assert!(swept.waiting >= 6);
        write.abort();
        assert!(write.await.unwrap_err().is_cancelled());
        until("the guard is dropped", || world.data.stats().blobs_in_flight == 0).await;
        let swept = world.data.sweep_once().await.unwrap();
        assert!(swept.deleted >= 6 && swept.waiting == 0, "{swept:?}");
        assert_eq!(world.shards().len(), kept_shards);
        world.assert_reads(kept, &kept_bytes).await;
    }
}

#[tokio::test]
async fn a_slow_upload_is_not_collected_while_gc_runs() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let bytes = random_bytes(&mut rng, 13 << 20);
    let (feed, stream) = fed();
    let data = world.data.clone();
    let write =
        tokio::spawn(async move { data.write_blob(stream, None, u64::MAX, DigestRequest::default()).await });
    for piece in bytes.chunks(700_000) {
        feed.send(Ok(Bytes::copy_from_slice(piece))).unwrap();
        for _ in 0..rng.random_range(0..50) {
            tokio::task::yield_now().await;
        }
        // Younger blobs come and go meanwhile.
        let young = world.write(&random_bytes(&mut rng, 100_000)).await.unwrap();
        if rng.random() {
            world.commit(young).await;
        }
        world.data.publish_progress_once().await.unwrap();
        world.data.collect_once().await.unwrap();
        world.data.sweep_once().await.unwrap();
    }
    drop(feed);
    let stored = write.await.unwrap().unwrap();
    // Still in flight between the last shard and the commit.
    world.data.sweep_once().await.unwrap();
    let blob = world.commit(stored).await;
    let swept = world.data.sweep_once().await.unwrap();
    assert_eq!((swept.missing, swept.waiting), (0, 0));
    world.assert_reads(blob, &bytes).await;
}

#[tokio::test]
async fn the_dead_wait_for_readers_and_leases_and_then_go_whole() {
    let mut rng = seeded();
    let world = World::new(6).await;
    let bytes = random_bytes(&mut rng, 5 << 20);
    let (part, loose) = (world.put(&bytes).await, world.put(&bytes).await);
    let manifest = ManifestId(part.0);
    let part_ref =
        PartRef { number: 1, blob: part, length: 5 << 20, blob_root: [0; 32], etag: None, checksum: None };
    let row = ManifestRow {
        state: ManifestState::Dying,
        references: 0,
        length: 5 << 20,
        part_count: 1,
        multipart: false,
        parts: vec![part_ref],
    };
    let lease_key = sessions::lease_key(7);
    let position = world.kv.stable_position().0;
    let lease = LeaseRow { position, session: world.data.session(), expires: UnixMillis(0) };
    let writes = vec![
        Write::Put { key: manifests::key(manifest), value: row.encode() },
        Write::Put { key: lease_key.clone(), value: lease.encode() },
    ];
    world.kv.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    let reader = world.data.enter_reader();
    world.bury(DeadRow::Manifest(manifest)).await;
    world.bury(DeadRow::Blob(loose)).await;
    assert_eq!(world.data.collect_once().await.unwrap().waiting, 2, "a reader and a lease hold them");
    world.assert_reads(part, &bytes).await;
    drop(reader);
    assert_eq!(world.data.collect_once().await.unwrap().waiting, 2, "a lease holds them");
    let unlease = vec![Write::Delete { key: lease_key }];
    world.kv.commit(Commit { writes: unlease, ..Commit::default() }).await.unwrap();
    let late_reader = world.data.enter_reader();
    let collected = world.data.collect_once().await.unwrap();
    assert_eq!((collected.dead_rows, collected.blobs, collected.waiting), (2, 2, 0));
    drop(late_reader);
    assert!(world.shards().is_empty());
    for key in [blobs::key(part), blobs::key(loose), manifests::key(manifest)] {
        assert_eq!(world.kv.get(&key).await.unwrap(), None);
    }
    assert_eq!(world.data.collect_once().await.unwrap(), crate::data::Collected::default());
}

#[tokio::test]
async fn a_node_that_is_down_while_the_dead_are_collected_is_swept_later() {
    let world = World::new(6).await;
    let blob = world.put(&random_bytes(&mut seeded(), 1 << 20)).await;
    world.node(5).set_down(true);
    world.bury(DeadRow::Blob(blob)).await;
    assert_eq!(world.data.collect_once().await.unwrap().dead_rows, 1);
    assert_eq!(world.shards().len(), 1);
    world.node(5).set_down(false);
    assert_eq!(world.data.sweep_once().await.unwrap().deleted, 1);
    assert!(world.shards().is_empty());
}

#[tokio::test]
async fn a_fenced_session_writes_no_more_and_leaves_orphans() {
    let mut world = World::new(6).await;
    let bytes = random_bytes(&mut seeded(), 100_000);
    let kept = world.put(&bytes).await;
    let unfinished = world.write(&bytes).await.unwrap();
    let before = world.data.clone();
    world.reopen(1..=6).await;
    let commit = Commit { checks: vec![unfinished.session_check.clone()], ..Commit::default() };
    assert!(world.kv.commit(commit).await.is_err(), "its commits do not count any more");
    before.publish_progress_once().await.unwrap();
    let refused =
        before.write_blob(super::world::body(&bytes, 1000), None, u64::MAX, DigestRequest::default()).await;
    assert!(refused.is_err());
    drop(unfinished);
    assert!(before.sweep_once().await.is_err(), "it deletes no more either");
    assert_eq!(world.shards().len(), 12);
    assert_eq!(world.data.sweep_once().await.unwrap().deleted, 6, "what it did not commit is over");
    world.assert_reads(kept, &bytes).await;
    assert_eq!(world.shards().len(), 6);
}

#[tokio::test]
async fn blobs_of_sessions_that_are_not_known_are_left_alone() {
    let world = World::new(6).await;
    let foreign = ashlar_chunker::BlobId { session: ashlar_chunker::SessionId(99), counter: 0 };
    let shard = foreign.chunk(0).shard(ashlar_chunker::ShardIndex(0));
    let coding = ashlar_chunker::Coding::new(4, 2).unwrap();
    let encoded = ashlar_chunker::encode_chunk(coding, Bytes::from_static(b"somebody's")).unwrap();
    let put = ashlar_storage_node::ShardPut {
        id: shard,
        cells: vec![encoded.shard(shard.shard)],
        footer: encoded.commitment.encode(),
    };
    ashlar_storage_node::ShardService::put(world.node(1), put).await.unwrap();
    let swept = world.data.sweep_once().await.unwrap();
    assert_eq!((swept.deleted, swept.waiting), (0, 1));
    assert_eq!(blobs::parse_key(&blobs::key(BlobId(5))), Some(BlobId(5)));
}
