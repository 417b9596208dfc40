//! Entries for fuzzing: foreign bytes through every parser of the journal's files.
//!
//! Invariant: none of these panics, whatever the bytes. Deliberately answers nothing but how far it got, so
//! that a fuzz target can assert what must hold.

use std::path::Path;
use std::sync::Arc;

use ashlar_disk::{Disk, FaultyDisk, OpenMode};
use bytes::Bytes;

use super::checkpoint::{CheckpointReader, checkpoint_name, parse_frame, parse_header};
use super::fields::{len_u32, len_u64};
use super::group::{ChainHash, Group, GroupBuilder, GroupHeader, JournalPoint, StoreId};
use super::segment::{SEGMENT_DATA_OFFSET, SegmentHeader, read_group, scan_segment};
use super::superblock::{CheckpointRef, LocationId, Superblock};
use crate::ordered_kv::Position;
use crate::plan::Change;

const STORE: StoreId = StoreId([0; 16]);

fn disk_with(name: &str, content: &[u8]) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::default());
    let file = disk.open(Path::new(name), OpenMode::CreateNew).expect("an empty disk takes a file");
    file.write_all_at(&[content], 0).expect("and its content");
    disk
}

/// Bytes as a segment, as a segment header and as a superblock; answers the number of valid groups.
pub fn segment(bytes: &[u8]) -> usize {
    let _: Option<SegmentHeader> = SegmentHeader::parse(bytes);
    if let Some(superblock) = Superblock::parse(bytes) {
        assert_eq!(Superblock::parse(&superblock.encode()).as_ref(), Some(&superblock));
    }
    let disk = disk_with("segment", bytes);
    let file = disk.open(Path::new("segment"), OpenMode::Existing).expect("it was just made");
    let header = SegmentHeader { store: STORE, location: LocationId([0; 16]), number: 0, bytes: 0 };
    let found = scan_segment(&*file, &header).expect("memory reads");
    for group in &found {
        assert!(group.offset >= SEGMENT_DATA_OFFSET);
        let read = read_group(&file, group).expect("the scan found it valid");
        let _: Option<Vec<_>> = read.records();
    }
    found.len()
}

/// Bytes as the records of a group whose header and checksum are right, so that only the records are
/// foreign; answers how many were read, which is none unless the chain value fits too.
pub fn records(bytes: &[u8], count: u32, sequence: u64) -> usize {
    let mut header = GroupBuilder::new(&JournalPoint::genesis(STORE), 1).finish().header;
    header.records = count;
    header.after.sequence = sequence.max(1);
    header.after.position = Position(u64::MAX);
    let encoded = header.encode(STORE, 0);
    assert!(GroupHeader::parse(&encoded, STORE, 0).is_some());
    Group { header, body: Bytes::copy_from_slice(bytes) }.records().map_or(0, |records| records.len())
}

/// The changes of one commit: keys, and values unless removed.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Commits of these changes, through the builder and back.
pub fn round_trip(commits: &[Changes]) {
    let mut builder = GroupBuilder::new(&JournalPoint::genesis(STORE), 7);
    let mut expected = Vec::new();
    for (position, changes) in (1..).zip(commits) {
        let change = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| Change {
            key: Bytes::copy_from_slice(key),
            value: value.as_deref().map(Bytes::copy_from_slice),
        };
        let changes: Vec<Change> = changes.iter().map(change).collect();
        builder.push(Position(position), &changes);
        expected.push((Position(position), changes));
    }
    let group = builder.finish();
    let read: Vec<_> = group.records().expect("what was built reads").into_iter().collect();
    let read: Vec<_> = read.into_iter().map(|record| (record.position, record.changes)).collect();
    assert_eq!(read, expected);
}

/// Bytes as a checkpoint, and as the payload of a frame; answers the number of rows read before its end or
/// the first thing wrong.
pub fn checkpoint(bytes: &[u8], rows: u32) -> usize {
    let payload = Bytes::copy_from_slice(bytes);
    if let Some(frame) = parse_frame(&payload, rows) {
        assert!(frame.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
    let _: Option<_> = parse_header(bytes);
    // The same bytes behind a right header, and as a frame whose checksum is right.
    let point = JournalPoint { epoch: 1, sequence: 1, position: Position(1), chain: ChainHash([0; 32]) };
    let expected = CheckpointRef { point, root: [0; 32], bytes: 0 };
    let mut file = super::checkpoint::encode_header(STORE, &point);
    if rows.is_multiple_of(2) {
        file.extend_from_slice(&len_u32(bytes.len()).to_be_bytes());
        file.extend_from_slice(&(rows / 2).to_be_bytes());
        file.extend_from_slice(&crc32fast::hash(bytes).to_be_bytes());
    }
    file.extend_from_slice(bytes);
    let name = checkpoint_name(point.sequence);
    let disk = disk_with(&name.to_string_lossy(), &file);
    let mut reader = CheckpointReader::open(&disk, Path::new(""), STORE, expected)
        .expect("its header is the expected one");
    let mut read = 0;
    while let Ok(Some(frame)) = reader.next_frame() {
        read += frame.len();
        assert!(len_u64(read) <= len_u64(bytes.len()), "a row takes at least a byte");
    }
    read
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>, rows in 0u32..8, sequence: u64) {
            super::segment(&bytes);
            super::records(&bytes, rows, sequence);
            super::checkpoint(&bytes, rows);
        }

        #[test]
        fn groups_round_trip(commits: Vec<super::Changes>) {
            super::round_trip(&commits);
        }
    }
}
