//! The node's word: which statements it may sign, durable before any is signed.
//!
//! Invariant: for one (namespace, sequence) there is one header, and for it one blob of each profile, whatever
//! crashes; a place that was pruned is never promised again. A failed write or sync stops everything until the node is
//! opened again. In memory is only where each promise stands in the file: some 20 bytes a place, of which there may be a
//! million. Does not know whether rows are there.

mod records;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use ashlar_disk::Disk;
use ashlar_rsema1d::Commitment;

use super::{NodeError, PruneReport, disk_failed};
use crate::service::StoreError;
use crate::statement::{Domain, Namespace, Statement};
use records::{Record, RecordFile};

pub(super) use records::{exists, read_whole};

/// Rows of a blob, in the epoch for which they were assigned.
pub(super) type Blob = (Commitment, u64);

/// What a promise would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was made already.
    Promised,
    /// It may be made.
    New,
}

/// All promises that were not pruned.
pub(super) struct Promises {
    file: RecordFile,
    known: Known,
    failure: Option<String>,
}

/// Where the records are.
#[derive(Default)]
struct Known {
    /// Sequences, with the numbers of their records.
    places: BTreeMap<Namespace, BTreeSet<(u64, u32)>>,
    pruned_below: BTreeMap<Namespace, u64>,
    epochs: BTreeSet<u64>,
}

impl Promises {
    /// Opens or creates the file; answers also which blobs promises speak of.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        domain: &Domain,
    ) -> Result<(Self, HashSet<Blob>), NodeError> {
        let (mut known, mut blobs) = (Known::default(), HashSet::new());
        let file = RecordFile::open(disk, folder, domain, |number, record| match record {
            Record::Promise(statement) => {
                blobs.insert((statement.commitment, statement.epoch));
                known.add(number, &statement);
            }
            Record::PrunedBelow(namespace, below) => {
                known.pruned_below.insert(namespace, below);
            }
        })?;
        Ok((Self { file, known, failure: None }, blobs))
    }

    /// Whether this may be promised.
    pub(super) fn judge(&self, statement: &Statement) -> Result<Verdict, StoreError> {
        if let Some(reason) = &self.failure {
            return Err(StoreError::Disk { reason: reason.clone() });
        }
        let dispersal = &statement.dispersal;
        let below = self.known.pruned_below.get(&dispersal.namespace).copied().unwrap_or(0);
        let mut verdict = Verdict::New;
        let mut numbers = self.known.of_place(&dispersal.namespace, dispersal.sequence).peekable();
        if numbers.peek().is_none() && dispersal.sequence < below {
            return Err(StoreError::Pruned { below });
        }
        for number in numbers {
            let earlier = self.file.promise(number).map_err(disk_failed)?;
            let is_same_profile = earlier.shape.profile() == statement.shape.profile();
            let is_same_blob = (earlier.commitment, earlier.shape) == (statement.commitment, statement.shape);
            if earlier.dispersal.header_hash != dispersal.header_hash
                || earlier.shape.blob_bytes() != statement.shape.blob_bytes()
                || (is_same_profile && !is_same_blob)
            {
                let (header, commitment) = (earlier.dispersal.header_hash, earlier.commitment);
                return Err(StoreError::Equivocation { header, commitment });
            }
            if earlier == *statement {
                verdict = Verdict::Promised;
            }
        }
        Ok(verdict)
    }

    /// Judges and makes the promise: when this returns, it is durable.
    pub(super) fn promise(&mut self, statement: &Statement) -> Result<(), StoreError> {
        if self.judge(statement)? == Verdict::Promised {
            return Ok(());
        }
        let number = self.file.append(statement);
        let number = number.map_err(|error| self.fail(error)).map_err(disk_failed)?;
        self.known.add(number, statement);
        Ok(())
    }

    /// What is on disk is not known any more: nothing is promised until the node is opened again.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failure = Some(error.to_string());
        error
    }

    /// The epochs in which anything was promised.
    pub(super) fn epochs(&self) -> Vec<u64> {
        self.known.epochs.iter().copied().collect()
    }

    /// Forgets, durably, places whose time has passed and that lie below their namespace's floor; answers the blobs of
    /// which nothing speaks any more.
    pub(super) fn prune(
        &mut self,
        now: u64,
        floor: &dyn Fn(&Namespace) -> Option<u64>,
    ) -> Result<(PruneReport, HashSet<Blob>), NodeError> {
        if let Some(reason) = &self.failure {
            return Err(NodeError::Disk(io::Error::other(reason.clone())));
        }
        // A place may have several promises; its time has passed with the last.
        let (mut due, mut waits) = (BTreeSet::new(), BTreeSet::new());
        let mut report = PruneReport::default();
        self.file.each(|Statement { dispersal, .. }| {
            let place = (dispersal.namespace, dispersal.sequence);
            let is_below = floor(&dispersal.namespace).is_some_and(|floor| dispersal.sequence < floor);
            match (dispersal.keep_until <= now, is_below) {
                (true, true) => drop(due.insert(place)),
                (true, false) => report.kept_for_walks += 1,
                (false, true) => drop(waits.insert(place)),
                (false, false) => {}
            }
        })?;
        due.retain(|place| !waits.contains(place));
        if due.is_empty() {
            return Ok((report, HashSet::new()));
        }
        report.pruned = u64::try_from(due.len()).expect("usize fits u64");
        let mut gone = HashSet::new();
        let is_due = |statement: &Statement| {
            due.contains(&(statement.dispersal.namespace, statement.dispersal.sequence))
        };
        self.file.each(|statement| {
            if is_due(statement) {
                gone.insert((statement.commitment, statement.epoch));
            }
        })?;
        let mut next = Known { pruned_below: self.known.pruned_below.clone(), ..Known::default() };
        for (namespace, sequence) in &due {
            let below = next.pruned_below.entry(*namespace).or_default();
            *below = (*below).max(sequence + 1);
        }
        let floors: Vec<_> =
            next.pruned_below.iter().map(|(namespace, below)| (*namespace, *below)).collect();
        let rewritten = self.file.rewrite(
            floors.into_iter(),
            |statement| !is_due(statement),
            |number, statement| {
                gone.remove(&(statement.commitment, statement.epoch));
                next.add(number, statement);
            },
        );
        rewritten.map_err(|error| self.fail(error))?;
        self.known = next;
        Ok((report, gone))
    }
}

impl Known {
    fn add(&mut self, number: u32, statement: &Statement) {
        let dispersal = &statement.dispersal;
        self.places.entry(dispersal.namespace).or_default().insert((dispersal.sequence, number));
        self.epochs.insert(statement.epoch);
    }

    /// The records of a place.
    fn of_place(&self, namespace: &Namespace, sequence: u64) -> impl Iterator<Item = u32> {
        let of_log = self.places.get(namespace);
        let range = (sequence, 0)..=(sequence, u32::MAX);
        of_log.into_iter().flat_map(move |places| places.range(range.clone())).map(|(_, number)| *number)
    }
}
