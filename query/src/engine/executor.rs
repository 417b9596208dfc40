//! The threads that queries run on, and the place where what must not wait for them is done.
//!
//! Invariant: no statement is planned or run on the threads that serve S3. A task ends with whoever waits for
//! it; a panic in one is that statement's error.

use std::future::Future;

use futures::FutureExt;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::error::SqlError;

/// How much lower than the rest of the process its threads are; 19 is lowest.
const NICENESS: i32 = 10;
/// Threads for work that blocks: spilling above all.
const BLOCKING_THREADS_MAX: usize = 16;
/// Stack of a thread: what walks deep statements recurses. Taken as it is used.
const STACK_BYTES: usize = 32 << 20;

/// Threads of their own at low priority.
pub(crate) struct Executor {
    runtime: Option<Runtime>,
}

impl Executor {
    /// Starts them.
    pub(crate) fn start(threads: usize) -> Result<Self, SqlError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("sql")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(lower_priority)
            .enable_all()
            .build()
            .map_err(|e| SqlError::internal("starting the threads of SQL", &e))?;
        Ok(Self { runtime: Some(runtime) })
    }

    fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("the runtime is taken at the end only").handle()
    }

    /// Runs to the end, unless whoever asked goes away.
    pub(crate) fn start_task<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.handle().spawn(work))
    }

    /// Runs and waits. The work is on the heap before the first wait, so that callers stay small.
    pub(crate) fn run<T: Send + 'static, F: Future<Output = Result<T, SqlError>> + Send + 'static>(
        &self,
        work: F,
    ) -> impl Future<Output = Result<T, SqlError>> + Send + use<T, F> {
        let task = self.start_task(work);
        task.map(|ended| ended.unwrap_or_else(|e| Err(SqlError::internal("running a statement", &e))))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Waiting for threads is not allowed where this may happen.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// On Linux niceness is a thread's own.
fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread of SQL keeps its priority");
    }
}

/// Tasks beside the queries, on the runtime of the front doors: they are short and must not starve.
#[derive(Clone)]
pub(crate) struct Upkeep {
    tasks: TaskTracker,
    handle: Handle,
}

impl Upkeep {
    /// On the runtime of the caller.
    pub(crate) fn here() -> Self {
        Self { tasks: TaskTracker::new(), handle: Handle::current() }
    }

    /// Runs to the end.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(work, &self.handle);
    }

    /// Runs to the end whatever becomes of the caller, and answers him; what he no longer waits for is dropped here.
    pub(crate) fn carry<T: Send + 'static, F: Future<Output = Result<T, SqlError>> + Send + 'static>(
        &self,
        work: F,
    ) -> impl Future<Output = Result<T, SqlError>> + Send + use<T, F> {
        let (done, outcome) = oneshot::channel();
        self.spawn(async move { drop(done.send(work.await)) });
        outcome.map(|ended| ended.unwrap_or_else(|e| Err(SqlError::internal("waiting for a task", &e))))
    }

    /// Waits for all.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
