//! The collector of the dead: manifests without references, parts and uploads that never became objects.
//!
//! Order: a dead row's position is below every reader and lease, then the shards are deleted on their nodes,
//! then the rows. So a crash at any point leaves work to be done again, never a row whose shards are gone
//! before nobody can read it. What a node that is down keeps is an orphan, which the sweep takes later.
//! Orphans are `sweep.rs`'s affair.

use std::collections::BTreeMap;

use ashlar_chunker::ShardId;
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{
    self, BlobId, BlobRow, CHUNKS_PER_PAGE, ChunkPage, ChunkRef, DeadRow,
};
use ashlar_metadata::namespace::buckets::BucketId;
use ashlar_metadata::namespace::manifests::{
    self, ManifestId, ManifestRow, ManifestState, PARTS_PER_PAGE, PartsPage,
};
use ashlar_metadata::namespace::uploads::{self, PartRow};
use ashlar_metadata::{Check, Commit, CommitError, Direction, KeyRange, Snapshot, Write};
use ashlar_storage_node::{DELETE_IDS_MAX, DeleteError, FencingToken};
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::timeout;

use super::Inner;
use super::fetch::layout_of;
use super::reach::for_each;
use crate::error::Error;

/// Dead rows read in one piece.
const DEAD_ROWS: usize = 1000;
/// Shards and rows gathered before nodes are asked to delete.
const BATCH_SHARDS: usize = 5_000;
const BATCH_ROWS: usize = 5_000;
const READING: &str = "reading what is dead";

/// What one run of the collector did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// Dead rows finished.
    pub(crate) dead_rows: usize,
    /// Blobs collected.
    pub(crate) blobs: usize,
    /// Dead rows that a reader or lease still holds, as far as looked.
    pub(crate) waiting: usize,
}

/// Deletions gathered for nodes and metadata.
#[derive(Default)]
pub(super) struct Batch {
    shards: BTreeMap<u16, Vec<ShardId>>,
    shard_count: usize,
    rows: Vec<Bytes>,
}

impl Batch {
    pub(super) fn shard(&mut self, node: u16, shard: ShardId) {
        self.shards.entry(node).or_default().push(shard);
        self.shard_count += 1;
    }

    fn is_full(&self) -> bool {
        self.shard_count >= BATCH_SHARDS || self.rows.len() >= BATCH_ROWS
    }
}

impl Inner {
    /// Collects every dead row that nobody can reach any more.
    pub(super) async fn collect_dead(&self) -> Result<Collected, Error> {
        let mut done = Collected::default();
        if !self.has_dead().await? {
            self.counters.gc_dead_rows.set(0);
            return Ok(done);
        }
        let (reach, snapshot) = self.reach().await?;
        let mut range = KeyRange::prefix(blobs::dead_prefix());
        let mut batch = Batch::default();
        'pages: loop {
            let page = snapshot.scan(range.clone(), Direction::Forward, DEAD_ROWS).await;
            let page = page.map_err(|e| Error::internal(READING, e))?;
            for (at, (key, row)) in page.rows.iter().enumerate() {
                let position = blobs::dead_position(key)
                    .ok_or_else(|| Error::internal(READING, "a key does not read"))?;
                if position > reach.readers_floor {
                    // Rows come in the order of their death: all that follow wait, too.
                    done.waiting += page.rows.len() - at;
                    break 'pages;
                }
                let dead = DeadRow::decode(&row.value).map_err(|e| Error::internal(READING, e))?;
                let Some(blobs) = self.collect(&*snapshot, dead, &mut batch).await? else {
                    done.waiting += 1;
                    continue;
                };
                done.blobs += blobs;
                batch.rows.push(key.clone());
                done.dead_rows += 1;
                if batch.is_full() {
                    self.delete(&mut batch).await?;
                }
            }
            match page.rows.last() {
                Some((key, _)) if page.more => range = range.after(key),
                _ => break,
            }
        }
        self.delete(&mut batch).await?;
        self.counters.gc_dead_rows.set(u64::try_from(done.waiting).expect("usize fits u64"));
        Ok(done)
    }

    /// Whether anything waits at all: an idle store is not asked for its bounds all the time.
    async fn has_dead(&self) -> Result<bool, Error> {
        let snapshot = self.kv.snapshot().await.map_err(|e| Error::internal(READING, e))?;
        let page = snapshot.scan(KeyRange::prefix(blobs::dead_prefix()), Direction::Forward, 1).await;
        Ok(!page.map_err(|e| Error::internal(READING, e))?.rows.is_empty())
    }

    /// Gathers what one dead row stands for; answers how many blobs. `None`: it must not be collected.
    async fn collect(
        &self,
        snapshot: &dyn Snapshot,
        dead: DeadRow,
        batch: &mut Batch,
    ) -> Result<Option<usize>, Error> {
        match dead {
            DeadRow::Blob(blob) => self.collect_blob(snapshot, blob, batch).await.map(|()| Some(1)),
            DeadRow::Manifest(manifest) => self.collect_manifest(snapshot, manifest, batch).await,
            DeadRow::Bucket(bucket) => self.end_uploads(bucket).await.map(|()| Some(0)),
            DeadRow::Upload(upload) => {
                let mut parts = Vec::new();
                for_each(snapshot, KeyRange::prefix(uploads::parts_prefix(upload)), |key, value| {
                    let part = PartRow::decode(value).map_err(|e| Error::internal(READING, e))?;
                    parts.push((Bytes::copy_from_slice(key), part.blob));
                    Ok(())
                })
                .await?;
                let blobs = parts.len();
                for (key, blob) in parts {
                    self.collect_blob(snapshot, blob, batch).await?;
                    batch.rows.push(key);
                }
                Ok(Some(blobs))
            }
        }
    }

    /// Ends every upload of a deleted bucket. No new one can begin: that commit checks the bucket's row.
    async fn end_uploads(&self, bucket: BucketId) -> Result<(), Error> {
        loop {
            let snapshot = self.kv.snapshot().await.map_err(|e| Error::internal(READING, e))?;
            let range = KeyRange::prefix(uploads::prefix(bucket, ""));
            let page = snapshot.scan(range, Direction::Forward, DEAD_ROWS).await;
            let page = page.map_err(|e| Error::internal(READING, e))?;
            if page.rows.is_empty() {
                return Ok(());
            }
            let mut commit = Commit { checks: vec![self.session.check()], ..Commit::default() };
            for ((key, row), index) in page.rows.into_iter().zip(0..) {
                let (_, _, upload) = uploads::parse_key(&key)
                    .ok_or_else(|| Error::internal(READING, "an upload's key does not read"))?;
                commit.checks.push(Check::At(key.clone(), row.version));
                commit.writes.push(Write::Delete { key });
                commit.writes.push(Write::PutAtPosition {
                    key_prefix: blobs::dead_prefix(),
                    key_suffix: blobs::dead_suffix(index),
                    value: DeadRow::Upload(upload).encode(),
                });
            }
            match self.kv.commit(commit).await {
                // Lost to a client's own abort, or not known: the next look sees what is left.
                Ok(_) | Err(CommitError::Conflict { check: 1.., .. } | CommitError::Unknown { .. }) => {}
                Err(error) => return Err(Error::internal("ending the uploads of a deleted bucket", error)),
            }
        }
    }

    async fn collect_manifest(
        &self,
        snapshot: &dyn Snapshot,
        manifest: ManifestId,
        batch: &mut Batch,
    ) -> Result<Option<usize>, Error> {
        let key = manifests::key(manifest);
        let Some(row) = snapshot.get(&key).await.map_err(|e| Error::internal(READING, e))? else {
            return Ok(Some(0));
        };
        let row = ManifestRow::decode(&row.value).map_err(|e| Error::internal(READING, e))?;
        if row.state != ManifestState::Dying {
            // Dying is final and only the dying are buried. The row stays where it is, for people to look at.
            tracing::error!(manifest = format!("{:032x}", manifest.0), "ALARM: a manifest was buried alive");
            return Ok(None);
        }
        let mut blobs = row.parts.len();
        for part in &row.parts {
            self.collect_blob(snapshot, part.blob, batch).await?;
        }
        for page in 1..row.part_count.div_ceil(PARTS_PER_PAGE).max(1) {
            let key = manifests::page_key(manifest, page);
            let Some(row) = snapshot.get(&key).await.map_err(|e| Error::internal(READING, e))? else {
                continue;
            };
            let parts = PartsPage::decode(&row.value).map_err(|e| Error::internal(READING, e))?;
            for part in &parts.0 {
                self.collect_blob(snapshot, part.blob, batch).await?;
            }
            blobs += parts.0.len();
            batch.rows.push(key);
        }
        // Last, since it leads to the others: a run that ends before begins anew from it.
        batch.rows.push(key);
        Ok(Some(blobs))
    }

    async fn collect_blob(
        &self,
        snapshot: &dyn Snapshot,
        blob: BlobId,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let key = blobs::key(blob);
        let Some(row) = snapshot.get(&key).await.map_err(|e| Error::internal(READING, e))? else {
            return Ok(());
        };
        let row = BlobRow::decode(&row.value).map_err(|e| Error::internal(READING, e))?;
        self.bury_chunks(blob, 0, &row.chunks, batch).await?;
        for page in 1..row.chunk_count.div_ceil(CHUNKS_PER_PAGE).max(1) {
            let key = blobs::page_key(blob, page);
            let Some(row) = snapshot.get(&key).await.map_err(|e| Error::internal(READING, e))? else {
                continue;
            };
            let chunks = ChunkPage::decode(&row.value).map_err(|e| Error::internal(READING, e))?;
            self.bury_chunks(blob, page, &chunks.0, batch).await?;
            batch.rows.push(key);
            if batch.is_full() {
                self.delete(batch).await?;
            }
        }
        batch.rows.push(key);
        self.counters.gc_collected_blobs.add(1);
        if batch.is_full() {
            self.delete(batch).await?;
        }
        Ok(())
    }

    async fn bury_chunks(
        &self,
        blob: BlobId,
        page: u32,
        chunks: &[ChunkRef],
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let blob = super::chunker_id(blob);
        for (index, at) in (page * CHUNKS_PER_PAGE..).zip(chunks) {
            let chunk = blob.chunk(index);
            let located = self.sink.cluster.locate(chunk, at).await?;
            for (shard, node) in layout_of(at)?.coding().shard_indices().zip(located) {
                if let Some(node) = node {
                    batch.shard(node, chunk.shard(shard));
                }
            }
        }
        Ok(())
    }

    /// Deletes what was gathered: shards first, then rows.
    pub(super) async fn delete(&self, batch: &mut Batch) -> Result<(), Error> {
        let Batch { shards, rows, .. } = std::mem::take(batch);
        if !shards.is_empty() {
            self.confirm_session().await?;
            self.delete_shards(shards, self.sink.token).await?;
        }
        if rows.is_empty() {
            return Ok(());
        }
        let writes = rows.into_iter().map(|key| Write::Delete { key }).collect();
        let commit = Commit { checks: vec![self.session.check()], writes, transaction: None };
        match self.kv.commit(commit).await {
            // Not known: the rows are there still or not, and either way the next run goes on from there.
            Ok(_) | Err(CommitError::Unknown { .. }) => Ok(()),
            Err(error) => Err(Error::internal("removing rows of the dead", error)),
        }
    }

    /// Fails unless metadata takes this session's commits still. A store that stopped may hold commits that no
    /// snapshot shows and the next start will; a session that was fenced no longer knows what is in use.
    async fn confirm_session(&self) -> Result<(), Error> {
        let commit = Commit { checks: vec![self.session.check()], ..Commit::default() };
        let confirmed = self.kv.commit(commit).await.map(|_| ());
        confirmed.map_err(|e| Error::internal("confirming the session before shards are deleted", e))
    }

    /// Deletes shards on their nodes, in parallel. A node that does not answer is left to the sweep; one that
    /// has seen a higher token ends the run.
    pub(super) async fn delete_shards(
        &self,
        shards: BTreeMap<u16, Vec<ShardId>>,
        token: FencingToken,
    ) -> Result<(), Error> {
        let deletes = shards.iter().filter_map(|(node, ids)| {
            let node = self.sink.cluster.nodes.get(*node)?;
            Some(async move {
                for ids in ids.chunks(DELETE_IDS_MAX) {
                    match timeout(self.config.write_timeout, node.service.delete(ids, token)).await {
                        Ok(Ok(())) => node.succeeded(),
                        Ok(Err(error @ DeleteError::StaleToken { .. })) => return Err(error),
                        Ok(Err(error)) => {
                            tracing::debug!(node = node.id, %error, "shards were not deleted; the sweep will find them");
                            node.failed();
                        }
                        Err(_) => node.failed(),
                    }
                }
                Ok(())
            })
        });
        let ended: Result<(), DeleteError> = join_all(deletes).await.into_iter().collect();
        ended.map_err(|e| Error::internal("deleting shards", e))
    }
}
