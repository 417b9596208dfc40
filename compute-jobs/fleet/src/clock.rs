//! The time of day in Unix seconds, as blocks carry it: given by who assembles the process.

use std::sync::Arc;

/// Unix seconds, now.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
