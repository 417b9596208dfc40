//! The log as a verifier reads it: headers of batches and leaves of entries (`docs/formats/log.md` §1, §3).
//!
//! Invariant: a [`Header`] has the length, version and inner order that the format demands. Whether it is
//! anchored is decided by `state.rs`.

use crate::digest::keccak;
use crate::hex_bytes::{Address, Hash};

/// Bytes of an encoded header.
pub const HEADER_BYTES: usize = 190;
const VERSION: u16 = 1;
const LEAF: u8 = 0x10;
const HEADER: u8 = 0x11;

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chain with the registry.
    pub chain_id: u64,
    /// The registry's address.
    pub registry: Address,
    /// Whose log.
    pub namespace: Hash,
    /// Number of the batch, from 1.
    pub sequence: u64,
    /// Hash of the header before; zero for the first.
    pub previous_header_hash: Hash,
    /// Commit position of the first entry.
    pub first_position: u64,
    /// Commit position of the last entry.
    pub last_position: u64,
    /// Entries, at least one.
    pub entry_count: u32,
    /// Root over the leaves.
    pub batch_root: Hash,
    /// Which namespace key sealed the records.
    pub key_epoch: u32,
    /// Hash of the encoded header.
    pub hash: Hash,
}

/// The bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Longer or shorter.
    #[error("a header of {length} bytes, {HEADER_BYTES} are needed")]
    Length {
        /// Bytes given.
        length: usize,
    },
    /// Written by another version.
    #[error("header version {version} is not known, only {VERSION} is")]
    Version {
        /// Version found.
        version: u16,
    },
    /// Sequence 0, no entries, or last before first.
    #[error("sequence, positions or count of the header are impossible")]
    Order,
    /// The reserved state root is not zero, or the first batch names one before it.
    #[error("a field of the header that must be zero is not")]
    NotZero,
}

impl Header {
    /// Reads a foreign header.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] =
            bytes.try_into().map_err(|_| HeaderError::Length { length: bytes.len() })?;
        let mut rest = bytes.as_slice();
        let version = u16::from_be_bytes(take(&mut rest));
        if version != VERSION {
            return Err(HeaderError::Version { version });
        }
        let chain_id = u64::from_be_bytes(take(&mut rest));
        let registry = Address::from(take(&mut rest));
        let namespace = Hash::from(take(&mut rest));
        let sequence = u64::from_be_bytes(take(&mut rest));
        let previous_header_hash = Hash::from(take(&mut rest));
        let first_position = u64::from_be_bytes(take(&mut rest));
        let last_position = u64::from_be_bytes(take(&mut rest));
        let entry_count = u32::from_be_bytes(take(&mut rest));
        let batch_root = Hash::from(take(&mut rest));
        let state_root = Hash::from(take(&mut rest));
        let key_epoch = u32::from_be_bytes(take(&mut rest));
        if sequence == 0 || entry_count == 0 || last_position < first_position {
            return Err(HeaderError::Order);
        }
        if !state_root.is_zero() || (sequence == 1 && !previous_header_hash.is_zero()) {
            return Err(HeaderError::NotZero);
        }
        Ok(Self {
            chain_id,
            registry,
            namespace,
            sequence,
            previous_header_hash,
            first_position,
            last_position,
            entry_count,
            batch_root,
            key_epoch,
            hash: keccak(&[&[HEADER], bytes]),
        })
    }
}

/// Where an entry stands in the log of a namespace: by commit, then by number within the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Position of the commit.
    pub position: u64,
    /// Number of the entry in it.
    pub index: u32,
}

/// What commits to a record without showing it.
pub fn record_digest(salt: &Hash, record: &[u8]) -> Hash {
    keccak(&[&salt.0, record])
}

/// The leaf of an entry.
pub fn leaf(chain_id: u64, registry: &Address, namespace: &Hash, place: Place, record: &Hash) -> Hash {
    let (position, index) = (place.position.to_be_bytes(), place.index.to_be_bytes());
    keccak(&[&[LEAF], &chain_id.to_be_bytes(), &registry.0, &namespace.0, &position, &index, &record.0])
}

/// The next `N` bytes of an array whose length is the sum of what is taken.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, after) = rest.split_first_chunk().expect("a header is as long as its fields");
    *rest = after;
    *taken
}
