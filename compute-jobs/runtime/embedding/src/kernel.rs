//! Arithmetic on rows of 32-bit floats, on the widest vectors that the processor has.
//!
//! Invariant: what becomes of a row depends on that row alone and on the shapes of what it meets, never on how many rows
//! are computed with it: each number is one chain of fused multiply-adds in ascending depth. So a text's bytes are
//! the same alone and in any batch, within one kernel set. Does not know models.

use pulp::{Arch, Simd, WithSimd};

mod multiply;
mod panels;
mod rows;

pub(crate) use multiply::{Multiply, Strips};
pub(crate) use panels::{Floats, Panels};
pub(crate) use rows::{LayerNorm, Pool, Softmax};

/// The instructions that are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    arch: Arch,
    lanes: usize,
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

impl Kernels {
    /// The widest that this processor has.
    pub(crate) fn new() -> Self {
        let arch = Arch::new();
        Self { arch, lanes: arch.dispatch(Lanes) }
    }

    /// Named in determinism classes: other widths add up in another order.
    pub(crate) fn name(self) -> String {
        format!("f32x{}", self.lanes)
    }

    /// Numbers in a vector.
    pub(crate) fn lanes(self) -> usize {
        self.lanes
    }

    /// Computes.
    pub(crate) fn run<W: WithSimd>(self, work: W) -> W::Output {
        self.arch.dispatch(work)
    }
}

#[cfg(test)]
mod tests;
