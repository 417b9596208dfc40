//! Sealing: the next batch from the outbox, with the rows behind its entries and a stretch of the walk.
//!
//! Invariants: a batch holds whole commits; its exact bytes, where the log is and how far the walk is change in one
//! commit; every row of an entry is in its batch or owed to a later one. Rows of the walk are read after those of the
//! entries, so what undoes them is an entry of a later batch.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use ashlar_metadata::namespace::log::WalkRow;
use ashlar_objects::log::{LogEntry, RecoveryRows};
use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::batch::{Carried, Entry, Previous, seal};
use super::rows::LogError;
use super::{
    ENTRIES_MAX, PublishError, Publisher, Sealed, UNCERTIFIED_MAX, UNSETTLED_MAX, recorded_time, walk,
};

/// Bytes of a walk that a batch carries while there is much else to publish, and while there is not.
const STRETCH_BYTES: usize = 1 << 20;
const STRETCH_BYTES_IDLE: usize = 8 << 20;
/// A stretch shorter than that is not worth reading.
const STRETCH_BYTES_MIN: usize = 16 << 10;

/// Entries with their rows.
struct Gathered {
    entries: Vec<Entry>,
    bytes: usize,
    /// The first whose rows are owed.
    owed: Option<(u64, u32)>,
    /// The rows of some entry are too many for any batch.
    is_walk_wanted: bool,
}

impl Publisher {
    /// Seals the next batch, if there is anything to seal. Cancel-safe: what is not known to be sealed is read again.
    pub async fn seal_next(&self) -> Result<Sealed, PublishError> {
        let mut state = self.log.lock().await;
        let uncertified = state.log.row.sealed - self.certified.load(Ordering::Relaxed);
        let unsettled = state.log.row.sealed - state.log.row.settled;
        if uncertified >= UNCERTIFIED_MAX || unsettled >= UNSETTLED_MAX {
            return Ok(Sealed::Nothing);
        }
        let now = (self.parts.clock)();
        let after = (state.log.row.last_position, u32::MAX);
        let everything = self.parts.kv.stable_position().0;
        let mut found = self.parts.store.outbox_after(Some(after), ENTRIES_MAX).await?;
        let is_idle = found.is_empty();
        if is_idle {
            if self.parts.progress.last_certified() == state.log.row.last_position {
                self.parts.progress.covered(everything);
            }
            let walk = &state.walk;
            let users = self.parts.store.users_changed_since(walk.users).await?;
            let is_more = walk.owed.is_some() || walk::is_under_way(walk) || users.is_some();
            if !is_more && !walk::is_due(walk, now, self.parts.config.retention) {
                return Ok(Sealed::Nothing);
            }
            // Something has to be carried, and there is no batch to carry it.
            self.parts.store.announce_cluster_map().await?;
            found = self.parts.store.outbox_after(Some(after), ENTRIES_MAX).await?;
        }
        let count = found.len();
        let whole = whole_commits(found, ENTRIES_MAX);
        if whole.is_empty() {
            if count > 0 {
                tracing::error!(
                    entries = count,
                    "a commit has more entries than a batch takes; the log does not go on"
                );
            }
            return Ok(Sealed::Nothing);
        }
        let gathered = self.with_rows(whole).await?;
        let sealed = if gathered.entries.len() < count { Sealed::Full } else { Sealed::Everything };
        let sequence = state.log.row.sealed + 1;
        let (carried, next_walk) = self.carry(&state.walk, &gathered, (sequence, now), is_idle).await?;
        let previous = Previous { sequence: sequence - 1, header_hash: state.log.row.header_hash };
        let (identity, keys, entries) = (self.parts.identity, self.parts.keys.clone(), gathered.entries);
        let work = move || {
            let times: Vec<u64> = entries.iter().filter_map(|entry| recorded_time(&entry.record)).collect();
            (seal(&identity, &keys, previous, &entries, &carried, &mut StdRng::from_os_rng()), times)
        };
        let (batch, times) = tokio::task::spawn_blocking(work).await.expect("sealing does not panic");
        let keep_until = now / 1000 + self.parts.config.retention.as_secs();
        // An outcome that is not known leaves us with the old rows: what follows is refused as that of another
        // publisher would be. So they are read again first.
        match self.rows.add(&state, &batch, (now, keep_until), next_walk).await {
            Ok(next) => *state = next,
            Err(error @ LogError::Commit(_)) => {
                *state = self.rows.open(&self.parts.identity).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        tracing::debug!(sequence, entries = batch.digests.len(), bytes = batch.blob.len(), "sealed a batch");
        self.times.lock().insert(sequence, times);
        self.sealed.store(sequence, Ordering::Relaxed);
        let done = match state.walk.owed {
            Some((owed, _)) => before(owed),
            None => (batch.header.last_position, u32::MAX),
        };
        drop(state);
        self.moved.notify_one();
        self.parts.store.trim_outbox(done).await?;
        Ok(sealed)
    }

    /// Adds rows to entries, and leaves out those that make no batch any more.
    async fn with_rows(&self, found: Vec<LogEntry>) -> Result<Gathered, PublishError> {
        let limit = self.entries_bytes_max();
        let mut gathered = Gathered { entries: Vec::new(), bytes: 0, owed: None, is_walk_wanted: false };
        let mut known = HashMap::new();
        let (mut rest, mut commit_start) = (&found[..], 0);
        while !rest.is_empty() {
            let rows = self.parts.store.recovery_rows(rest, limit).await?;
            let (step, further) = rest.split_at(rows.len());
            rest = further;
            for (entry, mut rows) in step.iter().zip(rows) {
                if gathered.entries.last().is_none_or(|last| last.position != entry.position) {
                    commit_start = gathered.entries.len();
                }
                gathered.is_walk_wanted |= rows.is_too_large;
                share(&mut known, &mut rows);
                let bytes = blob_bytes(entry, &rows);
                if gathered.bytes + bytes > limit {
                    if commit_start > 0 {
                        // Full: this commit begins the next batch.
                        gathered.entries.truncate(commit_start);
                        gathered.bytes = gathered.entries.iter().map(Entry::blob_bytes).sum();
                        return Ok(gathered);
                    }
                    // One commit alone is too large. Its records must be in one batch; rows may come later.
                    if rows.shorten() {
                        gathered.owed.get_or_insert((entry.position, entry.index));
                    }
                }
                let (position, index, record) = (entry.position, entry.index, entry.record.clone());
                let entry = Entry { position, index, record, rows: rows.rows };
                gathered.bytes += entry.blob_bytes();
                gathered.entries.push(entry);
            }
        }
        Ok(gathered)
    }

    /// What entries may take: always less than a batch, so that the walk goes on.
    fn entries_bytes_max(&self) -> usize {
        let limit = self.parts.config.blob_bytes_max;
        limit - STRETCH_BYTES.min(limit / 4)
    }

    /// What a batch carries beside its entries, and how far the walk is then.
    async fn carry(
        &self,
        walk: &WalkRow,
        gathered: &Gathered,
        (sequence, now): (u64, u64),
        is_idle: bool,
    ) -> Result<(Carried, WalkRow), PublishError> {
        let mut next = walk.clone();
        let mut carried = Carried { generation: self.parts.generation.clone(), ..Carried::default() };
        let mut room = self.parts.config.blob_bytes_max.saturating_sub(gathered.bytes + carried.blob_bytes());
        if let Some(owed) = walk.owed {
            let is_walk_wanted;
            (next.owed, is_walk_wanted) = self.pay(owed, room, &mut carried).await?;
            next.is_wanted |= is_walk_wanted;
            room = room.saturating_sub(carried.blob_bytes());
        }
        if let Some((changed, users)) = self.parts.store.users_changed_since(walk.users).await? {
            if users.bytes() <= room {
                room -= users.bytes();
                carried.rows.extend(users.rows);
                next.users = changed;
            } else if is_idle {
                // No batch has more room.
                (next.users, next.is_wanted) = (changed, true);
            }
        }
        if let (Some(first), Some(last)) = (gathered.owed, gathered.entries.last()) {
            let from = next.owed.map_or(first, |(from, _)| from);
            next.owed = Some((from, (last.position, last.index)));
        }
        if gathered.is_walk_wanted {
            next.is_wanted = true;
            tracing::info!("an object's rows are too large for a batch; a walk will carry them");
        }
        let begins = walk::is_due(&next, now, self.parts.config.retention);
        if begins {
            walk::begin(&mut next, now, sequence, self.parts.store.walk_bounds().await?);
        }
        let bytes = room.min(if is_idle { STRETCH_BYTES_IDLE } else { STRETCH_BYTES });
        if walk::is_under_way(&next) || begins {
            carried.walk = next.number;
            carried.begins = begins;
        }
        if begins || (next.cursor.is_some() && bytes >= STRETCH_BYTES_MIN) {
            let cursor = next.cursor.clone().map(Bytes::from);
            let stretch = self.parts.store.walk(&next.bounds, cursor.as_ref(), bytes).await?;
            carried.rows.extend(stretch.rows);
            walk::advance(&mut next, stretch.cursor.map(|cursor| cursor.to_vec()), stretch.position);
        }
        let last_position = gathered.entries.last().map_or(0, |entry| entry.position);
        carried.ends = walk::end(&mut next, sequence, last_position);
        Ok((carried, next))
    }

    /// Carries rows that are owed, as far as there is room; answers which are still owed, and whether only a walk can carry
    /// some.
    async fn pay(
        &self,
        (first, last): ((u64, u32), (u64, u32)),
        room: usize,
        carried: &mut Carried,
    ) -> Result<(Option<Owed>, bool), PublishError> {
        let found = self.parts.store.outbox_after(Some(before(first)), ENTRIES_MAX).await?;
        let is_cut_off = found.len() >= ENTRIES_MAX;
        let entries: Vec<LogEntry> = found.into_iter().filter(|entry| entry.place() <= last).collect();
        let all = self.parts.store.recovery_rows(&entries, room / 2).await?;
        let is_walk_wanted = all.iter().any(|rows| rows.is_too_large);
        let next = match (entries.get(all.len()), entries.last()) {
            (Some(unpaid), _) => Some(unpaid.place()),
            (None, Some(read)) if is_cut_off => Some((read.position, read.index.saturating_add(1))),
            _ => None,
        };
        carried.rows.extend(all.into_iter().flat_map(|rows| rows.rows));
        Ok((next.filter(|next| *next <= last).map(|next| (next, last)), is_walk_wanted))
    }
}

/// The first and the last entry whose rows are owed.
type Owed = ((u64, u32), (u64, u32));

/// Rows that several entries of a batch have in common are carried once; those of versions always, because an entry without
/// them says that its version is gone.
fn share(known: &mut HashMap<Bytes, Bytes>, rows: &mut RecoveryRows) {
    if !rows.is_later && known.is_empty() {
        return;
    }
    let mut first = true;
    rows.rows.retain(|(key, value)| {
        let is_known = known.get(key) == Some(value);
        std::mem::replace(&mut first, false) || !is_known
    });
    if rows.is_later {
        known.extend(rows.rows.iter().skip(1).cloned());
    }
}

fn blob_bytes(entry: &LogEntry, rows: &RecoveryRows) -> usize {
    Entry::bytes_of(&entry.record, &rows.rows)
}

/// The place right before one.
fn before((position, index): (u64, u32)) -> (u64, u32) {
    match index.checked_sub(1) {
        Some(index) => (position, index),
        None => (position.saturating_sub(1), u32::MAX),
    }
}

/// Entries of whole commits: of a list that was cut off at `limit`, the last commit may go on.
fn whole_commits(mut found: Vec<LogEntry>, limit: usize) -> Vec<LogEntry> {
    if found.len() >= limit
        && let Some(last) = found.last().map(|entry| entry.position)
    {
        let whole = found.partition_point(|entry| entry.position < last);
        found.truncate(whole);
    }
    found
}
