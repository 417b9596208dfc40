//! Rows in metadata with changes that wait in memory, read as one.
//!
//! A commit a row would be a sync a row. Invariant: what is read is what would be read if every change were committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_metadata::{Commit, Direction, KeyRange, OrderedKv, Write};
use bytes::Bytes;

use super::RESTORING;
use crate::error::Error;

/// Changes, in rows and bytes, that wait at most before they are committed.
const ROWS_MAX: usize = 20_000;
const BYTES_MAX: usize = 8 << 20;
/// Rows that one commit writes.
const STEP: usize = 20_000;
/// Rows read at once.
const SCAN: usize = 2_000;

pub(super) struct Overlay {
    kv: Arc<dyn OrderedKv>,
    changes: BTreeMap<Bytes, Option<Bytes>>,
    bytes: usize,
}

impl Overlay {
    pub(super) fn new(kv: Arc<dyn OrderedKv>) -> Self {
        Self { kv, changes: BTreeMap::new(), bytes: 0 }
    }

    pub(super) fn put(&mut self, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.changes.insert(key, Some(value));
    }

    pub(super) fn delete(&mut self, key: Bytes) {
        self.bytes += key.len();
        self.changes.insert(key, None);
    }

    pub(super) async fn get(&self, key: &Bytes) -> Result<Option<Bytes>, Error> {
        if let Some(changed) = self.changes.get(key) {
            return Ok(changed.clone());
        }
        let row = self.kv.get(key).await.map_err(|e| Error::internal(RESTORING, e))?;
        Ok(row.map(|row| row.value))
    }

    /// All rows whose keys begin so, in order. Only for few.
    pub(super) async fn beginning_with(&self, prefix: Bytes) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let range = KeyRange::prefix(prefix.clone());
        let mut rows: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        let mut rest = range;
        let snapshot = self.kv.snapshot().await.map_err(|e| Error::internal(RESTORING, e))?;
        loop {
            let page = snapshot.scan(rest.clone(), Direction::Forward, SCAN).await;
            let page = page.map_err(|e| Error::internal(RESTORING, e))?;
            let last = page.rows.last().map(|(key, _)| key.clone());
            rows.extend(page.rows.into_iter().map(|(key, row)| (key, row.value)));
            match last {
                Some(last) if page.more => rest = rest.after(&last),
                _ => break,
            }
        }
        let changes = self.changes.range(prefix.clone()..);
        for (key, value) in changes.take_while(|(key, _)| key.starts_with(&prefix)) {
            match value {
                Some(value) => drop(rows.insert(key.clone(), value.clone())),
                None => drop(rows.remove(key)),
            }
        }
        Ok(rows.into_iter().collect())
    }

    pub(super) async fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.changes.len() >= ROWS_MAX || self.bytes >= BYTES_MAX { self.flush().await } else { Ok(()) }
    }

    /// Commits what waits.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        self.bytes = 0;
        let mut changes = std::mem::take(&mut self.changes).into_iter();
        loop {
            let write = |(key, value)| match value {
                Some(value) => Write::Put { key, value },
                None => Write::Delete { key },
            };
            let writes: Vec<Write> = changes.by_ref().take(STEP).map(write).collect();
            if writes.is_empty() {
                return Ok(());
            }
            self.commit(writes).await?;
        }
    }

    /// Commits, with nothing waiting.
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<(), Error> {
        let commit = Commit { checks: Vec::new(), writes, transaction: None };
        self.kv.commit(commit).await.map(drop).map_err(|e| Error::internal(RESTORING, e))
    }

    /// Up to [`SCAN`] rows of a range as they are committed, and where to go on.
    pub(super) async fn page(
        &self,
        range: KeyRange,
    ) -> Result<(Vec<(Bytes, Bytes)>, Option<KeyRange>), Error> {
        let snapshot = self.kv.snapshot().await.map_err(|e| Error::internal(RESTORING, e))?;
        let page = snapshot.scan(range.clone(), Direction::Forward, SCAN).await;
        let page = page.map_err(|e| Error::internal(RESTORING, e))?;
        let next = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
        Ok((page.rows.into_iter().map(|(key, row)| (key, row.value)).collect(), next))
    }
}
