//! Which token comes next.
//!
//! Invariant: a draw follows from the logits, the settings, the tokens that the answer has, the seed, the choice and the
//! number of the draw alone; equal logits fall to the lower token. Nothing is drawn from numbers that are none.

use std::collections::BTreeMap;

use ashlar_compute_api::inference::{LikelyToken, Sampling, TokenLikelihood};
use ashlar_kernels::Kernels;

use crate::vocabulary::Vocabulary;

/// Likeliest tokens that are told in a token's place, at most.
pub(crate) const LIKELIEST_MAX: u8 = 20;

/// Says why numbers are no settings.
pub(crate) fn check(sampling: &Sampling) -> Result<(), String> {
    let Sampling { temperature, top_p, presence_penalty, frequency_penalty, .. } = *sampling;
    if !(0.0..=1000.0).contains(&temperature) {
        return Err("the temperature is at least 0".into());
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err("top_p is above 0 and at most 1".into());
    }
    if [presence_penalty, frequency_penalty].iter().any(|penalty| !(-2.0..=2.0).contains(penalty)) {
        return Err("penalties are from -2 to 2".into());
    }
    Ok(())
}

/// Draws the tokens of one choice.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    choice: u32,
    drawn: u64,
    /// Tokens that the answer has, and how often.
    seen: BTreeMap<usize, u32>,
}

/// The logits are not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model's scores are not finite")]
pub(crate) struct NotFinite;

impl Sampler {
    pub(crate) fn new(sampling: Sampling, choice: u32) -> Self {
        Self { sampling, choice, drawn: 0, seen: BTreeMap::new() }
    }

    /// The next token. Logits are changed by the penalties; `powers` is memory for it.
    pub(crate) fn draw(
        &mut self,
        kernels: Kernels,
        logits: &mut [f32],
        powers: &mut Vec<f32>,
    ) -> Result<usize, NotFinite> {
        for (token, count) in &self.seen {
            let frequency = self.sampling.frequency_penalty * *count as f32;
            logits[*token] -= self.sampling.presence_penalty + frequency;
        }
        let greatest = kernels.maximum(logits);
        if !greatest.is_finite() {
            return Err(NotFinite);
        }
        let token = if self.sampling.temperature == 0.0 {
            logits.iter().position(|logit| *logit == greatest).ok_or(NotFinite)?
        } else {
            let factor = 1.0 / self.sampling.temperature;
            powers.resize(logits.len(), 0.0);
            // Of a temperature next to nought only the likeliest are left.
            let factor = if factor.is_finite() { factor } else { f32::MAX };
            let total = kernels.exponentials(logits, greatest, factor, powers);
            if !total.is_finite() {
                return Err(NotFinite);
            }
            let share = self.share();
            match self.sampling.top_p {
                top_p if top_p < 1.0 => of_the_likeliest(powers, total, f64::from(top_p), share),
                _ => of_all(powers, total * share),
            }
        };
        self.drawn += 1;
        *self.seen.entry(token).or_default() += 1;
        Ok(token)
    }

    /// A number from 0 up to 1, for this draw alone.
    fn share(&self) -> f64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.sampling.seed.to_be_bytes());
        hasher.update(&self.choice.to_be_bytes());
        hasher.update(&self.drawn.to_be_bytes());
        let mut word = [0; 8];
        word.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        (u64::from_be_bytes(word) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The token within whose part of the sum `target` lies.
fn of_all(powers: &[f32], target: f64) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (token, power) in powers.iter().enumerate().filter(|(_, power)| **power > 0.0) {
        sum += f64::from(*power);
        last = token;
        if sum > target {
            break;
        }
    }
    last
}

/// As [`of_all`], of the fewest likeliest tokens that together have the share `top_p`.
fn of_the_likeliest(powers: &[f32], total: f64, top_p: f64, share: f64) -> usize {
    // Tokens below this share have together less than what is cut off, so that none of them can be kept.
    let least = (1.0 - top_p) * total / powers.len() as f64;
    let kept = powers.iter().copied().enumerate().filter(|(_, power)| f64::from(*power) >= least);
    let mut kept: Vec<(usize, f32)> = kept.collect();
    kept.sort_by(|(a_token, a), (b_token, b)| b.total_cmp(a).then(a_token.cmp(b_token)));
    let mut sum = 0.0;
    let count = kept.iter().take_while(|(_, power)| {
        let is_kept = sum < top_p * total;
        sum += f64::from(*power);
        is_kept
    });
    let count = count.count().max(1);
    kept.truncate(count);
    let sum: f64 = kept.iter().map(|(_, power)| f64::from(*power)).sum();
    let powers: Vec<f32> = kept.iter().map(|(_, power)| *power).collect();
    kept.get(of_all(&powers, sum * share)).map_or(0, |(token, _)| *token)
}

/// Log-probabilities of all tokens before penalties and temperature: what is taken from each logit.
pub(crate) fn normaliser(kernels: Kernels, logits: &[f32], powers: &mut Vec<f32>) -> Result<f64, NotFinite> {
    let greatest = kernels.maximum(logits);
    powers.resize(logits.len(), 0.0);
    let total = kernels.exponentials(logits, greatest, 1.0, powers);
    let normaliser = f64::from(greatest) + libm::log(total);
    if normaliser.is_finite() { Ok(normaliser) } else { Err(NotFinite) }
}

/// How likely a token was, and the likeliest in its place.
pub(crate) fn likelihood(
    vocabulary: &Vocabulary,
    logits: &[f32],
    normaliser: f64,
    token: usize,
    likeliest: u8,
) -> TokenLikelihood {
    let of = |token: usize| {
        let id = u32::try_from(token).unwrap_or(u32::MAX);
        let log_probability = (f64::from(logits[token]) - normaliser) as f32;
        LikelyToken { id, bytes: vocabulary.bytes(id).to_vec(), log_probability }
    };
    let order = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    let mut tokens: Vec<usize> = Vec::new();
    let count = usize::from(likeliest).min(logits.len());
    if count > 0 {
        tokens.extend(0..logits.len());
        tokens.select_nth_unstable_by(count - 1, order);
        tokens.truncate(count);
        tokens.sort_by(order);
    }
    TokenLikelihood { token: of(token), likeliest: tokens.into_iter().map(of).collect() }
}
