//! A model's scores of given tokens, without an engine: to hold the arithmetic against others and to measure it.
//!
//! Invariant: the numbers are those that answers are drawn from.

use ashlar_kernels::Kernels;

use crate::gguf::Gguf;
use crate::language_model::LoadError;
use crate::llama::{Llama, Positions, Precision, STEP_ROWS_MAX, Scratch, Span};
use crate::vocabulary::Vocabulary;

/// A model and one sequence of tokens.
pub struct Teacher {
    llama: Llama,
    vocabulary: Vocabulary,
    positions: Positions,
    scratch: Scratch,
}

impl Teacher {
    /// Reads a model, with the fastest instructions that this processor has, or the plainest.
    pub fn load(bytes: &[u8], precision: Precision, is_portable: bool) -> Result<Self, LoadError> {
        let file = Gguf::read(bytes)?;
        let vocabulary = Vocabulary::read(&file)?;
        let kernels = Kernels::available();
        let kernels = if is_portable { kernels.first() } else { kernels.last() };
        let kernels = kernels.copied().unwrap_or_else(Kernels::detect);
        let llama = Llama::load(&file, precision, usize::MAX, kernels)?;
        Ok(Self { llama, vocabulary, positions: Positions::default(), scratch: Scratch::default() })
    }

    /// Tokens of text as it is.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, LoadError> {
        let mut tokens = Vec::new();
        let failed = |reason| LoadError::Text { reason };
        self.vocabulary.cut(text, &mut tokens).map_err(failed)?;
        Ok(tokens)
    }

    /// Forgets the sequence.
    pub fn restart(&mut self) {
        self.positions = Positions::default();
    }

    /// Goes on with tokens, and tells the logits behind each of the last `scored`.
    ///
    /// # Panics
    /// Where a token is not of the vocabulary.
    pub fn feed(&mut self, tokens: &[u32], scored: usize, mut told: impl FnMut(&[f32])) {
        let first_scored = tokens.len() - scored.min(tokens.len());
        for (number, tokens) in tokens.chunks(STEP_ROWS_MAX).enumerate() {
            let begin = number * STEP_ROWS_MAX;
            let scored = begin + tokens.len() - first_scored.clamp(begin, begin + tokens.len());
            let span = Span { positions: &mut self.positions, tokens, scored };
            self.llama.step(&mut [span], &mut self.scratch, |_, _, logits| told(logits));
        }
    }
}
