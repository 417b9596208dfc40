//! Keeps filters where they are if DataFusion would push them too far.
//!
//! Through projections whose columns share a name: it finds columns by name there, and the filter then tests the wrong
//! one. And below an aggregate of all rows if they name no column: the aggregate has its row whatever it is made of.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// The rule, or the same with a guard in front if it pushes filters.
pub(super) fn guarded(rule: Rule) -> Rule {
    if rule.name().starts_with("FilterPushdown") { Arc::new(Guarded(rule)) } else { rule }
}

type LogicalRule = Arc<dyn OptimizerRule + Send + Sync>;

/// The same of logical plans.
pub(super) fn guarded_logical(rule: LogicalRule) -> LogicalRule {
    if rule.name() == "push_down_filter" { Arc::new(WithColumns(rule)) } else { rule }
}

#[derive(Debug)]
struct WithColumns(LogicalRule);

impl OptimizerRule for WithColumns {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Filter(filter) = &plan
            && split_conjunction(&filter.predicate).iter().any(|test| test.column_refs().is_empty())
        {
            return Ok(Transformed::no(plan));
        }
        self.0.rewrite(plan, config)
    }
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
