//! `ashlar recover`: metadata from what is left after a fire, the nodes and the master key.
//!
//! Reads the published log back from the DA nodes' folders, restores the namespace from it into new metadata, finds the
//! shards on the storage nodes, and puts the new metadata in place. Invariant: nothing that is there is changed before
//! the last step, which is a rename; killed at any moment, it can be run again. Nothing listens meanwhile.

mod report;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use ashlar_da_publisher::history::{Chain, History, Plan, Remembered};
use ashlar_da_publisher::{
    Archive, ArchivedNode, DaNodeService, Domain, QuorumClient, QuorumConfig, Signer, Snapshot,
};
use ashlar_disk::{Disk, RealDisk};
use ashlar_metadata::namespace::log::GenerationRow;
use ashlar_metadata::{EmbeddedKv, OrderedKv};
use ashlar_objects::clock::Clock;
use ashlar_objects::restore::{Loss, Restoration};
use futures::StreamExt;
use zeroize::Zeroizing;

use crate::command_line::RecoverFlags;
use crate::configuration::{Configuration, Loaded};
use crate::data_directory::{self, DA_NAME, Layout, NodePlace, metadata_dir};
use crate::progress::Progress;
use crate::roles::publishing::{Keys, log_keys};
use crate::roles::storage::StorageNodes;
use crate::roles::{metadata, objects};
use crate::{logging, output, up};
use report::Report;

/// Metadata that is not whole yet.
const UNFINISHED_NAME: &str = "metadata.recovering";
/// Batches that are fetched at once.
const FETCHES: usize = 4;
/// Stake of each archived node; no quorum is asked for.
const STAKE: u64 = 1;

/// Recovers, or says why not.
pub(crate) fn run(flags: &RecoverFlags) -> anyhow::Result<ExitCode> {
    let mut loaded = Loaded::from_process(&flags.server)?;
    logging::start(&loaded.tree.log).map_err(|problem| anyhow::anyhow!("log.filter: {problem}"))?;
    let locks = up::take(&mut loaded)?;
    let tree = loaded.tree;
    let layout = Layout::find(&tree)?;
    check_nothing_is_left(&tree, &layout)?;
    let master_key = data_directory::master_key(&tree.data_dir, false)?;
    let mut progress = Progress::start();
    progress.step("opening the storage nodes");
    let nodes = StorageNodes::open_existing(&layout, &tree)?;
    let runtime = up::runtime(&tree)?;
    let recovery = Recovery { tree, layout, master_key, accept_loss: flags.accept_loss };
    let unfinished = recovery.tree.data_dir.join(UNFINISHED_NAME);
    remove(&unfinished)?;
    let metadata = metadata::make(&unfinished, &recovery.tree)?;
    let done = runtime.block_on(recovery.restore(&metadata, &nodes, &mut progress));
    drop(runtime);
    nodes.close();
    let closed = Arc::into_inner(metadata).context("something still holds the new metadata");
    let report = match done.and_then(|report| closed.map(|_closed| report)) {
        Ok(report) => report,
        Err(error) => {
            progress.end();
            remove(&unfinished)?;
            return Err(error);
        }
    };
    recovery.put_in_place(&unfinished, &report)?;
    progress.end();
    drop(locks);
    output::print(&if flags.json { report.to_json() } else { report.to_string() })?;
    Ok(ExitCode::SUCCESS)
}

/// A store that has metadata is not for us.
fn check_nothing_is_left(tree: &Configuration, layout: &Layout) -> anyhow::Result<()> {
    let metadata = metadata_dir(&tree.data_dir);
    if metadata::is_there(layout, tree) {
        bail!(
            "there is metadata in {} or in a journal beside it; recovering is for a store that has lost it. Start with              `ashlar up`, or, if what is there is of no use, move it away and recover then",
            metadata.display()
        );
    }
    // Copies that this configuration does not speak of.
    for journal in layout.nodes.iter().map(NodePlace::journal_dir) {
        let entries = RealDisk::new().list_dir(&journal);
        if !layout.journals.contains(&journal) && entries.is_ok_and(|entries| !entries.is_empty()) {
            bail!(
                "a copy of the metadata journal is in {}; name its disk with --disk, and `ashlar up` brings everything back                  from it",
                journal.display()
            );
        }
    }
    Ok(())
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

struct Recovery {
    tree: Configuration,
    layout: Layout,
    master_key: Zeroizing<[u8; 32]>,
    accept_loss: bool,
}

impl Recovery {
    async fn restore(
        &self,
        metadata: &Arc<EmbeddedKv>,
        nodes: &StorageNodes,
        progress: &mut Progress,
    ) -> anyhow::Result<Report> {
        progress.step("reading what DA nodes hold");
        let history = self.history().await?;
        let plan = history.plan(self.accept_loss).await?;
        let newest = history.newest()?;
        let kv = Arc::clone(metadata) as Arc<dyn OrderedKv>;
        let mut restoration = Restoration::new(kv, Clock::System);
        self.replay(&history, &plan, &mut restoration, progress).await?;
        let absent: BTreeSet<u16> = nodes.absent().collect();
        let known = restoration.nodes().await?;
        let is_lost = |number: &u16| {
            absent.contains(number) || self.layout.nodes.iter().all(|node| node.number != *number)
        };
        let lost_nodes: Vec<u16> = known.into_iter().filter(is_lost).collect();
        restoration.settle().await?;

        progress.step("finding the shards on the storage nodes");
        let users = objects::known_users(metadata, self.master_key.clone());
        let store = objects::open(metadata, nodes, users, &self.tree, None).await?;
        let adopted = store.adopt_shards(&absent).await?;
        store.drain().await;
        drop(store);
        let (base_namespace, base_sequence) = plan.last;
        let of_base = plan.skipped.iter().filter(|(namespace, _)| *namespace == base_namespace);
        let generation = GenerationRow {
            generation: newest.generation.generation + 1,
            salt: rand::random(),
            base_namespace,
            base_sequence,
            skipped: of_base.map(|(_, sequence)| *sequence).collect(),
        };
        progress.step("deriving heads, lists and references");
        let restored = restoration.finish(&adopted, generation.clone()).await?;
        let without_shards = restored.lost.iter().filter(|lost| lost.reason == Loss::Shards).count();
        if without_shards > 0 && !lost_nodes.is_empty() && !self.accept_loss {
            bail!(
                "{without_shards} versions have too few shards left, and the nodes {lost_nodes:?} are missing: bring back \
                 their disks, or go on without those versions with --accept-loss"
            );
        }
        Ok(Report::new(generation, &plan, &adopted, restored))
    }

    /// The logs, from the folders of all DA nodes, those set aside among them.
    async fn history(&self) -> anyhow::Result<History> {
        let folders: Vec<PathBuf> = self.layout.nodes.iter().flat_map(|node| da_folders(&node.dir)).collect();
        let archives = tokio::task::spawn_blocking(move || {
            let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
            let (mut archives, mut remembered) = (Vec::new(), Vec::new());
            for folder in folders {
                match Archive::open(Arc::clone(&disk), &folder) {
                    Ok((archive, statements)) => {
                        remembered.push(Remembered::new(&archive, statements));
                        archives.push(Arc::new(archive));
                    }
                    Err(error) => {
                        tracing::error!(folder = %folder.display(), %error, "what a DA node had cannot be read");
                    }
                }
            }
            (archives, remembered)
        });
        let (archives, remembered) = archives.await.context("reading what DA nodes hold")?;
        ensure!(
            !archives.is_empty(),
            "no storage node has a folder of a DA node: nothing was ever published here"
        );
        let keys = Keys::derive(&self.master_key)?;
        let signer = |(number, _): (u16, _)| Signer { key: keys.da_node(number).public_key(), stake: STAKE };
        let signers = (0..).zip(&archives).map(signer).collect();
        let services = archives
            .iter()
            .map(|archive| Arc::new(ArchivedNode(Arc::clone(archive))) as Arc<dyn DaNodeService>);
        let domain = Domain { chain_id: self.tree.chain.id, verifier: [0; 20] };
        let layer = QuorumClient::new(domain, QuorumConfig::default());
        layer.install_epoch(Arc::new(Snapshot::new(1, signers)?), services.collect());
        let nodes = self.layout.nodes.len();
        Ok(History::find(Arc::new(layer), &remembered, nodes, log_keys(&self.master_key)).await?)
    }

    async fn replay(
        &self,
        history: &History,
        plan: &Plan,
        restoration: &mut Restoration,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let mut chain = Chain::default();
        let fetch = |(namespace, sequence): ([u8; 32], u64)| async move {
            (sequence, history.batch(&namespace, sequence).await)
        };
        let mut batches = futures::stream::iter(plan.batches.clone()).map(fetch).buffered(FETCHES);
        let mut done = 0_usize;
        while let Some((sequence, batch)) = batches.next().await {
            let batch =
                batch.with_context(|| format!("batch {sequence} came back once and does not any more"))?;
            chain.follow(&batch)?;
            for entry in batch.entries {
                restoration.entry(&entry.record, entry.rows).await?;
            }
            restoration.carried(batch.carried.rows).await?;
            done += 1;
            progress.step(&format!("restoring: batch {done} of {}", plan.batches.len()));
        }
        Ok(())
    }

    /// Sets aside what names the old log, then gives the new metadata its name.
    fn put_in_place(&self, unfinished: &Path, report: &Report) -> anyhow::Result<()> {
        let data_dir = &self.tree.data_dir;
        let disk = RealDisk::new();
        let aside = free_name(data_dir, &format!("before-generation-{}", report.generation()))?;
        let mut names = vec!["trust.json"];
        // The embedded chain goes on only with the transactions that were signed for it; another chain remembers all of them.
        let is_whole = disk.exists(&data_dir.join("chain"))? && disk.exists(&data_dir.join("publisher"))?;
        if self.tree.chain.rpc.is_empty() && !is_whole {
            names.extend(["chain", "chain-high-water", "publisher"]);
        }
        let metadata = metadata_dir(data_dir);
        // What is there is no metadata: it was looked at.
        names.extend(metadata.file_name().and_then(|name| name.to_str()));
        for name in names {
            if disk.exists(&data_dir.join(name))? {
                disk.create_dir_all(&aside)?;
                disk.rename(&data_dir.join(name), &aside.join(name))
                    .with_context(|| format!("setting {name} aside"))?;
                disk.sync_dir(&aside)?;
            }
        }
        let path = data_dir.join(format!("recovered-{}.json", report.generation()));
        data_directory::write_public(&path, &report.to_json())?;
        disk.sync_dir(data_dir)?;
        disk.rename(unfinished, &metadata).context("putting the new metadata in place")?;
        disk.sync_dir(data_dir)?;
        Ok(())
    }
}

/// A name in a folder that is not taken: an earlier recovery may have set things aside, too.
fn free_name(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let mut path = folder.join(name);
    let mut number = 1;
    while RealDisk::new().exists(&path)? {
        number += 1;
        path = folder.join(format!("{name}-{number}"));
    }
    Ok(path)
}

/// A node's DA folder, and those that were set aside.
fn da_folders(node: &Path) -> Vec<PathBuf> {
    let names = RealDisk::new().list_dir(node).unwrap_or_default();
    let is_da = |name: &PathBuf| name.file_stem() == Some(DA_NAME.as_ref());
    names.into_iter().filter(is_da).map(|name| node.join(name)).collect()
}
