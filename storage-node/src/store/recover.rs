//! Opening: from the files of a folder to the state that they describe.
//!
//! Only the active file of the log may end in a torn group. Anything invalid before that, and any sealed or
//! superseded file that does not read back, is corruption: it is reported, whatever can be read is kept, and
//! it is never mistaken for the end of the log.

mod contents;
mod segments;

pub use contents::fuzz_scan;
pub(super) use contents::read_entries;

use super::files::{file_name, parse_name};
use super::index::{FILE_NUMBER_MAX, FileId, Location};
use super::log::{ActiveLog, HEADER_COPY_AT, Log};
use super::record::{FileHeader, PAGE_BYTES, RecordKind, SummaryEntry};
use super::space::Punch;
use super::state::{LogUse, SegmentUse, State};
use super::superblock::{DiskUuid, Superblock, SuperblockError};
use super::{OpenError, StoreOptions};
use crate::service::NodeId;
use ashlar_disk::{Disk, DiskFile, OpenMode};
use contents::read_log;
use segments::Extents;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Shards that can be read.
    pub shards: u64,
    /// Log files in use.
    pub log_files: u64,
    /// Records in them.
    pub records: u64,
    /// Records of the last group that a crash tore; none of them was acknowledged.
    pub torn_records: u64,
    /// Places in the log that are damaged. Shards whose records were there are missing now.
    pub damaged: Vec<LogDamage>,
    /// Shards whose segment is missing or too short; they are missing now.
    pub lost_shards: u64,
    /// Whether the superblock had to be restored from the log.
    pub restored_superblock: bool,
}

/// A damaged place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    /// File name in the node's folder.
    pub file: PathBuf,
    /// First damaged byte.
    pub offset: u64,
}

/// What opening made of the files.
pub(super) struct Recovered {
    pub(super) uuid: DiskUuid,
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) punches: Vec<Punch>,
    pub(super) report: OpenReport,
}

/// A log file in use.
struct LogFile {
    slot: u32,
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
    header: FileHeader,
}

/// What a log file turned out to be.
enum Opened {
    InUse(LogFile),
    /// It cannot be said: its first page does not read.
    Unreadable,
    /// Free, removed, or damaged.
    Other,
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("usize fits u64")
}

/// [`PAGE_BYTES`], where offsets are counted.
const PAGE: u64 = 4096;
const _: () = assert!(PAGE_BYTES == 4096);
/// More files than are ever taken into use between two openings.
const SEQUENCES_SKIPPED: u64 = 1 << 32;

pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    node: NodeId,
    options: &StoreOptions,
) -> Result<Recovered, OpenError> {
    let io = |error| OpenError::Io { folder: folder.to_path_buf(), error };
    let names = disk.list_dir(folder).map_err(io)?;
    let files: Vec<FileId> = names.iter().filter_map(|name| parse_name(name)).collect();
    let mut report = OpenReport::default();
    let mut state = State::default();
    let mut logs = Vec::new();
    let mut unreadable = false;
    for file in files {
        match file {
            FileId::Log(slot) => {
                state.slots_end = state.slots_end.max(slot + 1);
                match open_log(disk, folder, slot, options, &mut state, &mut report).map_err(io)? {
                    Opened::InUse(log) => logs.push(log),
                    Opened::Unreadable => unreadable = true,
                    Opened::Other => {}
                }
            }
            FileId::Segment(number) => {
                state.segments_end = state.segments_end.max(number + 1);
                let path = folder.join(file_name(file));
                let file_bytes =
                    disk.open(&path, OpenMode::Existing).and_then(|file| file.len()).map_err(io)?;
                state.segments.insert(number, SegmentUse { file_bytes, end: 0, extents: 0 });
            }
        }
    }
    let has_unknown_header = !report.damaged.is_empty();
    let superblock = identify(disk, folder, node, options, &logs, &mut report)?;
    logs.retain(|log| {
        let ours = (log.header.node, log.header.uuid) == (superblock.node, superblock.uuid);
        if !ours {
            report.damaged.push(LogDamage { file: file_name(FileId::Log(log.slot)), offset: 0 });
        }
        ours
    });
    logs.sort_by_key(|log| log.header.sequence);
    report.log_files = to_u64(logs.len());

    let mut extents = Extents::default();
    let mut log = Log::default();
    let last = logs.last().map(|log| log.slot);
    for file in logs {
        let contents = read_log(&file, Some(file.slot) == last).map_err(io)?;
        unreadable |= contents.unreadable;
        let LogFile { slot, header, file_bytes, .. } = file;
        // A seal alone is written again; groups are not.
        let damaged = contents.damaged.iter().any(|offset| *offset != file_bytes - PAGE);
        for offset in contents.damaged {
            report.damaged.push(LogDamage { file: file_name(FileId::Log(slot)), offset });
        }
        report.records += to_u64(contents.entries.len());
        let used = LogUse::new(header.sequence, header.generation, file_bytes);
        state.logs.insert(slot, LogUse { damaged, ..used });
        state.token = state.token.max(header.token).max(contents.token);
        for entry in &contents.entries {
            replay(&mut state, slot, entry, &mut extents);
        }
        log.sequence = header.sequence;
        let Some(tail) = contents.tail else {
            if let Some(used) = state.logs.get_mut(&slot) {
                used.sealed = true;
            }
            continue;
        };
        report.torn_records += tail.torn_records;
        // What survived in the page cache alone is made durable before anybody is told that it is here.
        file.file.sync_data().map_err(io)?;
        let mut summary = Vec::new();
        contents.entries.iter().for_each(|entry| entry.encode_into(&mut summary));
        let active = ActiveLog {
            slot,
            file: file.file,
            file_bytes,
            generation: header.generation,
            offset: tail.offset,
            groups: tail.groups,
            summary,
        };
        if Some(slot) == last && tail.torn_records == 0 && !contents.unreadable {
            log.active = Some(active);
            continue;
        }
        // Sealed as it is, it never has to be judged again; but not without what may read another time.
        if !contents.unreadable {
            active.seal(state.token).map_err(io)?;
        }
        if let Some(used) = state.logs.get_mut(&slot) {
            used.sealed = true;
        }
    }
    let mut punches = segments::settle(&mut state, &extents, &mut report);
    if unreadable {
        // What did not read may read another time, and name what looks free now.
        punches.clear();
        segments::freeze(&mut state);
    }
    if has_unknown_header {
        // It may turn out to be the latest of all: what is written from now on must still come after it.
        log.sequence += SEQUENCES_SKIPPED;
    }
    remove_short_segments(&**disk, folder, options, &mut state);
    disk.sync_dir(folder).map_err(io)?;
    report.shards = to_u64(state.index.len());
    Ok(Recovered { uuid: superblock.uuid, state, log, punches, report })
}

/// Looks at a log file: free ones become spares, half-made ones are removed.
fn open_log(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    slot: u32,
    options: &StoreOptions,
    state: &mut State,
    report: &mut OpenReport,
) -> io::Result<Opened> {
    let path = folder.join(file_name(FileId::Log(slot)));
    let file = disk.open_direct(&path, OpenMode::Existing)?;
    let file_bytes = file.len()?;
    let mut page = [0; PAGE_BYTES];
    if file_bytes >= PAGE && file.read_exact_at(&mut page, 0).is_err() {
        report.damaged.push(LogDamage { file: file_name(FileId::Log(slot)), offset: 0 });
        return Ok(Opened::Unreadable);
    }
    let header = FileHeader::decode(&page).or_else(|| FileHeader::decode(&page[HEADER_COPY_AT..]));
    match header {
        Some(header) if file_bytes >= 3 * PAGE => {
            return Ok(Opened::InUse(LogFile { slot, file, file_bytes, header }));
        }
        None if page.iter().all(|byte| *byte == 0) => {
            if file_bytes == options.log_bytes {
                state.spares.push(slot);
            } else {
                disk.remove_file(&path)?;
            }
        }
        // Neither free nor readable: kept for whoever wants to look, and never written to.
        _ => report.damaged.push(LogDamage { file: file_name(FileId::Log(slot)), offset: 0 }),
    }
    Ok(Opened::Other)
}

/// Whose folder it is: by its superblock, or by the log if that is lost, or new.
fn identify(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    node: NodeId,
    options: &StoreOptions,
    logs: &[LogFile],
    report: &mut OpenReport,
) -> Result<Superblock, OpenError> {
    let io = |error| OpenError::Io { folder: folder.to_path_buf(), error };
    let found = Superblock::read(&**disk, folder).map_err(io)?;
    let by_log = logs.first().map(|log| Superblock { node: log.header.node, uuid: log.header.uuid });
    let superblock = match (found, by_log) {
        (Some(Ok(superblock)), _) => superblock,
        (Some(Err(error @ SuperblockError::Format { .. })), _) | (Some(Err(error)), None) => {
            return Err(OpenError::Superblock { folder: folder.to_path_buf(), error });
        }
        (None | Some(Err(SuperblockError::Damaged)), Some(superblock)) => {
            if superblock.node == node {
                superblock.write(&**disk, folder).map_err(io)?;
                report.restored_superblock = true;
            }
            superblock
        }
        (None, None) => {
            let (high, low) = ((options.random)(), (options.random)());
            let uuid = DiskUuid((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
            let superblock = Superblock { node, uuid };
            superblock.write(&**disk, folder).map_err(io)?;
            superblock
        }
    };
    if superblock.node != node {
        return Err(OpenError::WrongNode { folder: folder.to_path_buf(), node, found: superblock.node });
    }
    Ok(superblock)
}

/// Removes empty segments that were never completed, or are too short for what new ones take.
fn remove_short_segments(disk: &dyn Disk, folder: &Path, options: &StoreOptions, state: &mut State) {
    let is_short = |used: &SegmentUse| used.extents == 0 && used.file_bytes < options.segment_bytes;
    let short: Vec<u32> =
        state.segments.iter().filter(|(_, used)| is_short(used)).map(|(number, _)| *number).collect();
    for number in short {
        state.segments.remove(&number);
        // One that stays is found again at the next opening.
        let _ = disk.remove_file(&folder.join(file_name(FileId::Segment(number))));
    }
}

fn replay(state: &mut State, slot: u32, entry: &SummaryEntry, extents: &mut Extents) {
    let SummaryEntry { header, offset } = *entry;
    state.count(slot, &header);
    let shard_bytes = header.shard_bytes;
    match header.kind {
        RecordKind::Inline => {
            state.insert(header.id, Location { file: FileId::Log(slot), offset, shard_bytes });
        }
        RecordKind::Extent { segment, page } => {
            extents.note(segment, page, &header);
            // A number is not given again while records name it, even if its file is gone.
            if segment < FILE_NUMBER_MAX {
                state.segments_end = state.segments_end.max(segment + 1);
            }
            state.insert(header.id, Location { file: FileId::Segment(segment), offset: page, shard_bytes });
        }
        RecordKind::Tombstone => {
            state.remove(header.id);
        }
        RecordKind::Fence => {}
    }
}
