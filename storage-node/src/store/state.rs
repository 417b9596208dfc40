//! What a store knows in memory: the index, who is writing what, and what each file still holds.
//!
//! The index changes only while a group of records is appended, so between groups it says exactly what the
//! log says. The invariant of the accounting: a segment's extents and leases are counted until their space
//! was given back, so a segment with none can be filled from its start again.

use super::index::{FileId, Index, Location};
use super::record::{Generation, PAGE_BYTES, RecordHeader, RecordKind};
use crate::service::FencingToken;
use ashlar_chunker::ShardId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How a log file is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogUse {
    pub(crate) sequence: u64,
    pub(crate) generation: Generation,
    pub(crate) file_bytes: u64,
    /// Takes no more groups.
    pub(crate) sealed: bool,
    /// Found damaged when it was read: compacted as soon as it is sealed.
    pub(crate) damaged: bool,
    /// Weight of all its records, see [`weight`].
    pub(crate) total_bytes: u64,
    /// Weight of the inline records that the index points at.
    pub(crate) live_bytes: u64,
    /// Records of extents, whether they are live or not.
    pub(crate) extents: u64,
    /// Tombstones and fences.
    pub(crate) tombstones: u64,
}

impl LogUse {
    pub(crate) fn new(sequence: u64, generation: Generation, file_bytes: u64) -> Self {
        let (total_bytes, live_bytes, extents, tombstones) = (0, 0, 0, 0);
        let (sealed, damaged) = (false, false);
        Self {
            sequence,
            generation,
            file_bytes,
            sealed,
            damaged,
            total_bytes,
            live_bytes,
            extents,
            tombstones,
        }
    }

    /// Counts a record of the file.
    pub(crate) fn count(&mut self, header: &RecordHeader) {
        match header.kind {
            RecordKind::Inline => self.total_bytes += weight(header.shard_bytes),
            RecordKind::Extent { .. } => {
                self.total_bytes += HEADER_WEIGHT;
                self.extents += 1;
            }
            RecordKind::Tombstone | RecordKind::Fence => {
                self.total_bytes += HEADER_WEIGHT;
                self.tombstones += 1;
            }
        }
    }
}

/// What a record counts for: its head and its shard. Footers are left out, since the index does not know
/// their length.
pub(crate) fn weight(shard_bytes: u32) -> u64 {
    u64::from(shard_bytes) + HEADER_WEIGHT
}

/// Weight of a record without a shard.
pub(crate) const HEADER_WEIGHT: u64 = 56;
/// Tombstones and fences may weigh one part in this many of all records.
const TOMBSTONE_SHARE: u64 = 4;

/// Bytes that any extent fits in: the largest shard and footer.
pub(crate) const EXTENT_BYTES_MAX: u64 = 5 << 20;

/// How a segment is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SegmentUse {
    pub(crate) file_bytes: u64,
    /// Where the next extent goes.
    pub(crate) end: u64,
    /// Extents that are live, being written, or not yet punched.
    pub(crate) extents: u64,
}

impl SegmentUse {
    /// Nothing is in it, and any shard would fit.
    pub(crate) fn is_spare(&self) -> bool {
        self.extents == 0 && self.file_bytes >= EXTENT_BYTES_MAX
    }

    /// Nothing is in it and nothing large ever will be: what a crash left of a segment being made.
    pub(crate) fn is_useless(&self) -> bool {
        self.extents == 0 && self.file_bytes < EXTENT_BYTES_MAX
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) writing: HashSet<ShardId>,
    pub(crate) quarantined: BTreeSet<ShardId>,
    pub(crate) token: FencingToken,
    pub(crate) logs: BTreeMap<u32, LogUse>,
    /// Free log files, zeroed from end to end.
    pub(crate) spares: Vec<u32>,
    pub(crate) segments: HashMap<u32, SegmentUse>,
    /// The segment that extents are taken from.
    pub(crate) open_segment: Option<u32>,
    /// Highest numbers given to files so far, plus one.
    pub(crate) slots_end: u32,
    pub(crate) segments_end: u32,
    pub(crate) shard_bytes: u64,
    /// Live extents.
    pub(crate) extents: u64,
}

/// Space that a shard no longer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FreedExtent {
    pub(crate) id: ShardId,
    pub(crate) segment: u32,
    pub(crate) page: u32,
    pub(crate) shard_bytes: u32,
}

/// Bytes that `page` is from the start of its segment.
pub(crate) fn page_offset(page: u32) -> u64 {
    u64::from(page) * u64::try_from(PAGE_BYTES).expect("a page fits u64")
}

impl State {
    /// Enters a stored shard; the extent it replaces, if any.
    pub(crate) fn insert(&mut self, id: ShardId, location: Location) -> Option<FreedExtent> {
        self.shard_bytes += u64::from(location.shard_bytes);
        match location.file {
            FileId::Log(slot) => {
                if let Some(log) = self.logs.get_mut(&slot) {
                    log.live_bytes += weight(location.shard_bytes);
                }
            }
            FileId::Segment(_) => self.extents += 1,
        }
        let before = self.index.insert(id, location)?;
        self.release(id, before)
    }

    /// Forgets a shard: `None` if it was not here, else the extent to free, if it had one.
    pub(crate) fn remove(&mut self, id: ShardId) -> Option<Option<FreedExtent>> {
        self.quarantined.remove(&id);
        let before = self.index.remove(id)?;
        Some(self.release(id, before))
    }

    fn release(&mut self, id: ShardId, location: Location) -> Option<FreedExtent> {
        self.shard_bytes -= u64::from(location.shard_bytes);
        match location.file {
            FileId::Log(slot) => {
                if let Some(log) = self.logs.get_mut(&slot) {
                    log.live_bytes = log.live_bytes.saturating_sub(weight(location.shard_bytes));
                }
                None
            }
            FileId::Segment(segment) => {
                self.extents -= 1;
                let shard_bytes = location.shard_bytes;
                Some(FreedExtent { id, segment, page: location.offset, shard_bytes })
            }
        }
    }

    /// Counts a record that was appended to `slot`.
    pub(crate) fn count(&mut self, slot: u32, header: &RecordHeader) {
        if let Some(log) = self.logs.get_mut(&slot) {
            log.count(header);
        }
    }

    /// Gives an extent's place in its segment's count back, after its space was.
    pub(crate) fn extent_gone(&mut self, segment: u32) {
        if let Some(used) = self.segments.get_mut(&segment) {
            used.extents -= 1;
            if used.extents == 0 {
                used.end = 0;
            }
        }
    }

    /// The sealed log file whose compaction gives most back, if it is worth it: at most `live_percent` of
    /// it is live, or it is damaged. Where tombstones weigh more than a quarter of all records it is the oldest
    /// file whatever its share, because only in the oldest they can be dropped. Never the newest, nor one of
    /// `failed`.
    pub(crate) fn compactible(&self, live_percent: u64, failed: &HashSet<u32>) -> Option<u32> {
        let extent_records: u64 = self.logs.values().map(|log| log.extents).sum();
        let oldest = self.logs.values().map(|log| log.sequence).min()?;
        let newest = self.logs.values().map(|log| log.sequence).max()?;
        let candidates = || {
            let sealed = self.logs.iter().filter(|(_, log)| log.sealed && log.sequence != newest);
            sealed.filter(|(slot, _)| !failed.contains(slot))
        };
        let tombstones: u64 = self.logs.values().map(|log| log.tombstones).sum();
        let total_bytes: u64 = self.logs.values().map(|log| log.total_bytes).sum();
        if tombstones * HEADER_WEIGHT > total_bytes / TOMBSTONE_SHARE
            && let Some((slot, _)) = candidates().find(|(_, log)| log.sequence == oldest)
        {
            return Some(*slot);
        }
        let percent = |log: &LogUse| {
            if log.damaged {
                return 0;
            }
            // Which record an extent's index entry belongs to is not kept: their live share is estimated.
            let extents = (log.extents * self.extents).div_ceil(extent_records.max(1));
            let tombstones = if log.sequence == oldest { 0 } else { log.tombstones };
            (log.live_bytes + (extents + tombstones) * HEADER_WEIGHT) * 100 / log.total_bytes.max(1)
        };
        candidates()
            .map(|(slot, log)| (percent(log), log.sequence, *slot))
            .min()
            .filter(|(percent, _, _)| *percent <= live_percent)
            .map(|(_, _, slot)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sealed file: sequence, total and live bytes, tombstones.
    fn log(sequence: u64, total_bytes: u64, live_bytes: u64, tombstones: u64) -> (u32, LogUse) {
        let used = LogUse::new(sequence, Generation(sequence), 1 << 20);
        let slot = u32::try_from(sequence).unwrap() + 10;
        (slot, LogUse { sealed: true, total_bytes, live_bytes, tombstones, ..used })
    }

    fn compactible(logs: &[(u32, LogUse)], failed: &[u32]) -> Option<u32> {
        let state = State { logs: logs.iter().copied().collect(), ..State::default() };
        state.compactible(50, &failed.iter().copied().collect())
    }

    #[test]
    fn the_emptiest_file_goes_first_and_the_newest_never() {
        let logs = [log(1, 1000, 900, 0), log(2, 1000, 400, 0), log(3, 1000, 300, 0), log(4, 1000, 0, 0)];
        assert_eq!(compactible(&logs, &[]), Some(13));
        assert_eq!(compactible(&logs, &[13]), Some(12));
        assert_eq!(compactible(&logs, &[12, 13]), None);
        assert_eq!(compactible(&logs[3..], &[]), None, "its header may be all that knows the highest token");
    }

    #[test]
    fn many_tombstones_make_the_oldest_file_due() {
        let many = 20;
        let of = |tombstones| [log(1, 1000, 900, 0), log(2, 1120, 0, tombstones), log(3, 1000, 1000, 0)];
        assert_eq!(compactible(&of(many / 2), &[]), Some(12), "half of it is tombstones");
        assert_eq!(compactible(&of(many), &[]), Some(11));
        assert_eq!(compactible(&of(many), &[11]), None);
    }
}
