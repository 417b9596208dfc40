//! The rows themselves: the replayable state behind the journal, kept by redb.
//!
//! Owns the mapping of changes to engine transactions. Invariant: the rows and the journal point they stand
//! at change in one engine transaction, so whatever a crash leaves is exactly the journal up to that point.
//! Commits here are *not* durable by themselves; [`Rows::persist`] makes a point durable. Deliberately knows
//! nothing of journals beyond that point.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ashlar_disk::{Disk, DiskFile, OpenMode};
use bytes::Bytes;
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction,
};

use super::checkpoint::StoredRow;
use super::fields::Fields;
use super::group::{ChainHash, JournalPoint, StoreId};
use crate::limits;
use crate::ordered_kv::{Direction, Page, Position, Row};

/// Key → version (u64 big-endian) ‖ value.
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// "point" → store id ‖ journal point.
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const POINT: &str = "point";
/// Name of the file in the first location.
pub(crate) const ROWS_NAME: &str = "rows.redb";

/// Final state of the rows that a group of commits touches: version and, unless removed, value.
pub(crate) type Overlay = BTreeMap<Bytes, (Position, Option<Bytes>)>;

/// The engine failed; what it said.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RowsError(String);

impl<E: Into<redb::Error>> From<E> for RowsError {
    fn from(error: E) -> Self {
        Self(error.into().to_string())
    }
}

/// The engine's file, through the disk seam, so that crash tests reach it too.
struct DiskBackend(Arc<dyn DiskFile>);

impl std::fmt::Debug for DiskBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskBackend")
    }
}

impl StorageBackend for DiskBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(&[data], offset)
    }
}

/// The open engine.
pub(crate) struct Rows {
    database: Database,
    file: Arc<dyn DiskFile>,
}

/// An immutable view at one journal point.
pub(crate) struct View {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// Where the rows stand.
    pub(crate) point: JournalPoint,
}

/// Applied, not yet visible; dropping it undoes it.
pub(crate) struct Staged(WriteTransaction);

impl Rows {
    /// Opens or creates the file. Without a point it holds nothing of use.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        cache_bytes: usize,
    ) -> Result<(Self, Option<(StoreId, JournalPoint)>), RowsError> {
        // The engine asserts what its pages should hold; a damaged file must be an error here, because
        // there may be other locations to rebuild it from.
        let opening = AssertUnwindSafe(|| Self::open_file(disk, dir, cache_bytes));
        catch_unwind(opening).unwrap_or_else(|_| Err(RowsError("its pages contradict each other".to_owned())))
    }

    fn open_file(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        cache_bytes: usize,
    ) -> Result<(Self, Option<(StoreId, JournalPoint)>), RowsError> {
        let file = disk
            .open(&dir.join(ROWS_NAME), OpenMode::OpenOrCreate)
            .and_then(|file| disk.sync_dir(dir).map(|()| file))
            .map_err(|error| RowsError(error.to_string()))?;
        let backend = DiskBackend(Arc::clone(&file));
        let database = Database::builder().set_cache_size(cache_bytes).create_with_backend(backend)?;
        let tx = database.begin_write()?;
        let point = {
            tx.open_table(ROWS)?;
            let state = tx.open_table(STATE)?;
            let stored = state.get(POINT)?;
            stored.and_then(|stored| parse_point(stored.value()))
        };
        tx.commit()?;
        Ok((Self { database, file }, point))
    }

    /// Applies final row states and moves to `point`, in memory only.
    pub(crate) fn stage(
        &self,
        store: StoreId,
        point: &JournalPoint,
        overlay: &Overlay,
    ) -> Result<Staged, RowsError> {
        let mut tx = self.database.begin_write()?;
        tx.set_durability(Durability::None)?;
        {
            let mut table = tx.open_table(ROWS)?;
            for (key, (position, value)) in overlay {
                match value {
                    Some(value) => {
                        let mut slot = table.insert_reserve(&key[..], 8 + value.len())?;
                        let (version, rest) = slot.as_mut().split_at_mut(8);
                        version.copy_from_slice(&position.to_be_bytes());
                        rest.copy_from_slice(value);
                    }
                    None => {
                        table.remove(&key[..])?;
                    }
                }
            }
            tx.open_table(STATE)?.insert(POINT, &encode_point(store, point)[..])?;
        }
        Ok(Staged(tx))
    }

    /// Inserts rows as a checkpoint holds them, without moving the point.
    pub(crate) fn load(&self, rows: &[StoredRow]) -> Result<(), RowsError> {
        let mut tx = self.database.begin_write()?;
        tx.set_durability(Durability::None)?;
        {
            let mut table = tx.open_table(ROWS)?;
            for (key, stored) in rows {
                table.insert(&key[..], &stored[..])?;
            }
        }
        Ok(tx.commit()?)
    }

    /// Makes everything applied so far durable; answers the point that now is. Applying waits meanwhile.
    pub(crate) fn persist(&self) -> Result<Option<JournalPoint>, RowsError> {
        // Pages that the engine already wrote go out before applying has to wait for the rest.
        self.file.sync_data().map_err(|error| RowsError(error.to_string()))?;
        let mut tx = self.database.begin_write()?;
        tx.set_durability(Durability::Immediate)?;
        tx.set_quick_repair(true);
        let point = {
            let state = tx.open_table(STATE)?;
            let stored = state.get(POINT)?;
            stored.and_then(|stored| parse_point(stored.value()))
        };
        tx.commit()?;
        Ok(point.map(|(_, point)| point))
    }

    /// A view of everything applied so far, which stands at `point`.
    pub(crate) fn view(&self, point: JournalPoint) -> Result<View, RowsError> {
        Ok(View { table: self.database.begin_read()?.open_table(ROWS)?, point })
    }
}

impl Staged {
    /// Makes it visible to later views.
    pub(crate) fn commit(self) -> Result<(), RowsError> {
        Ok(self.0.commit()?)
    }
}

impl View {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Row>, RowsError> {
        let Some(stored) = self.table.get(key)? else { return Ok(None) };
        row(stored.value()).map(Some)
    }

    pub(crate) fn version(&self, key: &[u8]) -> Result<Option<Position>, RowsError> {
        let Some(stored) = self.table.get(key)? else { return Ok(None) };
        split(stored.value()).map(|(version, _)| Some(version))
    }

    /// Rows of `start..end`, at most `limit`, bounded in bytes.
    pub(crate) fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Page, RowsError> {
        let mut page = Page::default();
        if start >= end {
            return Ok(page);
        }
        let mut range = self.table.range::<&[u8]>(start..end)?;
        let mut bytes = 0;
        loop {
            let next = match direction {
                Direction::Forward => range.next(),
                Direction::Backward => range.next_back(),
            };
            let Some(entry) = next else { return Ok(page) };
            if page.rows.len() == limit || bytes >= limits::SCAN_BYTES_MAX {
                page.more = true;
                return Ok(page);
            }
            let (key, stored) = entry?;
            let key = Bytes::copy_from_slice(key.value());
            let row = row(stored.value())?;
            bytes += key.len() + row.value.len();
            page.rows.push((key, row));
        }
    }

    /// Hands every stored row, sorted, to `visit`, until it answers `false`.
    pub(crate) fn visit<E: From<RowsError>>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for entry in self.table.range::<&[u8]>(..).map_err(RowsError::from)? {
            let (key, stored) = entry.map_err(RowsError::from)?;
            visit(key.value(), stored.value())?;
        }
        Ok(())
    }
}

fn split(stored: &[u8]) -> Result<(Position, &[u8]), RowsError> {
    let (version, value) =
        stored.split_first_chunk().ok_or_else(|| RowsError("a row without a version".to_owned()))?;
    Ok((Position::from_be_bytes(*version), value))
}

fn row(stored: &[u8]) -> Result<Row, RowsError> {
    let (version, value) = split(stored)?;
    Ok(Row { value: Bytes::copy_from_slice(value), version })
}

fn encode_point(store: StoreId, point: &JournalPoint) -> Vec<u8> {
    let mut bytes = store.0.to_vec();
    bytes.extend_from_slice(&point.epoch.to_be_bytes());
    bytes.extend_from_slice(&point.sequence.to_be_bytes());
    bytes.extend_from_slice(&point.position.to_be_bytes());
    bytes.extend_from_slice(&point.chain.0);
    bytes
}

fn parse_point(bytes: &[u8]) -> Option<(StoreId, JournalPoint)> {
    let mut fields = Fields(bytes);
    let store = StoreId(fields.array()?);
    let (epoch, sequence, position) = (fields.u64()?, fields.u64()?, Position(fields.u64()?));
    let chain = ChainHash(fields.array()?);
    fields.is_done().then_some((store, JournalPoint { epoch, sequence, position, chain }))
}
