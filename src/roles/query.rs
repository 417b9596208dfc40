//! SQL over the store: its engine, and the folder that it spills to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ashlar_objects::Store;
use ashlar_query::{Engine, EngineConfig, NodeFacts, Surroundings};
use futures::future::BoxFuture;

use super::storage::StorageNodes;
use crate::api::describe_node;
use crate::configuration::Configuration;

/// Folder below the data directory; what is in it belongs to queries that run.
const SPILL_FOLDER: &str = "query-spill";

/// Starts the engine. Whatever an earlier process left spilled is removed.
pub(crate) fn open(store: &Store, nodes: &Arc<StorageNodes>, tree: &Configuration) -> anyhow::Result<Engine> {
    let spill = tree.data_dir.join(SPILL_FOLDER);
    if spill.exists() {
        std::fs::remove_dir_all(&spill).with_context(|| format!("emptying {}", spill.display()))?;
    }
    std::fs::create_dir(&spill).with_context(|| format!("making {}", spill.display()))?;
    let bytes = |size: crate::configuration::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    let defaults = EngineConfig::default();
    let sql = &tree.sql;
    let config = EngineConfig {
        threads: if sql.threads == 0 { defaults.threads } else { usize::from(sql.threads) },
        memory_bytes_max: bytes(sql.memory),
        query_memory_bytes_max: bytes(sql.statement_memory),
        spill_dir: Some(spill),
        query_spill_bytes_max: sql.statement_spill.0,
        footer_bytes_max: sql.footers.0,
        running_max: usize::from(sql.running_max),
        waiting_max: usize::from(sql.waiting_max),
        statement_timeout: Some(sql.statement_timeout.0).filter(|timeout| *timeout > Duration::ZERO),
    };
    let nodes = Arc::new(Nodes(Arc::clone(nodes)));
    Engine::open(store.clone(), Some(nodes), config).context("starting SQL")
}

struct Nodes(Arc<StorageNodes>);

impl Surroundings for Nodes {
    fn nodes(&self) -> BoxFuture<'_, Vec<NodeFacts>> {
        Box::pin(async {
            let mut all = Vec::new();
            for node in self.0.all() {
                let described = describe_node(node).await;
                all.push(NodeFacts {
                    node: described.node,
                    domain: described.domain,
                    health: described.health,
                    shards: described.shards,
                    shard_bytes: described.shard_bytes,
                    writable_bytes: described.writable_bytes,
                });
            }
            all
        })
    }
}
