//! What goes on without being asked for, each task on its own timer and stopping at once when told to.
//!
//! Every task is a `…_once` step that tests call by hand; here they are only repeated. A step that fails is
//! logged and tried again at its next turn; a step that is stopped midway is safe to begin anew.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::DataPath;
use crate::error::Error;

impl DataPath {
    /// Runs probes, progress, GC, repair, sweeps and scrubs in `group` until `stop`.
    pub(crate) fn spawn_background(&self, group: &TaskTracker, stop: CancellationToken) {
        let config = &self.inner.config;
        self.repeat(group, &stop, config.probe_interval, "probing nodes", async |data| {
            data.probe_once(true).await;
            Ok(())
        });
        self.repeat(group, &stop, config.progress_interval, "publishing progress", async |data| {
            if data.inner.sole_process { Ok(()) } else { data.publish_progress_once().await }
        });
        self.repeat(group, &stop, config.gc_interval, "collecting the dead", async |data| {
            data.collect_once().await.map(|_| ())
        });
        self.repeat(group, &stop, config.probe_interval, "repairing", async |data| {
            data.inner.repairs.reported.notified().await;
            data.repair_once().await.map(|_| ())
        });
        self.repeat(group, &stop, config.sweep_interval_degraded, "sweeping", async |data| {
            if data.inner.is_sweep_due() { data.sweep_once().await.map(|_| ()) } else { Ok(()) }
        });
        self.repeat(group, &stop, Duration::ZERO, "noting damage", async |data| {
            data.inner.scrub_wishes.unkept.notified().await;
            data.keep_scrub_wishes_once().await
        });
        self.repeat(group, &stop, config.probe_interval, "scrubbing after damage", async |data| {
            data.scrub_wished_once().await
        });
        self.repeat(group, &stop, config.scrub_interval, "scrubbing", async |data| {
            data.scrub_once().await.map(|_| ())
        });
    }

    fn repeat<S, F>(
        &self,
        group: &TaskTracker,
        stop: &CancellationToken,
        every: Duration,
        what: &'static str,
        step: S,
    ) where
        S: Fn(DataPath) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (data, stop) = (self.clone(), stop.clone());
        group.spawn(async move {
            let mut timer = tokio::time::interval(every.max(Duration::from_millis(1)));
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let work = async {
                // The first turn comes after a wait: a start has better things to do.
                timer.tick().await;
                loop {
                    timer.tick().await;
                    if let Err(error) = step(data.clone()).await {
                        tracing::warn!(what, %error, "background work failed; it is tried again");
                    }
                }
            };
            stop.run_until_cancelled(work).await;
        });
    }
}
