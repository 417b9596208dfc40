//! What a model of BERT's family says of its shape, in the files that transformers and sentence-transformers write.
//!
//! Invariant: a configuration that passed has sizes that multiply without overflow, and asks for nothing that the forward
//! pass would not do exactly so; anything else is refused with a reason, never approximated.

use ashlar_models::{FolderError, ModelFolder};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Bytes of any of these files.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Bounds of what is run; the largest models of the family stay well within.
const LAYERS_MAX: usize = 64;
const HIDDEN_MAX: usize = 4_096;
const INTERMEDIATE_MAX: usize = 16_384;
const VOCABULARY_MAX: usize = 500_000;
const POSITIONS_MAX: usize = 8_192;
const TYPES_MAX: usize = 16;

/// Why a model is not run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// A file cannot be read as what the model's root names.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Not JSON with these members.
    #[error("{file}: {reason}")]
    Malformed {
        /// Its name.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A size that is zero or absurd.
    #[error("{name} is {value}, and 1 to {maximum} can be run")]
    Size {
        /// The member.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The bound.
        maximum: usize,
    },
    /// Something that the forward pass does not do.
    #[error("{name} is {value:?}; only {expected} is run")]
    Unsupported {
        /// The member.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is run.
        expected: &'static str,
    },
}

/// The shape of a model that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Transformer layers.
    pub layers: usize,
    /// Numbers of a token's row, and of a vector.
    pub hidden: usize,
    /// Heads of attention; they divide `hidden`.
    pub heads: usize,
    /// Numbers between the two products of a feed-forward part.
    pub intermediate: usize,
    /// Tokens that have a row.
    pub vocabulary: usize,
    /// Places that have a row.
    pub positions: usize,
    /// Kinds of segments; texts are of the first.
    pub types: usize,
    /// Of layer norm.
    pub epsilon: f32,
    /// Tokens of a text, its two marks among them; what is longer is cut.
    pub tokens_max: usize,
    /// Vectors are made length 1.
    pub is_normalised: bool,
}

#[derive(Deserialize)]
struct Bert {
    model_type: String,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    num_hidden_layers: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
}

fn absolute() -> String {
    "absolute".into()
}

#[derive(Deserialize)]
struct Sentence {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct Pooling {
    word_embedding_dimension: usize,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

fn read<T: DeserializeOwned>(folder: &ModelFolder, file: &'static str) -> Result<T, ConfigurationError> {
    let bytes = folder.read(file, FILE_BYTES_MAX)?;
    let malformed =
        |error: serde_json::Error| ConfigurationError::Malformed { file, reason: error.to_string() };
    serde_json::from_slice(&bytes).map_err(malformed)
}

fn size(name: &'static str, value: usize, maximum: usize) -> Result<usize, ConfigurationError> {
    match value {
        value if (1..=maximum).contains(&value) => Ok(value),
        value => Err(ConfigurationError::Size { name, value, maximum }),
    }
}

fn only(name: &'static str, value: &str, expected: &'static str) -> Result<(), ConfigurationError> {
    match value == expected {
        true => Ok(()),
        false => Err(ConfigurationError::Unsupported { name, value: value.to_owned(), expected }),
    }
}

impl Configuration {
    /// Reads config.json, and what sentence-transformers says beside it, where it does.
    pub fn load(folder: &ModelFolder) -> Result<Self, ConfigurationError> {
        let bert: Bert = read(folder, "config.json")?;
        only("model_type", &bert.model_type, "bert")?;
        only("hidden_act", &bert.hidden_act, "gelu")?;
        only("position_embedding_type", &bert.position_embedding_type, "absolute")?;
        let hidden = size("hidden_size", bert.hidden_size, HIDDEN_MAX)?;
        let heads = size("num_attention_heads", bert.num_attention_heads, hidden)?;
        if hidden % heads != 0 {
            let (name, expected) = ("num_attention_heads", "a number that divides hidden_size");
            return Err(ConfigurationError::Unsupported { name, value: heads.to_string(), expected });
        }
        let positions = size("max_position_embeddings", bert.max_position_embeddings, POSITIONS_MAX)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the nearest 32-bit float is what transformers uses"
        )]
        let epsilon = bert.layer_norm_eps as f32;
        if !(epsilon.is_finite() && epsilon > 0.0) {
            let (name, expected) = ("layer_norm_eps", "a positive number");
            return Err(ConfigurationError::Unsupported { name, value: epsilon.to_string(), expected });
        }
        Ok(Self {
            layers: size("num_hidden_layers", bert.num_hidden_layers, LAYERS_MAX)?,
            hidden,
            heads,
            intermediate: size("intermediate_size", bert.intermediate_size, INTERMEDIATE_MAX)?,
            vocabulary: size("vocab_size", bert.vocab_size, VOCABULARY_MAX)?,
            positions,
            types: size("type_vocab_size", bert.type_vocab_size, TYPES_MAX)?,
            epsilon,
            tokens_max: tokens_max(folder, positions)?,
            is_normalised: is_normalised(folder, hidden)?,
        })
    }
}

fn tokens_max(folder: &ModelFolder, positions: usize) -> Result<usize, ConfigurationError> {
    let file = "sentence_bert_config.json";
    let said = if folder.has(file) { read::<Sentence>(folder, file)?.max_seq_length } else { None };
    let tokens = size("max_seq_length", said.unwrap_or(positions), positions)?;
    // Room for the two marks and a token between them.
    if tokens < 3 {
        Err(ConfigurationError::Size { name: "max_seq_length", value: tokens, maximum: positions })
    } else {
        Ok(tokens)
    }
}

/// Holds the pipeline of modules against the only one that is run: transformer, mean, and normalisation or none. A model
/// without these files is pooled by the mean and normalised, as sentence-transformers' own models are.
fn is_normalised(folder: &ModelFolder, hidden: usize) -> Result<bool, ConfigurationError> {
    let pooling = "1_Pooling/config.json";
    if folder.has(pooling) {
        let said: Pooling = read(folder, pooling)?;
        let others = [
            said.pooling_mode_cls_token,
            said.pooling_mode_max_tokens,
            said.pooling_mode_mean_sqrt_len_tokens,
            said.pooling_mode_weightedmean_tokens,
            said.pooling_mode_lasttoken,
        ];
        if !said.pooling_mode_mean_tokens || others.contains(&true) {
            let value = "another mode".to_owned();
            return Err(ConfigurationError::Unsupported { name: "pooling", value, expected: "the mean" });
        }
        if said.word_embedding_dimension != hidden {
            let value = said.word_embedding_dimension.to_string();
            let (name, expected) = ("word_embedding_dimension", "hidden_size");
            return Err(ConfigurationError::Unsupported { name, value, expected });
        }
    }
    if !folder.has("modules.json") {
        return Ok(true);
    }
    let modules: Vec<Module> = read(folder, "modules.json")?;
    let names: Vec<&str> = modules.iter().filter_map(|module| module.kind.rsplit('.').next()).collect();
    match names[..] {
        ["Transformer", "Pooling"] => Ok(false),
        ["Transformer", "Pooling", "Normalize"] => Ok(true),
        _ => {
            let (value, expected) = (names.join(", "), "Transformer, Pooling and perhaps Normalize");
            Err(ConfigurationError::Unsupported { name: "modules.json", value, expected })
        }
    }
}
