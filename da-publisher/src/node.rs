//! The embedded DA node: checks its rows, makes them and its word durable, then signs.
//!
//! Invariants, whatever crashes when: a signature leaves only after the rows that it speaks of, and the
//! statement itself, are synced; for one (namespace, sequence) only one header is ever signed, and for that
//! header only one blob of each profile; a row is served only after it passed its check again. Time is
//! injected. Deliberately knows nothing of other nodes, of what a blob contains, or of who may publish
//! ([`Admission`] does).

mod archive;
mod file;
mod promises;
mod rows;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_disk::{Disk, DiskLock};
use ashlar_rsema1d::{CheckedOpening, CheckedRow, Commitment, Opening, RowProof};
use parking_lot::{Mutex, RwLock};

use crate::bls::{PublicKey, SecretKey, Signature};
use crate::service::{FetchError, Held, StoreError, StoreRequest};
use crate::snapshot::Snapshot;
use crate::statement::{Domain, Namespace, Statement};
pub use archive::{Archive, ArchivedNode};
use promises::{Promises, Verdict};
use rows::RowStore;

/// Snapshots kept: the contract accepts certificates of the current epoch and the two before.
const EPOCHS_KEPT: usize = 4;

/// The time of day in Unix seconds.
pub type UnixClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Decides who may write to a log. Without it, a stranger could take a place of the log before its publisher.
pub trait Admission: Send + Sync {
    /// Whether `authorization` shows that the publisher of the log wants this statement.
    fn admits(&self, statement: &Statement, authorization: &[u8]) -> bool;
}

/// What a node needs to know.
#[derive(Clone)]
pub struct NodeConfig {
    /// Its own folder.
    pub folder: PathBuf,
    /// Whom it signs for.
    pub domain: Domain,
    /// The longest time that it keeps rows, in seconds.
    pub keep_seconds_max: u64,
    /// What time it is.
    pub clock: UnixClock,
    /// Who may write.
    pub admission: Arc<dyn Admission>,
}

/// The node cannot be opened, or its disk failed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The disk failed.
    #[error("the disk of the DA node failed: {0}")]
    Disk(#[from] std::io::Error),
    /// The folder belongs to a node of another chain or contract.
    #[error("the folder belongs to a DA node of another chain or contract")]
    Domain,
    /// Records before the end of the log of promises are damaged. Signing on could contradict them.
    #[error("the log of promises is damaged at byte {offset}")]
    Promises {
        /// Where.
        offset: u64,
    },
    /// The sealed key does not open: another secret, or damaged.
    #[error("the sealed key does not open with this secret")]
    Key,
}

/// What pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Places of logs given up.
    pub pruned: u64,
    /// Promises that are due, but kept because a recovery may need what they speak of.
    pub kept_for_walks: u64,
}

/// A DA node in its folder, which it holds alone. Methods block.
pub struct DaNode {
    config: NodeConfig,
    key: SecretKey,
    public_key: PublicKey,
    epochs: RwLock<BTreeMap<u64, Arc<Snapshot>>>,
    promises: Mutex<Promises>,
    rows: RowStore,
    _lock: Box<dyn DiskLock>,
}

impl fmt::Debug for DaNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaNode").field("folder", &self.config.folder).finish_non_exhaustive()
    }
}

impl DaNode {
    /// Opens or creates the node. Rows that no statement speaks of, left by a crash, are removed.
    pub fn open(disk: Arc<dyn Disk>, config: NodeConfig, key: SecretKey) -> Result<Self, NodeError> {
        disk.create_dir_all(&config.folder)?;
        let lock = disk.lock(&config.folder.join("lock"))?;
        let rows = RowStore::open(Arc::clone(&disk), &config.folder)?;
        if !promises::exists(&*disk, &config.folder)? && !rows.is_empty()? {
            // It signed for these rows, and what exactly is not known.
            return Err(NodeError::Promises { offset: 0 });
        }
        let (promises, blobs) = Promises::open(disk, &config.folder, &config.domain)?;
        rows.retain(|commitment, epoch| blobs.contains(&(*commitment, epoch)))?;
        let public_key = key.public_key();
        Ok(Self {
            config,
            key,
            public_key,
            epochs: RwLock::default(),
            promises: Mutex::new(promises),
            rows,
            _lock: lock,
        })
    }

    /// Its key.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Makes an epoch's signers known. Only the latest few epochs are kept.
    pub fn install_snapshot(&self, snapshot: Arc<Snapshot>) {
        let mut epochs = self.epochs.write();
        epochs.insert(snapshot.epoch(), snapshot);
        while epochs.len() > EPOCHS_KEPT {
            epochs.pop_first();
        }
    }

    /// Checks the request, stores the rows, promises durably, signs.
    pub fn store(&self, request: &StoreRequest) -> Result<Signature, StoreError> {
        let statement = &request.statement;
        let snapshot = self.snapshot(statement.epoch)?;
        let signer =
            snapshot.position(&self.public_key).ok_or(StoreError::Epoch { epoch: statement.epoch })?;
        self.check_time(statement)?;
        if !self.config.admission.admits(statement, &request.authorization) {
            return Err(StoreError::NotAdmitted);
        }
        // Before the expensive checks; judged again when the promise is made.
        if self.promises.lock().judge(statement)? == Verdict::Promised
            && self.rows.contains(&statement.commitment, statement.epoch)
        {
            return Ok(self.sign(statement));
        }
        let opening = Opening::from_bytes(&request.opening)?.check(statement.commitment)?;
        if opening.shape() != statement.shape || statement.shape.profile() != snapshot.profile() {
            return Err(StoreError::Shape);
        }
        let assignment = snapshot
            .assignment(statement.shape.profile(), &statement.commitment)
            .expect("every snapshot has an assignment");
        let given = request.rows.iter().map(|row| row.index);
        if !given.eq(assignment.rows_of(signer).iter().copied()) {
            return Err(StoreError::Rows);
        }
        let rows = check_rows(&opening, &request.rows)?;
        loop {
            self.rows.write(statement.epoch, &opening, &rows).map_err(disk_failed)?;
            let mut promises = self.promises.lock();
            // Pruning another place of the same blob may have removed the file in between.
            if self.rows.contains(&statement.commitment, statement.epoch) {
                promises.promise(statement)?;
                return Ok(self.sign(statement));
            }
        }
    }

    fn snapshot(&self, epoch: u64) -> Result<Arc<Snapshot>, StoreError> {
        self.epochs.read().get(&epoch).cloned().ok_or(StoreError::Epoch { epoch })
    }

    fn check_time(&self, statement: &Statement) -> Result<(), StoreError> {
        let now = (self.config.clock)();
        let latest = now.saturating_add(self.config.keep_seconds_max);
        let keep_until = statement.dispersal.keep_until;
        if keep_until <= now || keep_until > latest {
            return Err(StoreError::KeepUntil { keep_until, latest });
        }
        Ok(())
    }

    fn sign(&self, statement: &Statement) -> Signature {
        self.key.sign(&statement.message(&self.config.domain))
    }

    /// What it holds of a blob, of all epochs together.
    pub fn held(&self, commitment: &Commitment) -> Result<Held, FetchError> {
        let epochs = self.promises.lock().epochs();
        self.rows.held(commitment, &epochs)
    }

    /// One row, checked again as it comes from the disk.
    pub fn row(&self, commitment: &Commitment, index: u32) -> Result<RowProof, FetchError> {
        let epochs = self.promises.lock().epochs();
        self.rows.row(commitment, &epochs, index)
    }

    /// Gives up places of logs whose time has passed.
    ///
    /// `floor` says, for a namespace, the first batch of the last complete walk but one: that place and all after it are
    /// kept however long ago their time passed. Where it says `None`, nothing is given up. A place that was
    /// given up is never signed again.
    pub fn prune(&self, floor: &dyn Fn(&Namespace) -> Option<u64>) -> Result<PruneReport, NodeError> {
        let now = (self.config.clock)();
        // Held until the rows are gone: the same blob may be promised anew.
        let mut promises = self.promises.lock();
        let (report, gone) = promises.prune(now, floor)?;
        for (commitment, epoch) in gone {
            self.rows.remove(&commitment, epoch)?;
        }
        Ok(report)
    }
}

fn check_rows(opening: &CheckedOpening, rows: &[RowProof]) -> Result<Vec<CheckedRow>, StoreError> {
    rows.iter().map(|row| opening.check_row(row.clone()).map_err(StoreError::Row)).collect()
}

fn disk_failed(error: std::io::Error) -> StoreError {
    StoreError::Disk { reason: error.to_string() }
}

#[cfg(test)]
mod tests;
