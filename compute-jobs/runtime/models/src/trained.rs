//! A model that was trained here, as one file: its tensors, and what it says of itself beside them.
//!
//! Invariant: the same training gives the same bytes; a file says which model it stands on, which data it was trained
//! on, by which options and with which result, or it is refused. Whether that is so is for receipts to say.

use std::collections::BTreeMap;

use ashlar_compute_api::ContentRoot;
use serde::{Deserialize, Serialize};

use crate::tensors::{self, TensorError, TensorFile};

/// The key of the text in the file's header.
const KEY: &str = "ashlar";
/// Of what stands behind the key.
const FORMAT: u32 = 1;

/// Bytes of a file that is read.
pub const TRAINED_BYTES_MAX: u64 = 1 << 30;
/// Labels of a head.
pub const LABELS_MAX: usize = 1_000;
/// Rows of metrics.
pub const METRIC_ROWS_MAX: usize = 10_000;
/// Data roots, and options.
const ITEMS_MAX: usize = 1_000;

/// What was trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainedKind {
    /// A classifier of embeddings.
    Head,
    /// Low-rank adapters of a language model's weights, applied unmerged.
    Lora,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// Yes or no.
    Flag(bool),
    /// A count or a seed.
    Count(u64),
    /// A rate or a weight.
    Number(f64),
    /// A name.
    Text(String),
    /// Names, such as those of the weights that have adapters.
    Texts(Vec<String>),
}

/// What was measured at one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricRow {
    /// Of an optimiser, or an epoch.
    pub step: u64,
    /// By name, such as `train_loss`.
    pub values: BTreeMap<String, f64>,
}

/// Places behind the point of a metric: JSON gives back exactly what has no more.
const PLACES: f64 = 1e9;

impl MetricRow {
    /// Values as they are kept: rounded so far that a row read back is the row that was written.
    pub fn new<'a>(step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let kept = |value: f64| (value * PLACES).round() / PLACES;
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), kept(value)));
        Self { step, values: values.collect() }
    }
}

/// What a trained model says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    format: u32,
    /// What was trained.
    pub kind: TrainedKind,
    /// Content root of the model that it stands on, and is of no use without.
    pub base: ContentRoot,
    /// Content roots of what it was trained on.
    pub data: Vec<ContentRoot>,
    /// What it tells apart, in the order of its outputs; of a head only.
    pub labels: Vec<String>,
    /// What it was trained with.
    pub options: BTreeMap<String, Setting>,
    /// What came out, as it came.
    pub metrics: Vec<MetricRow>,
}

/// A tensor to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row after row.
    pub floats: Vec<f32>,
}

/// Why a file is no trained model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrainedError {
    /// What is wrong with its tensors.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The header says nothing of a training.
    #[error("the file says nothing of a training under {KEY:?}")]
    Unsaid,
    /// What it says is not understood.
    #[error("what the file says of its training is not understood: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// It was trained as something else.
    #[error("a {found:?}, and a {expected:?} was asked for")]
    Kind {
        /// What was asked for.
        expected: TrainedKind,
        /// What it is.
        found: TrainedKind,
    },
    /// It stands on another model.
    #[error("trained on {found}, and {expected} is here")]
    Base {
        /// The model that is here.
        expected: ContentRoot,
        /// The one that it stands on.
        found: ContentRoot,
    },
}

impl Trained {
    /// What a model says of itself before any training.
    pub fn new(kind: TrainedKind, base: ContentRoot, data: Vec<ContentRoot>) -> Self {
        let (labels, options, metrics) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { format: FORMAT, kind, base, data, labels, options, metrics }
    }

    fn check(&self) -> Result<(), TrainedError> {
        let malformed = |reason: String| Err(TrainedError::Malformed { reason });
        if self.format != FORMAT {
            return malformed(format!("format {}, and {FORMAT} is read", self.format));
        }
        let counts = [
            ("labels", self.labels.len(), LABELS_MAX),
            ("rows of metrics", self.metrics.len(), METRIC_ROWS_MAX),
            ("data roots", self.data.len(), ITEMS_MAX),
            ("options", self.options.len(), ITEMS_MAX),
        ];
        for (what, count, maximum) in counts {
            if count > maximum {
                return malformed(format!("{count} {what}, and {maximum} are the most"));
            }
        }
        let mut labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        labels.sort_unstable();
        if labels.windows(2).any(|pair| pair[0] == pair[1]) {
            return malformed("a label stands there twice".into());
        }
        Ok(())
    }

    /// The file's bytes. The same tensors and words are the same bytes.
    pub fn to_bytes(&self, tensors: &[Tensor]) -> Result<Vec<u8>, TrainedError> {
        self.check()?;
        let text = serde_json::to_string(self);
        let text = text.map_err(|error| TrainedError::Malformed { reason: error.to_string() })?;
        let tensors: Vec<(&str, &[usize], &[f32])> =
            tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.floats.as_slice())).collect();
        Ok(tensors::to_bytes(&tensors, KEY, text)?)
    }

    /// Reads what a file says of itself, and gives its tensors to be asked for.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, TensorFile<'_>), TrainedError> {
        let file = TensorFile::parse(bytes)?;
        let text = file.text(KEY).ok_or(TrainedError::Unsaid)?;
        let trained: Self = serde_json::from_str(text)
            .map_err(|error| TrainedError::Malformed { reason: error.to_string() })?;
        trained.check()?;
        Ok((trained, file))
    }

    /// Whether it is of this kind and stands on this model.
    pub fn stands_on(&self, kind: TrainedKind, base: ContentRoot) -> Result<(), TrainedError> {
        if self.kind != kind {
            return Err(TrainedError::Kind { expected: kind, found: self.kind });
        }
        match self.base == base {
            true => Ok(()),
            false => Err(TrainedError::Base { expected: base, found: self.base }),
        }
    }
}

#[cfg(test)]
mod tests;
