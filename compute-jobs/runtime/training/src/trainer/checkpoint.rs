//! A training's whole state as bytes, and a training that goes on from them.
//!
//! Invariant: a checkpoint is taken only for the same base, rows and options; what goes on from it is the training that
//! was written, bit for bit.

use ashlar_compute_api::ContentRoot;
use ashlar_models::{Setting, Trained as Words, TrainedKind};

use super::{Best, Row, TrainOptions, Trainer};
use crate::base::Base;
use crate::error::TrainingError;

const STEP: &str = "checkpoint_step";
const SINCE: &str = "checkpoint_since_best";
const ROWS: &str = "checkpoint_rows";
/// What a state's tensors are called before the adapter's name: adapters, moments, the best adapters.
const PARTS: [&str; 4] = ["now.", "first.", "second.", "best."];

fn other(reason: impl Into<String>) -> TrainingError {
    TrainingError::Checkpoint { reason: reason.into() }
}

impl<'a> Trainer<'a> {
    /// The state after the last step.
    pub fn checkpoint(&self) -> Result<Vec<u8>, TrainingError> {
        let now = self.adapters.values()?;
        let parts = [&now, &self.moments.first, &self.moments.second, &self.best.values];
        let tensors: Vec<_> = PARTS
            .into_iter()
            .zip(parts)
            .flat_map(|(prefix, values)| self.adapters.kept(prefix, values))
            .collect();
        let mut words = self.words.clone();
        words.options.insert(STEP.into(), Setting::Count(self.step));
        words.options.insert(SINCE.into(), Setting::Count(self.best.since.into()));
        words.options.insert(ROWS.into(), Setting::Text(self.rows_root.to_string()));
        Ok(words.to_bytes(&tensors)?)
    }

    /// The training that wrote a checkpoint, from where it was.
    pub fn resume(
        base: &'a Base,
        data: Vec<ContentRoot>,
        rows: Vec<Row>,
        options: TrainOptions,
        checkpoint: &[u8],
    ) -> Result<Self, TrainingError> {
        let mut trainer = Self::new(base, data, rows, options)?;
        let (mut words, file) = Words::from_bytes(checkpoint)?;
        words.stands_on(TrainedKind::Lora, base.root)?;
        let mut taken = |name: &str| words.options.remove(name).ok_or_else(|| other("it is no checkpoint"));
        let (step, since, rows) = (taken(STEP)?, taken(SINCE)?, taken(ROWS)?);
        let (Setting::Count(step), Setting::Count(since)) = (step, since) else {
            return Err(other("its counts are none"));
        };
        if rows != Setting::Text(trainer.rows_root.to_string()) {
            return Err(other("its rows are others"));
        }
        // Read back as the checkpoint was: what JSON does to a number it then does to both.
        let own = trainer.words.to_bytes(&[])?;
        let (own, _) = Words::from_bytes(&own)?;
        if own.options != words.options || own.data != words.data {
            return Err(other("its options or data are others"));
        }
        let steps = u64::try_from(words.metrics.len()).unwrap_or(u64::MAX);
        if steps != step || step > trainer.options.steps_max {
            return Err(other("its steps are not those of its metrics"));
        }
        let [now, first, second, best] = PARTS.map(|prefix| trainer.adapters.read(prefix, &file));
        trainer.adapters.set(&now?)?;
        (trainer.moments.first, trainer.moments.second) = (first?, second?);
        let losses = words.metrics.iter().filter_map(|row| row.values.get("validation_loss"));
        let loss = losses.fold(f64::INFINITY, |least, loss| least.min(*loss));
        let since = u32::try_from(since).map_err(|_| other("its counts are none"))?;
        trainer.best = Best { values: best?, loss, since };
        trainer.step = step;
        trainer.words.metrics = words.metrics;
        Ok(trainer)
    }
}
