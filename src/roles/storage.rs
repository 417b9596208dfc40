//! The role `storage`: every node of this process, opened on its folder.
//!
//! Invariant: nodes of one file system share one flusher, so that their syncs are shared. A node whose disk
//! refuses is replaced by [`Absent`] and the rest goes on, as long as parity can replace what it held.

mod absent;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, bail};
use ashlar_disk::{Disk, RealDisk};
use ashlar_storage_node::{
    Flusher, FlusherOptions, FlusherStats, NodeId, OpenError, ShardService, SpaceReport, Store, StoreOptions,
    StoreStats,
};

use crate::api::labels;
use crate::configuration::Configuration;
use crate::data_directory::{DA_NAME, JOURNAL_NAME, Layout, NodePlace};
use absent::Absent;

/// Folders in a node's with files that could not be read.
const ASIDE_PREFIX: &str = "set-aside-";

/// One node of this process.
pub(crate) struct StorageNode {
    /// Where it lies.
    pub(crate) place: NodePlace,
    /// How it is called.
    pub(crate) service: Arc<dyn ShardService>,
    store: Option<Arc<Store>>,
}

/// All nodes of this process.
pub(crate) struct StorageNodes {
    nodes: Vec<StorageNode>,
    flushers: Vec<Arc<Flusher>>,
}

/// What the nodes of this process hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TotalSpace {
    /// Shards.
    pub(crate) shards: u64,
    /// Their bytes.
    pub(crate) shard_bytes: u64,
    /// What can still be written, each file system counted once.
    pub(crate) writable_bytes: u64,
}

/// A series of counters: labels and value.
type Series = Vec<(String, u64)>;

impl StorageNodes {
    /// Numbers of the nodes whose files were not as they were left.
    pub(crate) fn damaged(&self) -> impl Iterator<Item = u16> {
        let is_damaged = |store: &Arc<Store>| {
            let report = store.report();
            !report.damaged.is_empty() || report.lost_shards > 0
        };
        let damaged = self.nodes.iter().filter(move |node| node.store.as_ref().is_some_and(is_damaged));
        damaged.map(|node| node.place.number)
    }

    /// Opens every node of a layout. Blocks: their logs are read.
    pub(crate) fn open(layout: &Layout, tree: &Configuration) -> anyhow::Result<Self> {
        let mut flushers: BTreeMap<u64, Arc<Flusher>> = BTreeMap::new();
        let mut with_flusher = Vec::new();
        for place in &layout.nodes {
            let system = RealDisk::new().file_system_id(&place.dir);
            let system = system.with_context(|| format!("{} cannot be looked at", place.dir.display()))?;
            let flusher = match flushers.get(&system) {
                Some(flusher) => Arc::clone(flusher),
                None => {
                    let flusher = Flusher::start(FlusherOptions::default())
                        .context("starting the flusher's threads")?;
                    flushers.entry(system).or_insert(flusher).clone()
                }
            };
            with_flusher.push((place, flusher));
        }
        let opened: Vec<anyhow::Result<Result<StorageNode, Broken<'_>>>> = thread::scope(|scope| {
            let opening: Vec<_> = with_flusher
                .iter()
                .map(|(place, flusher)| scope.spawn(move || open_node(place, tree, flusher)))
                .collect();
            let joined = opening.into_iter().map(|thread| thread.join());
            joined.map(|opened| opened.unwrap_or_else(|_| bail!("opening a storage node panicked"))).collect()
        });
        let opened = opened.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let lost = layout.nodes.iter().filter(|place| place.is_lost).count();
        let broken = opened.iter().filter(|node| node.is_err()).count();
        if lost + broken > usize::from(tree.coding.m) {
            for broken in opened.iter().filter_map(|node| node.as_ref().err()) {
                tracing::error!(node = broken.place.number, error = %broken.error, "the node cannot be opened");
            }
            bail!(
                "{} storage nodes are gone or cannot be opened and the coding {} replaces at most {}; the log says why each",
                lost + broken,
                tree.coding,
                tree.coding.m
            );
        }
        let replaced = opened.into_iter().map(|node| match node {
            Ok(node) => Ok(node),
            Err(broken) => broken.replace(tree),
        });
        let nodes = replaced.collect::<anyhow::Result<Vec<StorageNode>>>()?;
        Ok(Self { nodes, flushers: flushers.into_values().collect() })
    }

    /// Opens the nodes that hold something and can be opened, and makes none: for a recovery. Blocks.
    pub(crate) fn open_existing(layout: &Layout, tree: &Configuration) -> anyhow::Result<Self> {
        let (mut nodes, mut flushers) = (Vec::new(), Vec::new());
        for place in &layout.nodes {
            let absent = |reason: String| StorageNode {
                place: place.clone(),
                service: Arc::new(Absent::new(reason)),
                store: None,
            };
            if !place.holds_files() {
                nodes.push(absent("its folder is not here".to_owned()));
                continue;
            }
            let flusher =
                Flusher::start(FlusherOptions::default()).context("starting a flusher's threads")?;
            nodes.push(match open_node(place, tree, &flusher)? {
                Ok(node) => node,
                Err(broken) => {
                    let (number, error) = (place.number, broken.error);
                    tracing::error!(node = number, %error, "the node cannot be opened; the others stand in for it");
                    absent(error.to_string())
                }
            });
            flushers.push(flusher);
        }
        Ok(Self { nodes, flushers })
    }

    /// Numbers of those that are not here, or cannot be opened.
    pub(crate) fn absent(&self) -> impl Iterator<Item = u16> {
        self.nodes.iter().filter(|node| node.store.is_none()).map(|node| node.place.number)
    }

    /// In order of their numbers.
    pub(crate) fn all(&self) -> &[StorageNode] {
        &self.nodes
    }

    /// The node of a number.
    pub(crate) fn get(&self, number: u16) -> Option<&StorageNode> {
        self.nodes.iter().find(|node| node.place.number == number)
    }

    /// What they hold together.
    pub(crate) async fn space(&self) -> TotalSpace {
        let mut total = TotalSpace::default();
        let mut by_system: BTreeMap<u64, u64> = BTreeMap::new();
        for node in &self.nodes {
            let SpaceReport { writable_bytes, shards, shard_bytes, .. } =
                node.service.space().await.unwrap_or_default();
            total.shards += shards;
            total.shard_bytes += shard_bytes;
            let system = RealDisk::new().file_system_id(&node.place.dir).unwrap_or(0);
            by_system.insert(system, writable_bytes);
        }
        total.writable_bytes = by_system.values().sum();
        total
    }

    /// Every counter of nodes and flushers: name, help, series.
    pub(crate) fn counters(&self, mut take: impl FnMut(&'static str, &'static str, Series)) {
        type OfFlusher = (&'static str, &'static str, fn(&FlusherStats) -> u64);
        let of_flushers: [OfFlusher; 5] = [
            ("ashlar_flush_sync_batches_total", "Rounds that synced the nodes' logs.", |stats| {
                stats.rounds.get()
            }),
            ("ashlar_flush_appends_total", "Puts and deletes that those rounds served.", |stats| {
                stats.appends.get()
            }),
            ("ashlar_flush_segment_bytes_total", "Bytes written to segments.", |stats| {
                stats.segment_bytes.get()
            }),
            ("ashlar_flush_segment_syncs_total", "Syncs of segments.", |stats| stats.segment_syncs.get()),
            ("ashlar_flush_segment_extents_total", "Extents that those syncs served.", |stats| {
                stats.segment_extents.get()
            }),
        ];
        for (name, help, read) in of_flushers {
            let series = self.flushers.iter().enumerate();
            take(
                name,
                help,
                series
                    .map(|(n, flusher)| (labels(&[("flusher", &n.to_string())]), read(flusher.stats())))
                    .collect(),
            );
        }
        type OfStore = (&'static str, &'static str, fn(&StoreStats) -> u64);
        let of_stores: [OfStore; 11] = [
            ("ashlar_node_log_groups_total", "Durable writes to the node's log.", |stats| {
                stats.log_groups.get()
            }),
            ("ashlar_node_log_bytes_total", "Bytes of them.", |stats| stats.log_bytes.get()),
            ("ashlar_node_puts_total", "Shards stored.", |stats| stats.puts.get()),
            ("ashlar_node_put_bytes_total", "Bytes of them.", |stats| stats.put_bytes.get()),
            ("ashlar_node_reads_total", "Reads answered.", |stats| stats.reads.get()),
            ("ashlar_node_read_bytes_total", "Bytes of them.", |stats| stats.read_bytes.get()),
            ("ashlar_node_cold_reads_total", "Reads that waited for the device.", |stats| {
                stats.cold_reads.get()
            }),
            ("ashlar_node_corrupt_total", "Shards found corrupt on the node.", |stats| stats.corrupt.get()),
            ("ashlar_node_scrubbed_bytes_total", "Bytes compared by scrubs.", |stats| {
                stats.scrubbed_bytes.get()
            }),
            ("ashlar_node_punched_bytes_total", "Bytes given back to the file system.", |stats| {
                stats.punched_bytes.get()
            }),
            ("ashlar_node_compacted_bytes_total", "Bytes of records copied to compact logs.", |stats| {
                stats.compacted_bytes.get()
            }),
        ];
        for (name, help, read) in of_stores {
            let stores = self.nodes.iter().filter_map(|node| Some((node.place.number, node.store.as_ref()?)));
            let label = |number: u16| labels(&[("node", &number.to_string())]);
            take(name, help, stores.map(|(number, store)| (label(number), read(store.stats()))).collect());
        }
    }

    /// Ends every node once nothing is under way there. Blocks.
    pub(crate) fn close(&self) {
        for store in self.nodes.iter().filter_map(|node| node.store.as_ref()) {
            store.close();
        }
    }
}

/// A node that could not be opened on what its folder holds.
struct Broken<'a> {
    place: &'a NodePlace,
    flusher: &'a Arc<Flusher>,
    error: OpenError,
}

impl Broken<'_> {
    /// A node whose files do not say whose they are starts empty, with them set aside; one whose disk
    /// refuses stays away until the next start. Either way the others stand in for it.
    fn replace(self, tree: &Configuration) -> anyhow::Result<StorageNode> {
        let Self { place, flusher, error } = self;
        let (number, dir) = (place.number, place.dir.display().to_string());
        if matches!(error, OpenError::Superblock { .. }) {
            let aside = set_aside(&place.dir).with_context(|| format!("setting the files of {dir} aside"))?;
            let aside = aside.display().to_string();
            tracing::error!(node = number, dir, aside, %error, "the node's files are unreadable and set aside; it is filled from the others");
            if let Ok(node) = open_node(place, tree, flusher)? {
                return Ok(node);
            }
        }
        tracing::error!(node = number, dir, %error, "the node cannot be opened; the others stand in for it");
        Ok(StorageNode {
            place: place.clone(),
            service: Arc::new(Absent::new(error.to_string())),
            store: None,
        })
    }
}

/// Moves everything but the journal and what the DA node has into a new folder inside `dir`, which is answered.
fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let disk = RealDisk::new();
    let mut attempt = 1;
    let aside = loop {
        let aside = dir.join(format!("{ASIDE_PREFIX}{attempt}"));
        if !disk.exists(&aside)? {
            break aside;
        }
        attempt += 1;
    };
    disk.create_dir_all(&aside)?;
    for name in disk.list_dir(dir)? {
        let is_kept =
            name.to_str().is_some_and(|name| name == JOURNAL_NAME || name.starts_with(ASIDE_PREFIX))
                || name.file_stem() == Some(DA_NAME.as_ref());
        if !is_kept {
            disk.rename(&dir.join(&name), &aside.join(&name))?;
        }
    }
    disk.sync_dir(&aside)?;
    disk.sync_dir(dir)?;
    Ok(aside)
}

fn open_node<'a>(
    place: &'a NodePlace,
    tree: &Configuration,
    flusher: &'a Arc<Flusher>,
) -> anyhow::Result<Result<StorageNode, Broken<'a>>> {
    let options = StoreOptions {
        reserve_bytes: (tree.storage.reserve.0 > 0).then_some(tree.storage.reserve.0),
        log_bytes: tree.storage.log.0,
        segment_bytes: tree.storage.segment.0,
        ..StoreOptions::default()
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    let (number, dir) = (place.number, place.dir.display().to_string());
    if place.is_lost {
        tracing::warn!(
            node = number,
            dir,
            "the node's folder is gone; it starts empty and is filled from the others"
        );
    }
    let store = match Store::open(disk, &place.dir, NodeId(number.into()), options, flusher) {
        Ok(store) => Arc::new(store),
        Err(error @ (OpenError::Io { .. } | OpenError::Superblock { .. })) => {
            return Ok(Err(Broken { place, flusher, error }));
        }
        Err(error) => return Err(error).with_context(|| format!("opening storage node {number}")),
    };
    let report = store.report();
    for damage in &report.damaged {
        let file = damage.file.display().to_string();
        tracing::error!(
            node = number,
            dir,
            file,
            offset = damage.offset,
            "the node's log is damaged there; what it lost is rebuilt"
        );
    }
    if report.lost_shards > 0 || report.restored_superblock {
        let (lost_shards, restored_superblock) = (report.lost_shards, report.restored_superblock);
        tracing::warn!(
            node = number,
            dir,
            lost_shards,
            restored_superblock,
            "the node was damaged; what it lost is rebuilt"
        );
    }
    tracing::debug!(
        node = number,
        dir,
        shards = report.shards,
        torn_records = report.torn_records,
        "node opened"
    );
    let service = Arc::clone(&store) as Arc<dyn ShardService>;
    Ok(Ok(StorageNode { place: place.clone(), service, store: Some(store) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_set_aside_and_the_journal_stays() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["superblock", "log-0"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(dir.path().join(JOURNAL_NAME)).unwrap();
        let first = set_aside(dir.path()).unwrap();
        assert!(first.join("superblock").exists() && first.join("log-0").exists());
        assert!(dir.path().join(JOURNAL_NAME).is_dir());
        let second = set_aside(dir.path()).unwrap();
        assert!(first != second && first.join("superblock").exists());
    }
}
