//! A store on memory: real use cases over an in-memory KV and in-memory nodes that can be made to fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_metadata::namespace::{publish, sessions};
use ashlar_metadata::{Direction, KeyRange, MemoryKv, OrderedKv};
use ashlar_storage_node::{MemoryNode, ShardService};

use crate::access::{Principal, RequestContext, UserIdentity};
use crate::clock::Clock;
use crate::data::DataConfig;
use crate::lifecycle::LifecycleDay;
use crate::log::Publishing;
use crate::store::{Store, StoreParts};
use crate::users::Users;

/// Rounds after which nothing is left to collect: a manifest, its blobs, their shards.
const COLLECTION_STEPS: usize = 8;

/// A store, its nodes by number, and its metadata.
pub struct TestStore {
    /// The store.
    pub store: Store,
    /// Its nodes, to be taken down, slowed or corrupted.
    pub nodes: BTreeMap<u16, Arc<MemoryNode>>,
    /// Its metadata.
    pub kv: Arc<dyn OrderedKv>,
    /// Its clock.
    pub clock: Clock,
}

impl TestStore {
    /// Six nodes, 4+2, nothing running in the background.
    pub async fn new() -> Self {
        let kv: Arc<dyn OrderedKv> = Arc::new(MemoryKv::new());
        let nodes = (1..=6).map(|node| (node, Arc::new(MemoryNode::new()))).collect();
        Self::on(kv, nodes).await
    }

    /// A store on what another left: a restart.
    pub async fn on(kv: Arc<dyn OrderedKv>, nodes: BTreeMap<u16, Arc<MemoryNode>>) -> Self {
        Self::by_clock(kv, nodes, Clock::System).await
    }

    /// The same by another clock.
    pub async fn by_clock(
        kv: Arc<dyn OrderedKv>,
        nodes: BTreeMap<u16, Arc<MemoryNode>>,
        clock: Clock,
    ) -> Self {
        Self::with(kv, nodes, clock, Publishing::default()).await
    }

    /// Six nodes, and a log that somebody publishes.
    pub async fn publishing(publishing: Publishing) -> Self {
        let kv: Arc<dyn OrderedKv> = Arc::new(MemoryKv::new());
        let nodes = (1..=6).map(|node| (node, Arc::new(MemoryNode::new()))).collect();
        Self::with(kv, nodes, Clock::System, publishing).await
    }

    pub(crate) async fn with(
        kv: Arc<dyn OrderedKv>,
        nodes: BTreeMap<u16, Arc<MemoryNode>>,
        clock: Clock,
        publishing: Publishing,
    ) -> Self {
        let services = nodes
            .iter()
            .map(|(number, node)| {
                let service: Arc<dyn ShardService> = Arc::<MemoryNode>::clone(node);
                (*number, (service, format!("node-{number}")))
            })
            .collect();
        let parts = StoreParts {
            kv: Arc::clone(&kv),
            nodes: services,
            users: Users::for_tests(Arc::clone(&kv)),
            data: DataConfig::default(),
            publishing,
            lifecycle_day: LifecycleDay::CALENDAR,
            clock: clock.clone(),
            only_process: true,
        };
        let store = Store::open(parts).await.expect("a store on memory opens");
        Self { store, nodes, kv, clock }
    }
}

impl Store {
    /// Collects garbage now, in as many steps as it takes, which otherwise the background does.
    pub async fn collect_garbage_now(&self) {
        for _ in 0..COLLECTION_STEPS {
            self.inner.data.collect_once().await.expect("a store on memory is collected");
        }
    }

    /// Publish groups that were neither published nor given up, and leases that were not released.
    pub async fn groups_and_leases_now(&self) -> (usize, usize) {
        let snapshot = self.snapshot().await.expect("a store on memory is read");
        let mut counts = [0; 2];
        for (count, prefix) in counts.iter_mut().zip([publish::prefix(), sessions::leases_prefix()]) {
            let page = snapshot.scan(KeyRange::prefix(prefix), Direction::Forward, 1_000).await;
            *count = page.expect("a store on memory is read").rows.len();
        }
        (counts[0], counts[1])
    }
}

/// A request of a user; `root` may do everything.
pub fn request_of(id: &str, root: bool) -> RequestContext {
    let user = UserIdentity { id: id.to_owned(), name: id.to_owned(), access_key: format!("AK{id}"), root };
    RequestContext { principal: Principal::User(Arc::new(user)), ..anonymous_request() }
}

/// A request that nobody signed.
pub fn anonymous_request() -> RequestContext {
    RequestContext {
        principal: Principal::Anonymous,
        request_id: Arc::from("test"),
        source_ip: None,
        secure_transport: false,
        user_agent: None,
        referer: None,
        keys: Vec::new(),
    }
}
