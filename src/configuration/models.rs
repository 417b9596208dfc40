//! Settings of the models that this server runs itself.

use serde::{Deserialize, Serialize};

use super::quantities::ByteSize;
use super::soundness::Unsound;
use super::tree::mebibytes;

/// Most names in `models.serve`.
const SERVED_MAX: usize = 64;

/// Models that are run in this process, for everybody who may sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Models {
    /// Names of imported models; empty: this server runs none.
    pub(crate) serve: Vec<String>,
    /// Threads of each model.
    pub(crate) threads: u16,
    /// The largest model that is loaded, all its files together.
    pub(crate) bytes_max: ByteSize,
    /// Memory of what a language model's requests remember while they run, and of beginnings that it keeps besides a quarter of it.
    pub(crate) positions: ByteSize,
}

impl Default for Models {
    fn default() -> Self {
        Self { serve: Vec::new(), threads: 1, bytes_max: mebibytes(2 << 10), positions: mebibytes(512) }
    }
}

impl Models {
    pub(super) fn check(&self) -> Result<(), Unsound> {
        if self.threads == 0 || self.threads > 256 {
            let problem = format!("a model cannot run on {} threads", self.threads);
            return Err(Unsound { key: "models.threads", problem, remedy: "take 1 to 256" });
        }
        if self.serve.len() > SERVED_MAX {
            let problem = format!("{} models, and {SERVED_MAX} are the most", self.serve.len());
            return Err(Unsound { key: "models.serve", problem, remedy: "name fewer" });
        }
        Ok(())
    }
}
