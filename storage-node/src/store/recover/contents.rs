//! The records of one log file, sealed or not, damaged or not.
//!
//! What cannot be read counts as damaged and hides nothing around it: a file is read page by page where a
//! larger read fails. Whether what was found is the whole truth is for `recover` to say.

use super::super::record::{Generation, GroupHeader, PAGE_BYTES, RecordHeader, Seal, SummaryEntry};
use super::{LogFile, PAGE, to_u64};
use crate::service::FencingToken;
use ashlar_disk::DiskFile;
use std::io;

/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// What was read of a log file.
pub(super) struct Contents {
    pub(super) entries: Vec<SummaryEntry>,
    pub(super) token: FencingToken,
    /// `None` if it is sealed.
    pub(super) tail: Option<Tail>,
    pub(super) damaged: Vec<u64>,
    /// Whether some of it could not be read, rather than read and be wrong.
    pub(super) unreadable: bool,
}

/// Where an unsealed file ends.
pub(super) struct Tail {
    pub(super) offset: u64,
    pub(super) groups: u64,
    pub(super) torn_records: u64,
}

pub(super) fn read_log(log: &LogFile, is_last: bool) -> io::Result<Contents> {
    let mut contents = read(&*log.file, log.file_bytes, log.header.generation)?;
    if let (Some(tail), false) = (&mut contents.tail, is_last) {
        // A later file exists, so this one had been sealed: its seal is damaged, and so is a torn tail.
        contents.damaged.push(if tail.torn_records > 0 { tail.offset } else { log.file_bytes - PAGE });
        tail.torn_records = 0;
    }
    contents.damaged.sort_unstable();
    contents.damaged.dedup();
    Ok(contents)
}

/// All records of a file in use, sealed or not; an error if some cannot be read.
pub(in super::super) fn read_entries(
    file: &dyn DiskFile,
    file_bytes: u64,
    generation: Generation,
) -> io::Result<Vec<SummaryEntry>> {
    let contents = read(file, file_bytes, generation)?;
    if contents.unreadable { Err(io::ErrorKind::InvalidData.into()) } else { Ok(contents.entries) }
}

fn read(file: &dyn DiskFile, file_bytes: u64, generation: Generation) -> io::Result<Contents> {
    if let Some(contents) = read_summary(file, file_bytes, generation) {
        return Ok(contents);
    }
    let (bytes, unreadable) = read_pages(file, file_bytes)?;
    let mut contents = scan(&bytes, generation);
    contents.unreadable = !unreadable.is_empty();
    contents.damaged.extend(unreadable);
    Ok(contents)
}

/// The whole file, with zeroes for the pages that cannot be read, and where each run of those begins.
fn read_pages(file: &dyn DiskFile, file_bytes: u64) -> io::Result<(Vec<u8>, Vec<u64>)> {
    let mut bytes = vec![0; usize::try_from(file_bytes).map_err(|_| io::ErrorKind::InvalidData)?];
    let mut unreadable = Vec::new();
    let mut run_end = None;
    for (window, at) in bytes.chunks_mut(WINDOW_BYTES).zip((0..).step_by(WINDOW_BYTES)) {
        if file.read_exact_at(window, at).is_ok() {
            continue;
        }
        for (page, at) in window.chunks_mut(PAGE_BYTES).zip((at..).step_by(PAGE_BYTES)) {
            if file.read_exact_at(page, at).is_err() {
                page.fill(0);
                if run_end != Some(at) {
                    unreadable.push(at);
                }
                run_end = Some(at + PAGE);
            }
        }
    }
    Ok((bytes, unreadable))
}

/// The records of a sealed file, from its summary; `None` if it has no valid one.
fn read_summary(file: &dyn DiskFile, file_bytes: u64, generation: Generation) -> Option<Contents> {
    let mut page = [0; PAGE_BYTES];
    file.read_exact_at(&mut page, file_bytes - PAGE).ok()?;
    let seal = Seal::decode(&page, generation)?;
    let summary_bytes = seal.summary_bytes();
    let start = (file_bytes - PAGE).checked_sub(summary_bytes.next_multiple_of(PAGE))?;
    let mut summary = vec![0; usize::try_from(summary_bytes).ok()?];
    file.read_exact_at(&mut summary, start).ok()?;
    let entries = seal.decode_summary(&summary, generation)?;
    Some(Contents { entries, token: seal.token, tail: None, damaged: Vec::new(), unreadable: false })
}

/// The records of a whole unsealed file. Used on foreign bytes too.
fn scan(bytes: &[u8], generation: Generation) -> Contents {
    let mut contents = Contents {
        entries: Vec::new(),
        token: FencingToken(0),
        tail: None,
        damaged: Vec::new(),
        unreadable: false,
    };
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

/// For fuzzing: reads a whole log file of this generation; how many records it has.
#[doc(hidden)]
pub fn fuzz_scan(bytes: &[u8], generation: Generation) -> usize {
    scan(bytes, generation).entries.len()
}
