//! When a read is asked a second time elsewhere: after the delay that 95 of 100 reads stay under, and only
//! as often as the token bucket allows.
//!
//! The bucket gains a fixed share of a token with every read, so hedges stay under that share of all reads
//! however slow the nodes are; the delay follows the latencies seen, by the frugal quantile estimator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Hundredths of a token kept at most.
const TOKENS_MAX: u64 = 1000;
/// Hundredths of a token that one hedged read costs.
const TOKEN: u64 = 100;
/// Shortest and longest delay before a hedge, in microseconds.
const DELAY_US: (u64, u64) = (2_000, 1_000_000);

pub(crate) struct Hedges {
    percent: u64,
    tokens: AtomicU64,
    /// Estimate of the 95th percentile of read latencies, in microseconds.
    p95_us: AtomicU64,
}

impl Hedges {
    /// Hedges at most `percent` of reads.
    pub(crate) fn new(percent: u32) -> Self {
        Self { percent: u64::from(percent), tokens: AtomicU64::new(0), p95_us: AtomicU64::new(DELAY_US.0) }
    }

    /// A read is being made.
    pub(crate) fn read_begun(&self) {
        if self.tokens.load(Ordering::Relaxed) < TOKENS_MAX {
            self.tokens.fetch_add(self.percent, Ordering::Relaxed);
        }
    }

    /// A read took this long.
    pub(crate) fn read_took(&self, latency: Duration) {
        let latency = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let estimate = self.p95_us.load(Ordering::Relaxed);
        // A step up nineteen times the step down rests where one in twenty is above. Races lose a sample.
        let step = (estimate / 512).max(1);
        let next = if latency > estimate { estimate + 19 * step } else { estimate - step };
        self.p95_us.store(next.clamp(DELAY_US.0 / 2, DELAY_US.1), Ordering::Relaxed);
    }

    /// How long to wait for a read before asking elsewhere.
    pub(crate) fn delay(&self) -> Duration {
        let twice = self.p95_us.load(Ordering::Relaxed).saturating_mul(2);
        Duration::from_micros(twice.clamp(DELAY_US.0, DELAY_US.1))
    }

    /// Takes tokens for `reads` hedged reads, all or none.
    pub(crate) fn take(&self, reads: usize) -> bool {
        let cost = u64::try_from(reads).unwrap_or(u64::MAX).saturating_mul(TOKEN);
        let take = |tokens: u64| tokens.checked_sub(cost);
        self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedges_stay_under_their_share() {
        let hedges = Hedges::new(5);
        let mut hedged = 0;
        for _ in 0..10_000 {
            hedges.read_begun();
            hedged += u32::from(hedges.take(1));
        }
        assert!((450..=500).contains(&hedged), "{hedged} of 10,000");
        assert!(!hedges.take(20));
    }

    #[test]
    fn the_delay_follows_latency() {
        let hedges = Hedges::new(5);
        for read in 0..20_000_u64 {
            hedges.read_took(Duration::from_micros(10_000 + read % 100 * 100));
        }
        let delay = hedges.delay();
        assert!((36_000..=41_000).contains(&delay.as_micros()), "{delay:?}");
        (0..20_000).for_each(|_| hedges.read_took(Duration::from_micros(50)));
        assert_eq!(hedges.delay(), Duration::from_micros(DELAY_US.0));
    }
}
