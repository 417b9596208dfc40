//! The node's word: which statements it may sign, durable before any is signed.
//!
//! Invariant: for one (namespace, sequence) there is one header, and for it one blob of each profile, whatever
//! crashes; a place that was pruned is never promised again. Only the last record can be torn, because each is
//! synced before the next is written and a failed write or sync stops everything until the node is opened again.
//! Does not know whether rows are there.
//!
//! The file: magic (16) ‖ chain id u64 ‖ verifier 20 ‖ CRC32 u32, then records of 146 bytes:
//! `1 ‖ epoch u64 ‖ namespace 32 ‖ sequence u64 ‖ header 32 ‖ commitment 32 ‖ shape 21 ‖ keep until u64 ‖ CRC32 u32`
//! for a promise, `2 ‖ namespace 32 ‖ sequence u64 ‖ zeros ‖ CRC32 u32` for places below which all are pruned.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_disk::{Disk, DiskFile, OpenMode};
use ashlar_rsema1d::{Commitment, Shape};

use super::{NodeError, PruneReport, disk_failed, file};
use crate::service::StoreError;
use crate::statement::{Dispersal, Domain, Namespace, Statement};

const MAGIC: &[u8; 16] = b"ASHLAR-DA-NODE-1";
const HEADER_BYTES: usize = 48;
const RECORD_BYTES: usize = 146;
const PROMISE: u8 = 1;
const PRUNED_BELOW: u8 = 2;
const FILE: &str = "promises";

/// What a promise would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was made already.
    Promised,
    /// It may be made.
    New,
}

/// Every promise in a folder whose record is whole, of whichever chain; none if there is no file.
pub(super) fn read_all(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<Statement>> {
    let bytes = file::read(disk, &folder.join(FILE))?.unwrap_or_default();
    let records = bytes.get(HEADER_BYTES..).unwrap_or_default().as_chunks::<RECORD_BYTES>().0;
    Ok(records.iter().filter(|record| is_intact(record)).filter_map(statement).collect())
}

/// All promises that were not pruned.
pub(super) struct Promises {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    header: [u8; HEADER_BYTES],
    file: Arc<dyn DiskFile>,
    end: u64,
    known: Known,
    failure: Option<String>,
}

/// What the records say.
#[derive(Default)]
struct Known {
    places: BTreeMap<(Namespace, u64), Vec<Statement>>,
    pruned_below: BTreeMap<Namespace, u64>,
    /// How many promises speak of the rows of this blob in this epoch.
    blobs: BTreeMap<(Commitment, u64), u32>,
}

impl Promises {
    /// Whether there are any, be they whole or not.
    pub(super) fn exist(disk: &dyn Disk, folder: &Path) -> io::Result<bool> {
        disk.exists(&folder.join(FILE))
    }

    pub(super) fn open(disk: Arc<dyn Disk>, folder: &Path, domain: &Domain) -> Result<Self, NodeError> {
        let header = header(domain);
        let path = folder.join(FILE);
        let bytes = match file::read(&*disk, &path)? {
            Some(bytes) => bytes,
            None => {
                file::replace(&*disk, folder, FILE, &[&header])?;
                header.to_vec()
            }
        };
        let (found, records) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(NodeError::Promises { offset: 0 })?;
        if !is_intact(found) || &found[..16] != MAGIC {
            return Err(NodeError::Promises { offset: 0 });
        }
        if *found != header {
            return Err(NodeError::Domain);
        }
        let mut known = Known::default();
        let mut end = HEADER_BYTES;
        for record in records.chunks(RECORD_BYTES) {
            match <[u8; RECORD_BYTES]>::try_from(record).ok().filter(is_intact::<RECORD_BYTES>) {
                Some(record) => known.apply(&record).ok_or(NodeError::Promises { offset: offset(end) })?,
                None if is_tail(&bytes[end..]) => break,
                None => return Err(NodeError::Promises { offset: offset(end) }),
            }
            end += RECORD_BYTES;
        }
        let file = disk.open(&path, OpenMode::Existing)?;
        if end < bytes.len() {
            file.set_len(offset(end))?;
            file.sync_data()?;
        }
        let folder = folder.to_path_buf();
        Ok(Self { disk, folder, header, file, end: offset(end), known, failure: None })
    }

    /// Whether this may be promised.
    pub(super) fn judge(&self, statement: &Statement) -> Result<Verdict, StoreError> {
        if let Some(reason) = &self.failure {
            return Err(StoreError::Disk { reason: reason.clone() });
        }
        let dispersal = &statement.dispersal;
        let made = self.known.places.get(&(dispersal.namespace, dispersal.sequence));
        let below = self.known.pruned_below.get(&dispersal.namespace).copied().unwrap_or(0);
        let Some(made) = made else {
            let is_pruned = dispersal.sequence < below;
            return if is_pruned { Err(StoreError::Pruned { below }) } else { Ok(Verdict::New) };
        };
        let contradicts = |earlier: &&Statement| {
            let is_same_profile = earlier.shape.profile() == statement.shape.profile();
            let is_same_blob = (earlier.commitment, earlier.shape) == (statement.commitment, statement.shape);
            earlier.dispersal.header_hash != dispersal.header_hash
                || earlier.shape.blob_bytes() != statement.shape.blob_bytes()
                || (is_same_profile && !is_same_blob)
        };
        if let Some(earlier) = made.iter().find(contradicts) {
            let (header, commitment) = (earlier.dispersal.header_hash, earlier.commitment);
            return Err(StoreError::Equivocation { header, commitment });
        }
        Ok(if made.contains(statement) { Verdict::Promised } else { Verdict::New })
    }

    /// Judges and makes the promise: when this returns, it is durable.
    pub(super) fn promise(&mut self, statement: &Statement) -> Result<(), StoreError> {
        if self.judge(statement)? == Verdict::Promised {
            return Ok(());
        }
        let record = encode(statement);
        let written = self.file.write_all_at(&[&record], self.end).and_then(|()| self.file.sync_data());
        written.map_err(|error| self.fail(error)).map_err(disk_failed)?;
        self.end += offset(RECORD_BYTES);
        self.known.add(statement);
        Ok(())
    }

    /// What is on disk is not known any more: nothing is promised until the node is opened again.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failure = Some(error.to_string());
        error
    }

    /// Whether a promise speaks of this blob's rows in this epoch.
    pub(super) fn names(&self, commitment: &Commitment, epoch: u64) -> bool {
        self.known.blobs.contains_key(&(*commitment, epoch))
    }

    /// The epochs in which rows of this blob were promised.
    pub(super) fn epochs_of(&self, commitment: &Commitment) -> Vec<u64> {
        let range = (*commitment, 0)..=(*commitment, u64::MAX);
        self.known.blobs.range(range).map(|((_, epoch), _)| *epoch).collect()
    }

    /// Forgets, durably, places whose time has passed and that lie below their namespace's floor; answers which
    /// blobs they spoke of.
    pub(super) fn prune(
        &mut self,
        now: u64,
        floor: &dyn Fn(&Namespace) -> Option<u64>,
    ) -> Result<(PruneReport, Vec<(Commitment, u64)>), NodeError> {
        if let Some(reason) = &self.failure {
            return Err(NodeError::Disk(io::Error::other(reason.clone())));
        }
        let mut report = PruneReport::default();
        let mut gone = Vec::new();
        for ((namespace, sequence), statements) in &self.known.places {
            if statements.iter().any(|statement| statement.dispersal.keep_until > now) {
                continue;
            }
            if floor(namespace).is_some_and(|floor| *sequence < floor) {
                gone.push((*namespace, *sequence));
            } else {
                report.kept_for_snapshots += 1;
            }
        }
        let mut blobs = Vec::new();
        for (namespace, sequence) in &gone {
            blobs.extend(self.known.remove(*namespace, *sequence));
            report.pruned += 1;
        }
        if !gone.is_empty() {
            self.rewrite().map_err(|error| self.fail(error))?;
        }
        Ok((report, blobs))
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let pruned =
            self.known.pruned_below.iter().map(|(namespace, below)| encode_pruned(namespace, *below));
        let promises = self.known.places.values().flatten().map(encode);
        let records: Vec<[u8; RECORD_BYTES]> = pruned.chain(promises).collect();
        let body = records.concat();
        file::replace(&*self.disk, &self.folder, FILE, &[&self.header, &body])?;
        self.file = self.disk.open(&self.folder.join(FILE), OpenMode::Existing)?;
        self.end = offset(HEADER_BYTES + body.len());
        Ok(())
    }
}

impl Known {
    /// What an intact record says; `None` if it says nothing that was ever written.
    fn apply(&mut self, record: &[u8; RECORD_BYTES]) -> Option<()> {
        match record[0] {
            PROMISE => self.add(&statement(record)?),
            PRUNED_BELOW => {
                self.pruned_below.insert(Namespace(digest(record, 1)), long(record, 33));
            }
            _ => return None,
        }
        Some(())
    }

    fn add(&mut self, statement: &Statement) {
        let dispersal = &statement.dispersal;
        self.places.entry((dispersal.namespace, dispersal.sequence)).or_default().push(*statement);
        *self.blobs.entry((statement.commitment, statement.epoch)).or_default() += 1;
    }

    /// Forgets a place for ever; answers which blobs it spoke of.
    fn remove(&mut self, namespace: Namespace, sequence: u64) -> Vec<(Commitment, u64)> {
        let statements = self.places.remove(&(namespace, sequence)).unwrap_or_default();
        let below = self.pruned_below.entry(namespace).or_default();
        *below = (*below).max(sequence + 1);
        let blobs: Vec<_> = statements.iter().map(|one| (one.commitment, one.epoch)).collect();
        for blob in &blobs {
            let count = self.blobs.get_mut(blob).expect("every promise is counted");
            *count -= 1;
            if *count == 0 {
                self.blobs.remove(blob);
            }
        }
        blobs
    }
}

fn long(record: &[u8; RECORD_BYTES], at: usize) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| record[at + i]))
}

fn digest(record: &[u8; RECORD_BYTES], at: usize) -> [u8; 32] {
    std::array::from_fn(|i| record[at + i])
}

/// What the record of a promise says.
fn statement(record: &[u8; RECORD_BYTES]) -> Option<Statement> {
    let shape = Shape::from_bytes(&std::array::from_fn(|i| record[113 + i])).ok()?;
    let dispersal = Dispersal {
        namespace: Namespace(digest(record, 9)),
        sequence: long(record, 41),
        header_hash: digest(record, 49),
        keep_until: long(record, 134),
    };
    let commitment = Commitment(digest(record, 81));
    (record[0] == PROMISE).then_some(Statement { epoch: long(record, 1), dispersal, commitment, shape })
}

fn offset(length: usize) -> u64 {
    u64::try_from(length).expect("a file in memory is below 2^64 bytes")
}

fn seal<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    let checksum = crc32fast::hash(&bytes[..N - 4]).to_be_bytes();
    bytes[N - 4..].copy_from_slice(&checksum);
    bytes
}

fn is_intact<const N: usize>(bytes: &[u8; N]) -> bool {
    seal(*bytes) == *bytes
}

/// Whether nothing that was written whole follows.
fn is_tail(rest: &[u8]) -> bool {
    rest.as_chunks::<RECORD_BYTES>().0.iter().all(|record| !is_intact(record))
}

fn header(domain: &Domain) -> [u8; HEADER_BYTES] {
    let fields = [&MAGIC[..], &domain.chain_id.to_be_bytes(), &domain.verifier, &[0; 4]].concat();
    seal(fields.try_into().expect("the fields have 48 bytes"))
}

fn encode(statement: &Statement) -> [u8; RECORD_BYTES] {
    let dispersal = &statement.dispersal;
    let fields: [&[u8]; 9] = [
        &[PROMISE],
        &statement.epoch.to_be_bytes(),
        &dispersal.namespace.0,
        &dispersal.sequence.to_be_bytes(),
        &dispersal.header_hash,
        &statement.commitment.0,
        &statement.shape.to_bytes(),
        &dispersal.keep_until.to_be_bytes(),
        &[0; 4],
    ];
    seal(fields.concat().try_into().expect("the fields have 146 bytes"))
}

fn encode_pruned(namespace: &Namespace, below: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[0] = PRUNED_BELOW;
    record[1..33].copy_from_slice(&namespace.0);
    record[33..41].copy_from_slice(&below.to_be_bytes());
    seal(record)
}
