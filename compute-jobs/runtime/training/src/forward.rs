//! The adapted model's forward pass over rows of several texts joined end to end, up to its loss.
//!
//! Invariant: a token sees only tokens of its own text that are not later. No row is padding.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::base::{Base, Shape};
use crate::lora::{Adapter, Adapters, Target};
use crate::operations::{CausalSoftmax, Frozen, Loss, RmsNorm, Rotate};

/// A text with what is learnt from it: the targets are its tokens from `learnt_from` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) learnt_from: usize,
}

impl Text<'_> {
    /// Tokens that something is learnt from.
    pub(crate) fn targets(&self) -> usize {
        self.tokens.len() - self.learnt_from
    }

    /// The last token predicts nothing.
    fn rows(&self) -> usize {
        self.tokens.len() - 1
    }
}

/// One pass.
pub(crate) struct Forward<'a> {
    pub(crate) base: &'a Base,
    pub(crate) adapters: &'a Adapters,
}

fn rotation(shape: &Shape, texts: &[Text<'_>]) -> Rotate {
    let pairs = shape.head / 2;
    let (mut cosines, mut sines) = (Vec::new(), Vec::new());
    for text in texts {
        for place in 0..text.rows() {
            for pair in 0..pairs {
                // Angles in 64 bits: places times rates lose digits in 32.
                let share = f64::from(u32::try_from(pair).unwrap_or(0))
                    / f64::from(u32::try_from(pairs).unwrap_or(1));
                let place = f64::from(u32::try_from(place).unwrap_or(u32::MAX));
                let angle = place * f64::from(shape.rope_base).powf(-share);
                #[expect(clippy::cast_possible_truncation, reason = "factors of 32-bit floats")]
                let (sine, cosine) = (angle.sin() as f32, angle.cos() as f32);
                cosines.push(cosine);
                sines.push(sine);
            }
        }
    }
    Rotate { cosines: Arc::new(cosines), sines: Arc::new(sines), pairs }
}

impl Forward<'_> {
    /// The mean loss over `total` targets, of which these texts may have a part.
    pub(crate) fn loss(&self, texts: &[Text<'_>], total: f32, is_learning: bool) -> Result<Tensor> {
        let shape = &self.base.shape;
        let (mut ids, mut learnt, mut targets) = (Vec::<u32>::new(), Vec::<u32>::new(), Vec::new());
        for text in texts {
            for place in text.learnt_from..text.tokens.len() {
                let Ok(row) = u32::try_from(ids.len() + place - 1) else { bail!("too many rows") };
                learnt.push(row);
                targets.push(text.tokens[place]);
            }
            ids.extend(&text.tokens[..text.rows()]);
        }
        let device = self.base.words.device();
        let count = ids.len();
        let mut rows = self.base.words.index_select(&Tensor::from_vec(ids, count, device)?, 0)?;
        let rotate = rotation(shape, texts);
        for at in 0..shape.layers {
            let layer = &self.base.layers[at];
            let normal = self.norm(&rows, &layer.attention_norm)?;
            let queries = self.linear(at, Target::Query, &normal)?.apply_op1(rotate.clone())?;
            let keys = self.linear(at, Target::Key, &normal)?.apply_op1(rotate.clone())?;
            let values = self.linear(at, Target::Value, &normal)?;
            let (mut context, mut first) = (Vec::with_capacity(texts.len()), 0);
            for text in texts {
                let part = |tensor: &Tensor| tensor.narrow(0, first, text.rows());
                context.push(self.attend(&part(&queries)?, &part(&keys)?, &part(&values)?)?);
                first += text.rows();
            }
            let context = if context.len() == 1 { context.remove(0) } else { Tensor::cat(&context, 0)? };
            rows = (rows + self.linear(at, Target::Output, &context)?)?;
            let normal = self.norm(&rows, &layer.feed_norm)?;
            let gate = self.linear(at, Target::Gate, &normal)?.silu()?;
            let up = self.linear(at, Target::Up, &normal)?;
            rows = (rows + self.linear(at, Target::Down, &(gate * up)?)?)?;
        }
        let count = learnt.len();
        let rows = rows.index_select(&Tensor::from_vec(learnt, count, device)?, 0)?;
        let rows = self.norm(&rows, &self.base.norm)?;
        rows.apply_op1(Loss::new(self.base.output.clone(), targets, total, is_learning))
    }

    fn norm(&self, rows: &Tensor, scale: &[f32]) -> Result<Tensor> {
        rows.contiguous()?.apply_op1(RmsNorm { scale: scale.to_vec(), epsilon: self.base.shape.epsilon })
    }

    fn linear(&self, layer: usize, target: Target, rows: &Tensor) -> Result<Tensor> {
        let at = Target::ALL.iter().position(|other| *other == target).expect("all are listed");
        let rows = rows.contiguous()?;
        let frozen = rows.apply_op1(Frozen { weight: self.base.layers[layer].linear[at].clone() })?;
        let Some(Adapter { a, b }) = self.adapters.of(layer, at) else { return Ok(frozen) };
        let adapted = rows.matmul(&a.t()?)?.matmul(&b.t()?)?;
        frozen + adapted.affine(self.adapters.options.scale(), 0.0)?
    }

    /// Attention within one text. A group of query heads shares a head of keys and values.
    fn attend(&self, queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
        let Shape { heads, kv_heads, head, .. } = self.base.shape;
        let (length, groups) = (queries.dim(0)?, heads / kv_heads);
        let queries =
            queries.reshape((length, kv_heads, groups, head))?.permute((1, 2, 0, 3))?.contiguous()?;
        let queries = queries.reshape((kv_heads, groups * length, head))?;
        let keys = keys.reshape((length, kv_heads, head))?.permute((1, 2, 0))?.contiguous()?;
        let values = values.reshape((length, kv_heads, head))?.permute((1, 0, 2))?.contiguous()?;
        let scale = 1.0 / f32::from(u16::try_from(head).expect("a head is at most 512 wide")).sqrt();
        let shares = queries.matmul(&keys)?.apply_op1(CausalSoftmax { length, scale })?;
        let context = shares.matmul(&values)?.reshape((kv_heads, groups, length, head))?;
        context.permute((2, 0, 1, 3))?.contiguous()?.reshape((length, heads * head))
    }
}

#[cfg(test)]
mod tests;
