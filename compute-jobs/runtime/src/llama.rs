//! The weights of a Llama-family model, ready to be run.
//!
//! Invariant: every shape follows from the metadata and was checked against the tensors; a file that has tensors or
//! settings which are not computed here is refused, never run without them.

use std::collections::BTreeSet;

use ashlar_kernels::{AttentionShape, Kernels, PackError, Packed};

use crate::gguf::{Encoding, Gguf, GgufError, Tensor, Value};

mod forward;
mod pages;

pub(crate) use forward::{STEP_ROWS_MAX, Scratch, Span};
pub(crate) use pages::{Page, Positions};

/// With which numbers a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Weights as the file has them; where they are quantised, what meets them is in 8 bits a number too.
    Quantised,
    /// Weights made plain numbers of 32 bits, which takes four to six times the memory. To be held against others.
    Full,
}

/// Why a file is no model that runs here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LlamaError {
    /// The file cannot be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Another family of models.
    #[error("the model is of the family {family:?}; \"llama\" runs here")]
    Family {
        /// The file's.
        family: String,
    },
    /// A setting that changes the arithmetic and is not known here.
    #[error("{key:?} is set, and models with it do not run here")]
    Setting {
        /// The key.
        key: &'static str,
    },
    /// Numbers of the metadata do not fit each other.
    #[error("{reason}")]
    Shape {
        /// What does not fit.
        reason: &'static str,
    },
    /// A tensor that is needed is not there.
    #[error("tensor {name:?} is missing")]
    TensorMissing {
        /// Its name.
        name: String,
    },
    /// A tensor that no Llama has.
    #[error("tensor {name:?} is of no part that runs here")]
    TensorUnknown {
        /// Its name.
        name: String,
    },
    /// A tensor of another shape than the metadata says.
    #[error(
        "tensor {name:?} has {rows} rows of {columns}, and {expected_rows} of {expected_columns} are needed"
    )]
    TensorShape {
        /// Its name.
        name: String,
        /// The file's.
        rows: usize,
        /// The file's.
        columns: usize,
        /// What the metadata says.
        expected_rows: usize,
        /// What the metadata says.
        expected_columns: usize,
    },
    /// A tensor with bytes that are no weights.
    #[error("tensor {name:?}: {error}")]
    Weights {
        /// Its name.
        name: String,
        /// What is wrong.
        error: PackError,
    },
    /// The model takes more memory than it may.
    #[error("the weights take {bytes} bytes of memory, and {maximum} are allowed")]
    TooLarge {
        /// What it would take.
        bytes: u64,
        /// What it may.
        maximum: u64,
    },
}

const LAYERS_MAX: usize = 1024;
const WIDTH_MAX: usize = 1 << 16;
const CONTEXT_MAX: usize = 1 << 24;

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) inner_width: usize,
    pub(crate) attention: AttentionShape,
    pub(crate) vocabulary: usize,
    pub(crate) context: usize,
    pub(crate) rope_base: f64,
    pub(crate) epsilon: f32,
}

impl Shape {
    fn read(file: &Gguf<'_>) -> Result<Self, LlamaError> {
        let family = file.text("general.architecture")?;
        if family != "llama" {
            return Err(LlamaError::Family { family: family.to_owned() });
        }
        for key in ["llama.expert_count", "llama.rope.scaling.factor", "llama.attention.sliding_window"] {
            if !matches!(file.value(key), None | Some(Value::Whole(0))) {
                return Err(LlamaError::Setting { key });
            }
        }
        if !matches!(file.value("llama.rope.scaling.type"), None | Some(Value::Text("none"))) {
            return Err(LlamaError::Setting { key: "llama.rope.scaling.type" });
        }
        let or = |key: &str, range, otherwise| match file.value(key) {
            None => Ok(otherwise),
            Some(_) => file.whole(key, range),
        };
        let width = file.whole("llama.embedding_length", 1..WIDTH_MAX + 1)?;
        let heads = file.whole("llama.attention.head_count", 1..width + 1)?;
        let key_heads = or("llama.attention.head_count_kv", 1..heads + 1, heads)?;
        if !width.is_multiple_of(heads) || !heads.is_multiple_of(key_heads) {
            return Err(LlamaError::Shape {
                reason: "the width does not fall evenly on heads and their keys",
            });
        }
        let dimensions = width / heads;
        if !dimensions.is_multiple_of(ashlar_kernels::LANES) {
            return Err(LlamaError::Shape { reason: "a head's width is no multiple of 16" });
        }
        for key in
            ["llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"]
        {
            if or(key, 0..WIDTH_MAX, dimensions)? != dimensions {
                return Err(LlamaError::Setting { key });
            }
        }
        let rope_base = match file.value("llama.rope.freq_base") {
            None => 10_000.0,
            Some(_) => file.real("llama.rope.freq_base")?,
        };
        let epsilon = file.real("llama.attention.layer_norm_rms_epsilon")?;
        if rope_base < 1.0 || !(0.0..1.0).contains(&epsilon) {
            return Err(LlamaError::Shape {
                reason: "the base of angles or the norm's epsilon is out of range",
            });
        }
        Ok(Self {
            layers: file.whole("llama.block_count", 1..LAYERS_MAX + 1)?,
            width,
            inner_width: file.whole("llama.feed_forward_length", 1..4 * WIDTH_MAX + 1)?,
            attention: AttentionShape { heads, key_heads, dimensions },
            vocabulary: file.texts("tokenizer.ggml.tokens")?.len(),
            context: file.whole("llama.context_length", 1..CONTEXT_MAX + 1)?,
            rope_base,
            epsilon: epsilon as f32,
        })
    }

    /// Numbers that a page has in all layers.
    pub(crate) fn page_numbers(&self) -> usize {
        self.layers * self.attention.page_numbers()
    }

    /// Bytes of a page's numbers.
    pub(crate) fn page_bytes(&self) -> usize {
        self.page_numbers() * size_of::<f32>()
    }
}

/// One layer's weights.
#[derive(Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    query: Packed,
    key: Packed,
    value: Packed,
    attended: Packed,
    inner_norm: Vec<f32>,
    gate: Packed,
    up: Packed,
    down: Packed,
}

/// A model that can be run. Reads nothing but itself, so that any number of threads may share it.
#[derive(Debug)]
pub(crate) struct Llama {
    pub(crate) shape: Shape,
    pub(crate) kernels: Kernels,
    embeddings: Packed,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// Where the file has none, embeddings serve for both.
    head: Option<Packed>,
    /// Angles that a position turns each pair by.
    angles: Vec<f64>,
    /// Which encodings the weights have, for the name of the determinism class.
    pub(crate) encodings: BTreeSet<Encoding>,
}

/// Takes tensors out of a file, and knows which were taken.
struct Tensors<'a, 'b> {
    file: &'b Gguf<'a>,
    taken: BTreeSet<String>,
    precision: Precision,
    encodings: BTreeSet<Encoding>,
}

impl<'a> Tensors<'a, '_> {
    fn find(&mut self, name: String, rows: usize, columns: usize) -> Result<Tensor<'a>, LlamaError> {
        let Some(tensor) = self.file.tensors().get(name.as_str()).cloned() else {
            return Err(LlamaError::TensorMissing { name });
        };
        if (tensor.rows, tensor.columns) != (rows, columns) {
            let (expected_rows, expected_columns) = (rows, columns);
            let Tensor { rows, columns, .. } = tensor;
            return Err(LlamaError::TensorShape { name, rows, columns, expected_rows, expected_columns });
        }
        self.taken.insert(name);
        Ok(tensor)
    }

    fn linear(&mut self, name: String, rows: usize, columns: usize) -> Result<Packed, LlamaError> {
        let tensor = self.find(name.clone(), rows, columns)?;
        self.encodings.insert(tensor.encoding);
        let packed = match tensor.encoding {
            Encoding::F32 => Packed::from_f32(tensor.bytes, rows, columns),
            Encoding::F16 => Packed::from_f16(tensor.bytes, rows, columns),
            Encoding::Q4_0 => Packed::from_q4_0(tensor.bytes, rows, columns),
            Encoding::Q4_1 => Packed::from_q4_1(tensor.bytes, rows, columns),
            Encoding::Q8_0 => Packed::from_q8_0(tensor.bytes, rows, columns),
        };
        let packed = packed.map_err(|error| LlamaError::Weights { name, error })?;
        Ok(match self.precision {
            Precision::Full => packed.to_dense(),
            Precision::Quantised => packed,
        })
    }

    fn vector(&mut self, name: String, columns: usize) -> Result<Vec<f32>, LlamaError> {
        let tensor = self.find(name.clone(), 1, columns)?;
        if tensor.encoding != Encoding::F32 {
            return Err(LlamaError::Weights {
                name,
                error: PackError::Shape { outputs: 1, inputs: columns },
            });
        }
        let numbers = tensor.bytes.chunks_exact(4).map(|four| [four[0], four[1], four[2], four[3]]);
        let numbers: Vec<f32> = numbers.map(f32::from_le_bytes).collect();
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(LlamaError::Weights { name, error: PackError::NotFinite { output: 0 } });
        }
        Ok(numbers)
    }
}

impl Llama {
    /// Bytes of memory that a file's weights will take.
    fn weights_bytes(file: &Gguf<'_>, precision: Precision) -> Option<usize> {
        file.tensors().values().try_fold(0usize, |sum, tensor| {
            let bits = match (precision, tensor.encoding) {
                (Precision::Full, _) | (_, Encoding::F32 | Encoding::F16) => 32,
                (_, Encoding::Q4_0 | Encoding::Q4_1) => 5,
                (_, Encoding::Q8_0) => 9,
            };
            sum.checked_add(Packed::bytes_for(tensor.rows, tensor.columns, bits)?)
        })
    }

    /// Takes the weights out of a file. `weights_bytes_max` is checked before any are.
    pub(crate) fn load(
        file: &Gguf<'_>,
        precision: Precision,
        weights_bytes_max: usize,
        kernels: Kernels,
    ) -> Result<Self, LlamaError> {
        let shape = Shape::read(file)?;
        let bytes = Self::weights_bytes(file, precision);
        if bytes.is_none_or(|bytes| bytes > weights_bytes_max) {
            let whole = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
            let (bytes, maximum) = (bytes.map_or(u64::MAX, whole), whole(weights_bytes_max));
            return Err(LlamaError::TooLarge { bytes, maximum });
        }
        let mut tensors = Tensors { file, taken: BTreeSet::new(), precision, encodings: BTreeSet::new() };
        let embeddings = tensors.linear("token_embd.weight".into(), shape.vocabulary, shape.width)?;
        let key_width = shape.attention.key_heads * shape.attention.dimensions;
        let mut layers = Vec::new();
        for layer in 0..shape.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            layers.push(Layer {
                attention_norm: tensors.vector(name("attn_norm"), shape.width)?,
                query: tensors.linear(name("attn_q"), shape.width, shape.width)?,
                key: tensors.linear(name("attn_k"), key_width, shape.width)?,
                value: tensors.linear(name("attn_v"), key_width, shape.width)?,
                attended: tensors.linear(name("attn_output"), shape.width, shape.width)?,
                inner_norm: tensors.vector(name("ffn_norm"), shape.width)?,
                gate: tensors.linear(name("ffn_gate"), shape.inner_width, shape.width)?,
                up: tensors.linear(name("ffn_up"), shape.inner_width, shape.width)?,
                down: tensors.linear(name("ffn_down"), shape.width, shape.inner_width)?,
            });
        }
        let norm = tensors.vector("output_norm.weight".into(), shape.width)?;
        let head = match file.tensors().contains_key("output.weight") {
            true => Some(tensors.linear("output.weight".into(), shape.vocabulary, shape.width)?),
            false => None,
        };
        if let Some(name) = file.tensors().keys().find(|name| !tensors.taken.contains(**name)) {
            return Err(LlamaError::TensorUnknown { name: (*name).to_owned() });
        }
        let dimensions = shape.attention.dimensions;
        let angle = |pair: usize| libm::pow(shape.rope_base, -2.0 * pair as f64 / dimensions as f64);
        let angles = (0..dimensions / 2).map(angle).collect();
        let encodings = tensors.encodings;
        Ok(Self { shape, kernels, embeddings, layers, norm, head, angles, encodings })
    }
}
