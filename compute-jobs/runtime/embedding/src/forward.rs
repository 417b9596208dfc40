//! The forward pass over the rows of many texts, joined end to end.
//!
//! Invariant: rows meet other rows only in attention, and there only those of their own text; so what is computed with a
//! text changes none of its bits. No row is padding.

use crate::configuration::Configuration;
use crate::kernel::{Floats, Kernels, LayerNorm, Multiply, Panels, Pool, Softmax, Strips};
use crate::tokens::Tokens;
use crate::weights::{Layer, Linear, Norm, Weights};

/// Rows that go through the feed-forward part at once: what lies between its two products stays in the second cache.
const FEED_ROWS: usize = 96;

/// What a thread needs beside the weights, kept from one batch to the next. Grows with the largest batch.
#[derive(Debug, Default)]
pub struct Workspace {
    rows: Floats,
    attention: Floats,
    context: Floats,
    between: Floats,
    scores: Floats,
    keys: Panels,
    values: Panels,
    strips: Strips,
}

/// One model's pass.
pub(crate) struct Forward<'a> {
    pub(crate) configuration: &'a Configuration,
    pub(crate) weights: &'a Weights,
    pub(crate) kernels: Kernels,
    /// 1 / hidden.
    pub(crate) share: f32,
}

impl Forward<'_> {
    /// Vectors of texts, one after the other.
    pub(crate) fn run(&self, texts: &[&Tokens], workspace: &mut Workspace) -> Vec<Vec<f32>> {
        let hidden = self.configuration.hidden;
        let count = texts.iter().map(|text| text.count()).sum::<usize>();
        workspace.rows.resize(count * hidden);
        self.embed(texts, workspace.rows.as_mut_slice());
        for layer in &self.weights.layers {
            self.attend(layer, texts, count, workspace);
            self.feed(layer, count, workspace);
        }
        let mut rest = workspace.rows.as_slice();
        let mut vectors = Vec::with_capacity(texts.len());
        for text in texts {
            let (rows, behind) = rest.split_at(text.count() * hidden);
            let mut vector = vec![0.0; hidden];
            let is_normalised = self.configuration.is_normalised;
            self.kernels.run(Pool { rows, into: &mut vector, share: share(text.count()), is_normalised });
            vectors.push(vector);
            rest = behind;
        }
        vectors
    }

    fn embed(&self, texts: &[&Tokens], rows: &mut [f32]) {
        let hidden = self.configuration.hidden;
        let mut rows_left = rows.chunks_exact_mut(hidden);
        for text in texts {
            for (id, place) in text.ids().iter().zip(self.weights.places.chunks_exact(hidden)) {
                let row = rows_left.next().expect("there are as many rows as tokens");
                let at = usize::try_from(*id).expect("an id of the vocabulary, which is in memory") * hidden;
                let word = &self.weights.words[at..at + hidden];
                row.iter_mut().zip(word).zip(place).for_each(|((row, word), place)| *row = word + place);
            }
        }
        self.normalise(rows, &self.weights.norm);
    }

    fn normalise(&self, rows: &mut [f32], Norm { scale, bias }: &Norm) {
        let epsilon = self.configuration.epsilon;
        self.kernels.run(LayerNorm { rows, scale, bias, epsilon, share: self.share });
    }

    fn attend(&self, layer: &Layer, texts: &[&Tokens], count: usize, workspace: &mut Workspace) {
        let hidden = self.configuration.hidden;
        let Workspace { rows, attention, context, strips, .. } = workspace;
        attention.resize(count * 3 * hidden);
        context.resize(count * hidden);
        let Linear { matrix, bias } = &layer.attention;
        self.kernels.run(Multiply {
            rows: rows.as_slice(),
            stride: hidden,
            count,
            matrix,
            bias: Some(bias),
            result: attention.as_mut_slice(),
            result_stride: 3 * hidden,
            is_added: false,
            is_gelu: false,
            strips,
        });
        let mut first = 0;
        for text in texts {
            for head in 0..self.configuration.heads {
                self.attend_one(first, text.count(), head, workspace);
            }
            first += text.count();
        }
        let Workspace { rows, context, strips, .. } = workspace;
        let Linear { matrix, bias } = &layer.attention_output;
        self.kernels.run(Multiply {
            rows: context.as_slice(),
            stride: hidden,
            count,
            matrix,
            bias: Some(bias),
            result: rows.as_mut_slice(),
            result_stride: hidden,
            is_added: true,
            is_gelu: false,
            strips,
        });
        self.normalise(rows.as_mut_slice(), &layer.attention_norm);
    }

    /// One head of one text, whose rows begin at `first`.
    fn attend_one(&self, first: usize, count: usize, head: usize, workspace: &mut Workspace) {
        let Workspace { attention, context, scores, keys, values, strips, .. } = workspace;
        let Configuration { hidden, heads, .. } = *self.configuration;
        let (depth, stride, lanes) = (hidden / heads, 3 * hidden, self.kernels.lanes());
        let queries = &attention.as_slice()[first * stride + head * depth..];
        keys.fill_transposed(&queries[hidden..], stride, depth, count, lanes);
        values.fill(&queries[2 * hidden..], stride, count, depth, lanes);
        scores.resize(count * count);
        self.kernels.run(Multiply {
            rows: queries,
            stride,
            count,
            matrix: keys,
            bias: None,
            result: scores.as_mut_slice(),
            result_stride: count,
            is_added: false,
            is_gelu: false,
            strips,
        });
        let scale = share(depth).sqrt();
        self.kernels.run(Softmax { rows: scores.as_mut_slice(), length: count, scale });
        self.kernels.run(Multiply {
            rows: scores.as_slice(),
            stride: count,
            count,
            matrix: values,
            bias: None,
            result: &mut context.as_mut_slice()[first * hidden + head * depth..],
            result_stride: hidden,
            is_added: false,
            is_gelu: false,
            strips,
        });
    }

    fn feed(&self, layer: &Layer, count: usize, workspace: &mut Workspace) {
        let Configuration { hidden, intermediate, .. } = *self.configuration;
        let Workspace { rows, between, strips, .. } = workspace;
        let mut first = 0;
        while first < count {
            let rows_now = FEED_ROWS.min(count - first);
            let rows = &mut rows.as_mut_slice()[first * hidden..(first + rows_now) * hidden];
            between.resize(rows_now * intermediate);
            let Linear { matrix, bias } = &layer.intermediate;
            self.kernels.run(Multiply {
                rows,
                stride: hidden,
                count: rows_now,
                matrix,
                bias: Some(bias),
                result: between.as_mut_slice(),
                result_stride: intermediate,
                is_added: false,
                is_gelu: true,
                strips,
            });
            let Linear { matrix, bias } = &layer.output;
            self.kernels.run(Multiply {
                rows: between.as_slice(),
                stride: intermediate,
                count: rows_now,
                matrix,
                bias: Some(bias),
                result: rows,
                result_stride: hidden,
                is_added: true,
                is_gelu: false,
                strips,
            });
            self.normalise(rows, &layer.output_norm);
            first += rows_now;
        }
    }
}

/// 1 / count.
pub(crate) fn share(count: usize) -> f32 {
    let count = u16::try_from(count).expect("widths and lengths are bounded by the configuration's limits");
    1.0 / f32::from(count)
}
