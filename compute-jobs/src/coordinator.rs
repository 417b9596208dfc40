//! The coordinator: moves jobs on, as long as it has the role.
//!
//! Invariant: it commits from one loop under its term (pages of units excepted, which the same term fences), and keeps
//! nothing that the next needs; whoever has the role after it goes on from rows. Leaving the loop ends all work that it
//! started here. Does not know how providers are reached, nor what stages do.

mod judging;
mod lead;
mod leases;
mod scheduling;
mod stage_work;
mod unit_work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::jobs::{Input, UnitObjects};
use ashlar_compute_api::workers::Workers;
use ashlar_objects::compute_access::ComputeRule;
use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, LedgerError};
use crate::stages::Stages;
use crate::turn::RowsError;

/// How a coordinator goes about it.
#[derive(Clone, Copy, Debug)]
pub struct CoordinatorConfig {
    /// How long the role is held without being renewed.
    pub role: Duration,
    /// How often jobs are looked at without being woken.
    pub tick: Duration,
    /// How long a unit's lease runs without a heartbeat.
    pub lease: Duration,
    /// How long a lease may run in all.
    pub lease_life: Duration,
    /// Jobs that are looked at; others wait.
    pub jobs_max: usize,
    /// Units that are worked at once, over all jobs.
    pub running_max: usize,
    /// Stages that run at once, over all jobs.
    pub stages_max: usize,
    /// How long a stage that could not is left alone.
    pub stage_wait: Duration,
    /// A unit that takes so many times the median of its job is hedged.
    pub straggler_factor: u32,
    /// How long what ended is kept.
    pub retention: Duration,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            role: Duration::from_secs(10),
            tick: Duration::from_secs(1),
            lease: Duration::from_secs(60),
            lease_life: Duration::from_secs(6 * 3_600),
            jobs_max: 1_000,
            running_max: 1_024,
            stages_max: 8,
            stage_wait: Duration::from_secs(5),
            straggler_factor: 3,
            retention: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}

/// Whose rules the data of a job is under.
#[async_trait]
pub trait DataRules: Send + Sync {
    /// The rules of the buckets that these inputs lie in, as of now.
    async fn rules(&self, inputs: &BTreeSet<Input>) -> Result<Vec<ComputeRule>, String>;
}

/// What a coordinator is made of.
#[derive(Clone)]
pub struct CoordinatorParts {
    /// Jobs' rows.
    pub ledger: Ledger,
    /// Units' bytes.
    pub objects: Arc<dyn UnitObjects>,
    /// Who works.
    pub workers: Arc<dyn Workers>,
    /// What is done before and after.
    pub stages: Stages,
    /// Where data may go.
    pub rules: Arc<dyn DataRules>,
    /// Bounds.
    pub config: CoordinatorConfig,
    /// Told when there is something new; the same that [`crate::DurableJobs`] tells.
    pub wake: Arc<Notify>,
    /// No other process works on this metadata: the role is taken at once.
    pub is_alone: bool,
}

/// Moves jobs on while it has the role, and waits for the role while it has not.
pub struct Coordinator {
    parts: Arc<CoordinatorParts>,
    holder: u128,
}

impl Coordinator {
    /// A coordinator that has not begun.
    pub fn new(parts: CoordinatorParts) -> Self {
        Self { parts: Arc::new(parts), holder: rand::random() }
    }

    /// Coordinates until `stop`. Dropping the future is as good as a crash: everything goes on from rows.
    pub async fn run(&self, stop: &CancellationToken) {
        let CoordinatorParts { ledger, config, is_alone, .. } = &*self.parts;
        let mut is_first = true;
        while !stop.is_cancelled() {
            // Alone in the world at first; whoever came later took the role from us, and is respected.
            let alone = *is_alone && std::mem::take(&mut is_first);
            let lost = match ledger.take_role(self.holder, config.role, alone).await {
                Ok(None) => None,
                Ok(Some(term)) => {
                    tracing::info!(term = term.number, "coordinating jobs");
                    lead::Lead::new(Arc::clone(&self.parts), term).run(stop).await.err()
                }
                Err(error) => Some(error),
            };
            match lost {
                Some(LedgerError::Rows(RowsError::Fenced)) => {
                    tracing::info!("another process coordinates jobs")
                }
                Some(error) => tracing::warn!(%error, "coordinating jobs failed; it is tried again"),
                None => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(config.tick) => {}
            }
        }
    }
}
