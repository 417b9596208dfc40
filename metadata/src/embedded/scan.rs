//! What a journal location holds when the store opens, before anything is changed.
//!
//! Invariant: scanning changes no file but the lock and the folder itself, and judges a location by what is
//! in it, never by what another one says. Deliberately decides nothing: `recovery` does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_disk::{DiskFile, DiskLock, OpenMode};

use super::group::{BLOCK_BYTES, StoreId};
use super::location::{FullSegment, JournalLocation, LOCK_NAME, SUPERBLOCK_NAME};
use super::segment::{FoundGroup, SegmentHeader, scan_segment};
use super::superblock::Superblock;

/// How far a location can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It never took part in anything that was acknowledged.
    Fresh,
    /// It says who it is, and its journal is there.
    Whole,
    /// It took part, and something is missing or does not read.
    Damaged(String),
}

/// One location as found.
pub(crate) struct Scan {
    pub(crate) location: JournalLocation,
    pub(crate) lock: Box<dyn DiskLock>,
    pub(crate) condition: Condition,
    pub(crate) superblock: Option<Superblock>,
    pub(crate) segments: Vec<ScannedSegment>,
}

/// A segment with a valid header.
pub(crate) struct ScannedSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: SegmentHeader,
    pub(crate) path: PathBuf,
    pub(crate) groups: Vec<FoundGroup>,
}

impl ScannedSegment {
    /// Of its last group; 0 when it holds none.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.groups.iter().map(|group| group.header.after.sequence).max().unwrap_or(0)
    }
}

impl Scan {
    /// Which store it belongs to, as far as it tells.
    pub(crate) fn store(&self) -> Option<StoreId> {
        let by_segment = || self.segments.first().map(|segment| segment.header.store);
        self.superblock.as_ref().map(|superblock| superblock.store).or_else(by_segment)
    }

    /// Sequences above `base` that are missing between valid groups: (last before, first after). At or below
    /// its base a location may miss anything: segments are given up one by one, and a location that fell
    /// behind was brought up by a base.
    pub(crate) fn holes(&self, base: u64) -> Vec<(u64, u64)> {
        let groups = self.segments.iter().flat_map(|segment| &segment.groups);
        let sequences = groups.map(|group| group.header.after.sequence);
        let mut present: Vec<u64> = sequences.filter(|sequence| *sequence > base).collect();
        present.sort_unstable();
        let pairs = present.windows(2).map(|pair| (pair[0], pair[1]));
        pairs.filter(|(before, after)| after - before > 1).collect()
    }

    /// The number that a new segment gets.
    pub(crate) fn next_segment(&self) -> u64 {
        let last = self.segments.iter().map(|segment| segment.header.number).max();
        let named = self.superblock.as_ref().map(|superblock| superblock.first_segment);
        last.max(named).map_or(1, |number| number + 1)
    }

    /// The segments as a writer keeps them.
    pub(crate) fn full_segments(&self) -> Vec<FullSegment> {
        let full = |segment: &ScannedSegment| FullSegment {
            path: segment.path.clone(),
            number: segment.header.number,
            bytes: segment.header.bytes,
            last_sequence: segment.last_sequence(),
        };
        self.segments.iter().map(full).collect()
    }
}

/// Locks a location, making its folder if need be, and reads everything it holds.
pub(crate) fn scan(location: &JournalLocation) -> io::Result<Scan> {
    let JournalLocation { disk, dir } = location;
    disk.create_dir_all(dir)?;
    let lock = disk.lock(&dir.join(LOCK_NAME))?;
    let path = dir.join(SUPERBLOCK_NAME);
    let has_superblock = disk.exists(&path)?;
    let superblock = match has_superblock {
        true => Superblock::read(&*disk.open(&path, OpenMode::Existing)?)?,
        false => None,
    };
    let mut segments = Vec::new();
    for name in disk.list_dir(dir)? {
        if !name.to_string_lossy().starts_with("segment-") {
            continue;
        }
        let path = dir.join(name);
        let file = disk.open(&path, OpenMode::Existing)?;
        let mut block = vec![0; BLOCK_BYTES];
        let header = file.read_exact_at(&mut block, 0).ok().and_then(|()| SegmentHeader::parse(&block));
        // A recycled file may still carry its old name: its header is what it is.
        let Some(header) = header else { continue };
        if superblock.as_ref().is_some_and(|superblock| superblock.location != header.location) {
            continue;
        }
        let groups = scan_segment(&*file, &header)?;
        segments.push(ScannedSegment { file, header, path, groups });
    }
    segments.sort_by_key(|segment| segment.header.number);
    let condition = judge(has_superblock, superblock.as_ref(), &segments);
    Ok(Scan { location: location.clone(), lock, condition, superblock, segments })
}

fn judge(has_superblock: bool, superblock: Option<&Superblock>, segments: &[ScannedSegment]) -> Condition {
    let records =
        || segments.iter().flat_map(|segment| &segment.groups).any(|group| group.header.records > 0);
    match superblock {
        None if has_superblock => Condition::Damaged("neither slot of its superblock is valid".to_owned()),
        None if records() => Condition::Damaged("its superblock is missing".to_owned()),
        None => Condition::Fresh,
        Some(superblock) => {
            let last = segments.iter().map(|segment| segment.header.number).max().unwrap_or(0);
            if last >= superblock.first_segment {
                Condition::Whole
            } else {
                let first = superblock.first_segment;
                Condition::Damaged(format!("journal segment {first} and all later ones are missing"))
            }
        }
    }
}
