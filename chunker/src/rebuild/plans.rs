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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_planned_once_however_it_is_written() {
        let coding = Coding::new(4, 2).unwrap();
        let plans = RebuildPlans::new();
        let get = |left: &[u8], wanted: &[u8]| {
            let shards = |indices: &[u8]| indices.iter().map(|i| ShardIndex(*i)).collect::<Vec<_>>();
            plans.get(coding, &shards(left), &shards(wanted))
        };
        let plan = get(&[0, 1, 3, 4], &[2]).unwrap();
        assert!(Arc::ptr_eq(&plan, &get(&[4, 3, 1, 0, 5], &[2, 2]).unwrap()));
        assert!(!Arc::ptr_eq(&plan, &get(&[0, 1, 3, 5], &[2]).unwrap()));
        assert!(!Arc::ptr_eq(&plan, &get(&[0, 1, 3, 4], &[2, 5]).unwrap()));
        assert!(get(&[0, 1, 3], &[2]).is_err());
    }

    #[test]
    fn the_memory_of_plans_is_bounded() {
        let coding = Coding::new(1, 63).unwrap();
        let plans = RebuildPlans::new();
        for source in coding.shard_indices() {
            for wanted in coding.shard_indices() {
                plans.get(coding, &[source], &[wanted]).unwrap();
                assert!(plans.plans.lock().unwrap().len() <= RebuildPlans::PLANS_MAX);
            }
        }
    }
}
