//! Opening: from the files of a folder to the state that they describe.
//!
//! Only the active file of the log may end in a torn group. Anything invalid before that, and any sealed or
//! superseded file that does not read back, is corruption: it is reported, whatever can be read is kept, and
//! it is never mistaken for the end of the log.

use super::files::{file_name, parse_name};
use super::index::{FileId, Location};
use super::log::{ActiveLog, HEADER_COPY_AT, Log};
use super::record::{
    FileHeader, FooterHeader, Generation, GroupHeader, PAGE_BYTES, RecordHeader, RecordKind, Seal,
    SummaryEntry,
};
use super::space::Punch;
use super::state::{LogUse, SegmentUse, State, page_offset};
use super::superblock::{DiskUuid, Superblock, SuperblockError};
use super::{OpenError, StoreOptions};
use crate::service::{FencingToken, NodeId};
use ashlar_chunker::ShardId;
use ashlar_disk::{Disk, DiskFile, OpenMode};
use std::collections::{BTreeMap, HashMap};
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

/// What was read of a log file.
struct Contents {
    entries: Vec<SummaryEntry>,
    token: FencingToken,
    /// `None` if it is sealed.
    tail: Option<Tail>,
    damaged: Vec<u64>,
}

/// Where an unsealed file ends.
struct Tail {
    offset: u64,
    groups: u64,
    torn_records: u64,
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("usize fits u64")
}

/// [`PAGE_BYTES`], where offsets are counted.
const PAGE: u64 = 4096;
const _: () = assert!(PAGE_BYTES == 4096);

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
    for file in files {
        match file {
            FileId::Log(slot) => {
                state.slots_end = state.slots_end.max(slot + 1);
                logs.extend(open_log(disk, folder, slot, options, &mut state, &mut report).map_err(io)?);
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
        if Some(slot) == last && tail.torn_records == 0 {
            log.active = Some(active);
        } else {
            // Sealed as it is, it never has to be judged again.
            active.seal(state.token).map_err(io)?;
            if let Some(used) = state.logs.get_mut(&slot) {
                used.sealed = true;
            }
        }
    }
    disk.sync_dir(folder).map_err(io)?;
    let punches = settle_segments(&mut state, &extents, &mut report);
    report.shards = to_u64(state.index.len());
    Ok(Recovered { uuid: superblock.uuid, state, log, punches, report })
}

/// A log file that is in use; free ones become spares, half-made ones are removed.
fn open_log(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    slot: u32,
    options: &StoreOptions,
    state: &mut State,
    report: &mut OpenReport,
) -> io::Result<Option<LogFile>> {
    let path = folder.join(file_name(FileId::Log(slot)));
    let file = disk.open_direct(&path, OpenMode::Existing)?;
    let file_bytes = file.len()?;
    let mut page = [0; PAGE_BYTES];
    if file_bytes >= PAGE {
        file.read_exact_at(&mut page, 0)?;
    }
    let header = FileHeader::decode(&page).or_else(|| FileHeader::decode(&page[HEADER_COPY_AT..]));
    match header {
        Some(header) if file_bytes >= 3 * PAGE => {
            return Ok(Some(LogFile { slot, file, file_bytes, header }));
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
    Ok(None)
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

fn read_log(log: &LogFile, is_last: bool) -> io::Result<Contents> {
    if let Some(contents) = read_summary(&*log.file, log.file_bytes, log.header.generation)? {
        return Ok(contents);
    }
    let mut contents = scan(&read_whole(&*log.file, log.file_bytes)?, log.header.generation);
    if let (Some(tail), false) = (&mut contents.tail, is_last) {
        // A later file exists, so this one had been sealed: its seal is damaged, and so is a torn tail.
        contents.damaged.push(if tail.torn_records > 0 { tail.offset } else { log.file_bytes - PAGE });
        tail.torn_records = 0;
    }
    Ok(contents)
}

/// The records of a sealed file, from its summary; `None` if it has no valid one.
fn read_summary(
    file: &dyn DiskFile,
    file_bytes: u64,
    generation: Generation,
) -> io::Result<Option<Contents>> {
    let mut page = [0; PAGE_BYTES];
    file.read_exact_at(&mut page, file_bytes - PAGE)?;
    let Some(seal) = Seal::decode(&page, generation) else { return Ok(None) };
    let summary_bytes = seal.summary_bytes();
    let Some(start) = (file_bytes - PAGE).checked_sub(summary_bytes.next_multiple_of(PAGE)) else {
        return Ok(None);
    };
    let mut summary = vec![0; usize::try_from(summary_bytes).map_err(|_| io::ErrorKind::InvalidData)?];
    file.read_exact_at(&mut summary, start)?;
    let entries = seal.decode_summary(&summary, generation);
    let (token, damaged) = (seal.token, Vec::new());
    Ok(entries.map(|entries| Contents { entries, token, tail: None, damaged }))
}

/// The records of a whole unsealed file. Used on foreign bytes too.
fn scan(bytes: &[u8], generation: Generation) -> Contents {
    let mut contents =
        Contents { entries: Vec::new(), token: FencingToken(0), tail: None, damaged: Vec::new() };
    let mut tail = Tail { offset: PAGE, groups: 0, torn_records: 0 };
    loop {
        let at = usize::try_from(tail.offset).expect("within the file");
        let here = bytes.get(at..).and_then(|rest| GroupHeader::decode(rest, generation));
        let here = here.filter(|group| group.number == tail.groups);
        let Some(group) = here.filter(|group| tail.offset + group.padded_bytes() <= to_u64(bytes.len()))
        else {
            // A later group was written only after this one had been synced.
            match later_group(bytes, at, tail.groups, generation) {
                Some((offset, number)) => {
                    contents.damaged.push(tail.offset);
                    (tail.offset, tail.groups) = (offset, number);
                    continue;
                }
                None => break,
            }
        };
        let invalid = scan_group(bytes, at, &group, generation, &mut contents);
        let end = tail.offset + group.padded_bytes();
        if let Some(offset) = invalid {
            let end_at = usize::try_from(end).expect("within the file");
            if later_group(bytes, end_at, tail.groups + 1, generation).is_some() {
                contents.damaged.push(offset);
            } else {
                tail.torn_records += 1;
            }
        }
        (tail.offset, tail.groups) = (end, tail.groups + 1);
    }
    contents.tail = Some(tail);
    contents
}

/// The first group from `from` on with at least this number, and that number.
fn later_group(bytes: &[u8], from: usize, number_min: u64, generation: Generation) -> Option<(u64, u64)> {
    (from..bytes.len()).step_by(PAGE_BYTES).find_map(|at| {
        let group = GroupHeader::decode(&bytes[at..], generation)?;
        let fits = to_u64(at) + group.padded_bytes() <= to_u64(bytes.len());
        (group.number >= number_min && fits).then(|| (to_u64(at), group.number))
    })
}

/// Takes the valid records of a group; where the first invalid one is.
fn scan_group(
    bytes: &[u8],
    at: usize,
    group: &GroupHeader,
    generation: Generation,
    contents: &mut Contents,
) -> Option<u64> {
    let mut invalid = None;
    let mut offset = at + GroupHeader::BYTES;
    let end = offset + usize::try_from(group.body_bytes).expect("u32 fits usize");
    for _ in 0..group.records {
        let record = &bytes[offset.min(end)..end];
        let Some(header) = RecordHeader::decode_unchecked(record) else {
            return invalid.or(Some(to_u64(offset)));
        };
        if RecordHeader::decode(record, generation) == Some(header) {
            contents.token = contents.token.max(header.token);
            let offset = u32::try_from(offset).expect("log files are far below 4 GiB");
            contents.entries.push(SummaryEntry { header, offset });
        } else {
            invalid = invalid.or(Some(to_u64(offset)));
        }
        offset += RecordHeader::BYTES + usize::try_from(header.body_bytes()).expect("bounded by its limits");
    }
    invalid
}

/// What records say of extents, by place.
#[derive(Default)]
struct Extents {
    records: HashMap<(u32, u32), ExtentRecord>,
    turns: u64,
}

#[derive(Clone, Copy)]
struct ExtentRecord {
    id: ShardId,
    /// All that it takes.
    bytes: u64,
    /// Its turn among the records of extents.
    turn: u64,
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
            let footer = u64::from(header.footer_bytes) + to_u64(FooterHeader::BYTES);
            let bytes = (u64::from(shard_bytes) + footer).next_multiple_of(PAGE);
            extents.turns += 1;
            let record = ExtentRecord { id: header.id, bytes, turn: extents.turns };
            extents.records.insert((segment, page), record);
            state.insert(header.id, Location { file: FileId::Segment(segment), offset: page, shard_bytes });
        }
        RecordKind::Tombstone => {
            state.remove(header.id);
        }
        RecordKind::Fence => {}
    }
}

/// Counts live extents, drops those whose bytes are gone, and finds the gaps between them, which may hold
/// what was never sealed or never punched.
///
/// Where the log lost a tombstone, its shard is back, and its place may have been filled anew: of extents
/// that overlap the one recorded last stays. Deleting the other would punch it.
fn settle_segments(state: &mut State, extents: &Extents, report: &mut OpenReport) -> Vec<Punch> {
    let mut live: BTreeMap<u32, Vec<LiveExtent>> = BTreeMap::new();
    let mut lost = Vec::new();
    for (id, location) in state.index.after(None) {
        let FileId::Segment(segment) = location.file else { continue };
        let start = page_offset(location.offset);
        let record = extents.records.get(&(segment, location.offset)).filter(|record| record.id == id);
        match (record, state.segments.get(&segment)) {
            (Some(record), Some(used)) if start + record.bytes <= used.file_bytes => {
                let end = start + record.bytes;
                live.entry(segment).or_default().push(LiveExtent { start, end, turn: record.turn, id });
            }
            _ => lost.push(id),
        }
    }
    live.values_mut().for_each(|extents| drop_overlapped(extents, &mut lost));
    for id in lost {
        state.remove(id);
        report.lost_shards += 1;
    }
    let mut punches = Vec::new();
    for (segment, ranges) in live {
        let used = state.segments.get_mut(&segment).expect("only known segments hold live extents");
        used.extents = to_u64(ranges.len());
        let mut end = 0;
        for LiveExtent { start, end: next, .. } in ranges {
            if start > end {
                let page = u32::try_from(end / PAGE).expect("pages of a segment fit u32");
                punches.push(Punch { segment, page, bytes: start - end, footer: false });
                // Counted until it is punched, so that the segment is not filled again before.
                used.extents += 1;
            }
            end = end.max(next);
        }
        used.end = end;
    }
    let room = |used: &SegmentUse| used.file_bytes.saturating_sub(used.end);
    let roomy = state.segments.iter().filter(|(_, used)| used.extents > 0 && room(used) > 0);
    state.open_segment = roomy.max_by_key(|(number, used)| (room(used), **number)).map(|(number, _)| *number);
    punches
}

struct LiveExtent {
    start: u64,
    end: u64,
    turn: u64,
    id: ShardId,
}

/// Sorts extents of a segment, and takes out every one that overlaps with a later record's.
fn drop_overlapped(extents: &mut Vec<LiveExtent>, lost: &mut Vec<ShardId>) {
    extents.sort_unstable_by_key(|extent| extent.start);
    let mut kept: Vec<LiveExtent> = Vec::with_capacity(extents.len());
    for extent in extents.drain(..) {
        while let Some(before) = kept.pop_if(|before| before.end > extent.start && before.turn < extent.turn)
        {
            lost.push(before.id);
        }
        match kept.last() {
            Some(before) if before.end > extent.start => lost.push(extent.id),
            _ => kept.push(extent),
        }
    }
    *extents = kept;
}

/// The records of a file in use, sealed or not.
pub(super) fn read_entries(
    file: &dyn DiskFile,
    file_bytes: u64,
    generation: Generation,
) -> io::Result<Vec<SummaryEntry>> {
    if let Some(contents) = read_summary(file, file_bytes, generation)? {
        return Ok(contents.entries);
    }
    Ok(scan(&read_whole(file, file_bytes)?, generation).entries)
}

fn read_whole(file: &dyn DiskFile, file_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file_bytes).map_err(|_| io::ErrorKind::InvalidData)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// For fuzzing: reads a whole log file of this generation; how many records it has.
#[doc(hidden)]
pub fn fuzz_scan(bytes: &[u8], generation: Generation) -> usize {
    scan(bytes, generation).entries.len()
}
