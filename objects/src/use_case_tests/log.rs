//! The log: what changes announce, what is told of it again, what is promised, waited for and restored.

mod durable;
mod entries;
mod restored;
mod unknown;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use ashlar_metadata::OrderedKv;
use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::log::{
    Durability, DurableWhen, LogEntry, LogHalted, Operation, Publishing, ReceiptIssuer, Record,
};

/// Promises everything, and remembers what.
#[derive(Default)]
struct Issuer(Mutex<BTreeMap<String, LogEntry>>);

impl ReceiptIssuer for Issuer {
    fn issue(&self, position: u64, index: u32, record: &[u8]) -> Option<Arc<str>> {
        let receipt = format!("{position}-{index}");
        let record = Bytes::copy_from_slice(record);
        self.0.lock().insert(receipt.clone(), LogEntry { position, index, record });
        Some(Arc::from(receipt))
    }
}

/// A log that goes on, stands still, or halts.
#[derive(Default)]
struct Progress {
    stands: AtomicBool,
    halts: AtomicBool,
    asked: Mutex<Vec<(u64, DurableWhen)>>,
}

#[async_trait]
impl Durability for Progress {
    async fn reached(&self, position: u64, level: DurableWhen) -> Result<(), LogHalted> {
        self.asked.lock().push((position, level));
        if self.halts.load(Ordering::Relaxed) {
            return Err(LogHalted { reason: "another header is anchored".to_owned() });
        }
        if self.stands.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn covered(&self) -> u64 {
        u64::MAX
    }
}

struct Log {
    bench: Bench,
    issuer: Arc<Issuer>,
    progress: Arc<Progress>,
}

impl Log {
    async fn new() -> Self {
        let (issuer, progress) = (Arc::<Issuer>::default(), Arc::<Progress>::default());
        let test = TestStore::publishing(Publishing {
            receipts: Some(Arc::<Issuer>::clone(&issuer)),
            durability: Some(Arc::<Progress>::clone(&progress)),
            ..Publishing::default()
        });
        Self { bench: Bench::on(test.await, false).await, issuer, progress }
    }

    async fn all(&self) -> Vec<LogEntry> {
        self.bench.test.store.outbox_after(None, usize::MAX).await.unwrap()
    }

    /// What was announced since, read: everything must.
    async fn since(&self, place: &mut Option<(u64, u32)>) -> Vec<(LogEntry, Record)> {
        let entries = self.bench.test.store.outbox_after(*place, 1_000).await.unwrap();
        *place = entries.last().map(LogEntry::place).or(*place);
        let read = |entry: LogEntry| {
            let record = Record::decode(&entry.record).unwrap();
            (entry, record)
        };
        entries.into_iter().map(read).collect()
    }

    /// The entry that a receipt promises.
    fn promised(&self, receipt: Option<&Arc<str>>) -> LogEntry {
        self.issuer.0.lock()[&**receipt.expect("a receipt")].clone()
    }
}

fn operations(entries: &[(LogEntry, Record)]) -> Vec<Operation> {
    entries.iter().map(|(_, record)| record.operation).collect()
}
