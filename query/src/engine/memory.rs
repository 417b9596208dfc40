//! One query's part of the memory that all share.
//!
//! Invariant: a query never holds more than its own limit, nor all together more than the pool's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// A pool with a limit of its own in front of a shared one.
#[derive(Debug)]
pub(crate) struct OfOneQuery {
    shared: Arc<dyn MemoryPool>,
    limit: usize,
    used: AtomicUsize,
}

impl OfOneQuery {
    /// At most `limit` bytes of `shared`.
    pub(crate) fn new(shared: Arc<dyn MemoryPool>, limit: usize) -> Self {
        Self { shared, limit, used: AtomicUsize::new(0) }
    }
}

impl fmt::Display for OfOneQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.used.load(Ordering::Relaxed), self.limit)
    }
}

impl MemoryPool for OfOneQuery {
    fn name(&self) -> &str {
        "of one query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.shared.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.shared.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.shared.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.shared.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let grown = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(additional).filter(|used| *used <= self.limit)
        });
        if grown.is_err() {
            let what = reservation.consumer().name();
            return Err(DataFusionError::ResourcesExhausted(format!("{what} needs more memory")));
        }
        self.shared.try_grow(reservation, additional).inspect_err(|_| {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn neither_limit_is_passed() {
        let shared: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let pool = |limit| -> Arc<dyn MemoryPool> { Arc::new(OfOneQuery::new(Arc::clone(&shared), limit)) };
        let (one, other) = (pool(70), pool(70));
        let of_one = MemoryConsumer::new("one").register(&one);
        let of_other = MemoryConsumer::new("other").register(&other);
        of_one.try_grow(70).unwrap();
        assert!(of_one.try_grow(1).is_err(), "its own limit");
        assert!(of_other.try_grow(31).is_err(), "the shared limit");
        of_other.try_grow(30).unwrap();
        drop(of_one);
        assert_eq!((one.reserved(), other.reserved(), shared.reserved()), (0, 30, 30));
    }
}
