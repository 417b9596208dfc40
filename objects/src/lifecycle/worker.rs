//! The worker: how long its days last, how often it looks, what it has done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::DAY_MILLIS;
use crate::Store;
use crate::types::UnixMillis;

/// Passes in a lifecycle day.
const PASSES_A_DAY: u32 = 4;
/// Shortest time between the ends and beginnings of passes.
const PASS_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How long a day of lifecycle rules lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifecycleDay {
    millis: i64,
}

impl Default for LifecycleDay {
    fn default() -> Self {
        Self::CALENDAR
    }
}

impl LifecycleDay {
    /// A day of the calendar.
    pub const CALENDAR: Self = Self { millis: DAY_MILLIS };

    /// A day of so many seconds, at least one; another than 86,400 is for testing.
    pub fn of_seconds(seconds: u32) -> Self {
        Self { millis: i64::from(seconds.max(1)) * 1000 }
    }

    /// So many days after a moment. Days of the calendar end at the next midnight, as S3 counts them; days
    /// of another length have none.
    pub(super) fn after(self, moment: UnixMillis, days: u32) -> UnixMillis {
        let then = moment.0.saturating_add(i64::from(days).saturating_mul(self.millis));
        if self != Self::CALENDAR {
            return UnixMillis(then);
        }
        let past_midnight = then.rem_euclid(DAY_MILLIS);
        UnixMillis(if past_midnight == 0 { then } else { then.saturating_add(DAY_MILLIS - past_midnight) })
    }

    fn pass_interval(self) -> Duration {
        let day = Duration::from_millis(u64::try_from(self.millis).unwrap_or_default());
        (day / PASSES_A_DAY).max(PASS_INTERVAL_MIN)
    }
}

/// What the rules have given up so far, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifecycleStats {
    /// Current versions expired.
    pub current: u64,
    /// Noncurrent versions removed, delete markers among them.
    pub noncurrent: u64,
    /// Delete markers removed that hid nothing any more.
    pub markers: u64,
    /// Uploads aborted.
    pub uploads: u64,
    /// Times a version that was due stayed because it is locked.
    pub locked: u64,
    /// Rows of versions and uploads looked at.
    pub rows: u64,
    /// Passes over all buckets that came to their end.
    pub passes: u64,
}

/// What became of something that may have been due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Current,
    Noncurrent,
    Marker,
    Upload,
    Locked,
    /// It was not due, or is there no more.
    Kept,
}

/// The worker's settings and counters.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    pub(super) day: LifecycleDay,
    current: AtomicU64,
    noncurrent: AtomicU64,
    markers: AtomicU64,
    uploads: AtomicU64,
    locked: AtomicU64,
    rows: AtomicU64,
    passes: AtomicU64,
}

impl Worker {
    pub(crate) fn new(day: LifecycleDay) -> Self {
        Self { day, ..Self::default() }
    }

    pub(super) fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Current => &self.current,
            Outcome::Noncurrent => &self.noncurrent,
            Outcome::Marker => &self.markers,
            Outcome::Upload => &self.uploads,
            Outcome::Locked => &self.locked,
            Outcome::Kept => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn looked_at(&self, rows: usize) {
        self.rows.fetch_add(u64::try_from(rows).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn passed(&self) {
        self.passes.fetch_add(1, Ordering::Relaxed);
    }

    fn stats(&self) -> LifecycleStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LifecycleStats {
            current: read(&self.current),
            noncurrent: read(&self.noncurrent),
            markers: read(&self.markers),
            uploads: read(&self.uploads),
            locked: read(&self.locked),
            rows: read(&self.rows),
            passes: read(&self.passes),
        }
    }
}

impl Store {
    /// What lifecycle rules have given up, for the metrics page.
    pub fn lifecycle_stats(&self) -> LifecycleStats {
        self.inner.lifecycle.stats()
    }

    /// Passes over all buckets with rules until `stop`.
    pub(crate) async fn run_lifecycle(&self, stop: &CancellationToken) {
        let interval = self.inner.lifecycle.day.pass_interval();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval.min(Duration::from_secs(60))) => {}
            }
            if let Err(error) = self.lifecycle_pass(stop).await {
                tracing::warn!(%error, "a pass over the lifecycle rules broke off; the next goes on there");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval.saturating_sub(Duration::from_secs(60))) => {}
            }
        }
    }
}
