//! The chain's rows in one redb file: trie nodes with the history that reaches back a bounded number of blocks,
//! code, headers, bodies.
//!
//! Invariant: a block with everything it changed is one durable transaction of the engine; whatever a crash leaves
//! is the chain up to some block. State as of an earlier block is read through undo rows: what stood under a key
//! before a later block changed it. Deliberately knows nothing of execution or of what was announced.

mod rows;

pub use rows::{BlockRow, ReceiptRow, TransactionRow};

use std::io;
use std::path::Path;
use std::sync::Arc;

use alloy_consensus::{Header, Sealed};
use alloy_primitives::{B256, Bytes};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::Nibbles;
use ashlar_disk::{Disk, DiskFile, OpenMode};
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageBackend, Table,
    TableDefinition, WriteTransaction,
};

use crate::trie::{NodeChange, Nodes, Owner};

/// "format" | "chain" | "head" → u64.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Owner ‖ path length ‖ path, a nibble a byte → RLP of the node at the head.
const NODES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("nodes");
/// Node key ‖ block u64 → what stood there before that block; empty where nothing did.
const UNDO: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("undo");
/// Block → node keys with undo rows of it, each after its length (u8).
const UNDO_KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("undo-keys");
/// Code hash → code.
const CODE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("code");
/// Number → hash ‖ RLP of the header.
const HEADERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("headers");
/// Number → RLP of [`BlockRow`].
const BODIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bodies");
/// Block hash → number.
const NUMBERS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("numbers");
/// Transaction hash → (number, index).
const TRANSACTIONS: TableDefinition<'_, &[u8], (u64, u32)> = TableDefinition::new("transactions");

/// Of these tables.
const FORMAT: u64 = 1;
/// Memory that the engine may cache.
const CACHE_BYTES: usize = 64 << 20;

/// Why rows cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed; what it said.
    #[error("chain database: {0}")]
    Engine(String),
    /// The file cannot be opened.
    #[error("chain database: {0}")]
    Io(#[from] io::Error),
    /// Rows contradict each other.
    #[error("chain database is corrupt: {0}")]
    Corrupt(&'static str),
    /// Made by another version.
    #[error("chain database has format {found}; this version reads {FORMAT}")]
    Format {
        /// The file's.
        found: u64,
    },
}

/// The engine's errors, all of which mean the same to the chain.
fn engine(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Engine(error.into().to_string())
}

/// The engine's file, through the disk seam, so that crash tests reach it.
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

/// Everything that one block changes.
pub(crate) struct BlockCommit {
    pub(crate) header: Sealed<Header>,
    pub(crate) body: BlockRow,
    /// Each node once.
    pub(crate) nodes: Vec<NodeChange>,
    pub(crate) code: Vec<(B256, Bytes)>,
}

/// The open database.
pub(crate) struct Store {
    database: Database,
    history_blocks: u64,
}

impl Store {
    /// Makes the file with its first block. It appears under its name only when it is whole: the engine's first
    /// writes cannot be told from damage when they are torn.
    pub(crate) fn make(
        disk: &dyn Disk,
        path: &Path,
        chain: u64,
        first: &BlockCommit,
    ) -> Result<(), StoreError> {
        let making = path.with_extension("new");
        if disk.exists(&making)? {
            disk.remove_file(&making)?;
        }
        Self::open_file(disk.open(&making, OpenMode::CreateNew)?, 0)?.commit(chain, first)?;
        disk.rename(&making, path)?;
        path.parent().map_or(Ok(()), |parent| disk.sync_dir(parent)).map_err(StoreError::from)
    }

    /// Opens the file that [`Store::make`] made.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, history_blocks: u64) -> Result<Self, StoreError> {
        Self::open_file(disk.open(path, OpenMode::Existing)?, history_blocks)
    }

    fn open_file(file: Arc<dyn DiskFile>, history_blocks: u64) -> Result<Self, StoreError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(DiskBackend(file))
            .map_err(engine)?;
        let store = Self { database, history_blocks };
        store.write(|tables| {
            let found = tables.meta.get("format").map_err(engine)?.map(|row| row.value());
            match found {
                None => tables.meta.insert("format", FORMAT).map_err(engine).map(|_| ()),
                Some(FORMAT) => Ok(()),
                Some(found) => Err(StoreError::Format { found }),
            }
        })?;
        Ok(store)
    }

    /// Chain id and head's number; `None` before the genesis block.
    pub(crate) fn head(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let read = self.database.begin_read().map_err(engine)?;
        let meta = read.open_table(META).map_err(engine)?;
        let chain = meta.get("chain").map_err(engine)?.map(|row| row.value());
        let head = meta.get("head").map_err(engine)?.map(|row| row.value());
        Ok(chain.zip(head))
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut WriteTables<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut write = self.database.begin_write().map_err(engine)?;
        write.set_durability(Durability::Immediate).map_err(engine)?;
        let done = work(&mut WriteTables::open(&write)?)?;
        write.commit().map_err(engine)?;
        Ok(done)
    }

    /// Appends a block; it is durable when this returns.
    pub(crate) fn commit(&self, chain: u64, block: &BlockCommit) -> Result<(), StoreError> {
        let number = block.header.number;
        self.write(|tables| {
            let head = tables.meta.get("head").map_err(engine)?.map(|row| row.value());
            assert_eq!(number, head.map_or(0, |head| head + 1), "blocks are appended in order");
            tables.meta.insert("head", number).map_err(engine)?;
            tables.meta.insert("chain", chain).map_err(engine)?;
            tables.put_nodes(number, &block.nodes)?;
            for (hash, code) in &block.code {
                tables.code.insert(hash.as_slice(), code.as_ref()).map_err(engine)?;
            }
            let hash = block.header.hash();
            let mut header = hash.to_vec();
            block.header.inner().encode(&mut header);
            tables.headers.insert(number, header.as_slice()).map_err(engine)?;
            tables.bodies.insert(number, alloy_rlp::encode(&block.body).as_slice()).map_err(engine)?;
            tables.numbers.insert(hash.as_slice(), number).map_err(engine)?;
            for (index, transaction) in (0..).zip(&block.body.transactions) {
                tables.transactions.insert(transaction.hash.as_slice(), (number, index)).map_err(engine)?;
            }
            tables.forget(number, self.history_blocks)
        })
    }

    /// A consistent view of the chain as of block `at`.
    pub(crate) fn snapshot(&self, at: u64) -> Result<Snapshot, StoreError> {
        let read = self.database.begin_read().map_err(engine)?;
        let head = read.open_table(META).map_err(engine)?.get("head").map_err(engine)?.map(|row| row.value());
        let head = head.ok_or(StoreError::Corrupt("there is no head"))?;
        if at > head {
            return Err(StoreError::Corrupt("a block after the head was asked for"));
        }
        Ok(Snapshot {
            at,
            head,
            oldest_state: head.saturating_sub(self.history_blocks),
            nodes: read.open_table(NODES).map_err(engine)?,
            undo: read.open_table(UNDO).map_err(engine)?,
            code: read.open_table(CODE).map_err(engine)?,
            headers: read.open_table(HEADERS).map_err(engine)?,
            bodies: read.open_table(BODIES).map_err(engine)?,
            numbers: read.open_table(NUMBERS).map_err(engine)?,
            transactions: read.open_table(TRANSACTIONS).map_err(engine)?,
        })
    }
}

struct WriteTables<'t> {
    meta: Table<'t, &'static str, u64>,
    nodes: Table<'t, &'static [u8], &'static [u8]>,
    undo: Table<'t, &'static [u8], &'static [u8]>,
    undo_keys: Table<'t, u64, &'static [u8]>,
    code: Table<'t, &'static [u8], &'static [u8]>,
    headers: Table<'t, u64, &'static [u8]>,
    bodies: Table<'t, u64, &'static [u8]>,
    numbers: Table<'t, &'static [u8], u64>,
    transactions: Table<'t, &'static [u8], (u64, u32)>,
}

impl<'t> WriteTables<'t> {
    fn open(write: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            meta: write.open_table(META).map_err(engine)?,
            nodes: write.open_table(NODES).map_err(engine)?,
            undo: write.open_table(UNDO).map_err(engine)?,
            undo_keys: write.open_table(UNDO_KEYS).map_err(engine)?,
            code: write.open_table(CODE).map_err(engine)?,
            headers: write.open_table(HEADERS).map_err(engine)?,
            bodies: write.open_table(BODIES).map_err(engine)?,
            numbers: write.open_table(NUMBERS).map_err(engine)?,
            transactions: write.open_table(TRANSACTIONS).map_err(engine)?,
        })
    }

    fn put_nodes(&mut self, number: u64, nodes: &[NodeChange]) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        for (owner, path, node) in nodes {
            let key = node_key(*owner, path);
            let before = match node {
                Some(node) => self.nodes.insert(key.as_slice(), node.as_slice()),
                None => self.nodes.remove(key.as_slice()),
            };
            let before = before.map_err(engine)?.map(|row| row.value().to_vec()).unwrap_or_default();
            self.undo.insert(undo_key(&key, number).as_slice(), before.as_slice()).map_err(engine)?;
            keys.push(u8::try_from(key.len()).expect("33 bytes and at most 64 nibbles"));
            keys.extend_from_slice(&key);
        }
        self.undo_keys.insert(number, keys.as_slice()).map_err(engine)?;
        Ok(())
    }

    /// Drops the undo rows of the one block that has left the history.
    fn forget(&mut self, head: u64, history_blocks: u64) -> Result<(), StoreError> {
        // State as of block b needs the undo rows of b + 1 and later.
        while let Some((block, keys)) = {
            let first = self.undo_keys.first().map_err(engine)?;
            first.map(|(block, keys)| (block.value(), keys.value().to_vec()))
        } {
            if block > head.saturating_sub(history_blocks) {
                break;
            }
            let mut rest = keys.as_slice();
            while let [length, more @ ..] = rest {
                let (key, after) = more
                    .split_at_checked(usize::from(*length))
                    .ok_or(StoreError::Corrupt("a list of undo keys is cut"))?;
                self.undo.remove(undo_key(key, block).as_slice()).map_err(engine)?;
                rest = after;
            }
            self.undo_keys.remove(block).map_err(engine)?;
        }
        Ok(())
    }
}

fn node_key(owner: Owner, path: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(33 + path.len());
    key.extend_from_slice(owner.as_slice());
    key.push(u8::try_from(path.len()).expect("a path has at most 64 nibbles"));
    key.extend_from_slice(path);
    key
}

fn undo_key(node_key: &[u8], block: u64) -> Vec<u8> {
    [node_key, &block.to_be_bytes()].concat()
}

/// The chain as of one block.
pub(crate) struct Snapshot {
    at: u64,
    head: u64,
    oldest_state: u64,
    nodes: ReadOnlyTable<&'static [u8], &'static [u8]>,
    undo: ReadOnlyTable<&'static [u8], &'static [u8]>,
    code: ReadOnlyTable<&'static [u8], &'static [u8]>,
    headers: ReadOnlyTable<u64, &'static [u8]>,
    bodies: ReadOnlyTable<u64, &'static [u8]>,
    numbers: ReadOnlyTable<&'static [u8], u64>,
    transactions: ReadOnlyTable<&'static [u8], (u64, u32)>,
}

impl Snapshot {
    /// The block it is of.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The same view as of an earlier block.
    pub(crate) fn back_to(mut self, at: u64) -> Self {
        assert!(at <= self.at, "a snapshot goes back only");
        self.at = at;
        self
    }

    /// The oldest block whose state is kept.
    pub(crate) fn oldest_state(&self) -> u64 {
        self.oldest_state
    }

    pub(crate) fn header(&self, number: u64) -> Result<Option<Sealed<Header>>, StoreError> {
        if number > self.at {
            return Ok(None);
        }
        let Some(row) = self.headers.get(number).map_err(engine)? else { return Ok(None) };
        const BAD: StoreError = StoreError::Corrupt("a header does not decode");
        let (hash, mut rlp) = row.value().split_at_checked(32).ok_or(BAD)?;
        let header = Header::decode(&mut rlp).map_err(|_| BAD)?;
        Ok(Some(Sealed::new_unchecked(header, B256::from_slice(hash))))
    }

    /// Number of the block with this hash, if it is not after this snapshot's.
    pub(crate) fn number(&self, hash: B256) -> Result<Option<u64>, StoreError> {
        let row = self.numbers.get(hash.as_slice()).map_err(engine)?;
        Ok(row.map(|row| row.value()).filter(|number| *number <= self.at))
    }

    pub(crate) fn body(&self, number: u64) -> Result<Option<BlockRow>, StoreError> {
        if number > self.at {
            return Ok(None);
        }
        let Some(row) = self.bodies.get(number).map_err(engine)? else { return Ok(None) };
        let row = BlockRow::decode(&mut row.value());
        row.map(Some).map_err(|_| StoreError::Corrupt("a body does not decode"))
    }

    /// Where a transaction is: block and index.
    pub(crate) fn transaction(&self, hash: B256) -> Result<Option<(u64, usize)>, StoreError> {
        let row = self.transactions.get(hash.as_slice()).map_err(engine)?;
        let found = row.map(|row| row.value()).filter(|(number, _)| *number <= self.at);
        Ok(found.map(|(number, index)| (number, index as usize)))
    }

    pub(crate) fn code(&self, hash: B256) -> Result<Option<Bytes>, StoreError> {
        let row = self.code.get(hash.as_slice()).map_err(engine)?;
        Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
    }
}

impl Nodes for Snapshot {
    fn node(&self, owner: Owner, path: &Nibbles) -> Result<Option<Vec<u8>>, StoreError> {
        let key = node_key(owner, &path.to_vec());
        if self.at < self.head {
            let later = undo_key(&key, self.at + 1)..=undo_key(&key, u64::MAX);
            let range = later.start().as_slice()..=later.end().as_slice();
            if let Some(row) = self.undo.range(range).map_err(engine)?.next() {
                let (_, before) = row.map_err(engine)?;
                let before = before.value();
                return Ok((!before.is_empty()).then(|| before.to_vec()));
            }
        }
        let row = self.nodes.get(key.as_slice()).map_err(engine)?;
        Ok(row.map(|row| row.value().to_vec()))
    }
}
