//! A blob on its way out: a stream that fetches what its client keeps up with.
//!
//! A reader begins with 64 KiB and doubles what it fetches at a time, up to 512 KiB, while its client keeps
//! pace; one segment is fetched ahead. What was read and not yet dropped by whoever took it counts against
//! one budget. Segments grow beyond one block only where the budget has room, and beyond half of it only for
//! clients that have proven their pace past what a socket's buffers swallow. Where it has none, a reader gets
//! one block at a time, and the next when the socket has swallowed what it got before; so ten thousand
//! stalled clients hold a block each beside a bounded rest, and nobody ever waits for another's memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use ashlar_chunker::{BLOCK_BYTES, BlobId, CELL_BYTES, CHUNK_BYTES};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{self, BlobRow, CHUNKS_PER_PAGE, ChunkPage, ChunkRef};
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Inner;
use super::readers::ReaderGuard;
use crate::error::Error;

/// What a reader fetches first.
const WINDOW_BYTES_MIN: u32 = 64 << 10;
/// Bytes that a stalled client may have swallowed into socket buffers: pace counts from here.
const PACE_PROVEN_BYTES: u64 = 4 << 20;
/// Slower than this a client does not keep pace, in bytes a second.
const PACE_BYTES_PER_SECOND: u64 = 1 << 20;
/// Reads of at most this are not accounted: one block, bounded by the number of readers.
const UNACCOUNTED_BYTES: u64 = BLOCK_BYTES as u64;

/// The memory of downloads.
pub(crate) struct ReadBudget {
    used: AtomicU64,
    limit: u64,
    readers: AtomicUsize,
    readers_max: usize,
}

/// What one reader has handed out and its client's socket has not swallowed.
#[derive(Default)]
struct Outstanding {
    segments: usize,
    waiting: Option<Waker>,
}

/// Part of the budget, until the last piece that holds it is dropped.
struct Granted {
    budget: Arc<ReadBudget>,
    outstanding: Arc<Mutex<Outstanding>>,
    bytes: u64,
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        let mut outstanding = self.outstanding.lock();
        outstanding.segments -= 1;
        let waiting = if outstanding.segments == 0 { outstanding.waiting.take() } else { None };
        drop(outstanding);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

/// Resolves when everything handed out was swallowed.
async fn swallowed(outstanding: &Mutex<Outstanding>) {
    std::future::poll_fn(|cx| {
        let mut outstanding = outstanding.lock();
        if outstanding.segments == 0 {
            return Poll::Ready(());
        }
        outstanding.waiting = Some(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Bytes that hold their part of the budget.
struct Accounted {
    bytes: Bytes,
    _granted: Arc<Granted>,
}

impl AsRef<[u8]> for Accounted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ReadBudget {
    pub(crate) fn new(limit: u64, readers_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit, readers: AtomicUsize::new(0), readers_max })
    }

    /// Bytes held and where readers are held to one block.
    pub(crate) fn used_and_limit(&self) -> (u64, u64) {
        (self.used.load(Ordering::Relaxed), self.limit)
    }

    /// Readers open.
    pub(crate) fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    /// At most `wanted` bytes, halved until they fit. One block past the limit, but only to a reader whose
    /// client has swallowed all it got.
    fn grant(
        self: &Arc<Self>,
        wanted: u32,
        proven: bool,
        reader: &Arc<Mutex<Outstanding>>,
    ) -> Option<(u32, Arc<Granted>)> {
        let limit = if proven { self.limit } else { self.limit / 2 };
        let mut window = wanted.max(BLOCK_BYTES);
        let mut outstanding = reader.lock();
        loop {
            let bytes = u64::from(window);
            let before = self.used.fetch_add(bytes, Ordering::Relaxed);
            let last = window <= BLOCK_BYTES;
            if before + bytes <= limit || (last && outstanding.segments == 0) {
                outstanding.segments += 1;
                let outstanding = Arc::clone(reader);
                return Some((window, Arc::new(Granted { budget: Arc::clone(self), outstanding, bytes })));
            }
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            if last {
                return None;
            }
            window = (window / 2).max(BLOCK_BYTES);
        }
    }
}

/// One place among the readers.
struct Seat(Arc<ReadBudget>);

impl Seat {
    fn take(budget: &Arc<ReadBudget>) -> Result<Self, Error> {
        let seat = Self(Arc::clone(budget));
        if budget.readers.fetch_add(1, Ordering::Relaxed) >= budget.readers_max {
            return Err(Error::SlowDown { what: "too many objects are being read" });
        }
        Ok(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The chunks of a blob, page by page.
struct ChunkPages {
    blob: blobs::BlobId,
    page: Option<(u32, Arc<[ChunkRef]>)>,
}

impl ChunkPages {
    async fn get(&mut self, data: &Inner, index: u32) -> Result<ChunkRef, Error> {
        let number = index / CHUNKS_PER_PAGE;
        if self.page.as_ref().is_none_or(|(held, _)| *held != number) {
            self.page =
                Some((number, data.chunk_page(self.blob, number).await?.ok_or_else(|| missing(self.blob))?));
        }
        let (_, page) = self.page.as_ref().expect("just filled");
        let within = usize::try_from(index % CHUNKS_PER_PAGE).expect("u32 fits usize");
        page.get(within).cloned().ok_or_else(|| missing(self.blob))
    }
}

fn missing(blob: blobs::BlobId) -> Error {
    Error::internal("reading a blob's chunks", format!("blob {:032x} has no such row", blob.0))
}

type Segment = Result<VecDeque<Bytes>, Error>;

struct BlobReader {
    data: Arc<Inner>,
    blob: BlobId,
    pages: ChunkPages,
    /// What is not fetched yet.
    left: Range<u64>,
    window: u32,
    handed_bytes: u64,
    handed: Option<(Instant, u64)>,
    proven: bool,
    accounted: bool,
    outstanding: Arc<Mutex<Outstanding>>,
    ready: VecDeque<Bytes>,
    ahead: Option<BoxFuture<'static, Segment>>,
    ahead_bytes: u64,
    ahead_done: Option<Segment>,
    _reader: Arc<ReaderGuard>,
    _seat: Seat,
}

impl Inner {
    /// Page `number` of a blob's chunks; `None` when the blob has no such row (any more).
    pub(super) async fn chunk_page(
        &self,
        blob: blobs::BlobId,
        number: u32,
    ) -> Result<Option<Arc<[ChunkRef]>>, Error> {
        const READING: &str = "reading a blob's chunks";
        let key = if number == 0 { blobs::key(blob) } else { blobs::page_key(blob, number) };
        let Some(found) = self.kv.get(&key).await.map_err(|e| Error::internal(READING, e))? else {
            return Ok(None);
        };
        let chunks = if number == 0 {
            BlobRow::decode(&found.value).map(|row| row.chunks)
        } else {
            ChunkPage::decode(&found.value).map(|page| page.0)
        };
        chunks.map(|chunks| Some(chunks.into())).map_err(|e| Error::internal(READING, e))
    }

    pub(super) fn read_blob(
        self: &Arc<Self>,
        blob: BlobId,
        range: Range<u64>,
        reader: Arc<ReaderGuard>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let reader = BlobReader {
            pages: ChunkPages { blob: super::row_id(blob), page: None },
            blob,
            accounted: range.end.saturating_sub(range.start) > UNACCOUNTED_BYTES,
            left: range,
            window: WINDOW_BYTES_MIN,
            handed_bytes: 0,
            handed: None,
            proven: false,
            outstanding: Arc::default(),
            ready: VecDeque::new(),
            ahead: None,
            ahead_bytes: 0,
            ahead_done: None,
            _reader: reader,
            _seat: Seat::take(&self.read_budget)?,
            data: Arc::clone(self),
        };
        Ok(futures::stream::try_unfold(reader, |mut reader| async move {
            let piece = reader.next().await?;
            Ok(piece.map(|piece| (piece, reader)))
        }))
    }

    /// One segment, accounted until its pieces are dropped.
    async fn segment(
        self: Arc<Self>,
        chunk: ashlar_chunker::ChunkId,
        at: ChunkRef,
        range: Range<u32>,
        granted: Option<Arc<Granted>>,
    ) -> Segment {
        let fetched = match self.fetch(chunk, &at, range.clone()).await {
            // Repair may have moved shards since the row was read: once more with the row of now.
            Err(Error::Unreadable { .. }) => {
                let page = self.chunk_page(super::row_id(chunk.blob), chunk.index / CHUNKS_PER_PAGE).await?;
                let within = usize::try_from(chunk.index % CHUNKS_PER_PAGE).expect("u32 fits usize");
                match page.and_then(|page| page.get(within).cloned()) {
                    Some(now) if now != at => self.fetch(chunk, &now, range).await,
                    _ => Err(Error::Unreadable { chunk }),
                }
            }
            fetched => fetched,
        };
        let pieces = fetched?.into_iter();
        Ok(match granted {
            None => pieces.collect(),
            Some(granted) => pieces
                .map(|bytes| Bytes::from_owner(Accounted { bytes, _granted: Arc::clone(&granted) }))
                .collect(),
        })
    }
}

impl BlobReader {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            self.note_pace();
            let segment = match (self.ahead_done.take(), &mut self.ahead) {
                (Some(segment), _) => segment,
                (None, Some(ahead)) => {
                    let segment = ahead.await;
                    self.ahead = None;
                    segment
                }
                (None, None) => {
                    if self.left.is_empty() {
                        return Ok(None);
                    }
                    let Some((segment, bytes)) = self.begin().await? else {
                        swallowed(&self.outstanding).await;
                        continue;
                    };
                    self.ahead_bytes = bytes;
                    Box::pin(segment).await
                }
            };
            self.ready = segment?;
            self.handed_bytes += self.ahead_bytes;
            self.handed = Some((Instant::now(), self.ahead_bytes));
            if self.keeps_pace() {
                self.fetch_ahead().await?;
            }
        }
    }

    /// Begins the next segment, if there is memory for it, and polls it once, so that nodes work while the
    /// client takes this one.
    async fn fetch_ahead(&mut self) -> Result<(), Error> {
        let Some((segment, bytes)) = self.begin().await? else { return Ok(()) };
        self.ahead_bytes = bytes;
        let mut segment: BoxFuture<'static, Segment> = Box::pin(segment);
        match futures::poll!(&mut segment) {
            std::task::Poll::Ready(done) => self.ahead_done = Some(done),
            std::task::Poll::Pending => self.ahead = Some(segment),
        }
        Ok(())
    }

    /// Whether more than what is asked for is worth fetching.
    fn keeps_pace(&self) -> bool {
        self.window > WINDOW_BYTES_MIN
    }

    /// Learns from how long the client took for the last segment.
    fn note_pace(&mut self) {
        let Some((at, bytes)) = self.handed.take() else { return };
        let took = at.elapsed();
        let fast = Duration::from_micros(bytes.saturating_mul(1_000_000) / PACE_BYTES_PER_SECOND);
        if took <= fast.max(Duration::from_millis(20)) {
            self.window =
                self.window.saturating_mul(2).clamp(WINDOW_BYTES_MIN, self.data.config.read_window_bytes_max);
            self.proven = self.handed_bytes >= PACE_PROVEN_BYTES;
        } else {
            self.window = BLOCK_BYTES;
            self.proven = false;
        }
    }

    /// The next segment and its length; `None` at the end of the range, and while there is no memory for it.
    async fn begin(
        &mut self,
    ) -> Result<Option<(impl Future<Output = Segment> + Send + 'static, u64)>, Error> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let chunk_bytes = u64::from(CHUNK_BYTES);
        let index =
            u32::try_from(self.left.start / chunk_bytes).map_err(|e| Error::internal("reading a blob", e))?;
        let at = self.pages.get(&self.data, index).await?;
        let start = u32::try_from(self.left.start % chunk_bytes).expect("less than a chunk");
        let wanted = u64::from(at.length.saturating_sub(start)).min(self.left.end - self.left.start);
        let wanted = u32::try_from(wanted).expect("less than a chunk");
        if wanted == 0 {
            return Err(missing(self.pages.blob));
        }
        let (window, granted) = if self.accounted {
            let window = self.window.min(wanted);
            match self.data.read_budget.grant(window, self.proven, &self.outstanding) {
                Some((window, granted)) => (window, Some(granted)),
                None => return Ok(None),
            }
        } else {
            (wanted, None)
        };
        let end = segment_end(start, start + wanted, window, u32::from(at.k));
        self.left.start += u64::from(end - start);
        let chunk = self.blob.chunk(index);
        let bytes = u64::from(end - start);
        Ok(Some((Arc::clone(&self.data).segment(chunk, at, start..end, granted), bytes)))
    }
}

/// Where a segment of about `window` bytes from `start` ends: at a row, else a cell, else a block, so that
/// what is fetched and checked is not fetched again; never past `end`.
fn segment_end(start: u32, end: u32, window: u32, k: u32) -> u32 {
    if end - start <= window {
        return end;
    }
    let most = start + window;
    let aligned = |unit: u32| (most / unit * unit > start).then(|| most / unit * unit);
    aligned(CELL_BYTES * k)
        .filter(|_| window >= CELL_BYTES * k)
        .or_else(|| aligned(CELL_BYTES).filter(|_| window >= CELL_BYTES))
        .or_else(|| aligned(BLOCK_BYTES))
        .unwrap_or(most)
        .min(end)
}
