//! The simple protocol: a text with any number of statements.
//!
//! Invariant: several statements are all done or none, unless they say themselves where transactions are.

use std::sync::Arc;

use ashlar_query::session::TransactionState;
use ashlar_query::{SqlError, SqlState};
use tokio_util::sync::CancellationToken;

use super::backend;
use super::connection::Connection;
use super::pipes::Gone;
use super::rows;
use super::running::{Begun, Fault, rows_tag};
use super::split::split;
use super::statement::{self, Statement};

/// Most statements of one simple query.
const SIMPLE_STATEMENTS_MAX: usize = 1_000;

impl Connection {
    /// Runs a text with any number of statements: all or none, unless it says itself where transactions are.
    pub(super) async fn simple(&mut self, text: &str) -> Result<(), Gone> {
        // As PostgreSQL has it, a simple query ends the unnamed ones.
        self.statements.remove("");
        self.portals.remove("");
        let statements = split(text);
        if statements.is_empty() {
            backend::plain(self.out(), b'I');
            self.ready();
            return Ok(());
        }
        let is_one = statements.len() > 1
            && self.session.transaction_state() == TransactionState::Idle
            && !statements.iter().any(|text| statement::is_control(text));
        match self.all_of(&statements, is_one).await {
            Ok(()) => {}
            Err(fault) => {
                self.fault(fault)?;
                if is_one && self.session.transaction_state() != TransactionState::Idle {
                    let ended = self.session.query("ROLLBACK", Vec::new()).await;
                    if let Err(error) = ended {
                        tracing::warn!(target: "ashlar_sql", %error, "a transaction could not be rolled back");
                    }
                }
            }
        }
        if self.session.transaction_state() == TransactionState::Idle {
            self.portals.clear();
        }
        self.ready();
        Ok(())
    }

    async fn all_of(&mut self, statements: &[&str], is_one: bool) -> Result<(), Fault> {
        if statements.len() > SIMPLE_STATEMENTS_MAX {
            let message = format!("more than {SIMPLE_STATEMENTS_MAX} statements at once");
            return Err(self.failed(SqlError::new(SqlState::ProgramLimitExceeded, message)));
        }
        if is_one {
            self.session.query("BEGIN", Vec::new()).await?;
        }
        for text in statements {
            if let Err(fault) = self.one_of(text).await {
                // Counted from the statement's beginning, which is not that of the text.
                self.position.take_if(|_| statements.len() > 1);
                return Err(fault);
            }
        }
        if is_one {
            self.session.query("COMMIT", Vec::new()).await?;
        }
        Ok(())
    }

    async fn one_of(&mut self, text: &str) -> Result<(), Fault> {
        let statement = Arc::new(self.prepare(text, &[]).await?);
        if !statement.parameters.is_empty() {
            let error = SqlError::new(SqlState::UndefinedParameter, "a simple query has no parameters")
                .hint("prepare the statement");
            return Err(self.failed(error));
        }
        let cancel = self.registered.begin();
        let done = self.one_of_inner(&statement, &cancel).await;
        self.registered.end();
        done
    }

    async fn one_of_inner(
        &mut self,
        statement: &Arc<Statement>,
        cancel: &CancellationToken,
    ) -> Result<(), Fault> {
        match self.begin(statement, Vec::new(), &[], cancel).await? {
            Begun::Empty => backend::plain(self.out(), b'I'),
            Begun::Done(tag) => backend::complete(self.out(), &tag),
            Begun::Rows(mut rows) => {
                if rows.copy.is_none() {
                    let columns = rows::describe(&rows.stream.schema(), &[])?;
                    backend::row_description(self.out(), &columns);
                }
                self.begin_copy(&rows);
                self.send(&mut rows, usize::MAX, cancel).await?;
                self.end_copy(&rows);
                backend::complete(self.out(), &rows_tag(rows.tag, rows.sent));
            }
        }
        Ok(())
    }
}
