//! The arithmetic of language models on CPUs, and the only unsafe code of the runtimes.
//!
//! Invariant: one arithmetic. A function gives the same bits whichever instructions compute it (portable, AVX2,
//! AVX-512 VNNI), and what it gives for a row follows from that row alone, never from the rows beside it: sums over
//! weights run block by block in one order, in lanes that are outputs. So an answer is the same alone and in any batch.
//! Does not know what a layer or a token is.

mod attention;
mod elementwise;
mod exponential;
mod instructions;
mod multiply;
mod packed;
mod rows;
mod tiles;

pub use attention::{AttentionShape, PAGE_POSITIONS};
pub use exponential::exponential;
pub use instructions::Kernels;
pub use packed::{PackError, Packed};
pub use rows::QuantisedRows;

/// Names the arithmetic above: another order of sums or another exponential is another one.
pub const ARITHMETIC: &str = "blocks-of-32-in-order/1";

/// Outputs that are computed side by side, one in each lane.
pub const LANES: usize = 16;

/// Inputs of a block that share a scale.
pub const BLOCK: usize = 32;

#[cfg(test)]
mod tests;
