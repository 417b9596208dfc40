//! A job: how far it has come, what it costs, how it ends.
//!
//! ```text
//! Open ─begin─► Materialising ─materialised─► Running ─all units ended─► Publishing ─published─► Done
//!   │                │                           │ cancel, fail, deadline     └─fail─► Failed
//!   └────────────────┴─► Cancelled, Failed       └─► Stopping ─all units ended─► Cancelled, Failed
//! ```
//!
//! Invariant: counts never exceed the units, spending never the cap; it publishes once, and only when every unit has
//! ended. A unit that failed is rows with an error in the result, and fails no job. The caller commits a unit's end and
//! the job's count of it together, so that none is counted twice.

use serde::{Deserialize, Serialize};

use super::statement::JobSpec;
use crate::amount::Amount;
use crate::bytes::{ContentRoot, InputRoot, JobId};

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its name, which follows from `spec` and `attempt`.
    pub id: JobId,
    /// Which of the attempts at what was submitted, from 1. Each is a job of its own, so that no voucher's shard is two.
    pub attempt: u32,
    /// What was submitted.
    pub spec: JobSpec,
    /// Where it stands.
    pub state: JobState,
    /// How far it has come.
    pub progress: Progress,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Nothing was done yet.
    Open,
    /// Its units are being written.
    Materialising,
    /// Its units are being worked.
    Running,
    /// Every unit has ended; the result is being made visible.
    Publishing,
    /// The result is visible.
    Done {
        /// Content root of what was published.
        output: ContentRoot,
    },
    /// It ends so as soon as every unit has ended.
    Stopping(End),
    /// It ended without a result.
    Ended(End),
}

/// How a job ends that has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Its owner wanted it no more.
    Cancelled,
    /// Its deadline passed.
    DeadlinePassed,
    /// A stage failed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Counts of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Commits to the units; nothing before they are written.
    pub input_root: Option<InputRoot>,
    /// Units in all.
    pub units: u32,
    /// With a result.
    pub done: u32,
    /// Failed for good.
    pub failed: u32,
    /// Cancelled.
    pub cancelled: u32,
    /// What they cost so far.
    pub spent: Amount,
}

impl Progress {
    fn ended(&self) -> u32 {
        self.done + self.failed + self.cancelled
    }
}

/// How a unit ended, as the job counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitEnd {
    /// With a result.
    Done,
    /// Without.
    Failed,
    /// Not wanted any more.
    Cancelled,
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// A coordinator takes it up.
    Begin,
    /// Its units are written, so many.
    Materialised {
        /// Commits to them.
        input_root: InputRoot,
        /// Their number.
        units: u32,
    },
    /// So much more was paid for its units.
    Spend(Amount),
    /// A unit ended.
    UnitEnded(UnitEnd),
    /// The result is visible.
    Published {
        /// Its content root.
        output: ContentRoot,
    },
    /// A stage failed.
    Fail {
        /// Why.
        reason: String,
    },
    /// Its owner wants it no more.
    Cancel,
    /// Time passed.
    Tick,
}

/// Why something cannot happen to a job now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobRefusal {
    /// It has ended.
    #[error("the job has ended")]
    Ended,
    /// It is in another stage.
    #[error("the job is in another stage")]
    Stage,
    /// It is being made visible, which cannot be stopped half-way.
    #[error("the job is being published")]
    Publishing,
    /// All its units have ended.
    #[error("all {units} units have ended")]
    NoUnitLeft {
        /// So many.
        units: u32,
    },
    /// It would cost more than it may.
    #[error("{spent} wei and {more} more are above {cap}")]
    AboveSpendCap {
        /// The job's.
        cap: Amount,
        /// So far.
        spent: Amount,
        /// Asked for.
        more: Amount,
    },
    /// The same name was submitted with another statement: a client's key was used twice.
    #[error("job {id} is another statement")]
    OtherStatement {
        /// The name.
        id: JobId,
    },
}

impl JobState {
    /// Whether nothing can happen to the job any more.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Ended(_))
    }
}

impl Job {
    /// A job that was just submitted.
    pub fn new(spec: JobSpec) -> Self {
        Self::attempt(spec, 1)
    }

    /// The attempt of this number, that was just submitted.
    pub fn attempt(spec: JobSpec, attempt: u32) -> Self {
        let id = spec.id().attempt(attempt);
        Self { id, attempt, spec, state: JobState::Open, progress: Progress::default() }
    }

    /// The name that all attempts share: the first one's.
    pub fn family(&self) -> JobId {
        self.spec.id()
    }

    /// Whether a submission of the same name is this job. Limits of the submission that made the attempt hold.
    pub fn is_same(&self, spec: &JobSpec) -> Result<(), JobRefusal> {
        let is_same = self.family() == spec.id() && self.spec.statement == spec.statement;
        if is_same { Ok(()) } else { Err(JobRefusal::OtherStatement { id: self.id }) }
    }

    /// Whether nothing can happen to it any more.
    pub fn has_ended(&self) -> bool {
        self.state.has_ended()
    }

    /// The job after `event` at `now`, in Unix seconds.
    pub fn apply(&self, event: JobEvent, now: u64) -> Result<Self, JobRefusal> {
        if self.has_ended() {
            return Err(JobRefusal::Ended);
        }
        let mut next = self.clone();
        match event {
            JobEvent::Begin if self.state == JobState::Open => next.state = JobState::Materialising,
            JobEvent::Materialised { input_root, units } if self.state == JobState::Materialising => {
                next.progress = Progress { input_root: Some(input_root), units, ..Progress::default() };
                next.state = JobState::Running;
                next.end_when_units_have();
            }
            JobEvent::Spend(more) => next.spend(more)?,
            JobEvent::UnitEnded(end) => next.count(end)?,
            JobEvent::Published { output } if self.state == JobState::Publishing => {
                next.state = JobState::Done { output };
            }
            JobEvent::Fail { reason } => next.stop(End::Failed { reason }),
            JobEvent::Cancel if self.state == JobState::Publishing => return Err(JobRefusal::Publishing),
            JobEvent::Cancel => next.stop(End::Cancelled),
            JobEvent::Tick => {
                let is_late = self.spec.limits.deadline.is_some_and(|deadline| now > deadline);
                if is_late && self.state != JobState::Publishing {
                    next.stop(End::DeadlinePassed);
                }
            }
            JobEvent::Begin | JobEvent::Materialised { .. } | JobEvent::Published { .. } => {
                return Err(JobRefusal::Stage);
            }
        }
        Ok(next)
    }

    fn is_worked(&self) -> bool {
        matches!(self.state, JobState::Running | JobState::Stopping(_))
    }

    fn spend(&mut self, more: Amount) -> Result<(), JobRefusal> {
        if !self.is_worked() {
            return Err(JobRefusal::Stage);
        }
        let (cap, spent) = (self.spec.limits.spend_cap, self.progress.spent);
        let sum = spent.checked_add(more).filter(|sum| *sum <= cap);
        self.progress.spent = sum.ok_or(JobRefusal::AboveSpendCap { cap, spent, more })?;
        Ok(())
    }

    fn count(&mut self, end: UnitEnd) -> Result<(), JobRefusal> {
        if !self.is_worked() {
            return Err(JobRefusal::Stage);
        }
        let progress = &mut self.progress;
        if progress.ended() == progress.units {
            return Err(JobRefusal::NoUnitLeft { units: progress.units });
        }
        match end {
            UnitEnd::Done => progress.done += 1,
            UnitEnd::Failed => progress.failed += 1,
            UnitEnd::Cancelled => progress.cancelled += 1,
        }
        self.end_when_units_have();
        Ok(())
    }

    /// The first reason to stop stays.
    fn stop(&mut self, end: End) {
        match self.state {
            JobState::Running => {
                self.state = JobState::Stopping(end);
                self.end_when_units_have();
            }
            JobState::Stopping(_) => {}
            _ => self.state = JobState::Ended(end),
        }
    }

    fn end_when_units_have(&mut self) {
        if self.progress.ended() < self.progress.units {
            return;
        }
        match &self.state {
            JobState::Running => self.state = JobState::Publishing,
            JobState::Stopping(end) => self.state = JobState::Ended(end.clone()),
            _ => {}
        }
    }
}
