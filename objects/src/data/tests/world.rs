//! A data path on nodes and metadata in memory, and what tests do with it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ashlar_chunker::ShardId;
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{self, BlobId, DeadRow};
use ashlar_metadata::{Commit, MemoryKv, OrderedKv, Write};
use ashlar_storage_node::{MemoryNode, ShardService};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::data::{DataConfig, DataPath, DigestRequest, StoredBlob};
use crate::error::Error;
use crate::requests::{BodyError, BodyStream};

pub(super) struct World {
    pub(super) kv: Arc<MemoryKv>,
    pub(super) nodes: Vec<MemoryNode>,
    pub(super) data: DataPath,
}

/// A seed, printed so that a failure can be repeated.
pub(super) fn seeded() -> StdRng {
    let seed =
        std::env::var("ASHLAR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("ASHLAR_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

pub(super) fn random_bytes(rng: &mut StdRng, length: usize) -> Bytes {
    let mut bytes = BytesMut::zeroed(length);
    rng.fill_bytes(&mut bytes);
    bytes.freeze()
}

/// 1 to `length_max` random bytes.
pub(super) fn some_bytes(rng: &mut StdRng, length_max: usize) -> Bytes {
    let length = rng.random_range(1..=length_max);
    random_bytes(rng, length)
}

/// A body that comes in pieces.
pub(super) fn body(bytes: &Bytes, piece: usize) -> BodyStream {
    let pieces: Vec<Result<Bytes, BodyError>> =
        bytes.chunks(piece).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    futures::stream::iter(pieces).boxed()
}

impl World {
    pub(super) async fn new(nodes: usize) -> Self {
        Self::with(nodes, DataConfig::default()).await
    }

    pub(super) async fn with(nodes: usize, config: DataConfig) -> Self {
        let kv = Arc::new(MemoryKv::new());
        let nodes: Vec<MemoryNode> = (0..nodes).map(|_| MemoryNode::new()).collect();
        let data = open(&kv, &nodes, config, 1..=nodes.len()).await;
        Self { kv, nodes, data }
    }

    /// The same world after a restart with only some of its nodes.
    pub(super) async fn reopen(&mut self, present: std::ops::RangeInclusive<usize>) {
        self.data = open(&self.kv, &self.nodes, DataConfig::default(), present).await;
    }

    pub(super) fn node(&self, number: usize) -> &MemoryNode {
        &self.nodes[number - 1]
    }

    pub(super) async fn write(&self, bytes: &Bytes) -> Result<StoredBlob, Error> {
        self.write_stream(body(bytes, 10_000), Some(bytes.len().try_into().unwrap())).await
    }

    pub(super) async fn write_stream(
        &self,
        stream: BodyStream,
        length: Option<u64>,
    ) -> Result<StoredBlob, Error> {
        self.data
            .write_blob(stream, length, u64::MAX, DigestRequest { md5: true, ..Default::default() })
            .await
    }

    /// Makes a blob reachable, as a use case's commit does.
    pub(super) async fn commit(&self, stored: StoredBlob) -> BlobId {
        let mut commit = Commit { checks: vec![stored.session_check.clone()], ..Commit::default() };
        commit.writes.push(Write::Put { key: blobs::key(stored.id), value: stored.row.encode() });
        for (page, row) in (1..).zip(&stored.further_pages) {
            commit.writes.push(Write::Put { key: blobs::page_key(stored.id, page), value: row.encode() });
        }
        self.kv.commit(commit).await.unwrap();
        stored.id
    }

    pub(super) async fn put(&self, bytes: &Bytes) -> BlobId {
        let stored = self.write(bytes).await.unwrap();
        self.commit(stored).await
    }

    pub(super) async fn bury(&self, dead: DeadRow) {
        let write = Write::PutAtPosition {
            key_prefix: blobs::dead_prefix(),
            key_suffix: blobs::dead_suffix(0),
            value: dead.encode(),
        };
        self.kv.commit(Commit { writes: vec![write], ..Commit::default() }).await.unwrap();
    }

    pub(super) async fn read(&self, blob: BlobId, range: Range<u64>) -> Result<Bytes, Error> {
        let stream = self.data.read_blob(blob, range, self.data.enter_reader())?;
        let add = async |mut all: BytesMut, piece: Bytes| {
            all.extend_from_slice(&piece);
            Ok(all)
        };
        Ok(stream.try_fold(BytesMut::new(), add).await?.freeze())
    }

    pub(super) async fn assert_reads(&self, blob: BlobId, bytes: &Bytes) {
        let read = self.read(blob, 0..bytes.len().try_into().unwrap()).await.unwrap();
        assert!(read == *bytes, "{} bytes read, {} written, or others", read.len(), bytes.len());
    }

    /// Every shard on every node.
    pub(super) fn shards(&self) -> Vec<(usize, ShardId)> {
        let on = |(at, node): (usize, &MemoryNode)| {
            node.ids().into_iter().map(move |id| (at + 1, id)).collect::<Vec<_>>()
        };
        self.nodes.iter().enumerate().flat_map(on).collect()
    }
}

async fn open(
    kv: &Arc<MemoryKv>,
    nodes: &[MemoryNode],
    config: DataConfig,
    present: std::ops::RangeInclusive<usize>,
) -> DataPath {
    let nodes: BTreeMap<u16, (Arc<dyn ShardService>, String)> = present
        .map(|number| {
            let node: Arc<dyn ShardService> = Arc::new(nodes[number - 1].clone());
            (number.try_into().unwrap(), (node, format!("domain-{number}")))
        })
        .collect();
    let kv: Arc<dyn OrderedKv> = Arc::<MemoryKv>::clone(kv);
    DataPath::open(kv, nodes, config, Clock::System, true, TaskTracker::new(), None).await.unwrap()
}
