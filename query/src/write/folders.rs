//! Columns that become folders, as Hive writes them: `name=value`, with what a name cannot hold percent-encoded.
//!
//! Invariant: every value, NULL and the empty text among them, has a folder of its own that reads back as that value.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::{can_cast_types, cast};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::error::SqlError;
use crate::scan::partitions::NULL_FOLDER;

/// What Hive keeps out of a folder's name, beside control characters.
const ENCODED: &str = "\"#%'*/:=?\\{}[]^";

/// Columns by name and type.
type Columns = Vec<(String, DataType)>;

/// A plan whose partition columns are texts that can stand in a folder's name, and the columns' names likewise.
pub(super) fn named(
    input: Arc<dyn ExecutionPlan>,
    partitions: &[(String, DataType)],
    options: &Arc<ConfigOptions>,
) -> Result<(Arc<dyn ExecutionPlan>, Columns), SqlError> {
    if partitions.is_empty() {
        return Ok((input, Vec::new()));
    }
    let schema = input.schema();
    let text = Arc::new(text_of_folder());
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (at, field) in schema.fields().iter().enumerate() {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
        if !partitions.iter().any(|(name, _)| name == field.name()) {
            columns.push(ProjectionExpr { expr: column, alias: field.name().clone() });
            continue;
        }
        check_type(field)?;
        let alias = encode(field.name()).into_owned();
        if alias != *field.name() && schema.field_with_name(&alias).is_ok() {
            return Err(SqlError::unsupported(format!(
                "a column {alias:?} beside a partition {:?}",
                field.name()
            )));
        }
        let to = Arc::new(Field::new(&alias, DataType::Utf8, false));
        let name = text.name();
        let expr = ScalarFunctionExpr::new(name, Arc::clone(&text), vec![column], to, Arc::clone(options));
        columns.push(ProjectionExpr { expr: Arc::new(expr), alias });
    }
    let partitions = partitions.iter().map(|(name, _)| (encode(name).into_owned(), DataType::Utf8)).collect();
    Ok((Arc::new(ProjectionExec::try_new(columns, input)?), partitions))
}

fn check_type(field: &Field) -> Result<(), SqlError> {
    let data_type = field.data_type();
    let is_bytes = matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    );
    if is_bytes || data_type.is_nested() || !can_cast_types(data_type, &DataType::Utf8) {
        return Err(SqlError::unsupported(format!("a partition of type {data_type} ({:?})", field.name())));
    }
    Ok(())
}

fn text_of_folder() -> ScalarUDF {
    let texts = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let texts: ArrayRef = Arc::new(folders_of(&arrays[0])?);
        Ok(ColumnarValue::Array(texts))
    };
    create_udf("text_of_folder", Vec::new(), DataType::Utf8, Volatility::Immutable, Arc::new(texts))
}

/// One folder's text for each value.
fn folders_of(values: &ArrayRef) -> datafusion::error::Result<StringArray> {
    let texts = cast(values, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    Ok(StringArray::from_iter_values(
        (0..texts.len()).map(|row| {
            if texts.is_null(row) { Cow::Borrowed(NULL_FOLDER) } else { of_value(texts.value(row)) }
        }),
    ))
}

fn of_value(text: &str) -> Cow<'_, str> {
    if text == NULL_FOLDER {
        // The text of this name is not NULL: encoded, it reads back as itself.
        return Cow::Owned(format!("%5F{}", &NULL_FOLDER[1..]));
    }
    encode(text)
}

fn encode(text: &str) -> Cow<'_, str> {
    let is_encoded = |c: char| c.is_ascii_control() || ENCODED.contains(c);
    if !text.contains(is_encoded) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_encoded(c) {
            encoded.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            encoded.push(c);
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_tell_values_apart() {
        let values: ArrayRef =
            Arc::new(StringArray::from(vec![None, Some(""), Some("a/b%2F"), Some("é"), Some(NULL_FOLDER)]));
        let folders = folders_of(&values).unwrap();
        let folders: Vec<_> = folders.iter().flatten().collect();
        assert_eq!(folders, [NULL_FOLDER, "", "a%2Fb%252F", "é", "%5F_HIVE_DEFAULT_PARTITION__"]);
    }
}
