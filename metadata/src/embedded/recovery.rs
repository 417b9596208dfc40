//! Opening: which history is the newest, from what base it can be replayed, and what each location lacks.
//!
//! Invariant: the history chosen is the one of the latest epoch and then the longest, every step of it is
//! checked by the hash chain, and if any step is missing in all locations opening is refused rather than a
//! shorter history taken. Deliberately writes nothing into the journal: that is `opening`.

use std::collections::HashMap;
use std::path::Path;

use super::checkpoint::{CheckpointError, CheckpointReader};
use super::fields::len_u64;
use super::group::{ChainHash, Group, GroupHeader, JournalPoint, StoreId};
use super::location::JournalLocation;
use super::rows::{Overlay, ROWS_NAME, Rows, RowsError};
use super::scan::{Condition, Scan};
use super::segment::{FoundGroup, read_group};
use super::superblock::CheckpointRef;

/// Most journal that is copied to a location that fell behind.
const CATCH_UP_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Rows applied in one engine transaction while replaying.
const REPLAY_ROWS_PER_TRANSACTION: usize = 20_000;

/// Why a store could not be opened. Nothing was changed, unless it is said.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No location was given, or too many.
    #[error("{locations} journal locations were given, between 1 and 32 are allowed")]
    LocationCount {
        /// How many.
        locations: usize,
    },
    /// Every location is empty, and a store may not be made there.
    #[error("there is no store in {}", .dirs.join(", "))]
    NoStore {
        /// The folders.
        dirs: Vec<String>,
    },
    /// Another process has it open.
    #[error("{dir} is in use by another process")]
    InUse {
        /// The folder whose lock is taken.
        dir: String,
    },
    /// The first location, or too many of the others, cannot be read or written.
    #[error("{dir} cannot be used: {cause}")]
    Io {
        /// The folder.
        dir: String,
        /// What the operating system said.
        cause: String,
    },
    /// A folder holds another store's journal.
    #[error("{dir} belongs to another store; give the folders of one store, or an empty one")]
    ForeignLocation {
        /// The folder.
        dir: String,
    },
    /// Two histories of the same epoch contradict each other: the locations were once opened apart.
    #[error("the journals contradict each other at group {sequence}: they were written to separately")]
    Diverged {
        /// The group at which they stand.
        sequence: u64,
    },
    /// What is there is not enough to bring back every acknowledged commit.
    #[error("acknowledged commits up to position {position} cannot be brought back: {cause}; found: {found}")]
    Unrecoverable {
        /// The last position known to have been written.
        position: u64,
        /// What is missing.
        cause: String,
        /// What each location has to say.
        found: String,
    },
    /// The embedded engine failed.
    #[error("the row store failed: {cause}")]
    Engine {
        /// What it said.
        cause: String,
    },
    /// Too few locations can be written to.
    #[error("{usable} of {given} journal locations can be written to, at least {min} must be")]
    TooFewLocations {
        /// How many can.
        usable: usize,
        /// How many were given.
        given: usize,
        /// How many must, by configuration.
        min: usize,
    },
}

impl From<RowsError> for OpenError {
    fn from(error: RowsError) -> Self {
        Self::Engine { cause: error.to_string() }
    }
}

/// The newest history, replayed.
pub(crate) struct Recovered {
    pub(crate) store: StoreId,
    pub(crate) rows: Rows,
    /// Where it ends.
    pub(crate) end: JournalPoint,
    pub(crate) history: History,
    pub(crate) rebuilt: bool,
    pub(crate) replayed_commits: u64,
    pub(crate) notes: Vec<String>,
}

/// Where a copy of a group lies.
#[derive(Clone, Copy)]
struct Copy {
    scan: usize,
    segment: usize,
    found: FoundGroup,
}

struct Entry {
    header: GroupHeader,
    copies: Vec<Copy>,
}

/// Every group that leads to the end, as far back as all locations together reach.
pub(crate) struct History {
    entries: Vec<Entry>,
    /// Where the first of them begins: sequence and chain.
    start: (u64, ChainHash),
}

impl History {
    fn index_after(&self, sequence: u64) -> usize {
        usize::try_from(sequence.saturating_sub(self.start.0)).expect("history is in memory")
    }

    /// Whether the history passes through a point.
    fn contains(&self, point: &JournalPoint) -> bool {
        match point.sequence.checked_sub(self.start.0) {
            None => false,
            Some(0) => point.chain == self.start.1,
            Some(steps) => usize::try_from(steps - 1)
                .ok()
                .and_then(|index| self.entries.get(index))
                .is_some_and(|entry| entry.header.after.chain == point.chain),
        }
    }

    /// The groups after `base` that location `scan` lacks: all of them unless it is whole. `None` when some
    /// are nowhere, or when they are so many that a checkpoint is the better way.
    pub(crate) fn missing(&self, scan: usize, base: u64, scans: &[Scan]) -> Option<Vec<Group>> {
        if base < self.start.0 {
            return None;
        }
        let is_whole = scans[scan].condition == Condition::Whole;
        let holds = |entry: &&Entry| is_whole && entry.copies.iter().any(|copy| copy.scan == scan);
        let after = &self.entries[self.index_after(base).min(self.entries.len())..];
        let lacking: Vec<&Entry> = after.iter().filter(|entry| !holds(entry)).collect();
        let bytes: u64 = lacking.iter().map(|entry| entry.header.padded_bytes()).sum();
        if bytes > CATCH_UP_BYTES_MAX {
            return None;
        }
        lacking.into_iter().map(|entry| read(entry, scans)).collect()
    }

    /// Whether nothing was ever truncated.
    pub(crate) fn begins_at_genesis(&self, store: StoreId) -> bool {
        self.start == (0, ChainHash::genesis(store))
    }

    /// The part of it that a location's own checkpoint vouches for.
    pub(crate) fn contains_checkpoint(&self, checkpoint: &CheckpointRef) -> bool {
        self.contains(&checkpoint.point)
    }
}

fn read(entry: &Entry, scans: &[Scan]) -> Option<Group> {
    entry.copies.iter().find_map(|copy| {
        let segment = scans.get(copy.scan)?.segments.get(copy.segment)?;
        read_group(&segment.file, &copy.found)
    })
}

/// Chooses the newest history among what was found and brings the rows to its end, durably.
///
/// `new_store`: what a store is called that has to be made; `None` where none may be.
pub(crate) fn recover(
    scans: &[Scan],
    first: &JournalLocation,
    cache_bytes: usize,
    new_store: Option<StoreId>,
) -> Result<Recovered, OpenError> {
    let mut notes = Vec::new();
    let opened = match Rows::open(&first.disk, &first.dir, cache_bytes) {
        Ok(opened) => Some(opened),
        Err(error) => {
            notes.push(format!("the rows in {} do not open: {error}", first.dir.display()));
            None
        }
    };
    let (rows, kept) = opened.map_or((None, None), |(rows, point)| (Some(rows), point));
    let kept = kept.filter(|(_, point)| point.sequence > 0 && point.position.0 > 0);
    let store = store_of(scans, kept.as_ref().map(|(store, _)| *store), first)?;
    let all_fresh = scans.iter().all(|scan| scan.condition == Condition::Fresh);
    let Some(store) = store.filter(|_| !(all_fresh && kept.is_none())) else {
        let Some(new_store) = new_store else {
            let dirs = scans.iter().map(|scan| scan.location.dir.display().to_string()).collect();
            return Err(OpenError::NoStore { dirs });
        };
        let rows = fresh_rows(rows, first, cache_bytes)?;
        let end = JournalPoint::genesis(new_store);
        let history = History { entries: Vec::new(), start: (0, end.chain) };
        return Ok(Recovered {
            store: new_store,
            rows,
            end,
            history,
            rebuilt: false,
            replayed_commits: 0,
            notes,
        });
    };
    let mut kept = kept.map(|(_, point)| point);
    let (end, history) = newest_history(scans, store, kept.as_ref())?;
    // Where the rows do not even open, nothing tells what the first location had given up.
    let first_base = kept.map_or(if rows.is_some() { 0 } else { u64::MAX }, |kept| kept.sequence);
    note_conditions(scans, first, first_base, &mut notes);
    let unrecoverable = |cause: String, notes: &[String]| OpenError::Unrecoverable {
        position: end.position.0,
        cause,
        found: if notes.is_empty() { "nothing wrong".to_owned() } else { notes.join("; ") },
    };
    if !scans.iter().any(|scan| scan.condition == Condition::Whole) {
        return Err(unrecoverable("no journal location is whole".to_owned(), &notes));
    }
    let mut rows = rows;
    if let Some(point) = &kept
        && !history.contains(point)
    {
        notes.push("the rows in the first location belong to another history".to_owned());
        kept = None;
    }
    let (rows, base, rebuilt) = match (rows.take(), kept) {
        (Some(rows), Some(point)) => (rows, point, false),
        (rows, _) => {
            let (rows, base) = rebuild(rows, scans, &history, store, first, cache_bytes, &mut notes)?
                .ok_or_else(|| {
                    let first = history.start.0 + 1;
                    let cause = format!("the journal begins at group {first} and no checkpoint leads there");
                    unrecoverable(cause, &notes)
                })?;
            (rows, base, true)
        }
    };
    let replayed = replay(&rows, store, scans, &history, base).map_err(|failed| match failed {
        ReplayError::Rows(error) => OpenError::from(error),
        ReplayError::Unreadable { sequence } => {
            unrecoverable(format!("group {sequence} no longer reads in any location"), &notes)
        }
    })?;
    if rebuilt || base != end {
        rows.persist()?;
    }
    Ok(Recovered { store, rows, end, history, rebuilt, replayed_commits: replayed, notes })
}

fn store_of(
    scans: &[Scan],
    kept: Option<StoreId>,
    first: &JournalLocation,
) -> Result<Option<StoreId>, OpenError> {
    let taking_part = scans.iter().filter(|scan| scan.condition != Condition::Fresh);
    let mut stores = taking_part.filter_map(|scan| Some((scan.store()?, &scan.location.dir)));
    let Some((store, _)) = stores.next() else { return Ok(kept) };
    let foreign = |dir: &Path| OpenError::ForeignLocation { dir: dir.display().to_string() };
    if let Some((_, dir)) = stores.find(|(other, _)| *other != store) {
        return Err(foreign(dir));
    }
    match kept {
        Some(other) if other != store => Err(foreign(&first.dir.join(ROWS_NAME))),
        _ => Ok(Some(store)),
    }
}

fn note_conditions(scans: &[Scan], first: &JournalLocation, first_base: u64, notes: &mut Vec<String>) {
    for scan in scans {
        let dir = scan.location.dir.display();
        if let Condition::Damaged(how) = &scan.condition {
            notes.push(format!("{dir} is damaged: {how}"));
        }
        let base = if scan.location.dir == first.dir {
            first_base
        } else {
            let checkpoint = scan.superblock.as_ref().and_then(|superblock| superblock.checkpoint);
            checkpoint.map_or(0, |checkpoint| checkpoint.point.sequence)
        };
        for (before, after) in scan.holes(base) {
            notes.push(format!("{dir} lacks the journal groups between {before} and {after}"));
        }
    }
}

fn newest_history(
    scans: &[Scan],
    store: StoreId,
    kept: Option<&JournalPoint>,
) -> Result<(JournalPoint, History), OpenError> {
    let mut pool: HashMap<(u64, ChainHash), Entry> = HashMap::new();
    let mut ends: Vec<JournalPoint> = kept.copied().into_iter().collect();
    for (scan_index, scan) in scans.iter().enumerate() {
        let checkpoint = scan.superblock.as_ref().and_then(|superblock| superblock.checkpoint);
        ends.extend(checkpoint.map(|checkpoint| checkpoint.point));
        for (segment_index, segment) in scan.segments.iter().enumerate() {
            for found in segment.groups.iter().filter(|_| segment.header.store == store) {
                let after = found.header.after;
                let copy = Copy { scan: scan_index, segment: segment_index, found: *found };
                let entry = pool.entry((after.sequence, after.chain));
                entry.or_insert_with(|| Entry { header: found.header, copies: Vec::new() }).copies.push(copy);
                ends.push(after);
            }
        }
    }
    let end = ends.iter().copied().max_by_key(JournalPoint::rank).unwrap_or(JournalPoint::genesis(store));
    let mut entries = Vec::new();
    let mut start = (end.sequence, end.chain);
    while let Some(entry) = pool.remove(&start) {
        start = (start.0 - 1, entry.header.chain_before);
        entries.push(entry);
    }
    entries.reverse();
    let history = History { entries, start };
    // Within an epoch there is one writer, whose groups follow each other: whatever else names this epoch was
    // written by somebody who opened other locations. Groups in flight may differ only at the end of an epoch.
    let apart = |other: &&JournalPoint| {
        other.epoch == end.epoch && other.sequence >= history.start.0 && !history.contains(other)
    };
    match ends.iter().find(apart) {
        Some(other) => Err(OpenError::Diverged { sequence: other.sequence }),
        None => Ok((end, history)),
    }
}

fn fresh_rows(opened: Option<Rows>, first: &JournalLocation, cache_bytes: usize) -> Result<Rows, OpenError> {
    drop(opened);
    let path = first.dir.join(ROWS_NAME);
    let io = |error: std::io::Error| OpenError::Io {
        dir: first.dir.display().to_string(),
        cause: error.to_string(),
    };
    if first.disk.exists(&path).map_err(io)? {
        first.disk.remove_file(&path).map_err(io)?;
        first.disk.sync_dir(&first.dir).map_err(io)?;
    }
    Ok(Rows::open(&first.disk, &first.dir, cache_bytes)?.0)
}

/// Rows anew from the latest usable checkpoint, or from nothing where the journal begins at the beginning.
fn rebuild(
    opened: Option<Rows>,
    scans: &[Scan],
    history: &History,
    store: StoreId,
    first: &JournalLocation,
    cache_bytes: usize,
    notes: &mut Vec<String>,
) -> Result<Option<(Rows, JournalPoint)>, OpenError> {
    let mut checkpoints: Vec<(&Scan, CheckpointRef)> = scans
        .iter()
        .filter_map(|scan| Some((scan, scan.superblock.as_ref()?.checkpoint?)))
        .filter(|(_, checkpoint)| history.contains(&checkpoint.point))
        .collect();
    checkpoints.sort_by_key(|(_, checkpoint)| std::cmp::Reverse(checkpoint.point.sequence));
    let mut opened = opened;
    for (scan, checkpoint) in checkpoints {
        let rows = fresh_rows(opened.take(), first, cache_bytes)?;
        match load(&rows, scan, store, checkpoint) {
            Ok(()) => return Ok(Some((rows, checkpoint.point))),
            Err(LoadError::Rows(error)) => return Err(error.into()),
            Err(LoadError::Checkpoint(error)) => {
                notes.push(format!(
                    "the checkpoint in {} is not usable: {error}",
                    scan.location.dir.display()
                ));
                opened = Some(rows);
            }
        }
    }
    if !history.begins_at_genesis(store) {
        return Ok(None);
    }
    Ok(Some((fresh_rows(opened, first, cache_bytes)?, JournalPoint::genesis(store))))
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Rows(#[from] RowsError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

fn load(rows: &Rows, scan: &Scan, store: StoreId, checkpoint: CheckpointRef) -> Result<(), LoadError> {
    let JournalLocation { disk, dir } = &scan.location;
    let mut reader = CheckpointReader::open(disk, dir, store, checkpoint)?;
    let mut pending = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        pending.extend(frame);
        if pending.len() >= REPLAY_ROWS_PER_TRANSACTION {
            rows.load(&pending)?;
            pending.clear();
        }
    }
    rows.load(&pending)?;
    Ok(rows.stage(store, &checkpoint.point, &Overlay::new())?.commit()?)
}

enum ReplayError {
    Rows(RowsError),
    Unreadable { sequence: u64 },
}

impl From<RowsError> for ReplayError {
    fn from(error: RowsError) -> Self {
        Self::Rows(error)
    }
}

/// Applies every group after `base`; answers the number of commits in them.
fn replay(
    rows: &Rows,
    store: StoreId,
    scans: &[Scan],
    history: &History,
    base: JournalPoint,
) -> Result<u64, ReplayError> {
    let mut overlay = Overlay::new();
    let mut replayed = 0;
    let entries = &history.entries[history.index_after(base.sequence).min(history.entries.len())..];
    for (index, entry) in entries.iter().enumerate() {
        let unreadable = ReplayError::Unreadable { sequence: entry.header.after.sequence };
        let Some(records) = read(entry, scans).and_then(|group| group.records()) else {
            return Err(unreadable);
        };
        replayed += len_u64(records.len());
        for record in records {
            for change in record.changes {
                overlay.insert(change.key, (record.position, change.value));
            }
        }
        if overlay.len() >= REPLAY_ROWS_PER_TRANSACTION || index + 1 == entries.len() {
            rows.stage(store, &entry.header.after, &overlay)?.commit()?;
            overlay.clear();
        }
    }
    Ok(replayed)
}
