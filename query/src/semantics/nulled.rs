//! Columns that an outer join or a grouping set may make NULL are no constants, whatever they are below.
//!
//! DataFusion keeps what it knows of a join's sides for its result: a column that is 5 in every row of the side that may
//! be missing counts as 5 behind the join, and an ORDER BY of it is left out. So a node below such a join, and below
//! grouping sets, forgets which columns are constant.
//!
//! Invariant: rows, their order and their partitions are those of the input.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Statistics};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::{
    ChildStats, ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties, ReplaceChildrenOptions, StatisticsArgs,
};

/// The rule, to run before all others: afterwards sorts are gone.
pub(super) fn rule() -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
    Arc::new(ForgetConstants)
}

#[derive(Debug)]
struct ForgetConstants;

impl PhysicalOptimizerRule for ForgetConstants {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let nulled = nulled(&node);
            let children: Vec<_> = node.children().into_iter().map(Arc::clone).collect();
            if !children.iter().zip(&nulled).any(|(child, nulled)| *nulled && has_constants(child)) {
                return Ok(Transformed::no(node));
            }
            let children = children.into_iter().zip(nulled).map(|(child, nulled)| {
                if nulled && has_constants(&child) { Arc::new(Forgetful::new(child)) } else { child }
            });
            let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Ok(Transformed::yes(node.replace_children(children.collect(), recompute)?))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "forget_constants"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Of each child whether the node makes its columns NULL in some rows.
fn nulled(node: &Arc<dyn ExecutionPlan>) -> Vec<bool> {
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return vec![aggregate.group_expr().has_grouping_set()];
    }
    let join = (node.downcast_ref::<HashJoinExec>().map(|join| *join.join_type()))
        .or_else(|| node.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type()))
        .or_else(|| node.downcast_ref::<SortMergeJoinExec>().map(|join| join.join_type()));
    match join {
        Some(JoinType::Left) => vec![false, true],
        Some(JoinType::Right) => vec![true, false],
        Some(JoinType::Full) => vec![true, true],
        _ => vec![false; node.children().len()],
    }
}

fn has_constants(plan: &Arc<dyn ExecutionPlan>) -> bool {
    !plan.equivalence_properties().constants().is_empty()
}

/// Its input, of which only the order is known.
#[derive(Debug)]
struct Forgetful {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Forgetful {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let known = input.equivalence_properties();
        // An order may leave out what is constant: with constants forgotten it would say too much, but for its first
        // columns, and those are not worth the trouble.
        let forgotten = EquivalenceProperties::new(Arc::clone(known.schema()));
        let properties = PlanProperties::clone(input.properties()).with_eq_properties(forgotten);
        Self { properties: Arc::new(properties), input }
    }
}

impl DisplayAs for Forgetful {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Forgetful")
    }
}

impl ExecutionPlan for Forgetful {
    fn name(&self) -> &'static str {
        "Forgetful"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input))),
            _ => Err(DataFusionError::Internal("a node of one child was given others".to_owned())),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::clone(&inputs[0]))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
