//! SQL over the store: its engine, and the folder that it spills to.

use std::path::Path;

use anyhow::Context;
use ashlar_objects::Store;
use ashlar_query::{Engine, EngineConfig};

/// Folder below the data directory; what is in it belongs to queries that run.
const SPILL_FOLDER: &str = "query-spill";

/// Starts the engine. Whatever an earlier process left spilled is removed.
pub(crate) fn open(store: &Store, data_dir: &Path) -> anyhow::Result<Engine> {
    let spill = data_dir.join(SPILL_FOLDER);
    if spill.exists() {
        std::fs::remove_dir_all(&spill).with_context(|| format!("emptying {}", spill.display()))?;
    }
    std::fs::create_dir(&spill).with_context(|| format!("making {}", spill.display()))?;
    let config = EngineConfig { spill_dir: Some(spill), ..EngineConfig::default() };
    Engine::open(store.clone(), config).context("starting SQL")
}
