//! What principals do: submit, look, cancel, come again, within quotas; and what is forgotten in the end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::JobId;
use ashlar_compute_api::jobs::{JobRefusal, JobState, Jobs, JobsError, SpecError};
use ashlar_disk::FaultyDisk;
use ashlar_metadata::embedded::{JournalLocation, Options};
use ashlar_metadata::{Direction, EmbeddedKv, KeyRange, MemoryKv, OrderedKv};
use tokio::sync::Notify;

use super::simulation::World;
use super::stand_ins::{Conduct, spec};
use crate::ledger::Ledger;
use crate::{CoordinatorConfig, DurableJobs, Quotas};

fn jobs(kv: &MemoryKv, quotas: Quotas) -> DurableJobs {
    let ledger = Ledger::new(Arc::new(kv.clone()), Arc::new(|| 5));
    DurableJobs::new(ledger, quotas, Arc::new(Notify::new()))
}

#[tokio::test]
async fn of_racing_submissions_one_makes_the_job() {
    let jobs = jobs(&MemoryKv::new(), Quotas::default());
    let all = futures::future::join_all((0..20).map(|_| jobs.submit(spec("1 1", "t")))).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert_eq!(all.iter().filter(|submitted| submitted.is_new).count(), 1);
    assert_eq!(all.iter().map(|submitted| submitted.job.id).collect::<BTreeSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_clients_key_is_used_once_and_strangers_see_nothing() {
    let jobs = jobs(&MemoryKv::new(), Quotas::default());
    let mut keyed = spec("1 1", "t");
    keyed.client_key = Some("k".into());
    let id = jobs.submit(keyed.clone()).await.unwrap().job.id;
    keyed.statement.seed = 1;
    let other = jobs.submit(keyed).await.unwrap_err();
    assert_eq!(other, JobsError::Refused(JobRefusal::OtherStatement { id }));
    let missing = JobsError::NotFound { id };
    assert_eq!(jobs.job("bob", id).await.unwrap_err(), missing);
    assert_eq!(jobs.cancel("bob", id).await.unwrap_err(), missing);
    assert_eq!(jobs.summary(Some("bob"), id).await.unwrap_err(), missing);
    assert_eq!(jobs.units(Some("bob"), id, 0, 10).await.unwrap_err(), missing);
    assert!(jobs.list(Some("bob"), None, 10).await.unwrap().jobs.is_empty());
    assert_eq!(jobs.list(None, None, 10).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
async fn quotas_count_what_is_open() {
    let reserved_max = 250_000_000.into();
    let quotas = Quotas { open_jobs_max: 3, kept_jobs_max: 4, reserved_max };
    let jobs = jobs(&MemoryKv::new(), quotas);
    let submit = |target: &'static str| jobs.submit(spec("1 1", target));
    let first = submit("a").await.unwrap().job.id;
    submit("b").await.unwrap();
    let busy = |result: Result<_, JobsError>| matches!(result, Err(JobsError::Busy { .. }));
    assert!(busy(submit("c").await), "a third would reserve too much");
    assert!(!submit("a").await.unwrap().is_new, "what is there is found however full it is");
    let cancelled = jobs.cancel("ann", first).await.unwrap();
    assert!(matches!(cancelled.state, JobState::Ended(_)));
    let again = submit("a").await.unwrap();
    assert!(again.is_new);
    assert_eq!((again.job.attempt, again.job.id), (2, first.attempt(2)));
    jobs.cancel("ann", again.job.id).await.unwrap();
    submit("c").await.unwrap();
    assert!(busy(submit("d").await), "four are kept");
    let mut long = spec("1 1", "t");
    long.statement.principal = "x".repeat(600);
    let refused = jobs.submit(long).await.unwrap_err();
    assert_eq!(refused, JobsError::Spec(SpecError::TooLong { what: "the principal", maximum: 512 }));
    let mut huge = spec("1 1", "t");
    huge.statement.options = (0..9).map(|n| (n.to_string(), "x".repeat(1 << 20))).collect();
    assert!(matches!(jobs.submit(huge).await, Err(JobsError::Spec(SpecError::TooLong { .. }))));
}

#[tokio::test]
async fn lists_come_in_pages_and_statements_in_pieces() {
    let jobs = jobs(&MemoryKv::new(), Quotas::default());
    let mut ids = BTreeSet::new();
    for number in 0..7 {
        let mut spec = spec("1 1", &format!("t{number}"));
        spec.statement.options.insert("long".into(), "x".repeat(700_000));
        let submitted = jobs.submit(spec.clone()).await.unwrap().job;
        assert_eq!(jobs.job("ann", submitted.id).await.unwrap().spec, spec);
        ids.insert(submitted.id);
    }
    let (mut found, mut from) = (BTreeSet::new(), None);
    loop {
        let page = jobs.list(Some("ann"), from.as_deref(), 3).await.unwrap();
        assert!(page.jobs.len() <= 3);
        found.extend(page.jobs.iter().map(|job| job.id));
        assert!(jobs.list(Some("bob"), page.next.as_deref(), 3).await.unwrap().jobs.is_empty());
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    assert_eq!(found, ids);
}

#[tokio::test(start_paused = true)]
async fn what_ended_long_ago_is_forgotten_whole() {
    let world = World::new(11, Some(Conduct::Good));
    let submitted = world.jobs.submit(spec("3 2", "t")).await.unwrap().job;
    world.run(&[submitted.id], Vec::new()).await;
    world.check(submitted.id).await;
    assert!(!world.objects.0.lock().is_empty());
    tokio::time::sleep(CoordinatorConfig::default().retention + Duration::from_secs(60)).await;
    // Somebody has to look: another job brings the coordinator up.
    let other = world.jobs.submit(spec("1 1", "u")).await.unwrap().job;
    world.run(&[other.id], Vec::new()).await;
    let id = submitted.id;
    assert_eq!(world.jobs.job("ann", id).await.unwrap_err(), JobsError::NotFound { id });
    assert!(world.objects.0.lock().keys().all(|(family, _)| *family == other.id));
    let snapshot = world.kv.snapshot().await.unwrap();
    let page = snapshot.scan(KeyRange::all(), Direction::Forward, 1_000).await.unwrap();
    let names = |key: &[u8], id: JobId| key.windows(32).any(|window| window == id.0);
    let left: Vec<_> = page.rows.iter().filter(|(key, _)| names(key, id)).collect();
    assert!(left.is_empty(), "{left:?}");
    let again = world.jobs.submit(spec("3 2", "t")).await.unwrap();
    assert!(again.is_new && again.job.attempt == 1);
}

/// The same rows on the engine that production has, read again after it was closed.
#[tokio::test]
async fn jobs_are_kept_by_the_embedded_engine() {
    let disk = FaultyDisk::new(1 << 30);
    let open = || -> Arc<dyn OrderedKv> {
        let location = JournalLocation { disk: Arc::new(disk.clone()), dir: PathBuf::from("/meta") };
        Arc::new(EmbeddedKv::open(&[location], &Options::default()).unwrap())
    };
    let id = {
        let kv = open();
        let ledger = Ledger::new(Arc::clone(&kv), Arc::new(|| 5));
        let jobs = DurableJobs::new(ledger, Quotas::default(), Arc::new(Notify::new()));
        let first = jobs.submit(spec("2 2", "t")).await.unwrap().job.id;
        jobs.cancel("ann", first).await.unwrap();
        let second = jobs.submit(spec("2 2", "t")).await.unwrap().job.id;
        assert_eq!(second, first.attempt(2));
        second
    };
    let kv = open();
    let ledger = Ledger::new(Arc::clone(&kv), Arc::new(|| 5));
    let jobs = DurableJobs::new(ledger, Quotas::default(), Arc::new(Notify::new()));
    let found = jobs.submit(spec("2 2", "t")).await.unwrap();
    assert!(!found.is_new);
    assert_eq!((found.job.id, found.job.state), (id, JobState::Open));
    assert_eq!(jobs.list(Some("ann"), None, 10).await.unwrap().jobs.len(), 2);
}
