//! A transaction: one moment for all its reads, one publish for all its writes.
//!
//! Invariant: from BEGIN to its end every statement reads what that moment showed. Dropping it lets go of the
//! moment and gives up what was staged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_objects::access::RequestContext;
use ashlar_objects::pinning::Moment;

use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::scan::lease::HeldLease;
use crate::write::changes::Changes;

/// Longest life of a transaction: its moment keeps old rows of metadata.
pub(crate) const TRANSACTION_MAX: Duration = Duration::from_secs(15 * 60);

/// One moment under a lease, and until when it may be asked.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) lease: Arc<HeldLease>,
    pub(crate) moment: Moment,
    until: Instant,
}

impl Shared {
    /// The present.
    pub(crate) async fn take(engine: &Engine) -> Result<Self, SqlError> {
        let (lease, moment) = HeldLease::take(&engine.inner.store, &engine.inner.upkeep).await?;
        Ok(Self { lease, moment, until: Instant::now() + TRANSACTION_MAX })
    }

    /// Its parts, unless it is over.
    pub(crate) fn open(&self) -> Result<(Arc<HeldLease>, Moment), SqlError> {
        if Instant::now() > self.until {
            return Err(SqlError::new(
                SqlState::SnapshotTooOld,
                format!("a transaction lasts at most {} minutes", TRANSACTION_MAX.as_secs() / 60),
            ));
        }
        Ok((Arc::clone(&self.lease), self.moment.clone()))
    }
}

/// An open transaction.
pub(crate) struct Transaction {
    shared: Shared,
    changes: Option<Arc<Changes>>,
    /// A statement failed: only its end is taken.
    pub(crate) failed: bool,
}

impl Transaction {
    /// Begins with the present.
    pub(crate) async fn begin(engine: &Engine) -> Result<Self, SqlError> {
        Ok(Self { shared: Shared::take(engine).await?, changes: None, failed: false })
    }

    /// What it wrote so far.
    pub(crate) fn changes(&self) -> Option<Arc<Changes>> {
        self.changes.clone()
    }

    /// What its next statement writes into.
    pub(crate) async fn begin_changes(
        &mut self,
        engine: &Engine,
        cx: &Arc<RequestContext>,
    ) -> Result<Arc<Changes>, SqlError> {
        if self.changes.is_none() {
            self.changes = Some(Changes::begin(engine, cx).await?);
        }
        self.changes.clone().ok_or_else(|| SqlError::internal("beginning to write", &"no changes"))
    }

    /// What its statements read.
    pub(crate) fn moment(&self) -> Shared {
        self.shared.clone()
    }
}
