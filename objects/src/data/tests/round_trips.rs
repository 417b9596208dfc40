//! What is written is read, whole and in ranges, with the right digests and on distinct nodes.

use std::collections::BTreeMap;

use md5::Digest as _;
use rand::Rng;

use super::world::{World, body, random_bytes, seeded};
use crate::data::DigestRequest;
use crate::error::Error;
use crate::requests::BodyError;
use crate::types::ChecksumAlgorithm;

const LENGTHS: [usize; 16] = [
    0,
    1,
    63,
    64,
    4096,
    32 << 10,
    (32 << 10) + 1,
    64 << 10,
    (64 << 10) + 1,
    256 << 10,
    (256 << 10) + 1,
    (1 << 20) + 3,
    4 << 20,
    (4 << 20) + 1,
    (4 << 20) + (256 << 10),
    (9 << 20) + 777,
];

#[tokio::test]
async fn every_length_comes_back_and_lies_on_distinct_nodes() {
    let mut rng = seeded();
    let world = World::new(6).await;
    for length in LENGTHS {
        let bytes = random_bytes(&mut rng, length);
        for declared in [true, false] {
            let piece = rng.random_range(1_000..100_000);
            let declared = declared.then(|| bytes.len().try_into().unwrap());
            let stored = world.write_stream(body(&bytes, piece), declared).await.unwrap();
            assert_eq!(stored.row.length, u64::try_from(length).unwrap());
            assert_eq!(stored.blake3, *blake3::hash(&bytes).as_bytes());
            assert_eq!(stored.md5, <[u8; 16]>::from(md5::Md5::digest(&bytes)));
            let mut per_chunk: BTreeMap<_, Vec<usize>> = BTreeMap::new();
            for (node, shard) in world.shards() {
                if shard.chunk.blob == stored.in_flight.blob() {
                    per_chunk.entry(shard.chunk).or_default().push(node);
                }
            }
            assert_eq!(per_chunk.len(), stored.row.chunks.len());
            for (nodes, at) in per_chunk.values().zip(&stored.row.chunks) {
                assert_eq!(nodes.len(), usize::from(at.k + at.m));
                assert!(at.deviations.is_empty());
                assert!(nodes.windows(2).all(|pair| pair[0] != pair[1]));
            }
            let blob = world.commit(stored).await;
            world.assert_reads(blob, &bytes).await;
        }
    }
    let stats = world.data.stats();
    assert_eq!(
        (stats.write_bytes_used, stats.read_bytes_used, stats.readers, stats.blobs_in_flight),
        (0, 0, 0, 0)
    );
    assert_eq!((stats.degraded_reads, stats.corrupt_shards, stats.repair_queue), (0, 0, 0));
}

#[tokio::test]
async fn a_blob_of_several_pages_comes_back() {
    let world = World::with(3, crate::data::DataConfig { k: 1, m: 0, ..Default::default() }).await;
    let chunk = random_bytes(&mut seeded(), 4 << 20);
    let pieces = (0..131).map({
        let chunk = chunk.clone();
        move |_| Ok(chunk.clone())
    });
    let stored = world.write_stream(Box::pin(futures::stream::iter(pieces)), None).await.unwrap();
    assert_eq!(
        (stored.row.chunks.len(), stored.further_pages.len(), stored.further_pages[0].0.len()),
        (128, 1, 3)
    );
    let blob = world.commit(stored).await;
    let at = 127 * (4 << 20);
    assert!(world.read(blob, at..at + (8 << 20)).await.unwrap() == [&chunk[..], &chunk[..]].concat());
}

#[tokio::test]
async fn any_range_is_that_range() {
    let mut rng = seeded();
    let world = World::new(6).await;
    for length in [1_usize, 5_000, 70_000, 300_000, (4 << 20) + 100_000, (8 << 20) + 5] {
        let bytes = random_bytes(&mut rng, length);
        let blob = world.put(&bytes).await;
        for round in 0..60 {
            let start = rng.random_range(0..length);
            let longest = if round % 2 == 0 { length - start } else { 100_000.min(length - start) };
            let end = start + rng.random_range(0..=longest);
            let down: Option<usize> = (round % 3 == 0).then(|| rng.random_range(1..=6));
            if let Some(node) = down {
                world.node(node).set_down(true);
            }
            let read = world.read(blob, start.try_into().unwrap()..end.try_into().unwrap()).await.unwrap();
            assert!(read == bytes[start..end], "{start}..{end} of {length}, node {down:?} down");
            if let Some(node) = down {
                world.node(node).set_down(false);
                world.data.probe_once(false).await;
            }
        }
    }
    assert!(world.data.stats().degraded_reads > 0);
    assert_eq!(world.data.stats().contradictions, 0);
}

#[tokio::test]
async fn lengths_are_enforced_both_ways() {
    let mut rng = seeded();
    let world = World::new(6).await;
    for length in [0_usize, 10, 5_000, 40_000, 300_000] {
        let bytes = random_bytes(&mut rng, length);
        let true_length = u64::try_from(length).unwrap();
        let short = world.write_stream(body(&bytes, 999), Some(true_length + 1)).await;
        assert!(
            matches!(short, Err(Error::Body(BodyError::Incomplete { received })) if received == true_length),
            "{length}"
        );
        if length > 0 {
            let long = world.write_stream(body(&bytes, 999), Some(true_length - 1)).await;
            assert!(matches!(long, Err(Error::Body(BodyError::TooLong))), "{length}");
            let digests = DigestRequest::default();
            let over = world.data.write_blob(body(&bytes, 999), None, true_length - 1, digests).await;
            assert!(matches!(over, Err(Error::TooLarge { .. })), "{length}");
            let over =
                world.data.write_blob(body(&bytes, 999), Some(true_length), true_length - 1, digests).await;
            assert!(matches!(over, Err(Error::TooLarge { .. })), "{length}");
        }
    }
    assert_eq!(world.data.stats().write_bytes_used, 0);
    assert_eq!(world.data.stats().blobs_in_flight, 0);
}

#[tokio::test]
async fn promised_digests_are_held_against_the_body() {
    let world = World::new(6).await;
    for length in [100_usize, 1_000_000] {
        let bytes = random_bytes(&mut seeded(), length);
        let md5 = <[u8; 16]>::from(md5::Md5::digest(&bytes));
        let sha256 = <[u8; 32]>::from(sha2::Sha256::digest(&bytes));
        let request = |content_md5, content_sha256| DigestRequest {
            md5: true,
            checksum: Some(ChecksumAlgorithm::Sha256),
            content_md5,
            content_sha256,
        };
        let write = async |request| world.data.write_blob(body(&bytes, 7_000), None, u64::MAX, request).await;
        let stored = write(request(Some(md5), Some(sha256))).await.unwrap();
        assert_eq!(stored.checksum.as_deref(), Some(&sha256[..]));
        assert!(matches!(write(request(Some([1; 16]), None)).await, Err(Error::ContentMd5Mismatch)));
        assert!(matches!(write(request(None, Some([1; 32]))).await, Err(Error::ContentSha256Mismatch)));
    }
}
