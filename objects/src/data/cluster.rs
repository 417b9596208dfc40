//! The cluster map at work: which nodes a new chunk goes to, and on which an old one lies.
//!
//! Past maps are kept for ever (a few KiB each), because every chunk names the epoch whose slots count for
//! it. A new chunk takes its slots' nodes where they take writes, substitutes where not, and fewer data
//! shards where there are no substitutes; what deviates from the slots is recorded with the chunk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ashlar_chunker::{ChunkId, Coding, ShardIndex};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::blobs::ChunkRef;
use ashlar_metadata::namespace::cluster::{self, ClusterRow};
use ashlar_metadata::namespace::outbox;
use ashlar_metadata::{Check, Commit, CommitError, OrderedKv, Write};
use parking_lot::RwLock;

use super::nodes::{Node, Nodes};
use super::placement;
use crate::clock::Clock;
use crate::error::Error;
use crate::log;

/// Times the map is computed anew because another process changed it.
const MAP_ATTEMPTS: usize = 20;
const READING: &str = "reading the cluster map";

/// Where a chunk's shards go.
#[derive(Clone)]
pub(crate) struct ChunkPlan {
    pub(crate) chunk: ChunkId,
    pub(crate) coding: Coding,
    /// Shard by shard, all distinct.
    pub(crate) nodes: Vec<Arc<Node>>,
    epoch: u64,
    /// What the map says, shard by shard; may be shorter.
    slots: Vec<u16>,
}

impl ChunkPlan {
    /// The chunk's row, once its shards lie where the plan says.
    pub(crate) fn chunk_ref(&self, coding: Coding, length: u32, root: [u8; 32]) -> ChunkRef {
        let shards = self.nodes.iter().take(usize::from(coding.shards())).enumerate();
        let deviations = shards
            .filter(|(shard, node)| self.slots.get(*shard) != Some(&node.id))
            .map(|(shard, node)| (u8::try_from(shard).expect("a chunk has at most 64 shards"), node.id))
            .collect();
        ChunkRef { length, k: coding.k(), m: coding.m(), root, deviations, map_epoch: self.epoch }
    }
}

pub(crate) struct Cluster {
    pub(crate) nodes: Nodes,
    kv: Arc<dyn OrderedKv>,
    maps: RwLock<Maps>,
}

struct Maps {
    current: Arc<ClusterRow>,
    by_epoch: HashMap<u64, Arc<ClusterRow>>,
}

impl Cluster {
    /// Reads the map, and makes a new one, which the log is told, when nodes or coding are others than before.
    pub(crate) async fn open(
        kv: Arc<dyn OrderedKv>,
        nodes: Nodes,
        (k, m): (u8, u8),
        clock: &Clock,
    ) -> Result<Self, Error> {
        Coding::new(k, m).map_err(|e| Error::internal("configuring the coding", e))?;
        let present: BTreeMap<u16, String> = nodes.all().map(|node| (node.id, node.domain.clone())).collect();
        for _ in 0..MAP_ATTEMPTS {
            let found = kv.get(&cluster::key()).await.map_err(|e| Error::internal(READING, e))?;
            let previous = found.as_ref().map(|row| ClusterRow::decode(&row.value)).transpose();
            let previous = previous.map_err(|e| Error::internal(READING, e))?;
            let Some(next) = placement::next_map(previous.as_ref(), &present, k, m) else {
                let current = Arc::new(previous.expect("only an existing map can be left as it is"));
                return Ok(Self::with_map(kv, nodes, current));
            };
            let check = match &found {
                None => Check::Absent(cluster::key()),
                Some(row) => Check::At(cluster::key(), row.version),
            };
            let value = next.encode();
            let record = log::of_cluster_map(&value, clock.now());
            let mut writes = vec![
                Write::Put { key: cluster::key(), value },
                Write::PutAtPosition {
                    key_prefix: outbox::prefix(),
                    key_suffix: outbox::suffix(0),
                    value: outbox::encode(&record),
                },
            ];
            if let (Some(found), Some(previous)) = (found, &previous) {
                writes.push(Write::Put { key: cluster::past_key(previous.epoch), value: found.value });
            }
            match kv.commit(Commit { checks: vec![check], writes, transaction: None }).await {
                Ok(_) => {
                    tracing::info!(epoch = next.epoch, nodes = present.len(), "the cluster map changed");
                    return Ok(Self::with_map(kv, nodes, Arc::new(next)));
                }
                Err(CommitError::Conflict { .. } | CommitError::Unknown { .. }) => {}
                Err(error) => return Err(Error::internal("storing the cluster map", error)),
            }
        }
        Err(Error::SlowDown { what: "the cluster map is being changed by many processes" })
    }

    fn with_map(kv: Arc<dyn OrderedKv>, nodes: Nodes, current: Arc<ClusterRow>) -> Self {
        let by_epoch = HashMap::from([(current.epoch, Arc::clone(&current))]);
        Self { nodes, kv, maps: RwLock::new(Maps { current, by_epoch }) }
    }

    /// The map that new chunks are placed by.
    pub(crate) fn current(&self) -> Arc<ClusterRow> {
        Arc::clone(&self.maps.read().current)
    }

    /// The map of an epoch, from metadata when it is not known yet.
    pub(crate) async fn map(&self, epoch: u64) -> Result<Arc<ClusterRow>, Error> {
        if let Some(map) = self.maps.read().by_epoch.get(&epoch) {
            return Ok(Arc::clone(map));
        }
        let (past, current) = (cluster::past_key(epoch), cluster::key());
        let rows = self.kv.get_many(&[&past, &current]).await.map_err(|e| Error::internal(READING, e))?;
        for row in rows.into_iter().flatten() {
            let map = ClusterRow::decode(&row.value).map_err(|e| Error::internal(READING, e))?;
            if map.epoch == epoch {
                let map = Arc::new(map);
                self.maps.write().by_epoch.insert(epoch, Arc::clone(&map));
                return Ok(map);
            }
        }
        Err(Error::internal(READING, format!("there is no map of epoch {epoch}")))
    }

    /// The number of the node on which each shard of a chunk lies, shard by shard; `None` where the map of
    /// its epoch has no such slot.
    pub(crate) async fn locate(&self, chunk: ChunkId, at: &ChunkRef) -> Result<Vec<Option<u16>>, Error> {
        let map = self.map(at.map_epoch).await?;
        let slots = &map.groups[placement::group_of(chunk, map.groups.len())];
        let shards = usize::from(at.k) + usize::from(at.m);
        let mut nodes: Vec<Option<u16>> = (0..shards).map(|shard| slots.get(shard).copied()).collect();
        for (shard, node) in &at.deviations {
            if let Some(slot) = nodes.get_mut(usize::from(*shard)) {
                *slot = Some(*node);
            }
        }
        Ok(nodes)
    }

    /// Chooses distinct nodes that take writes for a new chunk, without those in `avoid`.
    pub(crate) fn plan(&self, chunk: ChunkId, avoid: &[u16]) -> Result<ChunkPlan, Error> {
        let map = self.current();
        let slots = map.groups[placement::group_of(chunk, map.groups.len())].clone();
        let shards = usize::from(map.k) + usize::from(map.m);
        let takes = |node: u16| {
            self.nodes.get(node).filter(|node| node.is_writable() && !avoid.contains(&node.id)).cloned()
        };
        let mut nodes: Vec<Option<Arc<Node>>> =
            (0..shards).map(|shard| slots.get(shard).and_then(|node| takes(*node))).collect();
        while let Some(gap) = nodes.iter().position(Option::is_none) {
            let taken: Vec<&Arc<Node>> = nodes.iter().flatten().collect();
            let Some(substitute) = self.substitute(chunk, &taken, avoid) else { break };
            nodes[gap] = Some(substitute);
        }
        let found = nodes.iter().flatten().count();
        let needed = usize::from(map.m) + 1;
        if found < needed {
            return Err(Error::TooFewNodes { writable: found, needed });
        }
        let k = u8::try_from(found - usize::from(map.m)).expect("at most k");
        let coding = Coding::new(k, map.m).map_err(|e| Error::internal("choosing a coding", e))?;
        // Shards past the shrunk count give their nodes to the gaps before it.
        let mut spare: Vec<Arc<Node>> = nodes.drain(found..).flatten().collect();
        let nodes = nodes.into_iter().filter_map(|node| node.or_else(|| spare.pop())).collect();
        Ok(ChunkPlan { chunk, coding, nodes, epoch: map.epoch, slots })
    }

    /// A node that takes writes, is not among `taken` or `avoid`, and fits the chunk best: in the failure
    /// domain used least, then by affinity.
    pub(crate) fn substitute(
        &self,
        chunk: ChunkId,
        taken: &[&Arc<Node>],
        avoid: &[u16],
    ) -> Option<Arc<Node>> {
        let name = chunk.encode();
        let uses = |domain: &str| taken.iter().filter(|node| node.domain == domain).count();
        self.nodes
            .all()
            .filter(|node| node.is_writable() && !avoid.contains(&node.id))
            .filter(|node| taken.iter().all(|taken| taken.id != node.id))
            .min_by_key(|node| (uses(&node.domain), std::cmp::Reverse(placement::affinity(&name, node.id))))
            .cloned()
    }

    /// The node of a shard in a located chunk.
    pub(crate) fn node_of(&self, located: &[Option<u16>], shard: ShardIndex) -> Option<&Arc<Node>> {
        located.get(shard.position()).copied().flatten().and_then(|node| self.nodes.get(node))
    }
}
