//! Resolved names as the catalog that DataFusion asks.
//!
//! Invariant: what was not resolved is not there.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::TableType;

use super::Names;
use crate::engine::CATALOG;
use crate::error::SqlError;

/// What `information_schema` tells of a table; it is not read.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) schema: SchemaRef,
    pub(super) is_view: bool,
    /// A view's text.
    pub(super) definition: Option<String>,
}

#[async_trait]
impl TableProvider for Described {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        if self.is_view { TableType::View } else { TableType::Base }
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
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
        self.schemas.keys().filter(|name| !name.contains('#')).cloned().collect()
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
