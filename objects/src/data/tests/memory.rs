//! Memory stays within its budgets, whatever clients do, and the fast ones finish.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};

use super::world::{World, body, random_bytes, seeded};
use crate::data::{DataConfig, DigestRequest};
use crate::error::Error;
use crate::requests::{BodyError, BodyStream};

/// A body that sends `first` and then nothing for ever.
fn stalled(first: Bytes) -> BodyStream {
    futures::stream::once(async move { Ok(first) }).chain(futures::stream::pending()).boxed()
}

#[tokio::test]
async fn slow_senders_hold_what_they_sent_and_fast_ones_finish() {
    let world = World::new(6).await;
    let mut slow = Vec::new();
    for _ in 0..10_000 {
        let data = world.data.clone();
        let mut write = async move {
            let stream = stalled(Bytes::from_static(b"ten bytes."));
            data.write_blob(stream, Some(64 << 20), u64::MAX, DigestRequest::default()).await.map(|_| ())
        }
        .boxed();
        assert!((&mut write).now_or_never().is_none());
        slow.push(write);
    }
    let stats = world.data.stats();
    assert!(stats.write_bytes_used <= 10_000 * 4096, "{stats:?}");
    let bytes = random_bytes(&mut seeded(), 5 << 20);
    let writes = (0..64).map(|_| world.write(&bytes));
    for stored in futures::future::join_all(writes).await {
        assert_eq!(stored.unwrap().row.chunk_count, 2);
    }
    drop(slow);
    let stats = world.data.stats();
    assert_eq!((stats.write_bytes_used, stats.blobs_in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_memory_is_told_to_slow_down() {
    let config = DataConfig { intake_bytes: 10_000, row_bytes: 400_000, ..Default::default() };
    let world = World::with(6, config).await;
    let bytes = random_bytes(&mut seeded(), 1 << 20);
    let data = world.data.clone();
    let mut hog = async move {
        let stream = stalled(Bytes::from(vec![1; 40_000]));
        data.write_blob(stream, None, u64::MAX, DigestRequest::default()).await.map(|_| ())
    }
    .boxed();
    assert!((&mut hog).now_or_never().is_none());
    let waited = world.write(&bytes).await.map(|_| ());
    assert!(matches!(waited, Err(Error::SlowDown { .. })), "{waited:?}");
    // The hog is told too, because others wait.
    let told = tokio::time::timeout(Duration::from_secs(60), hog).await.unwrap();
    assert!(matches!(told, Err(Error::Body(BodyError::TooSlow))), "{told:?}");
    world.write(&bytes).await.unwrap();
}

#[tokio::test]
async fn stalled_readers_hold_a_block_each_and_fast_ones_finish() {
    let config = DataConfig { read_bytes: 8 << 20, ..Default::default() };
    let world = World::with(6, config).await;
    let bytes = random_bytes(&mut seeded(), 12 << 20);
    let blob = world.put(&bytes).await;
    let length = u64::try_from(bytes.len()).unwrap();
    let mut stalled = Vec::new();
    for _ in 0..2_000 {
        let mut stream = world.data.read_blob(blob, 0..length, world.data.enter_reader()).unwrap().boxed();
        // As an HTTP connection does: takes what it can get, though its socket swallows nothing.
        let mut queued = vec![stream.next().await.unwrap().unwrap()];
        while let Some(piece) = stream.next().now_or_never().filter(|_| queued.len() < 16) {
            queued.push(piece.unwrap().unwrap());
        }
        stalled.push((stream, queued));
    }
    let used = world.data.stats().read_bytes_used;
    assert!(used <= (8 << 20) + 2_000 * (16 << 10), "{used}");
    assert!(used >= 2_000 * (16 << 10), "what is handed out counts: {used}");
    world.assert_reads(blob, &bytes).await;
    // The last one waits for its client, and goes on when the socket has swallowed what it got.
    let (mut stream, queued) = stalled.pop().unwrap();
    assert!(stream.next().now_or_never().is_none());
    drop(queued);
    stream.next().await.unwrap().unwrap();
    drop((stream, stalled));
    assert_eq!((world.data.stats().read_bytes_used, world.data.stats().readers), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_slows_down_gets_less() {
    let world = World::new(6).await;
    let bytes = random_bytes(&mut seeded(), 40 << 20);
    let blob = world.put(&bytes).await;
    let length = u64::try_from(bytes.len()).unwrap();
    let mut stream = world.data.read_blob(blob, 0..length, world.data.enter_reader()).unwrap().boxed();
    let mut most = 0;
    for _ in 0..300 {
        stream.next().await.unwrap().unwrap();
        most = most.max(world.data.stats().read_bytes_used);
    }
    assert!((1 << 20..=4 << 20).contains(&most), "{most}");
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        stream.next().await.unwrap().unwrap();
    }
    let used = world.data.stats().read_bytes_used;
    assert!(used <= 16 << 10, "{used}");
}

#[tokio::test]
async fn there_is_a_most_of_readers() {
    let world = World::with(6, DataConfig { readers_max: 2, ..Default::default() }).await;
    let blob = world.put(&random_bytes(&mut seeded(), 100)).await;
    let guard = world.data.enter_reader();
    let open = || world.data.read_blob(blob, 0..100, Arc::clone(&guard));
    let (first, second) = (open().unwrap(), open().unwrap());
    assert!(matches!(open().map(|_| ()), Err(Error::SlowDown { .. })));
    drop(first);
    let third = open().unwrap();
    drop((second, third));
    assert_eq!(world.data.stats().readers, 0);
}

#[tokio::test]
async fn an_empty_body_and_an_empty_range_are_nothing() {
    let world = World::new(6).await;
    let stored = world.write_stream(body(&Bytes::new(), 1), Some(0)).await.unwrap();
    assert_eq!((stored.row.chunk_count, world.shards().len()), (0, 0));
    let blob = world.commit(stored).await;
    assert_eq!(world.read(blob, 0..0).await.unwrap().len(), 0);
}
