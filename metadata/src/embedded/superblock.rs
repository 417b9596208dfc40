//! The superblock of a journal location: who it is, which store it serves, and its latest checkpoint.
//! Format: `docs/formats/journal.md`.
//!
//! Invariant: two slots are written in turn and each is whole or ignored, so a torn write leaves the one
//! before it. Deliberately knows nothing of segments or of what a checkpoint holds.

use std::io;
use std::sync::Arc;

use ashlar_disk::DiskFile;

use super::fields::Fields;
use super::group::{BLOCK_BYTES, ChainHash, JournalPoint, StoreId};
use crate::ordered_kv::Position;

/// Length of the file.
pub(crate) const SUPERBLOCK_FILE_BYTES: u64 = 2 * BLOCK_BYTES as u64;
/// Most locations of one store.
pub(crate) const LOCATIONS_MAX: usize = 32;
const MAGIC: &[u8; 8] = b"ASHLSUP1";

/// Names one location, so that it is known again wherever its disk is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LocationId(pub(crate) [u8; 16]);

/// The latest whole checkpoint of a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointRef {
    /// Everything up to here is in it.
    pub(crate) point: JournalPoint,
    /// BLAKE3 over its content.
    pub(crate) root: [u8; 32],
    /// Length of its file.
    pub(crate) bytes: u64,
}

/// What a location says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) store: StoreId,
    pub(crate) location: LocationId,
    /// Raised by every write; the higher of two valid slots counts.
    pub(crate) generation: u64,
    /// Of the latest opening.
    pub(crate) epoch: u64,
    /// The segment that the latest opening began; it or a later one must exist.
    pub(crate) first_segment: u64,
    /// Every location that takes commits, this one included.
    pub(crate) members: Vec<LocationId>,
    pub(crate) checkpoint: Option<CheckpointRef>,
}

impl Superblock {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.store.0);
        bytes.extend_from_slice(&self.location.0);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.first_segment.to_be_bytes());
        bytes.push(u8::try_from(self.members.len()).expect("at most LOCATIONS_MAX members"));
        for member in &self.members {
            bytes.extend_from_slice(&member.0);
        }
        bytes.push(u8::from(self.checkpoint.is_some()));
        if let Some(CheckpointRef { point, root, bytes: length }) = &self.checkpoint {
            bytes.extend_from_slice(&point.epoch.to_be_bytes());
            bytes.extend_from_slice(&point.sequence.to_be_bytes());
            bytes.extend_from_slice(&point.position.to_be_bytes());
            bytes.extend_from_slice(&point.chain.0);
            bytes.extend_from_slice(root);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
        bytes.resize(BLOCK_BYTES - 4, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    pub(crate) fn parse(slot: &[u8]) -> Option<Self> {
        let (covered, crc) = slot.get(..BLOCK_BYTES)?.split_last_chunk::<4>()?;
        let mut fields = Fields(covered);
        if fields.take(8)? != MAGIC || u32::from_be_bytes(*crc) != crc32fast::hash(covered) {
            return None;
        }
        let (store, location) = (StoreId(fields.array()?), LocationId(fields.array()?));
        let (generation, epoch, first_segment) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let count = usize::from(fields.u8()?);
        if count > LOCATIONS_MAX {
            return None;
        }
        let members = (0..count).map(|_| fields.array().map(LocationId)).collect::<Option<Vec<_>>>()?;
        let checkpoint = match fields.u8()? {
            0 => None,
            1 => Some(parse_checkpoint(&mut fields)?),
            _ => return None,
        };
        Some(Self { store, location, generation, epoch, first_segment, members, checkpoint })
    }

    /// The newer valid slot; `None` when neither is valid.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Option<Self>> {
        let mut newest: Option<Self> = None;
        for slot in 0..2 {
            let mut bytes = vec![0; BLOCK_BYTES];
            match file.read_exact_at(&mut bytes, slot * (SUPERBLOCK_FILE_BYTES / 2)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(error),
            }
            if let Some(found) = Self::parse(&bytes)
                && newest.as_ref().is_none_or(|newest| found.generation > newest.generation)
            {
                newest = Some(found);
            }
        }
        Ok(newest)
    }

    /// Makes this the newest slot, durably. Raises the generation.
    pub(crate) fn write(&mut self, file: &Arc<dyn DiskFile>) -> io::Result<()> {
        self.generation += 1;
        let slot = self.generation % 2;
        file.write_durable_at(&[&self.encode()], slot * (SUPERBLOCK_FILE_BYTES / 2))
    }
}

fn parse_checkpoint(fields: &mut Fields<'_>) -> Option<CheckpointRef> {
    let (epoch, sequence, position) = (fields.u64()?, fields.u64()?, Position(fields.u64()?));
    let point = JournalPoint { epoch, sequence, position, chain: ChainHash(fields.array()?) };
    Some(CheckpointRef { point, root: fields.array()?, bytes: fields.u64()? })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ashlar_disk::{Disk, FaultyDisk, OpenMode};

    use super::*;

    fn sample() -> Superblock {
        let store = StoreId([1; 16]);
        let point = JournalPoint { sequence: 4, ..JournalPoint::genesis(store) };
        Superblock {
            store,
            location: LocationId([2; 16]),
            generation: 0,
            epoch: 3,
            first_segment: 9,
            members: vec![LocationId([2; 16]), LocationId([3; 16])],
            checkpoint: Some(CheckpointRef { point, root: [5; 32], bytes: 77 }),
        }
    }

    #[test]
    fn the_newer_slot_counts_and_a_damaged_one_does_not() {
        let disk = FaultyDisk::default();
        let path = Path::new("superblock");
        let file = disk.open(path, OpenMode::CreateNew).unwrap();
        assert_eq!(Superblock::read(&*file).unwrap(), None);
        let mut block = sample();
        block.write(&file).unwrap();
        let older = block.clone();
        block.checkpoint = None;
        block.write(&file).unwrap();
        assert_eq!(Superblock::read(&*file).unwrap(), Some(block.clone()));
        disk.flip_bit(path, (block.generation % 2) * 4096 * 8 + 1234).unwrap();
        assert_eq!(Superblock::read(&*file).unwrap(), Some(older));
    }

    #[test]
    fn a_full_house_of_locations_fits_a_slot() {
        let mut block = sample();
        block.members = vec![LocationId([9; 16]); LOCATIONS_MAX];
        assert_eq!(Superblock::parse(&block.encode()), Some(block));
    }
}
