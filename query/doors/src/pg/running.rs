//! One statement from its beginning to its last row.
//!
//! Invariant: whatever ends a statement early (an error, a cancellation, a client that left) frees what it holds
//! at once and leaves an open transaction failed; COMMIT alone is not cut short.

use std::sync::Arc;

use ashlar_query::session::TransactionState;
use ashlar_query::{Outcome, SqlError, SqlState};
use datafusion::common::ScalarValue;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::backend::{self, Severity};
use super::connection::Connection;
use super::pipes::Gone;
use super::rows::{Rows, SLICE_ROWS_MAX};
use super::statement::{Kind, Own, Statement};

/// Why a statement ended early.
pub(super) enum Fault {
    /// It failed; the connection goes on.
    Sql(SqlError),
    /// There is nobody to tell.
    Gone(Gone),
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<Gone> for Fault {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

/// What became of a statement that was begun.
pub(super) enum Begun {
    /// It is done; what to tell.
    Done(String),
    /// There was nothing in it.
    Empty,
    /// Rows come.
    Rows(Rows),
}

/// Most savepoints of a transaction.
const SAVEPOINTS_MAX: usize = 100;

fn outside(what: &str) -> SqlError {
    SqlError::new(SqlState::NoActiveTransaction, format!("{what} can only be used in a transaction"))
}

fn cancelled() -> SqlError {
    SqlError::new(SqlState::QueryCanceled, "the statement was cancelled by its user")
}

impl Connection {
    /// Begins a statement.
    pub(super) async fn begin(
        &mut self,
        statement: &Arc<Statement>,
        parameters: Vec<ScalarValue>,
        result_formats: &[bool],
        cancel: &CancellationToken,
    ) -> Result<Begun, Fault> {
        let begun = self.begin_inner(statement, parameters, result_formats, cancel).await;
        if begun.is_err() {
            self.session.fail();
        }
        if self.session.transaction_state() == TransactionState::Idle {
            self.savepoints.clear();
        }
        self.report_settings();
        begun
    }

    async fn begin_inner(
        &mut self,
        statement: &Arc<Statement>,
        parameters: Vec<ScalarValue>,
        result_formats: &[bool],
        cancel: &CancellationToken,
    ) -> Result<Begun, Fault> {
        let zone = self.session.setting("timezone");
        match &statement.kind {
            Kind::Empty => Ok(Begun::Empty),
            Kind::Own(own) => Ok(Begun::Done(self.own(own)?)),
            Kind::Catalog(prepared) => {
                self.shared.keeper.still(&self.proven).await?;
                let catalog = &self.shared.catalog;
                let work = catalog.execute(&mut self.session, &mut self.seen, prepared, parameters);
                let stream = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(cancelled().into()),
                    gone = self.inbox.gone() => return Err(gone.into()),
                    done = work => done?,
                };
                Ok(Begun::Rows(Rows::new(stream, "SELECT", result_formats, zone.as_deref())?))
            }
            Kind::Session(prepared) | Kind::Copy(prepared, _) => {
                let tag = prepared.tag();
                if let Some(warning) = idle_control(tag, self.session.transaction_state()) {
                    let out = &mut self.outbox.buffer;
                    backend::failure(out, Severity::Warning, warning.0, warning.1, None, None);
                    return Ok(Begun::Done(tag.to_owned()));
                }
                self.shared.keeper.still(&self.proven).await?;
                if tag == "SET" || tag == "RESET" {
                    // Going back would have to set it back.
                    self.savepoints.clear();
                }
                let outcome = if tag == "COMMIT" {
                    self.session.execute(prepared, parameters).await?
                } else {
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => return Err(cancelled().into()),
                        gone = self.inbox.gone() => return Err(gone.into()),
                        done = self.session.execute(prepared, parameters) => done?,
                    }
                };
                match outcome {
                    Outcome::Affected { tag, rows } => Ok(Begun::Done(complete(tag, rows))),
                    Outcome::Rows(stream) => match &statement.kind {
                        Kind::Copy(_, format) => {
                            let mut rows = Rows::new(stream, "COPY", &[format.is_binary()], zone.as_deref())?;
                            rows.copy = Some(format.clone());
                            Ok(Begun::Rows(rows))
                        }
                        _ => Ok(Begun::Rows(Rows::new(stream, tag, result_formats, zone.as_deref())?)),
                    },
                }
            }
        }
    }

    /// Sends rows, at most so many; whether they ended.
    pub(super) async fn send(
        &mut self,
        rows: &mut Rows,
        rows_max: usize,
        cancel: &CancellationToken,
    ) -> Result<bool, Fault> {
        let sent = self.send_inner(rows, rows_max, cancel).await;
        if sent.is_err() {
            self.session.fail();
        }
        sent
    }

    async fn send_inner(
        &mut self,
        rows: &mut Rows,
        rows_max: usize,
        cancel: &CancellationToken,
    ) -> Result<bool, Fault> {
        let mut left = rows_max;
        while left > 0 {
            let batch = match rows.rest.take() {
                Some(batch) => batch,
                None => {
                    let next = tokio::select! {
                        biased;
                        () = cancel.cancelled() => return Err(cancelled().into()),
                        gone = self.inbox.gone() => return Err(gone.into()),
                        next = rows.stream.next() => next,
                    };
                    match next {
                        None => return Ok(true),
                        Some(Err(error)) => return Err(SqlError::from(error).into()),
                        Some(Ok(batch)) => batch,
                    }
                }
            };
            let take = batch.num_rows().min(left).min(SLICE_ROWS_MAX);
            let slice = rows.slice(&batch.slice(0, take)).map_err(SqlError::from)?;
            for row in 0..slice.rows {
                slice.write(row, &mut self.outbox.buffer)?;
                self.outbox.relieve().await?;
            }
            if cancel.is_cancelled() {
                return Err(cancelled().into());
            }
            if take < batch.num_rows() {
                rows.rest = Some(batch.slice(take, batch.num_rows() - take));
            }
            rows.sent += u64::try_from(take).unwrap_or(0);
            left -= take;
        }
        Ok(false)
    }

    fn savepoint(&self, name: &str) -> Result<usize, SqlError> {
        let found = self.savepoints.iter().rposition(|savepoint| savepoint == name);
        found.ok_or_else(|| {
            let message = format!("savepoint {name:?} does not exist, or SET came after it");
            SqlError::new(SqlState::InvalidSavepoint, message)
        })
    }

    pub(super) fn begin_copy(&mut self, rows: &Rows) {
        if let Some(format) = &rows.copy {
            let names: Vec<String> =
                rows.stream.schema().fields().iter().map(|field| field.name().clone()).collect();
            format.begin(&names, self.out());
        }
    }

    pub(super) fn end_copy(&mut self, rows: &Rows) {
        if let Some(format) = &rows.copy {
            format.end(rows.sent, self.out());
        }
    }

    /// Does what concerns the connection alone.
    fn own(&mut self, own: &Own) -> Result<String, SqlError> {
        let is_way_back = matches!(own, Own::RollbackTo(_));
        if self.session.transaction_state() == TransactionState::Failed && !is_way_back {
            let message = "the transaction failed; statements are refused until it ends";
            return Err(SqlError::new(SqlState::InFailedTransaction, message).hint("ROLLBACK"));
        }
        match own {
            Own::Deallocate(Some(name)) => {
                self.statements.remove(name).ok_or_else(|| no_statement(name))?;
            }
            Own::Deallocate(None) => self.statements.clear(),
            Own::CloseCursor(Some(name)) => {
                self.portals.remove(name).ok_or_else(|| no_portal(name))?;
            }
            Own::CloseCursor(None) => self.portals.clear(),
            Own::Savepoint(name) => {
                if self.session.transaction_state() == TransactionState::Idle {
                    return Err(outside("SAVEPOINT"));
                }
                if self.savepoints.len() >= SAVEPOINTS_MAX {
                    let message = format!("a transaction has at most {SAVEPOINTS_MAX} savepoints");
                    return Err(SqlError::new(SqlState::ProgramLimitExceeded, message));
                }
                self.savepoints.push(name.clone());
            }
            Own::Release(name) => {
                let at = self.savepoint(name)?;
                self.savepoints.truncate(at);
            }
            Own::RollbackTo(name) => {
                if self.session.transaction_state() == TransactionState::Idle {
                    return Err(outside("ROLLBACK TO SAVEPOINT"));
                }
                let at = self.savepoint(name)?;
                self.session.recover()?;
                self.savepoints.truncate(at + 1);
            }
            Own::Unlisten => {}
            Own::ResetAll => self.reset_settings()?,
            Own::DiscardAll => {
                if self.session.transaction_state() != TransactionState::Idle {
                    let message = "DISCARD ALL cannot run inside a transaction";
                    return Err(SqlError::new(SqlState::ActiveTransaction, message));
                }
                self.portals.clear();
                self.statements.clear();
                self.reset_settings()?;
            }
        }
        Ok(own.tag().to_owned())
    }
}

/// PostgreSQL warns where a transaction begins twice or ends without having begun.
fn idle_control(tag: &str, state: TransactionState) -> Option<(&'static str, &'static str)> {
    match (tag, state) {
        ("COMMIT" | "ROLLBACK", TransactionState::Idle) => {
            Some(("25P01", "there is no transaction in progress"))
        }
        ("BEGIN", TransactionState::Open) => Some(("25001", "there is already a transaction in progress")),
        _ => None,
    }
}

/// The tag with the rows it counts, as PostgreSQL writes it.
pub(super) fn complete(tag: &str, rows: Option<u64>) -> String {
    match (tag, rows) {
        ("INSERT", rows) => format!("INSERT 0 {}", rows.unwrap_or(0)),
        // CREATE TABLE AS tells the rows as a query does.
        ("CREATE TABLE", Some(rows)) => format!("SELECT {rows}"),
        (tag, Some(rows)) => format!("{tag} {rows}"),
        (tag, None) => tag.to_owned(),
    }
}

pub(super) fn no_statement(name: &str) -> SqlError {
    SqlError::new(SqlState::InvalidStatementName, format!("prepared statement {name:?} does not exist"))
}

pub(super) fn no_portal(name: &str) -> SqlError {
    SqlError::new(SqlState::InvalidCursorName, format!("portal {name:?} does not exist"))
}

/// The tag after rows.
pub(super) fn rows_tag(tag: &str, rows: u64) -> String {
    match tag {
        "SELECT" | "COPY" => format!("{tag} {rows}"),
        other => other.to_owned(),
    }
}
