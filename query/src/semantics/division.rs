//! Decimals divided: as doubles, as DuckDB has it. DataFusion's own quotient keeps few digits and cuts off the rest.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// What plans it.
pub(super) fn planner() -> Arc<dyn ExprPlanner> {
    Arc::new(Division)
}

#[derive(Debug)]
struct Division;

impl ExprPlanner for Division {
    fn plan_binary_op(
        &self,
        mut raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if raw.op == BinaryOperator::Divide {
            // A type that is not known yet is a parameter's: it becomes that of the other side.
            let is_decimal = |side: &Expr| side.get_type(schema).is_ok_and(|found| found.is_decimal());
            let is_number = |side: &Expr| side.get_type(schema).is_ok_and(|found| found.is_numeric());
            let decimal = is_decimal(&raw.left) || is_decimal(&raw.right);
            if decimal && is_number(&raw.left) && is_number(&raw.right) {
                raw.left = cast(raw.left, DataType::Float64);
                raw.right = cast(raw.right, DataType::Float64);
            }
        }
        Ok(PlannerResult::Original(raw))
    }
}
