//! Definitions as they are stored: JSON, one object each.
//!
//! Invariant: fields are only ever added. Types are written as Arrow writes them, which reads back the same.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::{SqlError, SqlState};
use crate::scan::format::Format;

/// Where a schema lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SchemaDefinition {
    pub(crate) name: String,
    /// `s3://bucket/prefix/`
    pub(crate) location: String,
    /// User id of who made it.
    pub(crate) owner: String,
}

/// A table or view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableDefinition {
    /// Tells two tables of one name apart.
    pub(crate) id: String,
    /// User id of who made it.
    pub(crate) owner: String,
    /// What it is.
    #[serde(flatten)]
    pub(crate) kind: TableKind,
}

/// What a definition is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TableKind {
    /// Objects.
    Table(StoredTable),
    /// A query.
    View(View),
}

/// A table of objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredTable {
    pub(crate) location: String,
    pub(crate) format: Format,
    pub(crate) columns: Vec<Column>,
    /// Folders below the location.
    pub(crate) partitions: Vec<Column>,
    /// Whether its objects go with it.
    pub(crate) managed: bool,
}

/// A view: run as whoever asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct View {
    pub(crate) query: String,
    pub(crate) search_path: Vec<String>,
    pub(crate) columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) data_type: String,
}

/// Columns to store.
pub(crate) fn to_columns<'a>(fields: impl IntoIterator<Item = &'a FieldRef>) -> Vec<Column> {
    let column =
        |field: &FieldRef| Column { name: field.name().clone(), data_type: field.data_type().to_string() };
    fields.into_iter().map(column).collect()
}

/// Longest name of a type, and how deep it may be nested: reading it recurses.
const TYPE_BYTES_MAX: usize = 4 << 10;
const TYPE_DEPTH_MAX: usize = 64;

/// Whether a type's name can be read without recursing far. Anybody who may write below a schema can write it.
fn is_bounded(data_type: &str) -> bool {
    let mut depth = 0_usize;
    data_type.len() <= TYPE_BYTES_MAX
        && data_type.bytes().all(|byte| {
            depth = match byte {
                b'(' | b'<' => depth + 1,
                b')' | b'>' => depth.saturating_sub(1),
                _ => depth,
            };
            depth <= TYPE_DEPTH_MAX
        })
}

/// Columns as stored.
pub(crate) fn of_columns(columns: &[Column]) -> Result<Vec<FieldRef>, SqlError> {
    let field = |column: &Column| {
        if !is_bounded(&column.data_type) {
            return Err(SqlError::new(
                SqlState::DataException,
                format!("column {:?} has no type: its name is too long, or nested too deep", column.name),
            ));
        }
        let data_type: DataType = column.data_type.parse().map_err(|e| {
            SqlError::new(SqlState::DataException, format!("column {:?} has no type: {e}", column.name))
        })?;
        Ok(Arc::new(Field::new(&column.name, data_type, true)))
    };
    columns.iter().map(field).collect()
}

impl TableDefinition {
    /// All columns, partitions last.
    pub(crate) fn schema(&self) -> Result<SchemaRef, SqlError> {
        let fields = match &self.kind {
            TableKind::Table(table) => {
                let mut fields = of_columns(&table.columns)?;
                fields.extend(of_columns(&table.partitions)?);
                fields
            }
            TableKind::View(view) => of_columns(&view.columns)?,
        };
        Ok(Arc::new(Schema::new(fields)))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn hostile_types_are_refused_before_they_are_read() {
        let column = |data_type: String| [Column { name: "x".to_owned(), data_type }];
        for hostile in ["Dictionary(Int32, ".repeat(100_000), "List(".repeat(65), "x".repeat(5_000)] {
            assert!(of_columns(&column(hostile)).is_err());
        }
    }

    #[test]
    fn types_read_back_as_they_were_written() {
        let types = [
            DataType::Int64,
            DataType::Utf8View,
            DataType::Decimal128(15, 2),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::List(Arc::new(Field::new("item", DataType::Float32, true))),
            DataType::Struct(vec![Field::new("a b", DataType::Int32, false)].into()),
        ];
        let fields: Vec<FieldRef> =
            types.iter().map(|t| Arc::new(Field::new("x", t.clone(), true))).collect();
        assert_eq!(of_columns(&to_columns(&fields)).unwrap(), fields);
    }
}
