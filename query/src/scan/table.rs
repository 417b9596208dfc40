//! A table of objects: columns, and the plan that reads what an execution pinned for it.
//!
//! Invariant: planning a scan without pins is an error, so nothing is ever read that was not resolved and
//! authorised at this execution. Filters on partitions are exact; all others are repeated above the scan.

use std::sync::Arc;

use ashlar_objects::pinning::PinnedObject;
use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ColumnStatistics, DFSchema, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::MetricBuilder;
use datafusion_datasource::compute_all_files_statistics;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::ParquetMetaData;

use super::footers::Footers;
use super::format::{Format, FormatKind};
use super::paged::{PagedScan, Scan};
use super::parquet_reader::PinnedParquet;
use super::pinned_store::{PINNED_URL, meta_of, meta_of_text};
use super::pins::Pins;
use super::{partitions, records, schema};
use crate::error::SqlError;
use crate::location::Location;

/// Bytes of a text file by which the rows of a batch are chosen.
const TEXT_SAMPLE_BYTES: u64 = 64 << 10;
/// Footers read at a time.
const FOOTERS_AT_ONCE: usize = 32;

/// A location with format and columns.
#[derive(Clone)]
pub(crate) struct ObjectsTable {
    pub(crate) location: Location,
    pub(crate) format: Format,
    pub(crate) schema: TableSchema,
    /// Whether a Parquet file may have columns that the table has not. One that was not looked at when columns were
    /// inferred may not: they would be missing in silence.
    pub(crate) may_have_more: bool,
    pub(crate) footers: Arc<Footers>,
}

impl std::fmt::Debug for ObjectsTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectsTable").field("location", &self.location.to_string()).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for ObjectsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let columns = self.schema.table_partition_cols();
        let exact = |filter: &&Expr| partitions::is_about(filter, columns);
        Ok(filters
            .iter()
            .map(|filter| match exact(filter) {
                true => TableProviderFilterPushDown::Exact,
                false => TableProviderFilterPushDown::Inexact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let pins = state.config().get_extension::<Pins>();
        let found = pins.as_ref().and_then(|pins| pins.of(&self.location));
        let (Some(pins), Some(objects)) = (pins, found) else {
            return Err(DataFusionError::Internal(format!("{} was not pinned", self.location)));
        };
        if pins.following(&self.location).is_some()
            && let Some(state) = state.as_any().downcast_ref::<SessionState>()
        {
            let schema = datafusion::common::project_schema(&self.schema(), projection)?;
            let scan = Scan {
                table: self.clone(),
                state: state.clone(),
                pins,
                projection: projection.cloned(),
                filters: filters.to_vec(),
                limit,
            };
            return Ok(Arc::new(PagedScan::new(scan, schema)));
        }
        self.scan_objects(state, &pins, &objects, projection, filters, limit).await
    }
}

impl ObjectsTable {
    /// A plan that reads these objects.
    pub(crate) async fn scan_objects(
        &self,
        state: &dyn Session,
        pins: &Pins,
        objects: &[PinnedObject],
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let is_text = matches!(self.format.kind, FormatKind::Csv | FormatKind::Json);
        let text = if is_text { Some(self.as_text(state, pins, objects).await?) } else { None };
        let files = self.files(state, pins, objects, filters, text).await?;
        let Some(files) = files else {
            let schema = datafusion::common::project_schema(&self.schema(), projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        };
        let files_count = files.len();
        let with_statistics = files.iter().all(|file| file.statistics.is_some());
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let (groups, statistics) =
            compute_all_files_statistics(groups, self.schema(), with_statistics, false)?;
        let predicate = self.predicate(state, pins, filters)?;
        let source = self.source(pins, &state.runtime_env().memory_pool, predicate);
        let count = |name, objects| MetricBuilder::new(source.metrics()).global_counter(name).add(objects);
        count("objects_matched", objects.len());
        count("objects_pruned", objects.len() - files_count);
        let url = ObjectStoreUrl::parse(PINNED_URL)?;
        let mut config = FileScanConfigBuilder::new(url, Arc::clone(&source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_batch_size(text.map(|(_, batch_rows)| batch_rows))
            .with_limit(limit);
        if with_statistics {
            config = config.with_statistics(statistics);
        }
        match self.format.kind {
            FormatKind::Parquet => {
                Ok(datafusion::datasource::source::DataSourceExec::from_data_source(config.build()))
            }
            _ => self.format.unpacked().to_datafusion().create_physical_plan(state, config.build()).await,
        }
    }

    /// What rows of a page must pass, to leave row groups out. Of what is planned whole the optimizer says it.
    fn predicate(
        &self,
        state: &dyn Session,
        pins: &Pins,
        filters: &[Expr],
    ) -> DataFusionResult<Option<Arc<dyn PhysicalExpr>>> {
        let filter = pins.following(&self.location).and_then(|_| conjunction(filters.iter().cloned()));
        let Some(filter) = filter else { return Ok(None) };
        let columns = DFSchema::try_from(self.schema())?;
        state.create_physical_expr(unnormalize_col(filter), &columns).map(Some)
    }

    fn source(
        &self,
        pins: &Pins,
        memory: &Arc<dyn MemoryPool>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Arc<dyn FileSource> {
        if self.format.kind != FormatKind::Parquet {
            return self.format.unpacked().to_datafusion().file_source(self.schema.clone());
        }
        let reader = PinnedParquet {
            lease: Arc::clone(&pins.lease),
            footers: Arc::clone(&self.footers),
            memory: Arc::clone(memory),
            columns: (!self.may_have_more).then(|| Arc::clone(self.schema.table_schema())),
        };
        let options = ParquetFormat::new().options().clone();
        let source = ParquetSource::new(self.schema.clone())
            .with_table_parquet_options(options)
            .with_enable_page_index(true)
            .with_bloom_filter_on_read(true)
            .with_parquet_file_reader_factory(Arc::new(reader));
        match predicate {
            Some(predicate) => Arc::new(source.with_predicate(predicate)),
            None => Arc::new(source),
        }
    }

    /// Says how text files are to be read; answers the number of that, and the rows of a batch.
    async fn as_text(
        &self,
        state: &dyn Session,
        pins: &Pins,
        objects: &[PinnedObject],
    ) -> Result<(usize, usize), SqlError> {
        let rows_max = state.config().batch_size();
        let rows = match objects.iter().max_by_key(|object| object.pinned.head.length) {
            Some(largest) => {
                let (sample, _) =
                    schema::sample(&pins.lease, &self.format, largest, TEXT_SAMPLE_BYTES).await?;
                records::batch_rows(&sample, rows_max)
            }
            None => rows_max,
        };
        Ok((pins.texts().put(&self.format, rows), rows))
    }

    /// Files that the filters leave, with statistics where there are not so many that they come in pages; `None`: none is left.
    async fn files(
        &self,
        state: &dyn Session,
        pins: &Pins,
        objects: &[PinnedObject],
        filters: &[Expr],
        text: Option<(usize, usize)>,
    ) -> Result<Option<Vec<PartitionedFile>>, SqlError> {
        let columns = self.schema.table_partition_cols();
        let values = partitions::values(&self.location, columns, objects)?;
        let about: Vec<&Expr> =
            filters.iter().filter(|filter| partitions::is_about(filter, columns)).collect();
        let kept = partitions::keep(state, columns, &values, &about, objects.len())?;
        let mut files = Vec::new();
        for (at, (object, kept)) in objects.iter().zip(kept).enumerate() {
            if kept && object.pinned.head.length > 0 {
                let meta = match text {
                    Some((number, _)) => meta_of_text(object, &self.format, number),
                    None => meta_of(object),
                };
                let file = PartitionedFile::new_from_meta(meta)
                    .with_partition_values(partitions::scalars(&values, at)?)
                    .with_extension(object.clone());
                files.push(file);
            }
        }
        if files.is_empty() {
            return Ok(None);
        }
        if self.format.kind != FormatKind::Parquet || pins.following(&self.location).is_some() {
            return Ok(Some(files));
        }
        let with_statistics = stream::iter(files)
            .map(|file| async move {
                let object = file.extension::<PinnedObject>().cloned();
                let object = object.ok_or_else(|| SqlError::invalid("a file of a scan is not pinned"))?;
                let footer = self.footers.of(&pins.lease, &object.pinned).await?;
                let statistics = self.statistics(&footer)?;
                Ok::<_, SqlError>(file.with_statistics(Arc::new(statistics)))
            })
            .buffered(FOOTERS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(Some(with_statistics))
    }

    /// Row count, minima and maxima, of columns whose type in the file is the table's.
    fn statistics(&self, footer: &ParquetMetaData) -> Result<Statistics, SqlError> {
        use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
        let schema = self.schema.file_schema();
        let mut found = DFParquetMetadata::statistics_from_parquet_metadata(footer, schema)?;
        let file = footer.file_metadata();
        let in_file = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata());
        let in_file = in_file.unwrap_or_else(|_| Schema::empty());
        for (field, statistics) in schema.fields().iter().zip(&mut found.column_statistics) {
            let same = in_file
                .field_with_name(field.name())
                .is_ok_and(|found| schema::is_same(found.data_type(), field.data_type()));
            if !same {
                *statistics = ColumnStatistics::new_unknown();
            }
        }
        Ok(found)
    }
}
