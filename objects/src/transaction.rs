//! One metadata transaction of a use case: what it checks, what it writes, and how it ends.
//!
//! References to manifests are summed here and settled once, so that a transaction which drops and takes
//! the same manifest leaves it alone, and one that drops the last reference buries it in the same commit.
//! An unknown outcome is asked for by transaction id until it is known; it is never guessed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::{self, DeadRow};
use ashlar_metadata::namespace::manifests::{self, ManifestId, ManifestRow, ManifestState};
use ashlar_metadata::namespace::outbox;
use ashlar_metadata::namespace::record::Record;
use ashlar_metadata::{
    Check, Commit, CommitError, OrderedKv, Outcome, Position, ReadError, Snapshot, TransactionId, Write,
};
use bytes::Bytes;

use crate::data::{InFlightGuard, StoredBlob};
use crate::error::Error;

/// Times an operation is tried again after losing a race, before the client is told to.
pub(crate) const ATTEMPTS_MAX: u32 = 100;
/// Times an unknown outcome is asked for before the client is told that it is not known.
const OUTCOME_QUESTIONS_MAX: u32 = 20;

/// A row with the position that wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Versioned<R> {
    pub(crate) row: R,
    pub(crate) version: Position,
}

/// Reads and decodes one row.
pub(crate) async fn read<R: NamespaceRow>(
    snapshot: &dyn Snapshot,
    key: &[u8],
) -> Result<Option<Versioned<R>>, Error> {
    let found = snapshot.get(key).await.map_err(|e| Error::internal("reading metadata", e))?;
    found.map(|row| decode(&row)).transpose()
}

/// Decodes one row.
pub(crate) fn decode<R: NamespaceRow>(row: &ashlar_metadata::Row) -> Result<Versioned<R>, Error> {
    let decoded = R::decode(&row.value).map_err(|e| Error::internal("decoding metadata", e))?;
    Ok(Versioned { row: decoded, version: row.version })
}

struct References {
    row: ManifestRow,
    version: Position,
    delta: i64,
}

/// A transaction being put together. Nothing happens before [`Transaction::commit`].
#[derive(Default)]
pub(crate) struct Transaction {
    checks: Vec<Check>,
    writes: Vec<Write>,
    references: BTreeMap<ManifestId, References>,
    entry_count: u32,
    /// The bytes of the first entry's record, to be promised when they are committed.
    first_record: Option<Bytes>,
    dead_count: u32,
    /// Of the blobs whose rows it writes.
    in_flight: Vec<Arc<InFlightGuard>>,
}

impl Transaction {
    pub(crate) fn check_absent(&mut self, key: Bytes) {
        self.checks.push(Check::Absent(key));
    }

    pub(crate) fn check_at(&mut self, key: Bytes, version: Position) {
        self.checks.push(Check::At(key, version));
    }

    /// The row must be as it was read: absent, or at its version.
    pub(crate) fn check_as_read<R>(&mut self, key: Bytes, read: Option<&Versioned<R>>) {
        match read {
            None => self.check_absent(key),
            Some(found) => self.check_at(key, found.version),
        }
    }

    pub(crate) fn check(&mut self, check: Check) {
        self.checks.push(check);
    }

    /// Makes a stored blob reachable: its rows, while its session may write. Should the outcome never become
    /// known, the blob stays out of the collector's reach.
    pub(crate) fn put_blob(&mut self, blob: &StoredBlob) {
        self.check(blob.session_check.clone());
        self.put(blobs::key(blob.id), &blob.row);
        for (page, number) in blob.further_pages.iter().zip(1_u32..) {
            self.put(blobs::page_key(blob.id, number), page);
        }
        self.in_flight.push(Arc::clone(&blob.in_flight));
    }

    pub(crate) fn put<R: NamespaceRow>(&mut self, key: Bytes, row: &R) {
        self.put_bytes(key, row.encode());
    }

    pub(crate) fn put_bytes(&mut self, key: Bytes, value: Bytes) {
        self.writes.push(Write::Put { key, value });
    }

    pub(crate) fn delete(&mut self, key: Bytes) {
        self.writes.push(Write::Delete { key });
    }

    /// Makes a change an entry of the log, at this commit's position; answers which of its entries it is.
    pub(crate) fn announce(&mut self, record: &Record) -> u32 {
        let index = self.entry_count;
        self.entry_count += 1;
        let value = outbox::encode(record);
        if index == 0 {
            self.first_record = outbox::record_bytes(&value).ok().flatten();
        }
        let (key_prefix, key_suffix) = (outbox::prefix(), outbox::suffix(index));
        self.writes.push(Write::PutAtPosition { key_prefix, key_suffix, value });
        index
    }

    /// The record of entry 0, where anything was announced.
    pub(crate) fn first_record(&self) -> Option<Bytes> {
        self.first_record.clone()
    }

    /// Queues something for GC, dead from this commit's position on.
    pub(crate) fn bury(&mut self, row: DeadRow) {
        let key_suffix = blobs::dead_suffix(self.dead_count);
        self.dead_count += 1;
        self.writes.push(Write::PutAtPosition {
            key_prefix: blobs::dead_prefix(),
            key_suffix,
            value: row.encode(),
        });
    }

    /// Takes one more reference to a manifest. `false`: it is dying or gone and must not be taken.
    pub(crate) async fn take_reference(
        &mut self,
        snapshot: &dyn Snapshot,
        manifest: ManifestId,
    ) -> Result<bool, Error> {
        self.refer(snapshot, manifest, 1).await
    }

    /// Gives one reference to a manifest back.
    pub(crate) async fn drop_reference(
        &mut self,
        snapshot: &dyn Snapshot,
        manifest: ManifestId,
    ) -> Result<(), Error> {
        let live = self.refer(snapshot, manifest, -1).await?;
        if live {
            Ok(())
        } else {
            Err(Error::internal("dropping a reference", "the manifest is dying or gone already"))
        }
    }

    async fn refer(
        &mut self,
        snapshot: &dyn Snapshot,
        manifest: ManifestId,
        delta: i64,
    ) -> Result<bool, Error> {
        if let Some(known) = self.references.get_mut(&manifest) {
            known.delta += delta;
            return Ok(true);
        }
        let Some(found) = read::<ManifestRow>(snapshot, &manifests::key(manifest)).await? else {
            return Ok(false);
        };
        if found.row.state == ManifestState::Dying {
            return Ok(false);
        }
        self.references.insert(manifest, References { row: found.row, version: found.version, delta });
        Ok(true)
    }

    fn settle_references(&mut self) -> Result<(), Error> {
        for (manifest, References { mut row, version, delta }) in std::mem::take(&mut self.references) {
            self.check_at(manifests::key(manifest), version);
            if delta == 0 {
                continue;
            }
            row.references = row.references.checked_add_signed(delta).ok_or_else(|| {
                Error::internal(
                    "counting references",
                    format!("manifest {:032x} would have fewer than none", manifest.0),
                )
            })?;
            if row.references == 0 {
                row.state = ManifestState::Dying;
                self.bury(DeadRow::Manifest(manifest));
            }
            self.put(manifests::key(manifest), &row);
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.references.is_empty()
    }

    /// Commits. `None`: a check did not hold and nothing happened; read again and try again.
    pub(crate) async fn commit(mut self, kv: &Arc<dyn OrderedKv>) -> Result<Option<Position>, Error> {
        self.settle_references()?;
        let in_flight = std::mem::take(&mut self.in_flight);
        in_flight.iter().for_each(|blob| blob.set_undecided(true));
        let decided = self.decide(kv).await;
        if !matches!(decided, Err(Error::OutcomeUnknown)) {
            in_flight.iter().for_each(|blob| blob.set_undecided(false));
        }
        decided
    }

    async fn decide(self, kv: &Arc<dyn OrderedKv>) -> Result<Option<Position>, Error> {
        let id = TransactionId(rand::random());
        let commit = Commit { checks: self.checks, writes: self.writes, transaction: Some(id) };
        match kv.commit(commit).await {
            Ok(position) => Ok(Some(position)),
            Err(CommitError::Conflict { .. }) => Ok(None),
            Err(CommitError::Unknown { cause }) => {
                tracing::warn!(%cause, "a commit's outcome is not known; asking for it");
                outcome(kv, id).await
            }
            Err(CommitError::Poisoned { cause }) => {
                tracing::error!(%cause, "metadata takes no commits");
                Err(Error::SlowDown { what: "metadata takes no writes until it is reopened" })
            }
            Err(error @ (CommitError::Limit(_) | CommitError::Read { .. })) => {
                Err(Error::internal("committing metadata", error))
            }
        }
    }
}

async fn outcome(kv: &Arc<dyn OrderedKv>, id: TransactionId) -> Result<Option<Position>, Error> {
    for question in 0..OUTCOME_QUESTIONS_MAX {
        match kv.outcome(id).await {
            Ok(Outcome::Committed(position)) => return Ok(Some(position)),
            Ok(Outcome::NotCommitted) => return Ok(None),
            // Only the next start will tell.
            Err(ReadError::Poisoned { .. }) => break,
            Err(error) => {
                tracing::warn!(%error, question, "the outcome of a commit is still not known");
                tokio::time::sleep(Duration::from_millis(50 << question.min(6))).await;
            }
        }
    }
    Err(Error::OutcomeUnknown)
}

/// Waits before attempt number `attempt` (0: not at all): random, longer with each loss, at most 50 ms.
pub(crate) async fn back_off(attempt: u32) {
    if attempt > 1 {
        let most = 1_u64 << attempt.min(6);
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..=most * 700))).await;
    }
}
