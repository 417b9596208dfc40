//! Units worked by runtimes of this process: a server that runs its own models.
//!
//! Invariant: no more units at once than a runtime was given room for; dropping the work ends it; data stays in this process.
//! Does not know leases' times beyond how often it has to be heard of.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use ashlar_compute_api::inference::Inference;
use ashlar_compute_api::jobs::{Kind, UnitObjects};
use ashlar_compute_api::unit_data::{ANSWERS_BYTES_MAX, Answers, QUESTIONS_BYTES_MAX, Questions};
use ashlar_compute_api::workers::{
    Attached, Belongs, ModelOffer, ProviderOffer, StartError, Task, Work, WorkEvent, Workers,
};
use ashlar_compute_api::{Address, Amount};
use ashlar_worker::{Effort, WorkError, work};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What is told and not yet heard.
const TOLD_MAX: usize = 16;
/// How long answers are gathered for a checkpoint.
const CHECKPOINT: Duration = Duration::from_secs(30);

/// A runtime with what it may be used for.
#[derive(Clone)]
pub struct LocalRuntime {
    /// What runs.
    pub inference: Arc<dyn Inference>,
    /// Which kinds of work.
    pub kinds: Vec<Kind>,
    /// Units of jobs at once.
    pub units_max: u32,
    /// How each is worked.
    pub effort: Effort,
}

struct Runtime {
    of: LocalRuntime,
    busy: AtomicU32,
    units_per_second: AtomicU32,
}

/// Runtimes of this process, each a provider of its own.
pub struct LocalWorkers {
    runtimes: HashMap<Address, Arc<Runtime>>,
    objects: Arc<dyn UnitObjects>,
    is_alone: bool,
}

impl LocalWorkers {
    /// Runtimes, under addresses that are the same after a restart. Where no other process works on the same
    /// metadata (`is_alone`), work that is not under way here is under way nowhere.
    pub fn new(
        runtimes: impl IntoIterator<Item = (Address, LocalRuntime)>,
        objects: Arc<dyn UnitObjects>,
        is_alone: bool,
    ) -> Self {
        let runtime = |of| Runtime { of, busy: AtomicU32::new(0), units_per_second: AtomicU32::new(0) };
        let runtimes = runtimes.into_iter().map(|(address, of)| (address, Arc::new(runtime(of)))).collect();
        Self { runtimes, objects, is_alone }
    }
}

/// One of a runtime's places, given back when dropped.
struct Place(Arc<Runtime>);

impl Place {
    fn take(runtime: &Arc<Runtime>) -> Option<Self> {
        let most = runtime.of.units_max;
        let more = |busy: u32| (busy < most).then_some(busy + 1);
        runtime.busy.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self(Arc::clone(runtime)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Workers for LocalWorkers {
    fn offers(&self) -> Vec<ProviderOffer> {
        let offer = |(address, runtime): (&Address, &Arc<Runtime>)| {
            let model = runtime.of.inference.model();
            let offer = |kind: &Kind| ModelOffer {
                kind: *kind,
                model: model.root,
                determinism_class: model.determinism_class,
                price: Amount::ZERO,
                units_per_second: runtime.units_per_second.load(Ordering::Relaxed),
            };
            ProviderOffer {
                provider: *address,
                belongs: Belongs::Operator,
                free: runtime.of.units_max.saturating_sub(runtime.busy.load(Ordering::Acquire)),
                models: runtime.of.kinds.iter().map(offer).collect(),
            }
        };
        self.runtimes.iter().map(offer).collect()
    }

    async fn start(&self, task: Task) -> Result<Box<dyn Work>, StartError> {
        let runtime = self.runtimes.get(&task.lease.provider);
        let runtime = runtime.ok_or_else(|| StartError { reason: "no such runtime".to_owned() })?;
        let place = Place::take(runtime).ok_or_else(|| StartError { reason: "no room".to_owned() })?;
        let (told, hears) = mpsc::channel(TOLD_MAX);
        let (objects, acknowledge) = (Arc::clone(&self.objects), told.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let end = run(&place, &objects, &task, &told).await;
            drop(place);
            // Nobody hears it where the work was dropped.
            let _ = told.send(end).await;
        });
        Ok(Box::new(LocalWork { hears, acknowledge: Some(acknowledge), tasks }))
    }

    async fn attach(&self, task: Task) -> Attached {
        if self.is_alone && self.runtimes.contains_key(&task.lease.provider) {
            Attached::Gone
        } else {
            Attached::Unknown
        }
    }
}

struct LocalWork {
    hears: mpsc::Receiver<WorkEvent>,
    acknowledge: Option<mpsc::Sender<WorkEvent>>,
    /// Ends with it.
    tasks: JoinSet<()>,
}

#[async_trait]
impl Work for LocalWork {
    async fn next(&mut self) -> Option<WorkEvent> {
        // Its own sender would keep the channel open for ever: when the task has ended, what it told is all.
        if self.tasks.is_empty() {
            self.acknowledge = None;
            return self.hears.recv().await;
        }
        tokio::select! {
            biased;
            event = self.hears.recv() => event,
            Some(_) = self.tasks.join_next() => {
                self.acknowledge = None;
                self.hears.recv().await
            }
        }
    }

    fn announce_hedge(&mut self) {
        if let Some(acknowledge) = &self.acknowledge {
            // Without room it is not told, and the second does not begin: asked again it may be.
            let _ = acknowledge.try_send(WorkEvent::Told);
        }
    }
}

/// How far a unit is, between the work and who tells of it.
#[derive(Default)]
struct Progress {
    rows: AtomicU64,
    wants_checkpoint: std::sync::atomic::AtomicBool,
    checkpoint: Mutex<Option<Answers>>,
}

async fn run(
    place: &Place,
    objects: &Arc<dyn UnitObjects>,
    task: &Task,
    told: &mpsc::Sender<WorkEvent>,
) -> WorkEvent {
    let failed = |reason: String, is_final| WorkEvent::Failed { reason, is_final };
    let (questions, given) = match read(objects, task).await {
        Ok(read) => read,
        Err((reason, is_final)) => return failed(reason, is_final),
    };
    let progress = Arc::new(Progress::default());
    let seen = Arc::clone(&progress);
    let mut step = move |step: ashlar_worker::Step<'_>| {
        seen.rows.store(u64::try_from(step.sheet.rows_done()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if seen.wants_checkpoint.swap(false, Ordering::AcqRel) {
            *seen.checkpoint.lock() = Some(step.sheet.answers());
        }
    };
    let began = Instant::now();
    let runtime = &place.0;
    let answers = {
        let root = task.input.content_root;
        let working =
            work(&runtime.of.inference, &questions, root, given.as_ref(), runtime.of.effort, &mut step);
        let mut working = std::pin::pin!(working);
        let mut alive = tokio::time::interval(Duration::from_secs(u64::from(task.heartbeat_seconds.max(1))));
        let mut checkpointed = Instant::now();
        loop {
            tokio::select! {
                answers = &mut working => break answers,
                _ = alive.tick() => {
                    let rows = progress.rows.load(Ordering::Relaxed);
                    // Where the other side does not listen for a while, the next one is heard.
                    let _ = told.try_send(WorkEvent::Alive { rows, paid: Amount::ZERO });
                    let kept = progress.checkpoint.lock().take();
                    if let Some(bytes) = kept.and_then(|answers| answers.encode().ok()) {
                        let _ = told.try_send(WorkEvent::Checkpoint(Bytes::from(bytes)));
                    }
                    if checkpointed.elapsed() >= CHECKPOINT {
                        checkpointed = Instant::now();
                        progress.wants_checkpoint.store(true, Ordering::Release);
                    }
                }
            }
        }
    };
    match answers {
        Ok(answers) => {
            measure(runtime, &answers, given.as_ref(), began.elapsed());
            match answers.encode() {
                Ok(bytes) => WorkEvent::Finished { answers: Bytes::from(bytes) },
                Err(error) => failed(format!("the answers cannot be written: {error}"), true),
            }
        }
        Err(error @ (WorkError::OtherModel { .. } | WorkError::OtherClass)) => {
            failed(error.to_string(), false)
        }
        Err(error @ (WorkError::Busy | WorkError::Failed { .. })) => failed(error.to_string(), false),
    }
}

async fn read(
    objects: &Arc<dyn UnitObjects>,
    task: &Task,
) -> Result<(Questions, Option<Answers>), (String, bool)> {
    let unavailable = |error: ashlar_compute_api::jobs::UnitObjectsError| (error.to_string(), false);
    let bytes = objects.get(task.family, task.input.content_root, QUESTIONS_BYTES_MAX).await;
    let questions = Questions::parse(&bytes.map_err(unavailable)?);
    let questions = questions.map_err(|error| (format!("the questions: {error}"), true))?;
    let Some(checkpoint) = task.checkpoint else { return Ok((questions, None)) };
    let bytes = objects.get(task.family, checkpoint, ANSWERS_BYTES_MAX).await.map_err(unavailable)?;
    // A checkpoint that does not read is only lost time.
    Ok((questions, Answers::parse(&bytes).ok()))
}

/// Remembers how fast the runtime was, the last unit counting a quarter.
fn measure(runtime: &Runtime, answers: &Answers, given: Option<&Answers>, took: Duration) {
    let units = |of: &Answers| -> u64 {
        of.rows.iter().filter_map(|row| row.result.as_ref().ok()).map(|(_, usage)| usage.units()).sum()
    };
    let units = units(answers).saturating_sub(given.map_or(0, units));
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let speed = u32::try_from(units.saturating_mul(1_000) / millis).unwrap_or(u32::MAX);
    let before = runtime.units_per_second.load(Ordering::Relaxed);
    let mixed = if before == 0 { speed } else { before - before / 4 + speed / 4 };
    runtime.units_per_second.store(mixed, Ordering::Relaxed);
}
