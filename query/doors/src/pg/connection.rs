//! A connection: messages in, answers out, in the order of the protocol.
//!
//! Invariant: after an error of the extended protocol nothing is done until Sync; what a client keeps open here
//! (statements, portals, rows that wait) is bounded in number and time.

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_query::session::TransactionState;
use ashlar_query::{Session, SqlError};
use bytes::BytesMut;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::backend::{self, Severity};
use super::cancel::Registered;
use super::frontend::Message;
use super::pipes::{Gone, Inbox, Outbox};
use super::portal::{Portal, State};
use super::running::Fault;
use super::statement::Statement;
use crate::catalog::{SERVER_VERSION, Seen};
use crate::credentials::Proven;

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
    pub(super) registered: Registered,
    /// What the client was told of settings.
    reported: HashMap<&'static str, String>,
    /// Settings as they were when the connection began.
    initial: Vec<(&'static str, String)>,
    /// Something of the extended protocol failed and Sync has not come.
    is_skipping: bool,
    /// Where in its text the statement that just failed is wrong, in characters.
    pub(super) position: Option<usize>,
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

    /// Ends a sequence of the extended protocol.
    pub(super) fn sync(&mut self) {
        self.is_skipping = false;
        if self.session.transaction_state() == TransactionState::Idle {
            self.portals.clear();
        }
        self.ready();
    }

    pub(super) fn ready(&mut self) {
        let state = self.session.transaction_state();
        backend::ready(self.out(), state);
    }

    /// An error of the door's own: an open transaction fails by it as by any.
    pub(super) fn failed(&mut self, error: SqlError) -> Fault {
        self.session.fail();
        Fault::Sql(error)
    }

    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), Gone> {
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
