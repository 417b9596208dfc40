//! A budget in bytes a second for background work: whoever spends waits until the past is paid for.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How much may be saved up.
const BURST: Duration = Duration::from_millis(250);

pub(crate) struct Pace {
    bytes_per_second: u64,
    paid_until: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid_until: Mutex::new(None) }
    }

    /// Waits until earlier spending is paid for, then spends `bytes`.
    pub(crate) async fn spend(&self, bytes: u64) {
        let cost = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.bytes_per_second);
        let begin = {
            let now = Instant::now();
            let mut paid_until = self.paid_until.lock();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let begin = paid_until.unwrap_or(earliest).max(earliest);
            *paid_until = Some(begin + cost);
            begin
        };
        tokio::time::sleep_until(begin).await;
    }
}
