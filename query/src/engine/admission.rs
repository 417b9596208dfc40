//! How many statements run and how many wait.
//!
//! Invariant: never more than the limits; who does not get in is told at once, who waits is served in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{SqlError, SqlState};

/// The door.
pub(crate) struct Admission {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    running_max: usize,
    waiting_max: usize,
}

/// The right to run; given back when dropped.
pub(crate) struct Permit {
    _running: OwnedSemaphorePermit,
}

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// With limits.
    pub(crate) fn new(running_max: usize, waiting_max: usize) -> Self {
        let running_max = running_max.max(1);
        let running = Arc::new(Semaphore::new(running_max));
        Self { running, waiting: Arc::default(), running_max, waiting_max }
    }

    /// How many run and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let running = self.running_max.saturating_sub(self.running.available_permits());
        (running, self.waiting.load(Ordering::Relaxed))
    }

    /// Waits to run. `TooManyConnections`: too many wait already.
    pub(crate) async fn enter(&self) -> Result<Permit, SqlError> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(Permit { _running: permit });
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(Arc::clone(&self.waiting));
        if before >= self.waiting_max {
            return Err(SqlError::new(
                SqlState::TooManyConnections,
                format!("{} statements wait already", self.waiting_max),
            )
            .hint("try again in a moment"));
        }
        let permit = Arc::clone(&self.running).acquire_owned().await;
        permit.map(|permit| Permit { _running: permit }).map_err(|e| SqlError::internal("waiting to run", &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_run_so_many_wait_and_the_next_is_told() {
        let admission = Arc::new(Admission::new(1, 1));
        let first = admission.enter().await.unwrap();
        let mut second = Box::pin(admission.enter());
        assert!(futures::poll!(&mut second).is_pending());
        let third = admission.enter().await;
        assert_eq!(third.err().map(|e| e.state), Some(SqlState::TooManyConnections));
        drop(first);
        let _second = second.await.unwrap();
        assert_eq!(admission.waiting.load(Ordering::Relaxed), 0);
    }
}
