//! Rows that were restored from elsewhere, held against what nodes really have.
//!
//! Repair moves shards, and a log does not tell. So each chunk's row is given the places where its shards are found
//! now. Invariant: only the silence of nodes that are known to be gone is taken for their having nothing, because a shard
//! that nobody was asked for is not missing. Only for a store in which nothing else runs.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_chunker::{ChunkId, ShardId, ShardIndex};
use ashlar_metadata::namespace::blobs::{BlobId, ChunkRef};
use ashlar_metadata::{Commit, CommitError};

use super::Inner;
use super::sweep::Stretch;
use crate::Store;
use crate::error::Error;

const READING: &str = "comparing restored rows with nodes";

/// What comparing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Chunks looked at.
    pub chunks: u64,
    /// Chunks of which some shard is not where the restored row said.
    pub moved: u64,
    /// Shards that no node has; repair will rebuild them.
    pub missing_shards: u64,
    /// Shards that no restored row speaks of.
    pub unknown_shards: u64,
    /// Blobs of which some chunk has too few shards to be read.
    pub lost: BTreeSet<BlobId>,
}

impl Store {
    /// Gives every chunk the places where nodes have its shards. An error if a node does not answer that is not known to be
    /// `gone`.
    pub async fn adopt_shards(&self, gone: &BTreeSet<u16>) -> Result<Adopted, Error> {
        self.inner.data.inner.adopt_shards(gone).await
    }
}

impl Inner {
    async fn adopt_shards(&self, gone: &BTreeSet<u16>) -> Result<Adopted, Error> {
        let mut adopted = Adopted::default();
        let mut after: Option<BlobId> = None;
        loop {
            let snapshot = self.kv.snapshot().await.map_err(|e| Error::internal(READING, e))?;
            let stretch = self.stretch(&*snapshot, after).await?;
            drop(snapshot);
            let held = self.holders(&stretch, gone).await?;
            let known = held.keys().filter(|shard| stretch.chunks.contains_key(&shard.chunk)).count();
            adopted.unknown_shards += u64::try_from(held.len() - known).unwrap_or(u64::MAX);
            for (chunk, (at, located)) in &stretch.chunks {
                self.adopt_chunk(*chunk, at, located, &held, &mut adopted).await?;
            }
            match stretch.to {
                Some(last) => after = Some(super::row_id(last)),
                None => return Ok(adopted),
            }
        }
    }

    /// Which nodes have each shard of a stretch.
    async fn holders(
        &self,
        stretch: &Stretch,
        gone: &BTreeSet<u16>,
    ) -> Result<BTreeMap<ShardId, Vec<u16>>, Error> {
        let mut holders: BTreeMap<ShardId, Vec<u16>> = BTreeMap::new();
        for node in self.sink.cluster.nodes.all().filter(|node| !gone.contains(&node.id)) {
            let inventory = self.inventory(node, stretch).await;
            let silent = || Error::internal(READING, format!("node {} does not answer", node.id));
            for shard in inventory.ok_or_else(silent)?.into_keys() {
                holders.entry(shard).or_default().push(node.id);
            }
        }
        Ok(holders)
    }

    async fn adopt_chunk(
        &self,
        chunk: ChunkId,
        at: &ChunkRef,
        located: &[Option<u16>],
        held: &BTreeMap<ShardId, Vec<u16>>,
        adopted: &mut Adopted,
    ) -> Result<(), Error> {
        adopted.chunks += 1;
        let mut places = located.to_vec();
        let mut found = 0;
        for (shard, place) in (0..).map(ShardIndex).zip(&mut places) {
            match held.get(&chunk.shard(shard)) {
                Some(holders) => {
                    found += 1;
                    if !place.is_some_and(|place| holders.contains(&place)) {
                        *place = holders.first().copied();
                    }
                }
                None => adopted.missing_shards += 1,
            }
        }
        if found < usize::from(at.k) {
            adopted.lost.insert(super::row_id(chunk.blob));
        }
        if places == located {
            return Ok(());
        }
        adopted.moved += 1;
        let found = self.find_chunk(chunk).await?;
        let found = found.ok_or_else(|| Error::internal(READING, "a chunk's row is gone"))?;
        let moved = self.with_holders(chunk, at.clone(), &places).await?;
        let commit: Commit = found.replace(moved, self.session.check());
        match self.kv.commit(commit).await {
            Ok(_) => Ok(()),
            Err(CommitError::Conflict { .. }) => {
                Err(Error::internal(READING, "somebody else changes the rows"))
            }
            Err(error) => Err(Error::internal(READING, error)),
        }
    }
}
