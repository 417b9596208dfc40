//! Hive partitions: `name=value` folders in keys, and which objects a filter on them leaves.
//!
//! Invariant: an object is left out only if the filter is false or NULL for its folders; an object without a
//! folder that others have is an error, not NULL in silence.

use std::borrow::Cow;
use std::sync::Arc;

use ashlar_objects::pinning::PinnedObject;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;

use crate::error::{SqlError, SqlState};
use crate::location::Location;

/// What Hive calls a folder of rows whose value is NULL.
pub(crate) const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// The partition columns of a location, from its objects: integers where all values are, else text.
pub(crate) fn infer(location: &Location, objects: &[PinnedObject]) -> Result<Vec<FieldRef>, SqlError> {
    let Some(first) = objects.first() else { return Ok(Vec::new()) };
    let names: Vec<Cow<'_, str>> = folders(location, first.key.as_str()).map(|(name, _)| name).collect();
    let mut integers = vec![true; names.len()];
    for object in objects {
        let found: Vec<(Cow<'_, str>, &str)> = folders(location, object.key.as_str()).collect();
        if !found.iter().map(|(name, _)| name).eq(names.iter()) {
            return Err(SqlError::new(
                SqlState::DataException,
                format!(
                    "s3://{}/{} lies in other partitions than the first object",
                    object.bucket, object.key
                ),
            ));
        }
        for ((_, value), integer) in found.iter().zip(&mut integers) {
            *integer &= *value == NULL_FOLDER || is_integer(value);
        }
    }
    let kind = |integer| if integer { DataType::Int64 } else { DataType::Utf8View };
    let fields = names.iter().zip(integers);
    Ok(fields.map(|(name, integer)| Arc::new(Field::new(&**name, kind(integer), true))).collect())
}

/// An integer that reads the same when it is written again: `007` is text.
fn is_integer(value: &str) -> bool {
    value.parse::<i64>().is_ok_and(|number| number.to_string() == value)
}

/// Names, and values as they stand in the key.
fn folders<'k>(location: &Location, key: &'k str) -> impl Iterator<Item = (Cow<'k, str>, &'k str)> {
    let folders = location.folders_of(key).split('/').filter_map(|folder| folder.split_once('='));
    folders.map(|(name, value)| (decode(name), value))
}

/// Each object's values, in the order of the columns.
pub(crate) fn values(
    location: &Location,
    columns: &Fields,
    objects: &[PinnedObject],
) -> Result<Vec<ArrayRef>, SqlError> {
    columns
        .iter()
        .map(|column| {
            let texts = objects.iter().map(|object| {
                let found =
                    folders(location, object.key.as_str()).find(|(name, _)| **name == **column.name());
                let (_, value) = found.ok_or_else(|| {
                    SqlError::new(
                        SqlState::DataException,
                        format!(
                            "s3://{}/{} lies in no partition {:?}",
                            object.bucket,
                            object.key,
                            column.name()
                        ),
                    )
                })?;
                Ok((value != NULL_FOLDER).then(|| decode(value)))
            });
            let texts: StringArray = texts.collect::<Result<Vec<_>, SqlError>>()?.into_iter().collect();
            let typed = cast(&texts, column.data_type())?;
            if typed.null_count() > texts.null_count() {
                return Err(SqlError::new(
                    SqlState::InvalidTextRepresentation,
                    format!("a value of partition {:?} is not {}", column.name(), column.data_type()),
                ));
            }
            Ok(typed)
        })
        .collect()
}

/// Writers percent-encode what a folder's name cannot hold.
fn decode(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

/// Whether a filter speaks of these columns alone.
pub(crate) fn is_about(filter: &Expr, columns: &Fields) -> bool {
    let used = filter.column_refs();
    !used.is_empty()
        && !filter.is_volatile()
        && used.iter().all(|used| columns.iter().any(|column| column.name() == &used.name))
}

/// Which objects the filters leave, by their values.
pub(crate) fn keep(
    state: &dyn Session,
    columns: &Fields,
    values: &[ArrayRef],
    filters: &[&Expr],
    objects: usize,
) -> Result<Vec<bool>, SqlError> {
    let mut kept = vec![true; objects];
    if filters.is_empty() || objects == 0 {
        return Ok(kept);
    }
    let schema = Arc::new(Schema::new(columns.clone()));
    let of_columns = DFSchema::try_from(Arc::clone(&schema))?;
    let batch = RecordBatch::try_new(schema, values.to_vec())?;
    for filter in filters {
        let bare = Expr::clone(filter);
        let bare = datafusion::logical_expr::expr_rewriter::unnormalize_col(bare);
        let test = state.create_physical_expr(bare, &of_columns)?;
        let passed = test.evaluate(&batch)?.into_array(objects)?;
        let passed = passed.as_boolean_opt().ok_or_else(|| SqlError::invalid("a filter is true or false"))?;
        for (kept, passed) in kept.iter_mut().zip(passed) {
            *kept &= passed == Some(true);
        }
    }
    Ok(kept)
}

/// One object's values as scalars.
pub(crate) fn scalars(values: &[ArrayRef], object: usize) -> Result<Vec<ScalarValue>, SqlError> {
    values.iter().map(|column| ScalarValue::try_from_array(column, object).map_err(SqlError::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_only_if_nothing_is_lost() {
        assert!(
            is_integer("12")
                && is_integer("-3")
                && !is_integer("007")
                && !is_integer("1.5")
                && !is_integer("")
        );
    }

    #[test]
    fn folders_are_read_from_keys() {
        let location = Location::parse("s3://bucket/t/").unwrap();
        let found: Vec<_> = folders(&location, "t/y=2024/x/m=a%20b/part-0.parquet").collect();
        assert_eq!(found, [("y".into(), "2024"), ("m".into(), "a%20b")]);
        assert_eq!(decode("a%20b"), "a b");
    }
}
