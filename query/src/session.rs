//! One connection's SQL: prepare, execute, settings, transactions. What every front door speaks to.
//!
//! A front door authenticates, makes a [`Session`] of the caller's request, and keeps it as long as the
//! connection lasts. [`Session::prepare`] tells parameters and columns; [`Session::execute`] runs. Every
//! execution outside of a transaction sees the present; within one, all see the moment of BEGIN.
//!
//! Invariant: an answer's rows are of one moment, authorised at this execution for this caller; dropping an
//! answer or a future frees what it holds at once. Deliberately knows no wire form.

mod definitions;
pub(crate) mod names;
mod parse;
mod planning;
mod rows;
mod settings;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use ashlar_objects::access::{Principal, RequestContext};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;

pub use self::parse::split;
use self::parse::{Parsed, Step};
use self::planning::Planner;
use self::settings::Settings;
use self::transaction::{Shared, TRANSACTION_MAX, Transaction};
use crate::engine::{Engine, running::Entry};
use crate::error::{SqlError, SqlState};
use crate::write::changes::Changes;

/// A connection.
pub struct Session {
    engine: Engine,
    cx: Arc<RequestContext>,
    settings: Settings,
    transaction: Option<Transaction>,
    /// Until when a transaction may stay open.
    transaction_max: Duration,
}

/// A prepared statement. Cheap to clone; good for this session, or another of the same caller.
#[derive(Clone, Debug)]
pub struct Prepared {
    text: Arc<str>,
    step: Arc<Step>,
    plan: Option<Arc<LogicalPlan>>,
    parameter_types: Vec<DataType>,
    schema: Option<SchemaRef>,
    tag: &'static str,
}

impl Prepared {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What `$1`, `$2`, … are; text where the statement leaves it open.
    pub fn parameter_types(&self) -> &[DataType] {
        &self.parameter_types
    }

    /// The columns of its rows; `None`: it gives none.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    /// The first words of the statement, as PostgreSQL's command tags have them: `SELECT`, `CREATE TABLE`, …
    pub fn tag(&self) -> &'static str {
        self.tag
    }
}

/// What an execution gives.
pub enum Outcome {
    /// Rows as they come. An error ends them; only a stream that ended without one is whole.
    Rows(SendableRecordBatchStream),
    /// It is done.
    Affected {
        /// As [`Prepared::tag`].
        tag: &'static str,
        /// Rows written, of statements that write rows.
        rows: Option<u64>,
    },
}

/// Where a session stands, as PostgreSQL tells its clients after every statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// No transaction.
    Idle,
    /// Within one.
    Open,
    /// Within one that failed: everything but ROLLBACK is refused.
    Failed,
}

impl Session {
    /// A session for a caller who was authenticated. The context's principal is who every object is
    /// authorised for; anonymous callers get no session.
    pub fn new(engine: &Engine, cx: RequestContext) -> Result<Self, SqlError> {
        if cx.principal == Principal::Anonymous {
            return Err(SqlError::new(SqlState::InsufficientPrivilege, "SQL needs credentials"));
        }
        let settings = Settings::new(engine.inner.config.statement_timeout);
        let (engine, cx) = (engine.clone(), Arc::new(cx));
        Ok(Self { engine, cx, settings, transaction: None, transaction_max: TRANSACTION_MAX })
    }

    /// Whether a transaction is open.
    pub fn transaction_state(&self) -> TransactionState {
        match &self.transaction {
            None => TransactionState::Idle,
            Some(transaction) if transaction.failed || transaction.is_over() => TransactionState::Failed,
            Some(_) => TransactionState::Open,
        }
    }

    /// Whose it is.
    pub fn user(&self) -> &str {
        match &self.cx.principal {
            Principal::User(user) => &user.name,
            Principal::Anonymous | Principal::System => "system",
        }
    }

    /// Tells that a statement failed outside of [`Session::execute`]: while its rows streamed, or in the front
    /// door. An open transaction then takes nothing but its end.
    pub fn fail(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.failed = true;
        }
    }

    /// Takes statements again after one failed, where the transaction wrote nothing: there is nothing to undo.
    pub fn recover(&mut self) -> Result<(), SqlError> {
        match &mut self.transaction {
            None => Err(SqlError::new(SqlState::NoActiveTransaction, "no transaction is open")),
            Some(transaction) if transaction.is_over() => Err(transaction.over()),
            Some(transaction) if transaction.changes().is_some() => {
                Err(SqlError::unsupported("going back to a savepoint in a transaction that wrote something")
                    .hint("ROLLBACK"))
            }
            Some(transaction) => {
                transaction.failed = false;
                Ok(())
            }
        }
    }

    /// A setting as SHOW has it; `None`: there is none of this name.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.settings.show(name)
    }

    /// Changes a setting as SET does.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        self.settings.set(name, value)
    }

    /// Parses and plans one statement. Names are looked up and columns read, as the caller may.
    pub async fn prepare(&mut self, text: &str) -> Result<Prepared, SqlError> {
        // Boxed: whoever holds this future holds it for each connection.
        let prepared = Box::pin(self.prepare_inner(text)).await;
        self.after(prepared)
    }

    async fn prepare_inner(&mut self, text: &str) -> Result<Prepared, SqlError> {
        let text: Arc<str> = Arc::from(text);
        let to_parse = Arc::clone(&text);
        // On the threads of SQL: their stacks are made for deep statements.
        let Parsed { step, tag } =
            self.engine.inner.executor.run(async move { parse::one(&to_parse) }).await?;
        self.refuse_in_failed(&step)?;
        let mut prepared = Prepared {
            text,
            step: Arc::new(step),
            plan: None,
            parameter_types: Vec::new(),
            schema: None,
            tag,
        };
        match &*prepared.step {
            Step::Plan(_) => {
                let _permit = self.within_timeout(self.engine.inner.planning.enter()).await?;
                let (planner, step) = (self.planner()?, Arc::clone(&prepared.step));
                let work = Box::pin(async move {
                    let Step::Plan(statement) = &*step else { unreachable!("matched above") };
                    planner.plan(statement).await
                });
                let plan = self.within_timeout(self.engine.inner.executor.run(work)).await?;
                prepared.parameter_types = planning::parameter_types(&plan)?;
                prepared.schema =
                    planning::gives_rows(&plan).then(|| Arc::new(plan.schema().as_arrow().clone()));
                prepared.plan = Some(Arc::new(plan));
            }
            Step::Show(name) => prepared.schema = Some(rows::one_column(name)),
            _ => {}
        }
        Ok(prepared)
    }

    /// Runs a prepared statement with its parameters, in order.
    pub async fn execute(
        &mut self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        let outcome = Box::pin(self.execute_inner(prepared, parameters)).await;
        self.after(outcome)
    }

    /// Prepares and runs.
    pub async fn query(&mut self, text: &str, parameters: Vec<ScalarValue>) -> Result<Outcome, SqlError> {
        let prepared = self.prepare(text).await?;
        self.execute(&prepared, parameters).await
    }

    async fn execute_inner(
        &mut self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        self.refuse_in_failed(&prepared.step)?;
        if parameters.len() != prepared.parameter_types.len() {
            return Err(SqlError::invalid(format!(
                "the statement has {} parameters and {} were given",
                prepared.parameter_types.len(),
                parameters.len()
            )));
        }
        let done = Outcome::Affected { tag: prepared.tag, rows: None };
        match &*prepared.step {
            Step::Plan(_) if prepared.schema.is_some() => self.run_plan(prepared, parameters).await,
            Step::Plan(_) | Step::CreateSchema { .. } | Step::Rename { .. } | Step::Truncate { .. } => {
                self.change(prepared, parameters).await
            }
            Step::Set(assignments) => {
                let mut settings = self.settings.clone();
                for (name, value) in assignments {
                    settings.assign(name, value.as_deref())?;
                }
                self.settings = settings;
                Ok(done)
            }
            Step::Show(name) => {
                let value = self.settings.show(name).ok_or_else(|| settings::unknown(name))?;
                Ok(Outcome::Rows(rows::one_value(name, &value)?))
            }
            Step::Begin { read_only } => {
                if self.transaction.is_some() {
                    return Err(SqlError::new(SqlState::ActiveTransaction, "a transaction is open already")
                        .hint("COMMIT or ROLLBACK it first"));
                }
                self.transaction =
                    Some(Transaction::begin(&self.engine, self.transaction_max, *read_only).await?);
                Ok(done)
            }
            Step::Commit | Step::Rollback if self.transaction.is_none() => {
                Err(SqlError::new(SqlState::NoActiveTransaction, "no transaction is open"))
            }
            Step::Commit => {
                let transaction = self.transaction.take().expect("matched above");
                if transaction.failed {
                    // What PostgreSQL answers: nothing was committed, and the tag says so.
                    return Ok(Outcome::Affected { tag: "ROLLBACK", rows: None });
                }
                if let Some(changes) = transaction.finish()? {
                    self.publish(changes).await?;
                }
                Ok(done)
            }
            Step::Rollback => {
                self.transaction = None;
                Ok(done)
            }
            Step::Unsupported(what) => Err(SqlError::unsupported(what)),
        }
    }

    async fn run_plan(
        &mut self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        let plan = prepared.plan.as_ref().expect("a planned statement has a plan");
        let (planner, plan) = (self.planner()?, Arc::clone(plan));
        let schema = prepared.schema.clone().unwrap_or_else(|| Arc::new(plan.schema().as_arrow().clone()));
        let entry = self.entry(&prepared.text);
        let deadline = self.settings.statement_timeout().map(|timeout| tokio::time::Instant::now() + timeout);
        let permit = self.within_timeout(self.engine.inner.admission.enter()).await?;
        let cancel = entry.statement.cancel.clone();
        let work = Box::pin(async move { planner.execute(&plan, parameters, &cancel).await });
        let running = self.within_timeout(self.engine.inner.executor.run(work)).await?;
        Ok(Outcome::Rows(rows::stream(&self.engine.inner.executor, running, schema, permit, entry, deadline)))
    }

    /// Runs a statement that changes something: in the transaction's changes, else in changes of its own.
    async fn change(
        &mut self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        if self.transaction.as_ref().is_some_and(|transaction| transaction.read_only) {
            return Err(SqlError::new(
                SqlState::ReadOnlyTransaction,
                format!("{} in a read-only transaction", prepared.tag),
            ));
        }
        if let Some(transaction) = &mut self.transaction {
            // Until it is done: whoever drops this future leaves a part of the statement staged.
            transaction.failed = true;
        }
        let entry = self.entry(&prepared.text);
        let _permit = self.within_timeout(self.engine.inner.admission.enter()).await?;
        let changes = match &mut self.transaction {
            Some(transaction) => transaction.begin_changes(&self.engine, &self.cx).await?,
            None => Changes::begin(&self.engine, &self.cx).await?,
        };
        let mut planner = Planner { changes: Some(Arc::clone(&changes)), ..self.planner()? };
        planner.seen = Some(Arc::new(changes.seen().await?));
        if planner.moment.is_none() {
            // One for all that the statement looks up and reads.
            planner.moment = Some(Shared::take(&self.engine).await?);
        }
        let (step, plan, text) =
            (Arc::clone(&prepared.step), prepared.plan.clone(), Arc::clone(&prepared.text));
        let cancel = entry.statement.cancel.clone();
        // Whoever goes away, or waits too long, takes the work with him.
        let _cancel = cancel.clone().drop_guard();
        let work = Box::pin(async move {
            match (&*step, plan) {
                (Step::CreateSchema { name, location, if_not_exists }, _) => {
                    definitions::create_schema(&planner, name, location.as_deref(), *if_not_exists).await
                }
                (Step::Rename { from, to, if_exists }, _) => {
                    definitions::rename(&planner, from, to, *if_exists).await
                }
                (Step::Truncate { names, if_exists }, _) => {
                    definitions::truncate(&planner, names, *if_exists).await
                }
                (_, Some(plan)) => planner.change(&text, &plan, parameters, &cancel).await,
                _ => Err(SqlError::internal("running a statement", &"it has no plan")),
            }
        });
        let rows = self.within_timeout(self.engine.inner.executor.run(work)).await?;
        match &mut self.transaction {
            Some(transaction) => transaction.failed = false,
            None => self.publish(changes).await?,
        }
        Ok(Outcome::Affected { tag: prepared.tag, rows })
    }

    /// On the threads of SQL. It goes on whatever becomes of the caller: given up in the middle, it could be neither
    /// taken back nor known.
    async fn publish(&self, changes: Arc<Changes>) -> Result<(), SqlError> {
        let engine = self.engine.clone();
        let on_threads =
            async move { engine.inner.executor.run(async move { changes.publish().await }).await };
        self.engine.inner.upkeep.carry(on_threads).await
    }

    fn planner(&self) -> Result<Planner, SqlError> {
        Ok(Planner {
            engine: self.engine.clone(),
            cx: Arc::clone(&self.cx),
            settings: self.settings.clone(),
            moment: self.transaction.as_ref().map(Transaction::moment).transpose()?,
            changes: self.transaction.as_ref().and_then(Transaction::changes),
            seen: None,
        })
    }

    fn entry(&self, text: &str) -> Entry {
        let (user, id) = match &self.cx.principal {
            Principal::User(user) => (user.name.clone(), Some(user.id.clone())),
            Principal::Anonymous | Principal::System => ("system".to_owned(), None),
        };
        self.engine.inner.running.enter(user, id, text)
    }

    async fn within_timeout<T>(
        &self,
        work: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        match self.settings.statement_timeout() {
            None => work.await,
            Some(timeout) => within(timeout, work).await,
        }
    }

    /// After an error in a transaction nothing but its end is taken.
    fn after<T>(&mut self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        if let (Err(_), Some(transaction)) = (&result, &mut self.transaction) {
            transaction.failed = true;
        }
        result
    }

    fn refuse_in_failed(&self, step: &Step) -> Result<(), SqlError> {
        let Some(transaction) = &self.transaction else { return Ok(()) };
        if matches!(step, Step::Commit | Step::Rollback) {
            return Ok(());
        }
        if !transaction.failed {
            // The first statement that comes too late is told so.
            return transaction.moment().map(|_| ());
        }
        Err(SqlError::new(
            SqlState::InFailedTransaction,
            "the transaction failed; statements are refused until it ends",
        )
        .hint("ROLLBACK"))
    }
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, SqlError>>,
) -> Result<T, SqlError> {
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(SqlError::timed_out()))
}

#[cfg(test)]
mod tests;
