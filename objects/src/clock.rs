//! The time of day, as shown to people: the one place that asks the system for it.
//!
//! Retention periods and lifecycle rules are judged by it, as their dates are the calendar's. Nothing else
//! rests on it: versions are ordered by sequence and positions by the KV.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::types::UnixMillis;

/// Where the time of day comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's.
    System,
    /// Set by hand, for tests and simulation: Unix milliseconds.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// Now.
    pub fn now(&self) -> UnixMillis {
        match self {
            Self::System => {
                let since =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Self::Manual(millis) => UnixMillis(millis.load(Ordering::Relaxed)),
        }
    }
}
