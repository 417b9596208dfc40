//! The publisher: what the store commits becomes batches, batches become available and are anchored, in order.
//!
//! Two tasks share one log. The first seals: it reads the outbox up to the stable position and forms the next batch,
//! whole commits only; the commit that writes its exact bytes also moves the log on, so that no batch is formed twice.
//! The second publishes: disperses what is sealed, anchors what is certified, and settles what is on the chain to stay.
//! Invariants: outbox order is anchor order; each entry is in exactly one batch; nothing is ever re-formed; a batch in
//! place of ours is an alarm that stops everything. Receipts are promised only while no alarm stands.
//!
//! Deliberately knows neither S3 nor what a record says, beyond the time in it.

mod admission;
mod batch;
mod durability;
mod keys;
mod proof;
mod receipt;
mod rows;
mod sealing;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ashlar_chain::{AnchorError, AnchorState, Anchorer, Batch};
use ashlar_metadata::OrderedKv;
use ashlar_metadata::namespace::log::{BatchStage, GenerationRow};
use ashlar_objects::Store;
use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::layer::{BlobReference, DaLayer, DisperseError, SampleError, SampleReport};
use crate::statement::{Dispersal, Namespace};
pub use admission::{PublisherAdmission, authorize};
pub use batch::{
    Carried, Entry, LogIdentity, OpenError, OpenedBatch, Previous, SealedBatch, open, path, read_leaves, seal,
};
pub use durability::Progress;
pub use keys::{KEY_EPOCH, NamespaceKeys};
pub use proof::{PlaceProof, Placed, PlacedLeaf, ProofError, manifest_parts};
pub use receipt::{RECEIPT_BYTES, Receipt, ReceiptError, Receipts};
pub use rows::LogError;
use rows::{Kept, LogRows, State};

/// Batches sealed and not certified, and not settled, at which sealing waits; what is not sealed stays in the outbox. A chain
/// may take minutes to be final, and keeps nothing from being recoverable meanwhile.
const UNCERTIFIED_MAX: u64 = 16;
const UNSETTLED_MAX: u64 = 64;
/// Entries read from the outbox at once. One commit has at most 10,000, and a batch holds whole commits.
const ENTRIES_MAX: usize = 16_384;
/// How long it waits after a failure, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The time of day in Unix milliseconds.
pub type UnixMillisClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How publishing goes about it.
#[derive(Clone, Copy, Debug)]
pub struct PublisherConfig {
    /// How long changes are gathered for a batch.
    pub interval: Duration,
    /// How often batches under way are looked after.
    pub step: Duration,
    /// Bytes of a blob at which a batch is full.
    pub blob_bytes_max: usize,
    /// How long the data-availability layer keeps a batch.
    pub retention: Duration,
}

/// What a publisher is made of.
pub struct PublisherParts {
    /// Whose changes are published.
    pub store: Store,
    /// Where the log is kept: the store's own metadata.
    pub kv: Arc<dyn OrderedKv>,
    /// Makes batches available.
    pub layer: Arc<dyn DaLayer>,
    /// Puts them on the chain.
    pub anchorer: Arc<Anchorer>,
    /// Which log.
    pub identity: LogIdentity,
    /// Which of the store's logs that is.
    pub generation: GenerationRow,
    /// Its keys.
    pub keys: NamespaceKeys,
    /// Bounds.
    pub config: PublisherConfig,
    /// What time it is.
    pub clock: UnixMillisClock,
    /// Told how far the log is.
    pub progress: Arc<Progress>,
}

/// Publishing failed, for now or for good.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The log's rows.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The store's outbox.
    #[error("the outbox cannot be read: {0}")]
    Outbox(#[from] ashlar_objects::Error),
    /// The data-availability layer.
    #[error("batch {sequence} could not be dispersed: {error}")]
    Disperse {
        /// Which batch.
        sequence: u64,
        /// Why.
        error: DisperseError,
    },
    /// The chain.
    #[error("batch {sequence} could not be anchored: {error}")]
    Anchor {
        /// Which batch.
        sequence: u64,
        /// Why.
        error: AnchorError,
    },
}

impl PublishError {
    /// Whether trying again can only make it worse.
    pub fn is_alarm(&self) -> bool {
        matches!(
            self,
            Self::Log(LogError::Fenced | LogError::OtherLog | LogError::Broken { .. })
                | Self::Disperse { error: DisperseError::Equivocation { .. }, .. }
                | Self::Anchor { error: AnchorError::Alarm(_), .. }
        )
    }
}

/// What sealing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// There was nothing to seal, or too much waits to be anchored.
    Nothing,
    /// A batch with all there was.
    Everything,
    /// A batch as large as one may be; there is more.
    Full,
}

/// How far a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHeads {
    /// Newest sealed batch.
    pub sealed: u64,
    /// Newest batch on the chain to stay.
    pub settled: u64,
    /// Its last commit position.
    pub settled_position: u64,
    /// Whether an alarm stopped it for good.
    pub is_stopped: bool,
}

/// A batch could not be sampled.
#[derive(Debug, thiserror::Error)]
pub enum SampleFailed {
    /// It does not exist, or is not certified yet.
    #[error("there is no certified batch {sequence}")]
    NoBatch {
        /// Which.
        sequence: u64,
    },
    /// The layer cannot.
    #[error("{0}")]
    Layer(#[from] SampleError),
    /// The log's rows.
    #[error("{0}")]
    Log(#[from] LogError),
}

/// Publishes the log of one store.
pub struct Publisher {
    parts: PublisherParts,
    rows: LogRows,
    log: Mutex<State>,
    /// Told when a batch was sealed, or settled.
    moved: Notify,
    /// When the entries of batches under way were committed, by batch.
    times: parking_lot::Mutex<BTreeMap<u64, Vec<u64>>>,
    sealed: AtomicU64,
    certified: AtomicU64,
    settled: AtomicU64,
    stopped: AtomicBool,
}

impl Publisher {
    /// Opens the log in the store's metadata, or begins it. Nothing is published before [`Publisher::start`].
    pub async fn open(parts: PublisherParts) -> Result<Arc<Self>, PublishError> {
        let rows = LogRows::new(Arc::clone(&parts.kv));
        let state = rows.open(&parts.identity).await?;
        parts.progress.start(state.log.row.settled_position);
        Ok(Arc::new(Self {
            parts,
            rows,
            sealed: AtomicU64::new(state.log.row.sealed),
            certified: AtomicU64::new(state.log.row.settled),
            settled: AtomicU64::new(state.log.row.settled),
            log: Mutex::new(state),
            moved: Notify::new(),
            times: parking_lot::Mutex::default(),
            stopped: AtomicBool::new(false),
        }))
    }

    /// Publishes until `stop`, in tasks of `group`.
    pub fn start(self: &Arc<Self>, group: &TaskTracker, stop: &CancellationToken) {
        group.spawn(Arc::clone(self).run_sealing(stop.clone()));
        group.spawn(Arc::clone(self).run_publishing(stop.clone()));
    }

    async fn run_sealing(self: Arc<Self>, stop: CancellationToken) {
        let mut timer = tokio::time::interval(self.parts.config.interval);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut wait = RETRY_MIN;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            // Not stopped half-way: what follows a commit is short.
            let done = loop {
                match self.seal_next().await {
                    // What came meanwhile waits for the next tick, or batches would be small ones.
                    Ok(Sealed::Full) if !stop.is_cancelled() => {}
                    done => break done.map(drop),
                }
            };
            if !self.goes_on("sealing", done, &mut wait, &stop).await {
                return;
            }
        }
    }

    async fn run_publishing(self: Arc<Self>, stop: CancellationToken) {
        let mut wait = RETRY_MIN;
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = self.publish_next() => done,
            };
            if matches!(done, Ok(false)) {
                // Nothing to do before something was sealed, or a block was made.
                let _told_or_not = tokio::time::timeout(self.parts.config.step, self.moved.notified()).await;
            }
            if !self.goes_on("publishing", done.map(drop), &mut wait, &stop).await {
                return;
            }
        }
    }

    /// Whether an alarm stopped it for good.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// How far the log is.
    pub fn heads(&self) -> LogHeads {
        LogHeads {
            sealed: self.sealed.load(Ordering::Relaxed),
            settled: self.settled.load(Ordering::Relaxed),
            settled_position: self.parts.progress.last_settled(),
            is_stopped: self.is_stopped(),
        }
    }

    /// Looks, by chance, whether a batch is still available; of the newest certified one for `None`.
    pub async fn sample(
        &self,
        sequence: Option<u64>,
        rows: u32,
    ) -> Result<(u64, SampleReport), SampleFailed> {
        let sequence = sequence.unwrap_or_else(|| self.settled.load(Ordering::Relaxed));
        let batch = self.rows.batch(sequence).await?.ok_or(SampleFailed::NoBatch { sequence })?;
        let (commitment, certificate) = match batch.row.stage {
            BatchStage::Sealed => return Err(SampleFailed::NoBatch { sequence }),
            BatchStage::Certified { commitment, certificate }
            | BatchStage::Settled { commitment, certificate } => (commitment, certificate),
        };
        let reference = BlobReference { commitment, certificate: Some(certificate.into()) };
        let report = self.parts.layer.sample(&reference, rows, &mut StdRng::from_os_rng()).await?;
        Ok((sequence, report))
    }

    /// After a step: waits if it failed; false when it is over.
    async fn goes_on(
        &self,
        what: &'static str,
        done: Result<(), PublishError>,
        wait: &mut Duration,
        stop: &CancellationToken,
    ) -> bool {
        let Err(error) = done else {
            *wait = RETRY_MIN;
            return !self.is_stopped() && !stop.is_cancelled();
        };
        if error.is_alarm() {
            tracing::error!(%error, "ALARM: {what} the log stops until somebody has looked");
            self.stopped.store(true, Ordering::Relaxed);
            self.parts.progress.stop();
            return false;
        }
        tracing::warn!(%error, "{what} the log failed; it is tried again");
        let waited = *wait;
        *wait = (waited * 2).min(RETRY_MAX);
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(waited) => !self.is_stopped(),
        }
    }

    /// The first batch that a recovery may need; DA nodes may give up those before it once their time has passed.
    /// `None`: all are needed.
    pub async fn floor(&self) -> Option<u64> {
        let state = self.log.lock().await;
        walk::floor(&state.walk, state.log.row.settled)
    }

    /// Takes every batch under way one step further; whether anything moved. A chain that does not answer keeps nothing
    /// from being certified.
    pub async fn publish_next(&self) -> Result<bool, PublishError> {
        let (settled, sealed) = {
            let state = self.log.lock().await;
            (state.log.row.settled, state.log.row.sealed)
        };
        let certified = self.certify(settled, sealed).await;
        let anchored = self.anchor(settled, self.certified.load(Ordering::Relaxed)).await;
        Ok(certified? | anchored?)
    }

    /// Has what is sealed certified, in order.
    async fn certify(&self, settled: u64, sealed: u64) -> Result<bool, PublishError> {
        let first = self.certified.load(Ordering::Relaxed).max(settled) + 1;
        for sequence in first..=sealed {
            let (mut batch, _) = self.rows.sealed(sequence).await?;
            if batch.row.stage == BatchStage::Sealed {
                batch = self.disperse(sequence, &batch).await?;
            }
            self.certified.store(sequence, Ordering::Relaxed);
            self.parts.progress.certified(batch.row.positions.1);
        }
        Ok(first <= sealed)
    }

    /// Anchors what is certified, and settles what is on the chain to stay.
    async fn anchor(&self, settled: u64, certified: u64) -> Result<bool, PublishError> {
        let (mut has_moved, mut next_to_settle) = (false, settled + 1);
        for sequence in settled + 1..=certified {
            let (batch, header) = self.rows.sealed(sequence).await?;
            let BatchStage::Certified { certificate, .. } = &batch.row.stage else {
                return Err(LogError::Broken { sequence, what: "its stage" }.into());
            };
            let certificate = Bytes::copy_from_slice(certificate);
            let step =
                self.parts.anchorer.step(&Batch { header, certificate: Some(certificate.into()) }).await;
            match step {
                // In order: a block may have been made since the batch before was looked at.
                Ok(AnchorState::Final) if sequence == next_to_settle => {
                    self.settle(sequence, &batch).await?;
                    next_to_settle += 1;
                    has_moved = true;
                }
                Ok(AnchorState::Final | AnchorState::Included) => {}
                Ok(AnchorState::Sealed | AnchorState::Certified) => return Ok(has_moved),
                Err(AnchorError::Refused { why, .. }) => {
                    // Most likely a certificate of an epoch that is over; the same header is certified again.
                    tracing::warn!(sequence, why, "the registry refused a batch; it is certified again");
                    self.disperse(sequence, &batch).await?;
                    return Err(PublishError::Anchor {
                        sequence,
                        error: AnchorError::Refused { sequence, why },
                    });
                }
                Err(error) => return Err(PublishError::Anchor { sequence, error }),
            }
        }
        Ok(has_moved)
    }

    /// Until when a batch is to be kept: as was said when it was sealed, unless that has (almost) passed, or is longer than
    /// nodes keep anything by now.
    fn keep_until(&self, sealed: u64) -> u64 {
        let (now, retention) = ((self.parts.clock)() / 1000, self.parts.config.retention.as_secs());
        let is_fair = sealed > now + retention / 2 && sealed <= now + retention;
        if is_fair { sealed } else { now + retention }
    }

    async fn disperse(
        &self,
        sequence: u64,
        batch: &Kept<ashlar_metadata::namespace::log::BatchRow>,
    ) -> Result<Kept<ashlar_metadata::namespace::log::BatchRow>, PublishError> {
        let header = ashlar_chain::BatchHeader::decode(&batch.row.header)
            .map_err(|_| LogError::Broken { sequence, what: "its header" })?;
        let dispersal = Dispersal {
            namespace: Namespace(self.parts.identity.namespace),
            sequence,
            header_hash: header.hash().0,
            keep_until: self.keep_until(batch.row.keep_until),
        };
        let blob = self.rows.blob(sequence, &batch.row).await?;
        let authorization = authorize(&self.parts.keys, &dispersal);
        let dispersed = self.parts.layer.disperse(&dispersal, blob, authorization).await;
        let dispersed = dispersed.map_err(|error| PublishError::Disperse { sequence, error })?;
        self.rows.certify(sequence, batch, &dispersed, dispersal.keep_until).await.map_err(PublishError::from)
    }

    async fn settle(
        &self,
        sequence: u64,
        batch: &Kept<ashlar_metadata::namespace::log::BatchRow>,
    ) -> Result<(), PublishError> {
        let mut state = self.log.lock().await;
        match self.rows.settle(&state.log, sequence, batch).await {
            Ok(next) => state.log = next,
            Err(error @ LogError::Commit(_)) => {
                *state = self.rows.open(&self.parts.identity).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        let now = (self.parts.clock)();
        let lag = metrics::histogram!("ashlar_publish_lag_seconds");
        for time in self.times.lock().remove(&sequence).into_iter().flatten() {
            lag.record(Duration::from_millis(now.saturating_sub(time)));
        }
        self.settled.store(sequence, Ordering::Relaxed);
        self.parts.progress.settled(batch.row.positions.1);
        tracing::debug!(sequence, "a batch is anchored to stay");
        Ok(())
    }
}

/// When a change was made, in Unix milliseconds: the record's third field.
fn recorded_time(record: &[u8]) -> Option<u64> {
    record.get(2..10).map(|time| u64::from_be_bytes(time.try_into().expect("eight bytes")))
}
