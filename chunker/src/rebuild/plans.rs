//! Remembers rebuilders by erasure pattern, so that a pattern costs its 0.3 ms once.

use super::{Rebuilder, RebuilderError, normalised};
use crate::coding::Coding;
use crate::id::ShardIndex;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a rebuilder is made for: coding, sources, wanted shards.
type Pattern = (Coding, Vec<ShardIndex>, Vec<ShardIndex>);

/// Rebuilders by erasure pattern, so that each pattern is planned once. Cheap to share; at most
/// [`PLANS_MAX`](Self::PLANS_MAX) are kept (4+2 has fewer than 100 that occur).
#[derive(Default)]
pub struct RebuildPlans {
    plans: Mutex<HashMap<Pattern, Arc<Rebuilder>>>,
}

impl RebuildPlans {
    /// Plans kept; past it all are forgotten and planned again as needed.
    pub const PLANS_MAX: usize = 1024;

    /// No plans yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rebuilder for this pattern, as [`Rebuilder::new`] makes it.
    pub fn get(
        &self,
        coding: Coding,
        available: &[ShardIndex],
        wanted: &[ShardIndex],
    ) -> Result<Arc<Rebuilder>, RebuilderError> {
        let (sources, wanted) = normalised(coding, available, wanted)?;
        let pattern = (coding, sources, wanted);
        // A panic cannot leave the map half changed, so a poisoned one is still good.
        let found = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(&pattern).cloned();
        if let Some(plan) = found {
            return Ok(plan);
        }
        // Planned outside of the lock: two threads may plan the same, and one plan is kept.
        let plan = Arc::new(Rebuilder::new(coding, &pattern.1, &pattern.2)?);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= Self::PLANS_MAX {
            plans.clear();
        }
        Ok(plans.entry(pattern).or_insert(plan).clone())
    }
}
