//! How far a gateway counts on a provider: what came of its requests, newer ones counting more.
//!
//! Invariant: a score is within 0 and 1, and only outcomes move it; deceit and a failed check suspend at once. Of more
//! providers than fit, those heard of longest ago are forgotten, suspended ones last. Knows no requests.

use std::collections::HashMap;

use ashlar_compute_api::Address;

use crate::limits::REPUTATIONS_MAX;

/// Weight of the newest outcome.
const NEWEST: f64 = 0.05;
/// What a stranger is counted on.
const STRANGER: f64 = 0.8;

/// What came of a request, or of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered and receipted.
    Answered,
    /// It was not, and may have been misfortune.
    Failed,
    /// It was answered in a way that only deceit explains.
    Deceived,
    /// A check by another provider gave another result.
    Mismatched,
}

/// Reputations of all providers that were heard of.
#[derive(Debug, Default)]
pub struct Reputations {
    of: HashMap<Address, Reputation>,
    heard: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reputation {
    score: f64,
    is_suspended: bool,
    last_heard: u64,
}

impl Reputations {
    /// How far it is counted on, 0 to 1.
    pub fn score(&self, provider: Address) -> f64 {
        self.of.get(&provider).map_or(STRANGER, |reputation| reputation.score)
    }

    /// Whether it gets no work.
    pub fn is_suspended(&self, provider: Address) -> bool {
        self.of.get(&provider).is_some_and(|reputation| reputation.is_suspended)
    }

    /// Gives it work again, as a stranger.
    pub fn pardon(&mut self, provider: Address) {
        self.of.remove(&provider);
    }

    /// Takes down what came of something.
    pub fn note(&mut self, provider: Address, outcome: Outcome) {
        self.heard += 1;
        if self.of.len() >= REPUTATIONS_MAX && !self.of.contains_key(&provider) {
            let oldest = self.of.iter().min_by_key(|(_, of)| (of.is_suspended, of.last_heard));
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.of.remove(&oldest);
            }
        }
        let stranger = Reputation { score: STRANGER, is_suspended: false, last_heard: 0 };
        let reputation = self.of.entry(provider).or_insert(stranger);
        reputation.last_heard = self.heard;
        let good = if outcome == Outcome::Answered { 1.0 } else { 0.0 };
        reputation.score += NEWEST * (good - reputation.score);
        if matches!(outcome, Outcome::Deceived | Outcome::Mismatched) {
            reputation.score = 0.0;
            reputation.is_suspended = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_move_a_score_and_deceit_ends_it() {
        let (mut all, one) = (Reputations::default(), Address([1; 20]));
        assert_eq!(all.score(one), STRANGER);
        for _ in 0..50 {
            all.note(one, Outcome::Failed);
        }
        let low = all.score(one);
        assert!(low < 0.1 && !all.is_suspended(one));
        for _ in 0..200 {
            all.note(one, Outcome::Answered);
        }
        assert!(all.score(one) > 0.95);
        all.note(one, Outcome::Mismatched);
        assert!(all.is_suspended(one) && all.score(one) == 0.0);
        all.note(one, Outcome::Answered);
        assert!(all.is_suspended(one), "good answers afterwards do not undo it");
        for number in 0..=u32::try_from(REPUTATIONS_MAX).unwrap() {
            let mut bytes = [9; 20];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            all.note(Address(bytes), Outcome::Failed);
        }
        assert_eq!(all.of.len(), REPUTATIONS_MAX);
        assert!(all.is_suspended(one), "the crowd does not wash it clean");
    }
}
