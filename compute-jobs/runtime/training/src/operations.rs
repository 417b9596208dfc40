//! Operations of the forward pass that candle lacks with gradients, or does with more copies than one likes.
//!
//! Invariant: each has a backward that is the exact gradient of its forward; candle's own `rms_norm`, `rope` and
//! `softmax_last_dim` have none and cut the graph silently. All take contiguous 32-bit floats.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor, bail};

mod loss;

pub(crate) use loss::Loss;

/// The numbers of an operand.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((begin, end)) => Ok(&storage.as_slice::<f32>()?[begin..end]),
        None => bail!("an operand is not contiguous"),
    }
}

/// The numbers of a tensor, with its last dimension.
fn rows_of(tensor: &Tensor) -> Result<(Vec<f32>, usize)> {
    let width = tensor.dims().last().copied().unwrap_or(1);
    Ok((tensor.flatten_all()?.to_vec1()?, width))
}

/// Storage of a tensor that nothing else holds.
fn storage_of(tensor: &Tensor) -> Result<CpuStorage> {
    let (storage, _) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(storage.clone()),
        _ => bail!("not in this machine's memory"),
    }
}

/// x ↦ x·Wᵀ with a W that is never learnt: going back it computes the gradient of x alone.
pub(crate) struct Frozen {
    /// A row for each output.
    pub(crate) weight: Tensor,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = Tensor::from_slice(floats(storage, layout)?, layout.shape(), self.weight.device())?;
        let y = x.matmul(&self.weight.t()?)?;
        Ok((storage_of(&y)?, y.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.contiguous()?.matmul(&self.weight)?))
    }
}

/// Rows divided by their root mean square, then scaled.
pub(crate) struct RmsNorm {
    pub(crate) scale: Vec<f32>,
    pub(crate) epsilon: f32,
}

fn mean(sum: f32, count: usize) -> f32 {
    // Widths are below 2¹⁶, which a float holds exactly.
    sum / f32::from(u16::try_from(count).unwrap_or(u16::MAX))
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    // Sixteen sums side by side, which vectors can hold.
    let (ones, one_rest) = one.as_chunks::<16>();
    let (others, other_rest) = other.as_chunks::<16>();
    let mut sums = [0.0_f32; 16];
    for (one, other) in ones.iter().zip(others) {
        sums.iter_mut().zip(one.iter().zip(other)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    let rest: f32 = one_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut rows = floats(storage, layout)?.to_vec();
        for row in rows.chunks_exact_mut(self.scale.len()) {
            let factor = 1.0 / (mean(dot(row, row), row.len()) + self.epsilon).sqrt();
            row.iter_mut().zip(&self.scale).for_each(|(x, scale)| *x *= factor * scale);
        }
        Ok((CpuStorage::F32(rows), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (mut gradients, width) = rows_of(gradient)?;
        let (rows, _) = rows_of(x)?;
        for (row, gradient) in rows.chunks_exact(width).zip(gradients.chunks_exact_mut(width)) {
            let factor = 1.0 / (mean(dot(row, row), width) + self.epsilon).sqrt();
            gradient.iter_mut().zip(&self.scale).for_each(|(g, scale)| *g *= scale);
            let along = mean(dot(gradient, row), width) * factor * factor;
            gradient.iter_mut().zip(row).for_each(|(g, x)| *g = factor * (*g - along * x));
        }
        Ok(Some(Tensor::from_vec(gradients, x.shape(), x.device())?))
    }
}

/// Heads turned by angles that grow with the place: neighbours (2i, 2i + 1) of each head, as GGUF orders them.
#[derive(Clone)]
pub(crate) struct Rotate {
    /// Of each row and pair.
    pub(crate) cosines: std::sync::Arc<Vec<f32>>,
    /// Of each row and pair.
    pub(crate) sines: std::sync::Arc<Vec<f32>>,
    /// Pairs of a head.
    pub(crate) pairs: usize,
}

impl Rotate {
    fn turn(&self, rows: &mut [f32], width: usize, direction: f32) {
        let angles = self.cosines.chunks_exact(self.pairs).zip(self.sines.chunks_exact(self.pairs));
        for (row, (cosines, sines)) in rows.chunks_exact_mut(width).zip(angles) {
            for head in row.chunks_exact_mut(2 * self.pairs) {
                let (pairs, _) = head.as_chunks_mut::<2>();
                for ([x, y], (cosine, sine)) in pairs.iter_mut().zip(cosines.iter().zip(sines)) {
                    let sine = direction * sine;
                    (*x, *y) = (*x * cosine - *y * sine, *x * sine + *y * cosine);
                }
            }
        }
    }
}

impl CustomOp1 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut rows = floats(storage, layout)?.to_vec();
        self.turn(&mut rows, layout.dims().last().copied().unwrap_or(1), 1.0);
        Ok((CpuStorage::F32(rows), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (mut rows, width) = rows_of(gradient)?;
        self.turn(&mut rows, width, -1.0);
        Ok(Some(Tensor::from_vec(rows, x.shape(), x.device())?))
    }
}

/// Shares by exponentials, of those that are not later: row r of each length × length square sees columns 0 to r.
pub(crate) struct CausalSoftmax {
    pub(crate) length: usize,
    pub(crate) scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut rows = floats(storage, layout)?.to_vec();
        for (at, row) in rows.chunks_exact_mut(self.length).enumerate() {
            let (seen, later) = row.split_at_mut(at % self.length + 1);
            let largest = seen.iter().fold(f32::NEG_INFINITY, |largest, x| largest.max(*x));
            seen.iter_mut().for_each(|x| *x = ((*x - largest) * self.scale).exp());
            let factor = 1.0 / seen.iter().sum::<f32>();
            seen.iter_mut().for_each(|x| *x *= factor);
            later.fill(0.0);
        }
        Ok((CpuStorage::F32(rows), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, shares: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (mut gradients, width) = rows_of(gradient)?;
        let (shares, _) = rows_of(shares)?;
        for (share, gradient) in shares.chunks_exact(width).zip(gradients.chunks_exact_mut(width)) {
            let along = dot(share, gradient);
            gradient.iter_mut().zip(share).for_each(|(g, p)| *g = self.scale * p * (*g - along));
        }
        Ok(Some(Tensor::from_vec(gradients, x.shape(), x.device())?))
    }
}
