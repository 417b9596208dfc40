//! Rows into files: DataFusion's writer of a format, on top of a plan.

use std::sync::Arc;

use datafusion::arrow::array::UInt64Array;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileOutputMode, FileSinkConfig};
use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;

use super::folders;
use super::staged_store::STAGED_URL;
use crate::error::SqlError;
use crate::location::{Keys, Location};
use crate::scan::format::{Format, FormatKind};

/// Where and how rows are written.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) location: Location,
    pub(crate) format: Format,
    /// Columns that become folders.
    pub(crate) partitions: Vec<(String, DataType)>,
}

/// The plan that writes what another gives; its one row is the count.
pub(crate) async fn plan(
    state: &SessionState,
    input: Arc<dyn ExecutionPlan>,
    target: &Target,
) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    // Paths are told to the writer as if they began here: it would read a real one as a URL.
    let (single, url) = match &target.location.keys {
        Keys::One(_) => (true, format!("{STAGED_URL}file")),
        Keys::Below(_) => (false, STAGED_URL.to_owned()),
        Keys::Matching(_) => return Err(SqlError::invalid("a pattern is no place to write to")),
    };
    let (input, partitions) = folders::named(input, &target.partitions, state.config().options())?;
    let schema: SchemaRef = input.schema();
    let config = FileSinkConfig {
        original_url: target.location.to_string(),
        object_store_url: ObjectStoreUrl::parse(STAGED_URL)?,
        file_group: FileGroup::new(Vec::new()),
        table_paths: vec![ListingTableUrl::parse(url)?],
        output_schema: schema,
        table_partition_cols: partitions,
        insert_op: InsertOp::Append,
        keep_partition_by_columns: false,
        file_extension: extension(&target.format),
        file_output_mode: if single { FileOutputMode::SingleFile } else { FileOutputMode::Directory },
    };
    Ok(target.format.to_datafusion().create_writer_physical_plan(input, state, config, None).await?)
}

fn extension(format: &Format) -> String {
    let plain = match format.kind {
        FormatKind::Parquet => "parquet",
        FormatKind::Csv => "csv",
        FormatKind::Json => "json",
        FormatKind::Arrow => "arrow",
    };
    match format.kind {
        FormatKind::Csv | FormatKind::Json => format!("{plain}{}", format.packing_extension()),
        FormatKind::Parquet | FormatKind::Arrow => plain.to_owned(),
    }
}

/// Runs it; answers how many rows were written.
pub(crate) async fn run(state: &SessionState, plan: Arc<dyn ExecutionPlan>) -> Result<u64, SqlError> {
    let counts: Vec<_> = execute_stream(plan, state.task_ctx())?.try_collect().await?;
    let count = counts.iter().filter_map(|batch| batch.column(0).as_any().downcast_ref::<UInt64Array>());
    Ok(count.flat_map(|counts| counts.values().iter()).sum())
}
