//! The built-in runtime of language models: a model from a GGUF file, run on this machine's CPU.
//!
//! Invariant: an answer follows from the model's bytes and the request alone: not from what runs beside it, what was
//! asked before, how many threads there are, or which vector instructions the processor has. Memory is bounded by
//! [`Options`]. Does not know who asks, who pays, or where models come from.

mod answer_text;
mod conversation;
mod engine;
mod gguf;
mod labels;
mod language_model;
mod llama;
mod prefixes;
mod sampling;
#[cfg(test)]
mod synthetic;
mod teacher;
mod vocabulary;

pub use conversation::TemplateError;
pub use gguf::{Encoding, Gguf, GgufError, Tensor, Value};
pub use language_model::{LanguageModel, LoadError, Options};
pub use llama::{LlamaError, Precision};
pub use teacher::Teacher;
pub use vocabulary::VocabularyError;
