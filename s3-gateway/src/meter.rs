//! What the gateway tells about itself: requests, latency, bytes, in flight; and the log line of a failure.
//!
//! Invariant: names and labels are fixed and few, so that a client cannot grow the set of time series.
//! Uses the `metrics` facade; whoever installs a recorder before the first request sees everything.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Instant;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::RwLock;

use crate::failure::Failure;
use crate::operation::Operation;

struct PerOperation {
    ok: Counter,
    seconds: Histogram,
}

/// Handles of all series, made at first use.
#[derive(Default)]
pub(crate) struct Meter {
    operations: Vec<OnceLock<PerOperation>>,
    unknown: OnceLock<PerOperation>,
    failures: RwLock<HashMap<(&'static str, String), Counter>>,
    bytes_in: OnceLock<Counter>,
    bytes_out: OnceLock<Counter>,
    in_flight: OnceLock<Gauge>,
}

/// Name of requests that could not be told to be any operation.
const UNKNOWN: &str = "Unknown";
/// Codes come from a closed list, but s3s may add its own.
const FAILURE_SERIES_MAX: usize = 2048;

impl Meter {
    pub(crate) fn new() -> Self {
        Self { operations: Operation::ALL.iter().map(|_| OnceLock::new()).collect(), ..Self::default() }
    }

    fn of(&self, operation: Option<Operation>) -> &PerOperation {
        let name = operation.map_or(UNKNOWN, Operation::name);
        let slot = operation.map_or(&self.unknown, |operation| &self.operations[operation.index()]);
        slot.get_or_init(|| PerOperation {
            ok: counter!("ashlar_s3_requests_total", "operation" => name, "code" => "OK"),
            seconds: histogram!("ashlar_s3_request_seconds", "operation" => name),
        })
    }

    /// A request was answered.
    pub(crate) fn answered(&self, operation: Option<Operation>) {
        self.of(operation).ok.increment(1);
    }

    /// A request failed; says so in the log: a client's mistakes at debug, ours at error, overload at warn.
    pub(crate) fn failed(&self, operation: Option<Operation>, failure: &Failure, request_id: &str) {
        let name = operation.map_or(UNKNOWN, Operation::name);
        let (code, message) = (failure.code(), failure.message());
        match (failure.status().as_u16(), failure.fault()) {
            (500.., Some(fault)) => {
                tracing::error!(target: "ashlar_s3", request_id, operation = name, code, %fault, fault_detail = ?fault, "request failed");
            }
            (501, None) => {
                tracing::debug!(target: "ashlar_s3", request_id, operation = name, code, message, "request refused")
            }
            (500.., None) => {
                tracing::warn!(target: "ashlar_s3", request_id, operation = name, code, message, "request failed")
            }
            _ => {
                tracing::debug!(target: "ashlar_s3", request_id, operation = name, code, message, "request refused")
            }
        }
        let key = (name, code.to_owned());
        if let Some(counter) = self.failures.read().get(&key) {
            counter.increment(1);
            return;
        }
        let mut failures = self.failures.write();
        let code = if failures.len() < FAILURE_SERIES_MAX { key.1.clone() } else { "Other".to_owned() };
        let made = counter!("ashlar_s3_requests_total", "operation" => name, "code" => code.clone());
        failures.entry((name, code)).or_insert(made).increment(1);
    }

    /// A request and its answer are over.
    pub(crate) fn over(&self, operation: Option<Operation>, started: Instant) {
        self.of(operation).seconds.record(started.elapsed().as_secs_f64());
    }

    pub(crate) fn bytes_in(&self) -> Bytes {
        Bytes::new(self.bytes_in.get_or_init(|| counter!("ashlar_s3_bytes_in_total")).clone())
    }

    pub(crate) fn bytes_out(&self) -> Bytes {
        Bytes::new(self.bytes_out.get_or_init(|| counter!("ashlar_s3_bytes_out_total")).clone())
    }

    pub(crate) fn in_flight(&self) -> &Gauge {
        self.in_flight.get_or_init(|| gauge!("ashlar_s3_in_flight"))
    }
}

/// Counts the bytes of one body; tells the counter in steps, not for every frame.
pub(crate) struct Bytes {
    counter: Counter,
    untold: u64,
}

/// Bytes after which a body under way shows in the counter.
const STEP_BYTES: u64 = 1 << 20;

impl Bytes {
    fn new(counter: Counter) -> Self {
        Self { counter, untold: 0 }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.untold += u64::try_from(bytes).expect("a length fits u64");
        if self.untold >= STEP_BYTES {
            self.counter.increment(std::mem::take(&mut self.untold));
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if self.untold > 0 {
            self.counter.increment(self.untold);
        }
    }
}
