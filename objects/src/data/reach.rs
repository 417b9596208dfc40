//! What the collector may take: the one place that decides it.
//!
//! A shard without a row may go when its blob can never get one: its session is fenced, or its counter is
//! below the oldest that the session had in flight *before* the snapshot in which the row is missing. What
//! has died at a position may go when every reader, of this process and others, and every lease is past it, and
//! its death is published where anything is: or a recovery would find what died and not what took its place.
//! No clock is asked; a lease lapses by its row being removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_chunker::BlobId;
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::sessions::{self, LeaseRow, ProgressRow, SessionRow};
use ashlar_metadata::{Direction, KeyRange, Snapshot};

use super::Inner;
use crate::error::Error;

/// Rows read in one piece.
const SCAN_ROWS: usize = 1000;
const READING: &str = "reading sessions and leases";

/// The bounds of one moment. They stay true for ever, since each only rises.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// What is dead at or below it, nobody reads.
    pub(crate) readers_floor: u64,
    /// Live sessions, and the counter below which each has nothing in flight.
    live: BTreeMap<u64, u64>,
    /// Sessions above are not known yet.
    last_session: u64,
}

impl Reach {
    /// Whether a blob that has no row can never get one.
    pub(crate) fn is_over(&self, blob: BlobId) -> bool {
        blob.session.0 <= self.last_session
            && self.live.get(&blob.session.0).is_none_or(|oldest| blob.counter < *oldest)
    }
}

impl Inner {
    /// The bounds of now, and a snapshot taken after them: a row that is missing in it, or in a later one, of
    /// a blob that [is over](Reach::is_over), is missing for good.
    pub(super) async fn reach(&self) -> Result<(Reach, Arc<dyn Snapshot>), Error> {
        // This process's own bounds come first, then the snapshot: what ends in between only waits.
        let own_oldest = self.session.in_flight_oldest();
        let own_floor = self.readers.floor();
        let published = self.published.as_ref().map_or(u64::MAX, |log| log.covered());
        let snapshot = self.kv.snapshot().await.map_err(|e| Error::internal(READING, e))?;
        let last = snapshot.get(&sessions::last_id_key()).await.map_err(|e| Error::internal(READING, e))?;
        let last = last.and_then(|row| <[u8; 8]>::try_from(&row.value[..]).ok());
        let mut reach = Reach {
            readers_floor: own_floor.min(published),
            live: BTreeMap::new(),
            last_session: last.map_or(0, u64::from_be_bytes),
        };
        let own = self.session.id().0;
        for_each(&*snapshot, KeyRange::prefix(sessions::prefix()), |key, value| {
            if let Some(session) = sessions::parse_key(key) {
                if SessionRow::decode(value).map_err(|e| Error::internal(READING, e))?.live {
                    // Until its progress row says more, everything may be in flight.
                    reach.live.insert(session, 0);
                }
            } else if let Some(session) = progress_session(key)
                && session != own
                && let Some(oldest) = reach.live.get_mut(&session)
            {
                // A session's row sorts right before its progress.
                let progress = ProgressRow::decode(value).map_err(|e| Error::internal(READING, e))?;
                *oldest = progress.oldest_blob_in_flight;
                reach.readers_floor = reach.readers_floor.min(progress.oldest_reader);
            }
            Ok(())
        })
        .await?;
        if let Some(oldest) = reach.live.get_mut(&own) {
            *oldest = own_oldest;
        }
        for_each(&*snapshot, KeyRange::prefix(sessions::leases_prefix()), |_, value| {
            let lease = LeaseRow::decode(value).map_err(|e| Error::internal(READING, e))?;
            reach.readers_floor = reach.readers_floor.min(lease.position);
            Ok(())
        })
        .await?;
        Ok((reach, snapshot))
    }
}

/// The session in a progress row's key.
fn progress_session(key: &[u8]) -> Option<u64> {
    let session = <[u8; 8]>::try_from(key.get(1..9)?).ok().map(u64::from_be_bytes)?;
    (key == &sessions::progress_key(session)[..]).then_some(session)
}

/// Calls `take` with every row of a range.
pub(crate) async fn for_each(
    snapshot: &dyn Snapshot,
    mut range: KeyRange,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let page = snapshot.scan(range.clone(), Direction::Forward, SCAN_ROWS).await;
        let page = page.map_err(|e| Error::internal("scanning metadata", e))?;
        for (key, row) in &page.rows {
            take(key, &row.value)?;
        }
        match page.rows.last() {
            Some((key, _)) if page.more => range = range.after(key),
            _ => return Ok(()),
        }
    }
}
