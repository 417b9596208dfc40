//! Which stage a job's text is for.
//!
//! Invariant: a text has one stage or none. A text that begins with `ashlar`, a space and a name is for the stage of that name;
//! any other is for the one that takes all others, which is SQL's where there is one. Does not know what stages do.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_compute_api::jobs::QueryStage;

mod rows;

pub use rows::{ROWS_TEXT, RowsStage};

/// Stages by name.
#[derive(Clone, Default)]
pub struct Stages {
    named: BTreeMap<&'static str, Arc<dyn QueryStage>>,
    other: Option<Arc<dyn QueryStage>>,
}

impl Stages {
    /// Adds the stage of texts that begin with `ashlar <name>`.
    #[must_use]
    pub fn with(mut self, name: &'static str, stage: Arc<dyn QueryStage>) -> Self {
        self.named.insert(name, stage);
        self
    }

    /// Adds the stage of all other texts.
    #[must_use]
    pub fn otherwise(mut self, stage: Arc<dyn QueryStage>) -> Self {
        self.other = Some(stage);
        self
    }

    /// The stage of a text.
    pub(crate) fn of(&self, text: &str) -> Option<Arc<dyn QueryStage>> {
        match text.strip_prefix("ashlar ") {
            Some(rest) => self.named.get(rest.split([' ', '\n']).next().unwrap_or_default()).cloned(),
            None => self.other.clone(),
        }
    }
}
