//! A base from a GGUF file in memory.
//!
//! Invariant: sizes are held against the file and against each other before a tensor is dequantised; what candle's reader
//! panics on is an error here.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ashlar_compute_api::ContentRoot;
use ashlar_models::content_root;
use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};

use crate::base::{Base, Shape, Source};
use crate::error::TrainingError;

/// Numbers of a model that is dequantised: 16 GiB of them.
const WEIGHTS_MAX: usize = 4 << 30;

fn refuse(reason: impl ToString) -> TrainingError {
    TrainingError::Base { reason: reason.to_string() }
}

struct File<'a> {
    content: &'a Content,
    bytes: Cursor<&'a [u8]>,
}

impl Source for File<'_> {
    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TrainingError> {
        let info =
            self.content.tensor_infos.get(name).ok_or_else(|| refuse(format!("no tensor {name:?}")))?;
        if info.shape.dims() != shape {
            return Err(refuse(format!(
                "{name:?} has shape {:?}, and {shape:?} was expected",
                info.shape.dims()
            )));
        }
        let tensor = self.content.tensor(&mut self.bytes, name, &Device::Cpu).map_err(refuse)?;
        let floats = tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        match floats.iter().all(|float| float.is_finite()) {
            true => Ok(floats),
            false => Err(refuse(format!("{name:?} holds numbers that are not finite"))),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }
}

fn shape(content: &Content) -> Result<Shape, TrainingError> {
    let value =
        |key: &str| content.metadata.get(key).ok_or_else(|| refuse(format!("the file says no {key}")));
    let size = |key: &str| -> Result<usize, TrainingError> {
        usize::try_from(value(key)?.to_u32().map_err(refuse)?).map_err(refuse)
    };
    let number = |key: &str| value(key)?.to_f32().map_err(refuse);
    match value("general.architecture")? {
        Value::String(name) if name == "llama" => (),
        other => return Err(refuse(format!("the architecture is {other:?}, and only llama is trained"))),
    }
    let (hidden, heads) = (size("llama.embedding_length")?, size("llama.attention.head_count")?);
    if heads == 0 || hidden % heads != 0 {
        return Err(refuse("heads do not divide the hidden size"));
    }
    let words =
        content.tensor_infos.get("token_embd.weight").ok_or_else(|| refuse("no token_embd.weight"))?;
    let vocabulary = words.shape.dims().first().copied().unwrap_or(0);
    let head = hidden / heads;
    if content.metadata.contains_key("llama.rope.dimension_count")
        && size("llama.rope.dimension_count")? != head
    {
        return Err(refuse("only whole heads are rotated"));
    }
    if content.metadata.keys().any(|key| key.starts_with("llama.rope.scaling.")) {
        return Err(refuse("scaled rotary angles are not trained on"));
    }
    Ok(Shape {
        layers: size("llama.block_count")?,
        hidden,
        heads,
        kv_heads: size("llama.attention.head_count_kv")?,
        head,
        intermediate: size("llama.feed_forward_length")?,
        vocabulary,
        rope_base: if content.metadata.contains_key("llama.rope.freq_base") {
            number("llama.rope.freq_base")?
        } else {
            1e4
        },
        epsilon: number("llama.attention.layer_norm_rms_epsilon")?,
    })
}

impl Base {
    /// The model of a GGUF file, dequantised; its root is that of the bytes. Blocks, for seconds.
    pub fn from_gguf(bytes: &[u8]) -> Result<Self, TrainingError> {
        let root: ContentRoot = content_root(bytes);
        // candle divides by the alignment that a file claims, which may be zero.
        let read = catch_unwind(AssertUnwindSafe(|| Content::read(&mut Cursor::new(bytes))));
        let content = read.map_err(|_| refuse("the header contradicts itself"))?.map_err(refuse)?;
        let shape = shape(&content)?;
        shape.check()?;
        if shape.weights() > WEIGHTS_MAX {
            return Err(refuse(format!("{} weights, and {WEIGHTS_MAX} are the most", shape.weights())));
        }
        Self::from_source(root, shape, &mut File { content: &content, bytes: Cursor::new(bytes) })
    }
}
