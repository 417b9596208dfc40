//! The loss of what comes next, from rows and the weights that tell tokens apart.
//!
//! Rows times vocabulary are many numbers: they are computed for some rows at a time, used for loss and gradient at once,
//! and forgotten. So memory is bounded whatever a batch holds, and the largest product is done twice, not three times.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::{floats, rows_of};

/// Rows whose scores are held at once: 12 MiB for a vocabulary of 49,152.
const ROWS_AT_ONCE: usize = 64;

/// Σ -ln p(target) ÷ `total` over rows.
pub(crate) struct Loss {
    /// A row for each token.
    pub(crate) output: Tensor,
    /// Of each row.
    pub(crate) targets: Vec<u32>,
    /// What the sum is divided by: targets of the whole step, of which this may be a part.
    pub(crate) total: f32,
    /// Whether there will be a way back.
    pub(crate) is_learning: bool,
    /// Of the rows, kept from forward for backward.
    gradient: Mutex<Vec<f32>>,
}

impl Loss {
    pub(crate) fn new(output: Tensor, targets: Vec<u32>, total: f32, is_learning: bool) -> Self {
        Self { output, targets, total, is_learning, gradient: Mutex::default() }
    }
}

impl CustomOp1 for Loss {
    fn name(&self) -> &'static str {
        "next-token-loss"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = (floats(storage, layout)?, layout.dims().last().copied().unwrap_or(1));
        let mut loss = 0.0_f64;
        let mut gradient = Vec::with_capacity(if self.is_learning { rows.len() } else { 0 });
        let chunks = rows.chunks(ROWS_AT_ONCE * width).zip(self.targets.chunks(ROWS_AT_ONCE));
        for (rows, targets) in chunks {
            let rows = Tensor::from_slice(rows, (targets.len(), width), self.output.device())?;
            let (mut scores, vocabulary) = rows_of(&rows.matmul(&self.output.t()?)?)?;
            for (scores, target) in scores.chunks_exact_mut(vocabulary).zip(targets) {
                let Some(target) = usize::try_from(*target).ok().filter(|target| *target < vocabulary) else {
                    bail!("a target is not in the vocabulary")
                };
                let largest = scores.iter().fold(f32::NEG_INFINITY, |largest, x| largest.max(*x));
                let of_target = scores[target] - largest;
                scores.iter_mut().for_each(|x| *x = (*x - largest).exp());
                let sum = scores.iter().map(|x| f64::from(*x)).sum::<f64>();
                loss += sum.ln() - f64::from(of_target);
                #[expect(clippy::cast_possible_truncation, reason = "a factor of 32-bit floats")]
                let factor = (1.0 / (sum * f64::from(self.total))) as f32;
                scores.iter_mut().for_each(|x| *x *= factor);
                scores[target] -= 1.0 / self.total;
            }
            if self.is_learning {
                let scores = Tensor::from_vec(scores, (targets.len(), vocabulary), self.output.device())?;
                gradient.extend(rows_of(&scores.matmul(&self.output)?)?.0);
            }
        }
        *self.gradient.lock().expect("nothing panics while it is held") = gradient;
        #[expect(clippy::cast_possible_truncation, reason = "tensors are of 32-bit floats")]
        let loss = (loss / f64::from(self.total)) as f32;
        Ok((CpuStorage::F32(vec![loss]), Shape::from(())))
    }

    fn bwd(&self, rows: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let factor = gradient.to_scalar::<f32>()?;
        let mut kept = std::mem::take(&mut *self.gradient.lock().expect("nothing panics while it is held"));
        kept.iter_mut().for_each(|g| *g *= factor);
        Ok(Some(Tensor::from_vec(kept, rows.shape(), rows.device())?))
    }
}
