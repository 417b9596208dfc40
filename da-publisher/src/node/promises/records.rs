//! The file of promises: records of one length behind a header, read a stretch at a time.
//!
//! Invariant: a record is synced before its append returns; only the last can be torn, because a failed write or sync
//! stops its owner. Rewriting puts a whole file in place of the old one. Does not know what may be promised.
//!
//! The file: magic (16) ‖ chain id u64 ‖ verifier 20 ‖ CRC32 u32, then records of 146 bytes:
//! `1 ‖ epoch u64 ‖ namespace 32 ‖ sequence u64 ‖ header 32 ‖ commitment 32 ‖ shape 21 ‖ keep until u64 ‖ CRC32 u32`
//! for a promise, `2 ‖ namespace 32 ‖ sequence u64 ‖ zeros ‖ CRC32 u32` for places below which all are pruned.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_disk::{Disk, DiskFile, OpenMode};
use ashlar_rsema1d::{Commitment, Shape};

use crate::node::{NodeError, file};
use crate::statement::{Dispersal, Domain, Namespace, Statement};

const MAGIC: &[u8; 16] = b"ASHLAR-DA-NODE-1";
const HEADER_BYTES: usize = 48;
const RECORD_BYTES: usize = 146;
const PROMISE: u8 = 1;
const PRUNED_BELOW: u8 = 2;
const FILE: &str = "promises";
/// Records read or written at once.
const STEP: usize = 1024;

type Bytes = [u8; RECORD_BYTES];

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Promise(Statement),
    PrunedBelow(Namespace, u64),
}

/// The file, opened.
pub(super) struct RecordFile {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    header: [u8; HEADER_BYTES],
    file: Arc<dyn DiskFile>,
    count: u32,
}

/// Whether there is a file, be it whole or not.
pub(in crate::node) fn exists(disk: &dyn Disk, folder: &Path) -> io::Result<bool> {
    disk.exists(&folder.join(FILE))
}

/// Every promise whose record is whole, of whichever chain; none if there is no file.
pub(in crate::node) fn read_whole(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<Statement>> {
    let file = match disk.open(&folder.join(FILE), OpenMode::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut statements = Vec::new();
    for start in (0..slots(file.len()?)).step_by(STEP) {
        let stretch = read(&*file, start, STEP)?;
        statements.extend(stretch.iter().filter_map(decode).filter_map(|record| match record {
            Record::Promise(statement) => Some(statement),
            Record::PrunedBelow(..) => None,
        }));
    }
    Ok(statements)
}

impl RecordFile {
    /// Opens or creates the file, and shows every record with its number.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        domain: &Domain,
        mut visit: impl FnMut(u32, Record),
    ) -> Result<Self, NodeError> {
        let header = header(domain);
        if !exists(&*disk, folder)? {
            file::replace(&*disk, folder, FILE, &[&header])?;
        }
        let file = disk.open(&folder.join(FILE), OpenMode::Existing)?;
        let damaged = |offset| NodeError::Promises { offset };
        let mut found = [0; HEADER_BYTES];
        file.read_exact_at(&mut found, 0).map_err(|_| damaged(0))?;
        if !is_intact(&found) || &found[..16] != MAGIC {
            return Err(damaged(0));
        }
        if found != header {
            return Err(NodeError::Domain);
        }
        let length = file.len()?;
        let (mut count, mut torn) = (0_u32, None);
        for start in (0..slots(length)).step_by(STEP) {
            for bytes in read(&*file, start, STEP)? {
                match (decode(&bytes), torn) {
                    (Some(record), None) => {
                        visit(count, record);
                        count += 1;
                    }
                    // Something that was written whole follows: what is damaged before it is no torn end.
                    (Some(_), Some(at)) => return Err(damaged(offset_of(at))),
                    (None, None) if is_intact(&bytes) => return Err(damaged(offset_of(count))),
                    (None, _) => torn = torn.or(Some(count)),
                }
            }
        }
        if offset_of(count) < length {
            file.set_len(offset_of(count))?;
            file.sync_data()?;
        }
        Ok(Self { disk, folder: folder.to_path_buf(), header, file, count })
    }

    /// A promise by its number.
    pub(super) fn promise(&self, number: u32) -> io::Result<Statement> {
        let bytes = read(&*self.file, usize::try_from(number).expect("u32 fits usize"), 1)?;
        match bytes.first().and_then(decode) {
            Some(Record::Promise(statement)) => Ok(statement),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a promise does not read any more")),
        }
    }

    /// Makes a promise durable; answers its number.
    pub(super) fn append(&mut self, statement: &Statement) -> io::Result<u32> {
        let number = self.count;
        self.file.write_all_at(&[&encode(&Record::Promise(*statement))], offset_of(number))?;
        self.file.sync_data()?;
        self.count = number.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(number)
    }

    /// Shows every promise.
    pub(super) fn each(&self, mut visit: impl FnMut(&Statement)) -> io::Result<()> {
        for start in (0..usize::try_from(self.count).expect("u32 fits usize")).step_by(STEP) {
            for bytes in read(&*self.file, start, STEP)? {
                if let Some(Record::Promise(statement)) = decode(&bytes) {
                    visit(&statement);
                }
            }
        }
        Ok(())
    }

    /// Puts a file with these floors, and with those promises that `keep` keeps, in place of this one; shows each with its
    /// new number.
    pub(super) fn rewrite(
        &mut self,
        floors: impl Iterator<Item = (Namespace, u64)>,
        keep: impl Fn(&Statement) -> bool,
        mut visit: impl FnMut(u32, &Statement),
    ) -> io::Result<()> {
        let mut writer = file::Replacing::begin(Arc::clone(&self.disk), &self.folder, FILE)?;
        writer.write(&self.header)?;
        let mut count = 0;
        for (namespace, below) in floors {
            writer.write(&encode(&Record::PrunedBelow(namespace, below)))?;
            count += 1;
        }
        for start in (0..usize::try_from(self.count).expect("u32 fits usize")).step_by(STEP) {
            for bytes in read(&*self.file, start, STEP)? {
                if let Some(Record::Promise(statement)) = decode(&bytes)
                    && keep(&statement)
                {
                    writer.write(&bytes)?;
                    visit(count, &statement);
                    count += 1;
                }
            }
        }
        writer.finish()?;
        self.file = self.disk.open(&self.folder.join(FILE), OpenMode::Existing)?;
        self.count = count;
        Ok(())
    }
}

/// Records for which there is room in a file of this length, the last perhaps cut off.
fn slots(length: u64) -> usize {
    let bytes = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(HEADER_BYTES);
    bytes.div_ceil(RECORD_BYTES)
}

fn offset_of(number: u32) -> u64 {
    let records = u64::from(number) * u64::try_from(RECORD_BYTES).expect("146 fits u64");
    u64::try_from(HEADER_BYTES).expect("48 fits u64") + records
}

/// Up to `count` records from number `start` on; what is cut off at the end is filled up with zeros.
fn read(file: &dyn DiskFile, start: usize, count: usize) -> io::Result<Vec<Bytes>> {
    let from = HEADER_BYTES + start * RECORD_BYTES;
    let length = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let end = length.min(from + count * RECORD_BYTES);
    let mut bytes = vec![0; end.saturating_sub(from)];
    file.read_exact_at(&mut bytes, u64::try_from(from).map_err(|_| io::ErrorKind::FileTooLarge)?)?;
    bytes.resize(bytes.len().div_ceil(RECORD_BYTES) * RECORD_BYTES, 0);
    Ok(bytes.as_chunks().0.to_vec())
}

fn long(record: &Bytes, at: usize) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| record[at + i]))
}

fn digest(record: &Bytes, at: usize) -> [u8; 32] {
    std::array::from_fn(|i| record[at + i])
}

/// What an intact record says; `None` if it is not intact, or says nothing that was ever written.
fn decode(record: &Bytes) -> Option<Record> {
    if !is_intact(record) {
        return None;
    }
    match record[0] {
        PROMISE => {
            let shape = Shape::from_bytes(&std::array::from_fn(|i| record[113 + i])).ok()?;
            let dispersal = Dispersal {
                namespace: Namespace(digest(record, 9)),
                sequence: long(record, 41),
                header_hash: digest(record, 49),
                keep_until: long(record, 134),
            };
            let (epoch, commitment) = (long(record, 1), Commitment(digest(record, 81)));
            Some(Record::Promise(Statement { epoch, dispersal, commitment, shape }))
        }
        PRUNED_BELOW => Some(Record::PrunedBelow(Namespace(digest(record, 1)), long(record, 33))),
        _ => None,
    }
}

fn encode(record: &Record) -> Bytes {
    match record {
        Record::Promise(statement) => {
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
        Record::PrunedBelow(namespace, below) => {
            let mut record = [0; RECORD_BYTES];
            record[0] = PRUNED_BELOW;
            record[1..33].copy_from_slice(&namespace.0);
            record[33..41].copy_from_slice(&below.to_be_bytes());
            seal(record)
        }
    }
}

fn seal<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    let checksum = crc32fast::hash(&bytes[..N - 4]).to_be_bytes();
    bytes[N - 4..].copy_from_slice(&checksum);
    bytes
}

fn is_intact<const N: usize>(bytes: &[u8; N]) -> bool {
    seal(*bytes) == *bytes
}

fn header(domain: &Domain) -> [u8; HEADER_BYTES] {
    let fields = [&MAGIC[..], &domain.chain_id.to_be_bytes(), &domain.verifier, &[0; 4]].concat();
    seal(fields.try_into().expect("the fields have 48 bytes"))
}
