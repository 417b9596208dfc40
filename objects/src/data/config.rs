//! Every bound of the data path, named, with the defaults of `ashlar up`.
//!
//! The defaults keep a process under 600 MiB with 10,000 slow clients beside 64 uploads and 64 downloads at
//! full speed: intake, rows, reads and commitments are budgets in bytes, and what a connection itself costs
//! is not counted here.

use std::time::Duration;

/// Bounds and rates of the data path.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Data shards of a full chunk.
    pub k: u8,
    /// Parity shards of every chunk: nodes that may be lost.
    pub m: u8,
    /// Bytes that the beginnings of bodies and of rows may take (up to 32 KiB each).
    pub intake_bytes: usize,
    /// Bytes that rows may take from when they outgrow the intake until nodes have them, parity included.
    pub row_bytes: usize,
    /// Bytes read and not yet taken by clients. Past it each reader still gets one block at a time.
    pub read_bytes: u64,
    /// Reads open at once.
    pub readers_max: usize,
    /// Most bytes that one reader fetches at a time.
    pub read_window_bytes_max: u32,
    /// Bytes of checked commitments kept.
    pub commitment_cache_bytes: usize,
    /// How long a body waits for memory before the client is told to slow down.
    pub reserve_wait: Duration,
    /// How long a row may take to fill while others wait for memory.
    pub row_patience: Duration,
    /// How long a node may take to answer a read before it counts as failed.
    pub read_timeout: Duration,
    /// How long a node may take to take a cell or seal a shard before it counts as failed.
    pub write_timeout: Duration,
    /// Reads in a hundred that may be asked twice because the first was slow.
    pub hedge_percent: u32,
    /// Tasks on the CPU pool at once.
    pub cpu_tasks: usize,
    /// Chunks put together anew at once because nodes failed while they were written.
    pub rescues: usize,
    /// Shards known to be missing that wait for repair; more are left to the sweep.
    pub repair_queue_max: usize,
    /// Bytes a second that repair may read and write.
    pub repair_bytes_per_second: u64,
    /// Bytes a second that scrubbing may read.
    pub scrub_bytes_per_second: u64,
    /// How often nodes that failed are asked whether they are back.
    pub probe_interval: Duration,
    /// How often the session publishes its progress.
    pub progress_interval: Duration,
    /// How often the queue of the dead is looked at.
    pub gc_interval: Duration,
    /// How often metadata and inventories are compared while all is well.
    pub sweep_interval: Duration,
    /// How often while shards are missing, and how soon after the start.
    pub sweep_interval_degraded: Duration,
    /// How long after the end of one scrub the next begins.
    pub scrub_interval: Duration,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            k: 4,
            m: 2,
            intake_bytes: 48 << 20,
            row_bytes: 48 << 20,
            read_bytes: 48 << 20,
            readers_max: 16_384,
            read_window_bytes_max: 512 << 10,
            commitment_cache_bytes: 16 << 20,
            reserve_wait: Duration::from_secs(10),
            row_patience: Duration::from_secs(30),
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(20),
            hedge_percent: 5,
            cpu_tasks: std::thread::available_parallelism().map_or(2, usize::from),
            rescues: 2,
            repair_queue_max: 10_000,
            repair_bytes_per_second: 128 << 20,
            scrub_bytes_per_second: 16 << 20,
            probe_interval: Duration::from_secs(1),
            progress_interval: Duration::from_secs(5),
            gc_interval: Duration::from_secs(5),
            sweep_interval: Duration::from_secs(3600),
            sweep_interval_degraded: Duration::from_secs(15),
            scrub_interval: Duration::from_secs(24 * 3600),
        }
    }
}
