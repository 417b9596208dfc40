//! The superblock: which node, of which format and identity, a folder belongs to.
//!
//! Keeps the invariant that a store never works in a folder of another node. The same identity is in every
//! log file's header, so that a lost superblock can be restored from them.

use crate::service::NodeId;
use ashlar_disk::{Disk, OpenMode};
use std::fmt;
use std::io;
use std::path::Path;

/// File name in the node's folder.
pub(crate) const SUPERBLOCK_FILE: &str = "superblock";
const TEMPORARY_FILE: &str = "superblock.new";
const MAGIC: [u8; 8] = *b"ASHLNODE";
/// The format of everything in the folder; the only one that is read.
pub const STORE_FORMAT: u16 = 1;
const BYTES: usize = 40;

/// Assigned to a folder when it was made; never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiskUuid(pub [u8; 16]);

impl fmt::Debug for DiskUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for DiskUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Whose folder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The node that may use it.
    pub node: NodeId,
    /// Its own identity.
    pub uuid: DiskUuid,
}

/// The bytes are no superblock that this version reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// Too short, another magic, or a wrong check sum.
    #[error("the superblock is damaged")]
    Damaged,
    /// Written by a later version.
    #[error("store format {format} is not known, only {STORE_FORMAT} is")]
    Format {
        /// Format found.
        format: u16,
    },
}

impl Superblock {
    /// Magic 8 ‖ format u16 ‖ reserved u16 ‖ node u32 ‖ uuid 16 ‖ reserved u32 ‖ CRC-32 of all before.
    pub fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&STORE_FORMAT.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.node.0.to_be_bytes());
        bytes[16..32].copy_from_slice(&self.uuid.0);
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Inverse of [`encode`](Self::encode) for bytes found on a disk; what follows them is ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuperblockError> {
        let bytes = bytes.first_chunk::<BYTES>().ok_or(SuperblockError::Damaged)?;
        let (body, crc) = bytes.split_at(BYTES - 4);
        if body[..8] != MAGIC || crc != crc32fast::hash(body).to_be_bytes() {
            return Err(SuperblockError::Damaged);
        }
        let format = u16::from_be_bytes([body[8], body[9]]);
        if format != STORE_FORMAT {
            return Err(SuperblockError::Format { format });
        }
        let node = NodeId(u32::from_be_bytes([body[12], body[13], body[14], body[15]]));
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&body[16..32]);
        Ok(Self { node, uuid: DiskUuid(uuid) })
    }

    /// Reads `folder`'s; `None` if it has none.
    pub(crate) fn read(disk: &dyn Disk, folder: &Path) -> io::Result<Option<Result<Self, SuperblockError>>> {
        let file = match disk.open(&folder.join(SUPERBLOCK_FILE), OpenMode::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = [0; BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Some(Self::decode(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Some(Err(SuperblockError::Damaged)))
            }
            Err(error) => Err(error),
        }
    }

    /// Replaces `folder`'s; atomic, and durable when it returns.
    pub(crate) fn write(&self, disk: &dyn Disk, folder: &Path) -> io::Result<()> {
        let temporary = folder.join(TEMPORARY_FILE);
        let file = disk.open(&temporary, OpenMode::OpenOrCreate)?;
        file.set_len(0)?;
        file.write_durable_at(&[&self.encode()], 0)?;
        disk.rename(&temporary, &folder.join(SUPERBLOCK_FILE))?;
        disk.sync_dir(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Superblock = Superblock { node: NodeId(3), uuid: DiskUuid([7; 16]) };

    #[test]
    fn round_trips_and_notices_every_flipped_bit() {
        let bytes = BLOCK.encode();
        assert_eq!(Superblock::decode(&bytes), Ok(BLOCK));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Superblock::decode(&bytes[..len]), Err(SuperblockError::Damaged));
        }
    }

    #[test]
    fn a_later_format_is_named() {
        let mut bytes = BLOCK.encode();
        bytes[9] = 2;
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Superblock::decode(&bytes), Err(SuperblockError::Format { format: 2 }));
    }
}
