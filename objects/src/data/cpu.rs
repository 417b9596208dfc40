//! The CPU pool: where work of more than half a millisecond goes, so that async threads stay free.
//!
//! At most a configured number of pieces run at once; more wait in order. A dropped waiter's work may still
//! run, but then holds nothing but what it was given.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::error::Error;

#[derive(Clone)]
pub(crate) struct CpuPool {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// One piece of work that has not begun.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl CpuPool {
    /// A pool that runs `tasks` pieces of work at once.
    pub(crate) fn new(tasks: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(tasks.max(1))), waiting: Arc::default() }
    }

    /// Pieces of work that have not begun.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Resolves when all work that was waiting has begun.
    pub(crate) async fn turn(&self) {
        let _permit = self.permits.acquire().await.expect("the pool is never closed");
    }

    /// Runs `work` on a thread that may be busy. A panic in it goes on here.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let waiting = Waiting::new(&self.waiting);
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the pool is never closed");
        drop(waiting);
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        match done.await {
            Ok(result) => Ok(result),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(Error::internal("the CPU pool is shutting down", error)),
        }
    }
}
