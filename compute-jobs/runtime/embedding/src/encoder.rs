//! A model that is loaded: texts in, vectors out, on the caller's thread.
//!
//! Invariant: a text's vector does not depend on the texts beside it, nor on their order.

use ashlar_compute_api::ContentRoot;
use ashlar_models::{FolderError, ModelFolder, TensorError, content_root};

use crate::configuration::{Configuration, ConfigurationError};
use crate::forward::{Forward, Workspace, share};
use crate::kernel::Kernels;
use crate::tokens::{Reader, TOKENIZER_BYTES_MAX, TokenError, Tokens};
use crate::weights::Weights;

/// Bytes of a model's weights: they are held twice while they are put in order.
const WEIGHTS_BYTES_MAX: u64 = 4 << 30;
/// Rows that go through the model together, but for a longer text alone. More do not make products faster, and let the
/// rows fall out of the caches.
const ROWS_MAX: usize = 512;

/// Why a model is not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read as what the model's root names.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its shape.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// Its tokenizer.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// Its weights.
    #[error("model.safetensors: {0}")]
    Weights(#[from] TensorError),
}

/// Texts as vectors, with what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// One for each text in their order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts, marks among them.
    pub units: u64,
}

/// A model of BERT's family in memory. Shared by threads, each with a [`Workspace`] of its own.
#[derive(Debug)]
pub struct Encoder {
    configuration: Configuration,
    reader: Reader,
    weights: Weights,
    kernels: Kernels,
    root: ContentRoot,
}

impl Encoder {
    /// Loads `config.json`, `tokenizer.json` and `model.safetensors`, with what sentence-transformers keeps beside them.
    /// Blocks; for a thread that may.
    pub fn load(folder: &ModelFolder) -> Result<Self, LoadError> {
        let configuration = Configuration::load(folder)?;
        let reader = Reader::new(&folder.read("tokenizer.json", TOKENIZER_BYTES_MAX)?, &configuration)?;
        let kernels = Kernels::new();
        let bytes = folder.read("model.safetensors", WEIGHTS_BYTES_MAX)?;
        let weights = Weights::load(&bytes, &configuration, kernels.lanes())?;
        Ok(Self { configuration, reader, weights, kernels, root: folder.root() })
    }

    /// The shape of the model.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The model's content root.
    pub fn root(&self) -> ContentRoot {
        self.root
    }

    /// The class within which vectors are the same bytes: this build, the kernels, the weights' format.
    pub fn determinism_class(&self) -> ContentRoot {
        let (version, kernels) = (env!("CARGO_PKG_VERSION"), self.kernels.name());
        content_root(format!("ashlar-embedding {version} {kernels} weights-f32").as_bytes())
    }

    /// A text as the model reads it, cut at the model's maximum.
    pub fn tokens(&self, text: &str) -> Result<Tokens, TokenError> {
        self.reader.read(text)
    }

    /// Vectors of texts, of any lengths and in their order.
    pub fn embed(&self, texts: &[Tokens], workspace: &mut Workspace) -> Embedded {
        let share = share(self.configuration.hidden);
        let Self { configuration, weights, kernels, .. } = self;
        let forward = Forward { configuration, weights, kernels: *kernels, share };
        // Like lengths together: the buffers of attention keep their size.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|at| texts[*at].count());
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut rest = order.as_slice();
        while let Some(first) = rest.first() {
            let (mut rows, mut count) = (texts[*first].count(), 1);
            while let Some(next) = rest.get(count).filter(|next| rows + texts[**next].count() <= ROWS_MAX) {
                rows += texts[*next].count();
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            let batch: Vec<&Tokens> = now.iter().map(|at| &texts[*at]).collect();
            for (at, vector) in now.iter().zip(forward.run(&batch, workspace)) {
                vectors[*at] = vector;
            }
            rest = later;
        }
        let units = texts.iter().map(|text| u64::try_from(text.count()).unwrap_or(u64::MAX)).sum();
        Embedded { vectors, units }
    }
}
