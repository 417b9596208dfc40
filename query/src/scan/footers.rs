//! Footers of Parquet files, kept by what they are the footer of.
//!
//! Invariant: keyed by the identity of bytes that never change, so a cached footer is never stale; bounded in
//! bytes; read once however many ask at a time. Whoever asks was authorised when the object was pinned.

mod depth;

use std::ops::Range;
use std::sync::Arc;

use ashlar_objects::leases::Pinned;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::async_reader::MetadataFetch;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::lease::HeldLease;
use crate::error::{SqlError, SqlState};

/// Read from the end of a file at first: most footers are smaller.
const TAIL_BYTES: u64 = 32 << 10;
/// A footer that says it is longer is not read.
const FOOTER_BYTES_MAX: u64 = 32 << 20;
/// Footers read at a time, in bytes as they are stored. Decoded they are some times as large.
const READING_BYTES_MAX: u32 = 64 << 20;
/// The length of a footer and the magic, at the end of a file.
const TRAILER_BYTES: u64 = 8;
/// Entries that the cache prepares for.
const ENTRIES_EXPECTED: usize = 10_000;

/// The cache.
pub(crate) struct Footers {
    cache: Cache<u128, Arc<ParquetMetaData>, InBytes>,
    reading: Semaphore,
}

#[derive(Clone)]
struct InBytes;

impl Weighter<u128, Arc<ParquetMetaData>> for InBytes {
    fn weight(&self, _: &u128, footer: &Arc<ParquetMetaData>) -> u64 {
        u64::try_from(footer.memory_size()).unwrap_or(u64::MAX).max(1)
    }
}

impl Footers {
    /// A cache of at most so many bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let reading = Semaphore::new(usize::try_from(READING_BYTES_MAX).unwrap_or(usize::MAX));
        Self { cache: Cache::with_weighter(ENTRIES_EXPECTED, bytes_max, InBytes), reading }
    }

    /// Bytes held now.
    pub(crate) fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// The footer with its page indexes.
    pub(crate) async fn of(
        &self,
        lease: &Arc<HeldLease>,
        pinned: &Pinned,
    ) -> Result<Arc<ParquetMetaData>, SqlError> {
        self.cache
            .get_or_insert_async(&pinned.content_id(), async { self.read(lease, pinned).await.map(Arc::new) })
            .await
    }

    async fn read(&self, lease: &Arc<HeldLease>, pinned: &Pinned) -> Result<ParquetMetaData, SqlError> {
        let length = pinned.head.length;
        if length < TRAILER_BYTES + 4 {
            return Err(not_parquet("it is too short"));
        }
        let tail_start = length.saturating_sub(TAIL_BYTES);
        let tail = lease.read(pinned, tail_start..length).await?;
        let trailer = tail.len().checked_sub(8).and_then(|at| tail.get(at..));
        let (size, magic) = trailer
            .and_then(|trailer| trailer.split_at_checked(4))
            .ok_or_else(|| not_parquet("it is cut"))?;
        if magic != b"PAR1" {
            return Err(not_parquet("it does not end as one"));
        }
        let size = u64::from(u32::from_le_bytes(size.try_into().expect("four bytes were split off")));
        if size > FOOTER_BYTES_MAX.min(length - TRAILER_BYTES) {
            return Err(not_parquet("its footer would be longer than it"));
        }
        let bytes = u32::try_from(size.max(TAIL_BYTES)).unwrap_or(READING_BYTES_MAX);
        let _permit = self
            .reading
            .acquire_many(bytes)
            .await
            .map_err(|e| SqlError::internal("waiting to read a footer", &e))?;
        let footer_start = length - TRAILER_BYTES - size;
        let (tail_start, tail) = match footer_start.checked_sub(tail_start) {
            Some(_) => (tail_start, tail),
            None => (footer_start, lease.read(pinned, footer_start..length).await?),
        };
        let within = |at: u64| usize::try_from(at - tail_start).unwrap_or(usize::MAX);
        let footer = tail.get(within(footer_start)..within(length - TRAILER_BYTES)).unwrap_or_default();
        match depth::is_bounded(footer) {
            Some(true) => {}
            Some(false) => return Err(not_parquet("its columns are nested too deep")),
            None => return Err(not_parquet("its footer does not read")),
        }
        let fetch = Tail { lease: Arc::clone(lease), pinned: pinned.clone(), tail_start, tail };
        let mut reader = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_prefetch_hint(usize::try_from(length - tail_start).ok());
        reader.try_load(fetch, length).await.map_err(of_parquet)?;
        reader.finish().map_err(of_parquet)
    }
}

impl std::fmt::Debug for Footers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Footers").field("bytes", &self.bytes()).finish()
    }
}

fn not_parquet(why: &str) -> SqlError {
    SqlError::new(SqlState::DataException, format!("an object is not a Parquet file: {why}"))
}

/// What reading Parquet failed with, ours found again.
fn of_parquet(error: ParquetError) -> SqlError {
    datafusion::error::DataFusionError::ParquetError(Box::new(error)).into()
}

/// Gives what was read already again, and reads the rest.
struct Tail {
    lease: Arc<HeldLease>,
    pinned: Pinned,
    tail_start: u64,
    tail: Bytes,
}

impl MetadataFetch for Tail {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            let within = |at: u64| at.checked_sub(self.tail_start).and_then(|at| usize::try_from(at).ok());
            if let (Some(from), Some(to)) = (within(range.start), within(range.end))
                && from <= to
                && to <= self.tail.len()
            {
                return Ok(self.tail.slice(from..to));
            }
            if range.start > range.end || range.end > self.pinned.head.length {
                return Err(ParquetError::EOF("an index lies outside of the file".to_owned()));
            }
            self.lease.read(&self.pinned, range).await.map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }
}
