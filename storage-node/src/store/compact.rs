//! Compaction: what still counts of a mostly dead log file is appended again, and the file becomes free.
//!
//! Tombstones are copied too unless the file is the log's oldest: as long as an earlier file may hold the
//! shard, its tombstone must follow. Crash-safe at any point, because the file is freed by one durable write
//! after every copy is durable, and replaying both changes nothing. Paced, so that it never takes the disk.

use super::StoreInner;
use super::files::file_name;
use super::index::{FileId, Location};
use super::log::Append;
use super::record::{Generation, PAGE_BYTES, RecordHeader, RecordKind, SummaryEntry};
use super::recover::read_entries;
use ashlar_disk::{DiskFile, OpenMode};
use bytes::Bytes;
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

impl StoreInner {
    /// Goes on with compaction if it is time; when to come again, if there is more to do.
    pub(crate) fn compact(&self, keeping: &mut Keeping) -> Option<Duration> {
        let now = Instant::now();
        if let Some(wait) = keeping.next_step.and_then(|next| next.checked_duration_since(now)) {
            return Some(wait);
        }
        if keeping.job.is_none() {
            keeping.job = self.begin_job();
        }
        let job = keeping.job.as_mut()?;
        let Some(copied) = self.step(job) else {
            // Full, poisoned or closed: the file stays as it is, and is found again later.
            keeping.job = None;
            return None;
        };
        self.stats.compacted_bytes.add(copied);
        if job.next == job.entries.len() {
            self.free_log(job);
            keeping.job = None;
        }
        let pause =
            Duration::from_secs_f64(copied as f64 / self.options.compact_bytes_per_second.max(1) as f64);
        keeping.next_step = Some(now + pause);
        Some(pause)
    }

    fn begin_job(&self) -> Option<Job> {
        let (slot, used, oldest) = {
            let state = self.state.read();
            let slot = state.compactible(self.options.compact_live_percent)?;
            let used = *state.logs.get(&slot)?;
            (slot, used, state.logs.values().all(|log| log.sequence >= used.sequence))
        };
        let file = self
            .disk
            .open_direct(&self.folder.join(file_name(FileId::Log(slot))), OpenMode::Existing)
            .ok()?;
        let entries = read_entries(&*file, used.file_bytes, used.generation).ok()?;
        Some(Job { slot, file, generation: used.generation, entries, next: 0, oldest })
    }

    /// Copies the next records that count; their bytes, or `None` if that failed.
    fn step(&self, job: &mut Job) -> Option<u64> {
        let mut copied = 0;
        let mut waiting = Vec::new();
        while copied < STEP_BYTES && waiting.len() < STEP_RECORDS && job.next < job.entries.len() {
            let entry = job.entries[job.next];
            job.next += 1;
            let Some(from) = self.counts(job, &entry) else { continue };
            let Ok(body) = self.body(job, &entry) else { continue };
            let record_bytes = u64::try_from(RecordHeader::BYTES + body.len()).expect("usize fits u64");
            copied += record_bytes;
            let (done, outcome) = oneshot::channel();
            self.push_log(Append::Copy { header: entry.header, body, from, done });
            waiting.push(outcome);
        }
        // An answer that never comes is a copy that was not made.
        waiting.into_iter().all(|outcome| outcome.blocking_recv().is_ok()).then_some(copied)
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

    /// The record's body, compared with its check sum. A damaged one is given up: the shard is corrupt.
    fn body(&self, job: &Job, entry: &SummaryEntry) -> io::Result<Bytes> {
        if entry.header.kind != RecordKind::Inline {
            return Ok(Bytes::new());
        }
        let body = usize::try_from(entry.header.body_bytes()).expect("a record fits usize");
        let mut record = vec![0; RecordHeader::BYTES + body];
        let read = job.file.read_exact_at(&mut record, u64::from(entry.offset));
        if read.is_ok() && RecordHeader::decode(&record, job.generation) == Some(entry.header) {
            return Ok(Bytes::from(record).slice(RecordHeader::BYTES..));
        }
        let mut state = self.state.write();
        state.remove(entry.header.id);
        state.quarantined.insert(entry.header.id);
        drop(state);
        self.stats.corrupt.add(1);
        Err(read.err().unwrap_or_else(|| io::ErrorKind::InvalidData.into()))
    }

    /// Gives a file free whose records are copied. Shards that still lie there stood in groups that do not
    /// read back any more; they are given up, and rebuilt from others.
    fn free_log(&self, job: &Job) {
        let mut state = self.state.write();
        if state.logs.get(&job.slot).is_none_or(|log| log.live_bytes > 0) {
            let lost = state.index.after(None).filter(|(_, place)| place.file == FileId::Log(job.slot));
            let lost: Vec<_> = lost.map(|(id, _)| id).collect();
            self.stats.corrupt.add(u64::try_from(lost.len()).expect("usize fits u64"));
            for id in lost {
                state.remove(id);
                state.quarantined.insert(id);
            }
        }
        drop(state);
        if let Err(error) = job.file.write_durable_at(&[&[0; PAGE_BYTES]], 0) {
            self.poison("freeing a log file", &error);
            return;
        }
        let mut state = self.state.write();
        state.logs.remove(&job.slot);
        state.spares.push(job.slot);
        drop(state);
        self.stats.compacted_files.add(1);
    }
}
