//! The chain itself: the head that everybody sees, what waits, and the one path on which a block is made.
//!
//! Invariant: durable in the database, then durable in the high water, then announced, in this order; readers see
//! announced blocks only. An error on that path poisons the chain: it answers what it has and makes no more blocks
//! until it is reopened. Deliberately knows nothing of JSON-RPC.

use std::path::{Path, PathBuf};

use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_consensus::{Header, Sealed, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, B256, U256};
use ashlar_disk::{Disk, DiskLock};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::execution::{self, ExecutionError, SignedTransaction};
use crate::genesis;
use crate::high_water::{HighWater, HighWaterError, HighWaterFile};
use crate::pool::{Pool, PoolError};
use crate::state;
use crate::store::{Snapshot, Store, StoreError};

/// Name of the database in the chain's directory.
const DATABASE_NAME: &str = "chain.redb";
/// Name of the high-water file there, unless another place is given.
const HIGH_WATER_NAME: &str = "high-water";
const LOCK_NAME: &str = "lock";

/// Why a chain does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error("dev chain in {directory}: {source}")]
    Io {
        /// Where.
        directory: PathBuf,
        /// What was said.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("dev chain in {directory} is open in another process")]
    Locked {
        /// Where.
        directory: PathBuf,
    },
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The high water cannot be read.
    #[error(transparent)]
    HighWater(#[from] HighWaterError),
    /// The directory holds another chain.
    #[error(
        "the directory holds chain {found}, configured is {configured}; give each chain its own directory"
    )]
    OtherChain {
        /// Its id.
        found: u64,
        /// The configured one.
        configured: u64,
    },
    /// The database ends before a block that was handed out.
    #[error(
        "the database ends at block {head}, but block {} ({}) was handed out: it was rolled back. Restore the newer \
         database; starting from this one would rewrite what others saw", .handed_out.number, .handed_out.hash
    )]
    Rewound {
        /// Where the database ends.
        head: u64,
        /// What was handed out.
        handed_out: HighWater,
    },
    /// The database has another block where one was handed out.
    #[error(
        "block {} of the database is {found}, but {} was handed out: the database is of another history",
        .handed_out.number, .handed_out.hash
    )]
    OtherHistory {
        /// What the database has there.
        found: B256,
        /// What was handed out.
        handed_out: HighWater,
    },
    /// The chain has blocks, but nothing says how far it was handed out.
    #[error(
        "{path} is missing, but the database reaches block {head}: without it a rewind cannot be told; restore it"
    )]
    NoHighWater {
        /// Where it should be.
        path: PathBuf,
        /// Where the database ends.
        head: u64,
    },
}

/// An open chain.
pub struct Chain {
    configuration: Configuration,
    clock: Clock,
    store: Store,
    pool: Mutex<Pool>,
    head: RwLock<Sealed<Header>>,
    producing: Mutex<Producing>,
    /// Set when something may be ready for a block.
    pub(crate) wake: Notify,
    _lock: Box<dyn DiskLock>,
}

struct Producing {
    high_water: HighWaterFile,
    /// The last block with transactions; zero if there is none within the depth that counts.
    last_filled: u64,
    failed: bool,
}

impl Chain {
    /// Opens the chain in `directory`, made if missing, and refuses one that was rolled back. Blocks.
    ///
    /// `high_water` is where the record of handed-out blocks lies, best on another disk; by default beside the
    /// database.
    pub fn open(
        disk: &dyn Disk,
        directory: &Path,
        high_water: Option<&Path>,
        configuration: Configuration,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { directory: directory.to_owned(), source };
        disk.create_dir_all(directory).map_err(failed)?;
        let lock = disk.lock(&directory.join(LOCK_NAME)).map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked { directory: directory.to_owned() },
            _ => failed(source),
        })?;
        let path = high_water.map_or_else(|| directory.join(HIGH_WATER_NAME), Path::to_owned);
        let mut high_water = HighWaterFile::open(disk, &path)?;
        let database = directory.join(DATABASE_NAME);
        if !disk.exists(&database).map_err(failed)? {
            if let Some(handed_out) = high_water.last() {
                return Err(OpenError::Rewound { head: 0, handed_out });
            }
            let first = genesis::block(&configuration, &clock)?;
            Store::make(disk, &database, configuration.chain_id, &first)?;
        }
        let store = Store::open(disk, &database, configuration.state_history_blocks)?;
        let number = match (store.head()?, high_water.last()) {
            (None, _) => return Err(StoreError::Corrupt("there is no first block").into()),
            (Some((found, _)), _) if found != configuration.chain_id => {
                return Err(OpenError::OtherChain { found, configured: configuration.chain_id });
            }
            (Some((_, head)), None) if head > 0 => return Err(OpenError::NoHighWater { path, head }),
            (Some((_, head)), Some(handed_out)) if head < handed_out.number => {
                return Err(OpenError::Rewound { head, handed_out });
            }
            (Some((_, head)), _) => head,
        };
        let snapshot = store.snapshot(number)?;
        let missing = StoreError::Corrupt("the head's header is missing");
        let head = snapshot.header(number)?.ok_or(missing)?;
        if let Some(handed_out) = high_water.last() {
            let found = snapshot.header(handed_out.number)?.map_or(B256::ZERO, |header| header.hash());
            if found != handed_out.hash {
                return Err(OpenError::OtherHistory { found, handed_out });
            }
        }
        high_water.raise(HighWater { number, hash: head.hash() })?;
        let mut last_filled = 0;
        for number in (number.saturating_sub(configuration.final_depth)..=number).rev() {
            if snapshot.header(number)?.is_some_and(|header| header.gas_used > 0) {
                last_filled = number;
                break;
            }
        }
        Ok(Self {
            pool: Mutex::new(Pool::new(configuration.pool)),
            configuration,
            clock,
            store,
            head: RwLock::new(head),
            producing: Mutex::new(Producing { high_water, last_filled, failed: false }),
            wake: Notify::new(),
            _lock: lock,
        })
    }

    /// What it was opened with.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The announced head.
    pub fn head(&self) -> Sealed<Header> {
        self.head.read().clone()
    }

    /// Number of the newest block that has `final_depth` after it.
    pub fn final_number(&self) -> u64 {
        self.head.read().number.saturating_sub(self.configuration.final_depth)
    }

    /// Transactions that wait.
    pub fn waiting(&self) -> usize {
        self.pool.lock().len()
    }

    /// The chain as of its announced head.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let number = self.head.read().number;
        self.store.snapshot(number)
    }

    /// The time of day as blocks carry it.
    pub(crate) fn unix_seconds(&self) -> u64 {
        self.clock.unix_seconds()
    }

    /// A waiting transaction.
    pub(crate) fn waiting_transaction(&self, hash: B256) -> Option<SignedTransaction> {
        self.pool.lock().get(hash).cloned()
    }

    /// The nonce that `sender`'s next transaction needs, those that wait counted.
    pub(crate) fn pending_nonce(&self, sender: Address, next: u64) -> u64 {
        self.pool.lock().pending_nonce(sender, next)
    }

    /// Takes a signed transaction (EIP-2718) into the pool. Blocks for microseconds.
    pub fn submit(&self, encoded: &[u8]) -> Result<B256, PoolError> {
        let limit = self.configuration.pool.transaction_bytes_max;
        if encoded.len() > limit {
            return Err(PoolError::Oversized { bytes: encoded.len(), limit });
        }
        let invalid = |why: &str| PoolError::Invalid(why.to_owned());
        let envelope = TxEnvelope::decode_2718_exact(encoded)
            .map_err(|error| PoolError::Invalid(format!("transaction does not decode: {error}")))?;
        if envelope.is_eip4844() {
            return Err(invalid("transaction type not supported: no blobs on this chain"));
        }
        if alloy_consensus::Transaction::chain_id(&envelope).is_none() {
            return Err(invalid("only replay-protected (EIP-155) transactions allowed over RPC"));
        }
        let sender = envelope.recover_signer().map_err(|_| invalid("invalid sender"))?;
        let transaction = SignedTransaction { envelope, sender, encoded: encoded.to_vec().into() };
        let head = self.head();
        let next = execution::next_header(&head, self.configuration.beneficiary, self.unix_seconds());
        let out_of_order = |error: StoreError| {
            tracing::error!(%error, "dev chain: state cannot be read");
            PoolError::Unavailable
        };
        let snapshot = self.store.snapshot(head.number).map_err(out_of_order)?;
        match execution::validate(&snapshot, &next, self.configuration.chain_id, &transaction) {
            Ok(()) => {}
            Err(ExecutionError::Store(error)) => return Err(out_of_order(error)),
            Err(error) => return Err(PoolError::Invalid(error.to_string())),
        }
        // Under the pool's lock, so that a block announced meanwhile does not leave a stale nonce in it.
        let mut pool = self.pool.lock();
        let snapshot = self.snapshot().map_err(out_of_order)?;
        let account = state::account(&snapshot, sender).map_err(out_of_order)?.unwrap_or_default();
        let hash = pool.add(transaction, account.nonce, account.balance)?;
        drop(pool);
        self.wake.notify_one();
        Ok(hash)
    }

    /// Whether blocks without transactions are still due so that the last transaction becomes final.
    pub(crate) fn settles(&self) -> bool {
        let producing = self.producing.lock();
        let depth = self.head.read().number - producing.last_filled;
        producing.last_filled > 0 && depth < self.configuration.final_depth
    }

    /// Makes one block of what waits and announces it: durable when this returns. `None` if nothing is ready and no
    /// `empty` block is wanted. Blocks on the disk; one caller at a time makes blocks, others wait.
    pub fn produce(&self, empty: bool) -> Result<Option<Sealed<Header>>, ProduceError> {
        let mut producing = self.producing.lock();
        if producing.failed {
            return Err(ProduceError::Poisoned);
        }
        let made = self.produce_one(&mut producing, empty);
        producing.failed = made.is_err();
        made
    }

    fn produce_one(
        &self,
        producing: &mut Producing,
        empty: bool,
    ) -> Result<Option<Sealed<Header>>, ProduceError> {
        let parent = self.head();
        let header = execution::next_header(&parent, self.configuration.beneficiary, self.unix_seconds());
        let snapshot = self.store.snapshot(parent.number)?;
        let base_fee = header.base_fee_per_gas.unwrap_or_default();
        let mut unread = None;
        let candidates = self.pool.lock().candidates(base_fee, |sender| {
            let account = state::account(&snapshot, sender);
            account.map_err(|error| unread = Some(error)).ok().flatten().map_or(0, |account| account.nonce)
        });
        if let Some(error) = unread {
            return Err(error.into());
        }
        if candidates.is_empty() && !empty {
            return Ok(None);
        }
        let built = execution::build(&snapshot, header, self.configuration.chain_id, candidates)?;
        for (hash, why) in &built.dropped {
            tracing::warn!(%hash, why, "dev chain: transaction dropped");
        }
        let transactions = &built.commit.body.transactions;
        if transactions.is_empty() && !empty {
            let mut pool = self.pool.lock();
            built.dropped.iter().for_each(|(hash, _)| pool.remove(*hash));
            return Ok(None);
        }
        self.store.commit(self.configuration.chain_id, &built.commit)?;
        let head = built.commit.header.clone();
        producing.high_water.raise(HighWater { number: head.number, hash: head.hash() })?;
        if !transactions.is_empty() {
            producing.last_filled = head.number;
        }
        let mut pool = self.pool.lock();
        *self.head.write() = head.clone();
        let snapshot = self.store.snapshot(head.number)?;
        for row in transactions {
            let next = state::account(&snapshot, row.sender)?.map_or(0, |account| account.nonce);
            pool.advance(row.sender, next);
        }
        built.dropped.iter().for_each(|(hash, _)| pool.remove(*hash));
        Ok(Some(head))
    }

    /// Hash of an announced block.
    pub fn block_hash(&self, number: u64) -> Result<Option<B256>, StoreError> {
        Ok(self.snapshot()?.header(number)?.map(|header| header.hash()))
    }

    /// Whether a transaction is in the block with this number.
    pub fn includes(&self, transaction: B256, number: u64) -> Result<bool, StoreError> {
        Ok(self.snapshot()?.transaction(transaction)?.is_some_and(|(found, _)| found == number))
    }

    /// Balance of `address` at the head, in wei.
    pub fn balance(&self, address: Address) -> Result<U256, StoreError> {
        Ok(state::account(&self.snapshot()?, address)?.map_or(U256::ZERO, |account| account.balance))
    }
}

/// Why no block was made; the chain makes none until it is reopened.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The high water failed.
    #[error(transparent)]
    HighWater(#[from] HighWaterError),
    /// The virtual machine failed.
    #[error("{0}")]
    Machine(String),
    /// An earlier failure.
    #[error("the chain failed before and must be reopened")]
    Poisoned,
}

impl From<ExecutionError> for ProduceError {
    fn from(error: ExecutionError) -> Self {
        match error {
            ExecutionError::Store(error) => Self::Store(error),
            other => Self::Machine(other.to_string()),
        }
    }
}
