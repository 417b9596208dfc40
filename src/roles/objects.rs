//! The store itself: users and the use cases, over metadata and storage nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use ashlar_metadata::{EmbeddedKv, OrderedKv};
use ashlar_objects::clock::Clock;
use ashlar_objects::lifecycle::LifecycleDay;
use ashlar_objects::log::Publishing;
use ashlar_objects::users::{KeyRing, MasterKey, RootCredentials, SecretKey, Users};
use ashlar_objects::{DataConfig, Store, StoreParts};
use ashlar_storage_node::ShardService;
use zeroize::Zeroizing;

use super::publishing::Prepared;
use super::storage::StorageNodes;
use crate::configuration::Configuration;

/// Users on metadata, and root with the pair that was given, that stood there, or that is made now.
pub(crate) async fn users(
    metadata: &Arc<EmbeddedKv>,
    master_key: Zeroizing<[u8; 32]>,
    root: Option<(String, SecretKey)>,
) -> anyhow::Result<(Users, RootCredentials)> {
    let users = known_users(metadata, master_key);
    let root = users.bootstrap_root(root).await.context(
        "root cannot sign in; if the master key of this data directory was changed, put the old one back",
    )?;
    Ok((users, root))
}

/// Users as metadata has them.
pub(crate) fn known_users(metadata: &Arc<EmbeddedKv>, master_key: Zeroizing<[u8; 32]>) -> Users {
    let keys = KeyRing::from(MasterKey::from(master_key));
    Users::new(Arc::clone(metadata) as Arc<dyn OrderedKv>, keys, Clock::System)
}

/// Opens the store. It is the only process on this metadata, because the data directory is locked.
pub(crate) async fn open(
    metadata: &Arc<EmbeddedKv>,
    nodes: &StorageNodes,
    users: Users,
    tree: &Configuration,
    publishing: Option<&Prepared>,
) -> anyhow::Result<Store> {
    let parts = StoreParts {
        kv: Arc::clone(metadata) as Arc<dyn OrderedKv>,
        nodes: by_number(nodes),
        users,
        data: data_config(tree),
        publishing: publishing.map_or_else(Publishing::default, Prepared::for_store),
        lifecycle_day: LifecycleDay::of_seconds(tree.background.lifecycle_day_s),
        clock: Clock::System,
        only_process: true,
    };
    let store = Store::open(parts).await.context("opening the store")?;
    nodes.damaged().for_each(|node| store.scrub_node(node));
    Ok(store)
}

fn by_number(nodes: &StorageNodes) -> BTreeMap<u16, (Arc<dyn ShardService>, String)> {
    let nodes = nodes.all().iter();
    nodes.map(|node| (node.place.number, (Arc::clone(&node.service), node.place.domain.clone()))).collect()
}

fn data_config(tree: &Configuration) -> DataConfig {
    let (memory, background) = (&tree.memory, &tree.background);
    DataConfig {
        k: tree.coding.k,
        m: tree.coding.m,
        intake_bytes: memory.intake.to_usize(),
        row_bytes: memory.rows.to_usize(),
        read_bytes: memory.reads.0,
        commitment_cache_bytes: memory.commitments.to_usize(),
        repair_bytes_per_second: background.repair_bytes_per_second.0,
        scrub_bytes_per_second: background.scrub_bytes_per_second.0,
        probe_interval: background.probe_interval.0,
        progress_interval: background.progress_interval.0,
        gc_interval: background.gc_interval.0,
        sweep_interval: background.sweep_interval.0,
        scrub_interval: background.scrub_interval.0,
        ..DataConfig::default()
    }
}
