//! A transaction: one moment for all its reads, one publish for all its writes.
//!
//! Invariant: from BEGIN to its end every statement reads what that moment showed. Dropping it, or leaving it open for
//! too long, lets go of the moment and gives up what was staged.

use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::access::RequestContext;
use ashlar_objects::pinning::Moment;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::scan::lease::HeldLease;
use crate::write::changes::Changes;

/// Longest life of a transaction: its moment keeps old rows of metadata.
pub(crate) const TRANSACTION_MAX: Duration = Duration::from_secs(15 * 60);

/// One moment under a lease.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) lease: Arc<HeldLease>,
    pub(crate) moment: Moment,
}

impl Shared {
    /// The present.
    pub(crate) async fn take(engine: &Engine) -> Result<Self, SqlError> {
        let (lease, moment) = HeldLease::take(&engine.inner.store, &engine.inner.upkeep).await?;
        Ok(Self { lease, moment })
    }

    /// Its parts.
    pub(crate) fn parts(&self) -> (Arc<HeldLease>, Moment) {
        (Arc::clone(&self.lease), self.moment.clone())
    }
}

/// What a transaction holds as long as it may.
struct Held {
    shared: Shared,
    changes: Option<Arc<Changes>>,
}

/// An open transaction.
pub(crate) struct Transaction {
    /// `None`: its time is over. A statement that runs then ends by itself.
    held: Arc<Mutex<Option<Held>>>,
    max: Duration,
    /// Whether nothing is to be changed.
    pub(crate) read_only: bool,
    /// A statement failed, or went away in the middle: only the transaction's end is taken.
    pub(crate) failed: bool,
    _timer: DropGuard,
}

impl Transaction {
    /// Begins with the present, for so long at most.
    pub(crate) async fn begin(engine: &Engine, max: Duration, read_only: bool) -> Result<Self, SqlError> {
        let held = Held { shared: Shared::take(engine).await?, changes: None };
        let (held, ended) = (Arc::new(Mutex::new(Some(held))), CancellationToken::new());
        let (at_the_end, of_timer) = (Arc::downgrade(&held), ended.clone());
        engine.inner.upkeep.spawn(async move {
            tokio::select! {
                () = of_timer.cancelled() => {}
                () = tokio::time::sleep(max) => {
                    let over = at_the_end.upgrade().and_then(|held| held.lock().take());
                    drop(over);
                }
            }
        });
        Ok(Self { held, max, read_only, failed: false, _timer: ended.drop_guard() })
    }

    /// Whether its time is over: nothing is left of it then.
    pub(crate) fn is_over(&self) -> bool {
        self.held.lock().is_none()
    }

    /// What a client is told whose transaction is over.
    pub(crate) fn over(&self) -> SqlError {
        SqlError::new(
            SqlState::IdleInTransactionTimeout,
            format!("the transaction was given up: it was open for more than {} s", self.max.as_secs_f64()),
        )
        .hint("run it again")
    }

    /// What it wrote so far.
    pub(crate) fn changes(&self) -> Option<Arc<Changes>> {
        self.held.lock().as_ref().and_then(|held| held.changes.clone())
    }

    /// What its next statement writes into.
    pub(crate) async fn begin_changes(
        &mut self,
        engine: &Engine,
        cx: &Arc<RequestContext>,
    ) -> Result<Arc<Changes>, SqlError> {
        if let Some(changes) = self.changes() {
            return Ok(changes);
        }
        let changes = Changes::begin(engine, cx).await?;
        match &mut *self.held.lock() {
            Some(held) => held.changes = Some(Arc::clone(&changes)),
            None => return Err(self.over()),
        }
        Ok(changes)
    }

    /// What is to be published, if anything; its time can no longer end.
    pub(crate) fn finish(self) -> Result<Option<Arc<Changes>>, SqlError> {
        let held = self.held.lock().take();
        held.map(|held| held.changes).ok_or_else(|| self.over())
    }

    /// What its statements read.
    pub(crate) fn moment(&self) -> Result<Shared, SqlError> {
        let shared = self.held.lock().as_ref().map(|held| held.shared.clone());
        shared.ok_or_else(|| self.over())
    }
}
