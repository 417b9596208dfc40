//! What the names of one statement stand for: paths in FROM, `read_*` functions, tables and views.
//!
//! Invariant: all names are resolved before planning, all their locations at one moment, as the caller may read
//! them. What DataFusion asks for besides is not there.

mod functions;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::datasource::{TableType, ViewTable};
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::Statement as Ast;

use self::functions::PathFunction;
use super::parse::{self, Step};
use super::planning::Planner;
use crate::catalog::definition::{
    SchemaDefinition, StoredTable, TableDefinition, TableKind, View, of_columns,
};
use crate::catalog::{Catalog, Found};
use crate::engine::{CATALOG, DEFAULT_SCHEMA};
use crate::error::{SqlError, SqlState};
use crate::location::Location;
use crate::scan::format::Format;
use crate::scan::lease::HeldLease;
use crate::scan::pins::Pins;
use crate::scan::table::ObjectsTable;
use crate::scan::{partitions, schema};
use crate::system::{SYSTEM, SystemTable};

/// Schemas that nothing can be made in.
const BUILT_IN: [&str; 3] = [SYSTEM, "information_schema", "pg_catalog"];
/// Deepest nesting of views.
const VIEWS_DEPTH_MAX: usize = 16;
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

/// A name that the catalog has.
#[derive(Clone, Debug)]
pub(crate) struct Catalogued {
    pub(crate) schema: SchemaDefinition,
    pub(crate) name: String,
    pub(crate) found: Found<TableDefinition>,
}

impl Names {
    /// Resolves every name of a statement; rewrites `read_*` functions to names.
    pub(crate) async fn resolve(planner: &Planner, statement: &mut Statement) -> Result<Self, SqlError> {
        Self::resolve_within(planner, statement, VIEWS_DEPTH_MAX).await
    }

    async fn resolve_within(
        planner: &Planner,
        statement: &mut Statement,
        depth: usize,
    ) -> Result<Self, SqlError> {
        let functions = functions::take(statement)?;
        let (references, _) = resolve_table_references(statement, true)?;
        if references.len() > NAMES_MAX {
            return Err(SqlError::new(
                SqlState::ProgramLimitExceeded,
                format!("a statement names at most {NAMES_MAX} tables"),
            ));
        }
        let made = made_by(statement);
        let (mut paths, mut others) = (Vec::new(), Vec::new());
        for reference in references {
            match path_of(&reference, &functions)? {
                Some(path) => paths.push((reference.table().to_owned(), path)),
                None if made.as_deref() == Some(&reference.to_string()) => {}
                None => others.push(reference),
            }
        }
        let mut names = Self::default();
        if paths.is_empty() && others.is_empty() {
            return Ok(names);
        }
        let catalog = planner.catalog().await?;
        names.put_paths(planner, &catalog, paths).await?;
        if others.iter().any(|name| name.schema() == Some("information_schema")) {
            names.describe_all(&catalog).await?;
        }
        for reference in others {
            names.put_other(planner, &catalog, &reference, depth).await?;
        }
        Ok(names)
    }

    async fn put_paths(
        &mut self,
        planner: &Planner,
        catalog: &Catalog,
        paths: Vec<(String, PathTable)>,
    ) -> Result<(), SqlError> {
        let mut locations: Vec<Location> = Vec::new();
        for (_, path) in &paths {
            if !locations.contains(&path.location) {
                locations.push(path.location.clone());
            }
        }
        if locations.is_empty() {
            return Ok(());
        }
        let pins = planner.pins(Arc::clone(&catalog.lease), &catalog.moment, locations).await?;
        for (name, path) in paths {
            let table = of_path(planner, &catalog.lease, &pins, path).await?;
            self.put(DEFAULT_SCHEMA, &name, Arc::new(table));
        }
        Ok(())
    }

    /// A table or view of the catalog, or a table of `system`; what is not there stays so.
    async fn put_other(
        &mut self,
        planner: &Planner,
        catalog: &Catalog,
        reference: &TableReference,
        depth: usize,
    ) -> Result<(), SqlError> {
        if reference.schema() == Some(SYSTEM) {
            if let Some(table) = SystemTable::of_name(reference.table()) {
                self.put(SYSTEM, reference.table(), Arc::new(table));
            }
            return Ok(());
        }
        let Some(Catalogued { name, found, .. }) = planner.find(catalog, reference).await? else {
            return Ok(());
        };
        let provider: Arc<dyn TableProvider> = match &found.definition.kind {
            TableKind::Table(table) => Arc::new(stored(planner, table)?),
            TableKind::View(view) => {
                let Some(depth) = depth.checked_sub(1) else {
                    return Err(SqlError::new(
                        SqlState::StatementTooComplex,
                        format!("views are nested deeper than {VIEWS_DEPTH_MAX}"),
                    ));
                };
                Arc::new(Box::pin(view_table(planner, view, depth)).await?)
            }
        };
        // A name without a schema is looked for where DataFusion does.
        self.put(reference.schema().unwrap_or(DEFAULT_SCHEMA), &name, provider);
        Ok(())
    }

    /// Columns of everything that the caller may list.
    async fn describe_all(&mut self, catalog: &Catalog) -> Result<(), SqlError> {
        for (name, table) in SystemTable::ALL {
            self.put(SYSTEM, name, Arc::new(table));
        }
        let mut schemas = catalog.schemas().await?;
        schemas.extend(catalog.schema(DEFAULT_SCHEMA).await?.map(|found| found.definition));
        for schema in schemas {
            self.schemas.entry(schema.name.clone()).or_default();
            for (name, found) in catalog.tables(&schema).await? {
                let described = Described {
                    schema: found.definition.schema()?,
                    is_view: matches!(found.definition.kind, TableKind::View(_)),
                };
                self.put(&schema.name, &name, Arc::new(described));
            }
        }
        Ok(())
    }

    fn put(&mut self, schema: &str, name: &str, table: Arc<dyn TableProvider>) {
        self.schemas.entry(schema.to_owned()).or_default().insert(name.to_owned(), table);
    }
}

impl Planner {
    /// The catalog as this statement sees it.
    pub(crate) async fn catalog(&self) -> Result<Catalog, SqlError> {
        let (lease, moment) = self.moment().await?;
        let (engine, cx, changes) = (self.engine.clone(), Arc::clone(&self.cx), self.changes.clone());
        Ok(Catalog { engine, cx, lease, moment, changes })
    }

    /// Schemas in which a name is looked for.
    fn candidates(&self, reference: &TableReference) -> Result<Vec<String>, SqlError> {
        if let Some(other) = reference.catalog().filter(|catalog| *catalog != CATALOG) {
            return Err(SqlError::new(
                SqlState::InvalidSchemaName,
                format!("there is one catalog, {CATALOG}, and no {other}"),
            ));
        }
        Ok(match reference.schema() {
            Some(schema) => vec![schema.to_owned()],
            None => self.settings.search_path().to_vec(),
        })
    }

    /// The table or view of a name.
    pub(crate) async fn find(
        &self,
        catalog: &Catalog,
        reference: &TableReference,
    ) -> Result<Option<Catalogued>, SqlError> {
        for schema in self.candidates(reference)? {
            if BUILT_IN.contains(&schema.as_str()) {
                continue;
            }
            let Some(schema) = catalog.schema(&schema).await? else { continue };
            let (schema, name) = (schema.definition, reference.table().to_owned());
            if let Some(found) = catalog.table(&schema, &name).await? {
                return Ok(Some(Catalogued { schema, name, found }));
            }
        }
        Ok(None)
    }

    /// Where something of this name is made.
    pub(crate) async fn place(
        &self,
        catalog: &Catalog,
        reference: &TableReference,
    ) -> Result<(SchemaDefinition, String), SqlError> {
        let candidates = self.candidates(reference)?;
        let schema = candidates.first().map_or(DEFAULT_SCHEMA, String::as_str);
        if BUILT_IN.contains(&schema) {
            return Err(SqlError::new(
                SqlState::InsufficientPrivilege,
                format!("nothing can be made in {schema}"),
            ));
        }
        let found = catalog.schema(schema).await?.ok_or_else(|| {
            SqlError::new(SqlState::InvalidSchemaName, format!("schema {schema} does not exist"))
        })?;
        Ok((found.definition, reference.table().to_owned()))
    }
}

/// A table of the catalog.
fn stored(planner: &Planner, table: &StoredTable) -> Result<ObjectsTable, SqlError> {
    let columns = Arc::new(Schema::new(of_columns(&table.columns)?));
    let schema =
        TableSchema::builder(columns).with_table_partition_cols(of_columns(&table.partitions)?).build();
    let (format, footers) = (table.format.clone(), Arc::clone(&planner.engine.inner.footers));
    Ok(ObjectsTable { location: Location::parse(&table.location)?, format, schema, footers })
}

/// A view: its text, planned as the caller.
async fn view_table(planner: &Planner, view: &View, depth: usize) -> Result<ViewTable, SqlError> {
    let mut planner = planner.clone();
    planner.settings.set_search_path(view.search_path.clone());
    let Step::Plan(mut statement) = parse::one(&view.query)?.step else {
        return Err(SqlError::new(SqlState::DataException, "a view does not hold a query"));
    };
    let names = Names::resolve_within(&planner, &mut statement, depth).await?;
    match planner.plan_with(names, statement).await? {
        LogicalPlan::Ddl(DdlStatement::CreateView(create)) => {
            Ok(ViewTable::new(create.input.as_ref().clone(), Some(view.query.clone())))
        }
        _ => Err(SqlError::new(SqlState::DataException, "a view does not hold a query")),
    }
}

/// The name of the view that a statement makes: it is not looked up, or a view would stand for itself.
fn made_by(statement: &Statement) -> Option<String> {
    match statement {
        Statement::Statement(ast) => match &**ast {
            Ast::CreateView(view) => Some(TableReference::parse_str(&view.name.to_string()).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// What `information_schema` tells of a table; it is not read.
#[derive(Debug)]
struct Described {
    schema: SchemaRef,
    is_view: bool,
}

#[async_trait]
impl TableProvider for Described {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        if self.is_view { TableType::View } else { TableType::Base }
    }

    async fn scan(
        &self,
        _: &dyn datafusion::catalog::Session,
        _: Option<&Vec<usize>>,
        _: &[datafusion::logical_expr::Expr],
        _: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
        Err(SqlError::internal("scanning a table", &"it was only described").into())
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
