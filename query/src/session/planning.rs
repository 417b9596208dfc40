//! From a statement to a plan, and from a plan to rows.
//!
//! Invariant: all locations that a plan reads are resolved at one moment, right before it runs; planning reads
//! columns only, under a lease that ends with it. What the caller may not read is an error in both.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_objects::access::RequestContext;
use ashlar_objects::pinning::Moment;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement;

use tokio_util::sync::CancellationToken;

use super::names::Names;
use super::settings::Settings;
use super::transaction::Shared;
use crate::engine::interrupt::interruptible;
use crate::engine::{CATALOG, Engine};
use crate::error::SqlError;
use crate::location::{Keys, Location};
use crate::scan::lease::HeldLease;
use crate::scan::pins::Pins;
use crate::scan::table::ObjectsTable;
use crate::semantics;
use crate::system::{Caller, SystemTable};
use crate::write::changes::{Changes, Seen};
use crate::write::rows::{self, Target};
use crate::write::staged_store::StagedStore;

/// Most parameters of a statement.
const PARAMETERS_MAX: usize = 1_000;

/// How much of a location is pinned before it is looked at.
#[derive(Clone, Copy)]
enum Extent {
    All,
    First,
}

/// Plans and runs for one caller.
#[derive(Clone)]
pub(crate) struct Planner {
    pub(crate) engine: Engine,
    pub(crate) cx: Arc<RequestContext>,
    pub(crate) settings: Settings,
    /// Of an open transaction.
    pub(crate) moment: Option<Shared>,
    /// What an open transaction, or this statement, changes.
    pub(crate) changes: Option<Arc<Changes>>,
    /// What these were when the statement began: what it replaces, it still reads.
    pub(crate) seen: Option<Arc<Seen>>,
}

impl Planner {
    /// Looks names up and plans.
    pub(crate) async fn plan(&self, statement: &Statement) -> Result<LogicalPlan, SqlError> {
        let mut statement = statement.clone();
        semantics::mend(&mut statement)?;
        let names = Names::resolve(self, &mut statement).await?;
        self.plan_with(names, statement).await
    }

    /// Plans a statement whose names were looked up.
    pub(crate) async fn plan_with(
        &self,
        names: Names,
        statement: Statement,
    ) -> Result<LogicalPlan, SqlError> {
        let state = self.state(Arc::new(names), None, None, None)?;
        Ok(state.statement_to_plan(statement).await?)
    }

    /// Runs a plan as of now, or of the transaction's moment.
    pub(crate) async fn execute(
        &self,
        plan: &LogicalPlan,
        parameters: Vec<ScalarValue>,
        cancel: &CancellationToken,
    ) -> Result<SendableRecordBatchStream, SqlError> {
        let (physical, state) = self.physical(plan, parameters, None).await?;
        Ok(execute_stream(interruptible(physical, cancel)?, state.task_ctx())?)
    }

    /// Writes the rows of a plan where nobody sees them; answers how many.
    pub(crate) async fn write(
        &self,
        plan: &LogicalPlan,
        parameters: Vec<ScalarValue>,
        cancel: &CancellationToken,
        target: &Target,
    ) -> Result<u64, SqlError> {
        let changes =
            self.changes.clone().ok_or_else(|| SqlError::internal("writing rows", &"no changes"))?;
        let staged = Arc::new(StagedStore::new(changes, target.location.clone()));
        let (physical, state) = self.physical(plan, parameters, Some(Arc::clone(&staged))).await?;
        let physical = interruptible(physical, cancel)?;
        let writer = rows::plan(&state, physical, target).await?;
        rows::run(&state, writer).await.map_err(|error| staged.failure().unwrap_or(error))
    }

    /// A plan over pinned objects, and what to run it in.
    async fn physical(
        &self,
        plan: &LogicalPlan,
        parameters: Vec<ScalarValue>,
        staged: Option<Arc<StagedStore>>,
    ) -> Result<(Arc<dyn ExecutionPlan>, SessionState), SqlError> {
        let mut plan = plan.clone();
        if !parameters.is_empty() {
            plan = plan.with_param_values(ParamValues::from(parameters))?;
        }
        let state = self.state(Arc::new(Names::default()), None, None, None)?;
        let plan = state.optimize(&plan)?;
        let locations = locations(&plan)?;
        let moment = match locations.is_empty() && !reads_system(&plan)? {
            true => None,
            false => Some(self.moment().await?),
        };
        let pins = match &moment {
            Some((lease, moment)) if !locations.is_empty() => {
                let seen = self.seen.as_deref().filter(|_| staged.is_some());
                Some(self.pins_as(Arc::clone(lease), moment, locations, Extent::First, seen).await?)
            }
            _ => None,
        };
        let state = self.state(Arc::new(Names::default()), pins, staged, moment)?;
        let physical = state.query_planner().create_physical_plan(&plan, &state).await?;
        Ok((physical, state))
    }

    /// What locations hold at a moment, with what this transaction changed.
    pub(crate) async fn pins(
        &self,
        lease: Arc<HeldLease>,
        moment: &Moment,
        locations: Vec<Location>,
    ) -> Result<Pins, SqlError> {
        self.pins_as(lease, moment, locations, Extent::All, None).await
    }

    /// The first objects of locations, enough to know their columns.
    pub(crate) async fn first_pins(
        &self,
        lease: Arc<HeldLease>,
        moment: &Moment,
        locations: Vec<Location>,
    ) -> Result<Pins, SqlError> {
        self.pins_as(lease, moment, locations, Extent::First, None).await
    }

    /// With what it had changed at some time; `None`: by now.
    async fn pins_as(
        &self,
        lease: Arc<HeldLease>,
        moment: &Moment,
        locations: Vec<Location>,
        extent: Extent,
        seen: Option<&Seen>,
    ) -> Result<Pins, SqlError> {
        let (store, cx) = (&self.engine.inner.store, &self.cx);
        let resolve = async |locations| match extent {
            Extent::All => Pins::resolve(store, cx, lease, moment, locations).await,
            Extent::First => Pins::resolve_first(store, cx, lease, moment, locations).await,
        };
        let Some(changes) = &self.changes else { return resolve(locations).await };
        let seen = match seen {
            Some(seen) => seen.clone(),
            None => changes.seen().await?,
        };
        // What this transaction wrote at a key need not be there for others.
        let is_written = |location: &Location| match &location.keys {
            Keys::One(key) => {
                seen.staged.iter().any(|object| object.bucket == location.bucket && object.key == *key)
            }
            Keys::Below(_) | Keys::Matching(_) => false,
        };
        let (written, others) = locations.into_iter().partition(is_written);
        let pins = resolve(others).await?;
        let staged = seen.staged.clone();
        Ok(pins.and_none_at(written).changed(&staged, move |object| seen.is_removed(object)))
    }

    /// The transaction's moment, else the present.
    pub(crate) async fn moment(&self) -> Result<(Arc<HeldLease>, Moment), SqlError> {
        match &self.moment {
            Some(shared) => Ok(shared.parts()),
            None => HeldLease::take(&self.engine.inner.store, &self.engine.inner.upkeep).await,
        }
    }

    /// DataFusion's view of this session.
    fn state(
        &self,
        names: Arc<Names>,
        pins: Option<Pins>,
        staged: Option<Arc<StagedStore>>,
        moment: Option<(Arc<HeldLease>, Moment)>,
    ) -> Result<SessionState, SqlError> {
        let base = &self.engine.inner.base;
        let environment = self.engine.inner.environment(pins.as_ref(), staged)?;
        let mut config = base.config().clone();
        config.options_mut().execution.time_zone = Some(self.settings.time_zone().to_owned());
        let caller = Caller { engine: self.engine.clone(), cx: Arc::clone(&self.cx), moment };
        config = config.with_extension(Arc::new(caller));
        config = config.with_default_catalog_and_schema(CATALOG, names.default_schema());
        if let Some(pins) = pins {
            config = config.with_extension(Arc::new(pins));
        }
        let mut state = SessionStateBuilder::new_from_existing(base.clone())
            .with_config(config)
            .with_runtime_env(environment)
            .with_catalog_list(names)
            .build();
        // What `now()` is.
        state.mark_start_execution();
        Ok(state)
    }
}

/// Whether a plan's rows go to the client.
pub(crate) fn gives_rows(plan: &LogicalPlan) -> bool {
    !matches!(
        plan,
        LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_)
    )
}

/// Where a plan reads, each place once.
fn locations(plan: &LogicalPlan) -> Result<Vec<Location>, SqlError> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = provider.downcast_ref::<ObjectsTable>()
            && !found.contains(&table.location)
        {
            found.push(table.location.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Whether a plan reads a table of `system`.
fn reads_system(plan: &LogicalPlan) -> Result<bool, SqlError> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
        {
            found |= provider.is::<SystemTable>();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Types of `$1`, `$2`, … in order.
pub(crate) fn parameter_types(plan: &LogicalPlan) -> Result<Vec<DataType>, SqlError> {
    let mut by_number = BTreeMap::new();
    for (name, data_type) in plan.get_parameter_types()? {
        let number: usize = name
            .trim_start_matches('$')
            .parse()
            .ok()
            .filter(|number| (1..=PARAMETERS_MAX).contains(number))
            .ok_or_else(|| SqlError::syntax(format!("{name} is no parameter")).hint("write $1, $2, …"))?;
        by_number.insert(number, data_type.unwrap_or(DataType::Utf8));
    }
    let count = by_number.keys().next_back().copied().unwrap_or(0);
    Ok((1..=count).map(|number| by_number.remove(&number).unwrap_or(DataType::Utf8)).collect())
}
