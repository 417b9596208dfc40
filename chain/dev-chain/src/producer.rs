//! When blocks are made: on transactions, or at an interval.
//!
//! Invariant: one task makes blocks, on a blocking thread, and ends between blocks. Deliberately knows nothing of
//! how a block is made.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, ProduceError};
use crate::configuration::Production;

/// Makes blocks until `stop`, or until one fails.
pub(crate) async fn run(chain: Arc<Chain>, stop: CancellationToken) {
    let done = match chain.configuration().production {
        Production::OnTransaction { settle } => on_transactions(&chain, settle, &stop).await,
        Production::Every(interval) => at_intervals(&chain, interval, &stop).await,
    };
    if let Err(error) = done {
        tracing::error!(%error, "dev chain: no more blocks until it is reopened");
    }
}

/// Makes one block on a blocking thread; whether it made one.
async fn produce(chain: &Arc<Chain>, empty: bool) -> Result<bool, ProduceError> {
    let chain = Arc::clone(chain);
    match tokio::task::spawn_blocking(move || chain.produce(empty)).await {
        Ok(made) => made.map(|made| made.is_some()),
        Err(error) => Err(ProduceError::Machine(format!("the producing thread ended: {error}"))),
    }
}

async fn on_transactions(
    chain: &Arc<Chain>,
    settle: Duration,
    stop: &CancellationToken,
) -> Result<(), ProduceError> {
    loop {
        let settling = chain.settles();
        let empty = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = chain.wake.notified() => false,
            () = tokio::time::sleep(settle), if settling => true,
        };
        // What came while a block was written shares the next one.
        while produce(chain, empty).await? && !empty && chain.waiting() > 0 {
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }
}

async fn at_intervals(
    chain: &Arc<Chain>,
    interval: Duration,
    stop: &CancellationToken,
) -> Result<(), ProduceError> {
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        produce(chain, true).await?;
    }
}
