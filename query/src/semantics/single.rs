//! `single_value`: the one value of a scalar subquery, where more than one row is an error.
//!
//! DataFusion plans a correlated scalar subquery only if an aggregate makes it one row. This is that aggregate for those
//! that name a column alone; `select.rs` writes it in.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::error::{SqlError, SqlState};

/// What it is called in a plan.
pub(super) const NAME: &str = "single_value";

/// The function.
pub(super) fn function() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(SingleValue { signature: Signature::any(1, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SingleValue {
    signature: Signature,
}

impl AggregateUDFImpl for SingleValue {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        arguments.first().cloned().ok_or_else(|| DataFusionError::Plan(format!("{NAME} takes one argument")))
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let none = ScalarValue::try_new_null(arguments.return_field.data_type())?;
        Ok(Box::new(One { value: none, is_seen: false }))
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = Field::new("value", arguments.return_field.data_type().clone(), true);
        Ok(vec![Arc::new(value), Arc::new(Field::new("is_seen", DataType::Boolean, false))])
    }
}

#[derive(Debug)]
struct One {
    value: ScalarValue,
    is_seen: bool,
}

impl One {
    fn see(&mut self, values: &ArrayRef, row: usize) -> Result<()> {
        if self.is_seen {
            let error = SqlError::new(
                SqlState::CardinalityViolation,
                "more than one row returned by a subquery used as an expression",
            );
            return Err(error.into());
        }
        (self.value, self.is_seen) = (ScalarValue::try_from_array(values, row)?, true);
        Ok(())
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        (0..values[0].len().min(2)).try_for_each(|row| self.see(&values[0], row))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let seen = states[1].as_any().downcast_ref::<BooleanArray>();
        let seen = seen.ok_or_else(|| DataFusionError::Internal("a state is not of its type".to_owned()))?;
        (0..seen.len()).filter(|row| seen.value(*row)).try_for_each(|row| self.see(&states[0], row))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Boolean(Some(self.is_seen))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) - size_of_val(&self.value) + self.value.size()
    }
}
