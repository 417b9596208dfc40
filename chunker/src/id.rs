//! Assigned identities of sessions, blobs, chunks and shards, with their fixed-width big-endian codecs.
//!
//! Encodings sort as the values do, so a key built from them keeps a blob's chunks and a chunk's shards
//! together and in order. Nothing here is derived from content, and nobody here assigns ids.

use std::fmt;

/// One life of a gateway process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A blob: the `counter`-th that its session began; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId {
    /// The process life that wrote it.
    pub session: SessionId,
    /// Rises by one with every blob of the session.
    pub counter: u64,
}

/// Chunk `index` of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId {
    /// The blob.
    pub blob: BlobId,
    /// Position of the chunk in the blob, from 0.
    pub index: u32,
}

/// Position of a shard in its chunk: data shards are `0..k`, parity shards `k..k + m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u8);

/// One shard of one chunk: what a storage node stores as an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// The chunk.
    pub chunk: ChunkId,
    /// Which of its shards.
    pub shard: ShardIndex,
}

impl SessionId {
    /// Bytes of the encoding.
    pub const BYTES: usize = 8;

    /// Big-endian; sorts as the value does.
    pub const fn encode(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Inverse of [`encode`](Self::encode); every value is valid.
    pub const fn decode(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}

impl BlobId {
    /// Bytes of the encoding.
    pub const BYTES: usize = 16;

    /// Session, then counter, big-endian; sorts as the value does.
    pub fn encode(self) -> [u8; 16] {
        join(self.session.encode(), self.counter.to_be_bytes())
    }

    /// Inverse of [`encode`](Self::encode); every value is valid.
    pub fn decode(bytes: [u8; 16]) -> Self {
        let (session, counter) = split::<16, 8, 8>(bytes);
        Self { session: SessionId::decode(session), counter: u64::from_be_bytes(counter) }
    }

    /// Its chunk at `index`.
    pub const fn chunk(self, index: u32) -> ChunkId {
        ChunkId { blob: self, index }
    }
}

impl ChunkId {
    /// Bytes of the encoding.
    pub const BYTES: usize = 20;

    /// Blob, then index, big-endian; sorts as the value does.
    pub fn encode(self) -> [u8; 20] {
        join(self.blob.encode(), self.index.to_be_bytes())
    }

    /// Inverse of [`encode`](Self::encode); every value is valid.
    pub fn decode(bytes: [u8; 20]) -> Self {
        let (blob, index) = split::<20, 16, 4>(bytes);
        Self { blob: BlobId::decode(blob), index: u32::from_be_bytes(index) }
    }

    /// Its shard at `shard`.
    pub const fn shard(self, shard: ShardIndex) -> ShardId {
        ShardId { chunk: self, shard }
    }
}

impl ShardIndex {
    /// Bytes of the encoding.
    pub const BYTES: usize = 1;

    /// The index as a slice position.
    pub fn position(self) -> usize {
        usize::from(self.0)
    }
}

impl ShardId {
    /// Bytes of the encoding.
    pub const BYTES: usize = 21;

    /// Chunk, then shard index; sorts as the value does.
    pub fn encode(self) -> [u8; 21] {
        join(self.chunk.encode(), [self.shard.0])
    }

    /// Inverse of [`encode`](Self::encode); every value is valid.
    pub fn decode(bytes: [u8; 21]) -> Self {
        let (chunk, [shard]) = split::<21, 20, 1>(bytes);
        Self { chunk: ChunkId::decode(chunk), shard: ShardIndex(shard) }
    }
}

fn join<const A: usize, const B: usize, const N: usize>(a: [u8; A], b: [u8; B]) -> [u8; N] {
    const { assert!(A + B == N) };
    let mut joined = [0; N];
    joined[..A].copy_from_slice(&a);
    joined[A..].copy_from_slice(&b);
    joined
}

fn split<const N: usize, const A: usize, const B: usize>(bytes: [u8; N]) -> ([u8; A], [u8; B]) {
    const { assert!(A + B == N) };
    let (mut a, mut b) = ([0; A], [0; B]);
    a.copy_from_slice(&bytes[..A]);
    b.copy_from_slice(&bytes[A..]);
    (a, b)
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.session, self.counter)
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.blob, self.index)
    }
}

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.chunk, self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shard_id() -> impl Strategy<Value = ShardId> {
        any::<(u64, u64, u32, u8)>().prop_map(|(session, counter, index, shard)| {
            BlobId { session: SessionId(session), counter }.chunk(index).shard(ShardIndex(shard))
        })
    }

    proptest! {
        #[test]
        fn encodings_round_trip_and_sort(a in shard_id(), b in shard_id()) {
            prop_assert_eq!(ShardId::decode(a.encode()), a);
            prop_assert_eq!(ChunkId::decode(a.chunk.encode()), a.chunk);
            prop_assert_eq!(BlobId::decode(a.chunk.blob.encode()), a.chunk.blob);
            prop_assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()));
            let near = ShardId { shard: b.shard, ..a };
            prop_assert_eq!(a.cmp(&near), a.encode().cmp(&near.encode()));
        }
    }

    #[test]
    fn bytes_are_as_documented() {
        let id = BlobId { session: SessionId(1), counter: 0x0203 }.chunk(4).shard(ShardIndex(5));
        let expected = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0, 0, 4, 5];
        assert_eq!(id.encode(), expected);
        assert_eq!(id.to_string(), "1.203/4#5");
    }
}
