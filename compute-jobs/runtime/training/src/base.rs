//! The frozen model: shape and weights of a Llama.
//!
//! Invariant: weights have the shapes that [`Shape`] says, and none of them is a variable, so that no gradient of theirs is
//! ever computed.

use ashlar_compute_api::ContentRoot;
use candle_core::{Device, Tensor};

use crate::error::TrainingError;
use crate::lora::Target;

/// How large a model is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Transformer layers.
    pub layers: usize,
    /// Numbers of a token's row.
    pub hidden: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; they divide `heads`.
    pub kv_heads: usize,
    /// Numbers of a head, even.
    pub head: usize,
    /// Numbers between the products of a feed-forward part.
    pub intermediate: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Base of the rotary angles.
    pub rope_base: f32,
    /// Of RMS norm.
    pub epsilon: f32,
}

impl Shape {
    /// Numbers in and out of a linear part.
    pub fn of(&self, target: Target) -> (usize, usize) {
        let (queries, keys) = (self.heads * self.head, self.kv_heads * self.head);
        match target {
            Target::Query => (self.hidden, queries),
            Target::Key | Target::Value => (self.hidden, keys),
            Target::Output => (queries, self.hidden),
            Target::Gate | Target::Up => (self.hidden, self.intermediate),
            Target::Down => (self.intermediate, self.hidden),
        }
    }

    /// Bounds within which products of sizes cannot overflow, and which real models keep.
    pub(crate) fn check(&self) -> Result<(), TrainingError> {
        let refuse = |reason: String| Err(TrainingError::Base { reason });
        let sizes = [
            ("layers", self.layers, 256),
            ("hidden", self.hidden, 16_384),
            ("heads", self.heads, 256),
            ("key-value heads", self.kv_heads, 256),
            ("numbers of a head", self.head, 512),
            ("intermediate", self.intermediate, 65_536),
            ("vocabulary", self.vocabulary, 1_000_000),
        ];
        for (name, value, maximum) in sizes {
            if !(1..=maximum).contains(&value) {
                return refuse(format!("{name}: {value}, and 1 to {maximum} can be"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) || !self.head.is_multiple_of(2) {
            return refuse("key-value heads divide heads, and a head has an even number of numbers".into());
        }
        let is_fine = |x: f32| x.is_finite() && x > 0.0;
        if !is_fine(self.rope_base) || !is_fine(self.epsilon) {
            return refuse("the base of the angles and the epsilon are positive".into());
        }
        Ok(())
    }

    /// Numbers of all weights.
    pub(crate) fn weights(&self) -> usize {
        let linear =
            Target::ALL.into_iter().map(|target| self.of(target)).map(|(depth, columns)| depth * columns);
        (linear.sum::<usize>() + 2 * self.hidden) * self.layers + self.hidden * (self.vocabulary + 1)
    }
}

/// One layer's weights.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) feed_norm: Vec<f32>,
    /// In the order of [`Target::ALL`]; each has a row for each of its outputs.
    pub(crate) linear: [Tensor; Target::ALL.len()],
}

/// A model that adapters are trained for.
#[derive(Debug)]
pub struct Base {
    pub(crate) root: ContentRoot,
    pub(crate) shape: Shape,
    /// A row for each token.
    pub(crate) words: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    /// What tells tokens apart at the end; often the words again.
    pub(crate) output: Tensor,
}

/// Hands out a model's tensors by the names of GGUF.
pub(crate) trait Source {
    /// The numbers of a tensor, row after row, held against this shape.
    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TrainingError>;
    /// Whether there is such a tensor.
    fn has(&self, name: &str) -> bool;
}

fn matrix(
    source: &mut impl Source,
    name: &str,
    rows: usize,
    columns: usize,
) -> Result<Tensor, TrainingError> {
    Ok(Tensor::from_vec(source.floats(name, &[rows, columns])?, (rows, columns), &Device::Cpu)?)
}

impl Base {
    pub(crate) fn from_source(
        root: ContentRoot,
        shape: Shape,
        source: &mut impl Source,
    ) -> Result<Self, TrainingError> {
        shape.check()?;
        let has_output = source.has("output.weight");
        let words = matrix(source, "token_embd.weight", shape.vocabulary, shape.hidden)?;
        let output = match has_output {
            true => matrix(source, "output.weight", shape.vocabulary, shape.hidden)?,
            false => words.clone(),
        };
        let mut layers = Vec::with_capacity(shape.layers);
        for at in 0..shape.layers {
            let mut linear = Vec::with_capacity(Target::ALL.len());
            for target in Target::ALL {
                let (depth, columns) = shape.of(target);
                linear.push(matrix(source, &format!("blk.{at}.{}.weight", target.name()), columns, depth)?);
            }
            layers.push(Layer {
                attention_norm: source.floats(&format!("blk.{at}.attn_norm.weight"), &[shape.hidden])?,
                feed_norm: source.floats(&format!("blk.{at}.ffn_norm.weight"), &[shape.hidden])?,
                linear: linear.try_into().expect("one for each target"),
            });
        }
        let norm = source.floats("output_norm.weight", &[shape.hidden])?;
        Ok(Self { root, shape, words, layers, norm, output })
    }

    /// How large it is.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its content root.
    pub fn root(&self) -> ContentRoot {
        self.root
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A tiny model of numbers drawn at random.

    use super::*;
    use crate::lora::numbers;

    pub(crate) const SHAPE: Shape = Shape {
        layers: 3,
        hidden: 16,
        heads: 4,
        kv_heads: 2,
        head: 4,
        intermediate: 24,
        vocabulary: 40,
        rope_base: 100.0,
        epsilon: 1e-5,
    };

    struct Drawn;

    impl Source for Drawn {
        fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TrainingError> {
            let drawn = numbers(9, name, shape.iter().product());
            let number = |x: f32| match shape {
                [_] => 1.0 + 0.3 * x,
                _ => 0.6 * x,
            };
            Ok(drawn.into_iter().map(number).collect())
        }

        fn has(&self, _: &str) -> bool {
            false
        }
    }

    pub(crate) fn base() -> Base {
        Base::from_source(ContentRoot([6; 32]), SHAPE, &mut Drawn).unwrap()
    }
}
