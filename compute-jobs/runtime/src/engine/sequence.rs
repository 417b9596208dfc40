//! One sequence of tokens that is computed, and what is wanted of it.
//!
//! Invariant: tokens are computed in their order; what is told of one was asked before its step.

use ashlar_compute_api::inference::TokenLikelihood;
use ashlar_kernels::Kernels;

use crate::llama::{Llama, Positions, Span};
use crate::prefixes::{Chain, Prefixes};
use crate::sampling::{self, NotFinite, Sampler};
use crate::vocabulary::Vocabulary;

/// A token that was drawn.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub(super) token: u32,
    pub(super) likelihood: Option<TokenLikelihood>,
}

/// What is wanted of the scores of tokens.
pub(super) enum Asked {
    /// Of the last one: the next token, once for each sampler.
    Draws { samplers: Vec<Sampler>, likeliest: Option<u8>, drawn: Vec<Drawn> },
    /// Of the last ones: log-probabilities of these tokens, a list for each.
    LogProbabilities { of: Vec<Vec<u32>>, told: Vec<Vec<f64>> },
}

/// A sequence.
pub(super) struct Sequence {
    pub(super) tokens: Vec<u32>,
    positions: Positions,
    chain: Chain,
    pub(super) asked: Asked,
    /// The step's numbers were none.
    has_failed: bool,
}

impl Sequence {
    /// Tokens from the beginning, of which others may have computed some.
    pub(super) fn begin(tokens: Vec<u32>, asked: Asked, prefixes: &mut Prefixes) -> Self {
        let (positions, chain) = prefixes.find(&tokens);
        Self { tokens, positions, chain, asked, has_failed: false }
    }

    /// Goes on from here with other tokens.
    pub(super) fn fork(&self, more: &[u32], asked: Asked) -> Self {
        let tokens = self.tokens.iter().chain(more).copied().collect();
        Self { tokens, positions: self.positions.fork(), chain: self.chain, asked, has_failed: false }
    }

    /// Goes on with the next token.
    pub(super) fn push(&mut self, token: u32) {
        self.tokens.push(token);
    }

    /// Tokens that are not computed yet.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.positions.length()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Keeps what became full for others.
    pub(super) fn keep(&mut self, prefixes: &mut Prefixes) {
        prefixes.keep(&self.tokens, &self.positions, &mut self.chain);
    }

    /// Its next tokens, so many at most, and who hears of their scores.
    pub(super) fn next(&mut self, rows_max: usize) -> (Span<'_>, Listener<'_>) {
        let begin = self.positions.length();
        let end = self.tokens.len().min(begin + rows_max);
        let wanted = match &self.asked {
            Asked::Draws { .. } => 1,
            Asked::LogProbabilities { of, .. } => of.len(),
        };
        let scored_from = self.tokens.len() - wanted.min(self.tokens.len());
        let scored = end - end.min(scored_from.max(begin));
        let listener = Listener { asked: &mut self.asked, has_failed: &mut self.has_failed };
        (Span { positions: &mut self.positions, tokens: &self.tokens[begin..end], scored }, listener)
    }
}

/// Hears the scores of a sequence's tokens, in their order.
pub(super) struct Listener<'a> {
    asked: &'a mut Asked,
    has_failed: &'a mut bool,
}

impl Listener<'_> {
    pub(super) fn hear(
        &mut self,
        llama: &Llama,
        vocabulary: &Vocabulary,
        logits: &mut [f32],
        powers: &mut Vec<f32>,
    ) {
        if self.listen(llama.kernels, vocabulary, logits, powers).is_err() {
            *self.has_failed = true;
        }
    }

    fn listen(
        &mut self,
        kernels: Kernels,
        vocabulary: &Vocabulary,
        logits: &mut [f32],
        powers: &mut Vec<f32>,
    ) -> Result<(), NotFinite> {
        match self.asked {
            Asked::Draws { samplers, likeliest, drawn } => {
                // Penalties change logits, and each choice has its own.
                let raw = (likeliest.is_some() || samplers.len() > 1).then(|| logits.to_vec());
                let normaliser = match likeliest {
                    Some(_) => sampling::normaliser(kernels, logits, powers)?,
                    None => 0.0,
                };
                for sampler in samplers {
                    if let Some(raw) = &raw {
                        logits.copy_from_slice(raw);
                    }
                    let token = sampler.draw(kernels, logits, powers)?;
                    let likelihood = raw.as_ref().zip(*likeliest).map(|(raw, likeliest)| {
                        sampling::likelihood(vocabulary, raw, normaliser, token, likeliest)
                    });
                    let token = u32::try_from(token).map_err(|_| NotFinite)?;
                    drawn.push(Drawn { token, likelihood });
                }
            }
            Asked::LogProbabilities { of, told } => {
                let normaliser = sampling::normaliser(kernels, logits, powers)?;
                let of = of.get(told.len()).into_iter().flatten();
                let logit = |token: &u32| usize::try_from(*token).ok().and_then(|token| logits.get(token));
                told.push(
                    of.map(|token| logit(token).map_or(f64::NAN, |logit| f64::from(*logit) - normaliser))
                        .collect(),
                );
            }
        }
        Ok(())
    }
}
