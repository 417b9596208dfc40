//! Which runtime a model's files ask for.

use std::sync::Arc;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::Inference;
use ashlar_embedding::{EmbeddingRuntime, Encoder, RuntimeLimits};
use ashlar_models::ModelFolder;
use ashlar_openai::ModelKind;
use ashlar_runtime::{LanguageModel, Options};

use super::ModelsError;
use crate::configuration::Models as Settings;

fn unusable(error: &dyn std::fmt::Display) -> ModelsError {
    ModelsError::Unusable { reason: error.to_string() }
}

/// Starts the runtime of a model. Blocks while weights are read.
pub(super) fn load(
    folder: &ModelFolder,
    root: ContentRoot,
    settings: &Settings,
) -> Result<(Arc<dyn Inference>, ModelKind), ModelsError> {
    let threads = usize::from(settings.threads);
    let names: Vec<&str> = folder.manifest().entries().iter().map(|entry| entry.name.as_str()).collect();
    let (inference, kind): (Arc<dyn Inference>, _) = if let [name] = names[..]
        && name.to_ascii_lowercase().ends_with(".gguf")
    {
        let bytes = folder.read(name, settings.bytes_max.0).map_err(|error| unusable(&error))?;
        let positions = usize::try_from(settings.positions.0).unwrap_or(usize::MAX);
        let options = Options {
            threads,
            weights_bytes_max: usize::try_from(settings.bytes_max.0).unwrap_or(usize::MAX),
            positions_bytes_max: positions,
            prefixes_bytes_max: positions / 4,
            ..Options::default()
        };
        let model = LanguageModel::load(&bytes, &options).map_err(|error| unusable(&error))?;
        (Arc::new(model), ModelKind::Language)
    } else if folder.has("model.safetensors") && folder.has("tokenizer.json") {
        let encoder = Encoder::load(folder).map_err(|error| unusable(&error))?;
        let limits = RuntimeLimits { threads, ..RuntimeLimits::default() };
        let runtime = EmbeddingRuntime::start(Arc::new(encoder), limits).map_err(|error| unusable(&error))?;
        (Arc::new(runtime), ModelKind::Embedding)
    } else {
        let reason = format!(
            "a model is one .gguf file, or a folder with model.safetensors, config.json and tokenizer.json; here are {}",
            names.join(", ")
        );
        return Err(ModelsError::Unusable { reason });
    };
    let found = inference.model().root;
    if found != root {
        return Err(ModelsError::Unusable {
            reason: format!("its bytes are {found}, and it was imported as {root}"),
        });
    }
    Ok((inference, kind))
}
