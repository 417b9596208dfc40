//! How DataFusion's Parquet opener reads an object: exactly the ranges it asks for, the footer from the cache.
//!
//! Invariant: only ranges that touch are read together; a gap is never read. Reads of one call run at once, up to
//! a bound.

use std::ops::Range;
use std::sync::Arc;

use ashlar_objects::pinning::PinnedObject;
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::footers::Footers;
use super::lease::HeldLease;
use crate::error::SqlError;

/// Ranges of one file read at a time.
const RANGES_AT_ONCE: usize = 8;
/// Ranges that touch are read together up to so many bytes.
const JOINED_BYTES_MAX: u64 = 8 << 20;

/// Makes readers of pinned objects.
#[derive(Debug)]
pub(crate) struct PinnedParquet {
    pub(crate) lease: Arc<HeldLease>,
    pub(crate) footers: Arc<Footers>,
    /// Of the execution.
    pub(crate) memory: Arc<dyn MemoryPool>,
}

impl ParquetFileReaderFactory for PinnedParquet {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DataFusionResult<Box<dyn AsyncFileReader + Send>> {
        let object = file
            .extension::<PinnedObject>()
            .cloned()
            .ok_or_else(|| DataFusionError::Internal("a file of a scan is not pinned".to_owned()))?;
        let metrics = ParquetFileMetrics::new(partition, file.object_meta.location.as_ref(), metrics);
        let (lease, footers) = (Arc::clone(&self.lease), Arc::clone(&self.footers));
        let held = MemoryConsumer::new("reading Parquet").register(&self.memory);
        Ok(Box::new(Reader { lease, footers, object, metrics, held }))
    }
}

struct Reader {
    lease: Arc<HeldLease>,
    footers: Arc<Footers>,
    object: PinnedObject,
    metrics: ParquetFileMetrics,
    /// For what was read last: when more is asked for, it has been decoded.
    held: MemoryReservation,
}

impl Reader {
    /// Counts ranges, and takes memory for them before they are read.
    fn count(&self, ranges: &[Range<u64>]) -> parquet::errors::Result<()> {
        let length = self.object.pinned.head.length;
        if ranges.iter().any(|range| range.start > range.end || range.end > length) {
            return Err(ParquetError::EOF("a column lies outside of the file".to_owned()));
        }
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.held.try_resize(bytes).map_err(|e| ParquetError::External(Box::new(e)))?;
        self.metrics.bytes_scanned.add(bytes);
        Ok(())
    }
}

fn failed(error: SqlError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            self.count(std::slice::from_ref(&range))?;
            self.lease.read(&self.object.pinned, range).await.map_err(failed)
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move {
            self.count(&ranges)?;
            let runs = runs(&ranges);
            let (lease, pinned) = (&self.lease, &self.object.pinned);
            let read: Vec<Bytes> = stream::iter(runs.iter().cloned())
                .map(|run| lease.read(pinned, run))
                .buffered(RANGES_AT_ONCE)
                .try_collect()
                .await
                .map_err(failed)?;
            ranges.iter().map(|range| cut(range, &runs, &read)).collect()
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move { self.footers.of(&self.lease, &self.object.pinned).await.map_err(failed) }.boxed()
    }
}

/// Ranges in order, those that touch joined.
fn runs(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let mut runs: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match runs.last_mut() {
            Some(last)
                if range.start <= last.end
                    && (range.end <= last.end || range.end - last.start <= JOINED_BYTES_MAX) =>
            {
                last.end = last.end.max(range.end);
            }
            _ => runs.push(range),
        }
    }
    runs
}

/// A range out of the run that holds it.
fn cut(range: &Range<u64>, runs: &[Range<u64>], read: &[Bytes]) -> parquet::errors::Result<Bytes> {
    let holding = runs.iter().position(|run| run.start <= range.start && range.end <= run.end);
    let found = holding.and_then(|at| {
        let from = usize::try_from(range.start - runs[at].start).ok()?;
        let to = usize::try_from(range.end - runs[at].start).ok()?;
        (to <= read[at].len()).then(|| read[at].slice(from..to))
    });
    found.ok_or_else(|| ParquetError::EOF("fewer bytes were read than asked for".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_that_touch_are_joined() {
        assert_eq!(runs(&[10..20, 0..10, 21..30]), vec![0..20, 21..30]);
        assert_eq!(runs(&[0..10, 5..8]), vec![0..10]);
        let large = JOINED_BYTES_MAX;
        assert_eq!(runs(&[0..large, large..large + 1]), vec![0..large, large..large + 1]);
    }

    #[test]
    fn every_range_comes_back_out_of_its_run() {
        let ranges = [10..20, 0..10, 21..30, 12..13];
        let runs = runs(&ranges);
        let read: Vec<Bytes> = runs
            .iter()
            .map(|run| (run.start..run.end).map(|at| u8::try_from(at).unwrap()).collect())
            .collect();
        for range in ranges {
            let wanted: Vec<u8> = (range.start..range.end).map(|at| u8::try_from(at).unwrap()).collect();
            assert_eq!(cut(&range, &runs, &read).unwrap(), wanted);
        }
    }
}
