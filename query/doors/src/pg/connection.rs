//! A connection: messages in, answers out, in the order of the protocol.
//!
//! Invariant: after an error of the extended protocol nothing is done until Sync; what a client keeps open here
//! (statements, portals, rows that wait) is bounded in number and time.

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_query::session::TransactionState;
use ashlar_query::{Session, SqlError, SqlState};
use bytes::BytesMut;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::backend::{self, Severity};
use super::cancel::Registered;
use super::copy;
use super::frontend::{Bind, Message, What};
use super::pipes::{Gone, Inbox, Outbox};
use super::portal::{PORTALS_MAX, Portal, State};
use super::rows::{self, Rows};
use super::running::{Begun, Fault, no_portal, no_statement};
use super::split::split;
use super::statement::{self, Kind, Own, Statement};
use crate::catalog::{SERVER_VERSION, Seen};
use crate::credentials::Proven;

/// Most prepared statements of a connection.
const STATEMENTS_MAX: usize = 1_000;
/// Most statements of one simple query.
const SIMPLE_STATEMENTS_MAX: usize = 1_000;
/// What clients are told of without asking, as PostgreSQL names it.
const REPORTED: [&str; 9] = [
    "client_encoding",
    "server_encoding",
    "standard_conforming_strings",
    "integer_datetimes",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "application_name",
    "is_superuser",
];
/// What RESET ALL sets back.
const SETTABLE: [&str; 6] = [
    "search_path",
    "statement_timeout",
    "timezone",
    "application_name",
    "extra_float_digits",
    "client_min_messages",
];

/// A connection of a user who proved his secret.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    pub(super) session: Session,
    pub(super) seen: Seen,
    pub(super) proven: Proven,
    pub(super) statements: HashMap<String, Arc<Statement>>,
    pub(super) portals: HashMap<String, Portal>,
    /// Of the open transaction, oldest first.
    pub(super) savepoints: Vec<String>,
    registered: Registered,
    /// What the client was told of settings.
    reported: HashMap<&'static str, String>,
    /// Settings as they were when the connection began.
    initial: Vec<(&'static str, String)>,
    /// Something of the extended protocol failed and Sync has not come.
    is_skipping: bool,
    /// Where in its text the statement that just failed is wrong, in characters.
    position: Option<usize>,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        inbox: Inbox,
        outbox: Outbox,
        session: Session,
        proven: Proven,
        registered: Registered,
    ) -> Self {
        let initial = SETTABLE.iter().filter_map(|name| Some((*name, session.setting(name)?))).collect();
        Self {
            shared,
            inbox,
            outbox,
            session,
            seen: Seen::default(),
            proven,
            statements: HashMap::new(),
            portals: HashMap::new(),
            savepoints: Vec::new(),
            registered,
            reported: HashMap::new(),
            initial,
            is_skipping: false,
            position: None,
        }
    }

    pub(super) fn key(&self) -> (u32, u32) {
        (self.registered.process, self.registered.secret)
    }

    pub(super) fn out(&mut self) -> &mut BytesMut {
        &mut self.outbox.buffer
    }

    /// Tells the client of settings that are not as it was told.
    pub(super) fn report_settings(&mut self) {
        let version = ("server_version", Some(SERVER_VERSION.to_owned()));
        let user = ("session_authorization", Some(self.session.user().to_owned()));
        let settings = REPORTED.iter().map(|name| (*name, self.session.setting(name)));
        let now: Vec<_> = settings.chain([version, user]).collect();
        for (name, value) in now {
            let Some(value) = value else { continue };
            if self.reported.get(name) != Some(&value) {
                backend::parameter_status(&mut self.outbox.buffer, name, &value);
                self.reported.insert(name, value);
            }
        }
    }

    /// Back to how the connection began.
    pub(super) fn reset_settings(&mut self) -> Result<(), SqlError> {
        for (name, value) in &self.initial {
            self.session.set(name, value)?;
        }
        Ok(())
    }

    /// Serves until the client leaves or the server stops.
    pub(super) async fn serve(mut self: Box<Self>, shutdown: CancellationToken) -> Result<(), Gone> {
        let ended = loop {
            match self.turn(&shutdown).await {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(gone) => break Err(gone),
            }
        };
        let message = match &ended {
            Ok(()) | Err(Gone::Closed | Gone::Failed(_) | Gone::Stalled) => None,
            Err(Gone::Stopping) => Some(("57P01", "the server stops")),
            Err(Gone::Malformed(malformed)) => Some(("08P01", malformed.0)),
            Err(Gone::TooLong { .. }) => Some(("54000", "a message is longer than is allowed")),
            Err(Gone::Refused(what)) => Some(("08P01", *what)),
        };
        if let Some((code, message)) = message {
            backend::failure(self.out(), Severity::Fatal, code, message, None, None);
            let outbox = self.outbox;
            outbox.close().await;
        }
        ended
    }

    /// One message; whether there may be more.
    async fn turn(&mut self, shutdown: &CancellationToken) -> Result<bool, Gone> {
        if self.inbox.is_empty() {
            self.outbox.flush().await?;
        } else {
            self.outbox.relieve().await?;
        }
        let is_waiting = self.portals.values().any(|portal| matches!(portal.state, State::Suspended(_)));
        let message = tokio::select! {
            biased;
            message = self.inbox.message() => message?,
            () = shutdown.cancelled() => return Err(Gone::Stopping),
            () = tokio::time::sleep(self.shared.config.portal_idle_max), if is_waiting => {
                for portal in self.portals.values_mut() {
                    if matches!(portal.state, State::Suspended(_)) {
                        portal.state = State::Expired;
                    }
                }
                return Ok(true);
            }
        };
        match message {
            Message::Terminate => return Ok(false),
            Message::Sync => self.sync(),
            Message::Query(text) => {
                self.is_skipping = false;
                self.simple(&text).await?;
            }
            Message::Password(_) => return Err(Gone::Refused("no authentication is under way")),
            Message::Copy => {}
            Message::FunctionCall => {
                let error = SqlError::unsupported("the function call protocol").hint("use SELECT");
                self.tell(&error);
                self.ready();
            }
            _ if self.is_skipping => {}
            extended => {
                let done = self.extended(extended).await;
                if let Err(fault) = done {
                    self.is_skipping = true;
                    self.fault(fault)?;
                }
            }
        }
        Ok(true)
    }

    async fn extended(&mut self, message: Message) -> Result<(), Fault> {
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

    /// Plans one statement.
    async fn prepare(&mut self, text: &str, types: &[u32]) -> Result<Statement, Fault> {
        let cancel = self.registered.begin();
        let prepared = self.prepare_inner(text, types, &cancel).await;
        self.registered.end();
        if let Err(Fault::Sql(error)) = prepared {
            let before = split(text).first().and_then(|one| text.find(one)).unwrap_or(0);
            let before = text[..before].chars().count();
            self.position = backend::position(&error.message, text[..].trim()).map(|at| at + before);
            return Err(self.failed(error));
        }
        prepared
    }

    async fn prepare_inner(
        &mut self,
        text: &str,
        types: &[u32],
        cancel: &CancellationToken,
    ) -> Result<Statement, Fault> {
        let kept = |kind, parameters| Statement { kind, parameters };
        let mut statements = split(text).into_iter();
        let Some(one) = statements.next() else { return Ok(kept(Kind::Empty, Vec::new())) };
        if statements.next().is_some() {
            let error = SqlError::syntax("more than one statement at once").hint("prepare them one by one");
            return Err(error.into());
        }
        if let Some(copy) = copy::of(one) {
            let (query, format) = copy?;
            self.shared.keeper.still(&self.proven).await?;
            let prepared = self.session.prepare(&query).await?;
            return Ok(kept(Kind::Copy(prepared, format), Vec::new()));
        }
        if let Some(own) = Own::of(one) {
            return Ok(kept(Kind::Own(own), Vec::new()));
        }
        let typed = statement::with_types(one, types)?;
        self.shared.keeper.still(&self.proven).await?;
        let catalog = &self.shared.catalog;
        let work = async {
            if catalog.concerns(one) {
                let prepared = catalog.prepare(&mut self.session, &mut self.seen, &typed).await?;
                let parameters = statement::parameters(types, prepared.parameter_types());
                return Ok(kept(Kind::Catalog(prepared), parameters));
            }
            let prepared = self.session.prepare(&typed).await?;
            let parameters = statement::parameters(types, prepared.parameter_types());
            Ok::<_, SqlError>(kept(Kind::Session(prepared), parameters))
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                let error = SqlError::new(SqlState::QueryCanceled, "the statement was cancelled by its user");
                Err(error.into())
            }
            gone = self.inbox.gone() => Err(gone.into()),
            prepared = work => Ok(prepared?),
        }
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

    fn begin_copy(&mut self, rows: &Rows) {
        if let Some(format) = &rows.copy {
            let names: Vec<String> =
                rows.stream.schema().fields().iter().map(|field| field.name().clone()).collect();
            format.begin(&names, self.out());
        }
    }

    fn end_copy(&mut self, rows: &Rows) {
        if let Some(format) = &rows.copy {
            format.end(rows.sent, self.out());
        }
    }

    /// Ends a sequence of the extended protocol.
    fn sync(&mut self) {
        self.is_skipping = false;
        if self.session.transaction_state() == TransactionState::Idle {
            self.portals.clear();
        }
        self.ready();
    }

    fn ready(&mut self) {
        let state = self.session.transaction_state();
        backend::ready(self.out(), state);
    }

    /// Runs a text with any number of statements: all or none, unless it says itself where transactions are.
    async fn simple(&mut self, text: &str) -> Result<(), Gone> {
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

    /// An error of the door's own: an open transaction fails by it as by any.
    fn failed(&mut self, error: SqlError) -> Fault {
        self.session.fail();
        Fault::Sql(error)
    }

    fn fault(&mut self, fault: Fault) -> Result<(), Gone> {
        match fault {
            Fault::Gone(gone) => Err(gone),
            Fault::Sql(error) => {
                self.tell(&error);
                Ok(())
            }
        }
    }

    fn tell(&mut self, error: &SqlError) {
        let position = self.position.take();
        backend::sql_error(&mut self.outbox.buffer, Severity::Error, error, position);
    }
}

fn rows_tag(tag: &str, rows: u64) -> String {
    match tag {
        "SELECT" | "COPY" => format!("{tag} {rows}"),
        other => other.to_owned(),
    }
}
