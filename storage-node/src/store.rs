//! A storage node on a disk: segments of extents for large shards, an index log that small ones ride in.
//!
//! A put is acknowledged when its log record is durable, and a large shard's extent was durable before that
//! record was written, so the log alone decides what exists. Everything in memory is rebuilt from it. A
//! failed write or sync poisons the store: nothing more is written until it is opened again, reads go on.
//!
//! Formats: `docs/formats/shard.md`.

mod buffers;
mod compact;
mod files;
mod flusher;
mod index;
mod log;
mod read;
mod record;
mod recover;
mod scrub;
mod space;
mod state;
mod stats;
mod superblock;
mod writer;

pub use flusher::{Flusher, FlusherOptions};
pub use recover::{LogDamage, OpenReport};
pub use scrub::ScrubReport;
pub use stats::{Counter, FlusherStats, StoreStats};
pub use superblock::{DiskUuid, STORE_FORMAT, Superblock, SuperblockError};

/// The parsers of a node's files, for fuzzing and for tools that look at them.
pub mod format {
    pub use super::record::{
        FileHeader, FooterHeader, Generation, GroupHeader, RecordHeader, RecordKind, Seal, SummaryEntry,
    };
    pub use super::recover::fuzz_scan;
}

use crate::checked::check_shape;
use crate::service::{
    BlockRange, Corruption, DELETE_IDS_MAX, DeleteError, FencingToken, FootedRead, LIST_LIMIT_MAX,
    NodeHealth, NodeId, PutError, ReadError, ShardEntry, ShardPut, ShardRead, ShardService, ShardWriter,
    SpaceReport, Unavailable, Verify,
};
use ashlar_chunker::ShardId;
use ashlar_disk::{Disk, DiskFile, DiskLock, OpenMode};
use async_trait::async_trait;
use bytes::Bytes;
use compact::Keeping;
use files::{ReadFiles, file_name};
use flusher::Queues;
use index::FileId;
use log::{Append, Log, WriteClaim};
use parking_lot::{Condvar, Mutex, RwLock};
use read::Wanted;
use space::{FullError, Punch};
use state::State;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::oneshot;

/// Name of the file whose lock keeps a second process out.
const LOCK_FILE: &str = "lock";
/// Tombstones that one append carries, so that a group stays small.
const TOMBSTONES_PER_APPEND: usize = 1000;
/// Smallest log file that holds the largest group and its seal.
const LOG_BYTES_MIN: u64 = 1 << 20;
/// Smallest segment that holds the largest shard and footer.
const SEGMENT_BYTES_MIN: u64 = 5 << 20;

/// Sizes and limits of a [`Store`].
#[derive(Clone)]
pub struct StoreOptions {
    /// Bytes of each log file; a multiple of 4 KiB, at least 1 MiB.
    pub log_bytes: u64,
    /// Bytes of each segment; a multiple of 4 KiB, at least 5 MiB.
    pub segment_bytes: u64,
    /// Largest shard that rides in a log record.
    pub inline_bytes_max: u32,
    /// Left free on the file system by puts. By default 5 % of it, at most 1 GiB.
    pub reserve_bytes: Option<u64>,
    /// A log file is compacted when at most this share of it is live.
    pub compact_live_percent: u64,
    /// Pace of compaction.
    pub compact_bytes_per_second: u64,
    /// Files kept open for reading.
    pub open_files_max: usize,
    /// Source of identities and generations; random, unless a test wants to repeat itself.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            log_bytes: 16 << 20,
            segment_bytes: 64 << 20,
            inline_bytes_max: 64 << 10,
            reserve_bytes: None,
            compact_live_percent: 50,
            compact_bytes_per_second: 32 << 20,
            open_files_max: 64,
            // Each hasher is keyed by the operating system's randomness.
            random: Arc::new(|| RandomState::new().build_hasher().finish()),
        }
    }
}

/// A folder could not be opened as a node's.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store of this one, has it open.
    #[error("{folder} is in use by another process")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// It is another node's.
    #[error("{folder} belongs to {found}, not to {node}")]
    WrongNode {
        /// The folder.
        folder: PathBuf,
        /// Who asked.
        node: NodeId,
        /// Whose it is.
        found: NodeId,
    },
    /// It cannot be said whose it is.
    #[error("cannot use {folder}: {error}")]
    Superblock {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        error: SuperblockError,
    },
    /// Sizes that no store can work with.
    #[error(
        "log files of {log_bytes} and segments of {segment_bytes} bytes: at least 1 and 5 MiB, whole pages"
    )]
    Options {
        /// Asked for.
        log_bytes: u64,
        /// Asked for.
        segment_bytes: u64,
    },
    /// The disk refused.
    #[error("cannot open {folder}: {error}")]
    Io {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// What a store is made of. Its threads are the flusher's.
pub(crate) struct StoreInner {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    node: NodeId,
    uuid: DiskUuid,
    options: StoreOptions,
    queues: Arc<Queues>,
    state: RwLock<State>,
    log: Mutex<Log>,
    read_files: ReadFiles,
    write_files: Mutex<Vec<(u32, Arc<dyn DiskFile>)>>,
    punches: Mutex<Vec<Punch>>,
    segment_waiters: Mutex<Vec<oneshot::Sender<Result<(), PutError>>>>,
    keeping: Mutex<Keeping>,
    poison: OnceLock<String>,
    is_full: AtomicBool,
    full: Mutex<Option<FullError>>,
    closed: AtomicBool,
    active: Mutex<usize>,
    idle: Condvar,
    lock: Mutex<Option<Box<dyn DiskLock>>>,
    this: std::sync::Weak<StoreInner>,
    stats: StoreStats,
}

/// Work under way that closing waits for.
pub(crate) struct Activity(Arc<StoreInner>);

impl Drop for Activity {
    fn drop(&mut self) {
        let mut active = self.0.active.lock();
        *active -= 1;
        if *active == 0 {
            self.0.idle.notify_all();
        }
    }
}

/// Whether an id can be written.
enum Claim {
    /// Nobody has it, and now nobody else gets it.
    Free(WriteClaim),
    /// It is here already.
    Held,
}

impl StoreInner {
    fn begin_activity(self: &Arc<Self>) -> Activity {
        *self.active.lock() += 1;
        Activity(Arc::clone(self))
    }

    fn wake_keeper(&self) {
        self.queues.wake_keeper();
    }

    fn push_log(&self, append: Append) {
        let this = self.this.upgrade().expect("somebody is calling");
        self.queues.push_log(&this, append);
    }

    /// Stops all writing; the first reason is kept and returned.
    fn poison(&self, doing: &str, error: &io::Error) -> String {
        self.poison.get_or_init(|| format!("{doing} failed: {error}")).clone()
    }

    fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    fn poison_reason(&self) -> Option<String> {
        self.poison.get().cloned()
    }

    fn check_open(&self) -> Result<(), Unavailable> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Unavailable { reason: String::from("the store was closed") }),
            false => Ok(()),
        }
    }

    fn check_writable(&self) -> Result<(), PutError> {
        if let Some(reason) = self.poison.get() {
            return Err(PutError::ReadOnly { reason: reason.clone() });
        }
        if self.is_full.load(Ordering::Acquire)
            && let Some(full) = *self.full.lock()
        {
            return Err(full.put_error());
        }
        self.check_open().map_err(|Unavailable { reason }| PutError::Unavailable { reason })
    }

    fn claim(self: &Arc<Self>, id: ShardId) -> Result<Claim, PutError> {
        let mut state = self.state.write();
        if state.index.get(id).is_some() && !state.quarantined.contains(&id) {
            return Ok(Claim::Held);
        }
        if !state.writing.insert(id) {
            return Err(PutError::Busy { id });
        }
        Ok(Claim::Free(WriteClaim::entered(Arc::clone(self), id)))
    }

    /// The segment, open for writing; the last few stay open.
    fn write_file(&self, segment: u32) -> io::Result<Arc<dyn DiskFile>> {
        const OPEN_MAX: usize = 4;
        let mut open = self.write_files.lock();
        if let Some((_, file)) = open.iter().find(|(number, _)| *number == segment) {
            return Ok(Arc::clone(file));
        }
        let path = self.folder.join(file_name(FileId::Segment(segment)));
        let file = self.disk.open_direct(&path, OpenMode::Existing)?;
        if open.len() == OPEN_MAX {
            open.remove(0);
        }
        open.push((segment, Arc::clone(&file)));
        Ok(file)
    }

    async fn put(self: &Arc<Self>, shard: ShardPut) -> Result<(), PutError> {
        let ShardPut { id, cells, footer } = shard;
        self.check_writable()?;
        let found = cells.iter().map(|cell| u64::try_from(cell.len()).expect("usize fits u64")).sum();
        let shard_bytes = check_shape(id, found, &footer)?.shard_bytes();
        loop {
            match self.claim(id)? {
                Claim::Free(claim) => return self.put_whole(id, cells, shard_bytes, footer, claim).await,
                Claim::Held if self.has_footer(id, &footer).await? => return Ok(()),
                // What was here is broken, and set aside now: the next claim is free.
                Claim::Held => {}
            }
        }
    }

    async fn delete(&self, ids: &[ShardId], token: FencingToken) -> Result<(), DeleteError> {
        if ids.len() > DELETE_IDS_MAX {
            return Err(DeleteError::TooMany { ids: ids.len() });
        }
        if let Some(reason) = self.poison_reason() {
            return Err(DeleteError::ReadOnly { reason });
        }
        self.check_open().map_err(|Unavailable { reason }| DeleteError::Unavailable { reason })?;
        let mut waiting = Vec::new();
        let mut chunks: Vec<Vec<ShardId>> = ids.chunks(TOMBSTONES_PER_APPEND).map(<[_]>::to_vec).collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        for ids in chunks {
            let (done, outcome) = oneshot::channel();
            self.push_log(Append::Delete { ids, token, done });
            waiting.push(outcome);
        }
        for outcome in waiting {
            let closed = |_| DeleteError::Unavailable { reason: String::from("the store was closed") };
            outcome.await.map_err(closed)??;
        }
        Ok(())
    }
}

/// A [`ShardService`] that keeps its shards in a folder.
pub struct Store {
    inner: Arc<StoreInner>,
    report: OpenReport,
    /// Keeps the threads alive.
    flusher: Arc<Flusher>,
}

impl Store {
    /// Opens `folder` as `node`'s, making it if there is none. Blocks.
    ///
    /// All stores on one file system are to be given the same `flusher`.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        node: NodeId,
        options: StoreOptions,
        flusher: &Arc<Flusher>,
    ) -> Result<Self, OpenError> {
        let (log_bytes, segment_bytes) = (options.log_bytes, options.segment_bytes);
        let whole = |bytes: u64| bytes.is_multiple_of(4096) && bytes <= u64::from(u32::MAX);
        if log_bytes < LOG_BYTES_MIN
            || segment_bytes < SEGMENT_BYTES_MIN
            || !whole(log_bytes)
            || !whole(segment_bytes)
        {
            return Err(OpenError::Options { log_bytes, segment_bytes });
        }
        let io = |error| OpenError::Io { folder: folder.to_path_buf(), error };
        disk.create_dir_all(folder).map_err(io)?;
        let lock = disk.lock(&folder.join(LOCK_FILE)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { folder: folder.to_path_buf() },
            _ => io(error),
        })?;
        let recovered = recover::recover(&disk, folder, node, &options)?;
        let read_files =
            ReadFiles::new(Arc::clone(&disk), folder.to_path_buf(), options.open_files_max.max(1));
        let inner = Arc::new_cyclic(|this| StoreInner {
            disk,
            folder: folder.to_path_buf(),
            node,
            uuid: recovered.uuid,
            options,
            queues: Arc::clone(flusher.queues()),
            state: RwLock::new(recovered.state),
            log: Mutex::new(recovered.log),
            read_files,
            write_files: Mutex::default(),
            punches: Mutex::new(recovered.punches),
            segment_waiters: Mutex::default(),
            keeping: Mutex::default(),
            poison: OnceLock::new(),
            is_full: AtomicBool::new(false),
            full: Mutex::default(),
            closed: AtomicBool::new(false),
            active: Mutex::default(),
            idle: Condvar::new(),
            lock: Mutex::new(Some(lock)),
            this: this.clone(),
            stats: StoreStats::default(),
        });
        flusher.queues().register(&inner);
        inner.wake_keeper();
        Ok(Self { inner, report: recovered.report, flusher: Arc::clone(flusher) })
    }

    /// What opening found.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// The node it serves.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The identity of its folder.
    pub fn uuid(&self) -> DiskUuid {
        self.inner.uuid
    }

    /// Counters since it was opened.
    pub fn stats(&self) -> &StoreStats {
        &self.inner.stats
    }

    /// Counters of its flusher, shared with other stores.
    pub fn flusher_stats(&self) -> &FlusherStats {
        self.flusher.stats()
    }

    /// Shards kept from being served.
    pub fn quarantined(&self) -> Vec<ShardId> {
        self.inner.state.read().quarantined.iter().copied().collect()
    }

    /// Bytes of memory that the index takes.
    pub fn index_bytes(&self) -> usize {
        self.inner.state.read().index.memory_bytes()
    }

    /// Reads every shard at `bytes_per_second`, compares it with its leaves, quarantines what is corrupt,
    /// and calls `on_corrupt` for each. Stops early only when the store is closed.
    pub async fn scrub(
        &self,
        bytes_per_second: u64,
        on_corrupt: &(dyn Fn(ShardId, &Corruption) + Sync),
    ) -> Result<ScrubReport, Unavailable> {
        self.inner.scrub(bytes_per_second, on_corrupt).await
    }

    /// Does a round of the keeper's work at once: space check, files made ahead, punching, a step of
    /// compaction. Whether more compaction is due. Blocks, and must not be called from async code.
    pub fn maintain(&self) -> bool {
        self.inner.keeping.lock().hurry();
        self.inner.keep().is_some()
    }

    /// Refuses new writes, waits until those under way are done, and gives the folder free. Blocks; reads
    /// that are under way may still finish afterwards.
    pub fn close(&self) {
        let inner = &self.inner;
        inner.closed.store(true, Ordering::Release);
        // Those who wait for a segment are told by the keeper.
        inner.wake_keeper();
        inner.idle.wait_while(&mut inner.active.lock(), |active| *active > 0);
        *inner.lock.lock() = None;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl ShardService for Store {
    async fn put(&self, shard: ShardPut) -> Result<(), PutError> {
        self.inner.put(shard).await
    }

    async fn begin(&self, id: ShardId, bytes_max: u32) -> Result<Box<dyn ShardWriter>, PutError> {
        self.inner.check_writable()?;
        Ok(Box::new(self.inner.begin_writer(id, bytes_max)?))
    }

    async fn read(&self, id: ShardId, range: BlockRange, verify: Verify) -> Result<ShardRead, ReadError> {
        let FootedRead { bytes, .. } =
            self.inner.read_shard(id, Wanted { range, footer: false, verify }).await?;
        Ok(ShardRead { bytes })
    }

    async fn read_with_footer(
        &self,
        id: ShardId,
        range: BlockRange,
        verify: Verify,
    ) -> Result<FootedRead, ReadError> {
        self.inner.read_shard(id, Wanted { range, footer: true, verify }).await
    }

    async fn footer(&self, id: ShardId) -> Result<Bytes, ReadError> {
        let range = BlockRange { first_block: 0, count: 1 };
        let wanted = Wanted { range, footer: true, verify: Verify::Caller };
        Ok(self.inner.read_shard(id, wanted).await?.footer)
    }

    async fn delete(&self, ids: &[ShardId], token: FencingToken) -> Result<(), DeleteError> {
        self.inner.delete(ids, token).await
    }

    async fn quarantine(&self, id: ShardId) -> Result<(), Unavailable> {
        self.inner.check_open()?;
        self.inner.set_aside(id);
        Ok(())
    }

    async fn list(&self, after: Option<ShardId>, limit: usize) -> Result<Vec<ShardEntry>, Unavailable> {
        self.inner.check_open()?;
        let state = self.inner.state.read();
        let entries = state.index.after(after).filter(|(id, _)| !state.quarantined.contains(id));
        Ok(entries
            .take(limit.min(LIST_LIMIT_MAX))
            .map(|(id, location)| ShardEntry { id, bytes: location.shard_bytes })
            .collect())
    }

    async fn space(&self) -> Result<SpaceReport, Unavailable> {
        self.inner.check_open()?;
        let (total_bytes, available, reserve) =
            self.inner.measure_space().map_err(|error| Unavailable { reason: error.to_string() })?;
        let state = self.inner.state.read();
        let spares =
            u64::try_from(state.spares.len()).expect("usize fits u64") * self.inner.options.log_bytes;
        let logs: u64 = state.logs.values().map(|log| log.file_bytes).sum();
        let segments: u64 = state.segments.values().map(|segment| segment.file_bytes).sum();
        Ok(SpaceReport {
            total_bytes,
            writable_bytes: available.saturating_sub(reserve),
            shards: u64::try_from(state.index.len()).expect("usize fits u64"),
            shard_bytes: state.shard_bytes,
            file_bytes: spares + logs + segments,
        })
    }

    async fn health(&self) -> NodeHealth {
        if let Err(Unavailable { reason }) = self.inner.check_open() {
            return NodeHealth::Unavailable { reason };
        }
        match self.inner.check_writable() {
            Ok(()) => NodeHealth::Writable,
            Err(PutError::Full { .. }) => NodeHealth::Full,
            Err(error) => NodeHealth::ReadOnly { reason: error.to_string() },
        }
    }
}
