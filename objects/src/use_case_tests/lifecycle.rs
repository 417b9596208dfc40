//! Lifecycle rules at work, by a clock set by hand.

use std::sync::atomic::Ordering;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::lifecycle::{Expiration, LifecycleRule, NoncurrentExpiration, RuleScope};
use crate::object_lock::{Retention, RetentionMode};
use crate::requests::ListUploads;
use crate::types::UnixMillis;

const DAY: i64 = 86_400_000;

fn rule(prefix: &str) -> LifecycleRule {
    LifecycleRule {
        id: String::new(),
        enabled: true,
        scope: RuleScope::Prefix(prefix.into()),
        expiration: None,
        noncurrent: None,
        abort_uploads_after_days: None,
    }
}

fn expiring(prefix: &str, expiration: Expiration) -> LifecycleRule {
    LifecycleRule { expiration: Some(expiration), ..rule(prefix) }
}

fn noncurrent(prefix: &str, days: u32, keep_newest: Option<u32>) -> LifecycleRule {
    LifecycleRule { noncurrent: Some(NoncurrentExpiration { days, keep_newest }), ..rule(prefix) }
}

impl Bench {
    async fn rules(&self, rules: Vec<LifecycleRule>) {
        self.test.store.put_lifecycle_rules(&self.cx, &self.bucket, rules).await.unwrap();
    }

    async fn pass(&self) {
        self.test.store.lifecycle_pass(&CancellationToken::new()).await.unwrap();
    }

    async fn live(&self) -> Vec<String> {
        self.keys("", None, 1_000).await.0
    }
}

#[tokio::test]
async fn what_is_due_goes_and_what_is_not_stays() {
    let (bench, clock) = Bench::by_hand(false).await;
    bench.put("logs/old", b"1").await;
    bench.put("keep/old", b"2").await;
    bench
        .rules(vec![
            expiring("logs/", Expiration::Days(1)),
            LifecycleRule { enabled: false, ..expiring("keep/", Expiration::Days(1)) },
        ])
        .await;
    bench.pass().await;
    assert_eq!(bench.live().await, ["keep/old", "logs/old"]);
    clock.fetch_add(2 * DAY, Ordering::Relaxed);
    bench.put("logs/new", b"3").await;
    bench.pass().await;
    assert_eq!(bench.live().await, ["keep/old", "logs/new"]);
    assert!(bench.versions().await.len() == 2, "an unversioned object goes for good");
    let stats = bench.test.store.lifecycle_stats();
    assert_eq!((stats.current, stats.noncurrent, stats.passes), (1, 0, 2));
}

#[tokio::test]
async fn in_a_versioned_bucket_markers_come_first_and_go_last() {
    let (bench, clock) = Bench::by_hand(false).await;
    bench.set_versioning(Versioning::Enabled).await;
    for body in [b"1", b"2", b"3"] {
        bench.put("stone", body).await;
        clock.fetch_add(1000, Ordering::Relaxed);
    }
    let marker = expiring("", Expiration::ExpiredMarker(true));
    let expire = LifecycleRule { id: "expire".into(), ..expiring("", Expiration::Days(1)) };
    bench.rules(vec![expire, noncurrent("", 1, None), marker]).await;
    clock.fetch_add(2 * DAY, Ordering::Relaxed);
    bench.pass().await;
    // The two that were replaced two days ago are gone; the third is hidden from now on.
    let shape = |versions: Vec<(String, VersionId, bool, bool)>| {
        versions.into_iter().map(|(_, _, latest, object)| (latest, object)).collect::<Vec<_>>()
    };
    assert_eq!(shape(bench.versions().await), [(true, false), (false, true)]);
    bench.pass().await;
    assert_eq!(bench.versions().await.len(), 2);
    clock.fetch_add(2 * DAY, Ordering::Relaxed);
    bench.pass().await;
    bench.pass().await;
    assert_eq!(bench.versions().await, []);
    let stats = bench.test.store.lifecycle_stats();
    assert_eq!((stats.current, stats.noncurrent, stats.markers), (1, 3, 1));
}

#[tokio::test]
async fn the_newest_noncurrent_versions_may_be_kept() {
    let (bench, clock) = Bench::by_hand(false).await;
    bench.set_versioning(Versioning::Enabled).await;
    let mut written = Vec::new();
    for number in 0..110_u8 {
        written.push(bench.put("stone", &[number]).await.version);
    }
    bench.rules(vec![noncurrent("", 1, Some(3))]).await;
    clock.fetch_add(2 * DAY, Ordering::Relaxed);
    bench.pass().await;
    let left: Vec<_> = bench.versions().await.into_iter().map(|(_, version, _, _)| Some(version)).collect();
    written.reverse();
    assert_eq!(left, written[..4]);
}

#[tokio::test]
async fn locked_versions_stay() {
    let (bench, clock) = Bench::by_hand(true).await;
    let old = bench.put("stone", b"1").await.version;
    bench.put("stone", b"2").await;
    let retention =
        Retention { mode: RetentionMode::Governance, until: UnixMillis(1_700_000_000_000 + 9 * DAY) };
    let name = bench.name("stone", old);
    bench.test.store.put_object_retention(&bench.cx, &name, Some(retention), false).await.unwrap();
    bench.rules(vec![noncurrent("", 1, None)]).await;
    clock.fetch_add(5 * DAY, Ordering::Relaxed);
    bench.pass().await;
    assert_eq!(bench.versions().await.len(), 2);
    assert_eq!(bench.test.store.lifecycle_stats().locked, 1);
    clock.fetch_add(5 * DAY, Ordering::Relaxed);
    bench.pass().await;
    assert_eq!(bench.versions().await.len(), 1);
}

#[tokio::test]
async fn unfinished_uploads_are_given_up() {
    let (bench, clock) = Bench::by_hand(false).await;
    let old = upload(&bench, "a/old").await;
    upload(&bench, "b/old").await;
    bench.rules(vec![LifecycleRule { abort_uploads_after_days: Some(1), ..rule("a/") }]).await;
    clock.fetch_add(2 * DAY, Ordering::Relaxed);
    upload(&bench, "a/new").await;
    bench.pass().await;
    let request = ListUploads {
        bucket: bench.bucket.clone(),
        prefix: String::new(),
        delimiter: None,
        after: None,
        max: 10,
    };
    let page = bench.test.store.list_uploads(&bench.cx, request).await.unwrap();
    assert_eq!(page.uploads.iter().map(|upload| upload.key.as_str()).collect::<Vec<_>>(), ["a/new", "b/old"]);
    let part = bench.test.store.upload_part(&bench.cx, &old, 1, payload(b"late")).await;
    assert!(matches!(part, Err(Error::NoSuchUpload)));
}

#[tokio::test]
async fn a_pass_goes_on_where_it_was_stopped() {
    let (bench, clock) = Bench::by_hand(false).await;
    bench.put("a", b"1").await;
    bench.put("b", b"2").await;
    bench.rules(vec![expiring("", Expiration::Days(1))]).await;
    clock.fetch_add(2 * DAY, Ordering::Relaxed);
    let place = ashlar_metadata::namespace::lifecycle::PassRow { bucket: "quarry".into(), key: "b".into() };
    let mut transaction = crate::transaction::Transaction::default();
    transaction.put(ashlar_metadata::namespace::lifecycle::pass_key(), &place);
    transaction.commit(&bench.test.kv).await.unwrap();
    bench.pass().await;
    assert_eq!(bench.live().await, ["a"]);
    bench.pass().await;
    assert_eq!(bench.live().await, [""; 0]);
}

/// Whatever races with a pass, nothing written after it could judge is lost.
#[tokio::test]
async fn a_racing_put_is_never_lost() {
    let seed = rand::random::<u64>();
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..40_u8 {
        let versioning = [Versioning::Off, Versioning::Enabled, Versioning::Suspended];
        let versioning = versioning[random.random_range(0..3)];
        let (bench, clock) = Bench::by_hand(false).await;
        if versioning != Versioning::Off {
            bench.set_versioning(versioning).await;
        }
        let keys = ["a", "b", "c"];
        for key in keys {
            for _ in 0..random.random_range(1..3) {
                bench.put(key, b"old").await;
            }
        }
        bench.rules(vec![expiring("", Expiration::Days(1)), noncurrent("", 1, None)]).await;
        clock.fetch_add(3 * DAY, Ordering::Relaxed);
        let pauses: Vec<u32> = keys.iter().map(|_| random.random_range(0..30)).collect();
        let puts = keys.iter().zip(pauses).map(|(key, pause)| {
            let bench = &bench;
            async move {
                for _ in 0..pause {
                    tokio::task::yield_now().await;
                }
                bench.put(key, &[round]).await;
            }
        });
        tokio::join!(bench.pass(), bench.pass(), futures::future::join_all(puts));
        for key in keys {
            assert_eq!(bench.get(key).await.unwrap(), [round], "seed {seed}, round {round}, {versioning:?}");
        }
        bench.pass().await;
        for key in keys {
            assert_eq!(bench.get(key).await.unwrap(), [round], "seed {seed}, round {round}, {versioning:?}");
        }
    }
}
