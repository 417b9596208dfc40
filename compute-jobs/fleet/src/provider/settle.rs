//! Receipts onto the chain before their locks end, and locks that have ended out of the books.
//!
//! Invariant: a receipt that pays something is sent when it is worth the gas, when work under its lock is over, or when
//! time gets short, whichever is first; its book is kept until the chain has closed the lock or settleBy is long past.

use std::sync::Arc;

use ashlar_chain::SettlementOutcome;
use ashlar_compute_api::vouchers::Settlement;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::locks::Account;
use crate::escrow::{EscrowError, LockStage};

/// A book stays so long after settleBy, so that a voucher that is late finds its receipt.
const KEPT_SECONDS: u64 = 3_600;

/// Looks after receipts until `ended`.
pub(super) async fn keep(inner: Arc<Inner>, ended: CancellationToken) {
    let mut timer = interval(inner.config.settle_interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = timer.tick() => all(&inner, false).await,
        }
    }
}

/// Settles what is due, or everything.
pub(super) async fn all(inner: &Inner, everything: bool) {
    let _one = inner.settling.lock().await;
    let mut due = Vec::new();
    for account in inner.locks.all() {
        match of_lock(inner, &account, everything).await {
            Ok(mut items) => due.append(&mut items),
            Err(error) => tracing::warn!(%error, lock = %account.id(), "receipts wait to be settled"),
        }
    }
    if due.is_empty() {
        return;
    }
    match inner.escrow.settle(&due).await {
        Ok(outcomes) => {
            for outcome in outcomes {
                match outcome {
                    SettlementOutcome::Paid { amount_wei, .. } => {
                        let mut status = inner.status.lock();
                        status.settled_wei = status.settled_wei.saturating_add(amount_wei);
                    }
                    SettlementOutcome::Refused { lock, outcome, .. } => {
                        tracing::warn!(%lock, outcome, "a receipt was refused by the market");
                    }
                }
            }
        }
        Err(error) => tracing::warn!(%error, "receipts could not be settled"),
    }
}

async fn of_lock(inner: &Inner, account: &Account, everything: bool) -> Result<Vec<Settlement>, EscrowError> {
    let (now, terms) = (inner.now(), account.lock().terms);
    if now > terms.settle_by {
        let is_closed =
            inner.escrow.lock(account.id()).await?.is_none_or(|lock| lock.stage == LockStage::Closed);
        let is_over = is_closed || now > terms.settle_by.saturating_add(KEPT_SECONDS);
        if is_over && let Err(error) = inner.locks.forget(account.id()).await {
            tracing::warn!(%error, lock = %account.id(), "a lock that has ended stays in the books");
        }
        return Ok(Vec::new());
    }
    let mut items = Vec::new();
    let mut worth = 0u128;
    for item in account.receipts().await {
        if let Some(wei) = inner.escrow.worth_settling(&item).await?
            && wei > 0
        {
            worth = worth.saturating_add(wei);
            items.push(item);
        }
    }
    let is_due = everything || now > terms.work_by || worth >= inner.config.settle_above_wei.max(1);
    Ok(if is_due { items } else { Vec::new() })
}
