//! How far the log is: for writes that wait until they are certified or anchored, and for the collector, which leaves
//! what a recovery would still need.

use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_objects::log::{Durability, DurableWhen, LogHalted};
use async_trait::async_trait;
use tokio::sync::watch;

/// The last commit position that has reached each stage.
#[derive(Debug)]
pub struct Progress {
    certified: watch::Sender<u64>,
    settled: watch::Sender<u64>,
    stopped: watch::Sender<bool>,
    covered: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            certified: watch::Sender::new(0),
            settled: watch::Sender::new(0),
            stopped: watch::Sender::new(false),
            covered: AtomicU64::new(0),
        }
    }
}

impl Progress {
    pub(super) fn start(&self, position: u64) {
        self.certified(position);
        self.settled(position);
    }

    /// No entry up to this position is still to be certified.
    pub(super) fn covered(&self, position: u64) {
        self.covered.fetch_max(position, Ordering::Relaxed);
    }

    pub(super) fn certified(&self, position: u64) {
        self.covered(position);
        self.certified.send_if_modified(|last| raise(last, position));
    }

    pub(super) fn settled(&self, position: u64) {
        self.certified(position);
        self.settled.send_if_modified(|last| raise(last, position));
    }

    pub(super) fn stop(&self) {
        // Nothing will be published any more: to wait for it would keep garbage for good.
        self.covered(u64::MAX);
        self.stopped.send_replace(true);
    }

    /// Last certified position.
    pub fn last_certified(&self) -> u64 {
        *self.certified.borrow()
    }

    /// Last position that is anchored to stay.
    pub fn last_settled(&self) -> u64 {
        *self.settled.borrow()
    }

    /// Whether an alarm stopped publishing: nothing will get further.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }
}

#[async_trait]
impl Durability for Progress {
    async fn reached(&self, position: u64, level: DurableWhen) -> Result<(), LogHalted> {
        let stage = match level {
            DurableWhen::Quorum => return Ok(()),
            DurableWhen::Certified => &self.certified,
            DurableWhen::Anchored => &self.settled,
        };
        let (mut reached, mut stopped) = (stage.subscribe(), self.stopped.subscribe());
        tokio::select! {
            // What is reached counts, even if publishing stopped after it.
            biased;
            _ = reached.wait_for(|last| *last >= position) => Ok(()),
            _ = stopped.wait_for(|stopped| *stopped) => {
                Err(LogHalted { reason: "an alarm stopped publishing; the server's log says which".to_owned() })
            }
        }
    }

    fn covered(&self) -> u64 {
        self.covered.load(Ordering::Relaxed)
    }
}

fn raise(last: &mut u64, position: u64) -> bool {
    let is_news = *last < position;
    *last = (*last).max(position);
    is_news
}
