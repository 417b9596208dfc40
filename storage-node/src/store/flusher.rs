//! The flusher: the threads that write and sync for all stores of one file system.
//!
//! One log thread works in rounds: it takes everything that waits, has one group per store written, and only
//! then wakes the waiters, so that concurrent puts share system calls and wake-ups come together. The groups
//! of a round are written side by side by helper threads, because the kernel merges the device flushes of
//! writes that are under way together. A few I/O threads write segments and share syncs per segment. One keeper thread makes files ahead, punches and
//! compacts. Queues are bounded by bytes: room is reserved before anything is queued.

use super::log::{Append, Completion, PutAppend};
use super::stats::FlusherStats;
use super::writer::ExtentLease;
use super::{Activity, StoreInner};
use ashlar_disk::DiskFile;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Unit of the queue's limit.
const PERMIT_BYTES: usize = 1 << 10;
/// How often the keeper looks at a store that asks for nothing.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How a [`Flusher`] works.
#[derive(Clone, Copy, Debug)]
pub struct FlusherOptions {
    /// Groups of a round that are written side by side; 1 writes them one after another.
    pub log_threads: usize,
    /// Threads that write segments.
    pub io_threads: usize,
    /// Bytes that may wait to be written, over all stores; puts wait beyond it. At least 8 MiB are used.
    pub queue_bytes_max: usize,
}

impl Default for FlusherOptions {
    fn default() -> Self {
        Self { log_threads: 6, io_threads: 3, queue_bytes_max: 32 << 20 }
    }
}

/// What an I/O thread does after a write.
pub(crate) enum Then {
    /// Tells the writer.
    Report(oneshot::Sender<io::Result<()>>),
    /// Syncs the segment, then enters the shard into the log.
    Enter(Box<PutAppend>),
}

/// A write to a segment.
pub(crate) struct IoJob {
    pub(crate) store: Arc<StoreInner>,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Padded to whole pages with zeroes.
    pub(crate) parts: Vec<Bytes>,
    pub(crate) offset: u64,
    pub(crate) lease: Arc<ExtentLease>,
    pub(crate) then: Then,
    pub(crate) _permit: OwnedSemaphorePermit,
    pub(crate) _activity: Activity,
}

/// An extent that is written and waits for its segment to be synced.
struct Unsynced {
    store: Arc<StoreInner>,
    file: Arc<dyn DiskFile>,
    segment: u32,
    put: Box<PutAppend>,
    activity: Activity,
}

struct LogItem {
    store: Arc<StoreInner>,
    append: Append,
    _activity: Activity,
}

/// A store's share of a round, for a helper.
struct GroupJob {
    store: Arc<StoreInner>,
    appends: Vec<Append>,
    done: mpsc::Sender<Vec<Completion>>,
}

impl GroupJob {
    fn run(self) {
        let mut completions = Vec::with_capacity(self.appends.len());
        self.store.append(self.appends, &mut completions);
        // The log thread waits for it, unless it panicked.
        let _ = self.done.send(completions);
    }
}

/// A queue and the condition that it is not empty.
struct Queue<T> {
    items: Mutex<T>,
    filled: Condvar,
}

impl<T: Default> Default for Queue<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), filled: Condvar::new() }
    }
}

/// What the threads share with the stores.
pub(crate) struct Queues {
    log: Queue<Vec<LogItem>>,
    groups: Queue<VecDeque<GroupJob>>,
    helpers: usize,
    io: Queue<VecDeque<IoJob>>,
    unsynced: Mutex<Vec<Unsynced>>,
    /// Whether a store asked to be kept.
    keep: Queue<bool>,
    stores: Mutex<Vec<Weak<StoreInner>>>,
    budget: Arc<Semaphore>,
    budget_permits: usize,
    /// Bytes that writers of large shards keep back, to write them in larger pieces.
    pub(crate) gathered: AtomicUsize,
    stopping: AtomicBool,
    pub(crate) stats: FlusherStats,
}

impl Queues {
    /// Room for `bytes`; `None` once the flusher stopped.
    pub(crate) async fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = bytes.div_ceil(PERMIT_BYTES).min(self.budget_permits);
        let permits = u32::try_from(permits).expect("the budget fits u32");
        Arc::clone(&self.budget).acquire_many_owned(permits).await.ok()
    }

    pub(crate) fn push_log(&self, store: &Arc<StoreInner>, append: Append) {
        let item = LogItem { store: Arc::clone(store), append, _activity: store.begin_activity() };
        let mut items = self.log.items.lock();
        items.push(item);
        if items.len() == 1 {
            self.log.filled.notify_one();
        }
    }

    pub(crate) fn push_io(&self, job: IoJob) {
        self.io.items.lock().push_back(job);
        self.io.filled.notify_one();
    }

    pub(crate) fn wake_keeper(&self) {
        *self.keep.items.lock() = true;
        self.keep.filled.notify_one();
    }

    pub(crate) fn register(&self, store: &Arc<StoreInner>) {
        let mut stores = self.stores.lock();
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(store));
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// One round after another until stopped and drained.
    fn run_log(&self) {
        let mut items: Vec<LogItem> = Vec::new();
        let mut completions = Vec::new();
        loop {
            {
                let mut waiting = self.log.items.lock();
                self.log.filled.wait_while(&mut waiting, |waiting| waiting.is_empty() && !self.is_stopping());
                if waiting.is_empty() {
                    return;
                }
                std::mem::swap(&mut items, &mut waiting);
            }
            self.run_round(&mut items, &mut completions);
        }
    }

    fn run_round(&self, items: &mut Vec<LogItem>, completions: &mut Vec<Completion>) {
        self.stats.round(items.len());
        let mut by_store: Vec<(Arc<StoreInner>, Vec<Append>)> = Vec::with_capacity(8);
        let mut activities = Vec::with_capacity(items.len());
        for LogItem { store, append, _activity } in items.drain(..) {
            activities.push(_activity);
            match by_store.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &store)) {
                Some((_, appends)) => appends.push(append),
                None => by_store.push((store, vec![append])),
            }
        }
        let (done, answers) = mpsc::channel();
        let mut groups = by_store.into_iter();
        let first = groups.next();
        let jobs: Vec<_> =
            groups.map(|(store, appends)| GroupJob { store, appends, done: done.clone() }).collect();
        drop(done);
        if !jobs.is_empty() {
            let wanted = jobs.len().min(self.helpers);
            self.groups.items.lock().extend(jobs);
            for _ in 0..wanted {
                self.groups.filled.notify_one();
            }
        }
        if let Some((store, appends)) = first {
            store.append(appends, completions);
        }
        // What no helper took yet, if there are any.
        while let Some(job) = self.next_group() {
            job.run();
        }
        // Ends when every job answered, or was dropped by a helper that panicked.
        completions.extend(answers.into_iter().flatten());
        completions.drain(..).for_each(Completion::send);
    }

    fn next_group(&self) -> Option<GroupJob> {
        self.groups.items.lock().pop_front()
    }

    fn run_helper(&self) {
        loop {
            let job = {
                let mut jobs = self.groups.items.lock();
                self.groups.filled.wait_while(&mut jobs, |jobs| jobs.is_empty() && !self.is_stopping());
                jobs.pop_front()
            };
            match job {
                Some(job) => job.run(),
                None => return,
            }
        }
    }

    fn run_io(&self) {
        loop {
            let job = {
                let mut jobs = self.io.items.lock();
                self.io.filled.wait_while(&mut jobs, |jobs| jobs.is_empty() && !self.is_stopping());
                jobs.pop_front()
            };
            match job {
                Some(job) => self.run_job(job),
                None => return,
            }
        }
    }

    fn run_job(&self, job: IoJob) {
        let IoJob { store, file, parts, offset, lease, then, _permit, _activity } = job;
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let written = write_padded(&*file, &parts, offset, bytes);
        self.stats.wrote(bytes);
        drop((parts, _permit));
        match (written, then) {
            (written, Then::Report(done)) => {
                if let Err(error) = &written {
                    store.poison("writing a segment", error);
                }
                // A receiver that is gone belongs to a writer that was dropped.
                let _ = done.send(written);
            }
            (Ok(()), Then::Enter(put)) => {
                let segment = lease.segment();
                drop(lease);
                self.unsynced.lock().push(Unsynced { store, file, segment, put, activity: _activity });
                self.sync_waiting();
            }
            (Err(error), Then::Enter(put)) => {
                let reason = store.poison("writing a segment", &error);
                let _ = put.done.send(Err(crate::PutError::ReadOnly { reason }));
            }
        }
    }

    /// Syncs each segment that extents wait for, once for all that wait.
    fn sync_waiting(&self) {
        loop {
            let mut unsynced = self.unsynced.lock();
            let Some(first) = unsynced.first() else { return };
            let (store, segment) = (Arc::clone(&first.store), first.segment);
            let of_first =
                |waiting: &mut Unsynced| waiting.segment == segment && Arc::ptr_eq(&waiting.store, &store);
            let together: Vec<Unsynced> = unsynced.extract_if(.., of_first).collect();
            drop(unsynced);
            let synced = together[0].file.sync_data();
            self.stats.segment_sync(together.len());
            let reason = synced.err().map(|error| store.poison("syncing a segment", &error));
            for Unsynced { store, put, activity, .. } in together {
                match &reason {
                    None => self.push_log(&store, Append::Put(*put)),
                    Some(reason) => {
                        let reason = reason.clone();
                        let _ = put.done.send(Err(crate::PutError::ReadOnly { reason }));
                    }
                }
                drop(activity);
            }
        }
    }

    fn run_keeper(&self) {
        while !self.is_stopping() {
            let stores: Vec<_> = self.stores.lock().clone();
            let mut next = KEEP_INTERVAL;
            for store in stores.iter().filter_map(Weak::upgrade) {
                let activity = store.begin_activity();
                next = next.min(store.keep().unwrap_or(next));
                drop(activity);
            }
            let mut asked = self.keep.items.lock();
            if !std::mem::take(&mut *asked) && !self.is_stopping() {
                self.keep.filled.wait_for(&mut asked, next);
                *asked = false;
            }
        }
    }
}

fn write_padded(file: &dyn DiskFile, parts: &[Bytes], offset: u64, bytes: usize) -> io::Result<()> {
    const ZERO_PAGE: [u8; super::record::PAGE_BYTES] = [0; super::record::PAGE_BYTES];
    let padding = bytes.next_multiple_of(ZERO_PAGE.len()) - bytes;
    let slices: Vec<&[u8]> = parts.iter().map(|part| &part[..]).chain([&ZERO_PAGE[..padding]]).collect();
    file.write_all_at(&slices, offset)
}

/// Writes and syncs for the stores of one file system; give each of them the same one.
///
/// Dropping it finishes what was queued and ends its threads; close the stores before.
pub struct Flusher {
    queues: Arc<Queues>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Flusher {
    /// Starts the threads.
    pub fn start(options: FlusherOptions) -> io::Result<Arc<Self>> {
        let budget_permits = options.queue_bytes_max.max(8 << 20).div_ceil(PERMIT_BYTES).min(1 << 24);
        let queues = Arc::new(Queues {
            log: Queue::default(),
            groups: Queue::default(),
            helpers: options.log_threads.saturating_sub(1),
            io: Queue::default(),
            unsynced: Mutex::default(),
            keep: Queue::default(),
            stores: Mutex::default(),
            budget: Arc::new(Semaphore::new(budget_permits)),
            budget_permits,
            gathered: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            stats: FlusherStats::default(),
        });
        let flusher = Self { queues, threads: Mutex::default() };
        flusher.spawn("ashlar-log", Queues::run_log)?;
        flusher.spawn("ashlar-keep", Queues::run_keeper)?;
        for _ in 1..options.log_threads {
            flusher.spawn("ashlar-log-help", Queues::run_helper)?;
        }
        for _ in 0..options.io_threads.max(1) {
            flusher.spawn("ashlar-io", Queues::run_io)?;
        }
        Ok(Arc::new(flusher))
    }

    fn spawn(&self, name: &str, run: fn(&Queues)) -> io::Result<()> {
        let queues = Arc::clone(&self.queues);
        let thread = thread::Builder::new().name(name.into()).spawn(move || run(&queues))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    pub(crate) fn queues(&self) -> &Arc<Queues> {
        &self.queues
    }

    /// Counters since the start.
    pub fn stats(&self) -> &FlusherStats {
        &self.queues.stats
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.queues.stopping.store(true, Ordering::Release);
        self.queues.budget.close();
        // Taking each lock makes sure that no thread is between its check and its wait.
        drop(self.queues.io.items.lock());
        self.queues.io.filled.notify_all();
        drop(self.queues.log.items.lock());
        self.queues.log.filled.notify_all();
        drop(self.queues.groups.items.lock());
        self.queues.groups.filled.notify_all();
        drop(self.queues.keep.items.lock());
        self.queues.keep.filled.notify_all();
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != thread::current().id() {
                // A thread that panicked has said so.
                let _ = thread.join();
            }
        }
    }
}
