//! Jobs and units under any order of what can happen to them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::amount::Amount;
use crate::bytes::{Address, ContentRoot, JobId};
use crate::stored::{Stored, StoredError};
use crate::terms::Shard;

fn spec() -> JobSpec {
    let input = |key: &str| Input {
        bucket: "b".into(),
        key: key.into(),
        version: [1; 16],
        content_root: ContentRoot([2; 32]),
    };
    JobSpec {
        statement: Statement {
            kind: Kind::Labeling,
            principal: "u-1".into(),
            target: "s3://out/t".into(),
            text: "ai_classify(body, ['ham', 'spam'])".into(),
            inputs: BTreeSet::from([input("x"), input("y")]),
            models: BTreeSet::from([ContentRoot([3; 32])]),
            options: BTreeMap::from([("level".into(), "sampled".into())]),
            seed: 7,
        },
        client_key: None,
        limits: Limits { deadline: Some(100), spend_cap: 50.into(), attempts_max: 4 },
    }
}

fn unit() -> Unit {
    let input = UnitInput { content_root: ContentRoot([4; 32]), rows: 10 };
    Unit::new(Shard { job: JobId([5; 32]), number: 0 }, input, 6)
}

fn provider(number: u8) -> Address {
    Address([number; 20])
}

fn output(fence: u64) -> Output {
    Output { fence, content_root: ContentRoot([6; 32]), usage: 10 }
}

#[test]
fn the_same_statement_is_the_same_job() {
    let one = spec();
    let mut other = spec();
    other.limits = Limits { deadline: None, spend_cap: 9.into(), attempts_max: 1 };
    assert_eq!(one.id(), other.id(), "how it may run is not what it is");
    assert_eq!(Job::new(one).is_same(&other), Ok(()));
    let changes: [fn(&mut Statement); 12] = [
        |s| s.kind = Kind::Inference,
        |s| s.principal.push('x'),
        |s| s.target.push('x'),
        |s| s.text.push('x'),
        |s| (s.target, s.text) = (format!("{}{}", s.target, &s.text[..1]), s.text[1..].into()),
        |s| drop(s.inputs.pop_first()),
        |s| {
            let mut input = s.inputs.pop_first().unwrap();
            input.version[0] += 1;
            s.inputs.insert(input);
        },
        |s| s.models.extend([ContentRoot([9; 32])]),
        |s| s.models.clear(),
        |s| drop(s.options.insert("a".into(), "b".into())),
        |s| drop(s.options.insert("level".into(), "bound".into())),
        |s| s.seed += 1,
    ];
    let ids: BTreeSet<JobId> = changes
        .iter()
        .map(|change| {
            let mut spec = spec();
            change(&mut spec.statement);
            spec.id()
        })
        .chain([other.id()])
        .collect();
    assert_eq!(ids.len(), changes.len() + 1);
}

#[test]
fn a_clients_key_names_one_statement_of_one_principal() {
    let keyed = JobSpec { client_key: Some("k".into()), ..spec() };
    assert_ne!(keyed.id(), spec().id());
    let mut changed = keyed.clone();
    changed.statement.seed += 1;
    assert_eq!(keyed.id(), changed.id());
    let id = keyed.id();
    assert_eq!(Job::new(keyed.clone()).is_same(&changed), Err(JobRefusal::OtherStatement { id }));
    changed.statement.principal = "u-2".into();
    assert_ne!(keyed.id(), changed.id());
}

#[test]
fn what_cannot_be_a_job_is_told_why() {
    let refused = |change: fn(&mut JobSpec)| {
        let mut spec = spec();
        change(&mut spec);
        spec.check().unwrap_err()
    };
    assert_eq!(spec().check(), Ok(()));
    assert_eq!(refused(|s| s.statement.target.clear()), SpecError::Empty { what: "the target" });
    assert_eq!(
        refused(|s| s.client_key = Some(String::new())),
        SpecError::Empty { what: "the client's key" }
    );
    let maximum = TEXT_BYTES_MAX;
    let long = refused(|s| s.statement.text = "x".repeat(TEXT_BYTES_MAX + 1));
    assert_eq!(long, SpecError::TooLong { what: "the statement", maximum });
    let long = refused(|s| drop(s.statement.options.insert("x".repeat(TEXT_BYTES_MAX + 1), "".into())));
    assert_eq!(long, SpecError::TooLong { what: "an input or option", maximum });
    let many =
        refused(|s| s.statement.options = (0..=ITEMS_MAX).map(|n| (n.to_string(), "".into())).collect());
    assert_eq!(many, SpecError::TooMany { what: "options", maximum: ITEMS_MAX });
    assert_eq!(refused(|s| s.limits.attempts_max = 0), SpecError::Empty { what: "the number of attempts" });
}

#[test]
fn the_order_and_size_of_units_are_committed_to() {
    let unit = |byte, rows| UnitInput { content_root: ContentRoot([byte; 32]), rows };
    let lists = [
        vec![],
        vec![unit(1, 1)],
        vec![unit(1, 2)],
        vec![unit(1, 1), unit(2, 1)],
        vec![unit(2, 1), unit(1, 1)],
    ];
    let roots: BTreeSet<_> = lists.iter().map(|list| input_root(list)).collect();
    assert_eq!(roots.len(), lists.len());
}

#[test]
fn a_straggler_is_told_before_another_begins() {
    let apply = |unit: &Unit, event| unit.apply(event, 10).map(|(unit, _)| unit);
    let lease = |number| UnitEvent::Lease { provider: provider(number), seconds: 60 };
    let hedge = |number| UnitEvent::Hedge { provider: provider(number), seconds: 60 };
    let unit = apply(&unit(), lease(1)).unwrap();
    assert_eq!(apply(&unit, lease(2)), Err(UnitRefusal::Leased));
    assert_eq!(apply(&unit, hedge(2)), Err(UnitRefusal::NotTold { fence: 1 }));
    assert_eq!(apply(&unit, UnitEvent::Told { fence: 1 }), Err(UnitRefusal::NotAnnounced { fence: 1 }));
    let unit = apply(&unit, UnitEvent::AnnounceHedge { fence: 1 }).unwrap();
    assert_eq!(apply(&unit, hedge(2)), Err(UnitRefusal::NotTold { fence: 1 }));
    let unit = apply(&unit, UnitEvent::Told { fence: 1 }).unwrap();
    assert_eq!(apply(&unit, hedge(1)), Err(UnitRefusal::NotHedgeable), "not with itself");
    let unit = apply(&unit, hedge(2)).unwrap();
    assert_eq!(apply(&unit, hedge(3)), Err(UnitRefusal::NotHedgeable), "two at most");
    let (done, effects) = unit.apply(UnitEvent::Finish(output(2)), 11).unwrap();
    assert_eq!(done.state, UnitState::Done(output(2)));
    let ends: Vec<_> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Ended(attempt) => (attempt.fence, attempt.end.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, [(1, AttemptEnd::Overtaken), (2, AttemptEnd::Finished)]);
    assert_eq!(apply(&done, UnitEvent::Finish(output(1))), Err(UnitRefusal::Ended));
    // The other way round: where the second gives up, the first is alone again, and paid.
    let give_up = UnitEvent::Fail { fence: 2, reason: "no memory".into(), is_final: true };
    let unit = apply(&unit, give_up).unwrap();
    assert_eq!(unit.leases()[0].hedge, Hedge::Alone);
    assert!(unit.was_tried_by(provider(2)) && !unit.was_tried_by(provider(1)));
}

#[test]
fn who_was_away_too_long_writes_nothing() {
    let (unit, _) = unit().apply(UnitEvent::Lease { provider: provider(1), seconds: 10 }, 0).unwrap();
    let (unit, _) = unit.apply(UnitEvent::Heartbeat { fence: 1, seconds: 10 }, 10).unwrap();
    let late = unit.apply(UnitEvent::Finish(output(1)), 21);
    assert_eq!(late, Err(UnitRefusal::Fenced { fence: 1 }));
    let (same, effects) = unit.apply(UnitEvent::Expire, 20).unwrap();
    assert_eq!((&same, effects.len()), (&unit, 0));
    let (open, _) = unit.apply(UnitEvent::Expire, 21).unwrap();
    assert_eq!(open.state, UnitState::Open);
    let (again, _) = open.apply(UnitEvent::Lease { provider: provider(2), seconds: 10 }, 21).unwrap();
    assert_eq!(again.apply(UnitEvent::Finish(output(1)), 22), Err(UnitRefusal::Fenced { fence: 1 }));
    assert!(again.apply(UnitEvent::Finish(output(2)), 22).is_ok());
}

fn unit_event() -> impl Strategy<Value = UnitEvent> {
    let (fence, who, seconds) = (|| 0u64..8, || (1u8..4).prop_map(provider), || 0u64..20);
    prop_oneof![
        4 => (who(), seconds()).prop_map(|(provider, seconds)| UnitEvent::Lease { provider, seconds }),
        2 => (fence(), seconds()).prop_map(|(fence, seconds)| UnitEvent::Heartbeat { fence, seconds }),
        3 => fence().prop_map(|fence| UnitEvent::AnnounceHedge { fence }),
        3 => fence().prop_map(|fence| UnitEvent::Told { fence }),
        3 => (who(), seconds()).prop_map(|(provider, seconds)| UnitEvent::Hedge { provider, seconds }),
        1 => fence().prop_map(|fence| UnitEvent::Finish(output(fence))),
        2 => (fence(), any::<bool>())
            .prop_map(|(fence, is_final)| UnitEvent::Fail { fence, reason: "r".into(), is_final }),
        1 => Just(UnitEvent::Expire),
        1 => Just(UnitEvent::Cancel),
    ]
}

fn job_event() -> impl Strategy<Value = JobEvent> {
    let end = prop::sample::select(vec![UnitEnd::Done, UnitEnd::Failed, UnitEnd::Cancelled]);
    prop_oneof![
        3 => Just(JobEvent::Begin),
        3 => (0u32..6).prop_map(|units| JobEvent::Materialised { input_root: input_root(&[]), units }),
        3 => (0u64..30).prop_map(|wei| JobEvent::Spend(wei.into())),
        6 => end.prop_map(JobEvent::UnitEnded),
        2 => Just(JobEvent::Published { output: ContentRoot([1; 32]) }),
        1 => Just(JobEvent::Fail { reason: "r".into() }),
        1 => Just(JobEvent::Cancel),
        2 => Just(JobEvent::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn fences_grow_and_nobody_goes_unpaid_untold(events in prop::collection::vec((unit_event(), 0u64..6), 0..60)) {
        let (mut unit, mut now, mut newest) = (unit(), 0, 0);
        let (mut running, mut told, mut finished) = (BTreeSet::new(), BTreeSet::new(), 0);
        for (event, wait) in events {
            now += wait;
            let was_ended = unit.has_ended();
            let is_told = if let UnitEvent::Told { fence } = event { Some(fence) } else { None };
            let is_hedge = matches!(event, UnitEvent::Hedge { .. });
            let Ok((next, effects)) = unit.apply(event, now) else { continue };
            prop_assert!(!was_ended, "what has ended stays so");
            told.extend(is_told);
            for effect in effects {
                match effect {
                    Effect::Granted(lease) => {
                        prop_assert!(lease.fence > newest);
                        newest = lease.fence;
                        running.insert(lease.fence);
                        if is_hedge {
                            prop_assert!(running.iter().all(|fence| *fence == newest || told.contains(fence)));
                            told.insert(newest);
                        }
                    }
                    Effect::Renewed(lease) => prop_assert!(running.contains(&lease.fence)),
                    Effect::Ended(attempt) => {
                        prop_assert!(running.remove(&attempt.fence), "a lease ends once");
                        match attempt.end {
                            AttemptEnd::Overtaken => prop_assert!(told.contains(&attempt.fence)),
                            AttemptEnd::Finished => finished += 1,
                            _ => {}
                        }
                    }
                }
            }
            let leases: BTreeSet<u64> = next.leases().iter().map(|lease| lease.fence).collect();
            prop_assert_eq!(&leases, &running);
            prop_assert!(running.len() <= 2);
            prop_assert_eq!(next.last_fence, newest);
            prop_assert!(newest <= next.attempts_max.into());
            prop_assert!(next.attempts.len() + running.len() == usize::try_from(newest).unwrap());
            prop_assert_eq!(matches!(next.state, UnitState::Done(_)), finished == 1);
            unit = Unit::from_stored(&next.to_stored()).unwrap();
            prop_assert_eq!(&unit, &next);
        }
    }

    #[test]
    fn a_job_counts_right_spends_within_its_cap_and_ends_once(
        events in prop::collection::vec((job_event(), 0u64..9), 0..40),
    ) {
        let (mut job, mut now) = (Job::new(spec()), 0);
        let mut spent = Amount::ZERO;
        for (event, wait) in events {
            now += wait;
            let before = job.clone();
            let more = if let JobEvent::Spend(more) = event { more } else { Amount::ZERO };
            let Ok(next) = job.apply(event, now) else { continue };
            prop_assert!(!before.has_ended());
            spent = spent.checked_add(more).unwrap();
            let Progress { units, done, failed, cancelled, .. } = next.progress;
            let ended = done + failed + cancelled;
            prop_assert!(ended <= units);
            prop_assert_eq!(next.progress.spent, spent);
            prop_assert!(spent <= next.spec.limits.spend_cap);
            match next.state {
                JobState::Publishing | JobState::Done { .. } => prop_assert_eq!(ended, units),
                JobState::Running | JobState::Stopping(_) => prop_assert!(ended < units),
                _ => {}
            }
            if matches!(next.state, JobState::Done { .. }) {
                prop_assert_eq!(before.state, JobState::Publishing);
            }
            job = Job::from_stored(&next.to_stored()).unwrap();
            prop_assert_eq!(&job, &next);
            let text = serde_json::to_string(&job).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Job>(&text).unwrap(), &job);
        }
    }
}

#[test]
fn a_job_that_is_stopped_waits_for_its_units() {
    let apply = |job: &Job, event| job.apply(event, 0);
    let job = apply(&Job::new(spec()), JobEvent::Begin).unwrap();
    assert_eq!(apply(&job, JobEvent::UnitEnded(UnitEnd::Done)), Err(JobRefusal::Stage));
    let job = apply(&job, JobEvent::Materialised { input_root: input_root(&[]), units: 2 }).unwrap();
    assert!(matches!(apply(&job, JobEvent::Spend(51.into())), Err(JobRefusal::AboveSpendCap { .. })));
    let job = apply(&job, JobEvent::UnitEnded(UnitEnd::Failed)).unwrap();
    let stopping = apply(&job, JobEvent::Cancel).unwrap();
    assert_eq!(stopping.state, JobState::Stopping(End::Cancelled));
    let ended = apply(&stopping, JobEvent::UnitEnded(UnitEnd::Cancelled)).unwrap();
    assert_eq!(ended.state, JobState::Ended(End::Cancelled));
    assert_eq!(apply(&ended, JobEvent::Cancel), Err(JobRefusal::Ended));
    let publishing = apply(&job, JobEvent::UnitEnded(UnitEnd::Done)).unwrap();
    assert_eq!(publishing.state, JobState::Publishing, "rows that failed are rows of the result");
    assert_eq!(apply(&publishing, JobEvent::Cancel), Err(JobRefusal::Publishing));
    let late = job.apply(JobEvent::Tick, 101).unwrap();
    assert_eq!(late.state, JobState::Stopping(End::DeadlinePassed));
    assert_eq!(job.apply(JobEvent::Tick, 100).unwrap(), job);
}

#[test]
fn other_versions_and_torn_values_are_refused() {
    let bytes = Job::new(spec()).to_stored();
    assert_eq!(bytes[0], 1);
    assert_eq!(Job::from_stored(&[]), Err(StoredError::Version { expected: 1, found: None }));
    let mut other = bytes.clone();
    other[0] = 2;
    assert_eq!(Job::from_stored(&other), Err(StoredError::Version { expected: 1, found: Some(2) }));
    for length in 1..bytes.len() {
        assert_eq!(Job::from_stored(&bytes[..length]), Err(StoredError::Malformed));
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Job::from_stored(&longer), Err(StoredError::Trailing { count: 1 }));
}
