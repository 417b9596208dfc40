//! What the simulation puts around the coordinator: metadata that dies, providers of all kinds, a stage that counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::jobs::{
    Hedge, Input, Job, JobSpec, Kind, Limits, QueryStage, StageError, Statement, UnitInput, UnitObjects,
    UnitObjectsError, UnitResult,
};
use ashlar_compute_api::unit_data::{
    self, AnswerLine, Answers, AnswersHeader, Ask, Embedding, Question, Questions, QuestionsHeader, RowError,
    Usage, Value, Vector,
};
use ashlar_compute_api::workers::{
    Attached, Belongs, ModelOffer, ProviderOffer, StartError, Task, Work, WorkEvent, Workers,
};
use ashlar_compute_api::{Address, ContentRoot, JobId};
use ashlar_metadata::{
    Commit, CommitError, MemoryKv, OrderedKv, Outcome, Position, ReadError, Snapshot, TransactionId,
};
use ashlar_objects::compute_access::{ComputeAccess, ComputeRule};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ledger::units::UnitId;
use crate::{DataRules, Ledger, UnixSecondsClock};

pub(super) const MODEL: ContentRoot = ContentRoot([1; 32]);
pub(super) const PRICE: u64 = 3;
const PROVIDERS: u8 = 4;

/// Unix seconds by tokio's clock.
pub(super) fn clock() -> UnixSecondsClock {
    let start = Instant::now();
    Arc::new(move || 1_000_000 + start.elapsed().as_secs())
}

/// How a process ends, at one of its commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Nothing of the commit happens.
    Before,
    /// It happens, and nobody hears it.
    After,
    /// It sleeps for so many seconds, and goes on.
    Sleeps(u64),
}

/// Metadata as one process sees it, which dies at a commit.
pub(super) struct MortalKv {
    pub(super) inner: MemoryKv,
    pub(super) at: Mutex<Option<(u32, Death)>>,
    pub(super) commits: Mutex<u32>,
    pub(super) dead: Notify,
}

impl MortalKv {
    pub(super) fn new(inner: &MemoryKv, at: Option<(u32, Death)>) -> Arc<Self> {
        let at = Mutex::new(at);
        Arc::new(Self { inner: inner.clone(), at, commits: Mutex::default(), dead: Notify::new() })
    }
}

#[async_trait]
impl OrderedKv for MortalKv {
    async fn commit(&self, commit: Commit) -> Result<Position, CommitError> {
        let count = {
            let mut commits = self.commits.lock();
            *commits += 1;
            *commits
        };
        let death = self.at.lock().filter(|(at, _)| *at == count).map(|(_, death)| death);
        match death {
            None => self.inner.commit(commit).await,
            Some(Death::Sleeps(seconds)) => {
                self.dead.notify_one();
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                self.inner.commit(commit).await
            }
            Some(death) => {
                if death == Death::After {
                    // Whether it was made is for the next one to see.
                    let _ = self.inner.commit(commit).await;
                }
                self.dead.notify_one();
                std::future::pending().await
            }
        }
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        self.inner.snapshot().await
    }

    fn stable_position(&self) -> Position {
        self.inner.stable_position()
    }

    async fn outcome(&self, id: TransactionId) -> Result<Outcome, ReadError> {
        self.inner.outcome(id).await
    }

    async fn expire_transactions(&self, below: Position, limit: usize) -> Result<usize, CommitError> {
        self.inner.expire_transactions(below, limit).await
    }
}

/// Units' bytes, which outlive processes.
#[derive(Default)]
pub(super) struct MemoryObjects(pub(super) Mutex<HashMap<(JobId, ContentRoot), Bytes>>);

#[async_trait]
impl UnitObjects for MemoryObjects {
    async fn put(&self, family: JobId, bytes: Bytes) -> Result<ContentRoot, UnitObjectsError> {
        let root = ContentRoot(*blake3::hash(&bytes).as_bytes());
        self.0.lock().insert((family, root), bytes);
        Ok(root)
    }

    async fn get(&self, family: JobId, root: ContentRoot, _: usize) -> Result<Bytes, UnitObjectsError> {
        self.0.lock().get(&(family, root)).cloned().ok_or(UnitObjectsError::NotFound { root })
    }

    async fn forget(&self, family: JobId) -> Result<(), UnitObjectsError> {
        self.0.lock().retain(|(of, _), _| *of != family);
        Ok(())
    }
}

/// Data may go anywhere.
pub(super) struct Open;

#[async_trait]
impl DataRules for Open {
    async fn rules(&self, _: &BTreeSet<Input>) -> Result<Vec<ComputeRule>, String> {
        Ok(vec![ComputeRule { owner: "ann".into(), access: ComputeAccess::Any }])
    }
}

/// A job whose text is `units rows`.
pub(super) fn spec(text: &str, target: &str) -> JobSpec {
    JobSpec {
        statement: Statement {
            kind: Kind::Embedding,
            principal: "ann".into(),
            target: target.into(),
            text: text.into(),
            inputs: BTreeSet::new(),
            models: BTreeSet::from([MODEL]),
            options: BTreeMap::new(),
            seed: 0,
        },
        client_key: None,
        limits: Limits { deadline: None, spend_cap: 100_000_000.into(), attempts_max: 30 },
    }
}

pub(super) fn questions(rows: std::ops::Range<u64>) -> Questions {
    let ask = Ask::Embed(Embedding {});
    let input = |row: u64| unit_data::Input::Text(format!("row {row}"));
    let rows = rows.map(|row| Question { row, input: input(row), ask: None }).collect();
    Questions { header: QuestionsHeader::new(MODEL, None, ask), rows }
}

pub(super) fn answers(questions: &Questions, root: ContentRoot) -> Answers {
    let value = |row: u64| Value::Vector(Vector(vec![f32::from(u16::try_from(row).unwrap())]));
    let usage = Usage { asked: 1, answered: 0 };
    let answer =
        |question: &Question| AnswerLine { row: question.row, result: Ok((value(question.row), usage)) };
    let header = AnswersHeader::new(root, MODEL, None);
    Answers { header, rows: questions.rows.iter().map(answer).collect() }
}

/// Units by number, and a result that is made visible once.
pub(super) struct CountingStage {
    pub(super) objects: Arc<MemoryObjects>,
    pub(super) published: Mutex<BTreeMap<JobId, Vec<(u64, bool)>>>,
    pub(super) rng: Mutex<StdRng>,
}

impl CountingStage {
    pub(super) fn new(objects: &Arc<MemoryObjects>, seed: u64) -> Arc<Self> {
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        Arc::new(Self { objects: Arc::clone(objects), published: Mutex::default(), rng })
    }

    fn trouble(&self) -> Result<u64, StageError> {
        let mut rng = self.rng.lock();
        if rng.random_ratio(1, 10) {
            return Err(StageError::Again { reason: "not now".into() });
        }
        Ok(rng.random_range(0..20))
    }
}

#[async_trait]
impl QueryStage for CountingStage {
    async fn materialise(
        &self,
        job: &Job,
    ) -> Result<BoxStream<'static, Result<UnitInput, StageError>>, StageError> {
        let wait = Duration::from_secs(self.trouble()?);
        let (units, rows) = job.spec.statement.text.split_once(' ').unwrap();
        let (units, rows): (u64, u64) = (units.parse().unwrap(), rows.parse().unwrap());
        let (objects, family) = (Arc::clone(&self.objects), job.family());
        let units = stream::iter(0..units).then(move |unit| {
            let objects = Arc::clone(&objects);
            async move {
                tokio::time::sleep(wait / 10).await;
                let bytes = questions(unit * rows..(unit + 1) * rows).encode().unwrap();
                let content_root = objects.put(family, Bytes::from(bytes)).await.unwrap();
                Ok(UnitInput { content_root, rows })
            }
        });
        Ok(units.boxed())
    }

    async fn publish(
        &self,
        job: &Job,
        results: BoxStream<'static, UnitResult>,
    ) -> Result<ContentRoot, StageError> {
        let wait = Duration::from_secs(self.trouble()?);
        let results: Vec<UnitResult> = results.collect().await;
        let mut rows = Vec::new();
        for result in results {
            let bytes = self.objects.get(job.family(), result.output.unwrap(), usize::MAX).await.unwrap();
            let answers = Answers::parse(&bytes).unwrap();
            rows.extend(answers.rows.iter().map(|row| (row.row, row.result.is_ok())));
        }
        tokio::time::sleep(wait).await;
        let mut published = self.published.lock();
        let before = published.entry(job.id).or_insert_with(|| rows.clone());
        assert_eq!(*before, rows, "published again, it is the same");
        Ok(ContentRoot([9; 32]))
    }
}

/// What a provider does with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduct {
    Good,
    Slow { tells: bool },
    Silent,
    Late,
    Dies,
    Twice,
    Garbage,
    OmitsARow,
    Inflates,
    GivesUp,
    DoesNotBegin,
    FailsRows,
}

/// Providers that outlive coordinators, and remember every lease.
pub(super) struct SimulatedWorkers {
    pub(super) objects: Arc<MemoryObjects>,
    pub(super) ledger: Ledger,
    pub(super) seed: u64,
    /// As it is for every unit, if not by the seed.
    pub(super) always: Option<Conduct>,
    /// Of the first lease of unit 0.
    pub(super) first: Option<Conduct>,
    pub(super) fences: Mutex<BTreeMap<UnitId, u64>>,
    busy: Arc<Mutex<HashMap<Address, u32>>>,
}

impl SimulatedWorkers {
    pub(super) fn new(
        objects: &Arc<MemoryObjects>,
        kv: &MemoryKv,
        clock: &UnixSecondsClock,
        seed: u64,
        always: Option<Conduct>,
    ) -> Arc<Self> {
        let ledger = Ledger::new(Arc::new(kv.clone()), Arc::clone(clock));
        let (objects, fences, busy) = (Arc::clone(objects), Mutex::default(), Arc::default());
        Arc::new(Self { objects, ledger, seed, always, first: None, fences, busy })
    }

    fn rng(&self, task: &Task) -> StdRng {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.seed.to_be_bytes());
        bytes[8..12].copy_from_slice(&task.shard.number.to_be_bytes());
        bytes[12..20].copy_from_slice(&task.lease.fence.to_be_bytes());
        bytes[20..].copy_from_slice(&task.shard.job.0[..12]);
        StdRng::from_seed(bytes)
    }

    async fn work(&self, task: &Task, conduct: Conduct, rng: &mut StdRng) -> Box<dyn Work> {
        let root = task.input.content_root;
        let bytes = self.objects.get(task.family, root, usize::MAX).await.unwrap();
        let questions = Questions::parse(&bytes).unwrap();
        let mut answers = answers(&questions, root);
        let heartbeats =
            |until: u64| (1..until / 15).map(|n| (n * 15, WorkEvent::Alive { rows: n, paid: 0.into() }));
        let (mut script, took, copies): (Vec<(u64, WorkEvent)>, u64, u32) = match conduct {
            Conduct::Silent | Conduct::DoesNotBegin => (Vec::new(), u64::MAX, 0),
            Conduct::Dies => (Vec::new(), 1, 0),
            Conduct::Late => (Vec::new(), 75, 1),
            Conduct::Slow { .. } => (heartbeats(600).collect(), 600, 1),
            Conduct::Twice => (Vec::new(), rng.random_range(1..20), 2),
            Conduct::GivesUp => {
                let event = WorkEvent::Failed { reason: "no memory".into(), is_final: false };
                (vec![(rng.random_range(0..20), event)], u64::MAX, 0)
            }
            _ => (Vec::new(), rng.random_range(1..20), 1),
        };
        match conduct {
            Conduct::OmitsARow => drop(answers.rows.pop()),
            Conduct::Inflates => {
                if let Ok((_, usage)) = &mut answers.rows[0].result {
                    usage.asked = 1 << 40;
                }
            }
            Conduct::FailsRows => answers.rows[0].result = Err(RowError::new("failed", "no", true)),
            _ => {}
        }
        let bytes = match conduct {
            Conduct::Garbage => b"{\"plausible\":\"garbage\"}\n".to_vec(),
            _ => answers.encode().unwrap(),
        };
        for _ in 0..copies {
            script.push((took, WorkEvent::Finished { answers: Bytes::from(bytes.clone()) }));
        }
        script.sort_by_key(|(at, _)| *at);
        script.reverse();
        *self.busy.lock().entry(task.lease.provider).or_default() += 1;
        Box::new(ScriptedWork {
            begun: Instant::now(),
            script,
            ends: conduct == Conduct::Dies,
            tells: conduct != Conduct::Slow { tells: false },
            told: false,
            provider: task.lease.provider,
            busy: Arc::clone(&self.busy),
        })
    }
}

struct ScriptedWork {
    begun: Instant,
    script: Vec<(u64, WorkEvent)>,
    ends: bool,
    tells: bool,
    told: bool,
    provider: Address,
    busy: Arc<Mutex<HashMap<Address, u32>>>,
}

impl Drop for ScriptedWork {
    fn drop(&mut self) {
        *self.busy.lock().get_mut(&self.provider).unwrap() -= 1;
    }
}

#[async_trait]
impl Work for ScriptedWork {
    async fn next(&mut self) -> Option<WorkEvent> {
        if std::mem::take(&mut self.told) {
            return Some(WorkEvent::Told);
        }
        match self.script.last() {
            Some((at, _)) => {
                tokio::time::sleep_until(self.begun + Duration::from_secs(*at)).await;
                self.script.pop().map(|(_, event)| event)
            }
            None if self.ends => None,
            None => std::future::pending().await,
        }
    }

    fn announce_hedge(&mut self) {
        self.told = self.tells;
    }
}

#[async_trait]
impl Workers for SimulatedWorkers {
    fn offers(&self) -> Vec<ProviderOffer> {
        let offer = |number: u8| {
            let provider = Address([number; 20]);
            let busy = self.busy.lock().get(&provider).copied().unwrap_or_default();
            let model = ModelOffer {
                kind: Kind::Embedding,
                model: MODEL,
                determinism_class: ContentRoot::ZERO,
                price: PRICE.into(),
                units_per_second: u32::from(number),
            };
            let free = 2_u32.saturating_sub(busy);
            ProviderOffer { provider, belongs: Belongs::Stranger, free, models: vec![model] }
        };
        (1..=PROVIDERS).map(offer).collect()
    }

    async fn start(&self, task: Task) -> Result<Box<dyn Work>, StartError> {
        let id = UnitId { job: task.shard.job, number: task.shard.number };
        let before = self.fences.lock().insert(id, task.lease.fence);
        assert!(before.is_none_or(|before| before < task.lease.fence), "fences grow: {before:?}, {task:?}");
        let unit = self.ledger.unit(id).await.unwrap();
        for other in unit.unit.leases().iter().filter(|lease| lease.fence < task.lease.fence) {
            assert_eq!(other.hedge, Hedge::Told, "nobody is hedged untold");
        }
        let mut rng = self.rng(&task);
        let first = self.first.filter(|_| (task.shard.number, task.lease.fence) == (0, 1));
        let conduct =
            first.or(self.always).unwrap_or_else(|| match (task.lease.fence, rng.random_range(0..24)) {
                // In the end everything goes well.
                (9.., _) => Conduct::Good,
                (_, 0) => Conduct::Slow { tells: true },
                (_, 1) => Conduct::Slow { tells: false },
                (_, 2) => Conduct::Silent,
                (_, 3) => Conduct::Late,
                (_, 4) => Conduct::Dies,
                (_, 5) => Conduct::Twice,
                (_, 6) => Conduct::Garbage,
                (_, 7) => Conduct::OmitsARow,
                (_, 8) => Conduct::Inflates,
                (_, 9) => Conduct::GivesUp,
                (_, 10) => Conduct::DoesNotBegin,
                (_, 11) => Conduct::FailsRows,
                _ => Conduct::Good,
            });
        if conduct == Conduct::DoesNotBegin {
            return Err(StartError { reason: "unplugged".into() });
        }
        Ok(self.work(&task, conduct, &mut rng).await)
    }

    async fn attach(&self, task: Task) -> Attached {
        let mut rng = self.rng(&task);
        match rng.random_range(0..3) {
            0 => Attached::Unknown,
            1 => Attached::Gone,
            _ => Attached::Running(self.work(&task, Conduct::Good, &mut rng).await),
        }
    }
}
