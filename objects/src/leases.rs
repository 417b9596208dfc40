//! Read leases: what one moment showed stays readable while the lease is renewed.
//!
//! A query pins versions once, closes its snapshot, and reads for as long as it renews. A lease that was
//! lost answers `SnapshotTooOld`, never other bytes: the check and the bytes' own commitments see to that.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ashlar_metadata::Position;
use ashlar_metadata::namespace::manifests::{ManifestId, PartRef};
use ashlar_metadata::namespace::sessions::{self, LeaseRow};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use crate::Store;
use crate::access::{Action, RequestContext};
use crate::error::Error;
use crate::requests::{ObjectHead, ReadObject};
use crate::transaction::{Transaction, read};

/// Longest time a lease runs without being renewed.
pub const LEASE_MAX: Duration = Duration::from_secs(15 * 60);

/// A lease. Dropping it does nothing: release it, or it lapses.
#[derive(Clone, Debug)]
pub struct ReadLease {
    id: u128,
    position: Position,
    ttl: Duration,
}

/// An object pinned under a lease: these bytes, whatever happens to its key.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// Facts of the version.
    pub head: ObjectHead,
    pub(crate) manifest: ManifestId,
    pub(crate) parts: Arc<[PartRef]>,
}

impl Pinned {
    /// Names these bytes: never given to others, kept by copies that share them. For caches of what was read.
    pub fn content_id(&self) -> u128 {
        self.manifest.0
    }
}

impl Store {
    /// Takes a lease on the present, for at most `ttl` (cut to [`LEASE_MAX`]) unless renewed.
    pub async fn lease(&self, ttl: Duration) -> Result<ReadLease, Error> {
        let position = self.inner.kv.stable_position();
        // Announced before the row is written, so that no collection runs in between.
        let _guard = self.inner.data.enter_reader();
        let lease = ReadLease { id: rand::random(), position, ttl: ttl.min(LEASE_MAX) };
        let mut transaction = Transaction::default();
        let key = sessions::lease_key(lease.id);
        transaction.check_absent(key.clone());
        transaction.put(key, &self.lease_row(&lease));
        transaction.commit(&self.inner.kv).await?.ok_or(Error::ConditionalConflict)?;
        Ok(lease)
    }

    fn lease_row(&self, lease: &ReadLease) -> LeaseRow {
        let mut expires = self.inner.clock.now();
        expires.0 = expires.0.saturating_add(i64::try_from(lease.ttl.as_millis()).unwrap_or(i64::MAX));
        LeaseRow { position: lease.position.0, session: self.inner.data.session(), expires }
    }

    /// Renews a lease for its time from now on. `SnapshotTooOld`: it was lost.
    pub async fn renew(&self, lease: &ReadLease) -> Result<(), Error> {
        let key = sessions::lease_key(lease.id);
        let snapshot = self.snapshot().await?;
        let found = read::<LeaseRow>(&*snapshot, &key).await?.ok_or(Error::SnapshotTooOld)?;
        let mut transaction = Transaction::default();
        transaction.check_at(key.clone(), found.version);
        transaction.put(key, &self.lease_row(lease));
        transaction.commit(&self.inner.kv).await?.map(|_| ()).ok_or(Error::SnapshotTooOld)
    }

    /// Gives a lease back.
    pub async fn release(&self, lease: ReadLease) -> Result<(), Error> {
        let mut transaction = Transaction::default();
        transaction.delete(sessions::lease_key(lease.id));
        transaction.commit(&self.inner.kv).await.map(|_| ())
    }

    /// Pins an object under a lease, authorised as a GET. It must have been there when the lease was taken
    /// or since; what is read later is exactly this version.
    pub async fn pin(
        &self,
        cx: &RequestContext,
        lease: &ReadLease,
        request: &ReadObject,
    ) -> Result<Pinned, Error> {
        self.check_lease(lease).await?;
        let snapshot = self.snapshot().await?;
        let opened =
            self.open_object(cx, &*snapshot, request, Action::GetObject, Action::GetObjectVersion).await?;
        Ok(opened.into_pinned())
    }

    pub(crate) async fn check_lease(&self, lease: &ReadLease) -> Result<(), Error> {
        let snapshot = self.snapshot().await?;
        read::<LeaseRow>(&*snapshot, &sessions::lease_key(lease.id))
            .await?
            .map(|_| ())
            .ok_or(Error::SnapshotTooOld)
    }

    /// Reads a range of a pinned object. Bytes are checked; a lost lease ends in `SnapshotTooOld`.
    pub async fn read_pinned(
        &self,
        lease: &ReadLease,
        pinned: &Pinned,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + use<>, Error> {
        let guard = self.inner.data.enter_reader();
        self.check_lease(lease).await?;
        let end = range.end.min(pinned.head.length);
        let (store, lease) = (self.clone(), lease.clone());
        let body = self.read_parts(pinned.manifest, &pinned.parts, range.start..end, guard);
        Ok(body.flat_map(move |piece| {
            let (store, lease) = (store.clone(), lease.clone());
            stream::once(async move {
                match piece {
                    Ok(bytes) => Ok(bytes),
                    // Bytes that are gone because the lease is: say so. Any other failure stays what it is.
                    Err(error) => Err(store.check_lease(&lease).await.err().unwrap_or(error)),
                }
            })
        }))
    }
}
