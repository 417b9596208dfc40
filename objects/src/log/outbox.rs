//! The outbox as a publisher meets it: entries in order, and the end of those that it has sealed.
//!
//! Invariant: what was read as coming after a place never gets an entry before it. Reads go as far as one
//! snapshot holds everything, and nothing can appear there later.

use ashlar_metadata::limits::SCAN_ROWS_MAX;
use ashlar_metadata::namespace::outbox;
use ashlar_metadata::{Commit, Direction, KeyRange, Write};
use bytes::Bytes;

use super::LogEntry;
use crate::Store;
use crate::error::Error;

/// Rows that one commit of [`Store::trim_outbox`] deletes: some 70 KiB of keys in the journal.
const TRIM_STEP_ROWS: usize = 5_000;
const READING: &str = "reading the outbox";

/// Everything after a place, or everything.
fn after(place: Option<(u64, u32)>) -> KeyRange {
    let all = KeyRange::prefix(outbox::prefix());
    match place {
        None => all,
        Some((position, index)) => all.after(&outbox::key(position, index)),
    }
}

fn place_of(key: &[u8]) -> Result<(u64, u32), Error> {
    outbox::parse_key(key).ok_or_else(|| Error::internal(READING, "a key does not read"))
}

impl Store {
    /// Up to `limit` entries that come after `place`, in order; from the beginning for `None`. Empty when there
    /// are no more yet. Rows from before there was a log are passed over.
    pub async fn outbox_after(
        &self,
        place: Option<(u64, u32)>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, Error> {
        let snapshot = self.snapshot().await?;
        let stable = snapshot.position().0;
        let mut range = after(place);
        let mut entries = Vec::new();
        while entries.len() < limit {
            let rows = (limit - entries.len()).min(SCAN_ROWS_MAX);
            let page = snapshot.scan(range.clone(), Direction::Forward, rows).await;
            let page = page.map_err(|e| Error::internal(READING, e))?;
            for (key, row) in &page.rows {
                let (position, index) = place_of(key)?;
                if position > stable {
                    return Ok(entries);
                }
                let record = outbox::record_bytes(&row.value).map_err(|e| Error::internal(READING, e))?;
                entries.extend(record.map(|record| LogEntry { position, index, record }));
            }
            match page.rows.last() {
                Some((last, _)) if page.more => range = range.after(last),
                _ => break,
            }
        }
        Ok(entries)
    }

    /// Forgets every entry up to and with this place: it will never be read again. In several commits where
    /// there are many; answers how many rows went. Cancel-safe; what went stays gone.
    pub async fn trim_outbox(&self, up_to: (u64, u32)) -> Result<usize, Error> {
        let mut trimmed = 0;
        loop {
            let snapshot = self.snapshot().await?;
            let page = snapshot.scan(after(None), Direction::Forward, TRIM_STEP_ROWS).await;
            let page = page.map_err(|e| Error::internal(READING, e))?;
            drop(snapshot);
            let mut writes: Vec<Write> = Vec::with_capacity(page.rows.len());
            for (key, _) in &page.rows {
                if place_of(key)? > up_to {
                    break;
                }
                writes.push(Write::Delete { key: key.clone() });
            }
            let (rows, last_step) = (writes.len(), writes.len() < page.rows.len() || !page.more);
            if rows > 0 {
                let commit = Commit { checks: Vec::new(), writes, transaction: None };
                self.inner.kv.commit(commit).await.map_err(|e| Error::internal("trimming the outbox", e))?;
            }
            trimmed += rows;
            if last_step {
                return Ok(trimmed);
            }
        }
    }

    /// The receipt of a commit made earlier, while its outbox row is still there.
    pub(crate) async fn receipt_again(
        &self,
        snapshot: &dyn ashlar_metadata::Snapshot,
        position: u64,
    ) -> Result<Option<std::sync::Arc<str>>, Error> {
        if self.inner.publishing.receipts.is_none() {
            return Ok(None);
        }
        let row = snapshot.get(&outbox::key(position, 0)).await.map_err(|e| Error::internal(READING, e))?;
        let record: Option<Option<Bytes>> = row
            .map(|row| outbox::record_bytes(&row.value))
            .transpose()
            .map_err(|e| Error::internal(READING, e))?;
        Ok(record.flatten().and_then(|record| self.receipt(position, &record)))
    }
}
