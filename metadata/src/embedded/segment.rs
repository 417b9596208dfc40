//! A journal segment: a preallocated, zero-written file that groups are appended to. Format:
//! `docs/formats/journal.md`.
//!
//! Owns the segment header and the scan that finds every valid group of a file. Invariant: a scan never
//! reports bytes of an earlier life of a recycled file, and never stops at damage: what lies behind it is
//! found too, so that a hole is told from an end. Deliberately knows nothing of which groups belong together.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_disk::DiskFile;
use bytes::Bytes;

use super::fields::{Fields, len_u64};
use super::group::{BLOCK_BYTES, GROUP_HEADER_BYTES, Group, GroupHeader, StoreId};
use super::superblock::LocationId;

/// Where the first group of a segment begins.
pub(crate) const SEGMENT_DATA_OFFSET: u64 = BLOCK_BYTES as u64;
const MAGIC: &[u8; 8] = b"ASHLSEG1";

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: StoreId,
    pub(crate) location: LocationId,
    /// Grows within a location; groups carry it, so those of an earlier life do not count.
    pub(crate) number: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.store.0);
        bytes.extend_from_slice(&self.location.0);
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.bytes.to_be_bytes());
        bytes.resize(BLOCK_BYTES - 4, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        let (covered, crc) = block.get(..BLOCK_BYTES)?.split_last_chunk::<4>()?;
        let mut fields = Fields(covered);
        if fields.take(8)? != MAGIC || u32::from_be_bytes(*crc) != crc32fast::hash(covered) {
            return None;
        }
        let (store, location) = (StoreId(fields.array()?), LocationId(fields.array()?));
        Some(Self { store, location, number: fields.u64()?, bytes: fields.u64()? })
    }
}

/// Name of the file of segment `number`.
pub(crate) fn segment_name(number: u64) -> PathBuf {
    PathBuf::from(format!("segment-{number:016x}"))
}

/// A valid group and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundGroup {
    pub(crate) header: GroupHeader,
    pub(crate) offset: u64,
}

/// Bytes read at once while scanning.
const WINDOW_BYTES: u64 = 1024 * 1024;

/// A file read in large pieces, because a segment is scanned cold.
struct Window<'a> {
    file: &'a dyn DiskFile,
    file_bytes: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The bytes of a range; `None` when it leaves the file or cannot be read.
    fn read(&mut self, offset: u64, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len_u64(len)).filter(|end| *end <= self.file_bytes)?;
        let is_inside = offset >= self.offset && end <= self.offset + len_u64(self.bytes.len());
        if !is_inside {
            let wanted = len_u64(len).max(WINDOW_BYTES).min(self.file_bytes - offset);
            self.offset = offset;
            self.bytes.resize(usize::try_from(wanted).ok()?, 0);
            if self.file.read_exact_at(&mut self.bytes, offset).is_err() {
                // One bad sector must not hide its neighbours.
                self.bytes.truncate(len);
                if self.file.read_exact_at(&mut self.bytes, offset).is_err() {
                    self.bytes.clear();
                    return None;
                }
            }
        }
        let start = usize::try_from(offset - self.offset).ok()?;
        self.bytes.get(start..start + len)
    }
}

/// Finds every valid group of a segment, in file order.
///
/// A block that cannot be read counts as invalid: what it held must come from elsewhere.
pub(crate) fn scan_segment(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<Vec<FoundGroup>> {
    let file_bytes = file.len()?;
    let mut window = Window { file, file_bytes, offset: 0, bytes: Vec::new() };
    let mut found = Vec::new();
    let mut offset = SEGMENT_DATA_OFFSET;
    while offset + len_u64(BLOCK_BYTES) <= file_bytes {
        let block = window.read(offset, BLOCK_BYTES);
        let group = block.and_then(|block| GroupHeader::parse(block, header.store, header.number));
        let group = group.filter(|group| {
            let body = window.read(offset + len_u64(GROUP_HEADER_BYTES), group.body_bytes);
            body.is_some_and(|body| group.matches(body))
        });
        found.extend(group.map(|header| FoundGroup { header, offset }));
        offset += group.map_or(len_u64(BLOCK_BYTES), |group| group.padded_bytes());
    }
    Ok(found)
}

/// Reads a group that a scan found; `None` when it no longer reads as it did.
pub(crate) fn read_group(file: &Arc<dyn DiskFile>, found: &FoundGroup) -> Option<Group> {
    let mut body = vec![0; found.header.body_bytes];
    file.read_exact_at(&mut body, found.offset + len_u64(GROUP_HEADER_BYTES)).ok()?;
    found.header.matches(&body).then(|| Group { header: found.header, body: Bytes::from(body) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ashlar_disk::{Disk, FaultyDisk, OpenMode};

    use super::*;
    use crate::embedded::group::{GroupBuilder, JournalPoint};

    #[test]
    fn a_hole_does_not_hide_what_lies_behind_it_and_an_earlier_life_does_not_count() {
        let store = StoreId([1; 16]);
        let header = SegmentHeader { store, location: LocationId([2; 16]), number: 5, bytes: 1 << 16 };
        let disk = FaultyDisk::default();
        let file = disk.open(Path::new("s"), OpenMode::CreateNew).unwrap();
        file.set_len(header.bytes).unwrap();
        file.write_all_at(&[&header.encode()], 0).unwrap();
        let mut point = JournalPoint::genesis(store);
        for (index, segment) in [5, 5, 5, 4].into_iter().enumerate() {
            let group = GroupBuilder::new(&point, 1).finish();
            let offset = SEGMENT_DATA_OFFSET * (1 + len_u64(index));
            file.write_all_at(&[&group.header.encode(store, segment)], offset).unwrap();
            point = group.header.after;
        }
        let sequences = || -> Vec<u64> {
            let found = scan_segment(&*file, &header).unwrap();
            found.iter().map(|group| group.header.after.sequence).collect()
        };
        assert_eq!(SegmentHeader::parse(&header.encode()), Some(header));
        assert_eq!(sequences(), [1, 2, 3]);
        disk.flip_bit(Path::new("s"), 2 * 4096 * 8 + 300).unwrap();
        assert_eq!(sequences(), [1, 3]);
    }
}
