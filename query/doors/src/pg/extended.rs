//! The extended protocol: statements and portals.
//!
//! Invariant: every error leaves an open transaction failed; a portal's rows go on where they stopped.

use std::sync::Arc;

use ashlar_query::{SqlError, SqlState};
use tokio_util::sync::CancellationToken;

use super::backend;
use super::connection::Connection;
use super::frontend::{Bind, Message, What};
use super::portal::{PORTALS_MAX, Portal, State};
use super::rows;
use super::running::{Begun, Fault, no_portal, no_statement, rows_tag};

/// Most prepared statements of a connection.
const STATEMENTS_MAX: usize = 1_000;

impl Connection {
    pub(super) async fn extended(&mut self, message: Message) -> Result<(), Fault> {
        match message {
            Message::Parse { name, text, types } => self.parse(name, text, &types).await,
            Message::Bind(bind) => Ok(self.bind(bind)?),
            Message::Describe { what, name } => Ok(self.describe(what, &name)?),
            Message::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Message::Close { what, name } => {
                match what {
                    What::Statement => drop(self.statements.remove(&name)),
                    What::Portal => drop(self.portals.remove(&name)),
                }
                backend::plain(self.out(), b'3');
                Ok(())
            }
            Message::Flush => Ok(self.outbox.flush().await?),
            _ => Ok(()),
        }
    }

    async fn parse(&mut self, name: String, text: String, types: &[u32]) -> Result<(), Fault> {
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(&name) {
            let message = format!("prepared statement {name:?} already exists");
            return Err(self.failed(SqlError::new(SqlState::DuplicatePreparedStatement, message)));
        } else if self.statements.len() >= STATEMENTS_MAX {
            let message = format!("a connection has at most {STATEMENTS_MAX} prepared statements");
            return Err(self.failed(SqlError::new(SqlState::ProgramLimitExceeded, message)));
        }
        let statement = self.prepare(&text, types).await?;
        self.statements.insert(name, Arc::new(statement));
        backend::plain(self.out(), b'1');
        Ok(())
    }

    fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let done = self.bind_inner(bind);
        if done.is_err() {
            self.session.fail();
        }
        done
    }

    fn bind_inner(&mut self, bind: Bind) -> Result<(), SqlError> {
        let statement = self.statements.get(&bind.statement).cloned();
        let statement = statement.ok_or_else(|| no_statement(&bind.statement))?;
        if bind.portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(&bind.portal) {
            let message = format!("portal {:?} already exists", bind.portal);
            return Err(SqlError::new(SqlState::DuplicateCursor, message));
        } else if self.portals.len() >= PORTALS_MAX {
            let message = format!("a connection has at most {PORTALS_MAX} portals");
            return Err(SqlError::new(SqlState::ProgramLimitExceeded, message));
        }
        let (given, asked) = (bind.parameters.len(), statement.parameters.len());
        if given != asked {
            let message = format!("the statement has {asked} parameters and {given} were given");
            return Err(SqlError::new(SqlState::ProtocolViolation, message));
        }
        if bind.parameter_formats.len() > 1 && bind.parameter_formats.len() != given {
            let message =
                format!("{} formats were given for {given} parameters", bind.parameter_formats.len());
            return Err(SqlError::new(SqlState::ProtocolViolation, message));
        }
        let mut parameters = Vec::with_capacity(given);
        for (at, (bytes, parameter)) in bind.parameters.into_iter().zip(&statement.parameters).enumerate() {
            let formats = &bind.parameter_formats;
            let is_binary = *formats.get(at).or(formats.first()).unwrap_or(&false);
            let pg_type = parameter.pg_type;
            parameters.push(super::parameters::decode(pg_type, is_binary, bytes, &parameter.target)?);
        }
        if let Some(schema) = statement.schema() {
            rows::describe(schema, &bind.result_formats)?;
        }
        let result_formats = bind.result_formats;
        let portal = Portal { statement, parameters, result_formats, state: State::Fresh };
        self.portals.insert(bind.portal, portal);
        backend::plain(self.out(), b'2');
        Ok(())
    }

    fn describe(&mut self, what: What, name: &str) -> Result<(), SqlError> {
        let (statement, formats) = match what {
            What::Statement => {
                let statement = self.statements.get(name).cloned().ok_or_else(|| no_statement(name))?;
                let oids: Vec<u32> = statement.parameters.iter().map(|parameter| parameter.oid).collect();
                backend::parameter_description(self.out(), &oids);
                (statement, Vec::new())
            }
            What::Portal => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (Arc::clone(&portal.statement), portal.result_formats.clone())
            }
        };
        match statement.schema() {
            Some(schema) => {
                let columns = rows::describe(schema, &formats)?;
                backend::row_description(self.out(), &columns);
            }
            None => backend::plain(self.out(), b'n'),
        }
        Ok(())
    }

    async fn execute(&mut self, name: &str, rows_max: usize) -> Result<(), Fault> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let cancel = self.registered.begin();
        let done = self.execute_inner(&mut portal, rows_max, &cancel).await;
        self.registered.end();
        // A statement may have closed what it ran in; the unnamed one goes with its error.
        if done.is_ok() {
            self.portals.insert(name.to_owned(), portal);
        }
        done
    }

    async fn execute_inner(
        &mut self,
        portal: &mut Portal,
        rows_max: usize,
        cancel: &CancellationToken,
    ) -> Result<(), Fault> {
        let mut rows = match std::mem::replace(&mut portal.state, State::Done) {
            State::Fresh => {
                let parameters = std::mem::take(&mut portal.parameters);
                match self.begin(&portal.statement, parameters, &portal.result_formats, cancel).await? {
                    Begun::Empty => {
                        backend::plain(self.out(), b'I');
                        return Ok(());
                    }
                    Begun::Done(tag) => {
                        backend::complete(self.out(), &tag);
                        return Ok(());
                    }
                    Begun::Rows(rows) => {
                        self.begin_copy(&rows);
                        Box::new(rows)
                    }
                }
            }
            State::Suspended(rows) => rows,
            State::Done => {
                let tag = if portal.statement.schema().is_some() { "SELECT 0" } else { "" };
                backend::complete(self.out(), tag);
                return Ok(());
            }
            State::Expired => {
                let error = SqlError::new(SqlState::QueryCanceled, "the portal's rows waited too long")
                    .hint("ask for rows sooner, or for all at once");
                return Err(self.failed(error));
            }
        };
        // A copy is never sent in parts.
        let rows_max = if rows.copy.is_some() { usize::MAX } else { rows_max };
        if self.send(&mut rows, rows_max, cancel).await? {
            self.end_copy(&rows);
            backend::complete(self.out(), &rows_tag(rows.tag, rows.sent));
        } else {
            backend::plain(self.out(), b's');
            portal.state = State::Suspended(rows);
        }
        Ok(())
    }
}
