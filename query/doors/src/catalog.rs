//! What clients of PostgreSQL ask of `pg_catalog` and of functions such as `version()`, answered from the
//! session's own catalog.
//!
//! A statement that reads `pg_catalog` is planned beside the session, over tables made of what the session shows
//! its caller in `information_schema` at that moment. It reads no data of anybody's.
//!
//! Invariant: nothing is told of a table that the session would not tell; nothing is written; memory, rows and
//! time are bounded. Deliberately knows no wire form.

mod concerns;
mod functions;
pub(crate) mod listing;
mod relations;
mod rewrites;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use ashlar_query::session::TransactionState;
use ashlar_query::{Engine, Session, SqlError, SqlState};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Ast;
use datafusion_pg_catalog::pg_catalog::PgCatalogStaticTables;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures::StreamExt;

use self::listing::View;

/// The one database.
pub(crate) const DATABASE: &str = "ashlar";
/// The version of PostgreSQL whose clients are served.
pub(crate) const SERVER_VERSION: &str = concat!("16.4 (Ashlar ", env!("CARGO_PKG_VERSION"), ")");
/// Memory of all such statements together.
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// Rows of one answer.
const ROWS_MAX: usize = 1_000_000;
/// Longest that one may take.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Most parameters.
const PARAMETERS_MAX: usize = 1_000;

/// What all connections share: functions, and tables that are the same for all.
pub(crate) struct Catalog {
    engine: Engine,
    base: SessionState,
    tables: Arc<PgCatalogStaticTables>,
    parser: PostgresCompatibilityParser,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Catalog")
    }
}

/// One connection's view: numbers of tables stay the same as long as it lasts.
#[derive(Default)]
pub(crate) struct Seen(Option<View>);

/// A statement that was planned.
#[derive(Debug)]
pub(crate) struct Prepared {
    statement: Ast,
    schema: SchemaRef,
    parameter_types: Vec<DataType>,
}

impl Prepared {
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn parameter_types(&self) -> &[DataType] {
        &self.parameter_types
    }
}

impl Catalog {
    pub(crate) fn new(engine: &Engine) -> Result<Self, SqlError> {
        let config = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, "public")
            .with_information_schema(true)
            .with_target_partitions(1);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(MEMORY_BYTES_MAX)))
            .build_arc()?;
        let context = SessionContext::new_with_config_rt(config, runtime);
        datafusion_pg_catalog::setup_pg_catalog(&context, DATABASE, EmptyContextProvider)
            .map_err(|error| SqlError::internal("making pg_catalog", &error))?;
        for function in functions::of_all() {
            context.register_udf(function);
        }
        Ok(Self {
            engine: engine.clone(),
            base: context.state(),
            tables: Arc::new(PgCatalogStaticTables::try_new()?),
            parser: PostgresCompatibilityParser::new(),
        })
    }

    /// Whether a statement is for this catalog: it reads `pg_catalog`, or it reads nothing and calls a function of
    /// PostgreSQL's.
    pub(crate) fn concerns(&self, text: &str) -> bool {
        concerns::concerns(text)
    }

    /// Plans a statement.
    pub(crate) async fn prepare(
        &self,
        session: &mut Session,
        seen: &mut Seen,
        text: &str,
    ) -> Result<Prepared, SqlError> {
        refuse_in_failed(session)?;
        let mut parsed = self.parser.parse(text).map_err(|error| SqlError::syntax(error.to_string()))?;
        let (Some(mut statement), true) = (parsed.pop(), parsed.is_empty()) else {
            return Err(SqlError::syntax("more than one statement at once").hint("send them one by one"));
        };
        rewrites::rewrite(&mut statement);
        let state = self.state(session, seen).await?;
        let ast = statement.clone();
        let plan = self.engine.run(Box::pin(async move { plan(&state, ast).await })).await?;
        Ok(Prepared {
            statement,
            schema: Arc::new(plan.schema().as_arrow().clone()),
            parameter_types: parameter_types(&plan)?,
        })
    }

    /// Runs it, on what there is by now.
    pub(crate) async fn execute(
        &self,
        session: &mut Session,
        seen: &mut Seen,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
    ) -> Result<SendableRecordBatchStream, SqlError> {
        refuse_in_failed(session)?;
        let state = self.state(session, seen).await?;
        let statement = prepared.statement.clone();
        let work = async move {
            let mut plan = plan(&state, statement).await?;
            if !parameters.is_empty() {
                plan = plan.with_param_values(ParamValues::from(parameters))?;
            }
            collect(&state, plan).await
        };
        let work = tokio::time::timeout(TIME_MAX, self.engine.run(Box::pin(work)));
        let batches = work.await.unwrap_or_else(|_| Err(SqlError::timed_out()))?;
        Ok(Box::pin(MemoryStream::try_new(batches, Arc::clone(&prepared.schema), None)?))
    }

    async fn state(&self, session: &mut Session, seen: &mut Seen) -> Result<SessionState, SqlError> {
        let view = match &seen.0 {
            Some(view) => view,
            None => seen.0.insert(View::new(&self.tables)?),
        };
        view.refresh(session).await?;
        let mut state =
            SessionStateBuilder::new_from_existing(self.base.clone()).with_catalog_list(view.names()).build();
        for function in functions::of_session(session) {
            datafusion::execution::registry::FunctionRegistry::register_udf(&mut state, function)?;
        }
        Ok(state)
    }
}

fn refuse_in_failed(session: &Session) -> Result<(), SqlError> {
    if session.transaction_state() != TransactionState::Failed {
        return Ok(());
    }
    let message = "the transaction failed; statements are refused until it ends";
    Err(SqlError::new(SqlState::InFailedTransaction, message).hint("ROLLBACK"))
}

async fn plan(state: &SessionState, statement: Ast) -> Result<LogicalPlan, SqlError> {
    if !matches!(statement, Ast::Query(_)) {
        return Err(SqlError::unsupported("anything but SELECT on pg_catalog"));
    }
    let plan = state.statement_to_plan(Statement::Statement(Box::new(statement))).await?;
    let reads_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reads_only.verify_plan(&plan)?;
    Ok(plan)
}

async fn collect(state: &SessionState, plan: LogicalPlan) -> Result<Vec<RecordBatch>, SqlError> {
    let physical = state.create_physical_plan(&plan).await?;
    let mut stream = execute_stream(physical, state.task_ctx())?;
    let (mut batches, mut rows) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows();
        if rows > ROWS_MAX {
            let message = format!("an answer from pg_catalog has at most {ROWS_MAX} rows");
            return Err(SqlError::new(SqlState::ProgramLimitExceeded, message));
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// Types of `$1`, `$2`, … in order; text where the statement leaves it open.
fn parameter_types(plan: &LogicalPlan) -> Result<Vec<DataType>, SqlError> {
    let mut by_number = BTreeMap::new();
    for (name, data_type) in plan.get_parameter_types()? {
        let number: Option<usize> = name.trim_start_matches('$').parse().ok();
        let number = number.filter(|number| (1..=PARAMETERS_MAX).contains(number));
        let number = number.ok_or_else(|| SqlError::syntax(format!("{name} is no parameter")))?;
        by_number.insert(number, data_type.unwrap_or(DataType::Utf8));
    }
    let count = by_number.keys().next_back().copied().unwrap_or(0);
    Ok((1..=count).map(|number| by_number.remove(&number).unwrap_or(DataType::Utf8)).collect())
}
