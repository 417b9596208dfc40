//! How slow a client may be, as credit in time.
//!
//! Invariant: only waiting for the client costs credit, never our own backpressure; each byte earns the
//! time that it may take at the slowest rate, up to the window. So a client that trickles is cut after
//! about the window whatever the length, and one that bursts and pauses is not.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The credit of one body or answer.
pub(crate) struct Pace {
    window: Duration,
    bytes_per_second: u64,
    credit: Duration,
    waiting_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Full credit. A rate of 0 never cuts.
    pub(crate) fn new(bytes_per_second: u64, window: Duration) -> Self {
        Self { window, bytes_per_second, credit: window, waiting_since: None, alarm: None }
    }

    /// Bytes moved: waiting ends, credit grows.
    pub(crate) fn progress(&mut self, bytes: usize) {
        if let Some(since) = self.waiting_since.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
        if self.bytes_per_second > 0 && self.credit < self.window {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            let nanos = bytes.saturating_mul(1_000_000_000) / self.bytes_per_second;
            self.credit = self.credit.saturating_add(Duration::from_nanos(nanos)).min(self.window);
        }
    }

    /// Called when nothing moved: whether the credit is used up. Wakes the task when it will be.
    pub(crate) fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        if self.bytes_per_second == 0 {
            return false;
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + self.credit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // A deadline mostly moves later; the alarm is set again only when it rings early or is too late.
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        while let Poll::Ready(()) = alarm.as_mut().poll(cx) {
            if Instant::now() >= deadline {
                return true;
            }
            alarm.as_mut().reset(deadline);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn too_slow_within(pace: &mut Pace, limit: Duration) -> bool {
        let cut = poll_fn(|cx| if pace.poll_too_slow(cx) { Poll::Ready(()) } else { Poll::Pending });
        tokio::time::timeout(limit, cut).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_cut_after_the_window() {
        let mut pace = Pace::new(1000, Duration::from_secs(10));
        assert!(!too_slow_within(&mut pace, Duration::from_millis(9_900)).await);
        assert!(too_slow_within(&mut pace, Duration::from_millis(200)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_cut_and_a_steady_rate_is_not() {
        for (bytes, survives) in [(1, false), (1000, true)] {
            let mut pace = Pace::new(1000, Duration::from_secs(10));
            let mut cut = false;
            for _ in 0..60 {
                cut |= too_slow_within(&mut pace, Duration::from_secs(1)).await;
                pace.progress(bytes);
            }
            assert_eq!(!cut, survives, "{bytes} bytes a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_slowness_costs_nothing() {
        let mut pace = Pace::new(1000, Duration::from_secs(10));
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(60)).await;
            pace.progress(1);
        }
        assert!(!too_slow_within(&mut pace, Duration::from_secs(9)).await);
    }
}
