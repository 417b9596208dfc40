//! A commit whose outcome was lost on the way and asked for is promised like any other.

use ashlar_metadata::{Commit, CommitError, Outcome, Position, ReadError, Snapshot, TransactionId};

use super::*;

/// Metadata whose next answer to a commit with a transaction id is lost.
#[derive(Default)]
struct Losing {
    rows: MemoryKv,
    loses_next: AtomicBool,
}

#[async_trait]
impl OrderedKv for Losing {
    async fn commit(&self, commit: Commit) -> Result<Position, CommitError> {
        let lost = commit.transaction.is_some() && self.loses_next.swap(false, Ordering::Relaxed);
        let position = self.rows.commit(commit).await?;
        if lost {
            Err(CommitError::Unknown { cause: "the answer was lost".to_owned() })
        } else {
            Ok(position)
        }
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, ReadError> {
        self.rows.snapshot().await
    }

    fn stable_position(&self) -> Position {
        self.rows.stable_position()
    }

    async fn outcome(&self, id: TransactionId) -> Result<Outcome, ReadError> {
        self.rows.outcome(id).await
    }

    async fn expire_transactions(&self, below: Position, limit: usize) -> Result<usize, CommitError> {
        self.rows.expire_transactions(below, limit).await
    }
}

#[tokio::test]
async fn an_outcome_that_was_asked_for_is_promised() {
    let (kv, issuer) = (Arc::<Losing>::default(), Arc::<Issuer>::default());
    let nodes = (1..=6).map(|node| (node, Arc::new(MemoryNode::new()))).collect();
    let receipts: Option<Arc<dyn ReceiptIssuer>> = Some(Arc::<Issuer>::clone(&issuer));
    let publishing = Publishing { receipts, ..Publishing::default() };
    let test = TestStore::with(Arc::<Losing>::clone(&kv), nodes, Clock::System, publishing).await;
    let bench = Bench::on(test, false).await;
    kv.loses_next.store(true, Ordering::Relaxed);
    let put = bench.put("stone", b"lost and found").await;
    assert!(!kv.loses_next.load(Ordering::Relaxed), "an answer was lost");
    let entry = bench.test.store.log_entry(&bench.cx, &bench.name("stone", None)).await.unwrap();
    assert_eq!(issuer.0.lock()[&*put.receipt.expect("a receipt")], entry);
    let more = bench.test.store.outbox_after(Some(entry.place()), 10).await.unwrap();
    assert!(more.is_empty(), "committed once");
}
