//! Text as tokens of a model and back.
//!
//! Invariant: text never becomes a control token, whatever it says; those come from the conversation's form alone. Bytes
//! of tokens joined are the bytes of the text, but for those that the model has no token for and never sees (of SmolLM2:
//! some control characters, and bytes that plain text has not). Text that cannot fit is refused before it is cut.

use std::collections::BTreeSet;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{PreTokenizerWrapper, Tokenizer};

use crate::gguf::{Gguf, GgufError, Value};

const TOKENS_MAX: usize = 1 << 20;
const MERGES_MAX: usize = 1 << 22;
const TOKEN_BYTES_MAX: usize = 1 << 10;

/// Tokens that end an answer whatever the metadata says, by name.
const ENDS: [&str; 5] = ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "</s>"];

/// Type of a token that is text.
const TEXT: i64 = 1;
/// Types of tokens that are no text: unknown, control, unused.
const NO_TEXT: [i64; 3] = [2, 3, 5];

/// Why a file has no vocabulary that is read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// The file cannot be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Another way to cut text.
    #[error("text is cut by {model:?} with {cut:?}; \"gpt2\" with \"smollm\" or \"gpt-2\" is known here")]
    Unknown {
        /// The file's model.
        model: String,
        /// How text is cut before it.
        cut: String,
    },
    /// Tokens that are none.
    #[error("{reason}")]
    Tokens {
        /// What is wrong.
        reason: String,
    },
}

/// Tokens of a model.
pub(crate) struct Vocabulary {
    cut: Tokenizer,
    /// Bytes that each token stands for; empty of control tokens.
    bytes: Vec<Vec<u8>>,
    /// Control tokens by the length of their text, the longest first.
    controls: Vec<(String, u32)>,
    /// Tokens that end an answer.
    ends: BTreeSet<u32>,
    /// The token that ends a message.
    pub(crate) end: u32,
    /// Put before everything.
    first: Option<u32>,
    token_bytes_max: usize,
}

impl Vocabulary {
    pub(crate) fn read(file: &Gguf<'_>) -> Result<Self, VocabularyError> {
        let wrong = |reason: &str| VocabularyError::Tokens { reason: reason.to_owned() };
        let model = file.text("tokenizer.ggml.model")?;
        let cut = file.text("tokenizer.ggml.pre").unwrap_or("gpt-2");
        // Both cut as GPT-2 did; the one takes digits apart before.
        let takes_digits_apart = match (model, cut) {
            ("gpt2", "smollm") => true,
            ("gpt2", "gpt-2" | "default") => false,
            _ => return Err(VocabularyError::Unknown { model: model.to_owned(), cut: cut.to_owned() }),
        };
        let tokens = file.texts("tokenizer.ggml.tokens")?;
        let kinds = file.wholes("tokenizer.ggml.token_type")?;
        let merges = file.texts("tokenizer.ggml.merges")?;
        let is_small = tokens.len() <= TOKENS_MAX && merges.len() <= MERGES_MAX;
        if !is_small || tokens.is_empty() || tokens.iter().any(|token| token.len() > TOKEN_BYTES_MAX) {
            return Err(wrong("there are no tokens, too many, or too long ones"));
        }
        if kinds.len() != tokens.len() {
            return Err(wrong("there are not as many types as tokens"));
        }
        let mut vocabulary = Vocab::with_capacity(tokens.len());
        let (mut bytes, mut controls) = (Vec::new(), Vec::new());
        for (id, (token, kind)) in (0u32..).zip(tokens.iter().zip(kinds)) {
            if vocabulary.insert((*token).to_owned(), id).is_some() {
                return Err(wrong("a token comes twice"));
            }
            if NO_TEXT.contains(kind) {
                if token.is_empty() {
                    return Err(wrong("a control token has no text"));
                }
                controls.push(((*token).to_owned(), id));
                bytes.push(Vec::new());
            } else if *kind == TEXT {
                bytes.push(bytes_of(token).ok_or_else(|| wrong("a token is not written in bytes"))?);
            } else {
                return Err(wrong("a token is neither text nor control"));
            }
        }
        controls.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let pairs =
            merges.iter().map(|merge| merge.split_once(' ').ok_or_else(|| wrong("a merge is no pair")));
        let pairs = pairs.map(|pair| pair.map(|(left, right)| (left.to_owned(), right.to_owned())));
        let merges = pairs.collect::<Result<Vec<_>, _>>()?;
        let pieces = BPE::builder().vocab_and_merges(vocabulary, merges).build();
        let pieces = pieces.map_err(|error| VocabularyError::Tokens { reason: error.to_string() })?;
        let mut tokenizer = Tokenizer::new(pieces);
        let by_bytes: PreTokenizerWrapper = ByteLevel::new(false, true, true).into();
        tokenizer.with_pre_tokenizer(Some(match takes_digits_apart {
            true => Sequence::new(vec![Digits::new(true).into(), by_bytes]).into(),
            false => by_bytes,
        }));
        let end = file.whole("tokenizer.ggml.eos_token_id", 0..tokens.len())?;
        let end = u32::try_from(end).map_err(|_| wrong("too many tokens"))?;
        let is_end = |(text, id): &&(String, u32)| *id == end || ENDS.contains(&text.as_str());
        let mut ends: BTreeSet<u32> = controls.iter().filter(is_end).map(|(_, id)| *id).collect();
        ends.insert(end);
        let first = match file.value("tokenizer.ggml.add_bos_token") {
            Some(Value::Truth(true)) => Some(file.whole("tokenizer.ggml.bos_token_id", 0..tokens.len())?),
            _ => None,
        };
        let first = first.and_then(|first| u32::try_from(first).ok());
        let token_bytes_max = bytes.iter().map(Vec::len).max().unwrap_or(1).max(1);
        Ok(Self { cut: tokenizer, bytes, controls, ends, end, first, token_bytes_max })
    }

    /// Whether an answer ends where this token is drawn.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Bytes that a token stands for; none of a control token.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        usize::try_from(token).ok().and_then(|token| self.bytes.get(token)).map_or(&[], Vec::as_slice)
    }

    /// The least tokens that so many bytes can become.
    pub(crate) fn tokens_min(&self, bytes: usize) -> usize {
        bytes / self.token_bytes_max
    }

    /// The control token with this text at the beginning of `text`.
    pub(crate) fn control_at(&self, text: &str) -> Option<(&str, u32)> {
        let found = self.controls.iter().find(|(control, _)| text.starts_with(control.as_str()));
        found.map(|(control, id)| (control.as_str(), *id))
    }

    /// What stands before everything.
    pub(crate) fn first(&self) -> Option<u32> {
        self.first
    }

    /// Adds the tokens of text. Costs about a microsecond a byte.
    pub(crate) fn cut(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), String> {
        if !text.is_empty() {
            let cut = self.cut.encode_fast(text, false).map_err(|error| error.to_string())?;
            tokens.extend(cut.get_ids());
        }
        Ok(())
    }
}

/// The letter that stands for a byte in tokens: the byte's own where it can be seen, else one from 256 on.
#[cfg(test)]
pub(crate) fn letter(byte: u8) -> char {
    let is_seen = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if is_seen(byte) {
        return char::from(byte);
    }
    let unseen_before = (0..byte).filter(|before| !is_seen(*before)).count();
    u32::try_from(unseen_before).ok().and_then(|count| char::from_u32(256 + count)).unwrap_or('\u{fffd}')
}

/// The bytes that letters of a token stand for.
fn bytes_of(token: &str) -> Option<Vec<u8>> {
    let byte = |letter: char| match u32::from(letter) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        code @ 256..=288 => u8::try_from(code - 256).ok(),
        code @ 289..=322 => u8::try_from(code - 289 + 127).ok(),
        323 => Some(0xad),
        _ => None,
    };
    token.chars().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::{bytes_of, letter};

    #[test]
    fn letters_stand_for_all_bytes() {
        for byte in 0..=u8::MAX {
            assert_eq!(bytes_of(&letter(byte).to_string()), Some(vec![byte]));
        }
        assert_eq!(letter(b' '), 'Ġ');
        assert_eq!(letter(b'\n'), 'Ċ');
        assert_eq!(bytes_of("Ġthe"), Some(b" the".to_vec()));
        assert_eq!(bytes_of("\u{4e00}"), None);
    }
}
