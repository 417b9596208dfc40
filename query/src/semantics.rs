//! Where answers are to be other than DataFusion's own: what would be wrong, or have too few digits.
//!
//! Invariant: nothing here makes an answer that neither PostgreSQL nor DuckDB would give; what cannot be mended is
//! refused.

mod average;
mod division;
mod lengths;
mod nulled;
mod pushdown;
mod rounding;
mod select;
mod single;

use std::sync::Arc;

use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

pub(crate) use self::select::mend;

/// What every session begins with.
pub(crate) fn base(config: SessionConfig) -> SessionState {
    let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
    let rules = state.physical_optimizers().iter().map(|rule| pushdown::guarded(Arc::clone(rule)));
    let rules = std::iter::once(nulled::rule()).chain(rules).collect();
    let logical = state.optimizers().iter().map(|rule| pushdown::guarded_logical(Arc::clone(rule))).collect();
    let planners =
        std::iter::once(division::planner()).chain(state.expr_planners().iter().cloned()).collect();
    let scalars = state.scalar_functions().values().map(|one| lengths::bounded(Arc::clone(one))).collect();
    let averages = average::function();
    let mut functions: Vec<_> = state.aggregate_functions().values().cloned().collect();
    functions.retain(|function| function.name() != averages.name());
    functions.push(averages);
    functions.push(single::function());
    SessionStateBuilder::new_from_existing(state)
        .with_optimizer_rules(logical)
        .with_physical_optimizer_rules(rules)
        .with_analyzer_rule(rounding::rule())
        .with_expr_planners(planners)
        .with_scalar_functions(scalars)
        .with_aggregate_functions(functions)
        .build()
}
