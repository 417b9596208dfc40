//! What all sessions of a process share: threads, memory, disk, caches, and who runs what.
//!
//! Invariant: SQL runs on threads of its own at low priority, in memory of its own, with a bound on statements
//! that run and that wait; so S3 comes first whatever is asked. Deliberately knows no statement.

mod admission;
mod executor;
pub(crate) mod interrupt;
mod memory;
pub(crate) mod running;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::Store;
use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;

pub(crate) use self::admission::{Admission, Permit};
pub(crate) use self::executor::{Executor, Upkeep};
use self::memory::OfOneQuery;
use self::running::Running;
use crate::error::SqlError;
use crate::scan::footers::Footers;
use crate::scan::pinned_store::{ExecutionStores, PinnedStore};
use crate::scan::pins::Pins;
use crate::semantics;
use crate::system::Surroundings;
use crate::write::staged_store::StagedStore;

/// The one catalog.
pub(crate) const CATALOG: &str = "ashlar";
/// Where a name without a schema is looked for at first.
pub(crate) const DEFAULT_SCHEMA: &str = "public";
/// Most spill files that are merged at once.
const SPILL_FAN_IN_MAX: usize = 64;

/// What SQL may use.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Threads that queries run on.
    pub threads: usize,
    /// Memory of all queries together, in bytes.
    pub memory_bytes_max: usize,
    /// Memory of one query, in bytes.
    pub query_memory_bytes_max: usize,
    /// Folder that queries spill to, which is there and empty; `None`: they do not.
    pub spill_dir: Option<PathBuf>,
    /// What one query may spill, in bytes. All together spill at most `running_max` times that.
    pub query_spill_bytes_max: u64,
    /// Footers kept, in bytes.
    pub footer_bytes_max: u64,
    /// Statements that run at a time.
    pub running_max: usize,
    /// Statements that wait for that.
    pub waiting_max: usize,
    /// How long a statement may take unless its session says otherwise.
    pub statement_timeout: Option<Duration>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            threads: cores.saturating_sub(1).max(1),
            memory_bytes_max: 1 << 30,
            query_memory_bytes_max: 512 << 20,
            spill_dir: None,
            query_spill_bytes_max: 8 << 30,
            footer_bytes_max: 64 << 20,
            running_max: 8,
            waiting_max: 64,
            statement_timeout: Some(Duration::from_secs(60 * 60)),
        }
    }
}

/// What an engine does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineStats {
    /// Statements that run or whose rows stream.
    pub running: usize,
    /// Statements that wait for that, or to be planned.
    pub waiting: usize,
    /// Statements that are planned.
    pub planning: usize,
    /// Memory of all statements, in bytes.
    pub memory_bytes: usize,
    /// Footers kept, in bytes.
    pub footer_bytes: u64,
}

/// SQL over one store. Cheap to clone; every clone is the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    /// `None`: nothing is known beside the store.
    pub(crate) surroundings: Option<Arc<dyn Surroundings>>,
    pub(crate) config: EngineConfig,
    pub(crate) executor: Executor,
    pub(crate) upkeep: Upkeep,
    pub(crate) admission: Admission,
    /// Of statements that are planned: who reads an answer and asks for another must not wait for himself.
    pub(crate) planning: Admission,
    pub(crate) running: Running,
    pub(crate) footers: Arc<Footers>,
    /// Functions and rules, the same for every session.
    pub(crate) base: SessionState,
    memory: Arc<dyn MemoryPool>,
}

impl Engine {
    /// Starts the threads. To be called within a tokio runtime, on which leases are renewed.
    pub fn open(
        store: Store,
        surroundings: Option<Arc<dyn Surroundings>>,
        config: EngineConfig,
    ) -> Result<Self, SqlError> {
        let executor = Executor::start(config.threads)?;
        let mut defaults = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
            .with_information_schema(true)
            .with_target_partitions(config.threads);
        let options = defaults.options_mut();
        // Tables are made by our statements, in no catalog of DataFusion's.
        options.catalog.create_default_catalog_and_schema = false;
        // What is pushed down filters while it reads; the figures are in docs/benchmarks.md once measured.
        options.execution.parquet.pushdown_filters = false;
        // Its own rules differ in what they call nullable, which changes no row.
        options.execution.skip_physical_aggregate_schema_check = true;
        options.sql_parser.map_string_types_to_utf8view = true;
        let base = semantics::base(defaults);
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                surroundings,
                executor,
                upkeep: Upkeep::here(),
                admission: Admission::new(config.running_max, config.waiting_max),
                planning: Admission::new(config.running_max, config.waiting_max),
                running: Running::default(),
                footers: Arc::new(Footers::new(config.footer_bytes_max)),
                base,
                memory: Arc::new(FairSpillPool::new(config.memory_bytes_max)),
                config,
            }),
        })
    }

    /// Runs work of a front door on the threads of SQL: what plans or computes does not belong on those that
    /// serve. It ends with whoever waits for it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SqlError>> + Send + 'static,
    ) -> Result<T, SqlError> {
        self.inner.executor.run(work).await
    }

    /// What it does at the moment.
    pub fn stats(&self) -> EngineStats {
        let ((running, waiting), (planning, waiting_too)) =
            (self.inner.admission.counts(), self.inner.planning.counts());
        EngineStats {
            running,
            waiting: waiting + waiting_too,
            planning,
            memory_bytes: self.inner.memory.reserved(),
            footer_bytes: self.inner.footers.bytes(),
        }
    }

    /// Waits until what statements left to do is done: leases released, above all. Stop the front doors first.
    pub async fn drain(&self) {
        self.inner.upkeep.drain().await;
    }
}

impl Inner {
    /// Memory, disk and objects of one execution.
    pub(crate) fn environment(
        &self,
        pins: Option<&Pins>,
        staged: Option<Arc<StagedStore>>,
    ) -> Result<Arc<RuntimeEnv>, SqlError> {
        let mode = match &self.config.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::Disabled,
        };
        let disk = DiskManagerBuilder::default()
            .with_mode(mode)
            .with_max_temp_directory_size(self.config.query_spill_bytes_max)
            .with_max_spill_merge_fan_in(SPILL_FAN_IN_MAX);
        let memory: Arc<dyn MemoryPool> =
            Arc::new(OfOneQuery::new(Arc::clone(&self.memory), self.config.query_memory_bytes_max));
        let pinned = Arc::new(PinnedStore::new(pins, Arc::clone(&memory)));
        let stores = ExecutionStores { pinned, staged };
        let built = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disk)
            .with_memory_pool(memory)
            .with_object_store_registry(Arc::new(stores))
            .build_arc();
        Ok(built?)
    }
}
