//! Coordinators that die at any commit, sleep and come back, and providers that do everything wrong: jobs end all the same,
//! every row stands in the result once, and nothing is charged twice. Each run prints its seed.

use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::Amount;
use ashlar_compute_api::JobId;
use ashlar_compute_api::jobs::{AttemptEnd, End, JobState, Jobs, UnitState};
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::keys::Tag;
use ashlar_metadata::{Direction, KeyRange, MemoryKv, OrderedKv};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stand_ins::{
    Conduct, CountingStage, Death, MemoryObjects, MortalKv, Open, PRICE, SimulatedWorkers, clock, spec,
};
use crate::ledger::Ledger;
use crate::rows::{self, PrincipalRow};
use crate::{
    Coordinator, CoordinatorConfig, CoordinatorParts, DurableJobs, Quotas, Stages, UnixSecondsClock,
};

/// By then everything has ended.
const HOURS_MAX: u64 = 12;

pub(super) struct World {
    pub(super) kv: MemoryKv,
    pub(super) clock: UnixSecondsClock,
    pub(super) objects: Arc<MemoryObjects>,
    pub(super) stage: Arc<CountingStage>,
    pub(super) workers: Arc<SimulatedWorkers>,
    pub(super) jobs: DurableJobs,
    pub(super) wake: Arc<Notify>,
}

impl World {
    pub(super) fn new(seed: u64, always: Option<Conduct>) -> Self {
        let (kv, clock, objects) = (MemoryKv::new(), clock(), Arc::<MemoryObjects>::default());
        let stage = CountingStage::new(&objects, seed);
        let workers = SimulatedWorkers::new(&objects, &kv, &clock, seed, always);
        let wake = Arc::new(Notify::new());
        let ledger = Ledger::new(Arc::new(kv.clone()), Arc::clone(&clock));
        let jobs = DurableJobs::new(ledger, Quotas::default(), Arc::clone(&wake));
        Self { kv, clock, objects, stage, workers, jobs, wake }
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger::new(Arc::new(self.kv.clone()), Arc::clone(&self.clock))
    }

    pub(super) fn coordinator(&self, kv: Arc<dyn OrderedKv>) -> Coordinator {
        Coordinator::new(CoordinatorParts {
            ledger: Ledger::new(kv, Arc::clone(&self.clock)),
            objects: Arc::<MemoryObjects>::clone(&self.objects),
            workers: Arc::<SimulatedWorkers>::clone(&self.workers),
            stages: Stages::default().otherwise(Arc::<CountingStage>::clone(&self.stage)),
            rules: Arc::new(Open),
            config: CoordinatorConfig::default(),
            wake: Arc::clone(&self.wake),
            is_alone: false,
        })
    }

    async fn have_all_ended(&self, ids: &[JobId]) -> bool {
        for id in ids {
            if !self.jobs.job("ann", *id).await.unwrap().has_ended() {
                return false;
            }
        }
        true
    }

    /// Coordinates until all jobs have ended, one process after the other dying as is said; answers how many commits
    /// the first made.
    pub(super) async fn run(&self, ids: &[JobId], deaths: Vec<(u32, Death)>) -> u32 {
        let began = Instant::now();
        let mut sleepers = JoinSet::new();
        let mut deaths = deaths.into_iter();
        let mut first = None;
        loop {
            let kv = MortalKv::new(&self.kv, deaths.next());
            let first = first.get_or_insert_with(|| Arc::clone(&kv)).clone();
            let coordinator = self.coordinator(Arc::<MortalKv>::clone(&kv));
            let stop = CancellationToken::new();
            let token = stop.clone();
            let mut process = Box::pin(async move { coordinator.run(&token).await });
            loop {
                let is_dead = tokio::select! {
                    () = &mut process => true,
                    () = kv.dead.notified() => true,
                    () = tokio::time::sleep(Duration::from_secs(5)) => false,
                };
                if self.have_all_ended(ids).await {
                    stop.cancel();
                    // Who died says no more.
                    let _ = tokio::time::timeout(Duration::from_secs(60), process).await;
                    return *first.commits.lock();
                }
                assert!(began.elapsed() < Duration::from_secs(HOURS_MAX * 3_600), "the jobs do not end");
                if is_dead {
                    break;
                }
            }
            if matches!(*kv.at.lock(), Some((_, Death::Sleeps(_)))) {
                // It comes back one day, beside its successor.
                sleepers.spawn(process);
            }
        }
    }

    /// What must hold of a job that ended, whatever happened.
    pub(super) async fn check(&self, id: JobId) {
        let ledger = self.ledger();
        let row = ledger.row(id).await.unwrap().unwrap();
        let (units, _) = ledger.unit_rows(id, 0, 1_000).await.unwrap();
        let count = |is: fn(&UnitState) -> bool| {
            u32::try_from(units.iter().filter(|unit| is(&unit.unit.state)).count()).unwrap()
        };
        let done = count(|state| matches!(state, UnitState::Done(_)));
        if row.progress.input_root.is_some() {
            let failed = count(|state| matches!(state, UnitState::Failed { .. }));
            let cancelled = count(|state| matches!(state, UnitState::Cancelled));
            assert_eq!(row.progress.units, u32::try_from(units.len()).unwrap());
            let counted = (row.progress.done, row.progress.failed, row.progress.cancelled);
            assert_eq!(counted, (done, failed, cancelled), "counts are those of the units");
            assert_eq!(done + failed + cancelled, row.progress.units);
        }
        let mut cost = 0;
        for unit in &units {
            let finished = unit.unit.attempts.iter().filter(|attempt| attempt.end == AttemptEnd::Finished);
            let finished: Vec<u64> = finished.map(|attempt| attempt.fence).collect();
            if let UnitState::Done(output) = unit.unit.state {
                if output.fence == 0 {
                    assert!(finished.is_empty(), "what was kept is not worked again");
                    continue;
                }
                assert_eq!(finished, [output.fence], "one result");
                cost += output.usage * PRICE;
            } else {
                assert!(finished.is_empty());
            }
            assert!(unit.terms.is_empty(), "nothing is reserved for what has ended");
        }
        assert_eq!(row.progress.spent, Amount::from(cost), "each unit is charged once");
        assert_eq!(row.reserved, Amount::ZERO);
        let published = self.stage.published.lock().get(&id).cloned();
        match &row.state {
            JobState::Done { .. } => {
                let rows = published.expect("a job that is done was published");
                let all: u64 = units.iter().map(|unit| unit.unit.input.rows).sum();
                let numbers: Vec<u64> = rows.iter().map(|(row, _)| *row).collect();
                assert_eq!(numbers, (0..all).collect::<Vec<_>>(), "each row stands in the result once");
            }
            JobState::Ended(_) => assert!(published.is_none()),
            state => panic!("{state:?}"),
        }
    }

    /// What must hold when nothing is under way any more.
    pub(super) async fn check_idle(&self) {
        let snapshot = self.kv.snapshot().await.unwrap();
        let counts = snapshot.get(&rows::principal("ann")).await.unwrap().unwrap();
        let counts = PrincipalRow::decode(&counts.value).unwrap();
        assert_eq!((counts.open, counts.reserved), (0, Amount::ZERO));
        let open =
            snapshot.scan(KeyRange::prefix(rows::open_prefix()), Direction::Forward, 10).await.unwrap();
        assert!(open.rows.is_empty(), "the index names what is open alone");
        let prefix = bytes::Bytes::from_static(&[Tag::JobUnitOpen as u8]);
        let page = snapshot.scan(KeyRange::prefix(prefix), Direction::Forward, 1_000).await.unwrap();
        for (key, _) in &page.rows {
            let id = JobId(key[1..33].try_into().unwrap());
            let row = self.ledger().row(id).await.unwrap().unwrap();
            // What a job had that was stopped before it ran goes with the job.
            assert_eq!(row.progress.input_root, None, "the index names units that are open alone");
        }
    }
}

async fn scenario(seed: u64) {
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new(seed, None);
    let mut ids = Vec::new();
    let mut cancelled = None;
    for number in 0..rng.random_range(1..=3) {
        let text = format!("{} {}", rng.random_range(0..=12), rng.random_range(1..=4));
        let mut spec = spec(&text, &format!("t{number}"));
        if rng.random_ratio(1, 8) {
            spec.limits.deadline = Some(1_000_000 + rng.random_range(0..300));
        }
        if rng.random_ratio(1, 8) {
            spec.limits.attempts_max = rng.random_range(1..=3);
        }
        if rng.random_ratio(1, 8) {
            spec.limits.spend_cap = rng.random_range(0..40_000_u64).into();
        }
        let submitted = world.jobs.submit(spec.clone()).await.unwrap();
        assert!(submitted.is_new);
        assert!(!world.jobs.submit(spec).await.unwrap().is_new);
        ids.push(submitted.job.id);
        if rng.random_ratio(1, 6) {
            cancelled = Some((submitted.job.id, rng.random_range(0..200)));
        }
    }
    let deaths = (0..rng.random_range(0..6)).map(|_| {
        let death = match rng.random_range(0..3) {
            0 => Death::Before,
            1 => Death::After,
            _ => Death::Sleeps(rng.random_range(5..120)),
        };
        (rng.random_range(1..60), death)
    });
    let deaths = deaths.collect();
    let cancel = async {
        if let Some((id, after)) = cancelled {
            tokio::time::sleep(Duration::from_secs(after)).await;
            // It may be too late for that.
            let _ = world.jobs.cancel("ann", id).await;
        }
    };
    tokio::join!(world.run(&ids, deaths), cancel);
    for id in &ids {
        world.check(*id).await;
        let job = world.jobs.job("ann", *id).await.unwrap();
        let may_end = cancelled.is_some_and(|(of, _)| of == *id)
            || job.spec.limits.deadline.is_some()
            || job.spec.limits.spend_cap < Amount::from(1_000_000);
        assert!(may_end || matches!(job.state, JobState::Done { .. }), "{:?}", job.state);
    }
    world.check_idle().await;
    // What ended without a result is tried again, and keeps what was good.
    for id in ids {
        let job = world.jobs.job("ann", id).await.unwrap();
        let JobState::Ended(_) = job.state else { continue };
        let mut spec = job.spec.clone();
        spec.limits.deadline = None;
        spec.limits.attempts_max = 30;
        spec.limits.spend_cap = 100_000_000.into();
        let again = world.jobs.submit(spec).await.unwrap();
        assert!(again.is_new && again.job.attempt == 2 && again.job.id != id);
        world.run(&[again.job.id], Vec::new()).await;
        world.check(again.job.id).await;
        let done = world.jobs.job("ann", again.job.id).await.unwrap();
        assert!(matches!(done.state, JobState::Done { .. }), "{:?}", done.state);
        world.check_idle().await;
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

#[test]
fn jobs_end_right_whoever_dies() {
    for seed in 0..400 {
        block_on(scenario(seed));
    }
}

/// One job, whose coordinator dies at a given commit; answers how many commits an undisturbed one makes.
async fn die_at(deaths: Vec<(u32, Death)>) -> u32 {
    let world = World::new(7, None);
    let id = world.jobs.submit(spec("6 2", "t")).await.unwrap().job.id;
    let commits = world.run(&[id], deaths).await;
    world.check(id).await;
    world.check_idle().await;
    assert!(matches!(world.jobs.job("ann", id).await.unwrap().state, JobState::Done { .. }));
    commits
}

#[test]
fn a_coordinator_may_die_at_every_commit() {
    let commits = block_on(die_at(Vec::new()));
    assert!(commits > 20, "{commits}");
    for at in 1..=commits.min(120) {
        for death in [Death::Before, Death::After, Death::Sleeps(40)] {
            println!("commit {at}, {death:?}");
            block_on(die_at(vec![(at, death)]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_wrong_conduct_fails_its_unit_and_is_paid_nothing() {
    let wrong = [
        Conduct::Silent,
        Conduct::Late,
        Conduct::Dies,
        Conduct::Garbage,
        Conduct::OmitsARow,
        Conduct::Inflates,
        Conduct::GivesUp,
        Conduct::DoesNotBegin,
    ];
    for conduct in wrong {
        let world = World::new(1, Some(conduct));
        let mut spec = spec("2 2", "t");
        spec.limits.attempts_max = 2;
        let id = world.jobs.submit(spec).await.unwrap().job.id;
        world.run(&[id], Vec::new()).await;
        world.check(id).await;
        let job = world.jobs.job("ann", id).await.unwrap();
        assert_eq!((job.progress.failed, job.progress.spent), (2, Amount::ZERO), "{conduct:?}");
        let rows = world.stage.published.lock()[&id].clone();
        assert_eq!(
            rows,
            [(0, false), (1, false), (2, false), (3, false)],
            "{conduct:?}: errors in their place"
        );
        let reputation = world.ledger().reputation(ashlar_compute_api::Address([4; 20])).await.unwrap();
        assert!(reputation.failed + reputation.expired > 0, "{conduct:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn stragglers_are_hedged_once_they_know() {
    let world = World::new(3, None);
    let id = world.jobs.submit(spec("40 1", "t")).await.unwrap().job.id;
    world.run(&[id], Vec::new()).await;
    world.check(id).await;
    let (units, _) = world.ledger().unit_rows(id, 0, 100).await.unwrap();
    let ends = units.iter().flat_map(|unit| &unit.unit.attempts).map(|attempt| &attempt.end);
    let overtaken = ends.filter(|end| **end == AttemptEnd::Overtaken).count();
    let hedges = world.ledger().row(id).await.unwrap().unwrap().hedges;
    assert!(hedges <= 2, "one in twenty: {hedges}");
    assert!(overtaken <= usize::try_from(hedges).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_slow_provider_is_overtaken_only_when_it_was_told() {
    for tells in [true, false] {
        let mut world = World::new(3, Some(Conduct::Good));
        let workers = Arc::get_mut(&mut world.workers).unwrap();
        workers.first = Some(Conduct::Slow { tells });
        let id = world.jobs.submit(spec("5 1", "t")).await.unwrap().job.id;
        world.run(&[id], Vec::new()).await;
        world.check(id).await;
        let (units, _) = world.ledger().unit_rows(id, 0, 100).await.unwrap();
        let ends = units[0].unit.attempts.iter().map(|attempt| attempt.end.clone());
        let expected = match tells {
            true => vec![AttemptEnd::Overtaken, AttemptEnd::Finished],
            false => vec![AttemptEnd::Finished],
        };
        assert_eq!(ends.collect::<Vec<_>>(), expected, "tells: {tells}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_pay_says_so_and_one_that_nobody_serves_waits() {
    let world = World::new(5, Some(Conduct::Good));
    let mut poor = spec("3 1", "t");
    poor.limits.spend_cap = (PRICE * 100).into();
    let poor = world.jobs.submit(poor).await.unwrap().job.id;
    world.run(&[poor], Vec::new()).await;
    world.check(poor).await;
    let JobState::Ended(End::Failed { reason }) = world.jobs.job("ann", poor).await.unwrap().state else {
        panic!("it cannot pay");
    };
    assert!(reason.contains("spend cap"), "{reason}");
    let mut other = spec("1 1", "u");
    other.statement.kind = ashlar_compute_api::jobs::Kind::Labeling;
    let other = world.jobs.submit(other).await.unwrap().job.id;
    world.run(&[other], Vec::new()).await;
    let JobState::Ended(End::Failed { reason }) = world.jobs.job("ann", other).await.unwrap().state else {
        panic!("its stage writes other units");
    };
    assert!(reason.contains("another kind of work"), "{reason}");
}
