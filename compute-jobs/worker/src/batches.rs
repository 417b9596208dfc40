//! Many rows in one call: vectors and labels.
//!
//! Invariant: a call gives as many values as it was given rows, or an error; values and usage of a call are shared out so
//! that the sum is the call's. Does not know what is done with a call that fails.

use std::sync::Arc;

use ashlar_compute_api::inference::{Classify, Inference, InferenceError};
use ashlar_compute_api::unit_data::{Ask, Input, Usage, Value, Vector};

/// Values of the rows of one call, each with its share of the usage.
pub(crate) type Batch = Vec<(Value, Usage)>;

/// Asks a runtime for all of these rows at once; they ask the same of different texts.
pub(crate) async fn call(
    inference: &Arc<dyn Inference>,
    ask: &Ask,
    inputs: &[&Input],
) -> Result<Batch, InferenceError> {
    let texts = inputs.iter().map(|input| text(input)).collect::<Result<Vec<_>, _>>()?;
    let lengths: Vec<u64> = texts.iter().map(|text| u64::try_from(text.len()).unwrap_or(u64::MAX)).collect();
    let (values, units): (Vec<Value>, u64) = match ask {
        Ask::Embed(_) => {
            let embeddings = inference.embed(texts).await?;
            (embeddings.vectors.into_iter().map(|of| Value::Vector(Vector(of))).collect(), embeddings.units)
        }
        Ask::Classify(of) => {
            let (labels, instructions) = (of.labels.clone(), of.instructions.clone());
            let found = inference.classify(Classify { texts, labels, instructions }).await?;
            let values = found.log_probabilities.into_iter();
            (values.map(|of| Value::LogProbabilities(Vector(of))).collect(), found.units)
        }
        Ask::Generate(_) => {
            return Err(InferenceError::Invalid { reason: "answers are not generated in batches".into() });
        }
    };
    if values.len() != lengths.len() {
        let reason = format!("{} values for {} rows", values.len(), lengths.len());
        return Err(InferenceError::Failed { reason });
    }
    let shares = shares(units, &lengths);
    Ok(values.into_iter().zip(shares).map(|(value, asked)| (value, Usage { asked, answered: 0 })).collect())
}

fn text(input: &Input) -> Result<String, InferenceError> {
    match input {
        Input::Text(text) => Ok(text.clone()),
        Input::Chat(_) => Err(InferenceError::Invalid { reason: "a conversation is no text".into() }),
    }
}

/// Parts of a sum in proportion to lengths (and one each), that add up to it.
fn shares(units: u64, lengths: &[u64]) -> Vec<u64> {
    let weight = |length: &u64| u128::from(*length) + 1;
    let all: u128 = lengths.iter().map(weight).sum();
    let (mut so_far, mut given) = (0, 0);
    let share = |length: &u64| {
        so_far += weight(length);
        let until = u64::try_from(u128::from(units) * so_far / all.max(1)).unwrap_or(units);
        let share = until - given;
        given = until;
        share
    };
    lengths.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (units, lengths) in
            [(10, vec![1, 1, 1]), (0, vec![5]), (7, vec![0, 100, 0]), (u64::MAX, vec![9, 8])]
        {
            let shares = shares(units, &lengths);
            assert_eq!(shares.iter().sum::<u64>(), units, "{lengths:?}");
        }
        assert_eq!(shares(100, &[49, 49]), [50, 50]);
    }
}
