//! What the names of one statement stand for: paths in FROM, `read_*` functions.
//!
//! Invariant: all names are resolved before planning, all their locations at one moment, as the caller may read
//! them. What DataFusion asks for besides is not there.

mod functions;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;

use self::functions::PathFunction;
use super::planning::Planner;
use crate::engine::{CATALOG, DEFAULT_SCHEMA};
use crate::error::{SqlError, SqlState};
use crate::location::Location;
use crate::scan::format::Format;
use crate::scan::lease::HeldLease;
use crate::scan::pins::Pins;
use crate::scan::table::ObjectsTable;
use crate::scan::{partitions, schema};

/// Most tables that one statement names.
const NAMES_MAX: usize = 1_000;

/// Tables by schema and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    schemas: HashMap<String, HashMap<String, Arc<dyn TableProvider>>>,
}

/// A path with what was said about its format.
#[derive(Clone, Debug)]
pub(crate) struct PathTable {
    pub(crate) location: Location,
    /// `None`: by the objects' names.
    pub(crate) format: Option<Format>,
}

impl Names {
    /// Resolves every name of a statement; rewrites `read_*` functions to names.
    pub(crate) async fn resolve(planner: &Planner, statement: &mut Statement) -> Result<Self, SqlError> {
        let functions = functions::take(statement)?;
        let (references, _) = resolve_table_references(statement, true)?;
        if references.len() > NAMES_MAX {
            return Err(SqlError::new(
                SqlState::ProgramLimitExceeded,
                format!("a statement names at most {NAMES_MAX} tables"),
            ));
        }
        let mut paths = Vec::new();
        for reference in references {
            if let Some(path) = path_of(&reference, &functions)? {
                paths.push((reference.table().to_owned(), path));
            }
        }
        let mut names = Self::default();
        if !paths.is_empty() {
            let (lease, moment) = planner.moment().await?;
            let mut locations: Vec<Location> = Vec::new();
            for (_, path) in &paths {
                if !locations.contains(&path.location) {
                    locations.push(path.location.clone());
                }
            }
            let store = &planner.engine.inner.store;
            let pins = Pins::resolve(store, &planner.cx, Arc::clone(&lease), &moment, locations).await?;
            drop(moment);
            for (name, path) in paths {
                let table = of_path(planner, &lease, &pins, path).await?;
                names.put(DEFAULT_SCHEMA, &name, Arc::new(table));
            }
        }
        Ok(names)
    }

    fn put(&mut self, schema: &str, name: &str, table: Arc<dyn TableProvider>) {
        self.schemas.entry(schema.to_owned()).or_default().insert(name.to_owned(), table);
    }
}

/// The path that a name is; `None` for other names.
fn path_of(
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
async fn of_path(
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

impl CatalogProviderList for Names {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| -> Arc<dyn CatalogProvider> { Arc::new(self.clone()) })
    }
}

impl CatalogProvider for Names {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas
            .get(name)
            .map(|tables| -> Arc<dyn SchemaProvider> { Arc::new(OneSchema(tables.clone())) })
    }
}

#[derive(Debug)]
struct OneSchema(HashMap<String, Arc<dyn TableProvider>>);

#[async_trait]
impl SchemaProvider for OneSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.keys().filter(|name| !name.contains(['/', '#'])).cloned().collect()
    }

    async fn table(&self, name: &str) -> datafusion::error::Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.get(name).map(Arc::clone))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
