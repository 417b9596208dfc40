//! AdamW on plain numbers, after the gradient was shortened.

use super::TrainOptions;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Running means of gradients and of their squares.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) first: Vec<Vec<f32>>,
    pub(super) second: Vec<Vec<f32>>,
}

impl Moments {
    pub(super) fn new(values: &[Vec<f32>]) -> Self {
        let zeros: Vec<Vec<f32>> = values.iter().map(|value| vec![0.0; value.len()]).collect();
        Self { first: zeros.clone(), second: zeros }
    }

    /// Step `step`, from 1. Returns the gradient's length before it was shortened.
    #[expect(clippy::cast_possible_truncation, reason = "factors of 32-bit floats")]
    pub(super) fn apply(
        &mut self,
        values: &mut [Vec<f32>],
        gradients: &mut [Vec<f32>],
        step: u64,
        options: &TrainOptions,
    ) -> f64 {
        let squares = gradients.iter().flatten().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
        let norm = squares.sqrt();
        let shorten = (options.gradient_norm_max / norm.max(1e-30)).min(1.0) as f32;
        let steps = f64::from(u32::try_from(step).unwrap_or(u32::MAX));
        let warmup = f64::from(u32::try_from(options.warmup_steps).unwrap_or(u32::MAX));
        let rate = options.learning_rate * (steps / warmup.max(1.0)).min(1.0);
        let (whole1, whole2) = (1.0 - BETA1.powf(steps), 1.0 - BETA2.powf(steps));
        let (beta1, beta2) = (BETA1 as f32, BETA2 as f32);
        let (pace, keep) = ((rate / whole1) as f32, 1.0 - (rate * options.weight_decay) as f32);
        let (square, epsilon) = ((1.0 / whole2) as f32, EPSILON as f32);
        let all = values.iter_mut().zip(gradients).zip(self.first.iter_mut().zip(&mut self.second));
        for ((values, gradients), (first, second)) in all {
            for (at, value) in values.iter_mut().enumerate() {
                let gradient = gradients[at] * shorten;
                first[at] = beta1 * first[at] + (1.0 - beta1) * gradient;
                second[at] = beta2 * second[at] + (1.0 - beta2) * gradient * gradient;
                *value = *value * keep - pace * first[at] / ((second[at] * square).sqrt() + epsilon);
            }
        }
        norm
    }
}
