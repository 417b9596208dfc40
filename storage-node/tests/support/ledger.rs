//! What a test knows must, may and must not be on a node, and the check of a disk after a crash.

use crate::shards::shard;
use ashlar_chunker::ShardId;
use ashlar_disk::{CrashPlan, Disk, FaultyDisk};
use ashlar_storage_node::{
    BlockRange, FencingToken, Flusher, FlusherOptions, NodeId, ReadError, ShardPut, ShardService, Store,
    StoreOptions, Verify,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The node's folder on every test disk.
pub(crate) const FOLDER: &str = "/node";

/// Whether a shard must be there.
#[allow(dead_code, reason = "not every suite has puts under way")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Absent,
    Present,
    /// A put or delete of it was under way.
    Either,
}

/// Shards by number; content follows from number and length.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) shards: BTreeMap<u64, (usize, Expected)>,
}

/// The shard a ledger means by a number.
pub(crate) fn numbered(number: u64, len: usize) -> ShardPut {
    shard(number, len).swap_remove(0)
}

/// Small files, so that a short test fills several; identities repeat themselves.
pub(crate) fn options() -> StoreOptions {
    let drawn = AtomicU64::new(1);
    StoreOptions {
        log_bytes: 1 << 20,
        segment_bytes: 5 << 20,
        compact_live_percent: 90,
        reserve_bytes: Some(0),
        random: Arc::new(move || drawn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        ..StoreOptions::default()
    }
}

/// Opens the test folder.
pub(crate) fn open(disk: &FaultyDisk, flusher: &Arc<Flusher>) -> Store {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    // Each life draws other generations than the ones before.
    let life = u64::try_from(disk.list_dir(Path::new(FOLDER)).map_or(0, |names| names.len())).unwrap();
    let mut options = options();
    let random = Arc::clone(&options.random);
    options.random = Arc::new(move || random() ^ life << 48);
    Store::open(disk, Path::new(FOLDER), NodeId(1), options, flusher).unwrap()
}

/// A flusher for one test.
pub(crate) fn flusher() -> Arc<Flusher> {
    Flusher::start(FlusherOptions::default()).unwrap()
}

impl Ledger {
    /// Compares the ledger with a store; what is wrong, if anything.
    pub(crate) async fn check(&self, store: &Store) -> Result<(), String> {
        let mut found = BTreeSet::new();
        for (number, (len, expected)) in &self.shards {
            let put = numbered(*number, *len);
            let read = store.read_with_footer(put.id, BlockRange::ALL, Verify::Node).await;
            match (read, expected) {
                (Ok(read), Expected::Present | Expected::Either) => {
                    if read.bytes != put.cells.concat() || read.footer != put.footer {
                        return Err(format!("shard {number} has other bytes"));
                    }
                    found.insert(put.id);
                }
                (Err(ReadError::NotFound { .. }), Expected::Absent | Expected::Either) => {}
                (Ok(_), Expected::Absent) => return Err(format!("shard {number} came back")),
                (Err(error), expected) => {
                    return Err(format!("shard {number} of {len} bytes should be {expected:?}: {error}"));
                }
            }
        }
        let listed: BTreeSet<ShardId> =
            store.list(None, 10_000).await.unwrap().into_iter().map(|entry| entry.id).collect();
        if listed != found {
            return Err(format!("{} shards are listed, {} can be read", listed.len(), found.len()));
        }
        Ok(())
    }
}

/// Opens what a crash left, compares it with the ledger, and goes on working with it.
#[allow(dead_code, reason = "not every suite crashes")]
pub(crate) fn check_crash(disk: &FaultyDisk, plan: CrashPlan, ledger: &Ledger) -> Result<(), String> {
    let after = disk.crash(plan);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let flusher = flusher();
    let mut ledger = ledger.clone();
    runtime.block_on(async {
        let store = open(&after, &flusher);
        let report = store.report();
        if !report.damaged.is_empty() || report.lost_shards > 0 {
            return Err(format!("a crash is taken for damage: {report:?}"));
        }
        ledger.check(&store).await?;
        // The outcome of what was under way is settled now, and stays what it is.
        for (number, (len, expected)) in &mut ledger.shards {
            let there = store.footer(numbered(*number, *len).id).await.is_ok();
            *expected = if there { Expected::Present } else { Expected::Absent };
        }
        for number in 1_000_000..1_000_003 {
            let put = numbered(number, 40_000);
            store.put(put.clone()).await.map_err(|error| error.to_string())?;
            ledger.shards.insert(number, (40_000, Expected::Present));
        }
        let gone = ledger.shards.iter().find(|(_, (_, expected))| *expected == Expected::Present);
        if let Some((number, (len, _))) = gone.map(|(number, shard)| (*number, *shard)) {
            let id = numbered(number, len).id;
            store.delete(&[id], FencingToken(9)).await.map_err(|error| error.to_string())?;
            ledger.shards.insert(number, (len, Expected::Absent));
        }
        ledger.check(&store).await
    })?;
    let again = after.crash(CrashPlan::LoseAll);
    runtime.block_on(async {
        let store = open(&again, &flusher);
        ledger.check(&store).await.map_err(|wrong| format!("after the second crash: {wrong}"))
    })
}
