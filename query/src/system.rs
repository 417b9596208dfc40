//! The schema `system`: what the store holds and does, as tables.
//!
//! Invariant: rows are of one moment, the transaction's if there is one; they come page by page as they are asked
//! for, so that a million objects take no more memory than a page; only what the caller may list is shown, and what he may not is left out. The caller is who runs the plan,
//! not who prepared it.

mod scope;
mod streams;

use std::sync::Arc;

use ashlar_objects::access::RequestContext;
use ashlar_objects::pinning::Moment;
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use futures::future::BoxFuture;

use self::scope::Scope;
use crate::engine::Engine;
use crate::scan::lease::HeldLease;

/// The schema's name.
pub(crate) const SYSTEM: &str = "system";

/// Who runs a plan, on which engine, and as of when.
pub(crate) struct Caller {
    pub(crate) engine: Engine,
    pub(crate) cx: Arc<RequestContext>,
    /// Of a plan that reads the store's own tables.
    pub(crate) moment: Option<(Arc<HeldLease>, Moment)>,
}

/// A storage node, as an operator looks at it.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Its number.
    pub node: u16,
    /// What fails together with it.
    pub domain: String,
    /// `writable`, `full`, `read-only` or `unavailable`.
    pub health: String,
    /// Shards held.
    pub shards: u64,
    /// Their bytes.
    pub shard_bytes: u64,
    /// What it could still take, in bytes; nodes of one file system share it.
    pub writable_bytes: u64,
}

/// What is known beside the store.
pub trait Surroundings: Send + Sync {
    /// The storage nodes.
    fn nodes(&self) -> BoxFuture<'_, Vec<NodeFacts>>;
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("principal", &self.cx.principal).finish_non_exhaustive()
    }
}

/// One of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemTable {
    Objects,
    ObjectVersions,
    Buckets,
    Commitments,
    Anchors,
    Nodes,
    Queries,
}

impl SystemTable {
    /// All of them with their names.
    pub(crate) const ALL: [(&'static str, Self); 7] = [
        ("anchors", Self::Anchors),
        ("buckets", Self::Buckets),
        ("commitments", Self::Commitments),
        ("nodes", Self::Nodes),
        ("object_versions", Self::ObjectVersions),
        ("objects", Self::Objects),
        ("queries", Self::Queries),
    ];

    /// By its name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(each, _)| *each == name).map(|(_, table)| *table)
    }

    fn columns(self) -> SchemaRef {
        let text = |name| Field::new(name, DataType::Utf8, true);
        let number = |name| Field::new(name, DataType::Int64, true);
        let flag = |name| Field::new(name, DataType::Boolean, true);
        let moment =
            |name| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true);
        let fields = match self {
            Self::Objects => vec![
                text("bucket"),
                text("key"),
                number("size"),
                text("etag"),
                moment("modified"),
                text("owner"),
                text("storage_class"),
            ],
            Self::ObjectVersions => vec![
                text("bucket"),
                text("key"),
                text("version_id"),
                flag("is_latest"),
                flag("is_delete_marker"),
                number("size"),
                text("etag"),
                moment("modified"),
                text("owner"),
            ],
            Self::Commitments => vec![
                text("bucket"),
                text("key"),
                text("version_id"),
                flag("is_latest"),
                number("size"),
                text("object_root"),
                text("content_root"),
                number("log_position"),
            ],
            Self::Anchors => vec![
                number("batch"),
                number("first_position"),
                number("last_position"),
                number("entries"),
                number("blob_bytes"),
                moment("sealed"),
                text("state"),
                text("commitment"),
                number("chain_id"),
                text("registry"),
            ],
            Self::Nodes => vec![
                number("node"),
                text("domain"),
                text("health"),
                number("shards"),
                number("shard_bytes"),
                number("writable_bytes"),
            ],
            Self::Buckets => vec![text("name"), text("owner"), moment("created"), text("versioning")],
            Self::Queries => {
                vec![number("id"), text("user"), text("statement"), number("running_ms"), number("rows")]
            }
        };
        Arc::new(Schema::new(fields))
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.columns()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let caller = state.config().get_extension::<Caller>();
        let caller = caller.ok_or_else(|| DataFusionError::Internal("a plan runs for nobody".to_owned()))?;
        let schema = self.columns();
        let scope = Scope::of(filters);
        let rows = Arc::new(Rows { table: *self, schema: Arc::clone(&schema), caller, scope });
        // A filter above may drop rows, so a limit ends the scan only without one.
        let limit = limit.filter(|_| filters.is_empty());
        let plan = StreamingTableExec::try_new(schema, vec![rows], projection, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

#[derive(Debug)]
struct Rows {
    table: SystemTable,
    schema: SchemaRef,
    caller: Arc<Caller>,
    scope: Scope,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let rows =
            streams::rows(self.table, Arc::clone(&schema), Arc::clone(&self.caller), self.scope.clone());
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}
