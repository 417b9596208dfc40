//! Weights of a linear map, laid out for the kernels as they come from a file: still quantised.
//!
//! Invariant: every value is the file's; only its place has changed. Sixteen outputs lie side by side, so that a vector
//! of weights belongs to sixteen outputs and one input (or four), and a sum never runs across lanes. Outputs that fill
//! the last sixteen up are nought and never told.

use half::f16;

use crate::{BLOCK, LANES};

/// Bytes of codes of sixteen outputs and one block, at 4 bits a code.
pub(crate) const NIBBLE_CODES: usize = LANES * BLOCK / 2;
/// The same at 8 bits a code.
pub(crate) const BYTE_CODES: usize = LANES * BLOCK;

const Q4_0_BYTES: usize = 18;
const Q4_1_BYTES: usize = 20;
const Q8_0_BYTES: usize = 34;

/// Why bytes are no weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// There are no inputs or outputs, or inputs are no whole number of blocks.
    #[error("{outputs} outputs of {inputs} inputs; inputs come in blocks of 32")]
    Shape {
        /// Rows.
        outputs: usize,
        /// Numbers in a row.
        inputs: usize,
    },
    /// The bytes are not as many as the shape has.
    #[error("{found} bytes, and the shape has {expected}")]
    Length {
        /// There are so many.
        found: usize,
        /// There would be so many.
        expected: usize,
    },
    /// A scale or a weight is not a finite number.
    #[error("output {output} has a scale or a weight that is not finite")]
    NotFinite {
        /// The row.
        output: usize,
    },
}

/// Weights of `outputs` rows of `inputs` numbers each.
#[derive(Clone, Debug)]
pub struct Packed {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) form: Form,
}

#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// A weight is `scale × code + minimum`, codes 0 to 15. Codes: for each sixteen outputs, for each block, four runs of
    /// 64 bytes; in run `r`, byte `4 × output + i` has input `4r + i` in its low half and `16 + 4r + i` in its high one.
    /// Scales: for each sixteen outputs and block sixteen scales, then sixteen minima.
    Nibbles { codes: Vec<u8>, scales: Vec<f16> },
    /// A weight is `scale × (code - 128)`. Codes: for each sixteen outputs, for each block, eight runs of 64 bytes; in
    /// run `r`, byte `4 × output + i` has input `4r + i`.
    Bytes { codes: Vec<u8>, scales: Vec<f16> },
    /// For each sixteen outputs, for each input, sixteen weights.
    Dense { weights: Vec<f32> },
}

impl Packed {
    /// Bytes of memory that weights of this shape take, in the form with so many bits a weight (5, 9 or 32 with scales).
    pub fn bytes_for(outputs: usize, inputs: usize, bits: usize) -> Option<usize> {
        outputs.checked_next_multiple_of(LANES)?.checked_mul(inputs)?.checked_mul(bits).map(|bits| bits / 8)
    }

    /// Numbers in a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Rows.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub(crate) fn groups(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Whether activations are quantised too where they meet these weights.
    pub fn is_quantised(&self) -> bool {
        !matches!(self.form, Form::Dense { .. })
    }

    /// From rows of GGUF's `Q4_1`.
    pub fn from_q4_1(bytes: &[u8], outputs: usize, inputs: usize) -> Result<Self, PackError> {
        Self::nibbles(bytes, outputs, inputs, Q4_1_BYTES, |block| {
            (half(block, 0), half(block, 2), &block[4..])
        })
    }

    /// From rows of GGUF's `Q4_0`: as `Q4_1` with eight scales below nought as the minimum.
    pub fn from_q4_0(bytes: &[u8], outputs: usize, inputs: usize) -> Result<Self, PackError> {
        Self::nibbles(bytes, outputs, inputs, Q4_0_BYTES, |block| {
            let scale = half(block, 0);
            (scale, f16::from_f32(scale.to_f32() * -8.0), &block[2..])
        })
    }

    fn nibbles(
        bytes: &[u8],
        outputs: usize,
        inputs: usize,
        block_bytes: usize,
        take: impl Fn(&[u8]) -> (f16, f16, &[u8]),
    ) -> Result<Self, PackError> {
        let (groups, blocks) = shape(bytes, outputs, inputs, block_bytes)?;
        let mut codes = vec![0; groups * blocks * NIBBLE_CODES];
        let mut scales = vec![f16::ZERO; groups * blocks * 2 * LANES];
        for (number, block) in bytes.chunks_exact(block_bytes).enumerate() {
            let (output, at) = (number / blocks, number % blocks);
            let (scale, minimum, from) = take(block);
            if !scale.is_finite() || !minimum.is_finite() {
                return Err(PackError::NotFinite { output });
            }
            let (place, lane) = (output / LANES * blocks + at, output % LANES);
            scales[place * 2 * LANES + lane] = scale;
            scales[place * 2 * LANES + LANES + lane] = minimum;
            for (run, four) in from.chunks_exact(4).enumerate() {
                let to = place * NIBBLE_CODES + run * 4 * LANES + lane * 4;
                codes[to..to + 4].copy_from_slice(four);
            }
        }
        Ok(Self { outputs, inputs, form: Form::Nibbles { codes, scales } })
    }

    /// From rows of GGUF's `Q8_0`.
    pub fn from_q8_0(bytes: &[u8], outputs: usize, inputs: usize) -> Result<Self, PackError> {
        let (groups, blocks) = shape(bytes, outputs, inputs, Q8_0_BYTES)?;
        let mut codes = vec![128; groups * blocks * BYTE_CODES];
        let mut scales = vec![f16::ZERO; groups * blocks * LANES];
        for (number, block) in bytes.chunks_exact(Q8_0_BYTES).enumerate() {
            let (output, at) = (number / blocks, number % blocks);
            let scale = half(block, 0);
            if !scale.is_finite() {
                return Err(PackError::NotFinite { output });
            }
            let (place, lane) = (output / LANES * blocks + at, output % LANES);
            scales[place * LANES + lane] = scale;
            for (run, four) in block[2..].chunks_exact(4).enumerate() {
                let to = place * BYTE_CODES + run * 4 * LANES + lane * 4;
                for (to, from) in codes[to..to + 4].iter_mut().zip(four) {
                    *to = from.wrapping_add(128);
                }
            }
        }
        Ok(Self { outputs, inputs, form: Form::Bytes { codes, scales } })
    }

    /// From rows of GGUF's `F32`.
    pub fn from_f32(bytes: &[u8], outputs: usize, inputs: usize) -> Result<Self, PackError> {
        Self::dense(bytes, outputs, inputs, 4, |bytes| {
            f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        })
    }

    /// From rows of GGUF's `F16`.
    pub fn from_f16(bytes: &[u8], outputs: usize, inputs: usize) -> Result<Self, PackError> {
        Self::dense(bytes, outputs, inputs, 2, |bytes| half(bytes, 0).to_f32())
    }

    fn dense(
        bytes: &[u8],
        outputs: usize,
        inputs: usize,
        weight_bytes: usize,
        take: impl Fn(&[u8]) -> f32,
    ) -> Result<Self, PackError> {
        let (groups, _) = shape(bytes, outputs, inputs, weight_bytes * BLOCK)?;
        let mut weights = vec![0.0; groups * inputs * LANES];
        for (number, bytes) in bytes.chunks_exact(weight_bytes).enumerate() {
            let (output, input) = (number / inputs, number % inputs);
            let weight = take(bytes);
            if !weight.is_finite() {
                return Err(PackError::NotFinite { output });
            }
            weights[(output / LANES * inputs + input) * LANES + output % LANES] = weight;
        }
        Ok(Self { outputs, inputs, form: Form::Dense { weights } })
    }

    /// The same weights as plain numbers, each as the quantised one says.
    pub fn to_dense(&self) -> Self {
        let mut weights = vec![0.0; self.groups() * self.inputs * LANES];
        let mut row = vec![0.0; self.inputs];
        for output in 0..self.outputs {
            self.row(output, &mut row);
            for (input, weight) in row.iter().enumerate() {
                weights[(output / LANES * self.inputs + input) * LANES + output % LANES] = *weight;
            }
        }
        Self { outputs: self.outputs, inputs: self.inputs, form: Form::Dense { weights } }
    }

    /// Weights of an output as plain numbers.
    ///
    /// # Panics
    /// Where there is no such output, or `row` has not a place for each input.
    pub fn row(&self, output: usize, row: &mut [f32]) {
        assert!(output < self.outputs && row.len() == self.inputs, "a row of these weights");
        let (group, lane) = (output / LANES, output % LANES);
        let blocks = self.inputs / BLOCK;
        for (input, to) in row.iter_mut().enumerate() {
            let (place, at) = (group * blocks + input / BLOCK, input % BLOCK);
            *to = match &self.form {
                Form::Nibbles { codes, scales } => {
                    let byte = codes[place * NIBBLE_CODES + at % 16 / 4 * 4 * LANES + lane * 4 + at % 4];
                    let code = if at < 16 { byte & 15 } else { byte >> 4 };
                    let scale = scales[place * 2 * LANES + lane].to_f32();
                    let minimum = scales[place * 2 * LANES + LANES + lane].to_f32();
                    f32::from(code) * scale + minimum
                }
                Form::Bytes { codes, scales } => {
                    let code = codes[place * BYTE_CODES + at / 4 * 4 * LANES + lane * 4 + at % 4];
                    f32::from(i16::from(code) - 128) * scales[place * LANES + lane].to_f32()
                }
                Form::Dense { weights } => weights[(group * self.inputs + input) * LANES + lane],
            };
        }
    }
}

/// Sixteens of outputs, and blocks of a row; the bytes are as many as that needs.
fn shape(
    bytes: &[u8],
    outputs: usize,
    inputs: usize,
    block_bytes: usize,
) -> Result<(usize, usize), PackError> {
    if outputs == 0 || inputs == 0 || !inputs.is_multiple_of(BLOCK) {
        return Err(PackError::Shape { outputs, inputs });
    }
    let blocks = inputs / BLOCK;
    let expected = outputs.checked_mul(blocks).and_then(|blocks| blocks.checked_mul(block_bytes));
    if expected != Some(bytes.len()) {
        return Err(PackError::Length { found: bytes.len(), expected: expected.unwrap_or(usize::MAX) });
    }
    Ok((outputs.div_ceil(LANES), blocks))
}

fn half(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}
