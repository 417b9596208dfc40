//! What a model reads and what it may say where texts are classified.
//!
//! Invariant: no label's tokens are the beginning of another's, so that labels exclude each other. The prior of a text
//! without content is taken off before shares are made.

use ashlar_compute_api::inference::{Classify, Message, Role};

use crate::engine::LabelTokens;
use crate::vocabulary::Vocabulary;

/// Labels of a request at most.
const LABELS_MAX: usize = 1024;
/// Texts of a request at most.
const TEXTS_MAX: usize = 1 << 16;
/// Tokens of a label at most.
const LABEL_TOKENS_MAX: usize = 64;

/// Stands where a text would, and says nothing.
pub(crate) const CONTENT_FREE: &str = "N/A";

/// Says why a request can have no answer.
pub(crate) fn check(request: &Classify) -> Result<(), String> {
    let Classify { texts, labels, .. } = request;
    if texts.len() > TEXTS_MAX {
        return Err(format!("{} texts, and {TEXTS_MAX} are the most", texts.len()));
    }
    if !(2..=LABELS_MAX).contains(&labels.len()) {
        return Err(format!("{} labels, and it takes two at least and {LABELS_MAX} at most", labels.len()));
    }
    let mut sorted: Vec<&String> = labels.iter().collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) || labels.iter().any(|label| label.trim().is_empty())
    {
        return Err("labels are not empty, and no two are equal".into());
    }
    Ok(())
}

/// What the model is told of a text.
pub(crate) fn messages(request: &Classify, text: &str) -> Vec<Message> {
    let own =
        || format!("Classify the text. Answer with one of these labels: {}.", request.labels.join(", "));
    let instructions = request.instructions.clone().unwrap_or_else(own);
    vec![
        Message { role: Role::System, text: instructions },
        Message { role: Role::User, text: text.to_owned() },
    ]
}

/// Tokens of labels, with the end of the answer behind them where one label begins another.
pub(crate) fn tokens(labels: &[String], vocabulary: &Vocabulary) -> Result<LabelTokens, String> {
    let mut cut = Vec::new();
    for label in labels {
        let mut tokens = Vec::new();
        vocabulary.cut(label.trim(), &mut tokens)?;
        if tokens.len() > LABEL_TOKENS_MAX {
            return Err(format!("a label is longer than {LABEL_TOKENS_MAX} units"));
        }
        cut.push(tokens);
    }
    let mut sorted = cut.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[1].starts_with(&pair[0])) {
        cut.iter_mut().for_each(|label| label.push(vocabulary.end));
    }
    Ok(LabelTokens(cut))
}

/// Log-probabilities of labels from their scores and those of a text without content.
pub(crate) fn log_probabilities(scores: &[f64], prior: &[f64]) -> Vec<f32> {
    let lifts: Vec<f64> = scores.iter().zip(prior).map(|(score, prior)| score - prior).collect();
    let greatest = lifts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = lifts.iter().map(|lift| libm::exp(lift - greatest)).sum();
    let normaliser = greatest + libm::log(total);
    lifts.iter().map(|lift| (lift - normaliser) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::log_probabilities;

    #[test]
    fn a_text_without_content_has_no_opinion() {
        let even = log_probabilities(&[-3.0, -1.0], &[-3.0, -1.0]);
        assert!(even.iter().all(|share| (share.exp() - 0.5).abs() < 1e-6), "{even:?}");
        let lifted = log_probabilities(&[-2.0, -1.0], &[-3.0, -1.0]);
        assert!((lifted[0] - lifted[1] - 1.0).abs() < 1e-6);
        let total: f32 = lifted.iter().map(|share| share.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6);
    }
}
