//! Space: the reserve, the files made ahead of need, and extents given back.
//!
//! Log files are zeroed before use: a durable write over written blocks needs no commit of the file
//! system's own journal (11 µs of processor instead of 20, and half the latency). Segments are only allocated,
//! since large writes would be paid twice; they are recycled whole, and their blocks stay written then.

use super::files::file_name;
use super::index::{FILE_NUMBER_MAX, FileId};
use super::record::{FooterHeader, PAGE_BYTES};
use super::state::{FreedExtent, SegmentUse, page_offset};
use super::{StoreInner, superblock::SUPERBLOCK_FILE};
use crate::service::PutError;
use ashlar_chunker::ShardId;
use ashlar_disk::{DiskFile, OpenMode};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Zeroed log files kept ready.
const SPARES_WANTED: usize = 2;
/// Free log files above this are removed.
const SPARES_MAX: usize = 4;
/// Empty segments above this are removed.
const EMPTY_SEGMENTS_MAX: usize = 2;
/// Bytes zeroed in one write.
const ZERO_BYTES: usize = 1 << 20;
/// Most of the file system that the reserve takes by default, with `RESERVE_PERCENT`.
const RESERVE_BYTES_MAX: u64 = 1 << 30;
const RESERVE_PERCENT: u64 = 5;

/// The node takes no puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{available_bytes} bytes available, {reserve_bytes} are kept in reserve")]
pub(crate) struct FullError {
    pub(crate) available_bytes: u64,
    pub(crate) reserve_bytes: u64,
}

impl FullError {
    pub(crate) fn put_error(self) -> PutError {
        let Self { available_bytes, reserve_bytes } = self;
        PutError::Full { available_bytes, reserve_bytes }
    }
}

/// Whether the space that puts leave free may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// For what stores something.
    Kept,
    /// For what frees space: deletes, and the copies of compaction.
    Used,
}

/// A file could not be made.
#[derive(Debug)]
pub(crate) enum CreateError {
    Full(FullError),
    Io(io::Error),
}

/// An extent that is no longer needed, durably so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Punch {
    pub(crate) segment: u32,
    pub(crate) page: u32,
    pub(crate) bytes: u64,
    /// Whose footer lies behind those bytes, if one does; only it says how long it is.
    pub(crate) footer: Option<ShardId>,
}

impl StoreInner {
    /// Bytes on the file system, those available, and the reserve.
    pub(crate) fn measure_space(&self) -> io::Result<(u64, u64, u64)> {
        let space = self.disk.space(&self.folder)?;
        let reserve = (space.total_bytes / 100 * RESERVE_PERCENT).min(RESERVE_BYTES_MAX);
        let reserve = self.options.reserve_bytes.unwrap_or(reserve);
        Ok((space.total_bytes, space.available_bytes, reserve))
    }

    fn room_for(&self, bytes: u64, reserve: Reserve) -> Result<(), CreateError> {
        let (_, available_bytes, reserve_bytes) = self.measure_space().map_err(CreateError::Io)?;
        let kept = if reserve == Reserve::Kept { reserve_bytes } else { 0 };
        if available_bytes < bytes.saturating_add(kept) {
            return Err(CreateError::Full(FullError { available_bytes, reserve_bytes }));
        }
        Ok(())
    }

    /// A file system that is full says so in its own words too.
    fn or_full(&self, error: io::Error) -> CreateError {
        match (error.kind(), self.measure_space()) {
            (
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded,
                Ok((_, available_bytes, reserve_bytes)),
            ) => CreateError::Full(FullError { available_bytes, reserve_bytes }),
            _ => CreateError::Io(error),
        }
    }

    /// Makes a zeroed log file.
    pub(crate) fn create_spare(&self, reserve: Reserve) -> Result<(), CreateError> {
        self.room_for(self.options.log_bytes, reserve)?;
        let slot = {
            let mut state = self.state.write();
            state.slots_end += 1;
            state.slots_end - 1
        };
        assert!(slot <= FILE_NUMBER_MAX, "log files are recycled long before their numbers run out");
        let path = self.folder.join(file_name(FileId::Log(slot)));
        let made = (|| {
            let file = self.disk.open_direct(&path, OpenMode::CreateNew)?;
            let zeroes = vec![0; ZERO_BYTES];
            let mut at = 0;
            while at < self.options.log_bytes {
                let len = self.options.log_bytes.min(at + to_u64(ZERO_BYTES)) - at;
                file.write_all_at(&[&zeroes[..usize::try_from(len).expect("at most a piece")]], at)?;
                at += len;
            }
            file.sync_data()?;
            self.disk.sync_dir(&self.folder)
        })();
        if let Err(error) = made {
            // Best effort: a half-made file is removed at the next open, too.
            let _ = self.disk.remove_file(&path);
            return Err(self.or_full(error));
        }
        self.state.write().spares.push(slot);
        Ok(())
    }

    /// Makes an allocated segment.
    fn create_segment(&self) -> Result<(), CreateError> {
        let file_bytes = self.options.segment_bytes;
        self.room_for(file_bytes, Reserve::Kept)?;
        let segment = {
            let mut state = self.state.write();
            state.segments_end += 1;
            state.segments_end - 1
        };
        assert!(segment <= FILE_NUMBER_MAX, "segments are recycled long before their numbers run out");
        let path = self.folder.join(file_name(FileId::Segment(segment)));
        let made = (|| {
            let file = self.disk.open_direct(&path, OpenMode::CreateNew)?;
            file.allocate(0, file_bytes)?;
            file.sync_data()?;
            self.disk.sync_dir(&self.folder)
        })();
        if let Err(error) = made {
            let _ = self.disk.remove_file(&path);
            return Err(self.or_full(error));
        }
        self.state.write().segments.insert(segment, SegmentUse { file_bytes, end: 0, extents: 0 });
        Ok(())
    }

    /// Hands extents to the keeper, which punches them.
    pub(crate) fn free_extents(&self, freed: &[FreedExtent]) {
        if freed.is_empty() {
            return;
        }
        let punches = freed.iter().map(|extent| Punch {
            segment: extent.segment,
            page: extent.page,
            bytes: u64::from(extent.shard_bytes),
            footer: Some(extent.id),
        });
        self.punches.lock().extend(punches);
        self.wake_keeper();
    }

    /// One round of housekeeping; when the next is due, if sooner than usual. Blocks; calls are serialised.
    pub(crate) fn keep(&self) -> Option<Duration> {
        let mut keeping = self.keeping.lock();
        if self.is_poisoned() || self.closed.load(Ordering::Acquire) {
            self.answer_segment_waiters(&Err(PutError::ReadOnly {
                reason: self.poison_reason().unwrap_or_else(|| String::from("the store is closed")),
            }));
            return None;
        }
        match self.disk.exists(&self.folder.join(SUPERBLOCK_FILE)) {
            Ok(true) => {}
            Ok(false) => {
                self.poison("looking for the superblock", &io::ErrorKind::NotFound.into());
                return None;
            }
            Err(error) => {
                self.poison("looking for the superblock", &error);
                return None;
            }
        }
        self.punch_freed();
        let made = self.room_for(0, Reserve::Kept).and_then(|()| self.make_ahead());
        let (full, answer) = match made {
            Ok(()) => (None, Ok(())),
            Err(CreateError::Full(full)) => (Some(full), Err(full.put_error())),
            // Nothing was written to what counts: the next round may have more luck.
            Err(CreateError::Io(error)) => {
                (None, Err(PutError::Unavailable { reason: format!("cannot make files: {error}") }))
            }
        };
        *self.full.lock() = full;
        self.is_full.store(full.is_some(), Ordering::Release);
        self.answer_segment_waiters(&answer);
        let next = self.compact(&mut keeping);
        self.remove_excess_spares();
        self.remove_excess_segments();
        next
    }

    fn make_ahead(&self) -> Result<(), CreateError> {
        while self.state.read().spares.len() < SPARES_WANTED {
            self.create_spare(Reserve::Kept)?;
        }
        let wanted = !self.segment_waiters.lock().is_empty() || {
            let state = self.state.read();
            let open = state.open_segment.and_then(|segment| state.segments.get(&segment));
            open.is_some_and(|open| open.end > open.file_bytes / 2)
        };
        let has_empty = {
            let state = self.state.read();
            let open = state.open_segment;
            state.segments.iter().any(|(number, used)| used.is_spare() && Some(*number) != open)
        };
        if wanted && !has_empty { self.create_segment() } else { Ok(()) }
    }

    fn answer_segment_waiters(&self, answer: &Result<(), PutError>) {
        for waiter in self.segment_waiters.lock().drain(..) {
            let _ = waiter.send(answer.clone());
        }
    }

    fn punch_freed(&self) {
        let punches = std::mem::take(&mut *self.punches.lock());
        for punch in punches {
            let segment = punch.segment;
            let emptied = self.state.read().segments.get(&segment).is_none_or(|used| used.extents == 1);
            // A segment whose last extent goes is filled again soon: its written blocks are worth keeping.
            if !emptied && let Ok((file, _)) = self.read_files.get(FileId::Segment(segment)) {
                let bytes = punched_bytes(&*file, &punch);
                if bytes > 0 && file.punch(page_offset(punch.page), bytes).is_ok() {
                    self.stats.punched(bytes);
                }
            }
            self.state.write().extent_gone(segment);
        }
    }

    fn remove_excess_segments(&self) {
        loop {
            let segment = {
                let mut state = self.state.write();
                let open = state.open_segment;
                let closed = || state.segments.iter().filter(|(number, _)| Some(**number) != open);
                let useless = closed().find(|(_, used)| used.is_useless());
                let spares = || closed().filter(|(_, used)| used.is_spare());
                let excess = useless.or_else(|| spares().nth(EMPTY_SEGMENTS_MAX));
                let Some(segment) = excess.map(|(number, _)| *number) else { return };
                state.segments.remove(&segment);
                segment
            };
            self.read_files.forget(FileId::Segment(segment));
            self.write_files.lock().retain(|(number, _)| *number != segment);
            // A file that stays is found empty at the next open.
            let _ = self.disk.remove_file(&self.folder.join(file_name(FileId::Segment(segment))));
        }
    }

    fn remove_excess_spares(&self) {
        loop {
            let slot = {
                let mut state = self.state.write();
                if state.spares.len() <= SPARES_MAX {
                    return;
                }
                state.spares.remove(0)
            };
            self.read_files.forget(FileId::Log(slot));
            // A file that stays is found free, or half removed, at the next open.
            let _ = self.disk.remove_file(&self.folder.join(file_name(FileId::Log(slot))));
        }
    }
}

/// Whole pages of what is to be punched. Beyond the shard's own bytes only what its footer, compared with its
/// check sum, says; nothing where another shard's footer stands, since the extent is that one's then.
fn punched_bytes(file: &dyn DiskFile, punch: &Punch) -> u64 {
    let page = to_u64(PAGE_BYTES);
    let Some(id) = punch.footer else { return punch.bytes.next_multiple_of(page) };
    match read_footer(file, page_offset(punch.page) + punch.bytes) {
        Some(footer) if (footer.id, u64::from(footer.shard_bytes)) == (id, punch.bytes) => {
            let footer = to_u64(FooterHeader::BYTES) + u64::from(footer.footer_bytes);
            (punch.bytes + footer).next_multiple_of(page)
        }
        Some(_) => 0,
        // Of the last page, a part may be somebody else's for all that is known.
        None => punch.bytes / page * page,
    }
}

/// The footer at `offset`, if a valid one stands there.
fn read_footer(file: &dyn DiskFile, offset: u64) -> Option<FooterHeader> {
    let mut head = [0; FooterHeader::BYTES];
    file.read_exact_at(&mut head, offset).ok()?;
    let header = FooterHeader::decode_unchecked(&head)?;
    let mut whole = vec![0; FooterHeader::BYTES + usize::try_from(header.footer_bytes).ok()?];
    file.read_exact_at(&mut whole, offset).ok()?;
    FooterHeader::decode(&whole)
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("usize fits u64")
}
