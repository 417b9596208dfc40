//! The seam between a coordinator of jobs and whoever works their units: this process, or providers far away.
//!
//! Invariant: a unit is worked under the fence of the lease that it was started with, and what is told of it carries
//! no other; dropping a [`Work`] ends it. Does not know how providers are reached or paid, nor how one is chosen.

use async_trait::async_trait;
use bytes::Bytes;

use crate::amount::Amount;
use crate::bytes::{Address, ContentRoot, JobId};
use crate::jobs::{Kind, Lease, UnitInput};
use crate::terms::Shard;

/// To whom a provider belongs: what `compute-access` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// To who runs the store: the data lies with him already.
    Operator,
    /// To a user of the store, by id.
    User(String),
    /// To somebody else.
    Stranger,
}

/// What a provider does with one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelOffer {
    /// What kind of work.
    pub kind: Kind,
    /// Content root of the model.
    pub model: ContentRoot,
    /// BLAKE3 of the class's name; zero where none is claimed.
    pub determinism_class: ContentRoot,
    /// Of one unit of usage.
    pub price: Amount,
    /// As measured; zero: not yet.
    pub units_per_second: u32,
}

/// A provider that could work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderOffer {
    /// Who.
    pub provider: Address,
    /// Whose.
    pub belongs: Belongs,
    /// Units of jobs that it would begin now; zero: none.
    pub free: u32,
    /// What it runs.
    pub models: Vec<ModelOffer>,
}

/// A unit to be worked, with its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which unit.
    pub shard: Shard,
    /// Under which its bytes lie.
    pub family: JobId,
    /// Fence, provider and times.
    pub lease: Lease,
    /// What kind of work.
    pub kind: Kind,
    /// The model to be run.
    pub model: ContentRoot,
    /// What is asked.
    pub input: UnitInput,
    /// Answers that another gave until it stopped; these rows are not worked again.
    pub checkpoint: Option<ContentRoot>,
    /// Of one unit of usage.
    pub price: Amount,
    /// The most that it may cost.
    pub allowance: Amount,
    /// How often something is to be heard of it at least, in seconds.
    pub heartbeat_seconds: u32,
}

/// What is heard of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkEvent {
    /// It goes on.
    Alive {
        /// Rows that are done.
        rows: u64,
        /// What its provider was paid for good so far, checkpoint's rows not among it.
        paid: Amount,
    },
    /// Answers so far, as [`crate::unit_data::Answers`] of some of the rows.
    Checkpoint(Bytes),
    /// The provider knows that another may finish first, and that it goes unpaid then.
    Told,
    /// All answers, as [`crate::unit_data::Answers`]; nothing comes after it.
    Finished {
        /// The bytes.
        answers: Bytes,
    },
    /// It gives up; nothing comes after it.
    Failed {
        /// Why.
        reason: String,
        /// Whether another could do no better.
        is_final: bool,
    },
}

/// Work under way. Dropping it ends the work.
#[async_trait]
pub trait Work: Send {
    /// What is heard next; `None`: nothing any more. Cancel-safe: nothing is lost when the future is dropped.
    async fn next(&mut self) -> Option<WorkEvent>;

    /// Tells the provider that another may finish first; its [`WorkEvent::Told`] says that it knows.
    fn announce_hedge(&mut self);
}

/// Why work did not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct StartError {
    /// For the log.
    pub reason: String,
}

/// What became of work that another coordinator had started.
pub enum Attached {
    /// It goes on, and is heard of here now.
    Running(Box<dyn Work>),
    /// Its provider does not work on it any more, for sure.
    Gone,
    /// Not known: its lease is waited for.
    Unknown,
}

/// Those who could work.
#[async_trait]
pub trait Workers: Send + Sync {
    /// Who could work now, as far as is known without asking anybody.
    fn offers(&self) -> Vec<ProviderOffer>;

    /// Has a unit worked by the provider of its lease.
    async fn start(&self, task: Task) -> Result<Box<dyn Work>, StartError>;

    /// Finds work again that was started under this lease, by this process or another.
    async fn attach(&self, task: Task) -> Attached;
}
