//! Training a head: multinomial logistic regression on vectors, the same bytes from the same examples and options.
//!
//! Examples are split before anything is learnt, by a hash of their own key, so that an example stays on its side however
//! many come along. Invariant: the head that is kept is the one with the least loss on examples that it did not learn from.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_compute_api::ContentRoot;
use ashlar_models::{LABELS_MAX, METRIC_ROWS_MAX, MetricRow, Setting, Trained, TrainedError, TrainedKind};

use super::measures::{Metrics, metrics};
use super::minimise::Search;
use super::{Head, WIDTH_MAX, log_sum};

/// Examples of one training: with vectors of 384 numbers 1.5 GiB.
const EXAMPLES_MAX: usize = 1_000_000;
/// Largest part of the gradient at which nothing more is to be learnt.
const SLOPE_MIN: f64 = 1e-7;

/// One example.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// What it is told apart by, such as its row's key; two of one key fall on one side.
    pub key: String,
    /// The text's vector.
    pub vector: Vec<f32>,
    /// What it is.
    pub label: String,
}

/// Which side an example is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Learnt from.
    Train,
    /// Looked at to know when to stop.
    Validation,
}

/// How a head is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// Moves the border between the sides.
    pub seed: u64,
    /// Examples of a hundred that are for validation, 1 to 50.
    pub validation_percent: u8,
    /// Weight of the squares of the weights.
    pub l2: f64,
    /// Each label counts alike, however many examples it has.
    pub is_balanced: bool,
    /// Steps over all examples, at most.
    pub epochs_max: u32,
    /// Steps without a lesser validation loss after which the training ends.
    pub patience: u32,
}

impl Default for TrainOptions {
    fn default() -> Self {
        let (validation_percent, l2, is_balanced) = (20, 1e-4, true);
        Self { seed: 0, validation_percent, l2, is_balanced, epochs_max: 200, patience: 20 }
    }
}

/// Why nothing is trained.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// An option out of its bounds.
    #[error("{name} is {value}, and {expected}")]
    Option {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// None, or more than are held.
    #[error("{count} examples, and 1 to {EXAMPLES_MAX} are trained on")]
    Examples {
        /// So many.
        count: usize,
    },
    /// An example's vector.
    #[error("example {at} has a vector that is not {expected} finite numbers")]
    Vector {
        /// Its place.
        at: usize,
        /// Numbers of a vector.
        expected: usize,
    },
    /// Too few or too many labels, or one that only one side has.
    #[error(
        "{count} labels with examples on both sides; 2 to {LABELS_MAX} are needed, and every label must be so"
    )]
    Labels {
        /// Labels with examples on both sides.
        count: usize,
    },
    /// The object cannot be written.
    #[error(transparent)]
    Trained(#[from] TrainedError),
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedHead {
    /// The model object.
    pub bytes: Vec<u8>,
    /// The same, to be used.
    pub head: Head,
    /// Of the head that is kept, over the validation side.
    pub validation: Metrics,
}

/// Which side an example falls on: by a hash of its key and the seed, whatever else there is.
pub fn split_of(key: &str, options: &TrainOptions) -> Split {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&options.seed.to_be_bytes()).update(key.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    let is_validation = u64::from_be_bytes(first) % 100 < u64::from(options.validation_percent);
    if is_validation { Split::Validation } else { Split::Train }
}

/// One side, with labels as numbers.
#[derive(Default)]
struct Side<'a> {
    rows: Vec<(&'a [f32], usize)>,
    /// Of each row; together 1.
    weights: Vec<f64>,
}

impl Side<'_> {
    fn weigh(&mut self, labels: usize, is_balanced: bool) {
        let mut counts = vec![0_u32; labels];
        self.rows.iter().for_each(|(_, label)| counts[*label] += 1);
        let classes = f64::from(u32::try_from(labels).expect("labels are bounded"));
        let all = f64::from(counts.iter().sum::<u32>());
        let weight =
            |label: usize| if is_balanced { 1.0 / (classes * f64::from(counts[label])) } else { 1.0 / all };
        self.weights = self.rows.iter().map(|(_, label)| weight(*label)).collect();
    }

    /// Loss and, where it is wanted, its gradient. Parameters are a row of `width` weights and a bias for each label.
    fn loss(&self, parameters: &[f64], width: usize, gradient: Option<&mut [f64]>) -> f64 {
        let mut nothing = [];
        let is_wanted = gradient.is_some();
        let gradient = gradient.unwrap_or(&mut nothing);
        let mut loss = 0.0;
        for ((row, label), weight) in self.rows.iter().zip(&self.weights) {
            let scores = scores(parameters, row);
            let total = log_sum(&scores);
            loss += weight * (total - scores[*label]);
            if is_wanted {
                for (at, part) in gradient.chunks_exact_mut(width + 1).enumerate() {
                    let truth = if at == *label { 1.0 } else { 0.0 };
                    let error = weight * ((scores[at] - total).exp() - truth);
                    let (weights, bias) = part.split_at_mut(width);
                    weights.iter_mut().zip(*row).for_each(|(g, x)| *g += error * f64::from(*x));
                    bias[0] += error;
                }
            }
        }
        loss
    }

    fn metrics(&self, parameters: &[f64], labels: usize) -> Metrics {
        let pairs: Vec<(usize, usize)> = self
            .rows
            .iter()
            .map(|(row, label)| {
                let scores = scores(parameters, row);
                let best = (0..labels).fold(0, |best, at| if scores[at] > scores[best] { at } else { best });
                (*label, best)
            })
            .collect();
        metrics(&pairs, labels)
    }
}

fn scores(parameters: &[f64], row: &[f32]) -> Vec<f64> {
    let of = |part: &[f64]| {
        let (weights, bias) = part.split_at(row.len());
        weights.iter().zip(row).map(|(w, x)| w * f64::from(*x)).sum::<f64>() + bias[0]
    };
    parameters.chunks_exact(row.len() + 1).map(of).collect()
}

fn check(examples: &[Example], options: &TrainOptions) -> Result<usize, TrainError> {
    let within = |name, value: f64, is_fine: bool, expected| {
        if is_fine { Ok(()) } else { Err(TrainError::Option { name, value, expected }) }
    };
    let percent = options.validation_percent;
    within("validation_percent", percent.into(), (1..=50).contains(&percent), "1 to 50 can be")?;
    within("l2", options.l2, (1e-9..=1e3).contains(&options.l2), "1e-9 to 1e3 can be")?;
    let epochs_max = u32::try_from(METRIC_ROWS_MAX).unwrap_or(u32::MAX);
    let epochs = options.epochs_max;
    within("epochs_max", epochs.into(), (1..=epochs_max).contains(&epochs), "1 to 10,000 can be")?;
    within("patience", options.patience.into(), options.patience > 0, "1 is the least")?;
    if examples.is_empty() || examples.len() > EXAMPLES_MAX {
        return Err(TrainError::Examples { count: examples.len() });
    }
    let width = examples[0].vector.len();
    let is_fine = |vector: &[f32]| vector.len() == width && vector.iter().all(|x| x.is_finite());
    match examples.iter().position(|example| !is_fine(&example.vector)) {
        _ if width == 0 || width > WIDTH_MAX => Err(TrainError::Vector { at: 0, expected: WIDTH_MAX }),
        Some(at) => Err(TrainError::Vector { at, expected: width }),
        None => Ok(width),
    }
}

fn row(step: u32, train_loss: f64, validation_loss: f64, measured: Metrics) -> MetricRow {
    let values = [
        ("train_loss", train_loss),
        ("validation_loss", validation_loss),
        ("validation_accuracy", measured.accuracy),
        ("validation_balanced_accuracy", measured.balanced_accuracy),
        ("validation_macro_f1", measured.macro_f1),
    ];
    MetricRow::new(step.into(), values)
}

/// Trains a head on vectors of the model `base`; `told` hears each row of metrics as it comes. Blocks; for a thread that may.
pub fn train(
    base: ContentRoot,
    data: Vec<ContentRoot>,
    examples: &[Example],
    options: &TrainOptions,
    mut told: impl FnMut(&MetricRow),
) -> Result<TrainedHead, TrainError> {
    let width = check(examples, options)?;
    let labels: BTreeSet<&str> = examples.iter().map(|example| example.label.as_str()).collect();
    let labels: Vec<&str> = labels.into_iter().collect();
    let (mut learnt, mut held) = (Side::default(), Side::default());
    for example in examples {
        let label = labels.binary_search(&example.label.as_str()).expect("made of these examples");
        let side = match split_of(&example.key, options) {
            Split::Train => &mut learnt,
            Split::Validation => &mut held,
        };
        side.rows.push((&example.vector, label));
    }
    let has = |side: &Side<'_>, label: usize| side.rows.iter().any(|(_, of)| *of == label);
    let count = (0..labels.len()).filter(|label| has(&learnt, *label) && has(&held, *label)).count();
    if count != labels.len() || !(2..=LABELS_MAX).contains(&count) {
        return Err(TrainError::Labels { count });
    }
    learnt.weigh(count, options.is_balanced);
    held.weigh(count, options.is_balanced);

    let objective = |parameters: &[f64]| {
        let mut gradient = vec![0.0; parameters.len()];
        let mut loss = learnt.loss(parameters, width, Some(&mut gradient));
        for (part, gradient) in parameters.chunks_exact(width + 1).zip(gradient.chunks_exact_mut(width + 1)) {
            for (w, g) in part.iter().zip(gradient).take(width) {
                loss += 0.5 * options.l2 * w * w;
                *g += options.l2 * w;
            }
        }
        (loss, gradient)
    };
    let mut search = Search::new(objective, vec![0.0; count * (width + 1)]);
    let (mut best, mut best_loss, mut since) = (search.point.clone(), f64::INFINITY, 0);
    let mut trained = Trained::new(TrainedKind::Head, base, data);
    for epoch in 1..=options.epochs_max {
        let moved = search.step();
        let loss = held.loss(&search.point, width, None);
        trained.metrics.push(row(epoch, search.value, loss, held.metrics(&search.point, count)));
        told(trained.metrics.last().expect("it was pushed"));
        if loss < best_loss {
            (best, best_loss, since) = (search.point.clone(), loss, 0);
        } else {
            since += 1;
        }
        if !moved || since >= options.patience || search.slope() < SLOPE_MIN {
            break;
        }
    }
    trained.labels = labels.iter().map(|label| (*label).to_owned()).collect();
    trained.options = BTreeMap::from([
        ("seed".to_owned(), Setting::Count(options.seed)),
        ("validation_percent".to_owned(), Setting::Count(options.validation_percent.into())),
        ("l2".to_owned(), Setting::Number(options.l2)),
        ("balanced".to_owned(), Setting::Flag(options.is_balanced)),
        ("epochs_max".to_owned(), Setting::Count(options.epochs_max.into())),
        ("patience".to_owned(), Setting::Count(options.patience.into())),
    ]);
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for part in best.chunks_exact(width + 1) {
        #[expect(clippy::cast_possible_truncation, reason = "weights are kept as 32-bit floats")]
        let mut floats: Vec<f32> = part.iter().map(|x| *x as f32).collect();
        bias.extend(floats.pop());
        weight.extend(floats);
    }
    let bytes = Head::to_bytes(&trained, width, weight, bias)?;
    let head = Head::from_bytes(&bytes).expect("what was just written can be read");
    Ok(TrainedHead { bytes, head, validation: held.metrics(&best, count) })
}
