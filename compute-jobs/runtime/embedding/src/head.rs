//! A classifier on embeddings: a linear map and a softmax, as a model object of its own.
//!
//! Invariant: a head is used with the model that it was trained on and with no other; its weights are finite and as many
//! as its labels and that model's vectors ask for.

use ashlar_compute_api::ContentRoot;
use ashlar_models::{Tensor, Trained, TrainedError, TrainedKind, content_root};

use crate::encoder::Encoder;

mod measures;
mod minimise;
mod training;

pub use measures::{Metrics, metrics};
pub use training::{Example, Split, TrainError, TrainOptions, TrainedHead, split_of, train};

const WEIGHT: &str = "head.weight";
const BIAS: &str = "head.bias";

/// Numbers of a vector, at most: those of the largest model that is run.
const WIDTH_MAX: usize = 4_096;

/// Why a head is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The file.
    #[error(transparent)]
    Trained(#[from] TrainedError),
    /// Not a shape that a head has.
    #[error("{labels} labels and a weight of shape {shape:?}; expected at least two, and a row for each")]
    Shape {
        /// Of the file.
        labels: usize,
        /// Of its weight.
        shape: Vec<usize>,
    },
    /// Labels that are not the head's.
    #[error("the head tells apart {expected:?}; name exactly these, in any order")]
    Labels {
        /// Its own.
        expected: Vec<String>,
    },
    /// Vectors of another length.
    #[error("the head reads vectors of {expected} numbers, and the model's have {found}")]
    Width {
        /// The head's.
        expected: usize,
        /// The model's.
        found: usize,
    },
    /// No threads to run it on.
    #[error("no threads: {reason}")]
    Threads {
        /// What the system said.
        reason: String,
    },
}

/// A head that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    root: ContentRoot,
    trained: Trained,
    width: usize,
    /// A row for each label.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Head {
    /// Reads a model object; the caller has compared its root with the one that was asked for.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeadError> {
        let (trained, file) = Trained::from_bytes(bytes)?;
        trained.stands_on(TrainedKind::Head, trained.base)?;
        let labels = trained.labels.len();
        let shape = file.shape(WEIGHT).unwrap_or_default().to_vec();
        let (2.., [rows, width @ 1..=WIDTH_MAX]) = (labels, &shape[..]) else {
            return Err(HeadError::Shape { labels, shape });
        };
        let width = *width;
        if *rows != labels {
            return Err(HeadError::Shape { labels, shape });
        }
        let floats = |name: &str, shape: &[usize]| file.floats(name, shape).map_err(TrainedError::from);
        let (weight, bias) = (floats(WEIGHT, &[labels, width])?, floats(BIAS, &[labels])?);
        Ok(Self { root: content_root(bytes), trained, width, weight, bias })
    }

    /// Writes what [`Head::from_bytes`] reads.
    fn to_bytes(
        trained: &Trained,
        width: usize,
        weight: Vec<f32>,
        bias: Vec<f32>,
    ) -> Result<Vec<u8>, TrainedError> {
        let labels = bias.len();
        let weight = Tensor { name: WEIGHT.into(), shape: vec![labels, width], floats: weight };
        let bias = Tensor { name: BIAS.into(), shape: vec![labels], floats: bias };
        trained.to_bytes(&[weight, bias])
    }

    /// The head's content root.
    pub fn root(&self) -> ContentRoot {
        self.root
    }

    /// What it says of its training.
    pub fn trained(&self) -> &Trained {
        &self.trained
    }

    /// Whether it was trained on this model.
    pub fn stands_on(&self, encoder: &Encoder) -> Result<(), HeadError> {
        self.trained.stands_on(TrainedKind::Head, encoder.root())?;
        match encoder.configuration().hidden {
            found if found == self.width => Ok(()),
            found => Err(HeadError::Width { expected: self.width, found }),
        }
    }

    /// Where each of these labels stands in the head's order, if they are the head's.
    pub fn order_of(&self, labels: &[String]) -> Result<Vec<usize>, HeadError> {
        let own = &self.trained.labels;
        let refuse = || HeadError::Labels { expected: own.clone() };
        let place = |label: &String| own.iter().position(|other| other == label).ok_or_else(refuse);
        let order = labels.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let mut sorted = order.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() == own.len() && order.len() == own.len() { Ok(order) } else { Err(refuse()) }
    }

    /// The log-probability of each label, in nats and the head's order. `vector` is of the model's length.
    pub fn log_probabilities(&self, vector: &[f32]) -> Vec<f32> {
        assert_eq!(vector.len(), self.width, "the head was held against the model");
        let rows = self.weight.chunks_exact(self.width).zip(&self.bias);
        let scores: Vec<f64> = rows
            .map(|(row, bias)| {
                let terms = row.iter().zip(vector).map(|(w, x)| f64::from(*w) * f64::from(*x));
                terms.sum::<f64>() + f64::from(*bias)
            })
            .collect();
        let total = log_sum(&scores);
        #[expect(clippy::cast_possible_truncation, reason = "the interface speaks of 32-bit floats")]
        scores.iter().map(|score| (score - total) as f32).collect()
    }
}

/// ln Σ eˣ, without overflow.
fn log_sum(scores: &[f64]) -> f64 {
    let largest = scores.iter().fold(f64::NEG_INFINITY, |largest, x| largest.max(*x));
    largest + scores.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests;
