//! The storage nodes of this process's view, and how well each does.
//!
//! A node that fails repeatedly, or says that it is unavailable, becomes suspect: reads prefer others and
//! writes leave it out until a probe finds it well. A full or read-only node takes no writes but is read.
//! What is observed here only steers; correctness never rests on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ashlar_storage_node::{HighWater, NodeHealth, PutError, ReadError, ShardService};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures in a row after which a node is suspect.
const FAILURES_MAX: u32 = 3;
/// Wait before the first probe of a suspect node; doubled with each probe that fails.
const PROBE_WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait between probes.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a node must be silent before its shards are rebuilt elsewhere.
pub(crate) const REBUILD_AFTER: Duration = Duration::from_secs(600);
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// One storage node.
pub(crate) struct Node {
    pub(crate) id: u16,
    pub(crate) domain: String,
    pub(crate) service: Arc<dyn ShardService>,
    failures: AtomicU32,
    suspect: AtomicBool,
    unwritable: AtomicBool,
    probe: Mutex<Probe>,
    /// Failures of every kind since the start.
    pub(crate) failures_total: AtomicU64,
    /// Times it became suspect.
    doubts: AtomicU64,
}

#[derive(Clone, Copy)]
struct Probe {
    wait: Duration,
    due: Option<Instant>,
    suspect_since: Option<Instant>,
}

impl Node {
    fn new(id: u16, service: Arc<dyn ShardService>, domain: String) -> Self {
        Self {
            id,
            domain,
            service,
            failures: AtomicU32::new(0),
            suspect: AtomicBool::new(false),
            unwritable: AtomicBool::new(false),
            probe: Mutex::new(Probe { wait: PROBE_WAIT_MIN, due: None, suspect_since: None }),
            failures_total: AtomicU64::new(0),
            doubts: AtomicU64::new(0),
        }
    }

    /// Whether it failed lately, so that others are asked first.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Whether new shards may go there.
    pub(crate) fn is_writable(&self) -> bool {
        !self.is_suspect() && !self.unwritable.load(Ordering::Relaxed)
    }

    /// It answered as it should.
    pub(crate) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// It did not answer in time, or its disk failed.
    pub(crate) fn failed(&self) {
        self.failures_total.fetch_add(1, Ordering::Relaxed);
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.doubt();
        }
    }

    fn unavailable(&self) {
        self.failures_total.fetch_add(1, Ordering::Relaxed);
        self.doubt();
    }

    fn doubt(&self) {
        if !self.suspect.swap(true, Ordering::Relaxed) {
            tracing::warn!(node = self.id, "the node failed and is left out until it answers a probe");
            self.doubts.fetch_add(1, Ordering::Relaxed);
            self.probe.lock().suspect_since.get_or_insert_with(Instant::now);
            self.schedule_probe();
        }
    }

    fn schedule_probe(&self) {
        let mut probe = self.probe.lock();
        probe.due = Some(Instant::now() + probe.wait);
    }

    /// Draws conclusions from a failed read; a shard that is missing or damaged says nothing of its node.
    pub(crate) fn read_failed(&self, error: &ReadError) {
        match error {
            ReadError::NotFound { .. } | ReadError::Corrupt { .. } | ReadError::OutOfRange { .. } => {
                self.succeeded()
            }
            ReadError::Io { .. } => self.failed(),
            ReadError::Unavailable { .. } => self.unavailable(),
        }
    }

    /// Draws conclusions from a failed put.
    pub(crate) fn put_failed(&self, error: &PutError) {
        match error {
            PutError::Full { .. } | PutError::ReadOnly { .. } => {
                if !self.unwritable.swap(true, Ordering::Relaxed) {
                    tracing::warn!(node = self.id, %error, "the node takes no writes");
                    self.schedule_probe();
                }
            }
            PutError::Unavailable { .. } => self.unavailable(),
            PutError::Busy { .. } | PutError::Conflict { .. } => self.failed(),
            PutError::Malformed { .. } => {}
        }
    }

    /// How long it has not answered.
    pub(crate) fn silent_for(&self) -> Duration {
        self.probe.lock().suspect_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether a probe is due.
    fn is_due(&self, now: Instant) -> bool {
        self.probe.lock().due.is_some_and(|due| due <= now)
    }

    /// Asks it how it is and believes the answer; whether it has come back.
    async fn probe(&self) -> bool {
        let health = tokio::time::timeout(PROBE_TIMEOUT, self.service.health()).await;
        let (suspect, unwritable) = match health {
            Ok(NodeHealth::Writable) => (false, false),
            Ok(NodeHealth::Full | NodeHealth::ReadOnly { .. }) => (false, true),
            Ok(NodeHealth::Unavailable { .. }) | Err(_) => (true, true),
        };
        let is_back = !suspect && self.is_suspect();
        if is_back {
            tracing::info!(node = self.id, "the node answers again");
        }
        self.failures.store(0, Ordering::Relaxed);
        if !self.suspect.swap(suspect, Ordering::Relaxed) && suspect {
            self.doubts.fetch_add(1, Ordering::Relaxed);
        }
        self.unwritable.store(unwritable, Ordering::Relaxed);
        let mut probe = self.probe.lock();
        if suspect || unwritable {
            probe.wait = (probe.wait * 2).min(PROBE_WAIT_MAX);
            probe.due = Some(Instant::now() + probe.wait);
            if suspect {
                probe.suspect_since.get_or_insert_with(Instant::now);
            } else {
                probe.suspect_since = None;
            }
        } else {
            *probe = Probe { wait: PROBE_WAIT_MIN, due: None, suspect_since: None };
        }
        is_back
    }
}

/// All nodes that this process can talk to.
pub(crate) struct Nodes {
    nodes: BTreeMap<u16, Arc<Node>>,
}

impl Nodes {
    pub(crate) fn new(nodes: BTreeMap<u16, (Arc<dyn ShardService>, String)>) -> Self {
        let nodes =
            nodes.into_iter().map(|(id, (service, domain))| (id, Arc::new(Node::new(id, service, domain))));
        Self { nodes: nodes.collect() }
    }

    pub(crate) fn get(&self, id: u16) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// Times that any node became suspect.
    pub(crate) fn doubts(&self) -> u64 {
        self.all().map(|node| node.doubts.load(Ordering::Relaxed)).sum()
    }

    /// The highest number that any answering node has seen as a session or a fencing token.
    pub(crate) async fn high_water(&self) -> u64 {
        let asked = self.all().map(|node| async move {
            let answer = tokio::time::timeout(PROBE_TIMEOUT, node.service.high_water()).await;
            let HighWater { session, token } = answer.ok()?.ok()?;
            Some(token.0.max(session.map_or(0, |session| session.0)))
        });
        futures::future::join_all(asked).await.into_iter().flatten().max().unwrap_or(0)
    }

    /// Nodes that take writes.
    pub(crate) fn writable(&self) -> usize {
        self.all().filter(|node| node.is_writable()).count()
    }

    /// Probes every node, or only those whose probe is due; whether any has come back.
    pub(crate) async fn probe(&self, only_due: bool) -> bool {
        let now = Instant::now();
        let due = self.all().filter(|node| !only_due || node.is_due(now));
        futures::future::join_all(due.map(|node| node.probe())).await.contains(&true)
    }
}
