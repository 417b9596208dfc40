//! What becomes an integer is rounded, as PostgreSQL does it: DataFusion cuts off what is behind the point.
//!
//! Put right when a plan is analysed, after types are known and before constants are folded. Does not know who wrote the
//! cast.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast,
};
use datafusion::optimizer::AnalyzerRule;

/// The rule, to run when types are known.
pub(super) fn rule() -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(Rounding {
        rounded: Arc::new(ScalarUDF::from(Rounded { signature: Signature::any(1, Volatility::Immutable) })),
    })
}

#[derive(Debug)]
struct Rounding {
    rounded: Arc<ScalarUDF>,
}

impl AnalyzerRule for Rounding {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let mut schema = merge_schema(&node.inputs());
            if let LogicalPlan::TableScan(scan) = &node {
                let columns =
                    DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
                schema.merge(&columns);
            }
            let names = NamePreserver::new(&node);
            let mended = node.map_expressions(|expr| {
                let name = names.save(&expr);
                let mended = expr.transform_up(|one| self.mend(one, &schema))?;
                Ok(mended.update_data(|expr| name.restore(expr)))
            })?;
            if mended.transformed { mended.map_data(LogicalPlan::recompute_schema) } else { Ok(mended) }
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "rounding"
    }
}

impl Rounding {
    fn mend(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let Expr::Cast(Cast { expr, field }) = expr else { return Ok(Transformed::no(expr)) };
        if !field.data_type().is_integer() {
            return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
        }
        // What cannot be typed here, such as a parameter, is analysed again once it is known.
        let whole = match expr.get_type(schema) {
            Ok(DataType::Float32 | DataType::Float64) => self.rounded.call(vec![*expr]),
            Ok(DataType::Decimal128(precision, scale)) if scale > 0 => {
                cast(*expr, DataType::Decimal128(whole_digits(precision, scale, 38), 0))
            }
            Ok(DataType::Decimal256(precision, scale)) if scale > 0 => {
                cast(*expr, DataType::Decimal256(whole_digits(precision, scale, 76), 0))
            }
            _ => return Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
        };
        Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(whole), field })))
    }
}

/// Digits before the point, and one more that rounding may bring.
fn whole_digits(precision: u8, scale: i8, maximum: u8) -> u8 {
    precision.saturating_sub(scale.unsigned_abs()).saturating_add(1).clamp(1, maximum)
}

/// The nearest whole number, of two the even one, as PostgreSQL rounds doubles.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounded {
    signature: Signature,
}

impl ScalarUDFImpl for Rounded {
    fn name(&self) -> &'static str {
        "rounded"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        one_type(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [values] = values.as_slice() else { return Err(wrong_arguments()) };
        let rounded: ArrayRef = match values.data_type() {
            DataType::Float32 => {
                Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::round_ties_even))
            }
            DataType::Float64 => {
                Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round_ties_even))
            }
            _ => return Err(wrong_arguments()),
        };
        Ok(ColumnarValue::Array(rounded))
    }
}

fn one_type(arguments: &[DataType]) -> Result<DataType> {
    arguments.first().cloned().ok_or_else(wrong_arguments)
}

fn wrong_arguments() -> DataFusionError {
    DataFusionError::Internal("rounding was given another argument than it was planned for".to_owned())
}
