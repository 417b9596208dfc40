//! Adapters: beside a frozen linear part W, x ↦ x·Wᵀ + scale · (x·Aᵀ)·Bᵀ with small A and B.
//!
//! Invariant: B begins as zero, so that an adapted model begins as its base; order and names of adapters follow from the
//! options alone.

use std::collections::BTreeSet;

use ashlar_models::{Setting, Tensor as Kept, TensorFile, TrainedError};
use candle_core::{Device, Tensor, Var};

use crate::base::Shape;
use crate::error::TrainingError;

/// The largest rank.
const RANK_MAX: usize = 256;

/// A linear part of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Of attention.
    Query,
    /// Of attention.
    Key,
    /// Of attention.
    Value,
    /// Behind attention.
    Output,
    /// Of the feed-forward part.
    Gate,
    /// Of the feed-forward part.
    Up,
    /// Of the feed-forward part.
    Down,
}

impl Target {
    /// All, in the order in which a layer uses them.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// As GGUF calls the part.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "attn_q",
            Self::Key => "attn_k",
            Self::Value => "attn_v",
            Self::Output => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// The part of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }
}

/// Which adapters there are.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraOptions {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// The adapter's share is alpha ÷ rank.
    pub alpha: f64,
    /// Parts that have one.
    pub targets: BTreeSet<Target>,
    /// Of the first A.
    pub seed: u64,
}

impl Default for LoraOptions {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: Target::ALL.into(), seed: 0 }
    }
}

impl LoraOptions {
    pub(crate) fn check(&self) -> Result<(), TrainingError> {
        let refuse = |name, value: String, expected: &str| {
            Err(TrainingError::Option { name, value, expected: expected.to_owned() })
        };
        if !(1..=RANK_MAX).contains(&self.rank) {
            return refuse("rank", self.rank.to_string(), "1 to 256 can be");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return refuse("alpha", self.alpha.to_string(), "a positive number is needed");
        }
        if self.targets.is_empty() {
            return refuse("targets", "empty".into(), "at least one is needed");
        }
        Ok(())
    }

    pub(crate) fn settings(&self) -> [(String, Setting); 4] {
        let names = self.targets.iter().map(|target| target.name().to_owned()).collect();
        [
            ("rank".into(), Setting::Count(u64::try_from(self.rank).unwrap_or(u64::MAX))),
            ("alpha".into(), Setting::Number(self.alpha)),
            ("targets".into(), Setting::Texts(names)),
            ("adapter_seed".into(), Setting::Count(self.seed)),
        ]
    }

    pub(crate) fn scale(&self) -> f64 {
        let rank = u16::try_from(self.rank).expect("the rank was checked");
        self.alpha / f64::from(rank)
    }
}

/// One adapter.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) a: Var,
    pub(crate) b: Var,
}

/// All adapters of a model.
#[derive(Debug)]
pub struct Adapters {
    pub(crate) options: LoraOptions,
    /// By layer, then in the order of [`Target::ALL`].
    layers: Vec<[Option<Adapter>; Target::ALL.len()]>,
}

/// Numbers between -1 and 1, the same for the same name and seed.
pub(crate) fn numbers(seed: u64, name: &str, count: usize) -> Vec<f32> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes()).update(name.as_bytes());
    let mut bytes = vec![0; count * 2];
    hasher.finalize_xof().fill(&mut bytes);
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs.iter().map(|pair| (f32::from(u16::from_be_bytes(*pair)) - 32_767.5) / 32_768.0).collect()
}

impl Adapters {
    /// Adapters before any step. A is drawn as Kaiming's uniform, as is customary.
    pub fn new(shape: &Shape, options: LoraOptions) -> Result<Self, TrainingError> {
        options.check()?;
        shape.check()?;
        let mut layers = Vec::with_capacity(shape.layers);
        for layer in 0..shape.layers {
            let mut adapters = [const { None }; Target::ALL.len()];
            for (adapter, target) in adapters.iter_mut().zip(Target::ALL) {
                if !options.targets.contains(&target) {
                    continue;
                }
                let ((depth, columns), rank) = (shape.of(target), options.rank);
                let name = format!("blk.{layer}.{}", target.name());
                let bound = 1.0 / f32::from(u16::try_from(depth).unwrap_or(u16::MAX)).sqrt();
                let a = numbers(options.seed, &name, rank * depth).into_iter().map(|x| x * bound).collect();
                let a = Var::from_vec::<_, f32>(a, (rank, depth), &Device::Cpu)?;
                let b = Var::from_vec(vec![0.0_f32; columns * rank], (columns, rank), &Device::Cpu)?;
                *adapter = Some(Adapter { a, b });
            }
            layers.push(adapters);
        }
        Ok(Self { options, layers })
    }

    pub(crate) fn of(&self, layer: usize, at: usize) -> Option<&Adapter> {
        self.layers[layer][at].as_ref()
    }

    /// Every tensor with its name, in one order.
    pub(crate) fn variables(&self) -> Vec<(String, &Var)> {
        let mut all = Vec::new();
        for (layer, adapters) in self.layers.iter().enumerate() {
            for (adapter, target) in adapters.iter().zip(Target::ALL) {
                if let Some(Adapter { a, b }) = adapter {
                    let name = format!("blk.{layer}.{}", target.name());
                    all.push((format!("{name}.lora_a"), a));
                    all.push((format!("{name}.lora_b"), b));
                }
            }
        }
        all
    }

    /// The numbers of all tensors, as [`Adapters::set`] takes them.
    pub(crate) fn values(&self) -> Result<Vec<Vec<f32>>, TrainingError> {
        let value = |(_, var): &(String, &Var)| Ok(var.as_tensor().flatten_all()?.to_vec1()?);
        self.variables().iter().map(value).collect()
    }

    pub(crate) fn set(&self, values: &[Vec<f32>]) -> Result<(), TrainingError> {
        for ((_, var), value) in self.variables().iter().zip(values) {
            var.set(&Tensor::from_slice(value, var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// Numbers named and shaped as the adapters, with `prefix` before each name.
    pub(crate) fn kept(&self, prefix: &str, values: &[Vec<f32>]) -> Vec<Kept> {
        let tensors = self.variables().into_iter().zip(values).map(|((name, var), floats)| Kept {
            name: format!("{prefix}{name}"),
            shape: var.dims().to_vec(),
            floats: floats.clone(),
        });
        tensors.collect()
    }

    /// Reads what [`Adapters::kept`] wrote.
    pub(crate) fn read(&self, prefix: &str, file: &TensorFile<'_>) -> Result<Vec<Vec<f32>>, TrainingError> {
        let read = |(name, var): (String, &Var)| file.floats(&format!("{prefix}{name}"), var.dims());
        let values: Result<_, _> = self.variables().into_iter().map(read).collect();
        Ok(values.map_err(TrainedError::from)?)
    }
}
