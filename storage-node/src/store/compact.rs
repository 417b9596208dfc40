//! Compaction: what still counts of a mostly dead log file is appended again, and the file becomes free.
//!
//! Tombstones are copied too unless the file is the log's oldest: as long as an earlier file may hold the
//! shard, its tombstone must follow. The file with the highest sequence is left alone, so that a header with
//! the highest fencing token always remains. Crash-safe at any point, because the file is freed by one durable write
//! after every copy is durable, and replaying both changes nothing. Paced, so that it never takes the disk.

use super::StoreInner;
use super::files::file_name;
use super::index::{FileId, Location};
use super::log::Append;
use super::record::{Generation, PAGE_BYTES, RecordHeader, RecordKind, SummaryEntry};
use super::recover::read_entries;
use super::state::LogUse;
use ashlar_chunker::ShardId;
use ashlar_disk::{DiskFile, OpenMode};
use bytes::Bytes;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes copied at once.
const STEP_BYTES: u64 = 1 << 20;
/// Records copied at once.
const STEP_RECORDS: usize = 1000;

/// What housekeeping remembers between rounds.
#[derive(Default)]
pub(crate) struct Keeping {
    job: Option<Job>,
    next_step: Option<Instant>,
    /// Log files that could not be read or emptied; left as they are until the store is opened again.
    failed: HashSet<u32>,
}

impl Keeping {
    /// Makes the next step due now.
    pub(crate) fn hurry(&mut self) {
        self.next_step = None;
    }
}

struct Job {
    slot: u32,
    file: Arc<dyn DiskFile>,
    generation: Generation,
    entries: Vec<SummaryEntry>,
    next: usize,
    oldest: bool,
}

/// Why records were not copied.
enum StepError {
    /// The file does not read.
    Unreadable,
    /// The log does not take them now.
    Refused,
}

impl StoreInner {
    /// Goes on with compaction if it is time; when to come again, if there is more to do.
    pub(crate) fn compact(&self, keeping: &mut Keeping) -> Option<Duration> {
        let now = Instant::now();
        if let Some(wait) = keeping.next_step.and_then(|next| next.checked_duration_since(now)) {
            return Some(wait);
        }
        while keeping.job.is_none() {
            let slot = self.state.read().compactible(self.options.compact_live_percent, &keeping.failed)?;
            keeping.job = self.begin_job(slot);
            if keeping.job.is_none() {
                keeping.failed.insert(slot);
            }
        }
        let job = keeping.job.as_mut()?;
        let slot = job.slot;
        let copied = match self.step(job) {
            Ok(copied) => copied,
            Err(StepError::Unreadable) => {
                keeping.failed.insert(slot);
                keeping.job = None;
                return Some(Duration::ZERO);
            }
            // Full, poisoned or closed: the file stays as it is, and is found again later.
            Err(StepError::Refused) => {
                keeping.job = None;
                return None;
            }
        };
        self.stats.compacted_bytes.add(copied);
        if job.next == job.entries.len() {
            if !self.free_log(job) {
                keeping.failed.insert(slot);
            }
            keeping.job = None;
        }
        let pause =
            Duration::from_secs_f64(copied as f64 / self.options.compact_bytes_per_second.max(1) as f64);
        keeping.next_step = Some(now + pause);
        Some(pause)
    }

    /// `None` if the file cannot be read.
    fn begin_job(&self, slot: u32) -> Option<Job> {
        let (used, oldest) = {
            let state = self.state.read();
            let used = *state.logs.get(&slot)?;
            (used, state.logs.values().all(|log| log.sequence >= used.sequence))
        };
        let file = self
            .disk
            .open_direct(&self.folder.join(file_name(FileId::Log(slot))), OpenMode::Existing)
            .ok()?;
        let entries = read_entries(&*file, used.file_bytes, used.generation).ok()?;
        let mut read = LogUse::new(used.sequence, used.generation, used.file_bytes);
        entries.iter().for_each(|entry| read.count(&entry.header));
        // Records that do not read now would go with the file, while the index still rests on them; inline ones
        // are told by what is live of them. Those that read only now are not in the index yet: they count from
        // the next opening on.
        if (read.extents, read.tombstones) != (used.extents, used.tombstones)
            || read.total_bytes > used.total_bytes
        {
            return None;
        }
        Some(Job { slot, file, generation: used.generation, entries, next: 0, oldest })
    }

    /// Copies the next records that count; their bytes.
    fn step(&self, job: &mut Job) -> Result<u64, StepError> {
        let mut copied = 0;
        let mut waiting = Vec::new();
        while copied < STEP_BYTES && waiting.len() < STEP_RECORDS && job.next < job.entries.len() {
            let entry = job.entries[job.next];
            job.next += 1;
            let Some(from) = self.counts(job, &entry) else { continue };
            let body = match self.body(job, &entry) {
                Ok(Some(body)) => body,
                Ok(None) => {
                    self.give_up(entry.header.id, from);
                    continue;
                }
                // It may read another time; what was queued until here is copied all the same.
                Err(_) => return Err(StepError::Unreadable),
            };
            let record_bytes = u64::try_from(RecordHeader::BYTES + body.len()).expect("usize fits u64");
            copied += record_bytes;
            let (done, outcome) = oneshot::channel();
            self.push_log(Append::Copy { header: entry.header, body, from, done });
            waiting.push(outcome);
        }
        // An answer that never comes is a copy that was not made.
        let made = waiting.into_iter().all(|outcome| outcome.blocking_recv().is_ok());
        if made { Ok(copied) } else { Err(StepError::Refused) }
    }

    /// Where the record's shard is if the record counts; a tombstone's place means nothing.
    fn counts(&self, job: &Job, entry: &SummaryEntry) -> Option<Location> {
        let SummaryEntry { header, offset } = *entry;
        let found = self.state.read().index.get(header.id);
        let shard_bytes = header.shard_bytes;
        let here = match header.kind {
            RecordKind::Inline => Location { file: FileId::Log(job.slot), offset, shard_bytes },
            RecordKind::Extent { segment, page } => {
                Location { file: FileId::Segment(segment), offset: page, shard_bytes }
            }
            RecordKind::Tombstone => {
                let place = Location { file: FileId::Log(job.slot), offset, shard_bytes };
                return (!job.oldest && found.is_none()).then_some(place);
            }
            // Later files carry the token in their headers.
            RecordKind::Fence => return None,
        };
        (found == Some(here)).then_some(here)
    }

    /// The record's body; `None` if it differs from its check sum.
    fn body(&self, job: &Job, entry: &SummaryEntry) -> io::Result<Option<Bytes>> {
        if entry.header.kind != RecordKind::Inline {
            return Ok(Some(Bytes::new()));
        }
        let body = usize::try_from(entry.header.body_bytes()).expect("a record fits usize");
        let mut record = vec![0; RecordHeader::BYTES + body];
        job.file.read_exact_at(&mut record, u64::from(entry.offset))?;
        let is_whole = RecordHeader::decode(&record, job.generation) == Some(entry.header);
        Ok(is_whole.then(|| Bytes::from(record).slice(RecordHeader::BYTES..)))
    }

    /// Forgets a shard whose record is damaged, if it still lies there: it is corrupt, and kept from being
    /// taken for one that never was.
    fn give_up(&self, id: ShardId, from: Location) {
        let mut state = self.state.write();
        if state.index.get(id) == Some(from) {
            state.remove(id);
            state.quarantined.insert(id);
            self.stats.corrupt.add(1);
        }
    }

    /// Makes the file a spare once its records are copied; whether it did. Shards that still lie there stood
    /// in groups that read back damaged; they are given up, and rebuilt from others.
    fn free_log(&self, job: &Job) -> bool {
        let lost: Vec<_> = {
            let state = self.state.read();
            match state.logs.get(&job.slot) {
                Some(log) if log.live_bytes == 0 => Vec::new(),
                _ => {
                    state.index.after(None).filter(|(_, place)| place.file == FileId::Log(job.slot)).collect()
                }
            }
        };
        for (id, place) in lost {
            self.give_up(id, place);
        }
        if let Err(error) = job.file.write_durable_at(&[&[0; PAGE_BYTES]], 0) {
            self.poison("freeing a log file", &error);
            return false;
        }
        let mut state = self.state.write();
        state.logs.remove(&job.slot);
        state.spares.push(job.slot);
        drop(state);
        self.stats.compacted_files.add(1);
        true
    }
}
