//! Counters for the metrics page. They only rise, and order nothing.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Counter,)*
        }
    };
}

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn add_usize(&self, more: usize) {
        self.add(u64::try_from(more).expect("usize fits u64"));
    }
}

counters! {
    /// What a flusher did, over all its stores.
    FlusherStats {
        /// Rounds of the log thread; each syncs every store that has records once.
        rounds,
        /// Appends that those rounds served: divide by `rounds` for how well puts share them.
        appends,
        /// Bytes written to segments.
        segment_bytes,
        /// Syncs of segments.
        segment_syncs,
        /// Extents that those syncs served.
        segment_extents,
    }
}

counters! {
    /// What a store did since it was opened.
    StoreStats {
        /// Durable writes to the log, one sync each.
        log_groups,
        /// Bytes of them, padding included.
        log_bytes,
        /// Records in them.
        log_records,
        /// Shards stored.
        puts,
        /// Their bytes.
        put_bytes,
        /// Reads answered.
        reads,
        /// Their bytes.
        read_bytes,
        /// Reads that waited for the device.
        cold_reads,
        /// Shards found corrupt, by reads, scrubs and compaction.
        corrupt,
        /// Shards compared by scrubs.
        scrubbed,
        /// Their bytes.
        scrubbed_bytes,
        /// Bytes given back by punching.
        punched_bytes,
        /// Log files compacted.
        compacted_files,
        /// Bytes of records copied for it.
        compacted_bytes,
    }
}

impl FlusherStats {
    pub(crate) fn round(&self, appends: usize) {
        self.rounds.add(1);
        self.appends.add_usize(appends);
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.segment_bytes.add_usize(bytes);
    }

    pub(crate) fn segment_sync(&self, extents: usize) {
        self.segment_syncs.add(1);
        self.segment_extents.add_usize(extents);
    }
}

impl StoreStats {
    pub(crate) fn log_group(&self, bytes: u64, records: u32) {
        self.log_groups.add(1);
        self.log_bytes.add(bytes);
        self.log_records.add(u64::from(records));
    }

    pub(crate) fn put(&self, bytes: u32) {
        self.puts.add(1);
        self.put_bytes.add(u64::from(bytes));
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.reads.add(1);
        self.read_bytes.add_usize(bytes);
    }

    pub(crate) fn punched(&self, bytes: u64) {
        self.punched_bytes.add(bytes);
    }
}
