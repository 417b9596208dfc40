//! The session's tables as PostgreSQL's catalog shows them.
//!
//! Invariant: what is listed is what the session's `information_schema` showed its caller when the statement
//! began; a table keeps its number for as long as the connection lasts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use ashlar_query::{Outcome, Session, SqlError, SqlState};
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, SchemaProvider, Session as DataFusionSession, TableProvider,
};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};
use futures::StreamExt;
use parking_lot::RwLock;

use super::DATABASE;
use super::relations::Postgres;

/// Most columns of all tables together.
const COLUMNS_MAX: usize = 200_000;
/// Schemas that hold no table of a user's.
const OF_SYSTEM: [&str; 2] = ["pg_catalog", "information_schema"];
const TABLES: &str = "SELECT table_schema, table_name, table_type FROM information_schema.tables";
const COLUMNS: &str = "SELECT table_schema, table_name, column_name, ordinal_position, is_nullable, data_type \
                       FROM information_schema.columns ORDER BY ordinal_position";
const VIEWS: &str = "SELECT table_schema, table_name, definition FROM information_schema.views";
const SCHEMATA: &str = "SELECT schema_name FROM information_schema.schemata";

/// One connection's.
pub(super) struct View {
    listing: Listing,
    postgres: Arc<dyn SchemaProvider>,
}

/// What there is, for whoever looks while a statement is planned and run.
#[derive(Clone, Debug, Default)]
struct Listing(Arc<RwLock<Arc<Schemas>>>);

/// Tables by schema and name.
pub(crate) type Schemas = BTreeMap<String, BTreeMap<String, Arc<Listed>>>;

/// A table that can be described and not be read.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) schema: SchemaRef,
    pub(crate) kind: TableType,
    /// A view's text.
    pub(crate) definition: Option<String>,
}

impl View {
    pub(super) fn new(tables: &Arc<PgCatalogStaticTables>) -> std::result::Result<Self, SqlError> {
        let listing = Listing::default();
        let postgres =
            PgCatalogSchemaProvider::try_new(listing.clone(), Arc::clone(tables), EmptyContextProvider)?;
        Ok(Self { listing, postgres: Arc::new(postgres) })
    }

    /// Lists anew.
    pub(super) async fn refresh(&self, session: &mut Session) -> std::result::Result<(), SqlError> {
        let now = Arc::new(list(session).await?);
        *self.listing.0.write() = now;
        Ok(())
    }

    /// Where names are looked up: the listed tables, and PostgreSQL's own.
    pub(super) fn names(&self) -> Arc<dyn CatalogProviderList> {
        Arc::new(Names { listing: self.listing.now(), postgres: Arc::clone(&self.postgres) })
    }
}

/// What a session shows its caller.
pub(crate) async fn list(session: &mut Session) -> std::result::Result<Schemas, SqlError> {
    let mut schemas = Schemas::new();
    for batch in rows(session, SCHEMATA).await? {
        for name in text(&batch, 0)?.into_iter().flatten() {
            schemas.entry(name).or_default();
        }
    }
    schemas.entry("public".to_owned()).or_default();
    let mut fields: BTreeMap<(String, String), Vec<Field>> = BTreeMap::new();
    for batch in rows(session, COLUMNS).await? {
        let (schema, table, name) = (text(&batch, 0)?, text(&batch, 1)?, text(&batch, 2)?);
        let (nullable, data_type) = (text(&batch, 4)?, text(&batch, 5)?);
        for row in 0..batch.num_rows() {
            let of = |column: &[Option<String>]| column[row].clone().unwrap_or_default();
            if OF_SYSTEM.contains(&of(&schema).as_str()) {
                continue;
            }
            let data_type = of(&data_type).parse().unwrap_or(DataType::Utf8);
            let field = Field::new(of(&name), data_type, of(&nullable) != "NO");
            fields.entry((of(&schema), of(&table))).or_default().push(field);
        }
    }
    let mut definitions: BTreeMap<(String, String), String> = BTreeMap::new();
    for batch in rows(session, VIEWS).await? {
        let (schema, view, text) = (text(&batch, 0)?, text(&batch, 1)?, text(&batch, 2)?);
        for ((schema, view), text) in schema.into_iter().zip(view).zip(text) {
            definitions.extend(schema.zip(view).zip(text));
        }
    }
    for batch in rows(session, TABLES).await? {
        let (schema, table, kind) = (text(&batch, 0)?, text(&batch, 1)?, text(&batch, 2)?);
        for row in 0..batch.num_rows() {
            let of = |column: &[Option<String>]| column[row].clone().unwrap_or_default();
            if OF_SYSTEM.contains(&of(&schema).as_str()) {
                continue;
            }
            let columns = fields.remove(&(of(&schema), of(&table))).unwrap_or_default();
            let kind = if of(&kind) == "VIEW" { TableType::View } else { TableType::Base };
            let definition = definitions.remove(&(of(&schema), of(&table)));
            let listed = Listed { schema: Arc::new(Schema::new(columns)), kind, definition };
            schemas.entry(of(&schema)).or_default().insert(of(&table), Arc::new(listed));
        }
    }
    Ok(schemas)
}

impl Listing {
    fn now(&self) -> Arc<Schemas> {
        Arc::clone(&self.0.read())
    }
}

async fn rows(session: &mut Session, sql: &str) -> std::result::Result<Vec<RecordBatch>, SqlError> {
    let Outcome::Rows(mut stream) = session.query(sql, Vec::new()).await? else {
        return Err(SqlError::internal("listing tables", &"a SELECT gave no rows"));
    };
    collect(&mut stream).await
}

async fn collect(stream: &mut SendableRecordBatchStream) -> std::result::Result<Vec<RecordBatch>, SqlError> {
    let (mut batches, mut count) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        count += batch.num_rows();
        if count > COLUMNS_MAX {
            let message = format!("pg_catalog shows at most {COLUMNS_MAX} columns");
            return Err(SqlError::new(SqlState::ProgramLimitExceeded, message)
                .hint("ask information_schema, or the tables themselves"));
        }
        batches.push(batch);
    }
    Ok(batches)
}

fn text(batch: &RecordBatch, column: usize) -> std::result::Result<Vec<Option<String>>, SqlError> {
    let column = cast(batch.column(column), &DataType::Utf8)?;
    Ok(column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}

#[async_trait]
impl CatalogInfo for Listing {
    async fn catalog_names(&self) -> Result<Vec<String>> {
        Ok(vec![DATABASE.to_owned()])
    }

    async fn schema_names(&self, _: &str) -> Result<Option<Vec<String>>> {
        let now = self.now();
        let system = OF_SYSTEM.iter().map(|name| (*name).to_owned());
        let of_system = system.filter(|name| !now.contains_key(name));
        Ok(Some(now.keys().cloned().chain(of_system).collect()))
    }

    async fn table_names(&self, _: &str, schema: &str) -> Result<Option<Vec<String>>> {
        Ok(Some(self.now().get(schema).map(|tables| tables.keys().cloned().collect()).unwrap_or_default()))
    }

    async fn table_schema(&self, _: &str, schema: &str, table: &str) -> Result<Option<SchemaRef>> {
        let now = self.now();
        Ok(now.get(schema).and_then(|tables| tables.get(table)).map(|table| Arc::clone(&table.schema)))
    }

    async fn table_type(&self, _: &str, schema: &str, table: &str) -> Result<Option<TableType>> {
        Ok(self.now().get(schema).and_then(|tables| tables.get(table)).map(|table| table.kind))
    }
}

#[async_trait]
impl TableProvider for Listed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        self.kind
    }

    async fn scan(
        &self,
        _: &dyn DataFusionSession,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::NotImplemented("a statement on pg_catalog reads no other tables".into()))
    }
}

#[derive(Clone, Debug)]
struct Names {
    listing: Arc<Schemas>,
    postgres: Arc<dyn SchemaProvider>,
}

impl CatalogProviderList for Names {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![DATABASE.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == DATABASE).then(|| -> Arc<dyn CatalogProvider> { Arc::new(self.clone()) })
    }
}

impl CatalogProvider for Names {
    fn schema_names(&self) -> Vec<String> {
        self.listing.keys().cloned().chain(["pg_catalog".to_owned()]).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == "pg_catalog" {
            let (listing, others) = (Arc::clone(&self.listing), Arc::clone(&self.postgres));
            return Some(Arc::new(Postgres { listing, others }));
        }
        let tables = self.listing.get(name)?.clone();
        Some(Arc::new(OneSchema(tables)))
    }
}

#[derive(Debug)]
struct OneSchema(BTreeMap<String, Arc<Listed>>);

#[async_trait]
impl SchemaProvider for OneSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.get(name).map(|table| -> Arc<dyn TableProvider> { Arc::clone(table) as _ }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
