//! A scan of more objects than are pinned before it runs: page after page, as rows are asked for.
//!
//! Invariant: all pages are of the statement's moment, and every object is authorised before it is read; of pages
//! that are not reached nothing is. Memory is bounded by a page, whatever the location holds.

use std::fmt;
use std::sync::Arc;

use ashlar_objects::pinning::PinnedObject;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::pins::{Following, Pins};
use super::table::ObjectsTable;

/// Objects of the first page, which may be all that a LIMIT needs; each page is twice as large as the one before.
const FIRST_PAGE_OBJECTS: usize = 32;
/// Objects of a page.
const PAGE_OBJECTS_MAX: usize = 1_024;

/// What is scanned, and how.
pub(crate) struct Scan {
    pub(crate) table: ObjectsTable,
    pub(crate) state: SessionState,
    pub(crate) pins: Arc<Pins>,
    pub(crate) projection: Option<Vec<usize>>,
    pub(crate) filters: Vec<Expr>,
    pub(crate) limit: Option<usize>,
}

/// The plan.
pub(crate) struct PagedScan {
    scan: Arc<Scan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Where a scan is.
struct Pages {
    /// Pinned already.
    ready: std::vec::IntoIter<PinnedObject>,
    following: Option<Following>,
    size: usize,
}

impl PagedScan {
    /// A scan whose rows have the columns of `schema`.
    pub(crate) fn new(scan: Scan, schema: SchemaRef) -> Self {
        let partitions = Partitioning::UnknownPartitioning(1);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            partitions,
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { scan: Arc::new(scan), properties: Arc::new(properties), metrics: Default::default() }
    }
}

impl Pages {
    async fn next(&mut self, scan: &Scan) -> Result<Option<Vec<PinnedObject>>> {
        let size = self.size;
        self.size = (size * 2).min(PAGE_OBJECTS_MAX);
        let page: Vec<PinnedObject> = self.ready.by_ref().take(size).collect();
        if !page.is_empty() {
            return Ok(Some(page));
        }
        let Some(following) = self.following.take() else { return Ok(None) };
        let (page, following) = scan.pins.page(&scan.table.location, following, size).await?;
        self.following = following;
        Ok((!page.is_empty() || self.following.is_some()).then_some(page))
    }
}

/// The rows of pages until there are none left.
fn rows(
    scan: Arc<Scan>,
    context: Arc<TaskContext>,
    metrics: ExecutionPlanMetricsSet,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let location = &scan.table.location;
    let ready = scan.pins.of(location).map(|objects| objects.to_vec()).unwrap_or_default();
    let following = scan.pins.following(location);
    let pages = Pages { ready: ready.into_iter(), following, size: FIRST_PAGE_OBJECTS };
    let of_pages =
        stream::try_unfold((pages, scan, context, metrics), async |(mut pages, scan, context, metrics)| {
            let Some(page) = pages.next(&scan).await? else { return Ok::<_, DataFusionError>(None) };
            let opened = scan.pins.open(page);
            let (projection, limit) = (scan.projection.as_ref(), scan.limit);
            let mut plan = scan
                .table
                .scan_objects(&scan.state, &scan.pins, opened.objects(), projection, &scan.filters, limit)
                .await?;
            if plan.output_partitioning().partition_count() > 1 {
                plan = Arc::new(CoalescePartitionsExec::new(plan));
            }
            let reading = plan.execute(0, Arc::clone(&context))?;
            // Both until the last of its rows.
            let page = (opened, Counted { plan, metrics: metrics.clone() });
            let batches = reading.inspect(move |_| {
                let _ = &page;
            });
            Ok(Some((batches, (pages, scan, context, metrics))))
        });
    of_pages.try_flatten()
}

/// Adds what reading a page counted to what the scan shows, when the page is done.
struct Counted {
    plan: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut plan = &self.plan;
        while let [input] = plan.children()[..] {
            plan = input;
        }
        for metric in plan.metrics().iter().flat_map(MetricsSet::iter) {
            self.metrics.register(Arc::clone(metric));
        }
    }
}

impl fmt::Debug for PagedScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagedScan").field("table", &self.scan.table).finish_non_exhaustive()
    }
}

impl DisplayAs for PagedScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PagedScan: location={}", self.scan.table.location)?;
        if let Some(limit) = self.scan.limit {
            write!(f, ", limit={limit}")?;
        }
        if !self.scan.filters.is_empty() {
            let filters: Vec<String> = self.scan.filters.iter().map(ToString::to_string).collect();
            write!(f, ", filters=[{}]", filters.join(", "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for PagedScan {
    fn name(&self) -> &'static str {
        "PagedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::Internal(format!("a paged scan has no partition {partition}")));
        }
        let rows = rows(Arc::clone(&self.scan), context, self.metrics.clone());
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
