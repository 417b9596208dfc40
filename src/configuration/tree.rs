//! The configuration tree: every setting, its type and its default.
//!
//! Invariant: a setting exists in one place only; file, environment and flags all write the same leaf. What must hold between
//! settings is said in `soundness.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::models::Models;
use super::quantities::{ByteSize, ChainFinality, CodingChoice, Span};
use super::sql::{Flight, Pg, Sql};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Configuration {
    /// Where metadata, secrets and, without `disks`, the storage nodes lie.
    pub(crate) data_dir: PathBuf,
    /// Folders on separate disks over which the storage nodes are spread; empty: all under `data_dir`.
    pub(crate) disks: Vec<PathBuf>,
    /// Storage nodes.
    pub(crate) nodes: u16,
    /// Data and parity shards of a chunk.
    pub(crate) coding: CodingChoice,
    /// The S3 front door.
    pub(crate) s3: S3,
    /// The listener of health, metrics and the API.
    pub(crate) api: Api,
    /// What SQL may use.
    pub(crate) sql: Sql,
    /// SQL by the PostgreSQL protocol.
    pub(crate) pg: Pg,
    /// SQL by Arrow Flight.
    pub(crate) flight: Flight,
    /// Models that this server runs itself.
    pub(crate) models: Models,
    /// Limits of the S3 front door.
    pub(crate) limits: Limits,
    /// Budgets of memory.
    pub(crate) memory: Memory,
    /// Background work.
    pub(crate) background: Background,
    /// The metadata store.
    pub(crate) metadata: Metadata,
    /// The storage nodes' engine.
    pub(crate) storage: Storage,
    /// The log of commitments.
    pub(crate) publish: Publish,
    /// The chain that anchors it.
    pub(crate) chain: Chain,
    /// Threads.
    pub(crate) runtime: Runtime,
    /// Logs.
    pub(crate) log: Log,
}

/// The S3 front door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct S3 {
    /// Where it listens; port 0 takes any free one.
    pub(crate) listen: SocketAddr,
    /// The region that signatures must name; empty accepts any.
    pub(crate) region: String,
    /// Domains for virtual-host addressing, `bucket.<domain>`; path addressing always works.
    pub(crate) domains: Vec<String>,
}

/// The listener of health, metrics and the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    /// Where it listens; port 0 takes any free one.
    pub(crate) listen: SocketAddr,
    /// Take secret keys in clear from other machines. Set it only where something in front encrypts.
    pub(crate) allow_plaintext_auth: bool,
}

/// Limits of the S3 front door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Open connections.
    pub(crate) connections_max: u32,
    /// Requests being served; further ones are answered 503 SlowDown.
    pub(crate) in_flight_max: u32,
    /// How long a client may take for a request's head, and idle between two requests.
    pub(crate) header_timeout: Span,
    /// Slowest a client may send or take a body, in bytes a second over `pace_window`.
    pub(crate) pace_bytes_per_second: ByteSize,
    /// Credit in time with which a body starts.
    pub(crate) pace_window: Span,
    /// How far a client's clock may be off.
    pub(crate) clock_skew_max: Span,
    /// How long requests under way may go on after a stop was asked for.
    pub(crate) drain_timeout: Span,
}

/// Budgets of memory, each a limit that is never exceeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Memory {
    /// Beginnings of uploads.
    pub(crate) intake: ByteSize,
    /// Rows being coded and stored, parity included.
    pub(crate) rows: ByteSize,
    /// Bytes read and not yet taken by clients.
    pub(crate) reads: ByteSize,
    /// Checked commitments that are kept.
    pub(crate) commitments: ByteSize,
    /// Pages of the metadata store.
    pub(crate) metadata: ByteSize,
}

/// Background work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Background {
    /// What repair may read and write in a second.
    pub(crate) repair_bytes_per_second: ByteSize,
    /// What scrubbing may read in a second.
    pub(crate) scrub_bytes_per_second: ByteSize,
    /// How often nodes that failed are asked whether they are back.
    pub(crate) probe_interval: Span,
    /// How often this process publishes which of its writes are over.
    pub(crate) progress_interval: Span,
    /// How often the queue of the dead is looked at.
    pub(crate) gc_interval: Span,
    /// How often metadata and the nodes' inventories are compared.
    pub(crate) sweep_interval: Span,
    /// How long after the end of one scrub the next begins.
    pub(crate) scrub_interval: Span,
    /// Seconds that a day of lifecycle rules lasts: 86400, unless rules are to be tested.
    pub(crate) lifecycle_day_s: u32,
}

/// The metadata store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metadata {
    /// Length of a journal segment.
    pub(crate) segment: ByteSize,
    /// Journal after which a checkpoint is written.
    pub(crate) checkpoint_after: ByteSize,
    /// Rate at which checkpoints are written.
    pub(crate) checkpoint_bytes_per_second: ByteSize,
}

/// The storage nodes' engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Storage {
    /// Space of a file system that puts leave free, for deletes and the metadata journal; 0: 5 % of it, at
    /// most 1 GiB.
    pub(crate) reserve: ByteSize,
    /// Length of a log file.
    pub(crate) log: ByteSize,
    /// Length of a segment.
    pub(crate) segment: ByteSize,
}

/// The log of commitments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Publish {
    /// Whether what is committed is published and anchored.
    pub(crate) enabled: bool,
    /// How long changes are gathered for a batch.
    pub(crate) interval: Span,
    /// Bytes at which a batch is full.
    pub(crate) batch: ByteSize,
    /// How long DA nodes keep a batch.
    pub(crate) retention: Span,
    /// Within what time receipts promise an anchor.
    pub(crate) promise: Span,
    /// How long an epoch of DA nodes lasts.
    pub(crate) epoch: Span,
}

/// The chain that anchors the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Chain {
    /// Where the embedded chain answers JSON-RPC, a loopback address; port 0 takes any free one.
    pub(crate) listen: SocketAddr,
    /// Its EIP-155 chain id.
    pub(crate) id: u64,
    /// JSON-RPC endpoints of another chain, which takes the embedded one's place; the first that answers is asked.
    pub(crate) rpc: Vec<String>,
    /// Keystore file of the account that pays there. Its password is in ASHLAR_CHAIN_KEYSTORE_PASSWORD. Without a
    /// file the key is in ASHLAR_CHAIN_KEY, or comes from the master key.
    pub(crate) keystore: PathBuf,
    /// What counts as final there: `finalized`, or a number of blocks.
    pub(crate) finality: ChainFinality,
    /// Contracts that were deployed there before, to be used again after publisher/ was lost: DaQuorum.
    pub(crate) quorum: String,
    /// And CommitmentRegistry.
    pub(crate) registry: String,
    /// The contract ComputeMarket that is used on another chain; without it nothing is computed for pay there. On the
    /// embedded chain it is deployed.
    pub(crate) market: String,
}

/// Threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Runtime {
    /// Threads that serve requests; 0: one a core.
    pub(crate) worker_threads: u16,
    /// Most threads for calls that block on a disk.
    pub(crate) blocking_threads_max: u16,
}

/// Logs, written to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `auto` (for people on a terminal, JSON otherwise), `human` or `json`.
    pub(crate) format: LogFormat,
    /// What is logged: a level, or directives like `info,ashlar_objects=debug`.
    pub(crate) filter: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./ashlar-data"),
            disks: Vec::new(),
            nodes: 6,
            coding: CodingChoice { k: 4, m: 2 },
            s3: S3::default(),
            api: Api::default(),
            sql: Sql::default(),
            models: Models::default(),
            pg: Pg::default(),
            flight: Flight::default(),
            limits: Limits::default(),
            memory: Memory::default(),
            background: Background::default(),
            metadata: Metadata::default(),
            storage: Storage::default(),
            publish: Publish::default(),
            chain: Chain::default(),
            runtime: Runtime::default(),
            log: Log::default(),
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9000)),
            region: "us-east-1".to_owned(),
            domains: vec!["localhost".to_owned()],
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9001)), allow_plaintext_auth: false }
    }
}

pub(super) fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

pub(super) fn mebibytes(mebibytes: u64) -> ByteSize {
    ByteSize(mebibytes << 20)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            in_flight_max: 16_384,
            header_timeout: seconds(30),
            pace_bytes_per_second: ByteSize(2048),
            pace_window: seconds(30),
            clock_skew_max: seconds(15 * 60),
            drain_timeout: seconds(30),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            intake: mebibytes(48),
            rows: mebibytes(80),
            reads: mebibytes(80),
            commitments: mebibytes(16),
            metadata: mebibytes(64),
        }
    }
}

impl Default for Background {
    fn default() -> Self {
        Self {
            repair_bytes_per_second: mebibytes(128),
            scrub_bytes_per_second: mebibytes(16),
            probe_interval: seconds(1),
            progress_interval: seconds(5),
            gc_interval: seconds(5),
            sweep_interval: seconds(60),
            scrub_interval: seconds(24 * 3600),
            lifecycle_day_s: 24 * 3600,
        }
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            segment: mebibytes(16),
            checkpoint_after: mebibytes(64),
            checkpoint_bytes_per_second: mebibytes(64),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { reserve: ByteSize(0), log: mebibytes(16), segment: mebibytes(64) }
    }
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: seconds(1),
            batch: mebibytes(16),
            retention: seconds(14 * 24 * 3600),
            promise: seconds(3600),
            epoch: seconds(24 * 3600),
        }
    }
}

impl Default for Chain {
    fn default() -> Self {
        // The letters `ASHL`: far from the small numbers that public chains take.
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8545)),
            id: 0x4153_484c,
            rpc: Vec::new(),
            keystore: PathBuf::new(),
            finality: ChainFinality::Finalized,
            quorum: String::new(),
            registry: String::new(),
            market: String::new(),
        }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self { worker_threads: 0, blocking_threads_max: 128 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned() }
    }
}
