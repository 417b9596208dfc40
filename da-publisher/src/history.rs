//! A log read back from what DA nodes hold: which logs there are, where reading has to begin, and every batch.
//!
//! Invariants: a batch is given out only if it opens with the log's key, which nobody else has, and so is what the
//! publisher sealed; a plan leaves out no batch between its first and its last that is not named as skipped. Trusts no
//! node, and knows neither what rows say nor whether a chain has anchored anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_chain::{BATCH_HEADER_BYTES, BatchHeader};
use ashlar_metadata::namespace::log::GenerationRow;
use ashlar_rsema1d::Commitment;
use bytes::Bytes;

use crate::layer::{BlobReference, DaLayer};
use crate::node::Archive;
use crate::publisher::{LogIdentity, NamespaceKeys, OpenedBatch, open};
use crate::statement::{Namespace, Statement};

/// Gives the keys of a log.
pub type KeysOf = Arc<dyn Fn(&[u8; 32]) -> NamespaceKeys + Send + Sync>;

/// Who holds what of one place of a log.
#[derive(Debug, Default)]
struct Place {
    /// The blobs that nodes signed for: one, or more where a profile changed or a node lost its memory.
    commitments: BTreeSet<Commitment>,
    /// Nodes that did.
    promised_by: BTreeSet<usize>,
}

/// One log.
#[derive(Debug)]
pub struct Log {
    /// Which.
    pub identity: LogIdentity,
    /// Which of the store's.
    pub generation: GenerationRow,
    places: BTreeMap<u64, Place>,
}

/// What one node remembers.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// Its promises.
    pub statements: Vec<Statement>,
    /// Blobs of which it has rows.
    pub blobs: Vec<Commitment>,
}

impl Remembered {
    /// What an archive has, and these promises that were read with it.
    pub fn new(archive: &Archive, statements: Vec<Statement>) -> Self {
        Self { statements, blobs: archive.commitments().copied().collect() }
    }
}

/// All logs of a store that its DA nodes know of.
pub struct History {
    layer: Arc<dyn DaLayer>,
    keys: KeysOf,
    logs: Vec<Log>,
    /// Logs of which nothing opens, and who remembers them.
    closed: Vec<([u8; 32], BTreeMap<u64, Place>)>,
    nodes: usize,
}

/// Which batches to read, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Namespace and sequence of each.
    pub batches: Vec<([u8; 32], u64)>,
    /// Batches in between that cannot be read.
    pub skipped: Vec<([u8; 32], u64)>,
    /// Batches at the end that cannot be read, and that no quorum can have signed.
    pub unpublished: Vec<u64>,
    /// The log that ends the plan, and its last batch.
    pub last: ([u8; 32], u64),
}

/// The log cannot be read back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// No node has anything that opens with this store's keys.
    #[error("no DA node holds a batch that opens with this master key")]
    Nothing,
    /// A recovery that could not see all batches was followed by another that could not see the first.
    #[error(
        "two logs go on from the same one ({one} and {other}); move the DA folders that hold one of them away"
    )]
    Fork {
        /// A namespace.
        one: String,
        /// Another.
        other: String,
    },
    /// Batches that were, or may have been, certified are not served by enough nodes.
    #[error(
        "{} cannot be read back (the first is {}): too few nodes hold its rows. Bring back the nodes that are missing, or \
         accept the loss of what only they held",
        count(.0.len()), .0.first().map_or(0, |(_, sequence)| *sequence)
    )]
    Gap(Vec<([u8; 32], u64)>),
    /// What came before is gone, and no walk has carried it again.
    #[error("the log's beginning is gone, and no complete walk is left that carried everything since")]
    Beginning,
    /// A log that may go on from those that can be read, and of which nothing can be read.
    #[error(
        "nothing of the log {namespace} can be read back, and it may be newer than what can. Bring back the nodes that are \
         missing, or accept the loss of what only they held"
    )]
    Unreadable {
        /// Its namespace.
        namespace: String,
    },
    /// Another batch came before it than the one that did.
    #[error("batch {sequence} does not follow the one before it")]
    Link {
        /// Which.
        sequence: u64,
    },
}

fn count(batches: usize) -> String {
    if batches == 1 { "a batch of the log".to_owned() } else { format!("{batches} batches of the log") }
}

impl History {
    /// Looks through what nodes remember, those that are lost left out. `nodes` is how many there were; `layer` serves the
    /// rows that are left.
    pub async fn find(
        layer: Arc<dyn DaLayer>,
        remembered: &[Remembered],
        nodes: usize,
        keys: KeysOf,
    ) -> Result<Self, HistoryError> {
        let mut places: BTreeMap<[u8; 32], BTreeMap<u64, Place>> = BTreeMap::new();
        let mut named = BTreeSet::new();
        for (node, remembered) in remembered.iter().enumerate() {
            for statement in &remembered.statements {
                let of_log = places.entry(statement.dispersal.namespace.0).or_default();
                let place = of_log.entry(statement.dispersal.sequence).or_default();
                place.commitments.insert(statement.commitment);
                place.promised_by.insert(node);
                named.insert(statement.commitment);
            }
        }
        let mut history = Self { layer, keys, logs: Vec::new(), closed: Vec::new(), nodes };
        // Rows whose promises are lost on every node say themselves where they belong.
        let unnamed = remembered.iter().flat_map(|remembered| &remembered.blobs);
        for commitment in unnamed.filter(|one| !named.contains(one)).copied().collect::<BTreeSet<_>>() {
            if let Some((batch, _)) = history.opened(commitment).await {
                let of_log = places.entry(batch.header.namespace.0).or_default();
                of_log.entry(batch.header.sequence).or_default().commitments.insert(commitment);
            }
        }
        for (namespace, places) in places {
            match history.newest_of(&places).await {
                Some((identity, generation)) => history.logs.push(Log { identity, generation, places }),
                None => history.closed.push((namespace, places)),
            }
        }
        if history.logs.is_empty() { Err(HistoryError::Nothing) } else { Ok(history) }
    }

    /// Which log has these places, as its newest readable batch says.
    async fn newest_of(&self, places: &BTreeMap<u64, Place>) -> Option<(LogIdentity, GenerationRow)> {
        for place in places.values().rev() {
            for commitment in &place.commitments {
                if let Some((batch, identity)) = self.opened(*commitment).await {
                    return Some((identity, batch.carried.generation));
                }
            }
        }
        None
    }

    /// A blob that opens with one of our keys.
    async fn opened(&self, commitment: Commitment) -> Option<(OpenedBatch, LogIdentity)> {
        let blob = self.blob(commitment).await?;
        let header = BatchHeader::decode(blob.get(..BATCH_HEADER_BYTES)?).ok()?;
        let identity = LogIdentity {
            chain_id: header.chain_id,
            registry: header.registry.into_array(),
            namespace: header.namespace.0,
        };
        let keys = (self.keys)(&identity.namespace);
        let work = move || open(&identity, &keys, &blob).ok().map(|batch| (batch, identity));
        tokio::task::spawn_blocking(work).await.ok().flatten()
    }

    async fn blob(&self, commitment: Commitment) -> Option<Bytes> {
        let reference = BlobReference { commitment: commitment.0, certificate: None };
        let retrieved = self.layer.retrieve(&reference).await;
        retrieved.inspect_err(|error| tracing::debug!(%commitment, %error, "a blob does not come back")).ok()
    }

    fn of(&self, namespace: &[u8; 32]) -> Option<&Log> {
        self.logs.iter().find(|log| log.identity.namespace == *namespace)
    }

    /// The newest log.
    pub fn newest(&self) -> Result<&Log, HistoryError> {
        let newest = self.logs.iter().max_by_key(|log| log.generation.generation);
        let newest = newest.ok_or(HistoryError::Nothing)?;
        let is_same = |log: &&Log| {
            log.generation.generation == newest.generation.generation
                && log.identity.namespace != newest.identity.namespace
        };
        match self.logs.iter().find(is_same) {
            Some(other) => Err(HistoryError::Fork {
                one: hex::encode(newest.identity.namespace),
                other: hex::encode(other.identity.namespace),
            }),
            None => Ok(newest),
        }
    }

    /// A batch, if enough of it is served and it is what this log's publisher sealed.
    pub async fn batch(&self, namespace: &[u8; 32], sequence: u64) -> Option<OpenedBatch> {
        let place = self.of(namespace)?.places.get(&sequence)?;
        for commitment in &place.commitments {
            let found = self.opened(*commitment).await;
            let is_ours = |(batch, _): &(OpenedBatch, LogIdentity)| {
                (batch.header.namespace.0, batch.header.sequence) == (*namespace, sequence)
            };
            if let Some((batch, _)) = found.filter(is_ours) {
                return Some(batch);
            }
        }
        None
    }

    /// What to read: from the newest complete walk, or from the beginning of the log, on top of the logs before it.
    /// With `accept_gaps` batches that cannot be read are skipped, and named.
    pub async fn plan(&self, accept_gaps: bool) -> Result<Plan, HistoryError> {
        let newest = self.newest()?;
        let may_be_certified = |places: &BTreeMap<u64, Place>| {
            places.keys().any(|sequence| !self.is_unpublished(places, *sequence))
        };
        if let Some((namespace, _)) = self.closed.iter().find(|(_, places)| may_be_certified(places))
            && !accept_gaps
        {
            return Err(HistoryError::Unreadable { namespace: hex::encode(namespace) });
        }
        let mut plan = Plan::default();
        let mut stretch = self.backwards(newest, u64::MAX, &mut plan).await?;
        plan.last = (newest.identity.namespace, stretch.last().copied().unwrap_or(0));
        let mut log = newest;
        while !stretch.is_whole {
            let base = self.of(&log.generation.base_namespace).ok_or(HistoryError::Beginning)?;
            let limit = log.generation.base_sequence;
            let mut before = self.backwards(base, limit, &mut plan).await?;
            before.batches.extend(stretch.batches);
            stretch = Stretch { batches: before.batches, is_whole: before.is_whole };
            let skipped = &log.generation.skipped;
            let of_base = base.identity.namespace;
            // What was passed over then is not taken now: what came after was decided without it.
            stretch.batches.retain(|(namespace, at)| *namespace != of_base || !skipped.contains(at));
            plan.skipped.retain(|(namespace, at)| *namespace != of_base || !skipped.contains(at));
            log = base;
        }
        plan.batches = stretch.batches;
        if !plan.skipped.is_empty() && !accept_gaps {
            return Err(HistoryError::Gap(plan.skipped));
        }
        Ok(plan)
    }

    /// A log's batches up to `limit`, from the first of its newest complete walk, or from the first of all.
    async fn backwards(&self, log: &Log, limit: u64, plan: &mut Plan) -> Result<Stretch, HistoryError> {
        let namespace = log.identity.namespace;
        let mut stretch = Stretch { batches: Vec::new(), is_whole: false };
        let lowest = log.places.keys().next().copied().unwrap_or(u64::MAX);
        let is_newest = limit == u64::MAX;
        let last = if is_newest { log.places.keys().next_back().copied().unwrap_or(0) } else { limit };
        // The walk that ends in what was read, if no batch of it is missing, and one of which batches are.
        let (mut walk, mut holed, mut holed_batches) = (None, None, None);
        let mut is_at_first = last == 0;
        // What is below the lowest was given up long ago; what is missing in between is missed once.
        let places = log.places.range(lowest..=last).map(|(sequence, _)| *sequence);
        let mut expected = last;
        for sequence in places.rev().collect::<Vec<_>>() {
            let is_missing = sequence < expected;
            if is_missing {
                plan.skipped.push((namespace, expected));
            }
            expected = sequence.saturating_sub(1);
            is_at_first = sequence == 1;
            let batch = self.batch(&namespace, sequence).await;
            if is_missing || batch.is_none() {
                holed = walk.take().or(holed);
            }
            let Some(batch) = batch else {
                if is_newest && stretch.batches.is_empty() && self.is_unpublished(&log.places, sequence) {
                    plan.unpublished.push(sequence);
                } else {
                    plan.skipped.push((namespace, sequence));
                }
                continue;
            };
            if batch.carried.ends && walk.is_none() {
                walk = Some(batch.carried.walk);
            }
            stretch.batches.push((namespace, sequence));
            if batch.carried.begins && walk == Some(batch.carried.walk) {
                stretch.is_whole = true;
                break;
            }
            if batch.carried.begins && holed == Some(batch.carried.walk) {
                holed_batches = holed_batches.or(Some(stretch.batches.len()));
            }
        }
        if let (Some(batches), false) = (holed_batches, stretch.is_whole || is_at_first) {
            stretch.batches.truncate(batches);
            stretch.is_whole = true;
        }
        if !stretch.is_whole && !is_at_first {
            return Err(HistoryError::Beginning);
        }
        stretch.is_whole |= log.generation.generation == 0;
        stretch.batches.reverse();
        Ok(stretch)
    }

    /// Whether no quorum can have signed for a place: those that did, and those that cannot be asked, are too few.
    fn is_unpublished(&self, places: &BTreeMap<u64, Place>, sequence: u64) -> bool {
        let promised = places.get(&sequence).map_or(0, |place| place.promised_by.len());
        // Those that remember nothing of this log have lost what they had.
        let asked: BTreeSet<usize> =
            places.values().flat_map(|place| place.promised_by.iter().copied()).collect();
        let silent = self.nodes.saturating_sub(asked.len());
        (promised + silent) * 3 <= self.nodes * 2
    }
}

/// Part of a plan.
struct Stretch {
    batches: Vec<([u8; 32], u64)>,
    /// Nothing from before it is needed.
    is_whole: bool,
}

impl Stretch {
    fn last(&self) -> Option<&u64> {
        self.batches.last().map(|(_, sequence)| sequence)
    }
}

/// Checks that batches follow each other.
#[derive(Debug, Default)]
pub struct Chain {
    last: Option<([u8; 32], u64, [u8; 32])>,
}

impl Chain {
    /// Takes the next batch of a plan; it must follow the last one, where that is of the same log and right before it.
    pub fn follow(&mut self, batch: &OpenedBatch) -> Result<(), HistoryError> {
        let header = &batch.header;
        let namespace = Namespace(header.namespace.0);
        if let Some((last_namespace, sequence, hash)) = self.last
            && last_namespace == namespace.0
            && sequence + 1 == header.sequence
            && hash != header.previous_header_hash.0
        {
            return Err(HistoryError::Link { sequence: header.sequence });
        }
        self.last = Some((namespace.0, header.sequence, header.hash().0));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
