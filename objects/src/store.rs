//! The store as front doors hold it: what every use case shares.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ashlar_metadata::{OrderedKv, Snapshot};
use ashlar_storage_node::ShardService;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api_keys::ApiKeys;
use crate::buckets::BucketCache;
use crate::clock::Clock;
use crate::data::{DataConfig, DataPath, DataStats};
use crate::error::Error;
use crate::lifecycle::{LifecycleDay, Worker};
use crate::log::Publishing;
use crate::users::Users;

/// How often lapsed rows are looked for, and what API keys had set aside is given back.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// What a store is made of.
pub struct StoreParts {
    /// Metadata.
    pub kv: Arc<dyn OrderedKv>,
    /// Storage nodes by number, each with its failure domain.
    pub nodes: BTreeMap<u16, (Arc<dyn ShardService>, String)>,
    /// Users and their keys, on the same metadata.
    pub users: Users,
    /// Coding, limits and background work.
    pub data: DataConfig,
    /// How the log is published, if it is.
    pub publishing: Publishing,
    /// How long a day of lifecycle rules lasts.
    pub lifecycle_day: LifecycleDay,
    /// The time of day.
    pub clock: Clock,
    /// No other process works on this metadata: sessions left behind are fenced at once.
    pub only_process: bool,
}

/// The store. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) kv: Arc<dyn OrderedKv>,
    pub(crate) data: DataPath,
    pub(crate) users: Users,
    pub(crate) api_keys: ApiKeys,
    pub(crate) buckets: BucketCache,
    pub(crate) publishing: Publishing,
    pub(crate) lifecycle: Worker,
    pub(crate) clock: Clock,
    pub(crate) tasks: TaskTracker,
}

impl Store {
    /// Opens a store: takes a session, fences dead ones, reads or makes the cluster map.
    pub async fn open(parts: StoreParts) -> Result<Self, Error> {
        let StoreParts { kv, nodes, users, data, publishing, lifecycle_day, clock, only_process } = parts;
        let tasks = TaskTracker::new();
        let data = DataPath::open(
            Arc::clone(&kv),
            nodes,
            data,
            clock.clone(),
            only_process,
            tasks.clone(),
            publishing.durability.clone(),
        )
        .await?;
        let api_keys = ApiKeys::new(Arc::clone(&kv), clock.clone(), tasks.clone());
        let (buckets, lifecycle) = (BucketCache::default(), Worker::new(lifecycle_day));
        let inner = Inner { kv, data, users, api_keys, buckets, publishing, lifecycle, clock, tasks };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Users and their keys.
    pub fn users(&self) -> &Users {
        &self.inner.users
    }

    /// API keys and what they spend.
    pub fn api_keys(&self) -> &ApiKeys {
        &self.inner.api_keys
    }

    /// Counters and gauges of the data path, for the metrics page.
    pub fn stats(&self) -> DataStats {
        self.inner.data.stats()
    }

    /// Has everything on a storage node read before long, because damage was found there.
    pub fn scrub_node(&self, node: u16) {
        self.inner.data.scrub_node(node);
    }

    /// Runs repair, scrub, GC, lifecycle rules and expiry until `stop`. Tasks belong to the store's group.
    pub fn start_background(&self, stop: &CancellationToken) {
        self.inner.data.spawn_background(&self.inner.tasks, stop.clone());
        let (lifecycle, stopping) = (self.clone(), stop.clone());
        self.inner.tasks.spawn(async move { lifecycle.run_lifecycle(&stopping).await });
        let (store, stop) = (self.clone(), stop.clone());
        self.inner.tasks.spawn(async move {
            let mut timer = tokio::time::interval(EXPIRY_INTERVAL);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = timer.tick() => {}
                }
                if let Err(error) = store.expire().await {
                    tracing::warn!(%error, "looking for lapsed rows failed; it is tried again");
                }
                if let Err(error) = store.api_keys().give_back().await {
                    tracing::warn!(%error, "giving back what API keys had set aside failed; it is tried again");
                }
            }
        });
    }

    /// Waits until every commit under way has ended, and gives back what API keys had set aside. New ones are still taken:
    /// stop the front doors first.
    pub async fn drain(&self) {
        if let Err(error) = self.inner.api_keys.give_back().await {
            tracing::warn!(%error, "what API keys had set aside counts as spent");
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    pub(crate) async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, Error> {
        self.inner.kv.snapshot().await.map_err(|e| Error::internal("reading metadata", e))
    }

    /// Runs `work` to its end whatever becomes of the caller. It begins right away; what is answered only waits for it, so
    /// that a caller's own state has no room for the work.
    pub(crate) fn detached<T, W>(&self, work: W) -> impl Future<Output = Result<T, Error>> + use<T, W>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let task = self.inner.tasks.spawn(work);
        async { task.await.map_err(|e| Error::internal("waiting for a commit", e))? }
    }
}
