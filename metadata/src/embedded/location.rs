//! One journal location: its superblock, its segments, and appending to them.
//!
//! Invariant: a group is answered only when it is durable here, groups never share a block with earlier
//! ones, and a segment is given up only when a durable base holds all of it. After any failed write or
//! sync the owner must drop the writer: nothing is retried, because the kernel may have dropped the data.
//! Deliberately knows nothing of other locations, nor of rows.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_disk::{Disk, DiskFile, DiskLock, OpenMode};

use super::checkpoint::{UNFINISHED_NAME, checkpoint_name};
use super::fields::{len_u64, round_up};
use super::group::{BLOCK_BYTES, Group, StoreId};
use super::segment::{SEGMENT_DATA_OFFSET, SegmentHeader, segment_name};
use super::superblock::{CheckpointRef, LocationId, SUPERBLOCK_FILE_BYTES, Superblock};

pub(crate) const SUPERBLOCK_NAME: &str = "superblock";
const SUPERBLOCK_NEW_NAME: &str = "superblock-new";
pub(crate) const LOCK_NAME: &str = "lock";
const NEXT_NAME: &str = "next-segment";
/// Retired segments kept for reuse, which saves writing their zeroes again.
const RECYCLED_SEGMENTS_MAX: usize = 4;
/// Zeroes written ahead after each append; at least this much, at least twice what was appended.
const ZERO_STEP_BYTES: u64 = 256 * 1024;
static ZEROES: [u8; 256 * 1024] = [0; 256 * 1024];

/// Where a journal lies.
#[derive(Clone)]
pub struct JournalLocation {
    /// The disk to write through.
    pub disk: Arc<dyn Disk>,
    /// The folder, made if missing. Nothing else may live in it, but for the first location's rows.
    pub dir: PathBuf,
}

impl std::fmt::Debug for JournalLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.dir.fmt(f)
    }
}

/// A segment that takes no more groups.
#[derive(Clone, Debug)]
pub(crate) struct FullSegment {
    pub(crate) path: PathBuf,
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    /// Of its last group; 0 when it holds none.
    pub(crate) last_sequence: u64,
}

struct ActiveSegment {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    next_offset: u64,
    last_sequence: u64,
}

impl ActiveSegment {
    fn has_room(&self, bytes: u64) -> bool {
        self.next_offset + bytes <= self.header.bytes
    }
}

/// The segment after the active one.
enum NextSegment {
    None,
    Zeroing { file: Arc<dyn DiskFile>, zeroed: u64 },
    Ready(ActiveSegment),
}

/// Appends to one location. Owned by one thread at a time.
pub(crate) struct JournalWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    superblock: Superblock,
    superblock_file: Option<Arc<dyn DiskFile>>,
    segment_bytes: u64,
    active: ActiveSegment,
    next: NextSegment,
    full: Vec<FullSegment>,
    recycled: Vec<FullSegment>,
    _lock: Box<dyn DiskLock>,
}

/// What a scan found of a location, and what it shall go on as.
pub(crate) struct WriterStart {
    pub(crate) location: JournalLocation,
    pub(crate) lock: Box<dyn DiskLock>,
    pub(crate) store: StoreId,
    /// As found; `None` for a location that begins anew.
    pub(crate) superblock: Option<Superblock>,
    pub(crate) full: Vec<FullSegment>,
    /// Group up to which a durable base of its own holds everything.
    pub(crate) base: u64,
    pub(crate) first_segment: u64,
    pub(crate) segment_bytes: u64,
}

impl JournalWriter {
    /// Begins a new segment beside what is there; takes groups at once, but counts for nothing until
    /// [`JournalWriter::join`].
    pub(crate) fn start(start: WriterStart, new_id: LocationId) -> io::Result<Self> {
        let WriterStart {
            location: JournalLocation { disk, dir }, lock, store, superblock, mut full, ..
        } = start;
        let superblock_file = match superblock {
            Some(_) => Some(disk.open_direct(&dir.join(SUPERBLOCK_NAME), OpenMode::Existing)?),
            None => None,
        };
        let superblock = superblock.unwrap_or_else(|| Superblock {
            store,
            location: new_id,
            generation: 0,
            epoch: 0,
            first_segment: start.first_segment,
            members: Vec::new(),
            checkpoint: None,
        });
        let header = SegmentHeader {
            store,
            location: superblock.location,
            number: start.first_segment,
            bytes: round_up(start.segment_bytes, len_u64(BLOCK_BYTES)),
        };
        let made = create_zeroed(&*disk, &dir, header.bytes)
            .and_then(|file| activate(&*disk, &dir, &dir.join(NEXT_NAME), file, header));
        let active = match made {
            Err(error) if is_full(&error) => {
                discard_next(&*disk, &dir);
                let at = spare(&full, header.bytes, start.base).ok_or(error)?;
                let old = full.remove(at);
                let file = disk.open_direct(&old.path, OpenMode::Existing)?;
                activate(&*disk, &dir, &old.path, file, header)?
            }
            made => made?,
        };
        Ok(Self {
            disk,
            dir,
            superblock,
            superblock_file,
            segment_bytes: header.bytes,
            active,
            next: NextSegment::None,
            full,
            recycled: Vec::new(),
            _lock: lock,
        })
    }

    /// Its name.
    pub(crate) fn id(&self) -> LocationId {
        self.superblock.location
    }

    /// Declares that everything up to this opening is here: durable before any commit of `epoch` is.
    pub(crate) fn join(
        &mut self,
        epoch: u64,
        members: &[LocationId],
        checkpoint: Option<CheckpointRef>,
    ) -> io::Result<()> {
        self.superblock.epoch = epoch;
        self.superblock.members = members.to_vec();
        self.superblock.first_segment = self.active.header.number;
        if checkpoint.is_some() {
            self.superblock.checkpoint = checkpoint;
        }
        self.write_superblock()
    }

    /// Rewrites who else takes commits.
    pub(crate) fn set_members(&mut self, members: &[LocationId]) -> io::Result<()> {
        self.superblock.members = members.to_vec();
        self.write_superblock()
    }

    /// Names a checkpoint that is durable in this location, then gives up what it replaces.
    pub(crate) fn set_checkpoint(&mut self, checkpoint: CheckpointRef) -> io::Result<()> {
        let before = self.superblock.checkpoint.replace(checkpoint);
        self.write_superblock()?;
        if let Some(before) = before
            && before.point.sequence != checkpoint.point.sequence
        {
            let path = self.dir.join(checkpoint_name(before.point.sequence));
            if self.disk.exists(&path)? {
                self.disk.remove_file(&path)?;
            }
        }
        self.truncate(checkpoint.point.sequence)
    }

    /// A location's first superblock appears under its name only when it is whole.
    fn write_superblock(&mut self) -> io::Result<()> {
        if let Some(file) = &self.superblock_file {
            return self.superblock.write(file);
        }
        let path = self.dir.join(SUPERBLOCK_NEW_NAME);
        if self.disk.exists(&path)? {
            self.disk.remove_file(&path)?;
        }
        let file = self.disk.open_direct(&path, OpenMode::CreateNew)?;
        let zeroes = vec![0; usize::try_from(SUPERBLOCK_FILE_BYTES).expect("two blocks")];
        file.write_durable_at(&[&zeroes], 0)?;
        self.superblock.write(&file)?;
        self.disk.rename(&path, &self.dir.join(SUPERBLOCK_NAME))?;
        self.disk.sync_dir(&self.dir)?;
        self.superblock_file = Some(file);
        Ok(())
    }

    /// Appends a group; it is durable when this returns.
    pub(crate) fn append(&mut self, group: &Group) -> io::Result<()> {
        let bytes = group.header.padded_bytes();
        if !self.active.has_room(bytes) {
            self.roll(bytes)?;
        }
        let active = &mut self.active;
        let header = group.header.encode(self.superblock.store, active.header.number);
        let used = header.len() + group.body.len();
        let padding = usize::try_from(bytes).expect("a group fits memory") - used;
        active.file.write_durable_at(&[&header, &group.body, &ZEROES[..padding]], active.next_offset)?;
        active.next_offset += bytes;
        active.last_sequence = group.header.after.sequence;
        Ok(())
    }

    fn roll(&mut self, bytes: u64) -> io::Result<()> {
        while !matches!(self.next, NextSegment::Ready(_)) {
            self.work_ahead(u64::MAX)?;
        }
        if let NextSegment::Ready(next) = std::mem::replace(&mut self.next, NextSegment::None) {
            self.retire(next);
        }
        if !self.active.has_room(bytes) {
            let header = SegmentHeader {
                number: self.active.header.number + 1,
                bytes: SEGMENT_DATA_OFFSET + bytes,
                ..self.active.header
            };
            let file = create_zeroed(&*self.disk, &self.dir, header.bytes)?;
            let next = activate(&*self.disk, &self.dir, &self.dir.join(NEXT_NAME), file, header)?;
            self.retire(next);
        }
        Ok(())
    }

    fn retire(&mut self, next: ActiveSegment) {
        let old = std::mem::replace(&mut self.active, next);
        self.full.push(FullSegment {
            path: self.dir.join(segment_name(old.header.number)),
            number: old.header.number,
            bytes: old.header.bytes,
            last_sequence: old.last_sequence,
        });
    }

    /// Works ahead on the next segment, in proportion to `appended_bytes`, so that no commit waits for a
    /// whole segment of zeroes. On a full disk it is tried again after the next append: there is room in the
    /// active segment, and somebody may free some on the disk.
    pub(crate) fn prepare(&mut self, appended_bytes: u64) -> io::Result<()> {
        match self.work_ahead(appended_bytes) {
            Err(error) if is_full(&error) => {
                discard_next(&*self.disk, &self.dir);
                Ok(())
            }
            done => done,
        }
    }

    fn work_ahead(&mut self, appended_bytes: u64) -> io::Result<()> {
        let header = SegmentHeader {
            number: self.active.header.number + 1,
            bytes: self.segment_bytes,
            ..self.active.header
        };
        self.next = match std::mem::replace(&mut self.next, NextSegment::None) {
            NextSegment::None => self.begin_next(header)?,
            NextSegment::Zeroing { file, zeroed } => {
                let step = ZERO_STEP_BYTES.max(appended_bytes.saturating_mul(2));
                let until = header.bytes.min(zeroed.saturating_add(step));
                write_zeroes(&*file, zeroed, until)?;
                if until < header.bytes {
                    NextSegment::Zeroing { file, zeroed: until }
                } else {
                    file.sync_data()?;
                    let path = self.dir.join(NEXT_NAME);
                    NextSegment::Ready(activate(&*self.disk, &self.dir, &path, file, header)?)
                }
            }
            ready @ NextSegment::Ready(_) => ready,
        };
        Ok(())
    }

    fn begin_next(&mut self, header: SegmentHeader) -> io::Result<NextSegment> {
        let Some(old) = self.recycled.last() else {
            let file = create_allocated(&*self.disk, &self.dir, header.bytes)?;
            return Ok(NextSegment::Zeroing { file, zeroed: 0 });
        };
        let file = self.disk.open_direct(&old.path, OpenMode::Existing)?;
        let next = activate(&*self.disk, &self.dir, &old.path, file, header)?;
        self.recycled.pop();
        Ok(NextSegment::Ready(next))
    }

    /// Gives up segments that hold nothing after group `sequence`, which a durable base contains.
    pub(crate) fn truncate(&mut self, sequence: u64) -> io::Result<()> {
        let full = std::mem::take(&mut self.full);
        for segment in full {
            if segment.last_sequence > sequence {
                self.full.push(segment);
            } else if segment.bytes == self.segment_bytes && self.recycled.len() < RECYCLED_SEGMENTS_MAX {
                self.recycled.push(segment);
            } else {
                self.disk.remove_file(&segment.path)?;
            }
        }
        Ok(())
    }

    /// The checkpoint that it names.
    pub(crate) fn checkpoint(&self) -> Option<CheckpointRef> {
        self.superblock.checkpoint
    }

    /// Bytes of segments that have not been given up.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.full.iter().map(|segment| segment.bytes).sum::<u64>() + self.active.next_offset
    }
}

/// Removes what no longer counts: everything (`keep_checkpoint` and `keep_segments` empty), or unfinished
/// files and checkpoints that the superblock does not name.
pub(crate) fn clear(disk: &dyn Disk, dir: &Path, keep: impl Fn(&str) -> bool) -> io::Result<()> {
    for name in disk.list_dir(dir)? {
        let text = name.to_string_lossy();
        let ours =
            ["superblock", "segment-", "checkpoint-", NEXT_NAME].iter().any(|ours| text.starts_with(ours));
        if ours && !keep(&text) {
            disk.remove_file(&dir.join(&name))?;
        }
    }
    disk.sync_dir(dir)
}

/// Whether a file is left over from work that was cut short.
pub(crate) fn is_unfinished(name: &str) -> bool {
    [NEXT_NAME, SUPERBLOCK_NEW_NAME, UNFINISHED_NAME].contains(&name)
}

/// A segment to use again at opening: one that the base contains, and not the newest, because without that a
/// header torn by a crash would leave nothing that the superblock counts on.
fn spare(full: &[FullSegment], bytes: u64, base: u64) -> Option<usize> {
    let newest = full.iter().map(|segment| segment.number).max()?;
    let is_spare = |segment: &FullSegment| {
        segment.bytes == bytes && segment.last_sequence <= base && segment.number < newest
    };
    full.iter().position(is_spare)
}

/// Whether an error says that the disk is full, which passes, rather than broken.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Gives back what an unfinished next segment takes.
fn discard_next(disk: &dyn Disk, dir: &Path) {
    // One that stays is void, and overwritten by the next attempt.
    let _ = disk.remove_file(&dir.join(NEXT_NAME));
}

fn create_allocated(disk: &dyn Disk, dir: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let path = dir.join(NEXT_NAME);
    if disk.exists(&path)? {
        disk.remove_file(&path)?;
    }
    let file = disk.open_direct(&path, OpenMode::CreateNew)?;
    file.allocate(0, bytes)?;
    Ok(file)
}

fn create_zeroed(disk: &dyn Disk, dir: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = create_allocated(disk, dir, bytes)?;
    write_zeroes(&*file, 0, bytes)?;
    file.sync_data()?;
    Ok(file)
}

/// Zeroes are written, not only reserved: an append to reserved space makes its sync change the file
/// system's own structures (measured: 73 µs instead of 50 µs for 4 KiB).
fn write_zeroes(file: &dyn DiskFile, mut from: u64, until: u64) -> io::Result<()> {
    while from < until {
        let step = (until - from).min(len_u64(ZEROES.len()));
        file.write_all_at(&[&ZEROES[..usize::try_from(step).expect("within ZEROES")]], from)?;
        from += step;
    }
    Ok(())
}

/// Makes a prepared file the segment of `header`, durably: from then on its earlier content is void.
fn activate(
    disk: &dyn Disk,
    dir: &Path,
    from: &Path,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
) -> io::Result<ActiveSegment> {
    file.write_durable_at(&[&header.encode()], 0)?;
    let path = dir.join(segment_name(header.number));
    disk.rename(from, &path)?;
    disk.sync_dir(dir)?;
    // Opened again so that what fails later is reported under the name that the segment has now.
    let file = disk.open_direct(&path, OpenMode::Existing)?;
    Ok(ActiveSegment { file, header, next_offset: SEGMENT_DATA_OFFSET, last_sequence: 0 })
}
