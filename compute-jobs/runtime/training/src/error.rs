//! Why nothing is trained.

use ashlar_models::TrainedError;

/// Why nothing is trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The base model cannot be trained on.
    #[error("the model cannot be trained on: {reason}")]
    Base {
        /// What is wrong with it.
        reason: String,
    },
    /// An option out of its bounds.
    #[error("{name} is {value}; {expected}")]
    Option {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// A row that cannot be learnt from.
    #[error("row {at}: {reason}")]
    Row {
        /// Its place.
        at: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// One side of the split has no rows.
    #[error("of {rows} rows {held} are for validation; both sides need some")]
    Split {
        /// All.
        rows: usize,
        /// For validation.
        held: usize,
    },
    /// A checkpoint of another training.
    #[error("the checkpoint is of another training: {reason}")]
    Checkpoint {
        /// What differs.
        reason: String,
    },
    /// A loss that is no number: the rate is too high, or the model is damaged.
    #[error("the loss of step {step} is not finite")]
    Diverged {
        /// Of the optimiser.
        step: u64,
    },
    /// A model object or checkpoint that cannot be read or written.
    #[error(transparent)]
    Trained(#[from] TrainedError),
    /// Tensor arithmetic failed.
    #[error("tensors: {0}")]
    Tensors(#[from] candle_core::Error),
}
