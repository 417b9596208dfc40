//! Many objects at one moment, and publishes that remove.

use std::collections::HashSet;

use ashlar_metadata::namespace::publish::staged_key;
use futures::TryStreamExt;

use super::*;
use crate::pinning::PinRequest;
use crate::publish::{Precondition, Publish};
use crate::transaction::Transaction;

async fn bytes(bench: &Bench, lease: &crate::leases::ReadLease, pinned: &crate::leases::Pinned) -> Vec<u8> {
    let body = bench.test.store.read_pinned(lease, pinned, 0..u64::MAX).await.unwrap();
    body.try_collect::<Vec<_>>().await.unwrap().concat()
}

#[tokio::test]
async fn a_moment_shows_what_was_and_its_lease_keeps_it() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    for n in 0..1_203 {
        bench.put(&format!("t/{n:05}"), format!("{n}").as_bytes()).await;
    }
    bench.put("u/0", b"other").await;
    let moment = store.moment(std::time::Duration::from_secs(60)).await.unwrap();
    bench.put("t/00000", b"new").await;
    bench.put("t/99999", b"later").await;
    let even = |key: &str| key.ends_with(['0', '2', '4', '6', '8']);
    let requests = [
        PinRequest::Prefix { bucket: bench.bucket.clone(), prefix: "t/".into(), wanted: &even },
        PinRequest::Object(bench.bucket.clone(), ObjectKey::new("u/0").unwrap()),
    ];
    let pinned = store.pin_all(&bench.cx, &moment, &requests, 10_000).await.unwrap();
    assert_eq!((pinned[0].len(), pinned[1].len()), (602, 1));
    let lease = moment.lease().clone();
    drop(moment);
    store.collect_garbage_now().await;
    assert_eq!(bytes(&bench, &lease, &pinned[0][0].pinned).await, b"0");
    let again = store.moment(std::time::Duration::from_secs(60)).await.unwrap();
    let few = store.pin_all(&bench.cx, &again, &requests, 600).await;
    assert!(matches!(few, Err(Error::InvalidRequest { .. })));
    let mallory = request_of("mallory", false);
    let denied = store.pin_all(&mallory, &again, &requests, 10_000).await;
    assert!(matches!(denied, Err(Error::AccessDenied)));
    store.release(lease.clone()).await.unwrap();
    let lost = store.read_pinned(&lease, &pinned[0][0].pinned, 0..1).await;
    assert!(matches!(lost.err(), Some(Error::SnapshotTooOld)));
}

#[tokio::test]
async fn a_publish_removes_together_with_what_it_makes_or_not_at_all() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    let old = bench.put("t/old", b"old").await;
    let key = |name: &str| (bench.bucket.clone(), ObjectKey::new(name).unwrap());
    let group = store.begin_group(&bench.cx).await.unwrap();
    store.stage(&bench.cx, group, bench.new_object("t/new", b"new").unwrap()).await.unwrap();
    store.stage(&bench.cx, group, bench.new_object("t/out", b"out").unwrap()).await.unwrap();
    store.unstage(&bench.cx, group, &key("t/out").0, &key("t/out").1).await.unwrap();
    let staged = store.pin_staged(&bench.cx, group).await.unwrap();
    assert_eq!(staged.len(), 1);
    let lease = store.lease(std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(bytes(&bench, &lease, &staged[0].pinned).await, b"new");

    let unchanged = || vec![Precondition::Unchanged(key("t/old").0, key("t/old").1, old.etag)];
    bench.put("t/old", b"changed").await;
    let publish = || Publish {
        preconditions: unchanged(),
        removals: vec![key("t/old"), key("t/none")],
        ..Publish::default()
    };
    let refused = store.publish_and_remove(&bench.cx, group, publish()).await;
    assert!(matches!(refused, Err(Error::PreconditionFailed { .. })));
    assert_eq!(bench.keys("t/", None, 10).await.0, ["t/old"]);
    bench.put("t/old", b"old").await;
    store.publish_and_remove(&bench.cx, group, publish()).await.unwrap();
    assert_eq!(bench.keys("t/", None, 10).await.0, ["t/new"]);

    let mallory = request_of("mallory", false);
    let hers = store.begin_group(&mallory).await.unwrap();
    let removal = Publish { removals: vec![key("t/new")], ..Publish::default() };
    let denied = store.publish_and_remove(&mallory, hers, removal.clone()).await;
    assert!(matches!(denied, Err(Error::AccessDenied)));
    // A bucket of ann's is none of Ashlar's own.
    let as_system = Publish { as_system: HashSet::from([key("t/new")]), ..removal };
    let denied = store.publish_and_remove(&mallory, hers, as_system).await;
    assert!(matches!(denied, Err(Error::AccessDenied)));
    assert!(store.may_remove(&mallory, &key("t/new").0, &key("t/new").1).await.is_err());
    assert_eq!(bench.get("t/new").await.unwrap(), b"new");
}

#[tokio::test]
async fn what_is_left_of_a_group_is_not_published() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    let group = store.begin_group(&bench.cx).await.unwrap();
    for name in ["a", "b"] {
        store.stage(&bench.cx, group, bench.new_object(name, b"new").unwrap()).await.unwrap();
    }
    let mut step = Transaction::default();
    step.delete(staged_key(group.0, bench.bucket.as_str(), "a"));
    step.commit(&bench.test.kv).await.unwrap();
    assert!(matches!(store.publish(&bench.cx, group, vec![]).await, Err(Error::InvalidRequest { .. })));
    assert!(bench.keys("", None, 10).await.0.is_empty());
}
