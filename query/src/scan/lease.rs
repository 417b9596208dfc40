//! A lease that is kept while anybody needs it: renewed in the background, released when the last one lets go.
//!
//! Invariant: bytes are read through it only; once it is lost, every read says `snapshot too old`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::Store;
use ashlar_objects::leases::{Pinned, ReadLease};
use ashlar_objects::pinning::Moment;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::Upkeep;
use crate::error::SqlError;

/// How long a lease lasts without being renewed: what a gateway that died still keeps.
const LEASE: Duration = Duration::from_secs(5 * 60);
/// Renewed three times before it would lapse.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(75);

/// A held lease.
pub(crate) struct HeldLease {
    store: Store,
    lease: ReadLease,
    _held: DropGuard,
}

impl HeldLease {
    /// The present, and the lease on it.
    pub(crate) async fn take(store: &Store, upkeep: &Upkeep) -> Result<(Arc<Self>, Moment), SqlError> {
        let (store, tasks) = (store.clone(), upkeep.clone());
        // A caller who goes away meanwhile leaves no lease behind.
        let taken = upkeep.carry(async move {
            let moment = store.moment(LEASE).await.map_err(|e| SqlError::of_store("the store", &e))?;
            let (lease, ended) = (moment.lease().clone(), CancellationToken::new());
            tasks.spawn(keep(store.clone(), lease.clone(), ended.clone()));
            Ok((Arc::new(Self { store, lease, _held: ended.drop_guard() }), moment))
        });
        taken.await
    }

    /// Bytes of a pinned object.
    pub(crate) async fn read(&self, pinned: &Pinned, range: Range<u64>) -> Result<Bytes, SqlError> {
        let of_store = |e| SqlError::of_store("an object", &e);
        let mut body = std::pin::pin!(
            self.store.read_pinned(&self.lease, pinned, range.clone()).await.map_err(of_store)?
        );
        let wanted = usize::try_from(range.end.min(pinned.head.length).saturating_sub(range.start))
            .map_err(|_| SqlError::invalid("a range does not fit memory"))?;
        // Copied: what the store gives out counts as read for S3 until it is let go, and SQL holds it long.
        let mut all = BytesMut::with_capacity(wanted);
        while let Some(piece) = body.try_next().await.map_err(of_store)? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// Bytes of a pinned object as they come.
    pub(crate) async fn stream(
        &self,
        pinned: &Pinned,
        range: Range<u64>,
    ) -> Result<impl futures::Stream<Item = Result<Bytes, SqlError>> + Send + use<>, SqlError> {
        let body = self.store.read_pinned(&self.lease, pinned, range).await;
        let body = body.map_err(|e| SqlError::of_store("an object", &e))?;
        Ok(body.map_err(|e| SqlError::of_store("an object", &e)))
    }
}

impl std::fmt::Debug for HeldLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldLease").field("lease", &self.lease).finish_non_exhaustive()
    }
}

async fn keep(store: Store, lease: ReadLease, ended: CancellationToken) {
    loop {
        tokio::select! {
            () = ended.cancelled() => break,
            () = tokio::time::sleep(RENEWAL_INTERVAL) => {}
        }
        match store.renew(&lease).await {
            Ok(()) => {}
            // Reads find out by themselves.
            Err(ashlar_objects::Error::SnapshotTooOld) => return,
            Err(error) => tracing::warn!(%error, "renewing a query's lease failed; it is tried again"),
        }
    }
    if let Err(error) = store.release(lease).await {
        tracing::debug!(%error, "a query's lease was not released; it lapses");
    }
}
