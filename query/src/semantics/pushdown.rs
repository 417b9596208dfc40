//! Keeps filters from being pushed through projections whose columns share a name: DataFusion finds columns by name
//! there, and the filter then tests the wrong one.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// The rule, or the same with a guard in front if it pushes filters.
pub(super) fn guarded(rule: Rule) -> Rule {
    if rule.name().starts_with("FilterPushdown") { Arc::new(Guarded(rule)) } else { rule }
}

#[derive(Debug)]
struct Guarded(Rule);

impl PhysicalOptimizerRule for Guarded {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if shares_names(&plan)? { Ok(plan) } else { self.0.optimize(plan, config) }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Whether columns of a projection, or of what it reads, share a name.
fn shares_names(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut found = false;
    let shares = |plan: &dyn ExecutionPlan| {
        let schema = plan.schema();
        let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        names.sort_unstable();
        names.windows(2).any(|two| two[0] == two[1])
    };
    plan.apply(|node| {
        if let Some(projection) = node.downcast_ref::<ProjectionExec>()
            && (shares(projection) || shares(&**projection.input()))
        {
            found = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
