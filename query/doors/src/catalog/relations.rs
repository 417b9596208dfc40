//! `pg_tables` and `pg_views`: tables apart from views, and views with their text.
//!
//! Invariant: of what was listed; everything else of `pg_catalog` comes from the library.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result;

use super::listing::{Listed, Schemas};

/// Who owns what: owners are not shown.
const OWNER: &str = "postgres";

/// `pg_catalog` with these two.
#[derive(Debug)]
pub(super) struct Postgres {
    pub(super) listing: Arc<Schemas>,
    pub(super) others: Arc<dyn SchemaProvider>,
}

#[async_trait]
impl SchemaProvider for Postgres {
    fn table_names(&self) -> Vec<String> {
        self.others.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let batch = match name {
            "pg_tables" => tables(&self.of_kind(TableType::Base))?,
            "pg_views" => views(&self.of_kind(TableType::View))?,
            _ => return self.others.table(name).await,
        };
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.others.table_exist(name)
    }
}

impl Postgres {
    fn of_kind(&self, kind: TableType) -> Vec<(&str, &str, &Listed)> {
        let all = self.listing.iter().flat_map(|(schema, tables)| {
            tables.iter().map(move |(name, listed)| (schema.as_str(), name.as_str(), &**listed))
        });
        all.filter(|(_, _, listed)| listed.kind == kind).collect()
    }
}

fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn tables(all: &[(&str, &str, &Listed)]) -> Result<RecordBatch> {
    let no = || -> ArrayRef { Arc::new(BooleanArray::from(vec![false; all.len()])) };
    let columns = [
        ("schemaname", text(all.iter().map(|(schema, ..)| Some(*schema)))),
        ("tablename", text(all.iter().map(|(_, name, _)| Some(*name)))),
        ("tableowner", text(all.iter().map(|_| Some(OWNER)))),
        ("tablespace", text(all.iter().map(|_| None))),
        ("hasindexes", no()),
        ("hasrules", no()),
        ("hastriggers", no()),
        ("rowsecurity", no()),
    ];
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn views(all: &[(&str, &str, &Listed)]) -> Result<RecordBatch> {
    let columns = [
        ("schemaname", text(all.iter().map(|(schema, ..)| Some(*schema)))),
        ("viewname", text(all.iter().map(|(_, name, _)| Some(*name)))),
        ("viewowner", text(all.iter().map(|_| Some(OWNER)))),
        ("definition", text(all.iter().map(|(_, _, listed)| listed.definition.as_deref()))),
    ];
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}
