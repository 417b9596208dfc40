//! The thread that makes bases durable, so that journals can be cut: the rows themselves in the first
//! location, checkpoints in the others.
//!
//! Invariant: a journal is cut only behind a base that is durable in the same location; commits and reads go
//! on meanwhile, from a view. Deliberately never decides what is committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::checkpoint::{self, CheckpointError, CheckpointReader, CheckpointWriter, Frame};
use super::committer::Shared;
use super::fields::len_u64;
use super::location::JournalLocation;
use super::opening::{JoinError, Replica, write_rows};
use super::rows::View;
use super::superblock::{CheckpointRef, LocationId};

/// Wakes the checkpointer.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Default)]
struct Rung {
    closing: bool,
    asked: u64,
    done: u64,
}

impl Bell {
    /// Something was committed.
    pub(crate) fn progress(&self) {
        self.changed.notify_all();
    }

    pub(crate) fn close(&self) {
        self.rung.lock().closing = true;
        self.changed.notify_all();
    }

    /// Has everything made durable now, and waits for it; `false` if the store closed first.
    pub(crate) fn ask(&self) -> bool {
        let mut rung = self.rung.lock();
        rung.asked += 1;
        let ticket = rung.asked;
        self.changed.notify_all();
        while rung.done < ticket && !rung.closing {
            self.changed.wait(&mut rung);
        }
        rung.done >= ticket
    }

    /// Sleeps, but not past closing; `false` when closing.
    fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut rung = self.rung.lock();
        while !rung.closing && !self.changed.wait_until(&mut rung, until).timed_out() {}
        !rung.closing
    }
}

/// Owns the decision when a base is due.
pub(crate) struct Checkpointer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) first: Option<LocationId>,
    pub(crate) replicas: Vec<Replica>,
    /// Journal after which a base is due.
    pub(crate) journal_bytes_min: u64,
    /// Rate at which checkpoints are written, over all locations together.
    pub(crate) bytes_per_second: u64,
    /// Length of the last checkpoint.
    pub(crate) checkpoint_bytes: u64,
    /// Journal that stood in the locations at opening, not counted since.
    pub(crate) journal_bytes_before: u64,
}

/// Lets nobody wait for a checkpointer that is gone.
struct Ending<'a>(&'a Bell);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

enum Due {
    Closing,
    Asked(u64),
    Grown,
}

impl Checkpointer {
    /// Works until the store closes.
    pub(crate) fn run(mut self) {
        let bell = Arc::clone(&self.bell);
        let _ending = Ending(&bell);
        let mut persisted_at = 0;
        let mut checkpointed_at = 0;
        if !self.checkpoints_read() {
            self.checkpoint();
        }
        loop {
            let now = || self.shared.journal_bytes.load(Ordering::Relaxed);
            let journal_min = self.journal_bytes_min;
            let checkpoint_min =
                journal_min.max(self.checkpoint_bytes).saturating_sub(self.journal_bytes_before);
            let is_due = || {
                let replicas_due = !self.replicas.is_empty() && now() - checkpointed_at >= checkpoint_min;
                now() - persisted_at >= journal_min || replicas_due
            };
            let due = self.wait(is_due);
            let asked = match due {
                Due::Closing => return,
                Due::Asked(ticket) => Some(ticket),
                Due::Grown => None,
            };
            let at = now();
            let everything = asked.is_some();
            if everything || at - persisted_at >= journal_min {
                persisted_at = at;
                self.persist();
            }
            if !self.replicas.is_empty() && (everything || at - checkpointed_at >= checkpoint_min) {
                checkpointed_at = at;
                self.journal_bytes_before = 0;
                self.checkpoint();
            }
            if let Some(ticket) = asked {
                self.bell.rung.lock().done = ticket;
                self.bell.changed.notify_all();
            }
        }
    }

    fn wait(&self, is_due: impl Fn() -> bool) -> Due {
        let mut rung = self.bell.rung.lock();
        loop {
            if rung.closing {
                return Due::Closing;
            }
            if rung.asked > rung.done {
                return Due::Asked(rung.asked);
            }
            if is_due() {
                return Due::Grown;
            }
            // A bell rung between the test and the wait is heard at the next commit or within a second.
            self.bell.changed.wait_for(&mut rung, Duration::from_secs(1));
        }
    }

    fn failed(&self, what: String) {
        let mut stats = self.shared.stats.lock();
        stats.checkpoint_failures += 1;
        stats.last_checkpoint_failure = Some(what);
    }

    /// Makes the rows durable and lets the first location cut its journal.
    fn persist(&self) {
        match self.shared.rows.persist() {
            Ok(point) => {
                self.shared.stats.lock().persists += 1;
                if let (Some(first), Some(point)) = (self.first, point) {
                    self.shared.journals.truncate(first, point.sequence, point.position);
                }
            }
            Err(error) => self.failed(format!("the rows could not be made durable: {error}")),
        }
    }

    /// Reads the checkpoints that were there at opening, because one that rotted would be noticed only when
    /// nothing else is left; `false` when one of them must be written anew.
    fn checkpoints_read(&self) -> bool {
        let mut all = true;
        for Replica { id, location, checkpoint } in &self.replicas {
            let Some(checkpoint) = checkpoint.filter(|_| self.shared.journals.is_member(*id)) else {
                continue;
            };
            match self.read(location, checkpoint) {
                Ok(true) => {}
                Ok(false) => return true,
                Err(error) => {
                    all = false;
                    self.failed(format!("the checkpoint in {} is damaged: {error}", location.dir.display()));
                }
            }
        }
        all
    }

    /// Reads one checkpoint to its end, at the rate of writing; `false` when the store closes.
    fn read(&self, location: &JournalLocation, checkpoint: CheckpointRef) -> Result<bool, CheckpointError> {
        let JournalLocation { disk, dir } = location;
        let mut reader = CheckpointReader::open(disk, dir, self.shared.store, checkpoint)?;
        let begun = Instant::now();
        while reader.next_frame()?.is_some() {
            if !self.keep_pace(begun, reader.bytes_read()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until so many bytes since `begun` are within the rate; `false` when the store closes.
    fn keep_pace(&self, begun: Instant, bytes: u64) -> bool {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        let earliest = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        match earliest.checked_sub(begun.elapsed()) {
            Some(ahead) if ahead > Duration::from_millis(1) => self.bell.sleep(ahead),
            _ => !self.bell.rung.lock().closing,
        }
    }

    /// Writes a checkpoint of the newest view to every other location that takes part.
    fn checkpoint(&mut self) {
        let view = self.shared.view();
        let mut writers = Vec::new();
        for Replica { id, location, .. } in &self.replicas {
            if !self.shared.journals.is_member(*id) {
                continue;
            }
            let JournalLocation { disk, dir } = location;
            match CheckpointWriter::create(Arc::clone(disk), dir, self.shared.store, view.point) {
                Ok(writer) => writers.push((*id, writer)),
                Err(error) => self.give_up(*id, &error),
            }
        }
        match self.write(&view, &mut writers) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.failed(format!("the rows do not read: {error}")),
        }
        drop(view);
        let mut finished = 0;
        for (id, writer) in writers {
            match writer.finish() {
                Ok(checkpoint) => {
                    finished += u64::from(self.shared.journals.set_checkpoint(id, checkpoint));
                    self.checkpoint_bytes = checkpoint.bytes;
                }
                Err(error) => self.give_up(id, &error),
            }
        }
        self.shared.stats.lock().checkpoints += u64::from(finished > 0);
    }

    /// Leaves a location with the base it has: its journal goes on, and the next checkpoint may succeed.
    fn give_up(&self, id: LocationId, error: &std::io::Error) {
        if let Some(Replica { location, .. }) = self.replicas.iter().find(|replica| replica.id == id) {
            checkpoint::discard_unfinished(&*location.disk, &location.dir);
        }
        self.failed(format!("a checkpoint could not be written: {error}"));
    }

    /// Streams all rows into the writers; a writer that fails is dropped. `false` when the store closes.
    fn write(
        &self,
        view: &View,
        writers: &mut Vec<(LocationId, CheckpointWriter)>,
    ) -> Result<bool, JoinError> {
        let begun = Instant::now();
        let mut written = 0;
        let stopped = write_rows(view, |frame: &Frame| {
            writers.retain_mut(|(id, writer)| match writer.push(frame) {
                Ok(()) => true,
                Err(error) => {
                    self.give_up(*id, &error);
                    false
                }
            });
            written += len_u64(frame.len()) * len_u64(writers.len());
            let goes_on = self.keep_pace(begun, written);
            if goes_on && !writers.is_empty() { Ok(()) } else { Err(Stop::Closing) }
        });
        match stopped {
            Ok(()) => Ok(true),
            Err(Stop::Closing) => Ok(false),
            Err(Stop::Failed(error)) => Err(error),
        }
    }
}

enum Stop {
    Closing,
    Failed(JoinError),
}

impl From<super::rows::RowsError> for Stop {
    fn from(error: super::rows::RowsError) -> Self {
        Self::Failed(error.into())
    }
}
