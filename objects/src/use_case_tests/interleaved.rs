//! Use cases that meet others, or a failing store, at the one moment where it hurts.

use std::collections::BTreeMap;

use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::buckets::{self, BucketRow, BucketState};
use ashlar_metadata::namespace::uploads;
use ashlar_metadata::{
    Check, Commit, CommitError, KeyRange, OrderedKv, Outcome, Position, ReadError, Snapshot, TransactionId,
    Write,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;
use crate::access::{AclRequest, PublicAccessBlock};
use crate::requests::CannedAcl;

/// Metadata that stops where a test wants it to.
#[derive(Default)]
struct Staged {
    rows: MemoryKv,
    state: Mutex<State>,
    paused: Notify,
    go_on: Notify,
}

#[derive(Default)]
struct State {
    /// Snapshots until one waits for `go_on`.
    pause_at: Option<usize>,
    /// The next commit with a transaction id reaches the journal and not the rows, and no other is taken.
    fails_next: bool,
    in_journal: Option<Commit>,
}

impl Staged {
    fn pause_at_snapshot(&self, number: usize) {
        self.state.lock().pause_at = Some(number);
    }

    fn fail_next_commit(&self) {
        self.state.lock().fails_next = true;
    }

    /// What the next start finds.
    async fn replayed(&self) -> Arc<dyn OrderedKv> {
        let in_journal = self.state.lock().in_journal.take().unwrap();
        self.rows.commit(in_journal).await.unwrap();
        Arc::new(self.rows.clone())
    }
}

#[async_trait]
impl OrderedKv for Staged {
    async fn commit(&self, commit: Commit) -> Result<Position, CommitError> {
        {
            let mut state = self.state.lock();
            let cause = "the disk is gone".to_owned();
            if state.in_journal.is_some() {
                return Err(CommitError::Poisoned { cause });
            }
            if state.fails_next && commit.transaction.is_some() {
                state.in_journal = Some(commit);
                return Err(CommitError::Unknown { cause });
            }
        }
        self.rows.commit(commit).await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        let pause = {
            let mut state = self.state.lock();
            state.pause_at = state.pause_at.map(|left| left - 1);
            state.pause_at.take_if(|left| *left == 0).is_some()
        };
        if pause {
            self.paused.notify_one();
            self.go_on.notified().await;
        }
        self.rows.snapshot().await
    }

    fn stable_position(&self) -> Position {
        self.rows.stable_position()
    }

    async fn outcome(&self, id: TransactionId) -> Result<Outcome, ReadError> {
        if self.state.lock().in_journal.is_some() {
            return Err(ReadError::Poisoned { cause: "the disk is gone".to_owned() });
        }
        self.rows.outcome(id).await
    }

    async fn expire_transactions(&self, below: Position, limit: usize) -> Result<usize, CommitError> {
        self.rows.expire_transactions(below, limit).await
    }
}

async fn staged() -> (Arc<Staged>, Bench) {
    let kv = Arc::new(Staged::default());
    let nodes: BTreeMap<_, _> = (1..=6).map(|node| (node, Arc::new(MemoryNode::new()))).collect();
    let test = TestStore::on(Arc::<Staged>::clone(&kv), nodes).await;
    (kv, Bench::on(test, false).await)
}

async fn rows_under(kv: &dyn OrderedKv, prefix: Bytes) -> usize {
    let snapshot = kv.snapshot().await.unwrap();
    let page = snapshot.scan(KeyRange::prefix(prefix), ashlar_metadata::Direction::Forward, 100).await;
    page.unwrap().rows.len()
}

#[tokio::test]
async fn a_write_whose_outcome_only_the_next_start_knows_keeps_its_bytes() {
    let (kv, bench) = staged().await;
    let bytes = bytes_of(300_000, 4);
    let store = &bench.test.store;
    kv.fail_next_commit();
    let put = bench.put_if("stone", &bytes, Conditions::default()).await;
    assert!(matches!(put, Err(Error::OutcomeUnknown)));
    assert_eq!(store.stats().blobs_in_flight, 1, "its shards are kept");
    // Bytes of another write, which surely came to nothing.
    assert!(bench.put_if("sand", &bytes_of(5_000, 5), Conditions::default()).await.is_err());
    let shards = |nodes: &BTreeMap<u16, Arc<MemoryNode>>| -> usize {
        nodes.values().map(|node| node.ids().len()).sum()
    };
    let before = shards(&bench.test.nodes);
    for _ in 0..2 {
        drop(store.inner.data.sweep_once().await);
        drop(store.inner.data.collect_once().await);
    }
    assert_eq!(shards(&bench.test.nodes), before, "a store that stopped deletes nothing");
    let test = TestStore::on(kv.replayed().await, bench.test.nodes.clone()).await;
    let again = Bench { test, cx: bench.cx.clone(), bucket: bench.bucket.clone() };
    assert_eq!(again.get("stone").await.unwrap(), bytes);
    assert!(again.test.store.inner.data.sweep_once().await.unwrap().deleted > 0);
    assert_eq!(again.get("stone").await.unwrap(), bytes);
}

/// A deletion that has looked and found nothing, but not deleted yet.
async fn deleting(bench: &Bench) -> Commit {
    let key = buckets::key(&bench.bucket);
    let row = bench.test.kv.get(&key).await.unwrap().unwrap();
    let row = BucketRow { state: BucketState::Deleting, ..BucketRow::decode(&row.value).unwrap() };
    let mark = Write::Put { key: key.clone(), value: row.encode() };
    let version = bench.test.kv.commit(Commit { writes: vec![mark], ..Commit::default() }).await.unwrap();
    Commit {
        checks: vec![Check::At(key.clone(), version)],
        writes: vec![Write::Delete { key }],
        transaction: None,
    }
}

#[tokio::test]
async fn a_bucket_is_not_deleted_under_a_group_that_was_published() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    let group = store.begin_group(&bench.cx).await.unwrap();
    let request = PutObject {
        bucket: bench.bucket.clone(),
        key: ObjectKey::new("t/0").unwrap(),
        attributes: Attributes::default(),
        tags: Tags::default(),
        acl: None,
        conditions: Conditions::default(),
        lock: Lock::default(),
        payload: payload(b"row"),
    };
    store.stage(&bench.cx, group, request).await.unwrap();
    let delete = deleting(&bench).await;
    assert_eq!(store.publish(&bench.cx, group, vec![]).await.unwrap().len(), 1);
    let deleted = bench.test.kv.commit(delete).await;
    assert!(matches!(deleted, Err(CommitError::Conflict { .. })), "the deletion was called off");
    assert_eq!(bench.get("t/0").await.unwrap(), b"row");
}

#[tokio::test]
async fn uploads_end_with_their_bucket_and_not_before() {
    let bench = Bench::new().await;
    let store = &bench.test.store;
    let kept = upload(&bench, "wall").await;
    store.upload_part(&bench.cx, &kept, 1, payload(b"part")).await.unwrap();
    bench.put("stone", b"in the way").await;
    let refused = store.delete_bucket(&bench.cx, &bench.bucket).await;
    assert!(matches!(refused, Err(Error::BucketNotEmpty)));
    store.list_parts(&bench.cx, &kept, 0, 10).await.expect("the upload goes on");
    bench.delete("stone", None).await;
    store.delete_bucket(&bench.cx, &bench.bucket).await.unwrap();
    // The first run ends the uploads, the second takes what they leave.
    for _ in 0..2 {
        store.inner.data.collect_once().await.unwrap();
    }
    assert_eq!(rows_under(&*bench.test.kv, uploads::all()).await, 0);
    assert_eq!(rows_under(&*bench.test.kv, uploads::parts_prefix(kept.upload.0)).await, 0);
    assert!(bench.test.nodes.values().all(|node| node.ids().is_empty()));
    let other = request_of("somebody", false);
    assert!(matches!(store.list_parts(&other, &kept, 0, 10).await, Err(Error::NoSuchBucket)));
}

#[tokio::test]
async fn a_complete_that_its_own_first_attempt_overtook_gets_the_same_answer() {
    let (kv, bench) = staged().await;
    let name = upload(&bench, "wall").await;
    let part = bench.test.store.upload_part(&bench.cx, &name, 1, payload(b"all of it")).await.unwrap();
    let request = || CompleteUpload {
        conditions: Conditions { if_none_match: Some(TagMatch::Any), ..Conditions::default() },
        ..complete(&name, &[(1, part.etag)])
    };
    // It has read the upload, and has yet to look at the key.
    kv.pause_at_snapshot(2);
    let store = &bench.test.store;
    let (again, first) = tokio::join!(store.complete_upload(&bench.cx, request()), async {
        kv.paused.notified().await;
        let first = store.complete_upload(&bench.cx, request()).await;
        kv.go_on.notify_one();
        first
    });
    let (again, first) = (again.unwrap(), first.unwrap());
    assert_eq!((again.etag, again.position), (first.etag, first.position));
    let other = upload(&bench, "wall").await;
    let part = bench.test.store.upload_part(&bench.cx, &other, 1, payload(b"another")).await.unwrap();
    let late = CompleteUpload { name: other.clone(), ..complete(&other, &[(1, part.etag)]) };
    let late = CompleteUpload { conditions: request().conditions, ..late };
    let refused = bench.test.store.complete_upload(&bench.cx, late).await;
    assert!(matches!(refused, Err(Error::PreconditionFailed { .. })));
}

#[tokio::test]
async fn a_public_acl_that_was_forbidden_during_the_upload_is_refused() {
    let (kv, bench) = staged().await;
    let request = PutObject {
        bucket: bench.bucket.clone(),
        key: ObjectKey::new("stone").unwrap(),
        attributes: Attributes::default(),
        tags: Tags::default(),
        acl: Some(AclRequest::Canned(CannedAcl::PublicRead)),
        conditions: Conditions::default(),
        lock: Lock::default(),
        payload: payload(b"for all to see"),
    };
    // The body is stored; the commit has yet to look at the bucket.
    kv.pause_at_snapshot(2);
    let store = &bench.test.store;
    let block = PublicAccessBlock { block_public_acls: true, ..PublicAccessBlock::default() };
    let (put, blocked) = tokio::join!(store.put_object(&bench.cx, request), async {
        kv.paused.notified().await;
        let blocked = store.put_public_access_block(&bench.cx, &bench.bucket, block).await;
        kv.go_on.notify_one();
        blocked
    });
    blocked.unwrap();
    assert!(matches!(put, Err(Error::AccessDenied)));
    assert!(matches!(bench.get("stone").await, Err(Error::NoSuchKey)));
}
