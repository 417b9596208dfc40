//! Buckets that ask for more than a quorum: what is waited for, what is said when it takes too long.

use super::*;

fn is_late(outcome: &Result<impl Sized, Error>) -> Option<Arc<str>> {
    match outcome {
        Err(Error::NotYetDurable { receipt, .. }) => receipt.clone(),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_what_its_bucket_asks() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    bench.put("stone", b"quorum").await;
    assert!(log.progress.asked.lock().is_empty(), "a quorum is what every commit has");
    assert_eq!(store.durable_when(&bench.cx, &bench.bucket).await.unwrap(), DurableWhen::Quorum);
    store.set_durable_when(&bench.cx, &bench.bucket, DurableWhen::Anchored).await.unwrap();
    assert_eq!(store.durable_when(&bench.cx, &bench.bucket).await.unwrap(), DurableWhen::Anchored);
    log.progress.asked.lock().clear();
    let put = bench.put("stone", b"anchored").await;
    let deleted = bench.delete("stone", None).await;
    let positions = [put.position, deleted.position.unwrap()];
    let asked: Vec<_> = positions.map(|position| (position, DurableWhen::Anchored)).into();
    assert_eq!(*log.progress.asked.lock(), asked);

    log.progress.stands.store(true, Ordering::Relaxed);
    let started = tokio::time::Instant::now();
    let late = bench.put_if("stone", b"stored all the same", Conditions::default()).await;
    assert_eq!(started.elapsed(), Publishing::default().durable_wait);
    let receipt = is_late(&late).expect("an answer with a receipt");
    assert_eq!(bench.get("stone").await.unwrap(), b"stored all the same");
    let entry = store.log_entry(&bench.cx, &bench.name("stone", None)).await.unwrap();
    assert_eq!(log.promised(Some(&receipt)), entry);

    log.progress.halts.store(true, Ordering::Relaxed);
    let tags = Tags(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let halted = store.put_object_tags(&bench.cx, &bench.name("stone", None), tags.clone()).await;
    assert!(is_late(&halted).is_some());
    assert_eq!(store.object_tags(&bench.cx, &bench.name("stone", None)).await.unwrap().0, tags);
    // The way back does not wait for what is out of reach.
    store.set_durable_when(&bench.cx, &bench.bucket, DurableWhen::Quorum).await.unwrap();
    bench.put("stone", b"quorum again").await;
}

#[tokio::test(start_paused = true)]
async fn many_deletions_wait_together() {
    let log = Log::new().await;
    let (bench, store) = (&log.bench, &log.bench.test.store);
    let keys = ["a", "b", "c"];
    for key in keys {
        bench.put(key, b"stone").await;
    }
    store.set_durable_when(&bench.cx, &bench.bucket, DurableWhen::Certified).await.unwrap();
    log.progress.stands.store(true, Ordering::Relaxed);
    let delete = |key: &str| DeleteObject {
        name: bench.name(key, None),
        conditions: Conditions::default(),
        bypass_governance: false,
    };
    let requests: Vec<_> = ["a", "b", "c", "never there"].into_iter().map(delete).collect();
    let started = tokio::time::Instant::now();
    let answers = store.delete_objects(&bench.cx, requests).await;
    assert_eq!(started.elapsed(), Publishing::default().durable_wait, "once for all");
    assert!(answers[..3].iter().all(|answer| is_late(answer).is_some()));
    assert!(answers[3].as_ref().is_ok_and(|deleted| deleted.receipt.is_none()));
    assert!(bench.keys("", None, 10).await.0.is_empty(), "deleted all the same");
}

#[tokio::test]
async fn a_store_that_publishes_nothing_promises_and_accepts_no_more() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    for level in [DurableWhen::Certified, DurableWhen::Anchored] {
        let refused = store.set_durable_when(&bench.cx, &bench.bucket, level).await;
        assert!(matches!(refused, Err(Error::InvalidArgument { name: "durable-when", .. })));
    }
    assert_eq!(bench.put("stone", b"quorum").await.receipt, None);
    let other = request_of("mallory", false);
    let refused = store.set_durable_when(&other, &bench.bucket, DurableWhen::Quorum).await;
    assert!(matches!(refused, Err(Error::AccessDenied)));

    // A bucket that asked for more while the store published: refused before anything is written.
    let log = Log::new().await;
    let bench = &log.bench;
    bench.test.store.set_durable_when(&bench.cx, &bench.bucket, DurableWhen::Certified).await.unwrap();
    bench.put("stone", b"certified").await;
    let silent = TestStore::on(Arc::clone(&bench.test.kv), bench.test.nodes.clone()).await;
    let request = bench.new_object("stone", b"not written").unwrap();
    assert!(matches!(silent.store.put_object(&bench.cx, request).await, Err(Error::SlowDown { .. })));
    assert_eq!(bench.get("stone").await.unwrap(), b"certified");
    silent.store.set_durable_when(&bench.cx, &bench.bucket, DurableWhen::Quorum).await.unwrap();
    let request = bench.new_object("stone", b"written").unwrap();
    silent.store.put_object(&bench.cx, request).await.unwrap();
}
