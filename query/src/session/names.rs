//! What the names of one statement stand for: paths in FROM, `read_*` functions, tables and views.
//!
//! Invariant: all names are resolved before planning, all their locations at one moment, as the caller may read
//! them. What DataFusion asks for besides is not there.

mod functions;
mod paths;
mod provider;
mod weight;

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_objects::pinning::PinRequest;
use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::ViewTable;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement as Ast};

pub(crate) use self::paths::PathTable;
use self::paths::{of_path, path_of};
use self::provider::Described;
use super::parse::{self, Step};
use super::planning::Planner;
use crate::catalog::definition::{
    SchemaDefinition, StoredTable, TableDefinition, TableKind, View, of_columns,
};
use crate::catalog::{Catalog, Found};
use crate::engine::{CATALOG, DEFAULT_SCHEMA};
use crate::error::{SqlError, SqlState};
use crate::location::{Keys, Location};
use crate::scan::table::ObjectsTable;
use crate::semantics;
use crate::system::{SYSTEM, SystemTable};

/// Schemas that nothing can be made in.
const BUILT_IN: [&str; 3] = [SYSTEM, "information_schema", "pg_catalog"];
/// Where names without a schema go if another schema has the same name: nobody can write it.
const APART: &str = "search_path#";
/// Deepest nesting of views.
const VIEWS_DEPTH_MAX: usize = 16;
/// Most tables that one statement names, with those that its views name.
const NAMES_MAX: usize = 1_000;

/// Tables by schema and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    schemas: HashMap<String, HashMap<String, Arc<dyn TableProvider>>>,
    /// Names without a schema are in [`APART`].
    apart: bool,
}

/// A name that the catalog has.
#[derive(Clone, Debug)]
pub(crate) struct Catalogued {
    pub(crate) schema: SchemaDefinition,
    pub(crate) name: String,
    pub(crate) found: Found<TableDefinition>,
}

/// What resolving one statement may still look up.
struct Budget {
    names: usize,
    depth: usize,
}

impl Names {
    /// Resolves every name of a statement; rewrites `read_*` functions to names.
    pub(crate) async fn resolve(planner: &Planner, statement: &mut Statement) -> Result<Self, SqlError> {
        let mut budget = Budget { names: NAMES_MAX, depth: VIEWS_DEPTH_MAX };
        Self::resolve_within(planner, statement, &mut budget).await.map(|(names, _)| names)
    }

    /// The same with how many tables the statement comes to.
    async fn resolve_within(
        planner: &Planner,
        statement: &mut Statement,
        budget: &mut Budget,
    ) -> Result<(Self, usize), SqlError> {
        let functions = functions::take(statement)?;
        let references = references(statement, budget)?;
        let made = Made::of(statement);
        let (mut paths, mut others) = (Vec::new(), Vec::new());
        for reference in references {
            match path_of(&reference, &functions)? {
                Some(path) => paths.push((reference.table().to_owned(), path)),
                None if made.is_not_read(&reference) => {}
                None => others.push(reference),
            }
        }
        let (mut names, mut weights) = (Self::default(), HashMap::new());
        if paths.is_empty() && others.is_empty() {
            return Ok((names, weight::of(statement, &weights)?));
        }
        let catalog = planner.catalog().await?;
        names.put_paths(planner, &catalog, paths).await?;
        if others.iter().any(|name| name.schema() == Some("information_schema")) {
            names.describe_all(planner, &catalog).await?;
        }
        // Those with a schema first: whether one without would take the place of another is known then.
        others.sort_by_key(|name| name.schema().is_none());
        for reference in others {
            match names.put_other(planner, &catalog, &reference, budget).await {
                Ok(Some(weight)) => {
                    weights.insert(reference.to_string(), weight);
                }
                Ok(None) => {}
                // What is replaced need not be readable.
                Err(error)
                    if made.is(&reference)
                        && matches!(
                            error.state,
                            SqlState::InsufficientPrivilege | SqlState::UndefinedTable
                        ) => {}
                Err(error) => return Err(error),
            }
        }
        let weight = weight::of(statement, &weights)?;
        Ok((names, weight))
    }

    /// The schema in which names without one are.
    pub(crate) fn default_schema(&self) -> &'static str {
        if self.apart { APART } else { DEFAULT_SCHEMA }
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
        let pins = planner.first_pins(Arc::clone(&catalog.lease), &catalog.moment, locations).await?;
        for (name, path) in paths {
            let table = of_path(planner, &catalog.lease, &pins, path).await?;
            self.put(None, &name, Arc::new(table));
        }
        Ok(())
    }

    /// A table or view of the catalog, or a table of `system`; what is not there stays so. Answers a view's weight.
    async fn put_other(
        &mut self,
        planner: &Planner,
        catalog: &Catalog,
        reference: &TableReference,
        budget: &mut Budget,
    ) -> Result<Option<usize>, SqlError> {
        if reference.schema() == Some(SYSTEM) {
            if let Some(table) = SystemTable::of_name(reference.table()) {
                self.put(Some(SYSTEM), reference.table(), Arc::new(table));
            }
            return Ok(None);
        }
        let Some(Catalogued { schema, name, found }) = planner.find(catalog, reference).await? else {
            return Ok(None);
        };
        let (provider, weight): (Arc<dyn TableProvider>, _) = match &found.definition.kind {
            TableKind::Table(table) => {
                let what = format!("table {}.{name}", schema.name);
                planner.may_read(catalog, &Location::parse(&table.location)?, &what).await?;
                (Arc::new(stored(planner, table)?), None)
            }
            TableKind::View(view) => {
                let planned = Box::pin(view_table(planner, view, budget)).await;
                let (table, weight) = planned.map_err(|error| match error.state {
                    // Nor what somebody else's view reads.
                    SqlState::InsufficientPrivilege => SqlError::new(
                        error.state,
                        format!("permission denied for what view {}.{name} reads", schema.name),
                    ),
                    _ => error,
                })?;
                (Arc::new(table), Some(weight))
            }
        };
        self.put(reference.schema(), &name, provider);
        Ok(weight)
    }

    /// Columns of everything that the caller may read.
    async fn describe_all(&mut self, planner: &Planner, catalog: &Catalog) -> Result<(), SqlError> {
        for (name, table) in SystemTable::ALL {
            self.put(Some(SYSTEM), name, Arc::new(table));
        }
        let mut schemas = catalog.schemas().await?;
        schemas.extend(catalog.schema(DEFAULT_SCHEMA).await?.map(|found| found.definition));
        for schema in schemas {
            self.schemas.entry(schema.name.clone()).or_default();
            for (name, found) in catalog.tables(&schema).await? {
                let mut budget = Budget { names: NAMES_MAX, depth: VIEWS_DEPTH_MAX };
                match planner.may_describe(catalog, &found.definition, &mut budget).await {
                    Ok(()) => {}
                    Err(error)
                        if matches!(
                            error.state,
                            SqlState::InternalError | SqlState::IoError | SqlState::SnapshotTooOld
                        ) =>
                    {
                        return Err(error);
                    }
                    // Somebody else's, or one that nobody can read: the others are there all the same.
                    Err(_) => continue,
                }
                let Ok(columns) = found.definition.schema() else { continue };
                let definition = match found.definition.kind {
                    TableKind::View(view) => Some(view.query),
                    TableKind::Table(_) => None,
                };
                let is_view = definition.is_some();
                let described = Described { schema: columns, is_view, definition };
                self.put(Some(&schema.name), &name, Arc::new(described));
            }
        }
        Ok(())
    }

    /// A name without a schema is looked for where DataFusion does.
    fn put(&mut self, schema: Option<&str>, name: &str, table: Arc<dyn TableProvider>) {
        if schema.is_none() && !self.apart && self.has(DEFAULT_SCHEMA, name) {
            self.apart = true;
            // All that have none are in one place; the default schema keeps its own.
            let bare: HashMap<_, _> = self.schemas.get(DEFAULT_SCHEMA).into_iter().flatten().collect();
            let bare = bare.into_iter().map(|(name, table)| (name.clone(), Arc::clone(table))).collect();
            self.schemas.insert(APART.to_owned(), bare);
        }
        let schema = schema.unwrap_or(self.default_schema());
        self.schemas.entry(schema.to_owned()).or_default().insert(name.to_owned(), table);
    }

    fn has(&self, schema: &str, name: &str) -> bool {
        self.schemas.get(schema).is_some_and(|tables| tables.contains_key(name))
    }
}

/// The tables that a statement names.
fn references(statement: &Statement, budget: &mut Budget) -> Result<Vec<TableReference>, SqlError> {
    let (references, _) = resolve_table_references(statement, true)?;
    let left = budget.names.checked_sub(references.len()).ok_or_else(|| {
        SqlError::new(
            SqlState::ProgramLimitExceeded,
            format!("a statement and its views name at most {NAMES_MAX} tables"),
        )
    })?;
    budget.names = left;
    Ok(references)
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
    let location = Location::parse(&table.location)?;
    Ok(ObjectsTable { location, format, schema, may_have_more: true, footers })
}

/// A view: its text, planned as the caller; and how many tables it comes to.
async fn view_table(
    planner: &Planner,
    view: &View,
    budget: &mut Budget,
) -> Result<(ViewTable, usize), SqlError> {
    let (planner, mut statement) = of_view(planner, view, budget)?;
    let resolved = Names::resolve_within(&planner, &mut statement, budget).await;
    budget.depth += 1;
    let (names, weight) = resolved?;
    match planner.plan_with(names, statement).await? {
        LogicalPlan::Ddl(DdlStatement::CreateView(create)) => {
            Ok((ViewTable::new(create.input.as_ref().clone(), Some(view.query.clone())), weight))
        }
        _ => Err(not_a_query()),
    }
}

/// What a view's text is read with, and the text read. Takes a level off the depth.
fn of_view(planner: &Planner, view: &View, budget: &mut Budget) -> Result<(Planner, Statement), SqlError> {
    budget.depth = budget.depth.checked_sub(1).ok_or_else(|| {
        SqlError::new(
            SqlState::StatementTooComplex,
            format!("views are nested deeper than {VIEWS_DEPTH_MAX}"),
        )
    })?;
    let mut planner = planner.clone();
    planner.settings.set_search_path(view.search_path.clone());
    let Step::Plan(mut statement) = parse::one(&view.query)?.step else { return Err(not_a_query()) };
    semantics::mend(&mut statement)?;
    Ok((planner, statement))
}

fn not_a_query() -> SqlError {
    SqlError::new(SqlState::DataException, "a view does not hold a query")
}

/// Names that a statement makes or removes.
struct Made {
    names: Vec<String>,
    /// Whether these are not looked up: a view would stand for itself, and what goes need not be read.
    unread: bool,
}

impl Made {
    fn of(statement: &Statement) -> Self {
        let name = |name: &ObjectName| TableReference::parse_str(&name.to_string()).to_string();
        let (names, unread) = match statement {
            Statement::CreateExternalTable(create) => (vec![name(&create.name)], true),
            Statement::Statement(ast) => match &**ast {
                Ast::CreateView(view) => (vec![name(&view.name)], true),
                Ast::Drop { names, .. } => (names.iter().map(name).collect(), true),
                Ast::CreateTable(table) => (vec![name(&table.name)], false),
                _ => (Vec::new(), false),
            },
            _ => (Vec::new(), false),
        };
        Self { names, unread }
    }

    fn is(&self, reference: &TableReference) -> bool {
        self.names.contains(&reference.to_string())
    }

    fn is_not_read(&self, reference: &TableReference) -> bool {
        self.unread && self.is(reference)
    }
}

impl Planner {
    /// Whether what lies at a location may be read at all. Each object is asked for when it is.
    async fn may_read(&self, catalog: &Catalog, location: &Location, what: &str) -> Result<(), SqlError> {
        let store = &self.engine.inner.store;
        let allowed = match &location.keys {
            Keys::Below(_) | Keys::Matching(_) => {
                store.may_list(&self.cx, &location.bucket, location.prefix()).await
            }
            Keys::One(key) => {
                let object = [PinRequest::Object(location.bucket.clone(), key.clone())];
                match store.pin_all(&self.cx, &catalog.moment, &object, 1).await {
                    // It may come.
                    Err(ashlar_objects::Error::NoSuchKey) => Ok(()),
                    found => found.map(|_| ()),
                }
            }
        };
        // Where it lies is nobody's business who may not read it.
        allowed.map_err(|e| SqlError::of_store(what, &e))
    }

    /// Whether all that a definition reads may be read, without reading any of it.
    async fn may_describe(
        &self,
        catalog: &Catalog,
        definition: &TableDefinition,
        budget: &mut Budget,
    ) -> Result<(), SqlError> {
        let view = match &definition.kind {
            TableKind::Table(table) => {
                return self.may_read(catalog, &Location::parse(&table.location)?, "a table").await;
            }
            TableKind::View(view) => view,
        };
        let (planner, mut statement) = of_view(self, view, budget)?;
        let functions = functions::take(&mut statement)?;
        let made = Made::of(&statement);
        for reference in references(&statement, budget)? {
            if let Some(path) = path_of(&reference, &functions)? {
                self.may_read(catalog, &path.location, "a path").await?;
            } else if !made.is_not_read(&reference)
                && let Some(inner) = planner.find(catalog, &reference).await?
            {
                Box::pin(planner.may_describe(catalog, &inner.found.definition, budget)).await?;
            }
        }
        budget.depth += 1;
        Ok(())
    }
}
