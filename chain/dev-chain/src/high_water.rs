//! The high water: the newest block that the chain ever announced, in a file outside of its database.
//!
//! Invariant: a block is announced only after its record here is synced, so a database that ends before it was
//! rolled back or replaced, and the chain refuses to start from it. Two slots take turns, so that a torn write loses
//! the new record only, never the one before. Deliberately knows nothing of blocks beyond number and hash.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::B256;
use ashlar_disk::{Disk, DiskFile, OpenMode};

/// Slots lie apart by more than what one torn write of a device spoils.
const SLOT_BYTES: u64 = 4096;
const MAGIC: [u8; 8] = *b"ASHLHWM1";
/// magic 8 ‖ number u64 ‖ hash 32 ‖ crc32 u32
const RECORD_BYTES: usize = 52;

/// A block that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HighWater {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// Why the record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HighWaterError {
    /// The file system refused.
    #[error("high-water file {path}: {source}")]
    Io {
        /// Where it lies.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
    /// The file is there, but neither slot holds a record.
    #[error("high-water file {path} holds no valid record")]
    Damaged {
        /// Where it lies.
        path: PathBuf,
    },
}

/// The open file.
pub(crate) struct HighWaterFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    last: Option<HighWater>,
}

impl HighWaterFile {
    /// Opens the file, made if missing, and reads the newest record, if there is one.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, HighWaterError> {
        let failed = |source| HighWaterError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            disk.create_dir_all(parent).map_err(failed)?;
        }
        let file = disk.open(path, OpenMode::OpenOrCreate).map_err(failed)?;
        if let Some(parent) = path.parent() {
            disk.sync_dir(parent).map_err(failed)?;
        }
        let bytes = file.len().map_err(failed)?;
        let mut last: Option<HighWater> = None;
        let mut seen_bytes = false;
        for slot in 0..2 {
            let mut record = [0; RECORD_BYTES];
            let begin = slot * SLOT_BYTES;
            if bytes < begin + RECORD_BYTES as u64 {
                continue;
            }
            file.read_exact_at(&mut record, begin).map_err(failed)?;
            seen_bytes |= record != [0; RECORD_BYTES];
            if let Some(found) = decode(&record)
                && last.is_none_or(|last| last.number < found.number)
            {
                last = Some(found);
            }
        }
        // The very first record may be torn, and then nothing was announced yet; it is of block zero, in slot zero,
        // so slot one is still empty.
        if last.is_none() && seen_bytes && bytes > SLOT_BYTES {
            return Err(HighWaterError::Damaged { path: path.to_owned() });
        }
        Ok(Self { file, path: path.to_owned(), last })
    }

    /// The newest record.
    pub(crate) fn last(&self) -> Option<HighWater> {
        self.last
    }

    /// Makes `head` the newest record; it is durable when this returns.
    pub(crate) fn raise(&mut self, head: HighWater) -> Result<(), HighWaterError> {
        assert!(
            self.last.is_none_or(|last| last.number < head.number || last == head),
            "the high water {:?} never falls, to {head:?}",
            self.last
        );
        let slot = head.number % 2;
        self.file
            .write_durable_at(&[&encode(head)], slot * SLOT_BYTES)
            .map_err(|source| HighWaterError::Io { path: self.path.clone(), source })?;
        self.last = Some(head);
        Ok(())
    }
}

fn encode(head: HighWater) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&MAGIC);
    record[8..16].copy_from_slice(&head.number.to_be_bytes());
    record[16..48].copy_from_slice(head.hash.as_slice());
    let crc = crc32fast::hash(&record[..48]);
    record[48..].copy_from_slice(&crc.to_be_bytes());
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<HighWater> {
    let (body, crc) = record.split_at(48);
    if body[..8] != MAGIC || crc32fast::hash(body).to_be_bytes() != crc {
        return None;
    }
    let number = u64::from_be_bytes(body[8..16].try_into().expect("eight bytes were cut"));
    Some(HighWater { number, hash: B256::from_slice(&body[16..48]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_disk::RealDisk;

    fn at(number: u64) -> HighWater {
        HighWater { number, hash: B256::repeat_byte(u8::try_from(number % 251).unwrap()) }
    }

    #[test]
    fn the_newest_record_is_found_and_a_torn_one_falls_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("high-water");
        let disk = RealDisk::new();
        let mut file = HighWaterFile::open(&disk, &path).unwrap();
        assert_eq!(file.last(), None);
        for number in 0..5 {
            file.raise(at(number)).unwrap();
            assert_eq!(HighWaterFile::open(&disk, &path).unwrap().last(), Some(at(number)));
        }
        file.file.write_all_at(&[&[9; 20]], 0).unwrap();
        assert_eq!(HighWaterFile::open(&disk, &path).unwrap().last(), Some(at(3)));
        file.file.write_all_at(&[&[9; 20]], SLOT_BYTES).unwrap();
        assert!(matches!(HighWaterFile::open(&disk, &path), Err(HighWaterError::Damaged { .. })));
    }

    #[test]
    #[should_panic(expected = "never falls")]
    fn it_never_falls() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = HighWaterFile::open(&RealDisk::new(), &folder.path().join("high-water")).unwrap();
        file.raise(at(3)).unwrap();
        file.raise(at(2)).unwrap();
    }
}
