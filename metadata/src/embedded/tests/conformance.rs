//! The suite of every implementation, on the embedded one.

use std::sync::Arc;

use ashlar_disk::{FaultyDisk, SyncPhase};
use async_trait::async_trait;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::{locations, small};
use crate::conformance::{Gate, Harness};
use crate::embedded::EmbeddedKv;
use crate::ordered_kv::OrderedKv;

/// Holds the sync of a journal segment, and with it the group being committed.
struct SyncGate {
    closed: Mutex<bool>,
    opened: Condvar,
    reached: watch::Sender<bool>,
}

#[async_trait]
impl Gate for SyncGate {
    fn close(&self) {
        *self.closed.lock() = true;
    }

    async fn reached(&self) {
        self.reached.subscribe().wait_for(|reached| *reached).await.unwrap();
    }

    fn open(&self) {
        *self.closed.lock() = false;
        self.opened.notify_all();
    }
}

struct Embedded {
    replicas: usize,
}

#[async_trait]
impl Harness for Embedded {
    async fn open(&self) -> Arc<dyn OrderedKv> {
        let disk = FaultyDisk::default();
        Arc::new(EmbeddedKv::open(&locations(&disk, self.replicas), &small()).unwrap())
    }

    async fn open_gated(&self) -> (Arc<dyn OrderedKv>, Arc<dyn Gate>) {
        let disk = FaultyDisk::default();
        let kv = EmbeddedKv::open(&locations(&disk, self.replicas), &small()).unwrap();
        let (reached, _) = watch::channel(false);
        let gate = Arc::new(SyncGate { closed: Mutex::new(false), opened: Condvar::new(), reached });
        let held = Arc::clone(&gate);
        disk.on_sync(move |point| {
            let is_journal = point.path.to_string_lossy().contains("segment-");
            let mut closed = held.closed.lock();
            while *closed && is_journal && point.phase == SyncPhase::Before {
                held.reached.send_replace(true);
                held.opened.wait(&mut closed);
            }
        });
        (Arc::new(kv), gate)
    }

    fn finishes_out_of_order(&self) -> bool {
        false
    }
}

mod alone {
    use super::Embedded;
    crate::ordered_kv_conformance!(Embedded { replicas: 0 });
}

mod with_three_replicas {
    use super::Embedded;
    crate::ordered_kv_conformance!(Embedded { replicas: 3 });
}
