//! Step after step: rows in a fixed order, gradients added up over small batches, AdamW, a look at rows held out.
//!
//! Invariant: what a step does follows from the base, the rows, the options and the state that a checkpoint holds, and
//! from nothing else; so a training that was interrupted ends in the same bytes. The adapters that are kept are those with
//! the least loss on rows that were not learnt from.

use std::collections::BTreeMap;

use ashlar_compute_api::ContentRoot;
use ashlar_models::{METRIC_ROWS_MAX, MetricRow, Setting, Trained as Words, TrainedKind};
use candle_core::Var;

use crate::base::Base;
use crate::error::TrainingError;
use crate::forward::{Forward, Text};
use crate::lora::{Adapters, LoraOptions};

mod checkpoint;
mod optimiser;

use optimiser::Moments;

/// Tokens of a row.
pub const TOKENS_MAX: usize = 8_192;
/// Rows of one training.
const ROWS_MAX: usize = 1_000_000;

/// One row to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is told apart by; two of one key fall on one side of the split.
    pub key: String,
    /// In the base's vocabulary.
    pub tokens: Vec<u32>,
    /// The first token that is learnt; those before it are only read. At least 1.
    pub learnt_from: usize,
}

impl Row {
    fn text(&self) -> Text<'_> {
        Text { tokens: &self.tokens, learnt_from: self.learnt_from }
    }
}

/// How adapters are trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// Which adapters.
    pub lora: LoraOptions,
    /// Of AdamW, after the steps of warm-up.
    pub learning_rate: f64,
    /// Steps over which the rate grows to its height.
    pub warmup_steps: u64,
    /// Shrinks adapters a little at each step.
    pub weight_decay: f64,
    /// Longest gradient; longer ones are shortened to it.
    pub gradient_norm_max: f64,
    /// Rows of a step.
    pub batch_rows: usize,
    /// Rows that go through the model at once; a step adds up as many batches as it takes.
    pub rows_at_once: usize,
    /// Steps at most.
    pub steps_max: u64,
    /// Steps between looks at the rows held out.
    pub validate_every: u64,
    /// Looks without a lesser loss after which the training ends.
    pub patience: u32,
    /// Rows of a hundred that are held out, 0 to 50. With 0 the last adapters are kept.
    pub validation_percent: u8,
    /// Of the split and of the order of rows.
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            lora: LoraOptions::default(),
            learning_rate: 2e-4,
            warmup_steps: 5,
            weight_decay: 0.0,
            gradient_norm_max: 1.0,
            batch_rows: 32,
            rows_at_once: 8,
            steps_max: 200,
            validate_every: 10,
            patience: 5,
            validation_percent: 10,
            seed: 0,
        }
    }
}

impl TrainOptions {
    fn check(&self) -> Result<(), TrainingError> {
        self.lora.check()?;
        let within = |name, value: f64, least: f64, most: f64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => {
                let expected = format!("{least} to {most} can be");
                Err(TrainingError::Option { name, value: value.to_string(), expected })
            }
        };
        let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let steps = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let steps_max = number(METRIC_ROWS_MAX);
        within("learning_rate", self.learning_rate, 1e-8, 1.0)?;
        within("warmup_steps", steps(self.warmup_steps), 0.0, steps_max)?;
        within("weight_decay", self.weight_decay, 0.0, 1.0)?;
        within("gradient_norm_max", self.gradient_norm_max, 1e-6, 1e6)?;
        within("batch_rows", number(self.batch_rows), 1.0, 4_096.0)?;
        within("rows_at_once", number(self.rows_at_once), 1.0, 4_096.0)?;
        within("steps_max", steps(self.steps_max), 1.0, steps_max)?;
        within("validate_every", steps(self.validate_every), 1.0, steps_max)?;
        within("patience", self.patience.into(), 1.0, steps_max)?;
        within("validation_percent", self.validation_percent.into(), 0.0, 50.0)
    }

    fn settings(&self) -> BTreeMap<String, Setting> {
        let count = |count: usize| Setting::Count(u64::try_from(count).unwrap_or(u64::MAX));
        let mut all = BTreeMap::from(self.lora.settings());
        all.extend([
            ("learning_rate".to_owned(), Setting::Number(self.learning_rate)),
            ("warmup_steps".to_owned(), Setting::Count(self.warmup_steps)),
            ("weight_decay".to_owned(), Setting::Number(self.weight_decay)),
            ("gradient_norm_max".to_owned(), Setting::Number(self.gradient_norm_max)),
            ("batch_rows".to_owned(), count(self.batch_rows)),
            ("rows_at_once".to_owned(), count(self.rows_at_once)),
            ("steps_max".to_owned(), Setting::Count(self.steps_max)),
            ("validate_every".to_owned(), Setting::Count(self.validate_every)),
            ("patience".to_owned(), Setting::Count(self.patience.into())),
            ("validation_percent".to_owned(), Setting::Count(self.validation_percent.into())),
            ("seed".to_owned(), Setting::Count(self.seed)),
        ]);
        all
    }
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// A step, with what was measured.
    Step(MetricRow),
    /// Nothing more is learnt.
    Ended,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The model object.
    pub bytes: Vec<u8>,
    /// What it says of itself.
    pub words: Words,
}

/// The adapters with the least loss on rows held out.
#[derive(Clone, Debug)]
struct Best {
    values: Vec<Vec<f32>>,
    loss: f64,
    /// Looks since.
    since: u32,
}

/// A training under way.
#[derive(Debug)]
pub struct Trainer<'a> {
    base: &'a Base,
    options: TrainOptions,
    /// The rows' hash; a checkpoint is of these rows only.
    rows_root: ContentRoot,
    learnt: Vec<Row>,
    held: Vec<Row>,
    adapters: Adapters,
    moments: Moments,
    step: u64,
    best: Best,
    words: Words,
}

fn hash(seed: u64, what: &str, key: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes()).update(what.as_bytes()).update(&[0]).update(key.as_bytes());
    *hasher.finalize().as_bytes()
}

fn check(rows: &[Row], vocabulary: usize) -> Result<ContentRoot, TrainingError> {
    if rows.is_empty() || rows.len() > ROWS_MAX {
        return Err(TrainingError::Row { at: rows.len(), reason: format!("1 to {ROWS_MAX} rows can be") });
    }
    let mut hasher = blake3::Hasher::new();
    for (at, row) in rows.iter().enumerate() {
        let refuse = |reason: String| Err(TrainingError::Row { at, reason });
        let count = row.tokens.len();
        if !(2..=TOKENS_MAX).contains(&count) {
            return refuse(format!("{count} tokens, and 2 to {TOKENS_MAX} can be"));
        }
        if !(1..count).contains(&row.learnt_from) {
            return refuse(format!("learnt from token {}, and 1 to {} can be", row.learnt_from, count - 1));
        }
        let is_outside = |id: &&u32| usize::try_from(**id).is_ok_and(|id| id >= vocabulary);
        if let Some(id) = row.tokens.iter().find(is_outside) {
            return refuse(format!("token {id} is not in the vocabulary of {vocabulary}"));
        }
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes();
        hasher.update(&number(row.key.len())).update(row.key.as_bytes());
        hasher.update(&number(row.learnt_from)).update(&number(count));
        row.tokens.iter().for_each(|id| {
            hasher.update(&id.to_be_bytes());
        });
    }
    Ok(ContentRoot(*hasher.finalize().as_bytes()))
}

impl<'a> Trainer<'a> {
    /// A training before its first step. `data` are the content roots of what the rows were made of.
    pub fn new(
        base: &'a Base,
        data: Vec<ContentRoot>,
        rows: Vec<Row>,
        options: TrainOptions,
    ) -> Result<Self, TrainingError> {
        options.check()?;
        let rows_root = check(&rows, base.shape.vocabulary)?;
        let all = rows.len();
        let is_held = |row: &Row| hash(options.seed, "split", &row.key)[0] % 100 < options.validation_percent;
        let (held, learnt): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(is_held);
        if learnt.is_empty() || (held.is_empty() && options.validation_percent > 0) {
            return Err(TrainingError::Split { rows: all, held: held.len() });
        }
        let adapters = Adapters::new(&base.shape, options.lora.clone())?;
        let best = Best { values: adapters.values()?, loss: f64::INFINITY, since: 0 };
        let moments = Moments::new(&best.values);
        let mut words = Words::new(TrainedKind::Lora, base.root, data);
        words.options = options.settings();
        Ok(Self { base, options, rows_root, learnt, held, adapters, moments, step: 0, best, words })
    }

    fn is_ended(&self) -> bool {
        self.step >= self.options.steps_max || self.best.since >= self.options.patience
    }

    /// Rows of a step: of each epoch's order the next ones.
    fn batch(&self) -> Vec<&Row> {
        let count = u64::try_from(self.learnt.len()).unwrap_or(u64::MAX);
        let batch = u64::try_from(self.options.batch_rows).unwrap_or(u64::MAX);
        let first = self.step * batch;
        let mut order: Option<(u64, Vec<usize>)> = None;
        let mut rows = Vec::with_capacity(self.options.batch_rows);
        for at in first..first + batch {
            let epoch = at / count;
            if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                let what = format!("epoch {epoch}");
                let mut places: Vec<usize> = (0..self.learnt.len()).collect();
                places.sort_by_cached_key(|place| hash(self.options.seed, &what, &format!("{place}")));
                order = Some((epoch, places));
            }
            let (_, places) = order.as_ref().expect("it was just made");
            rows.push(&self.learnt[places[usize::try_from(at % count).expect("below a length")]]);
        }
        rows
    }

    /// Loss over rows, in batches; with gradients in the order of the adapters where they are wanted.
    fn pass(&self, rows: &[&Row], is_learning: bool) -> Result<(f64, Vec<Vec<f32>>), TrainingError> {
        let targets: usize = rows.iter().map(|row| row.text().targets()).sum();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a step has fewer than 2²⁴ targets, or a mean that is off by less than a float shows"
        )]
        let total = targets as f32;
        let variables = self.adapters.variables();
        let (mut loss, mut sums) = (0.0, Vec::<Vec<f32>>::new());
        for rows in rows.chunks(self.options.rows_at_once) {
            let texts: Vec<Text<'_>> = rows.iter().map(|row| row.text()).collect();
            let forward = Forward { base: self.base, adapters: &self.adapters };
            let part = forward.loss(&texts, total, is_learning)?;
            loss += f64::from(part.to_scalar::<f32>()?);
            if is_learning {
                let gradients = part.backward()?;
                let of = |(name, var): &(String, &Var)| -> Result<Vec<f32>, TrainingError> {
                    let gradient = gradients.get(var);
                    let gradient =
                        gradient.unwrap_or_else(|| panic!("{name} has no gradient: the graph is cut"));
                    Ok(gradient.flatten_all()?.to_vec1()?)
                };
                let gradients: Vec<Vec<f32>> = variables.iter().map(of).collect::<Result<_, _>>()?;
                if sums.is_empty() {
                    sums = gradients;
                } else {
                    for (sum, gradient) in sums.iter_mut().zip(gradients) {
                        sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
                    }
                }
            }
        }
        Ok((loss, sums))
    }

    /// Takes one step. Blocks, for as long as a step takes.
    pub fn step(&mut self) -> Result<Progress, TrainingError> {
        if self.is_ended() {
            return Ok(Progress::Ended);
        }
        let (loss, mut gradients) = self.pass(&self.batch(), true)?;
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { step: self.step + 1 });
        }
        let mut values = self.adapters.values()?;
        let norm = self.moments.apply(&mut values, &mut gradients, self.step + 1, &self.options);
        self.adapters.set(&values)?;
        self.step += 1;
        let mut measured = vec![("train_loss", loss), ("gradient_norm", norm)];
        let is_last = self.step == self.options.steps_max;
        if self.held.is_empty() {
            self.best = Best { values, loss: f64::INFINITY, since: 0 };
        } else if self.step.is_multiple_of(self.options.validate_every) || is_last {
            let held: Vec<&Row> = self.held.iter().collect();
            let (loss, _) = self.pass(&held, false)?;
            measured.push(("validation_loss", loss));
            let row = MetricRow::new(self.step, [("validation_loss", loss)]);
            // As it is kept, so that a training that goes on from a checkpoint compares the same numbers.
            let loss = row.values["validation_loss"];
            if loss < self.best.loss {
                self.best = Best { values, loss, since: 0 };
            } else {
                self.best.since += 1;
            }
        }
        let row = MetricRow::new(self.step, measured);
        self.words.metrics.push(row.clone());
        Ok(Progress::Step(row))
    }

    /// Loss over the rows held out, with the adapters as they are.
    pub fn validation_loss(&self) -> Result<Option<f64>, TrainingError> {
        let held: Vec<&Row> = self.held.iter().collect();
        if held.is_empty() { Ok(None) } else { Ok(Some(self.pass(&held, false)?.0)) }
    }

    /// The model object: the best adapters until now.
    pub fn finish(&self) -> Result<Trained, TrainingError> {
        let tensors = self.adapters.kept("", &self.best.values);
        Ok(Trained { bytes: self.words.to_bytes(&tensors)?, words: self.words.clone() })
    }
}

#[cfg(test)]
mod tests;
