//! Models as objects, and those that this server runs itself.
//!
//! A model is what lies under `NAME/` in the bucket `models`; importing it writes its manifest as `NAME.ashlar-model`, and
//! from then on the name stands for those bytes. Invariant: what runs was hashed after it was read, and is what the manifest names.
//! Does not know who asks a model, nor what it costs: own models cost nothing.

mod loading;
mod registry;

pub(crate) use registry::{Imported, ModelsBucket, ModelsError};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::inference::Inference;
use ashlar_compute_api::transcript::Transcript;
use ashlar_compute_api::{JobId, LockId};
use ashlar_objects::access::UserIdentity;
use ashlar_objects::{Error, Store};
use ashlar_openai::{Caller, ModelFacts, ModelRefusal, Price, Served};
use async_trait::async_trait;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::configuration::{Configuration, Models as Settings};

/// How often it is looked whether a model that could not be loaded can be now.
const RETRY: Duration = Duration::from_secs(5);
/// When to ask again for a model that is being loaded.
const RETRY_AFTER_SECONDS: u32 = 5;
/// Folder below the data directory; its content can be made again from the store.
const FOLDER: &str = "models";

/// Makes the bucket as root, so that nobody else decides what names stand for.
pub(crate) async fn make_bucket(store: &Store, root: &Arc<UserIdentity>) -> anyhow::Result<()> {
    registry::make_bucket(store, root).await.map_err(|error| match error {
        Error::BucketAlreadyExists => anyhow::anyhow!(
            "the bucket `models` belongs to somebody else, who would decide what this server runs; remove it, or empty models.serve"
        ),
        error => anyhow::Error::new(error).context("making the bucket of models"),
    })
}

/// A model that runs here.
#[derive(Clone)]
struct Running {
    facts: ModelFacts,
    inference: Arc<dyn Inference>,
}

/// The models that this server runs.
pub(crate) struct OwnModels {
    bucket: ModelsBucket,
    settings: Settings,
    folder: PathBuf,
    running: RwLock<BTreeMap<String, Running>>,
}

impl OwnModels {
    /// None of them is loaded yet: [`OwnModels::load`] does that.
    pub(crate) fn new(store: &Store, tree: &Configuration) -> Arc<Self> {
        Arc::new(Self {
            bucket: ModelsBucket::new(store.clone()),
            settings: tree.models.clone(),
            folder: tree.data_dir.join(FOLDER),
            running: RwLock::default(),
        })
    }

    /// Where models lie.
    pub(crate) fn bucket(&self) -> &ModelsBucket {
        &self.bucket
    }

    /// Names of those that answer now.
    pub(crate) fn names(&self) -> Vec<String> {
        self.running.read().keys().cloned().collect()
    }

    /// Loads what the configuration names, and again what could not be loaded, until everything is or `stop`.
    pub(crate) async fn load(self: Arc<Self>, stop: CancellationToken) {
        let mut told = BTreeMap::new();
        loop {
            let mut missing = 0;
            for name in &self.settings.serve {
                if self.running.read().contains_key(name) {
                    continue;
                }
                match self.load_one(name).await {
                    Ok(running) => {
                        tracing::info!(name, root = %running.facts.root, "a model is served");
                        self.running.write().insert(name.clone(), running);
                    }
                    Err(error) => {
                        missing += 1;
                        let reason = error.to_string();
                        // The same every five seconds would fill the log.
                        if told.get(name) != Some(&reason) {
                            tracing::warn!(name, reason, "a model is not served; it is tried again");
                            told.insert(name.clone(), reason);
                        }
                    }
                }
            }
            if missing == 0 {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn load_one(&self, name: &str) -> Result<Running, ModelsError> {
        let imported = self.bucket.imported(name).await?;
        let folder = self.bucket.fetch(&imported, &self.folder, self.settings.bytes_max.0).await?;
        let (settings, root) = (self.settings.clone(), imported.root);
        let load = move || loading::load(&folder, root, &settings);
        let (inference, kind) = tokio::task::spawn_blocking(load)
            .await
            .map_err(|error| ModelsError::Unusable { reason: error.to_string() })??;
        let facts = ModelFacts {
            name: name.to_owned(),
            root: imported.root,
            is_claimed: false,
            created: imported.created_seconds,
            owned_by: imported.owner,
            kind,
            context_units_max: inference.model().context_units_max,
            price: Price::default(),
        };
        Ok(Running { facts, inference })
    }
}

#[async_trait]
impl ashlar_openai::Models for OwnModels {
    async fn resolve(&self, name: &str, _: &Caller) -> Result<Served, ModelRefusal> {
        let found = {
            let running = self.running.read();
            let by_root = || running.values().find(|one| one.facts.root.to_string() == name);
            running.get(name).or_else(by_root).cloned()
        };
        if let Some(Running { facts, inference }) = found {
            // No escrow: each request begins a transcript of its own.
            let job = JobId(rand::random());
            let transcript = Transcript::begin(LockId([0; 32]), job, 0, 1);
            return Ok(Served { facts, inference, transcript });
        }
        if self.settings.serve.iter().any(|served| served == name) {
            return Err(ModelRefusal::NoProvider { retry_after_seconds: RETRY_AFTER_SECONDS });
        }
        Err(ModelRefusal::Unknown { name: name.to_owned() })
    }

    async fn list(&self, _: &Caller) -> Result<Vec<ModelFacts>, ModelRefusal> {
        Ok(self.running.read().values().map(|one| one.facts.clone()).collect())
    }
}
