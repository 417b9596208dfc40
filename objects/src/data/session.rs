//! This process life: its session id, the blobs it has in flight, and what it publishes of them.
//!
//! Invariant: a blob's counter is in the open set from before its first shard until its guard is dropped,
//! which the writer does after the blob's commit is decided; where that never becomes known the counter stays
//! for good. So a blob below [`Session::in_flight_oldest`] either has its row already or never will.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ashlar_chunker::{BlobId, SessionId};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::sessions::{self, ProgressRow, SessionRow};
use ashlar_metadata::{Check, Commit, CommitError, Direction, KeyRange, OrderedKv, Position, Write};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::error::Error;

/// Sessions read in one piece when others are fenced.
const SESSIONS_SCAN: usize = 1000;
/// Times a session id is asked for while others ask too.
const OPEN_ATTEMPTS: usize = 100;

pub(crate) struct Session {
    id: SessionId,
    row_version: Position,
    in_flight: Mutex<InFlight>,
    fenced: AtomicBool,
}

#[derive(Default)]
struct InFlight {
    next: u64,
    open: BTreeSet<u64>,
}

/// Keeps a blob out of the collector's reach. Drop it when the commit that names the blob has been decided:
/// committed, refused, or resolved after an unknown outcome.
pub(crate) struct InFlightGuard {
    session: Arc<Session>,
    counter: u64,
    /// A commit that names the blob was sent, and what became of it is not known.
    undecided: AtomicBool,
}

impl InFlightGuard {
    /// The blob it keeps.
    pub(crate) fn blob(&self) -> BlobId {
        BlobId { session: self.session.id, counter: self.counter }
    }

    /// Say `true` before a commit that names the blob is sent and `false` when its outcome is known. A guard
    /// dropped in between keeps its blob for the life of the process: the journal may hold the commit, and the
    /// next start would then find the blob's row.
    pub(crate) fn set_undecided(&self, undecided: bool) {
        self.undecided.store(undecided, Ordering::Relaxed);
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if *self.undecided.get_mut() {
            tracing::warn!(blob = %self.blob(), "the outcome of a blob's commit is not known; its shards are kept");
            return;
        }
        self.session.in_flight.lock().open.remove(&self.counter);
    }
}

impl Session {
    /// Takes a new session id, higher than `above`. With `fence_others` every earlier session is ended in the same commit: only
    /// for a process that knows itself to be the only one.
    pub(crate) async fn open(
        kv: &dyn OrderedKv,
        clock: &Clock,
        fence_others: bool,
        above: u64,
    ) -> Result<Arc<Self>, Error> {
        for _ in 0..OPEN_ATTEMPTS {
            let (id, commit) = opening(kv, clock, fence_others, above).await?;
            match kv.commit(commit).await {
                Ok(row_version) => {
                    return Ok(Arc::new(Self {
                        id,
                        row_version,
                        in_flight: Mutex::default(),
                        fenced: AtomicBool::new(false),
                    }));
                }
                // An unknown outcome may leave an unused session behind; the next attempt takes another id.
                Err(CommitError::Conflict { .. } | CommitError::Unknown { .. }) => {}
                Err(error) => return Err(Error::internal("opening a session", error)),
            }
        }
        Err(Error::SlowDown { what: "sessions are being opened by many processes" })
    }

    /// The session's number.
    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    /// Holds while the session may write: belongs into every commit that makes shards reachable.
    pub(crate) fn check(&self) -> Check {
        Check::At(self.row_key(), self.row_version)
    }

    fn row_key(&self) -> Bytes {
        sessions::key(self.id.0)
    }

    /// Whether somebody has ended this session.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Assigns the next blob id.
    pub(crate) fn begin_blob(self: &Arc<Self>) -> InFlightGuard {
        let mut in_flight = self.in_flight.lock();
        let counter = in_flight.next;
        in_flight.next += 1;
        in_flight.open.insert(counter);
        InFlightGuard { session: Arc::clone(self), counter, undecided: AtomicBool::new(false) }
    }

    /// Counter below which no blob of this session is in flight any more.
    pub(crate) fn in_flight_oldest(&self) -> u64 {
        let in_flight = self.in_flight.lock();
        in_flight.open.first().copied().unwrap_or(in_flight.next)
    }

    /// Blobs in flight now.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.lock().open.len()
    }

    /// Publishes progress for collectors in other processes. Learns here that the session was fenced.
    pub(crate) async fn publish(&self, kv: &dyn OrderedKv, oldest_reader: u64) -> Result<(), Error> {
        let row = ProgressRow { oldest_blob_in_flight: self.in_flight_oldest(), oldest_reader };
        let write = Write::Put { key: sessions::progress_key(self.id.0), value: row.encode() };
        let commit = Commit { checks: vec![self.check()], writes: vec![write], transaction: None };
        match kv.commit(commit).await {
            // An unknown outcome leaves an older or the new progress: both are true.
            Ok(_) | Err(CommitError::Unknown { .. }) => Ok(()),
            Err(CommitError::Conflict { .. }) => {
                self.fenced.store(true, Ordering::Relaxed);
                tracing::error!(session = %self.id, "the session was fenced by another process; it writes no more");
                Ok(())
            }
            Err(error) => Err(Error::internal("publishing the session's progress", error)),
        }
    }
}

async fn opening(
    kv: &dyn OrderedKv,
    clock: &Clock,
    fence_others: bool,
    above: u64,
) -> Result<(SessionId, Commit), Error> {
    const READING: &str = "reading sessions";
    let snapshot = kv.snapshot().await.map_err(|e| Error::internal(READING, e))?;
    let last_key = sessions::last_id_key();
    let last = snapshot.get(&last_key).await.map_err(|e| Error::internal(READING, e))?;
    let mut commit = Commit::default();
    let last_id = match &last {
        None => {
            commit.checks.push(Check::Absent(last_key.clone()));
            0
        }
        Some(row) => {
            commit.checks.push(Check::At(last_key.clone(), row.version));
            let bytes = <[u8; 8]>::try_from(&row.value[..]).map_err(|e| Error::internal(READING, e))?;
            u64::from_be_bytes(bytes)
        }
    };
    let next = last_id.max(above).checked_add(1);
    let id = SessionId(next.ok_or_else(|| Error::internal(READING, "no session id is left"))?);
    let mut put = |key, value| commit.writes.push(Write::Put { key, value });
    put(last_key, Bytes::copy_from_slice(&id.0.to_be_bytes()));
    put(sessions::key(id.0), SessionRow { live: true, started: clock.now() }.encode());
    let progress = ProgressRow { oldest_blob_in_flight: 0, oldest_reader: 0 };
    put(sessions::progress_key(id.0), progress.encode());
    if fence_others {
        let mut range = KeyRange::prefix(sessions::prefix());
        loop {
            let page = snapshot.scan(range.clone(), Direction::Forward, SESSIONS_SCAN).await;
            let page = page.map_err(|e| Error::internal(READING, e))?;
            for (key, found) in &page.rows {
                if sessions::parse_key(key).is_none() {
                    continue;
                }
                let row = SessionRow::decode(&found.value).map_err(|e| Error::internal(READING, e))?;
                if row.live {
                    commit.checks.push(Check::At(key.clone(), found.version));
                    commit.writes.push(Write::Put {
                        key: key.clone(),
                        value: SessionRow { live: false, ..row }.encode(),
                    });
                }
            }
            match page.rows.last() {
                Some((key, _)) if page.more => range = range.after(key),
                _ => break,
            }
        }
    }
    Ok((id, commit))
}
