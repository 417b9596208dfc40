//! The positions at which this process is reading, so that the collector waits for them.
//!
//! Invariant: a reader enters *before* it takes its snapshot, at a position not above the snapshot's. So
//! whatever the snapshot shows alive died, if at all, above the reader's position, and
//! [`Readers::floor`] never passes it while the guard lives.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_metadata::OrderedKv;
use parking_lot::Mutex;

pub(crate) struct Readers {
    kv: Arc<dyn OrderedKv>,
    open: Mutex<BTreeMap<u64, usize>>,
}

/// While it lives, nothing that was alive when it was taken is collected.
pub(crate) struct ReaderGuard {
    readers: Arc<Readers>,
    position: u64,
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        let mut open = self.readers.open.lock();
        if let Some(count) = open.get_mut(&self.position) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.position);
            }
        }
    }
}

impl Readers {
    pub(crate) fn new(kv: Arc<dyn OrderedKv>) -> Arc<Self> {
        Arc::new(Self { kv, open: Mutex::default() })
    }

    /// Call it before taking the snapshot that is read.
    pub(crate) fn enter(self: &Arc<Self>) -> ReaderGuard {
        let mut open = self.open.lock();
        // Asked under the lock: a collector that looked before us saw a position no higher than this.
        let position = self.kv.stable_position().0;
        *open.entry(position).or_default() += 1;
        ReaderGuard { readers: Arc::clone(self), position }
    }

    /// Position at or below which what has died is seen by no reader of this process, now or later.
    pub(crate) fn floor(&self) -> u64 {
        let open = self.open.lock();
        open.keys().next().copied().unwrap_or_else(|| self.kv.stable_position().0)
    }
}
