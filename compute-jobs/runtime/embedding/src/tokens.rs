//! Texts as the model reads them: word pieces between two marks, cut at the model's maximum.
//!
//! Invariant: every id has a row in the model; a text has at least its two marks and at most the maximum.

use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::configuration::Configuration;

/// Bytes of tokenizer.json. Vocabularies of this family have some hundred KiB.
pub(crate) const TOKENIZER_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a text. What the model reads of it ends long before; normalising alone takes a second for 50 MB.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Why there are no tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// tokenizer.json is not what a model of this family has.
    #[error("tokenizer.json: {reason}")]
    Tokenizer {
        /// What is wrong with it.
        reason: String,
    },
    /// A text that is longer than any that is read.
    #[error("a text of {bytes} bytes, and {TEXT_BYTES_MAX} are the most")]
    TooLong {
        /// Of the text.
        bytes: usize,
    },
    /// The tokenizer gave up on a text.
    #[error("a text could not be tokenised: {reason}")]
    Text {
        /// What it said.
        reason: String,
    },
}

/// Ids of a text's tokens, its marks among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens(pub(crate) Vec<u32>);

impl Tokens {
    /// How many: the units of a text.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// In the model's vocabulary.
    pub fn ids(&self) -> &[u32] {
        &self.0
    }
}

/// The part that is looked at before the tokenizer is built: kinds that cost much, or do something else, are not built.
#[derive(Deserialize)]
struct Outline {
    model: OutlineOfModel,
}

#[derive(Deserialize)]
struct OutlineOfModel {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: std::collections::HashMap<String, u32>,
}

/// The tokenizer of one model.
#[derive(Debug)]
pub(crate) struct Reader {
    tokenizer: Tokenizer,
    tokens_max: usize,
    vocabulary: usize,
}

impl Reader {
    pub(crate) fn new(bytes: &[u8], configuration: &Configuration) -> Result<Self, TokenError> {
        let refuse = |reason: String| TokenError::Tokenizer { reason };
        let outline: Outline = serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
        if outline.model.kind.as_deref() != Some("WordPiece") {
            return Err(refuse(format!("the model is {:?}, and only WordPiece is read", outline.model.kind)));
        }
        let vocabulary = configuration.vocabulary;
        let is_outside = |id: u32| usize::try_from(id).is_ok_and(|id| id >= vocabulary);
        if let Some((token, id)) = outline.model.vocab.iter().find(|(_, id)| is_outside(**id)) {
            return Err(refuse(format!("{token:?} has number {id}, and the model has {vocabulary} rows")));
        }
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| refuse(error.to_string()))?;
        if let Some((token, id)) = tokenizer.get_vocab(true).iter().find(|(_, id)| is_outside(**id)) {
            return Err(refuse(format!("{token:?} has number {id}, and the model has {vocabulary} rows")));
        }
        let truncation = TruncationParams { max_length: configuration.tokens_max, ..Default::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| refuse(error.to_string()))?;
        tokenizer.with_padding(None);
        let reader = Self { tokenizer, tokens_max: configuration.tokens_max, vocabulary };
        match reader.read("").map_err(|error| refuse(error.to_string()))?.count() {
            2 => Ok(reader),
            marks => Err(refuse(format!("an empty text has {marks} tokens, and 2 are expected: its marks"))),
        }
    }

    pub(crate) fn read(&self, text: &str) -> Result<Tokens, TokenError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenError::TooLong { bytes: text.len() });
        }
        let encoded = self.tokenizer.encode_fast(text, true);
        let encoded = encoded.map_err(|error| TokenError::Text { reason: error.to_string() })?;
        let ids = encoded.get_ids();
        // A tokenizer's last step may add whatever marks its file says, as often as it says.
        if !(2..=self.tokens_max).contains(&ids.len()) {
            return Err(TokenError::Text { reason: format!("{} tokens, marks among them", ids.len()) });
        }
        if let Some(id) = ids.iter().find(|id| usize::try_from(**id).is_ok_and(|id| id >= self.vocabulary)) {
            return Err(TokenError::Text { reason: format!("token {id} has no row in the model") });
        }
        Ok(Tokens(ids.to_vec()))
    }
}
