//! A model's numbers in the order in which the forward pass reads them.
//!
//! Invariant: every tensor is held against the configuration's shape before the first is copied, so that a file that
//! lacks one costs nothing; all numbers are finite.

use ashlar_models::{TensorError, TensorFile};

use crate::configuration::Configuration;
use crate::kernel::Panels;

/// A product's right-hand side, and what is added.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Panels,
    pub(crate) bias: Vec<f32>,
}

/// Scale and bias of a layer norm.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) scale: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// One transformer layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Queries, keys and values side by side.
    pub(crate) attention: Linear,
    pub(crate) attention_output: Linear,
    pub(crate) attention_norm: Norm,
    pub(crate) intermediate: Linear,
    pub(crate) output: Linear,
    pub(crate) output_norm: Norm,
}

/// All of a model's numbers.
#[derive(Debug)]
pub(crate) struct Weights {
    /// A row for each token.
    pub(crate) words: Vec<f32>,
    /// A row for each place, the row of the first segment added.
    pub(crate) places: Vec<f32>,
    pub(crate) norm: Norm,
    pub(crate) layers: Vec<Layer>,
}

/// Names within a file: some carry the name of the model in front.
struct Named<'a> {
    file: &'a TensorFile<'a>,
    prefix: &'static str,
    lanes: usize,
}

const WORDS: &str = "embeddings.word_embeddings.weight";

impl Named<'_> {
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TensorError> {
        self.file.floats(&format!("{}{name}", self.prefix), shape)
    }

    fn norm(&self, name: &str, length: usize) -> Result<Norm, TensorError> {
        let part = |part: &str| self.floats(&format!("{name}.LayerNorm.{part}"), &[length]);
        Ok(Norm { scale: part("weight")?, bias: part("bias")? })
    }

    /// Several linear parts of one input, side by side.
    fn linear(&self, names: &[String], depth: usize, columns: usize) -> Result<Linear, TensorError> {
        let (mut rows, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            rows.extend(self.floats(&format!("{name}.weight"), &[columns, depth])?);
            bias.extend(self.floats(&format!("{name}.bias"), &[columns])?);
        }
        Ok(Linear { matrix: Panels::of_transposed(&rows, depth, bias.len(), self.lanes), bias })
    }

    fn layer(&self, at: usize, configuration: &Configuration) -> Result<Layer, TensorError> {
        let Configuration { hidden, intermediate, .. } = *configuration;
        let name = |part: &str| format!("encoder.layer.{at}.{part}");
        let attention = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Layer {
            attention: self.linear(&attention, hidden, hidden)?,
            attention_output: self.linear(&[name("attention.output.dense")], hidden, hidden)?,
            attention_norm: self.norm(&name("attention.output"), hidden)?,
            intermediate: self.linear(&[name("intermediate.dense")], hidden, intermediate)?,
            output: self.linear(&[name("output.dense")], intermediate, hidden)?,
            output_norm: self.norm(&name("output"), hidden)?,
        })
    }
}

/// Holds all shapes against the file.
fn check(file: &TensorFile<'_>, prefix: &str, configuration: &Configuration) -> Result<(), TensorError> {
    let Configuration { hidden, intermediate, vocabulary, positions, types, .. } = *configuration;
    let expect = |name: &str, shape: &[usize]| file.check(&format!("{prefix}{name}"), shape);
    expect(WORDS, &[vocabulary, hidden])?;
    expect("embeddings.position_embeddings.weight", &[positions, hidden])?;
    expect("embeddings.token_type_embeddings.weight", &[types, hidden])?;
    let norm = |name: &str| {
        expect(&format!("{name}.LayerNorm.weight"), &[hidden])?;
        expect(&format!("{name}.LayerNorm.bias"), &[hidden])
    };
    norm("embeddings")?;
    for at in 0..configuration.layers {
        let layer = format!("encoder.layer.{at}");
        for (part, columns, depth) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", intermediate, hidden),
            ("output.dense", hidden, intermediate),
        ] {
            expect(&format!("{layer}.{part}.weight"), &[columns, depth])?;
            expect(&format!("{layer}.{part}.bias"), &[columns])?;
        }
        norm(&format!("{layer}.attention.output"))?;
        norm(&format!("{layer}.output"))?;
    }
    Ok(())
}

impl Weights {
    /// Reads a model's tensors, for vectors of `lanes` numbers.
    pub(crate) fn load(
        bytes: &[u8],
        configuration: &Configuration,
        lanes: usize,
    ) -> Result<Self, TensorError> {
        let file = TensorFile::parse(bytes)?;
        let prefix = if file.shape(WORDS).is_none() { "bert." } else { "" };
        check(&file, prefix, configuration)?;
        let named = Named { file: &file, prefix, lanes };
        let Configuration { hidden, vocabulary, positions, types, .. } = *configuration;
        let first = named.floats("embeddings.token_type_embeddings.weight", &[types, hidden])?;
        let mut places = named.floats("embeddings.position_embeddings.weight", &[positions, hidden])?;
        for place in places.chunks_exact_mut(hidden) {
            place.iter_mut().zip(&first).for_each(|(place, first)| *place += first);
        }
        Ok(Self {
            words: named.floats(WORDS, &[vocabulary, hidden])?,
            places,
            norm: named.norm("embeddings", hidden)?,
            layers: (0..configuration.layers)
                .map(|at| named.layer(at, configuration))
                .collect::<Result<_, _>>()?,
        })
    }
}
