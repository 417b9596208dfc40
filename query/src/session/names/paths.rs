//! Paths in FROM: which objects they name, and what columns these have.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::TableReference;
use datafusion::datasource::table_schema::TableSchema;

use super::functions::PathFunction;
use crate::error::{SqlError, SqlState};
use crate::location::Location;
use crate::scan::format::Format;
use crate::scan::lease::HeldLease;
use crate::scan::pins::Pins;
use crate::scan::table::ObjectsTable;
use crate::scan::{partitions, schema};
use crate::session::planning::Planner;

/// A path with what was said about its format.
#[derive(Clone, Debug)]
pub(crate) struct PathTable {
    pub(crate) location: Location,
    /// `None`: by the objects' names.
    pub(crate) format: Option<Format>,
}

/// The path that a name is; `None` for other names.
pub(super) fn path_of(
    reference: &TableReference,
    functions: &HashMap<String, PathFunction>,
) -> Result<Option<PathTable>, SqlError> {
    let TableReference::Bare { table } = reference else { return Ok(None) };
    if let Some(function) = functions.get(&**table) {
        return Ok(Some(function.table.clone()));
    }
    if !table.contains("://") {
        return Ok(None);
    }
    Ok(Some(PathTable { location: Location::parse(table)?, format: None }))
}

/// Columns of a path, from its objects.
pub(crate) async fn of_path(
    planner: &Planner,
    lease: &Arc<HeldLease>,
    pins: &Pins,
    path: PathTable,
) -> Result<ObjectsTable, SqlError> {
    let PathTable { location, format } = path;
    let objects = pins.of(&location).unwrap_or_else(|| Arc::from([]));
    let Some(first) = objects.first() else {
        return Err(SqlError::new(SqlState::UndefinedTable, format!("there are no objects at {location}")));
    };
    let format = match format {
        Some(format) => format,
        None => {
            let format = Format::of_name(first.key.as_str()).ok_or_else(|| {
                SqlError::invalid(format!(
                    "the name of s3://{}/{} does not tell its format",
                    first.bucket, first.key
                ))
                .hint("say it: read_parquet(path), read_csv(path), read_json(path) or read_arrow(path)")
            })?;
            let other =
                objects.iter().find(|object| Format::of_name(object.key.as_str()).as_ref() != Some(&format));
            if let Some(other) = other {
                return Err(SqlError::invalid(format!(
                    "s3://{}/{} and s3://{}/{} are not in the same format",
                    first.bucket, first.key, other.bucket, other.key
                ))
                .hint(format!("a pattern chooses: '{location}*.parquet'")));
            }
            format
        }
    };
    let footers = &planner.engine.inner.footers;
    let of_files = schema::infer(lease, footers, &format, &objects).await?;
    let mut of_folders = partitions::infer(&location, &objects)?;
    // What the files say themselves needs no folder.
    of_folders.retain(|folder| of_files.field_with_name(folder.name()).is_err());
    let schema = TableSchema::builder(of_files).with_table_partition_cols(of_folders).build();
    Ok(ObjectsTable { location, format, schema, footers: Arc::clone(footers) })
}

impl Planner {
    /// Columns of files and of folders at a location.
    pub(crate) async fn columns_of(
        &self,
        location: &Location,
        format: &Format,
    ) -> Result<(Vec<FieldRef>, Vec<FieldRef>), SqlError> {
        let catalog = self.catalog().await?;
        let pins = self.pins(Arc::clone(&catalog.lease), &catalog.moment, vec![location.clone()]).await?;
        let path = PathTable { location: location.clone(), format: Some(format.clone()) };
        let table = of_path(self, &catalog.lease, &pins, path).await?;
        let of_files = table.schema.file_schema().fields().iter().cloned().collect();
        Ok((of_files, table.schema.table_partition_cols().iter().cloned().collect()))
    }
}
