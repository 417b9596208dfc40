//! The time of day, which blocks carry: the one place of the dev chain that asks the system for it.
//!
//! Nothing rests on it but block timestamps, and those never go back: a block's is at least its parent's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the time of day comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// Set by hand, for tests: Unix seconds.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// Now, in Unix seconds; zero where the system's clock stands before 1970.
    pub fn unix_seconds(&self) -> u64 {
        match self {
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            Self::Manual(seconds) => seconds.load(Ordering::Relaxed),
        }
    }
}
