//! Scrubbing: every shard is read and compared with its leaves, at a bounded rate.

use super::StoreInner;
use super::read::Wanted;
use crate::service::{BlockRange, Corruption, ReadError, Unavailable, Verify};
use ashlar_chunker::ShardId;
use std::sync::Arc;
use std::time::Duration;

/// Shards looked at between two pauses.
const BATCH_SHARDS: usize = 64;
/// Bytes read between two pauses.
const BATCH_BYTES: u64 = 4 << 20;
/// Corrupt ids that a report names; all are counted and quarantined.
const NAMED_MAX: usize = 10_000;

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Shards compared.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Shards found corrupt.
    pub corrupt: u64,
    /// The first 10,000 of them.
    pub corrupt_ids: Vec<ShardId>,
    /// Shards that could not be read; they are not corrupt for all we know.
    pub unreadable: u64,
}

impl StoreInner {
    pub(crate) async fn scrub(
        self: &Arc<Self>,
        bytes_per_second: u64,
        on_corrupt: &(dyn Fn(ShardId, &Corruption) + Sync),
    ) -> Result<ScrubReport, Unavailable> {
        let mut report = ScrubReport::default();
        let mut after = None;
        loop {
            self.check_open()?;
            let batch = self.scrub_batch(after);
            let Some((last, _)) = batch.last() else { return Ok(report) };
            after = Some(*last);
            let store = Arc::clone(self);
            let compared = tokio::task::spawn_blocking(move || store.compare_batch(batch))
                .await
                .map_err(|error| Unavailable { reason: error.to_string() })?;
            let before = report.bytes;
            for (id, bytes, outcome) in compared {
                report.shards += 1;
                report.bytes += u64::from(bytes);
                match outcome {
                    None => {}
                    Some(ReadError::Corrupt { corruption, .. }) => {
                        report.corrupt += 1;
                        if report.corrupt_ids.len() < NAMED_MAX {
                            report.corrupt_ids.push(id);
                        }
                        on_corrupt(id, &corruption);
                    }
                    // Deleted meanwhile.
                    Some(ReadError::NotFound { .. }) if !self.is_known(id) => report.shards -= 1,
                    Some(_) => report.unreadable += 1,
                }
            }
            let read = report.bytes - before;
            tokio::time::sleep(Duration::from_millis(read.saturating_mul(1000) / bytes_per_second.max(1)))
                .await;
        }
    }

    fn is_known(&self, id: ShardId) -> bool {
        self.state.read().index.get(id).is_some()
    }

    fn scrub_batch(&self, after: Option<ShardId>) -> Vec<(ShardId, u32)> {
        let state = self.state.read();
        let mut bytes = 0;
        state
            .index
            .after(after)
            .take(BATCH_SHARDS)
            .take_while(|(_, location)| {
                let room = bytes < BATCH_BYTES;
                bytes += u64::from(location.shard_bytes);
                room
            })
            .map(|(id, location)| (id, location.shard_bytes))
            .collect()
    }

    fn compare_batch(&self, batch: Vec<(ShardId, u32)>) -> Vec<(ShardId, u32, Option<ReadError>)> {
        let wanted = Wanted { range: BlockRange::ALL, footer: true, verify: Verify::Node };
        let compare = |(id, bytes): (ShardId, u32)| {
            self.stats.scrubbed.add(1);
            self.stats.scrubbed_bytes.add(u64::from(bytes));
            (id, bytes, self.read_shard_blocking(id, wanted).err())
        };
        batch.into_iter().map(compare).collect()
    }
}
