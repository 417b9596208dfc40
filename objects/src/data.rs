//! The data path: bytes of bodies to shards on nodes and back, and the care for what lies there.
//!
//! [`DataPath::write_blob`] makes a body durable as a blob that nothing refers to yet; the caller's commit
//! makes it reachable. [`DataPath::read_blob`] gives checked bytes only. In the background lost shards are
//! rebuilt ([`repair`]), rows and inventories compared ([`sweep`]), and what nothing can reach is collected
//! ([`gc`]).
//!
//! Invariants kept here: a chunk is acknowledged when all its k + m shards are durable on distinct nodes; no
//! byte is served unchecked; the collector takes a shard only when no version, lease, reader or unfinished
//! commit can reach it; memory is bounded by configuration.
//!
//! Deliberately knows nothing of buckets, keys, versions or who may.

mod adopt;
mod background;
mod chunk_writer;
mod cluster;
mod commitments;
mod config;
mod cpu;
mod digests;
mod fetch;
mod gc;
mod hedge;
mod intake;
mod md5_lanes;
mod nodes;
mod pace;
mod placement;
mod reach;
mod read;
mod readers;
mod rebuild;
mod repair;
mod repair_queue;
mod scrub;
mod session;
mod stats;
mod sweep;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ashlar_chunker::RebuildPlans;
use ashlar_metadata::OrderedKv;
use ashlar_metadata::namespace::blobs::BlobId;
use ashlar_storage_node::{FencingToken, ShardService};
use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use adopt::Adopted;
pub use config::DataConfig;
pub(crate) use digests::DigestRequest;
pub(crate) use gc::Collected;
pub(crate) use readers::ReaderGuard;
pub(crate) use session::InFlightGuard;
pub use stats::DataStats;
pub(crate) use sweep::Swept;
pub(crate) use write::StoredBlob;

use crate::clock::Clock;
use crate::error::Error;
use crate::log::Durability;
use crate::requests::BodyStream;

/// The data path. Clones share it.
#[derive(Clone)]
pub(crate) struct DataPath {
    inner: Arc<Inner>,
}

struct Inner {
    kv: Arc<dyn OrderedKv>,
    config: DataConfig,
    session: Arc<session::Session>,
    readers: Arc<readers::Readers>,
    cpu: cpu::CpuPool,
    md5_lanes: md5_lanes::Md5Lanes,
    write_budget: intake::WriteBudget,
    read_budget: Arc<read::ReadBudget>,
    commitments: commitments::CommitmentCache,
    hedges: hedge::Hedges,
    repairs: repair_queue::RepairQueue,
    counters: Arc<stats::Counters>,
    sink: chunk_writer::ChunkSink,
    repair_pace: pace::Pace,
    scrub_pace: pace::Pace,
    scrub_wishes: scrub::ScrubWishes,
    last_sweep: Mutex<Option<Instant>>,
    /// What [`Inner::trouble`] said when the last whole sweep began.
    last_sweep_trouble: AtomicU64,
    /// Nobody else reads this session's progress.
    sole_process: bool,
    /// How far the log is, if there is one.
    published: Option<Arc<dyn Durability>>,
    copy: AtomicUsize,
}

impl Inner {
    /// Which copy to read next, of `copies`.
    fn next_copy(&self, copies: usize) -> usize {
        self.copy.fetch_add(1, Ordering::Relaxed) % copies.max(1)
    }
}

/// A blob's id as rows spell it.
fn row_id(blob: ashlar_chunker::BlobId) -> BlobId {
    BlobId(u128::from_be_bytes(blob.encode()))
}

/// A blob's id as chunks and shards carry it.
fn chunker_id(blob: BlobId) -> ashlar_chunker::BlobId {
    ashlar_chunker::BlobId::decode(blob.0.to_be_bytes())
}

impl DataPath {
    /// Takes a session, and makes or changes the cluster map where nodes or coding differ from before.
    ///
    /// `nodes` are all that this process can talk to: number, service, failure domain. With `sole_process`
    /// earlier sessions are fenced in the same commit: only for a process that holds the data directory's
    /// lock, because it ends every other writer for good. `tasks` is the group of what outlives a request, and
    /// `published` tells what a recovery could bring back: nothing that died later is collected.
    pub(crate) async fn open(
        kv: Arc<dyn OrderedKv>,
        nodes: BTreeMap<u16, (Arc<dyn ShardService>, String)>,
        config: DataConfig,
        clock: Clock,
        sole_process: bool,
        tasks: TaskTracker,
        published: Option<Arc<dyn Durability>>,
    ) -> Result<Self, Error> {
        let nodes = nodes::Nodes::new(nodes);
        nodes.probe(false).await;
        let cluster = cluster::Cluster::open(Arc::clone(&kv), nodes, (config.k, config.m), &clock).await?;
        // Metadata that was lost or is older than the nodes must not count from where it stands: an id given
        // twice would make old shards pass for new ones, and a low token would be refused by every node.
        let above = cluster.nodes.high_water().await;
        let session = session::Session::open(&*kv, &clock, sole_process, above).await?;
        let counters = Arc::new(stats::Counters::default());
        let cpu = cpu::CpuPool::new(config.cpu_tasks);
        let sink = chunk_writer::ChunkSink {
            cluster: Arc::new(cluster),
            rebuilding: rebuild::Rebuilding {
                plans: Arc::new(RebuildPlans::new()),
                cpu: cpu.clone(),
                counters: Arc::clone(&counters),
                read_timeout: config.read_timeout,
            },
            counters: Arc::clone(&counters),
            token: FencingToken(session.id().0),
            rescues: Semaphore::new(config.rescues.max(1)),
            write_timeout: config.write_timeout,
        };
        let inner = Inner {
            readers: readers::Readers::new(Arc::clone(&kv)),
            scrub_wishes: scrub::ScrubWishes::open(&*kv).await?,
            kv,
            session,
            md5_lanes: md5_lanes::Md5Lanes::new(cpu.clone(), tasks),
            cpu,
            write_budget: intake::WriteBudget::new(&config),
            read_budget: read::ReadBudget::new(config.read_bytes, config.readers_max),
            commitments: commitments::CommitmentCache::new(config.commitment_cache_bytes),
            hedges: hedge::Hedges::new(config.hedge_percent),
            repairs: repair_queue::RepairQueue::new(config.repair_queue_max),
            counters,
            sink,
            repair_pace: pace::Pace::new(config.repair_bytes_per_second),
            scrub_pace: pace::Pace::new(config.scrub_bytes_per_second),
            last_sweep: Mutex::new(None),
            last_sweep_trouble: AtomicU64::new(0),
            sole_process,
            published,
            copy: AtomicUsize::new(0),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Stores a body. When this returns, all its shards are durable and nothing refers to them.
    ///
    /// A body longer than `limit`, or not of its declared length, is an error, as are digests that differ
    /// from what was promised. Dropping the future drops what is being written; what was durable already is
    /// collected later. Memory is reserved row by row; waiting for it is bounded and ends in `SlowDown`.
    pub(crate) async fn write_blob(
        &self,
        stream: BodyStream,
        declared_length: Option<u64>,
        limit: u64,
        digests: DigestRequest,
    ) -> Result<StoredBlob, Error> {
        self.inner.write_blob(stream, declared_length, limit, digests).await
    }

    /// Call it before taking the snapshot that a read resolves its names in: while the guard lives, nothing
    /// that the snapshot shows is collected.
    pub(crate) fn enter_reader(&self) -> Arc<ReaderGuard> {
        Arc::new(self.inner.readers.enter())
    }

    /// Streams `range` of a blob, which must lie within it. `first_page`: the chunks of the blob's row, where
    /// the caller has read it already.
    ///
    /// Every byte was checked against its commitment. Pieces are slices of what nodes gave, at most 64 KiB
    /// each; holding them holds their part of the read budget. Dropping the stream releases everything.
    pub(crate) fn read_blob(
        &self,
        blob: BlobId,
        range: Range<u64>,
        reader: Arc<ReaderGuard>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        self.inner.read_blob(chunker_id(blob), range, reader)
    }

    /// Counters and gauges of now.
    pub(crate) fn stats(&self) -> DataStats {
        self.inner.stats()
    }

    /// Asks nodes how they are, and believes the answers: all, or only those whose next probe is due.
    pub(crate) async fn probe_once(&self, only_due: bool) {
        if self.inner.sink.cluster.nodes.probe(only_due).await {
            self.inner.repairs.want_sweep();
        }
    }

    /// Publishes for other processes what this one has in flight and reads.
    pub(crate) async fn publish_progress_once(&self) -> Result<(), Error> {
        self.inner.session.publish(&*self.inner.kv, self.inner.readers.floor()).await
    }

    /// Collects what is dead and out of every reader's sight.
    pub(crate) async fn collect_once(&self) -> Result<Collected, Error> {
        self.inner.collect_dead().await
    }

    /// Repairs what waits for repair; answers how many shards were stored again.
    pub(crate) async fn repair_once(&self) -> Result<usize, Error> {
        self.inner.repair_queued().await
    }

    /// Compares all metadata with all inventories: deletes orphans, queues repairs.
    pub(crate) async fn sweep_once(&self) -> Result<Swept, Error> {
        self.inner.sweep(true).await
    }

    /// Reads every shard and queues what is damaged for repair; answers how many it read.
    pub(crate) async fn scrub_once(&self) -> Result<u64, Error> {
        self.inner.scrub_all().await
    }

    /// Has everything on a node read before long, because damage was found there.
    pub(crate) fn scrub_node(&self, node: u16) {
        self.inner.scrub_wishes.wish(node);
    }

    /// Writes down on which nodes damage was found.
    pub(crate) async fn keep_scrub_wishes_once(&self) -> Result<(), Error> {
        self.inner.keep_scrub_wishes().await
    }

    /// Reads every shard of the nodes on which damage was found.
    pub(crate) async fn scrub_wished_once(&self) -> Result<(), Error> {
        self.inner.scrub_wished().await
    }

    /// This session's number.
    pub(crate) fn session(&self) -> u64 {
        self.inner.session.id().0
    }
}
