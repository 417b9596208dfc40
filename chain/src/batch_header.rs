//! The header of a batch, version 1: what is anchored.
//!
//! ```text
//! version u16 = 1 ‖ chain_id u64 ‖ registry 20 ‖ namespace 32 ‖ sequence u64 ‖ previous_header_hash 32
//! ‖ first_position u64 ‖ last_position u64 ‖ entry_count u32 ‖ batch_root 32 ‖ state_root 32 ‖ key_epoch u32
//! header_hash = keccak(0x11 ‖ header)
//! ```
//!
//! Invariant: what decodes is valid in itself: version 1, sequence at least 1, the first without a previous hash and no
//! other, positions in order, at least one entry, the reserved root zero. Deliberately knows nothing of a log's head.

use alloy_primitives::{Address, B256, keccak256};

/// Bytes of a header.
pub const BATCH_HEADER_BYTES: usize = 190;
const VERSION: u16 = 1;
const HASH_TAG: u8 = 0x11;

/// A batch's header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BatchHeader {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The registry on it.
    pub registry: Address,
    /// The log in the registry.
    pub namespace: B256,
    /// Number in the log, from 1.
    pub sequence: u64,
    /// Header hash of the batch before; zero for the first.
    pub previous_header_hash: B256,
    /// First commit position in it.
    pub first_position: u64,
    /// Last commit position in it.
    pub last_position: u64,
    /// Its entries.
    pub entry_count: u32,
    /// Root over them.
    pub batch_root: B256,
    /// Which of the namespace's keys seals its records.
    pub key_epoch: u32,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchHeaderError {
    /// Not 190 bytes.
    #[error("a batch header has {BATCH_HEADER_BYTES} bytes, not {0}")]
    Length(usize),
    /// Another version.
    #[error("batch header version {0} is unknown")]
    Version(u16),
    /// Sequences begin with 1.
    #[error("sequence 0 does not exist")]
    Sequence,
    /// The first batch has no previous one, every other has.
    #[error("the previous header hash does not fit the sequence")]
    Previous,
    /// First after last.
    #[error("positions are out of order")]
    Positions,
    /// A batch has entries.
    #[error("a batch has at least one entry")]
    Empty,
    /// It is reserved.
    #[error("the state root is reserved and zero")]
    StateRoot,
}

impl BatchHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.chain_id.to_be_bytes());
        bytes.extend_from_slice(self.registry.as_slice());
        bytes.extend_from_slice(self.namespace.as_slice());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(self.previous_header_hash.as_slice());
        bytes.extend_from_slice(&self.first_position.to_be_bytes());
        bytes.extend_from_slice(&self.last_position.to_be_bytes());
        bytes.extend_from_slice(&self.entry_count.to_be_bytes());
        bytes.extend_from_slice(self.batch_root.as_slice());
        bytes.extend_from_slice(B256::ZERO.as_slice());
        bytes.extend_from_slice(&self.key_epoch.to_be_bytes());
        bytes.try_into().expect("the fields have 190 bytes")
    }

    /// What the registry keeps of it.
    pub fn hash(&self) -> B256 {
        hash_bytes(&self.encode())
    }

    /// The header that these bytes are, if it is valid in itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchHeaderError> {
        let bytes: &[u8; BATCH_HEADER_BYTES] =
            bytes.try_into().map_err(|_| BatchHeaderError::Length(bytes.len()))?;
        let mut rest = bytes.as_slice();
        let version = u16::from_be_bytes(take(&mut rest));
        if version != VERSION {
            return Err(BatchHeaderError::Version(version));
        }
        let header = Self {
            chain_id: u64::from_be_bytes(take(&mut rest)),
            registry: Address::from(take(&mut rest)),
            namespace: B256::from(take(&mut rest)),
            sequence: u64::from_be_bytes(take(&mut rest)),
            previous_header_hash: B256::from(take(&mut rest)),
            first_position: u64::from_be_bytes(take(&mut rest)),
            last_position: u64::from_be_bytes(take(&mut rest)),
            entry_count: u32::from_be_bytes(take(&mut rest)),
            batch_root: B256::from(take(&mut rest)),
            key_epoch: u32::from_be_bytes(bytes[186..].try_into().expect("four bytes are left")),
        };
        if B256::from(take(&mut rest)) != B256::ZERO {
            return Err(BatchHeaderError::StateRoot);
        }
        header.check().map(|()| header)
    }

    /// Whether it is valid in itself.
    pub fn check(&self) -> Result<(), BatchHeaderError> {
        if self.sequence == 0 {
            return Err(BatchHeaderError::Sequence);
        }
        if (self.sequence == 1) != self.previous_header_hash.is_zero() {
            return Err(BatchHeaderError::Previous);
        }
        if self.first_position > self.last_position {
            return Err(BatchHeaderError::Positions);
        }
        if self.entry_count == 0 {
            return Err(BatchHeaderError::Empty);
        }
        Ok(())
    }
}

fn hash_bytes(header: &[u8; BATCH_HEADER_BYTES]) -> B256 {
    keccak256([&[HASH_TAG], header.as_slice()].concat())
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (field, more) = rest.split_first_chunk().expect("the length was checked");
    *rest = more;
    *field
}

/// Where the registry keeps the hash of a batch's header: slot 0 maps namespaces to sequences to hashes.
pub fn header_hash_slot(namespace: B256, sequence: u64) -> B256 {
    let of_namespace = keccak256([namespace.as_slice(), B256::ZERO.as_slice()].concat());
    let mut key = [0; 64];
    key[24..32].copy_from_slice(&sequence.to_be_bytes());
    key[32..].copy_from_slice(of_namespace.as_slice());
    keccak256(key)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn headers() -> impl Strategy<Value = BatchHeader> {
        let hash = || any::<[u8; 32]>().prop_map(B256::from);
        let numbers = (any::<u64>(), 1..u64::MAX, any::<u64>(), any::<u64>(), 1..u32::MAX, any::<u32>());
        (any::<[u8; 20]>(), hash(), hash(), hash(), numbers).prop_map(
            |(
                registry,
                namespace,
                previous,
                batch_root,
                (chain_id, sequence, one, other, entry_count, key_epoch),
            )| {
                BatchHeader {
                    chain_id,
                    registry: registry.into(),
                    namespace,
                    sequence,
                    previous_header_hash: if sequence == 1 { B256::ZERO } else { previous },
                    first_position: one.min(other),
                    last_position: one.max(other),
                    entry_count,
                    batch_root,
                    key_epoch,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(header in headers(), length in 0usize..400) {
            let bytes = header.encode();
            prop_assert_eq!(BatchHeader::decode(&bytes), Ok(header));
            if length != BATCH_HEADER_BYTES {
                prop_assert_eq!(BatchHeader::decode(&vec![0; length]), Err(BatchHeaderError::Length(length)));
            }
        }
    }

    #[test]
    fn each_rule_is_held() {
        let good = BatchHeader {
            chain_id: 1,
            registry: Address::ZERO,
            namespace: B256::ZERO,
            sequence: 2,
            previous_header_hash: B256::repeat_byte(1),
            first_position: 5,
            last_position: 5,
            entry_count: 1,
            batch_root: B256::ZERO,
            key_epoch: 0,
        };
        assert_eq!(good.check(), Ok(()));
        let with = |change: fn(&mut BatchHeader)| {
            let mut bad = good.clone();
            change(&mut bad);
            BatchHeader::decode(&bad.encode()).unwrap_err()
        };
        assert_eq!(with(|bad| bad.sequence = 0), BatchHeaderError::Sequence);
        assert_eq!(with(|bad| bad.sequence = 1), BatchHeaderError::Previous);
        assert_eq!(with(|bad| bad.previous_header_hash = B256::ZERO), BatchHeaderError::Previous);
        assert_eq!(with(|bad| bad.first_position = 6), BatchHeaderError::Positions);
        assert_eq!(with(|bad| bad.entry_count = 0), BatchHeaderError::Empty);
        let mut bytes = good.encode();
        bytes[1] = 2;
        assert_eq!(BatchHeader::decode(&bytes), Err(BatchHeaderError::Version(2)));
        let mut bytes = good.encode();
        bytes[170] = 1;
        assert_eq!(BatchHeader::decode(&bytes), Err(BatchHeaderError::StateRoot));
    }
}
