//! Rows on disk: one file for each (commitment, epoch).
//!
//! Invariant: a file appears whole, synced and under its name before [`RowStore::write`] returns; nothing is read
//! out of it that does not pass its check against the commitment in the file's name. Does not know who signed.
//!
//! The file: magic (16) ‖ opening length u32 ‖ opening ‖ row count u32 ‖ rows, each `index u32 ‖ path ‖ row`.
//! It has no checksum of its own: opening and rows are checked against the commitment.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_disk::{Disk, DiskFile, OpenMode};
use ashlar_rsema1d::{CheckedOpening, CheckedRow, Commitment, Opening, RowProof};
use bytes::Bytes;
use parking_lot::Mutex;

use super::file;
use crate::service::{FetchError, Held};

const MAGIC: &[u8; 16] = b"ASHLAR-DA-ROWS-1";
/// Bytes before the opening.
const HEAD_BYTES: u64 = 20;
/// More than any opening has: 53 bytes and 256 fingerprints.
const OPENING_BYTES_MAX: usize = 8 << 10;

/// All rows of a node.
pub(super) struct RowStore {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Two writers of the same blob would meet in one unfinished file.
    writing: Mutex<()>,
}

/// An opened file with its checked opening.
struct Opened {
    file: Arc<dyn DiskFile>,
    opening: CheckedOpening,
    rows_at: u64,
    count: u32,
}

fn name(commitment: &Commitment, epoch: u64) -> String {
    format!("{commitment}-{epoch}")
}

fn parse(name: &Path) -> Option<(Commitment, u64)> {
    let (commitment, epoch) = name.to_str()?.split_once('-')?;
    let bytes = hex::decode(commitment).ok()?;
    Some((Commitment(bytes.try_into().ok()?), epoch.parse().ok()?))
}

impl RowStore {
    pub(super) fn open(disk: Arc<dyn Disk>, folder: &Path) -> io::Result<Self> {
        let folder = folder.join("rows");
        disk.create_dir_all(&folder)?;
        Ok(Self { disk, folder, writing: Mutex::new(()) })
    }

    /// The rows in a folder that is only read.
    pub(super) fn at(disk: Arc<dyn Disk>, folder: &Path) -> Self {
        Self { disk, folder: folder.join("rows"), writing: Mutex::new(()) }
    }

    /// What there are files of.
    pub(super) fn list(&self) -> io::Result<Vec<(Commitment, u64)>> {
        match self.disk.list_dir(&self.folder) {
            Ok(names) => Ok(names.iter().filter_map(|name| parse(name)).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn is_empty(&self) -> io::Result<bool> {
        self.list().map(|files| files.is_empty())
    }

    /// Removes every file that is not wanted, unfinished ones included.
    pub(super) fn retain(&self, wanted: impl Fn(&Commitment, u64) -> bool) -> io::Result<()> {
        let mut removed = false;
        for name in self.disk.list_dir(&self.folder)? {
            if !parse(&name).is_some_and(|(commitment, epoch)| wanted(&commitment, epoch)) {
                self.disk.remove_file(&self.folder.join(name))?;
                removed = true;
            }
        }
        if removed { self.disk.sync_dir(&self.folder) } else { Ok(()) }
    }

    pub(super) fn contains(&self, commitment: &Commitment, epoch: u64) -> bool {
        self.disk.exists(&self.folder.join(name(commitment, epoch))).unwrap_or(false)
    }

    /// Makes rows durable. Writing the same again replaces the file by an equal one.
    pub(super) fn write(&self, epoch: u64, opening: &CheckedOpening, rows: &[CheckedRow]) -> io::Result<()> {
        let _writing = self.writing.lock();
        let commitment = opening.commitment();
        let encoded = opening.opening().to_bytes();
        let length = u32::try_from(encoded.len()).expect("openings are short").to_be_bytes();
        let count = u32::try_from(rows.len()).expect("there are at most 1,024 rows").to_be_bytes();
        let heads: Vec<Vec<u8>> = rows.iter().map(|row| row.proof().head()).collect();
        let mut parts: Vec<&[u8]> = vec![MAGIC, &length, &encoded, &count];
        for (head, row) in heads.iter().zip(rows) {
            parts.extend([head.as_slice(), row.proof().row.as_ref()]);
        }
        file::replace(&*self.disk, &self.folder, &name(&commitment, epoch), &parts)
    }

    pub(super) fn remove(&self, commitment: &Commitment, epoch: u64) -> io::Result<()> {
        match self.disk.remove_file(&self.folder.join(name(commitment, epoch))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn opened(&self, commitment: &Commitment, epoch: u64) -> Result<Opened, FetchError> {
        let damaged = |_: io::Error| FetchError::Damaged;
        let path = self.folder.join(name(commitment, epoch));
        let file = self.disk.open(&path, OpenMode::Existing).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FetchError::NotHeld,
            _ => FetchError::Damaged,
        })?;
        let word = |offset: u64| -> Result<u32, FetchError> {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, offset).map_err(damaged)?;
            Ok(u32::from_be_bytes(bytes))
        };
        let length = word(HEAD_BYTES - 4)?;
        let mut opening = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(OPENING_BYTES_MAX)];
        file.read_exact_at(&mut opening, HEAD_BYTES).map_err(damaged)?;
        let opening = Opening::from_bytes(&opening)
            .and_then(|opening| opening.check(*commitment))
            .map_err(|_| FetchError::Damaged)?;
        let rows_at = HEAD_BYTES + u64::from(length) + 4;
        let count = word(rows_at - 4)?.min(opening.shape().rows());
        Ok(Opened { file, opening, rows_at, count })
    }

    /// Opening and row numbers. Numbers are not checked: [`RowStore::read`] checks what it serves.
    fn describe(&self, commitment: &Commitment, epoch: u64) -> Result<Held, FetchError> {
        let opened = self.opened(commitment, epoch)?;
        let rows =
            (0..opened.count).map(|place| opened.index(place)).collect::<Result<BTreeSet<u32>, _>>()?;
        let opening = Bytes::from(opened.opening.opening().to_bytes());
        Ok(Held { opening, rows: rows.into_iter().collect() })
    }

    /// What there is of a blob in files of these epochs together.
    pub(super) fn held(&self, commitment: &Commitment, epochs: &[u64]) -> Result<Held, FetchError> {
        let mut rows = Vec::new();
        let mut opening = Err(FetchError::NotHeld);
        for epoch in epochs {
            match self.describe(commitment, *epoch) {
                Ok(stored) => {
                    rows.extend(stored.rows);
                    opening = Ok(stored.opening);
                }
                // Another epoch's file may be whole.
                Err(error) if opening.is_err() => opening = Err(error),
                Err(_) => {}
            }
        }
        rows.sort_unstable();
        rows.dedup();
        Ok(Held { opening: opening?, rows })
    }

    /// One row from the files of these epochs, if it passes its check.
    pub(super) fn row(
        &self,
        commitment: &Commitment,
        epochs: &[u64],
        index: u32,
    ) -> Result<RowProof, FetchError> {
        let mut outcome = Err(FetchError::NotHeld);
        for epoch in epochs {
            match self.read(commitment, *epoch, index) {
                Ok(row) => return Ok(row),
                Err(FetchError::NotHeld) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// One row, if it passes its check.
    fn read(&self, commitment: &Commitment, epoch: u64, index: u32) -> Result<RowProof, FetchError> {
        let opened = self.opened(commitment, epoch)?;
        for place in 0..opened.count {
            if opened.index(place)? == index {
                return opened.row(place);
            }
        }
        Err(FetchError::NotHeld)
    }
}

impl Opened {
    fn record_bytes(&self) -> usize {
        RowProof::encoded_bytes(self.opening.shape())
    }

    fn offset(&self, place: u32) -> u64 {
        let bytes = u64::try_from(self.record_bytes()).expect("a row is below 4 GiB");
        self.rows_at + u64::from(place) * bytes
    }

    fn index(&self, place: u32) -> Result<u32, FetchError> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, self.offset(place)).map_err(|_| FetchError::Damaged)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn row(&self, place: u32) -> Result<RowProof, FetchError> {
        let mut bytes = vec![0; self.record_bytes()];
        self.file.read_exact_at(&mut bytes, self.offset(place)).map_err(|_| FetchError::Damaged)?;
        let checked = RowProof::from_bytes(self.opening.shape(), &bytes.into())
            .and_then(|row| self.opening.check_row(row))
            .map_err(|_| FetchError::Damaged)?;
        Ok(checked.proof().clone())
    }
}
