//! Checked commitments of chunks read lately, bounded in bytes.
//!
//! Two generations: what is asked for moves to the young one, and when that is full the old one is dropped.
//! Only commitments that match the root metadata names are put in; a root is never trusted from here.

use std::collections::HashMap;

use ashlar_chunker::{ChunkCommitment, ChunkId, ChunkRoot};
use parking_lot::Mutex;

/// What an entry costs beside its encoding.
const ENTRY_BYTES: usize = 160;

pub(crate) struct CommitmentCache {
    generations: Mutex<Generations>,
    generation_bytes_max: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<ChunkId, ChunkCommitment>,
    young_bytes: usize,
    old: HashMap<ChunkId, ChunkCommitment>,
    old_bytes: usize,
}

impl CommitmentCache {
    /// Keeps at most `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { generations: Mutex::default(), generation_bytes_max: bytes / 2 }
    }

    /// The commitment of a chunk, if it is the one of `root`.
    pub(crate) fn get(&self, chunk: ChunkId, root: &ChunkRoot) -> Option<ChunkCommitment> {
        let mut generations = self.generations.lock();
        if let Some(found) = generations.young.get(&chunk) {
            return (found.root() == *root).then(|| found.clone());
        }
        let found = generations.old.remove(&chunk)?;
        let cost = cost(&found);
        generations.old_bytes -= cost;
        if found.root() != *root {
            return None;
        }
        self.put_young(&mut generations, chunk, found.clone(), cost);
        Some(found)
    }

    /// Keeps a commitment; a later one of the same chunk takes its place.
    pub(crate) fn put(&self, chunk: ChunkId, commitment: ChunkCommitment) {
        let cost = cost(&commitment);
        self.put_young(&mut self.generations.lock(), chunk, commitment, cost);
    }

    fn put_young(
        &self,
        generations: &mut Generations,
        chunk: ChunkId,
        commitment: ChunkCommitment,
        cost: usize,
    ) {
        if cost > self.generation_bytes_max {
            return;
        }
        if generations.young_bytes + cost > self.generation_bytes_max {
            generations.old = std::mem::take(&mut generations.young);
            generations.old_bytes = std::mem::take(&mut generations.young_bytes);
        }
        generations.young_bytes += cost;
        if let Some(replaced) = generations.young.insert(chunk, commitment) {
            generations.young_bytes -= self::cost(&replaced);
        }
    }

    /// Bytes kept now.
    pub(crate) fn bytes(&self) -> usize {
        let generations = self.generations.lock();
        generations.young_bytes + generations.old_bytes
    }
}

fn cost(commitment: &ChunkCommitment) -> usize {
    commitment.encode().len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_chunker::{BlobId, Coding, SessionId, encode_chunk};
    use bytes::Bytes;

    fn commitment(seed: u8) -> ChunkCommitment {
        encode_chunk(Coding::new(4, 2).unwrap(), Bytes::from(vec![seed; 100])).unwrap().commitment
    }

    fn chunk(counter: u64) -> ChunkId {
        BlobId { session: SessionId(1), counter }.chunk(0)
    }

    #[test]
    fn bytes_stay_bounded_and_used_entries_stay() {
        let cache = CommitmentCache::new(10_000);
        let kept = commitment(1);
        cache.put(chunk(0), kept.clone());
        for counter in 1..1000 {
            cache.put(chunk(counter), commitment(2));
            assert!(cache.bytes() <= 10_000);
            assert_eq!(cache.get(chunk(0), &kept.root()), Some(kept.clone()));
        }
        assert_eq!(cache.get(chunk(1), &commitment(2).root()), None);
    }

    #[test]
    fn another_root_is_not_answered() {
        let cache = CommitmentCache::new(10_000);
        cache.put(chunk(0), commitment(1));
        assert_eq!(cache.get(chunk(0), &commitment(2).root()), None);
    }
}
