//! Object lock as a front door meets it.

use std::sync::atomic::Ordering;

use super::*;
use crate::object_lock::{DefaultRetention, ObjectLockRules, Period, Retention, RetentionMode};
use crate::requests::Deleted;
use crate::types::UnixMillis;

const NOW: i64 = 1_700_000_000_000;

fn until(mode: RetentionMode, after: i64) -> Retention {
    Retention { mode, until: UnixMillis(NOW + after) }
}

impl Bench {
    async fn put_locked(&self, key: &str, lock: Lock) -> Result<Written, Error> {
        let request = PutObject { lock, ..self.new_object(key, b"stone")? };
        self.test.store.put_object(&self.cx, request).await
    }

    async fn remove(
        &self,
        key: &str,
        version: Option<VersionId>,
        bypass_governance: bool,
    ) -> Result<Deleted, Error> {
        let name = self.name(key, version);
        let request = DeleteObject { name, conditions: Conditions::default(), bypass_governance };
        self.test.store.delete_object(&self.cx, request).await
    }

    async fn retain(&self, key: &str, retention: Option<Retention>, bypass: bool) -> Result<(), Error> {
        let name = self.name(key, None);
        self.test.store.put_object_retention(&self.cx, &name, retention, bypass).await.map(|_| ())
    }
}

fn locked<T: std::fmt::Debug>(outcome: Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::ObjectLocked))
}

#[tokio::test]
async fn retained_versions_stay_until_their_time_and_markers_come_and_go() {
    let (bench, clock) = Bench::by_hand(true).await;
    let compliance = Lock { retention: Some(until(RetentionMode::Compliance, 1000)), legal_hold: None };
    let version = bench.put_locked("stone", compliance).await.unwrap().version;
    assert!(locked(bench.remove("stone", version, false).await));
    assert!(locked(bench.remove("stone", version, true).await));
    let marker = bench.remove("stone", None, false).await.unwrap();
    assert!(marker.delete_marker);
    assert!(locked(bench.remove("stone", version, true).await));
    bench.remove("stone", marker.version, false).await.unwrap();
    assert_eq!(bench.get("stone").await.unwrap(), b"stone");
    clock.store(NOW + 1000, Ordering::Relaxed);
    bench.remove("stone", version, false).await.unwrap();
    assert!(matches!(bench.get("stone").await, Err(Error::NoSuchKey)));
}

#[tokio::test]
async fn governance_yields_to_who_may_bypass_it_and_a_hold_to_nobody() {
    let (bench, _) = Bench::by_hand(true).await;
    let governance = Lock { retention: Some(until(RetentionMode::Governance, 1000)), legal_hold: Some(true) };
    let version = bench.put_locked("stone", governance).await.unwrap().version;
    assert!(locked(bench.remove("stone", version, true).await));
    let name = bench.name("stone", None);
    assert!(bench.test.store.object_legal_hold(&bench.cx, &name).await.unwrap());
    bench.test.store.put_object_legal_hold(&bench.cx, &name, false).await.unwrap();
    assert!(!bench.test.store.object_legal_hold(&bench.cx, &name).await.unwrap());
    assert!(locked(bench.remove("stone", version, false).await));
    bench.remove("stone", version, true).await.unwrap();
}

#[tokio::test]
async fn bypassing_is_a_right_of_its_own() {
    let (mut bench, _) = Bench::by_hand(true).await;
    let policy = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": ["s3:DeleteObjectVersion", "s3:PutObjectRetention"], "Resource": "arn:aws:s3:::quarry/*"}]}"#;
    let store = bench.test.store.clone();
    store.put_bucket_policy(&bench.cx, &bench.bucket, policy.into()).await.unwrap();
    let governance = Lock { retention: Some(until(RetentionMode::Governance, 1000)), legal_hold: None };
    let version = bench.put_locked("stone", governance).await.unwrap().version;
    let root = std::mem::replace(&mut bench.cx, request_of("mason", false));
    assert!(matches!(bench.remove("stone", version, true).await, Err(Error::AccessDenied)));
    let shorter = Some(until(RetentionMode::Governance, 10));
    assert!(matches!(bench.retain("stone", shorter, true).await, Err(Error::AccessDenied)));
    let asked = Lock { retention: shorter, legal_hold: Some(true) };
    assert!(matches!(bench.put_locked("other", asked).await, Err(Error::AccessDenied)));
    let policy = policy.replace("s3:PutObjectRetention", "s3:BypassGovernanceRetention");
    store.put_bucket_policy(&root, &bench.bucket, policy).await.unwrap();
    bench.remove("stone", version, true).await.unwrap();
}

#[tokio::test]
async fn retention_changes_only_as_its_mode_allows() {
    let (bench, clock) = Bench::by_hand(true).await;
    bench.put("stone", b"stone").await;
    let name = bench.name("stone", None);
    assert!(matches!(
        bench.test.store.object_retention(&bench.cx, &name).await,
        Err(Error::NoSuchConfiguration { .. })
    ));
    let governance = |after| Some(until(RetentionMode::Governance, after));
    let compliance = |after| Some(until(RetentionMode::Compliance, after));
    assert!(matches!(bench.retain("stone", governance(0), false).await, Err(Error::InvalidArgument { .. })));
    bench.retain("stone", governance(1000), false).await.unwrap();
    bench.retain("stone", governance(2000), false).await.unwrap();
    assert!(locked(bench.retain("stone", governance(1000), false).await));
    assert!(locked(bench.retain("stone", compliance(2000), false).await));
    bench.retain("stone", governance(1000), true).await.unwrap();
    bench.retain("stone", None, true).await.unwrap();
    bench.retain("stone", governance(1000), false).await.unwrap();
    bench.retain("stone", compliance(1000), true).await.unwrap();
    for (shorter, bypass) in [(compliance(999), true), (governance(5000), true), (None, true)] {
        assert!(locked(bench.retain("stone", shorter, bypass).await));
    }
    bench.retain("stone", compliance(1500), false).await.unwrap();
    assert_eq!(Some(bench.test.store.object_retention(&bench.cx, &name).await.unwrap()), compliance(1500));
    clock.store(NOW + 1500, Ordering::Relaxed);
    bench.retain("stone", governance(2000), false).await.unwrap();
}

#[tokio::test]
async fn new_versions_take_the_buckets_default_and_copies_nothing_of_their_source() {
    let (bench, _) = Bench::by_hand(true).await;
    let store = &bench.test.store;
    let default = DefaultRetention { mode: RetentionMode::Governance, period: Period::Days(2) };
    let rules = ObjectLockRules { default: Some(default) };
    let held = Lock { retention: Some(until(RetentionMode::Compliance, 5)), legal_hold: Some(true) };
    bench.put_locked("source", held).await.unwrap();
    store.put_object_lock_rules(&bench.cx, &bench.bucket, rules).await.unwrap();
    assert_eq!(store.object_lock_rules(&bench.cx, &bench.bucket).await.unwrap(), rules);
    let request = CopyObject {
        source: bench.name("source", None),
        source_conditions: Conditions::default(),
        bucket: bench.bucket.clone(),
        key: ObjectKey::new("copy").unwrap(),
        attributes: None,
        storage_class: None,
        tags: None,
        acl: None,
        checksum: None,
        lock: Lock::default(),
        conditions: Conditions::default(),
    };
    store.copy_object(&bench.cx, request).await.unwrap();
    let upload = upload(&bench, "parts").await;
    let part = store.upload_part(&bench.cx, &upload, 1, payload(b"part")).await.unwrap();
    store.complete_upload(&bench.cx, complete(&upload, &[(1, part.etag)])).await.unwrap();
    bench.put("plain", b"plain").await;
    for key in ["copy", "parts", "plain"] {
        let read = ReadObject {
            name: bench.name(key, None),
            selection: Selection::Whole,
            conditions: Conditions::default(),
        };
        let head = store.head_object(&bench.cx, read).await.unwrap().head;
        let lock = store.standing(&bench.cx, &bench.name(key, None), &head).await.unwrap().lock;
        let expected = until(RetentionMode::Governance, 2 * 86_400_000);
        assert_eq!(lock, Lock { retention: Some(expected), legal_hold: None }, "{key}");
    }
}

#[tokio::test]
async fn object_lock_needs_versioning_and_keeps_it() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    let put = || store.put_object_lock_rules(&bench.cx, &bench.bucket, ObjectLockRules::default());
    assert!(matches!(
        store.object_lock_rules(&bench.cx, &bench.bucket).await,
        Err(Error::NoSuchConfiguration { .. })
    ));
    assert!(matches!(put().await, Err(Error::InvalidBucketState { .. })));
    let asked = Lock { retention: None, legal_hold: Some(true) };
    assert!(matches!(bench.put_locked("stone", asked).await, Err(Error::InvalidRequest { .. })));
    bench.set_versioning(Versioning::Suspended).await;
    assert!(matches!(put().await, Err(Error::InvalidBucketState { .. })));
    bench.set_versioning(Versioning::Enabled).await;
    put().await.unwrap();
    let suspended = store.set_versioning(&bench.cx, &bench.bucket, Versioning::Suspended).await;
    assert!(matches!(suspended, Err(Error::InvalidBucketState { .. })));
    bench.put_locked("stone", asked).await.unwrap();
}
