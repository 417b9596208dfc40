//! A statement with its parameters, and how far it has come.
//!
//! Invariant: what runs behind a portal ends with it.

use std::sync::Arc;

use datafusion::common::ScalarValue;

use super::rows::Rows;
use super::statement::Statement;

/// Most portals of a connection.
pub(super) const PORTALS_MAX: usize = 64;

/// A portal.
pub(super) struct Portal {
    pub(super) statement: Arc<Statement>,
    pub(super) parameters: Vec<ScalarValue>,
    pub(super) result_formats: Vec<bool>,
    pub(super) state: State,
}

/// How far it has come.
pub(super) enum State {
    /// Nothing was done.
    Fresh,
    /// The client asked for some of its rows.
    Suspended(Box<Rows>),
    /// All was done.
    Done,
    /// Its rows waited too long to be asked for.
    Expired,
}
