//! One term: the loop that decides.
//!
//! What it holds in memory follows from rows and from what it started: leases under way with the tasks that follow
//! them, and of each open job where its next units are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use ashlar_compute_api::jobs::{
    Input, JobEvent, JobRefusal, JobState, Lease, Output, StageError, UnitEvent, UnitState,
};
use ashlar_compute_api::workers::WorkEvent;
use ashlar_compute_api::{Address, Amount, JobId};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::CoordinatorParts;
use super::judging::{self, JudgeError, Judged};
use super::stage_work::{self, StageTrouble};
use super::unit_work::{AnnounceHedge, Heard, LeaseId};
use crate::ledger::LedgerError;
use crate::ledger::units::{Changed, UnitId};
use crate::rows::{JobRow, LeaseTerms, UnitRow};
use crate::turn::Term;

/// What is heard and not yet dealt with.
const HEARD_MAX: usize = 1_024;
/// Units of a job that are read ahead of their leases.
pub(super) const QUEUE_MAX: usize = 256;
/// Durations of a job's units that are remembered.
const DURATIONS_MAX: usize = 101;
/// Families that one tick removes.
const PURGE_MAX: usize = 10;

/// An open job.
pub(super) struct OpenJob {
    pub(super) row: JobRow,
    pub(super) inputs: std::collections::BTreeSet<Input>,
    /// Units to be leased, and where the next ones are read from.
    pub(super) queue: VecDeque<UnitId>,
    pub(super) next: Option<u32>,
    /// A stage is at work.
    stage: Option<AbortHandle>,
    /// Not before then.
    stage_at: Instant,
    pub(super) durations: VecDeque<u64>,
}

/// A lease under way.
pub(super) struct Running {
    pub(super) lease: Lease,
    pub(super) terms: LeaseTerms,
    pub(super) unit: UnitRow,
    /// It was asked for, and nothing was heard yet.
    pub(super) is_starting: bool,
    pub(super) is_judged: bool,
    pub(super) said: Option<mpsc::Sender<AnnounceHedge>>,
    pub(super) task: Option<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

pub(super) struct Lead {
    pub(super) parts: Arc<CoordinatorParts>,
    pub(super) term: Term,
    pub(super) jobs: BTreeMap<JobId, OpenJob>,
    pub(super) running: HashMap<LeaseId, Running>,
    pub(super) turn_of: usize,
    pub(super) heard: mpsc::Sender<Heard>,
    hears: mpsc::Receiver<Heard>,
    pub(super) tasks: JoinSet<()>,
}

impl Lead {
    pub(super) fn new(parts: Arc<CoordinatorParts>, term: Term) -> Self {
        let (heard, hears) = mpsc::channel(HEARD_MAX);
        Self {
            parts,
            term,
            jobs: BTreeMap::new(),
            running: HashMap::new(),
            turn_of: 0,
            heard,
            hears,
            tasks: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<(), LedgerError> {
        let parts = Arc::clone(&self.parts);
        let mut tick = tokio::time::interval(parts.config.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    return parts.ledger.resign(self.term).await;
                }
                heard = self.hears.recv() => {
                    if let Some(heard) = heard {
                        self.hear(heard).await?;
                    }
                    // What else was heard by now, before units are given out.
                    while let Ok(heard) = self.hears.try_recv() {
                        self.hear(heard).await?;
                    }
                    self.schedule().await?;
                }
                () = parts.wake.notified() => self.look().await?,
                _ = tick.tick() => self.tick().await?,
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
            }
        }
    }

    async fn tick(&mut self) -> Result<(), LedgerError> {
        self.parts.ledger.renew_role(self.term, self.parts.config.role).await?;
        self.expire().await?;
        self.look().await?;
        self.purge().await
    }

    /// Looks at all open jobs anew.
    async fn look(&mut self) -> Result<(), LedgerError> {
        let ledger = self.parts.ledger.clone();
        let open = ledger.open_jobs(self.parts.config.jobs_max).await?;
        let ids: std::collections::BTreeSet<JobId> = open.iter().map(|(id, _)| *id).collect();
        let gone: Vec<JobId> = self.jobs.keys().filter(|id| !ids.contains(id)).copied().collect();
        gone.into_iter().for_each(|id| self.forget(id));
        for (id, row) in open {
            let now = ledger.now();
            let is_late = row.limits.deadline.is_some_and(|deadline| now > deadline);
            let row = match is_late {
                true => ledger.job_event(self.term, id, JobEvent::Tick).await?,
                false => row,
            };
            match self.jobs.get_mut(&id) {
                Some(job) => job.row = row,
                None => self.take_up(id, row).await?,
            }
            self.move_on(id).await?;
        }
        self.schedule().await
    }

    /// Begins with a job that somebody else may have moved this far.
    async fn take_up(&mut self, id: JobId, row: JobRow) -> Result<(), LedgerError> {
        let (_, job) = self.parts.ledger.load(id).await?;
        let has_units = matches!(row.state, JobState::Running | JobState::Stopping(_));
        let open = OpenJob {
            row,
            inputs: job.spec.statement.inputs,
            queue: VecDeque::new(),
            next: Some(0),
            stage: None,
            stage_at: Instant::now(),
            durations: VecDeque::new(),
        };
        self.jobs.insert(id, open);
        if has_units { self.find_leases(id).await } else { Ok(()) }
    }

    fn forget(&mut self, id: JobId) {
        if let Some(stage) = self.jobs.remove(&id).and_then(|job| job.stage) {
            stage.abort();
        }
        self.running.retain(|lease, _| lease.unit.job != id);
    }

    /// Does what a job's state asks for.
    async fn move_on(&mut self, id: JobId) -> Result<(), LedgerError> {
        let ledger = self.parts.ledger.clone();
        let stages = self.jobs.values().filter(|job| job.stage.is_some()).count();
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let may_stage =
            job.stage.is_none() && stages < self.parts.config.stages_max && Instant::now() >= job.stage_at;
        match &job.row.state {
            JobState::Open if may_stage => {
                job.row = match ledger.job_event(self.term, id, JobEvent::Begin).await {
                    // Cancelled meanwhile: the next look finds it gone.
                    Err(LedgerError::Job(_)) => return Ok(()),
                    row => row?,
                };
                self.materialise(id);
            }
            JobState::Materialising if may_stage => self.materialise(id),
            JobState::Publishing if may_stage => {
                let (parts, heard) = (Arc::clone(&self.parts), self.heard.clone());
                let stage = self.tasks.spawn(async move {
                    let published = stage_work::publish(parts, id).await;
                    let _ = heard.send(Heard::Published(id, published)).await;
                });
                job.stage = Some(stage);
            }
            JobState::Stopping(_) => {
                self.running.retain(|lease, _| lease.unit.job != id);
                while ledger.cancel_units(self.term, id).await? {}
                if let Some(row) = ledger.row(id).await? {
                    self.set_row(id, row);
                }
            }
            JobState::Ended(_) | JobState::Done { .. } => self.forget(id),
            JobState::Open | JobState::Materialising | JobState::Running | JobState::Publishing => {}
        }
        Ok(())
    }

    fn set_row(&mut self, id: JobId, row: JobRow) {
        if row.state.has_ended() {
            self.forget(id);
        } else if let Some(job) = self.jobs.get_mut(&id) {
            job.row = row;
        }
    }

    fn materialise(&mut self, id: JobId) {
        let (parts, term, heard) = (Arc::clone(&self.parts), self.term, self.heard.clone());
        let stage = self.tasks.spawn(async move {
            let materialised = stage_work::materialise(parts, term, id).await;
            let _ = heard.send(Heard::Materialised(id, materialised)).await;
        });
        if let Some(job) = self.jobs.get_mut(&id) {
            job.stage = Some(stage);
        }
    }

    async fn hear(&mut self, heard: Heard) -> Result<(), LedgerError> {
        let ledger = self.parts.ledger.clone();
        match heard {
            Heard::Materialised(id, Ok(of)) => {
                self.stage_ended(id);
                let row = ledger.materialised(self.term, id, of.input_root, of.units, of.kept).await;
                self.after(id, row).await
            }
            Heard::Published(id, Ok(output)) => {
                self.stage_ended(id);
                let row = ledger.job_event(self.term, id, JobEvent::Published { output }).await;
                self.after(id, row).await
            }
            Heard::Materialised(id, Err(trouble)) | Heard::Published(id, Err(trouble)) => {
                self.stage_ended(id);
                self.stage_failed(id, trouble).await
            }
            Heard::Started(id, Ok(())) => {
                if let Some(running) = self.running.get_mut(&id) {
                    running.is_starting = false;
                }
                Ok(())
            }
            Heard::Started(id, Err(error)) => {
                self.fail(id, format!("it did not begin: {}", error.reason), false).await
            }
            Heard::Work(id, event) => self.hear_work(id, event).await,
            Heard::Silent(id) => match self.running.get(&id) {
                Some(running) if !running.is_judged => {
                    self.fail(id, "its provider said no more".to_owned(), false).await
                }
                _ => Ok(()),
            },
            Heard::Judged(id, Ok(judged)) => self.finish(id, judged).await,
            Heard::Judged(id, Err(JudgeError::Store(reason))) => self.end_blameless(id, reason).await,
            Heard::Judged(id, Err(error)) => {
                let is_final = matches!(error, JudgeError::Questions(_));
                self.fail(id, error.to_string(), is_final).await
            }
            Heard::Checkpoint(id, Ok(checkpoint)) => {
                match ledger.checkpoint(self.term, id.unit, id.fence, checkpoint).await {
                    Err(LedgerError::NotFound { .. }) => Ok(()),
                    result => result,
                }
            }
            Heard::Checkpoint(id, Err(error)) => {
                tracing::debug!(%error, unit = ?id.unit, "a checkpoint does not count");
                Ok(())
            }
        }
    }

    fn stage_ended(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.stage = None;
        }
    }

    async fn stage_failed(&mut self, id: JobId, trouble: StageTrouble) -> Result<(), LedgerError> {
        match trouble {
            StageTrouble::Stage(StageError::Final { reason }) => {
                let row = self.parts.ledger.job_event(self.term, id, JobEvent::Fail { reason }).await;
                self.after(id, row).await
            }
            StageTrouble::Stage(StageError::Again { reason }) => {
                tracing::info!(%id, %reason, "a stage could not; it is tried again");
                let wait = self.parts.config.stage_wait;
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.stage_at = Instant::now() + wait;
                }
                self.parts.ledger.set_waiting(self.term, id, Some(&reason)).await
            }
            // Cancelled meanwhile, or past its deadline.
            StageTrouble::Ledger(LedgerError::Job(_) | LedgerError::NotFound { .. }) => Ok(()),
            StageTrouble::Ledger(error) => Err(error),
        }
    }

    /// Takes a job's new row, or learns that it has moved otherwise meanwhile.
    async fn after(&mut self, id: JobId, row: Result<JobRow, LedgerError>) -> Result<(), LedgerError> {
        match row {
            Ok(row) => self.set_row(id, row),
            Err(LedgerError::Job(_)) => match self.parts.ledger.row(id).await? {
                Some(row) => self.set_row(id, row),
                None => self.forget(id),
            },
            Err(error) => return Err(error),
        }
        Box::pin(self.move_on(id)).await
    }

    async fn hear_work(&mut self, id: LeaseId, event: WorkEvent) -> Result<(), LedgerError> {
        // Nothing is owed to what has no lease any more: it is not even looked at.
        if !self.running.contains_key(&id) {
            return Ok(());
        }
        match event {
            WorkEvent::Alive { paid, .. } => self.renew(id, paid).await,
            WorkEvent::Told => {
                let event = UnitEvent::Told { fence: id.fence };
                self.unit_event(id.unit, event).await
            }
            WorkEvent::Failed { reason, is_final } => self.fail(id, reason, is_final).await,
            WorkEvent::Finished { answers } => {
                self.renew(id, Amount::ZERO).await?;
                let Some((family, input)) = self.judging(id) else { return Ok(()) };
                let (objects, heard) = (Arc::clone(&self.parts.objects), self.heard.clone());
                self.tasks.spawn(async move {
                    let judged = judging::judge(&objects, family, input, answers).await;
                    let _ = heard.send(Heard::Judged(id, judged)).await;
                });
                Ok(())
            }
            WorkEvent::Checkpoint(answers) => {
                let Some(running) = self.running.get(&id) else { return Ok(()) };
                let Some(job) = self.jobs.get(&id.unit.job) else { return Ok(()) };
                let (family, input) = (job.row.family, running.unit.unit.input.content_root);
                let (objects, heard) = (Arc::clone(&self.parts.objects), self.heard.clone());
                self.tasks.spawn(async move {
                    let kept = judging::judge_checkpoint(&objects, family, input, answers).await;
                    let _ = heard.send(Heard::Checkpoint(id, kept)).await;
                });
                Ok(())
            }
        }
    }

    /// Marks a lease as one whose answers are being judged; nothing where they are already.
    fn judging(&mut self, id: LeaseId) -> Option<(JobId, ashlar_compute_api::ContentRoot)> {
        let running = self.running.get_mut(&id)?;
        if std::mem::replace(&mut running.is_judged, true) {
            return None;
        }
        Some((self.jobs.get(&id.unit.job)?.row.family, running.unit.unit.input.content_root))
    }

    async fn renew(&mut self, id: LeaseId, paid: Amount) -> Result<(), LedgerError> {
        let Some(running) = self.running.get_mut(&id) else { return Ok(()) };
        let (now, config) = (self.parts.ledger.now(), &self.parts.config);
        let life = running.lease.granted_at.saturating_add(config.lease_life.as_secs());
        let until = now.saturating_add(config.lease.as_secs()).min(life);
        // A renewal is a commit: not more often than is needed.
        let has_time = running.lease.expires_at.saturating_sub(now) > config.lease.as_secs() / 2;
        if paid <= running.terms.paid && (has_time || until <= running.lease.expires_at) {
            return Ok(());
        }
        running.terms.paid = running.terms.paid.max(paid);
        match self.parts.ledger.heartbeat(self.term, id.unit, id.fence, until, paid).await {
            Ok(Some(lease)) => {
                running.lease = lease;
                Ok(())
            }
            Ok(None) | Err(LedgerError::Unit(_) | LedgerError::Job(_) | LedgerError::NotFound { .. }) => {
                self.running.remove(&id);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn finish(&mut self, id: LeaseId, judged: Judged) -> Result<(), LedgerError> {
        let Some(running) = self.running.get(&id) else { return Ok(()) };
        let taken = self.parts.ledger.now().saturating_sub(running.lease.granted_at);
        let Judged { content_root, usage, kept } = judged;
        let output = Output { fence: id.fence, content_root, usage };
        match self.parts.ledger.finish(self.term, id.unit, output, kept).await {
            Ok(changed) => {
                self.running.retain(|lease, _| lease.unit != id.unit);
                if let Some(job) = self.jobs.get_mut(&id.unit.job) {
                    job.durations.push_back(taken);
                    if job.durations.len() > DURATIONS_MAX {
                        job.durations.pop_front();
                    }
                }
                self.after(id.unit.job, Ok(changed.job)).await
            }
            Err(LedgerError::Job(JobRefusal::AboveSpendCap { .. })) => {
                self.fail(id, "it asks for more than its allowance".to_owned(), false).await
            }
            Err(LedgerError::Unit(_) | LedgerError::Job(_) | LedgerError::NotFound { .. }) => {
                self.running.remove(&id);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A lease ends without a result.
    async fn fail(&mut self, id: LeaseId, reason: String, is_final: bool) -> Result<(), LedgerError> {
        self.running.remove(&id);
        self.unit_event(id.unit, UnitEvent::Fail { fence: id.fence, reason, is_final }).await
    }

    /// The same, and its provider is not at fault.
    pub(super) async fn end_blameless(&mut self, id: LeaseId, reason: String) -> Result<(), LedgerError> {
        self.running.remove(&id);
        let changed = self.parts.ledger.end_blameless(self.term, id.unit, id.fence, reason).await;
        self.after_unit(id.unit, changed).await
    }

    /// Something happens to a unit, after which it may be open again, or its job have ended.
    pub(super) async fn unit_event(&mut self, of: UnitId, event: UnitEvent) -> Result<(), LedgerError> {
        let changed = self.parts.ledger.unit_event(self.term, of, event).await;
        self.after_unit(of, changed).await
    }

    async fn after_unit(
        &mut self,
        of: UnitId,
        changed: Result<Changed, LedgerError>,
    ) -> Result<(), LedgerError> {
        let changed = match changed {
            Ok(changed) => changed,
            // It is fenced, or has ended.
            Err(LedgerError::Unit(_) | LedgerError::Job(_) | LedgerError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let leases = changed.unit.unit.leases();
        self.running.retain(|id, _| id.unit != of || leases.iter().any(|lease| lease.fence == id.fence));
        for lease in leases {
            let id = LeaseId { unit: of, fence: lease.fence };
            if let Some(running) = self.running.get_mut(&id) {
                running.lease = *lease;
                running.unit = changed.unit.clone();
            }
        }
        if changed.unit.unit.state == UnitState::Open
            && let Some(job) = self.jobs.get_mut(&of.job)
            && job.next.is_none_or(|next| of.number < next)
            && !job.queue.contains(&of)
        {
            job.queue.push_back(of);
        }
        self.after(of.job, Ok(changed.job)).await
    }

    /// Ends leases whose time is over.
    async fn expire(&mut self) -> Result<(), LedgerError> {
        let now = self.parts.ledger.now();
        let late = self.running.iter().filter(|(_, running)| running.lease.expires_at < now);
        let late: Vec<UnitId> = late.map(|(id, _)| id.unit).collect();
        for of in late {
            self.unit_event(of, UnitEvent::Expire).await?;
        }
        Ok(())
    }

    /// Removes what ended long ago.
    async fn purge(&mut self) -> Result<(), LedgerError> {
        let ledger = self.parts.ledger.clone();
        let before = ledger.now().saturating_sub(self.parts.config.retention.as_secs());
        for family in ledger.ended_before(before, PURGE_MAX).await? {
            if !ledger.begin_purge(self.term, family, before).await? {
                continue;
            }
            if let Err(error) = self.parts.objects.forget(family).await {
                tracing::warn!(%error, %family, "objects of an old job were not removed; it is tried again");
                continue;
            }
            ledger.finish_purge(self.term, family).await?;
        }
        Ok(())
    }

    /// Units that providers were given and that their offers may not count yet.
    pub(super) fn taken(&self) -> HashMap<Address, u32> {
        let mut taken = HashMap::new();
        for running in self.running.values().filter(|running| running.is_starting) {
            *taken.entry(running.lease.provider).or_default() += 1;
        }
        taken
    }
}
