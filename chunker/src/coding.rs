//! The coding of a chunk (k data shards, m parity shards) and the sizes that every layout is made of.
//!
//! A [`Coding`] is always within limits, so layouts and tables computed from one are bounded.

use crate::id::ShardIndex;
use std::fmt;

/// Bytes of every chunk of a blob but its last, and the most that any chunk has.
pub const CHUNK_BYTES: u32 = 4 << 20;
/// Bytes of a cell in every row but a chunk's last: a row of 4+2 stays within a core's L2 cache.
pub const CELL_BYTES: u32 = 64 << 10;
/// Bytes of a shard under one BLAKE3 leaf, the unit in which reads are checked.
pub const BLOCK_BYTES: u32 = 16 << 10;
/// Granularity of the coder: cells are multiples of it, and coding is position-wise in it.
pub const CODER_BYTES: u32 = 64;
/// Chunks of at most this length are stored as copies (k = 1) and never enter the coder.
///
/// Coding and hashing a chunk costs a core less as copies at every length measured (1+2 against 4+2: 13 and
/// 30 µs at 64 KiB, 28 and 52 at 128 KiB), and copies are half as many extents; but they write twice the
/// bytes. At 64 KiB and 1 GB/s of disk that is 98 µs more, which 17 µs of core and three extents at 27 µs pay;
/// at 128 KiB an extent would have to cost 58 µs.
pub const SMALL_CHUNK_BYTES: u32 = 64 << 10;
// A row of k > 1 that is small is not full, so it is the chunk's only one: its coding is known from it.
const _: () = assert!(SMALL_CHUNK_BYTES < 2 * CELL_BYTES);
/// Most shards (k + m) a chunk can have.
pub const SHARDS_MAX: u8 = 64;

/// k data shards and m parity shards; any k of the k + m give the chunk back.
///
/// With k = 1 all m + 1 shards are equal copies. With m = 0 nothing can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coding {
    k: u8,
    m: u8,
}

/// k and m are outside of what a chunk can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("coding {k}+{m}: k must be at least 1 and k + m at most {SHARDS_MAX}")]
pub struct CodingError {
    /// Data shards asked for.
    pub k: u8,
    /// Parity shards asked for.
    pub m: u8,
}

impl Coding {
    /// `k` data and `m` parity shards; at least one data shard and at most [`SHARDS_MAX`] in all.
    pub const fn new(k: u8, m: u8) -> Result<Self, CodingError> {
        match k.checked_add(m) {
            Some(shards) if k > 0 && shards <= SHARDS_MAX => Ok(Self { k, m }),
            _ => Err(CodingError { k, m }),
        }
    }

    /// Data shards.
    pub const fn k(self) -> u8 {
        self.k
    }

    /// Parity shards: how many may be lost.
    pub const fn m(self) -> u8 {
        self.m
    }

    /// All shards, k + m.
    pub const fn shards(self) -> u8 {
        self.k + self.m
    }

    /// Whether the shards are copies of each other (k = 1).
    pub const fn is_copies(self) -> bool {
        self.k == 1
    }

    /// The coding that a chunk of `chunk_len` bytes gets where this one is preferred: copies with the same
    /// m when it is small, this one otherwise.
    pub const fn for_chunk_len(self, chunk_len: u32) -> Self {
        if chunk_len <= SMALL_CHUNK_BYTES { Self { k: 1, m: self.m } } else { self }
    }

    /// Object bytes of a full row, k cells.
    pub const fn row_bytes(self) -> u32 {
        CELL_BYTES * self.k as u32
    }

    /// Whether the chunk has such a shard.
    pub const fn contains(self, shard: ShardIndex) -> bool {
        shard.0 < self.shards()
    }

    /// Whether `shard` is one of the k data shards. Of copies that is the first, though all hold the same.
    pub const fn is_data(self, shard: ShardIndex) -> bool {
        shard.0 < self.k
    }

    /// Which of a row's k data cells `shard` holds; copies all hold the only one. `None` for parity.
    pub(crate) const fn column(self, shard: ShardIndex) -> Option<u8> {
        match shard.0 {
            index if index < self.k => Some(index),
            index if self.is_copies() && index < self.shards() => Some(0),
            _ => None,
        }
    }

    /// All shards, data first.
    pub fn shard_indices(self) -> impl DoubleEndedIterator<Item = ShardIndex> + ExactSizeIterator {
        (0..self.shards()).map(ShardIndex)
    }

    /// How many leaf tables a commitment stores: equal copies share one.
    pub(crate) const fn tables(self) -> u8 {
        if self.is_copies() { 1 } else { self.shards() }
    }

    /// Which of the stored leaf tables describes `shard`.
    pub(crate) fn table_of(self, shard: ShardIndex) -> usize {
        if self.is_copies() { 0 } else { shard.position() }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.k, self.m)
    }
}

/// A length or offset within a chunk as a slice position.
pub(crate) const fn position(offset: u32) -> usize {
    const { assert!(usize::BITS >= u32::BITS) };
    offset as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!(Coding::new(0, 2), Err(CodingError { k: 0, m: 2 }));
        assert_eq!(Coding::new(63, 2), Err(CodingError { k: 63, m: 2 }));
        assert_eq!(Coding::new(255, 255), Err(CodingError { k: 255, m: 255 }));
        assert_eq!(Coding::new(62, 2).map(Coding::shards), Ok(64));
        assert_eq!(Coding::new(1, 0).map(Coding::tables), Ok(1));
    }

    #[test]
    fn small_chunks_are_copies() {
        let coding = Coding::new(4, 2).unwrap();
        assert_eq!(coding.for_chunk_len(SMALL_CHUNK_BYTES).to_string(), "1+2");
        assert_eq!(coding.for_chunk_len(SMALL_CHUNK_BYTES + 1), coding);
    }
}
