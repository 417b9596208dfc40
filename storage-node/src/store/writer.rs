//! Large shards on their way into a segment: extents, leases on them, and the streaming writer.
//!
//! A lease owns its extent until the log names it, and every write under way holds the lease, so space is
//! never given to another shard while an old write may still land there. A writer keeps at most two pieces
//! in memory: one being filled and one being written.

use super::flusher::{IoJob, Queues, Then};
use super::index::{FileId, Location};
use super::log::{Append, PutAppend, PutPlace, WriteClaim};
use super::record::{FooterHeader, PAGE_BYTES};
use super::space::Punch;
use super::state::{State, page_offset};
use super::{Claim, StoreInner};
use crate::checked::check_shape;
use crate::service::{MalformedShard, PutError, SHARD_BYTES_MAX, ShardWriter};
use ashlar_chunker::{BLOCK_BYTES, CHUNK_BYTES, ShardId};
use ashlar_disk::DiskFile;
use async_trait::async_trait;
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// A piece is handed to the disk when it has this many bytes.
const PIECE_BYTES: usize = 512 << 10;
/// While all writers together keep more than this back, each hands over what it has.
const GATHERED_BYTES_MAX: usize = 16 << 20;
/// Larger footers go to a segment even with a small shard.
const INLINE_FOOTER_BYTES_MAX: usize = 64 << 10;
/// Parity shards for which a streamed footer has room; a footer with more leaf tables is moved, see
/// [`StoreWriter::move_to_larger`].
const FOOTER_PARITY_SHARDS: u32 = 4;

/// An extent that no shard owns yet.
pub(crate) struct ExtentLease {
    store: Arc<StoreInner>,
    segment: u32,
    page: u32,
    bytes: u64,
    kept: AtomicBool,
}

impl ExtentLease {
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    pub(crate) fn page(&self) -> u32 {
        self.page
    }

    /// The log names the extent now.
    pub(crate) fn keep(&self, shard_bytes: u32) -> Location {
        self.kept.store(true, Ordering::Release);
        Location { file: FileId::Segment(self.segment), offset: self.page, shard_bytes }
    }
}

impl Drop for ExtentLease {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire) {
            let (segment, page, bytes) = (self.segment, self.page, self.bytes);
            self.store.punches.lock().push(Punch { segment, page, bytes, footer: None });
            self.store.wake_keeper();
        }
    }
}

/// Takes `bytes` from the open segment, or opens an empty one; `None` if there is none.
fn take_extent(state: &mut State, bytes: u64) -> Option<(u32, u32)> {
    let fits = |state: &State, segment: u32| {
        state.segments.get(&segment).is_some_and(|used| used.end + bytes <= used.file_bytes)
    };
    if !state.open_segment.is_some_and(|segment| fits(state, segment)) {
        let empty = state.segments.iter().filter(|(_, used)| used.is_spare()).map(|(segment, _)| *segment);
        state.open_segment = Some(empty.min()?);
    }
    let segment = state.open_segment?;
    let used = state.segments.get_mut(&segment)?;
    let page = u32::try_from(used.end / to_u64(PAGE_BYTES)).ok()?;
    used.end += bytes;
    used.extents += 1;
    Some((segment, page))
}

impl StoreInner {
    /// An extent of at least `bytes`; waits while a segment is made.
    pub(crate) async fn lease(self: &Arc<Self>, bytes: u64) -> Result<Arc<ExtentLease>, PutError> {
        let bytes = bytes.next_multiple_of(to_u64(PAGE_BYTES));
        loop {
            let waiting = {
                // The waiter is entered under the lock, so that the keeper cannot miss it.
                let mut state = self.state.write();
                if let Some((segment, page)) = take_extent(&mut state, bytes) {
                    let (store, kept) = (Arc::clone(self), AtomicBool::new(false));
                    return Ok(Arc::new(ExtentLease { store, segment, page, bytes, kept }));
                }
                let (waiter, waiting) = oneshot::channel();
                self.segment_waiters.lock().push(waiter);
                waiting
            };
            self.wake_keeper();
            waiting.await.map_err(|_| closed())??;
        }
    }

    pub(crate) fn segment_for_writing(&self, segment: u32) -> Result<Arc<dyn DiskFile>, PutError> {
        let opened = self.write_file(segment);
        opened.map_err(|error| PutError::Unavailable { reason: format!("cannot open a segment: {error}") })
    }

    /// Stores a whole shard, in the log if it is small.
    pub(crate) async fn put_whole(
        self: &Arc<Self>,
        id: ShardId,
        cells: Vec<Bytes>,
        shard_bytes: u32,
        footer: Bytes,
        claim: WriteClaim,
    ) -> Result<(), PutError> {
        if shard_bytes > self.options.inline_bytes_max || footer.len() > INLINE_FOOTER_BYTES_MAX {
            return self.put_extent(id, cells, shard_bytes, footer, claim).await;
        }
        let bytes = usize::try_from(shard_bytes).expect("u32 fits usize") + footer.len();
        let permit = self.queues.reserve(bytes).await.ok_or_else(closed)?;
        let (done, outcome) = oneshot::channel();
        let place = PutPlace::Inline(cells);
        let put = PutAppend { id, place, shard_bytes, footer, claim, done, _permit: Some(permit) };
        self.queues.push_log(self, Append::Put(put));
        outcome.await.map_err(|_| closed())?
    }

    /// Stores a whole large shard.
    async fn put_extent(
        self: &Arc<Self>,
        id: ShardId,
        cells: Vec<Bytes>,
        shard_bytes: u32,
        footer: Bytes,
        claim: WriteClaim,
    ) -> Result<(), PutError> {
        let lease = self.lease(u64::from(shard_bytes) + footer_space(footer.len())).await?;
        let file = self.segment_for_writing(lease.segment)?;
        self.finish_extent(Finish { id, parts: cells, offset: 0, shard_bytes, footer, claim, lease, file })
            .await
    }

    /// Writes the last parts and the footer, and enters the shard.
    async fn finish_extent(self: &Arc<Self>, finish: Finish) -> Result<(), PutError> {
        let Finish { id, mut parts, offset, shard_bytes, footer, claim, lease, file } = finish;
        let footer_bytes = u32::try_from(footer.len()).expect("a footer is bounded");
        let header = FooterHeader { id, shard_bytes, footer_bytes };
        parts.push(Bytes::copy_from_slice(&header.encode(&footer)));
        parts.push(footer.clone());
        let (done, outcome) = oneshot::channel();
        let place = PutPlace::Extent(Arc::clone(&lease));
        let put = PutAppend { id, place, shard_bytes, footer, claim, done, _permit: None };
        let offset = page_offset(lease.page) + offset;
        self.submit(file, lease, parts, offset, Then::Enter(Box::new(put))).await?;
        outcome.await.map_err(|_| closed())?
    }

    async fn submit(
        self: &Arc<Self>,
        file: Arc<dyn DiskFile>,
        lease: Arc<ExtentLease>,
        parts: Vec<Bytes>,
        offset: u64,
        then: Then,
    ) -> Result<(), PutError> {
        let bytes = parts.iter().map(Bytes::len).sum();
        let permit = self.queues.reserve(bytes).await.ok_or_else(closed)?;
        let activity = self.begin_activity();
        let store = Arc::clone(self);
        self.queues.push_io(IoJob {
            store,
            file,
            parts,
            offset,
            lease,
            then,
            _permit: permit,
            _activity: activity,
        });
        Ok(())
    }

    pub(crate) fn begin_writer(
        self: &Arc<Self>,
        id: ShardId,
        bytes_max: u32,
    ) -> Result<StoreWriter, PutError> {
        let bytes_max = bytes_max.min(SHARD_BYTES_MAX);
        let (claim, held) = match self.claim(id)? {
            Claim::Free(claim) => (Some(claim), false),
            Claim::Held => (None, true),
        };
        Ok(StoreWriter {
            store: Arc::clone(self),
            id,
            bytes_max,
            claim,
            held,
            extent: None,
            pending: Vec::new(),
            gathered: Gathered { queues: Arc::clone(&self.queues), bytes: 0 },
            received: 0,
            submitted: 0,
            under_way: None,
        })
    }
}

/// The last step of an extent.
struct Finish {
    id: ShardId,
    parts: Vec<Bytes>,
    /// Of the parts, in the extent.
    offset: u64,
    shard_bytes: u32,
    footer: Bytes,
    claim: WriteClaim,
    lease: Arc<ExtentLease>,
    file: Arc<dyn DiskFile>,
}

/// A large shard whose cells come one by one.
pub(crate) struct StoreWriter {
    store: Arc<StoreInner>,
    id: ShardId,
    bytes_max: u32,
    /// `None` if the shard is here already: then the cells are only counted.
    claim: Option<WriteClaim>,
    held: bool,
    /// Taken when the first piece is full, since small shards need none.
    extent: Option<(Arc<ExtentLease>, Arc<dyn DiskFile>)>,
    pending: Vec<Bytes>,
    gathered: Gathered,
    received: u64,
    /// Bytes handed to the disk; a multiple of the page.
    submitted: u64,
    under_way: Option<oneshot::Receiver<io::Result<()>>>,
}

/// Bytes that a writer keeps back until they are a piece.
struct Gathered {
    queues: Arc<Queues>,
    bytes: usize,
}

impl Gathered {
    /// Whether it is time to hand them over.
    fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        let all = self.queues.gathered.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes >= PIECE_BYTES || (all > GATHERED_BYTES_MAX && self.bytes >= PAGE_BYTES)
    }

    fn remove(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.queues.gathered.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.remove(self.bytes);
    }
}

impl StoreWriter {
    async fn extent(&mut self) -> Result<(Arc<ExtentLease>, Arc<dyn DiskFile>), PutError> {
        if let Some((lease, file)) = &self.extent {
            return Ok((Arc::clone(lease), Arc::clone(file)));
        }
        let bytes = u64::from(self.bytes_max) + streamed_footer_space(self.bytes_max);
        let lease = self.store.lease(bytes).await?;
        let file = self.store.segment_for_writing(lease.segment)?;
        self.extent = Some((Arc::clone(&lease), Arc::clone(&file)));
        Ok((lease, file))
    }

    async fn wait_for_write(&mut self) -> Result<(), PutError> {
        if let Some(under_way) = self.under_way.take() {
            let written = under_way.await.map_err(|_| closed())?;
            written.map_err(|error| PutError::ReadOnly {
                reason: self.store.poison("writing a segment", &error),
            })?;
        }
        Ok(())
    }

    /// Hands all whole pages to the disk, once the piece before is written.
    async fn submit_pending(&mut self) -> Result<(), PutError> {
        let whole = self.gathered.bytes / PAGE_BYTES * PAGE_BYTES;
        self.wait_for_write().await?;
        let mut rest = self.gathered.bytes - whole;
        let mut kept = Vec::new();
        while rest > 0 {
            let mut part = self.pending.pop().expect("the parts add up");
            if part.len() > rest {
                let tail = part.split_off(part.len() - rest);
                self.pending.push(part);
                part = tail;
            }
            rest -= part.len();
            kept.insert(0, part);
        }
        let parts = std::mem::replace(&mut self.pending, kept);
        self.gathered.remove(whole);
        let (done, under_way) = oneshot::channel();
        let (lease, file) = self.extent().await?;
        let offset = page_offset(lease.page) + self.submitted;
        self.store.submit(file, lease, parts, offset, Then::Report(done)).await?;
        self.under_way = Some(under_way);
        self.submitted += to_u64(whole);
        Ok(())
    }

    /// Stores the shard again, in an extent that has room for this footer: one with more leaf tables than
    /// `FOOTER_PARITY_SHARDS` makes likely. Reads the shard back, at most 4 MiB.
    async fn move_to_larger(mut self: Box<Self>, footer: Bytes, claim: WriteClaim) -> Result<(), PutError> {
        self.wait_for_write().await?;
        let (lease, file) = self.extent().await?;
        let offset = page_offset(lease.page);
        let mut written = vec![0; usize::try_from(self.submitted).expect("a shard fits usize")];
        let read =
            tokio::task::spawn_blocking(move || file.read_exact_at(&mut written, offset).map(|()| written));
        let read = read.await.map_err(|_| closed())?;
        let written = read
            .map_err(|error| PutError::ReadOnly { reason: self.store.poison("reading a segment", &error) })?;
        let shard_bytes = u32::try_from(self.received).expect("a shard fits u32");
        let mut cells = vec![Bytes::from(written)];
        cells.append(&mut self.pending);
        self.store.put_extent(self.id, cells, shard_bytes, footer, claim).await
    }
}

#[async_trait]
impl ShardWriter for StoreWriter {
    async fn write_cell(&mut self, cell: Bytes) -> Result<(), PutError> {
        let received = self.received + to_u64(cell.len());
        if received > u64::from(self.bytes_max) {
            let reason = MalformedShard::Overrun { bytes_max: self.bytes_max };
            return Err(PutError::Malformed { id: self.id, reason });
        }
        self.store.check_writable()?;
        self.received = received;
        if self.held {
            return Ok(());
        }
        let due = self.gathered.add(cell.len());
        self.pending.push(cell);
        if due { self.submit_pending().await } else { Ok(()) }
    }

    async fn seal(mut self: Box<Self>, footer: Bytes) -> Result<(), PutError> {
        let store = Arc::clone(&self.store);
        let _activity = store.begin_activity();
        self.store.check_writable()?;
        check_shape(self.id, self.received, &footer)?;
        let shard_bytes = u32::try_from(self.received).expect("bounded by bytes_max");
        let Some(claim) = self.claim.take() else {
            return self.store.compare(self.id, &footer).await;
        };
        if self.extent.is_none() {
            let cells = std::mem::take(&mut self.pending);
            return self.store.put_whole(self.id, cells, shard_bytes, footer, claim).await;
        }
        let (lease, file) = self.extent().await?;
        if self.received + footer_space(footer.len()) > lease.bytes {
            return self.move_to_larger(footer, claim).await;
        }
        self.wait_for_write().await?;
        let (parts, offset) = (std::mem::take(&mut self.pending), self.submitted);
        let finish = Finish { id: self.id, parts, offset, shard_bytes, footer, claim, lease, file };
        self.store.finish_extent(finish).await
    }
}

/// Bytes that a footer with its header takes behind the shard.
fn footer_space(footer_bytes: usize) -> u64 {
    to_u64(FooterHeader::BYTES + footer_bytes)
}

/// Bytes kept for a footer that is not known yet, from how many such shards make a chunk.
fn streamed_footer_space(bytes_max: u32) -> u64 {
    let shards = CHUNK_BYTES.div_ceil(bytes_max.max(1)).min(60) + FOOTER_PARITY_SHARDS;
    let blocks = bytes_max.div_ceil(BLOCK_BYTES) + 1;
    to_u64(FooterHeader::BYTES) + 64 + 32 * u64::from(shards) * u64::from(blocks)
}

pub(crate) fn closed() -> PutError {
    PutError::Unavailable { reason: String::from("the store was closed") }
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("usize fits u64")
}
