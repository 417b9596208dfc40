//! The role `metadata`: the embedded store, with its journal in every folder that the layout gives.
//!
//! Invariant: every folder that may know of a commit is given to the store, so that it can tell whether the
//! newest history is among them; and no store is made beside nodes that hold shards of another, because a
//! new one would count ids from the beginning and take those shards for garbage.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use ashlar_disk::{Disk, RealDisk};
use ashlar_metadata::EmbeddedKv;
use ashlar_metadata::embedded::{JournalLocation, OpenError, Options};

use crate::configuration::Configuration;
use crate::data_directory::{Layout, metadata_dir};

/// Makes new metadata in a folder of its own, for a recovery. Blocks.
pub(crate) fn make(dir: &Path, tree: &Configuration) -> anyhow::Result<Arc<EmbeddedKv>> {
    let location = JournalLocation { disk: Arc::new(RealDisk::new()), dir: dir.to_owned() };
    let kv = EmbeddedKv::open(&[location], &options(tree, true)).context("making metadata anew")?;
    Ok(Arc::new(kv))
}

/// Whether any of the folders that may hold metadata holds some, be it whole or not. Blocks.
pub(crate) fn is_there(layout: &Layout, tree: &Configuration) -> bool {
    !matches!(
        EmbeddedKv::open(&locations(layout, tree), &options(tree, false)),
        Err(OpenError::NoStore { .. })
    )
}

fn locations(layout: &Layout, tree: &Configuration) -> Vec<JournalLocation> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    let at = |dir: &Path| JournalLocation { disk: Arc::clone(&disk), dir: dir.to_owned() };
    let mut locations = vec![at(&metadata_dir(&tree.data_dir))];
    locations.extend(layout.journals.iter().map(|dir| at(dir)));
    locations
}

fn options(tree: &Configuration, may_make: bool) -> Options {
    Options {
        may_make,
        cache_bytes: tree.memory.metadata.to_usize(),
        segment_bytes: tree.metadata.segment.0,
        checkpoint_journal_bytes_min: tree.metadata.checkpoint_after.0,
        checkpoint_bytes_per_second: tree.metadata.checkpoint_bytes_per_second.0,
        ..Options::default()
    }
}

/// Opens metadata. Blocks: journals are replayed.
pub(crate) fn open(layout: &Layout, tree: &Configuration) -> anyhow::Result<Arc<EmbeddedKv>> {
    let locations = locations(layout, tree);
    let occupied = layout.nodes.iter().filter(|node| node.holds_files());
    let occupied: Vec<String> = occupied.map(|node| node.dir.display().to_string()).collect();
    let options = options(tree, occupied.is_empty());
    let kv = match EmbeddedKv::open(&locations, &options) {
        Err(OpenError::NoStore { dirs }) => bail!(
            "there is no metadata in {}, but storage nodes hold data in {}; metadata made anew would not know that data and would delete it. Put back the metadata folder as it was, run `ashlar recover` to bring it back from the published log, or give an empty --data-dir (and empty disks) to begin a new store",
            dirs.join(", "),
            occupied.join(", ")
        ),
        opened => opened.context("opening metadata")?,
    };
    let report = kv.report();
    for note in &report.notes {
        tracing::warn!(note, "metadata was not as it should be");
    }
    for (dir, reason) in &report.out {
        tracing::error!(dir, reason, "the journal there takes no part until the next start");
    }
    if report.rebuilt && !report.is_new {
        tracing::warn!(
            replayed_commits = report.replayed_commits,
            "metadata was brought back from the journal"
        );
    }
    for dir in &report.caught_up {
        let is_first_start = report.is_new;
        if !is_first_start {
            tracing::warn!(dir, "the journal there was missing or behind and has been brought up to date");
        }
    }
    if report.missing_members > 0 {
        let missing = report.missing_members;
        tracing::warn!(missing, "folders with a copy of the journal are gone; new copies stand in for them");
    }
    tracing::debug!(
        position = kv.stats().stable_position.0,
        replayed_commits = report.replayed_commits,
        "metadata opened"
    );
    Ok(Arc::new(kv))
}
