//! A step of a model: tokens of many sequences at once, each at its own position.
//!
//! Invariant: what a token gets follows from its own sequence alone. Rows share the reading of weights and nothing else;
//! where a sequence is cut into steps changes no bit.

use ashlar_kernels::{PAGE_POSITIONS, Packed, QuantisedRows};

use super::{Llama, Positions};

/// Tokens of a step at most.
pub(crate) const STEP_ROWS_MAX: usize = 128;

/// Rows whose scores over the vocabulary are computed together.
const SCORED_ROWS_MAX: usize = 32;

/// Tokens of one sequence that come next.
pub(crate) struct Span<'a> {
    /// What was computed of it before; this step adds to it.
    pub(crate) positions: &'a mut Positions,
    /// What comes next, at least one.
    pub(crate) tokens: &'a [u32],
    /// Scores of what follows are wanted of so many of the last tokens.
    pub(crate) scored: usize,
}

/// Memory of a step, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    stream: Vec<f32>,
    normalised: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    gates: Vec<f32>,
    ups: Vec<f32>,
    delta: Vec<f32>,
    scores: Vec<f32>,
    logits: Vec<f32>,
    quantised: QuantisedRows,
}

impl Llama {
    /// Computes a step. For each token whose scores are wanted `told` is given the number of its span, that of the
    /// token in it, and the logits of what follows, spans and tokens in their order.
    ///
    /// # Panics
    /// Where a token is not of the vocabulary.
    pub(crate) fn step(
        &self,
        spans: &mut [Span<'_>],
        scratch: &mut Scratch,
        mut told: impl FnMut(usize, usize, &mut [f32]),
    ) {
        let shape = &self.shape;
        let width = shape.width;
        let rows: usize = spans.iter().map(|span| span.tokens.len()).sum();
        scratch.stream.resize(rows * width, 0.0);
        let tokens = spans.iter().flat_map(|span| span.tokens);
        for (token, row) in tokens.zip(scratch.stream.chunks_exact_mut(width)) {
            let token = usize::try_from(*token).unwrap_or(usize::MAX);
            self.embeddings.row(token, row);
        }
        let turns = self.turns(spans);
        for span in spans.iter_mut() {
            span.positions.reserve(span.tokens.len(), shape.page_numbers());
        }
        for layer in 0..self.layers.len() {
            self.attend(layer, spans, &turns, scratch);
            self.think(layer, scratch);
        }
        for span in spans.iter_mut() {
            span.positions.extend(span.tokens.len());
        }
        self.score(spans, scratch, &mut told);
    }

    /// Cosines and sines of each row's position.
    fn turns(&self, spans: &[Span<'_>]) -> Vec<(Vec<f32>, Vec<f32>)> {
        let positions = spans.iter().flat_map(|span| (span.positions.length()..).take(span.tokens.len()));
        let turn = |position: usize| {
            let of = |function: fn(f64) -> f64| {
                self.angles.iter().map(|angle| function(position as f64 * angle) as f32).collect()
            };
            (of(libm::cos), of(libm::sin))
        };
        positions.map(turn).collect()
    }

    /// Rows times weights, by the one arithmetic that the weights ask for. `rows` are quantised already where
    /// `is_prepared`.
    fn multiply(
        &self,
        weights: &Packed,
        rows: &[f32],
        quantised: &mut QuantisedRows,
        is_prepared: bool,
        products: &mut Vec<f32>,
    ) {
        products.resize(rows.len() / weights.inputs() * weights.outputs(), 0.0);
        if weights.is_quantised() {
            if !is_prepared {
                quantised.quantise(self.kernels, rows, weights.inputs());
            }
            self.kernels.multiply_quantised(weights, quantised, products);
        } else {
            self.kernels.multiply_dense(weights, rows, products);
        }
    }

    fn normalise(&self, rows: &[f32], weights: &[f32], normalised: &mut Vec<f32>) {
        normalised.resize(rows.len(), 0.0);
        let width = self.shape.width;
        for (row, to) in rows.chunks_exact(width).zip(normalised.chunks_exact_mut(width)) {
            self.kernels.normalise(row, weights, self.shape.epsilon, to);
        }
    }

    fn attend(
        &self,
        number: usize,
        spans: &mut [Span<'_>],
        turns: &[(Vec<f32>, Vec<f32>)],
        scratch: &mut Scratch,
    ) {
        let (layer, shape) = (&self.layers[number], &self.shape.attention);
        let Scratch { stream, normalised, queries, keys, values, attended, delta, scores, quantised, .. } =
            scratch;
        self.normalise(stream, &layer.attention_norm, normalised);
        self.multiply(&layer.query, normalised, quantised, false, queries);
        // One preparation serves all three, where the first did it.
        let is_prepared = layer.query.is_quantised();
        self.multiply(&layer.key, normalised, quantised, is_prepared, keys);
        let is_prepared = is_prepared || layer.key.is_quantised();
        self.multiply(&layer.value, normalised, quantised, is_prepared, values);
        let (query_width, key_width) = (layer.query.outputs(), layer.key.outputs());
        let rotated = queries.chunks_exact_mut(query_width).zip(keys.chunks_exact_mut(key_width));
        for ((query, key), (cosines, sines)) in rotated.zip(turns) {
            self.kernels.rotate(query, cosines, sines);
            self.kernels.rotate(key, cosines, sines);
        }
        attended.resize(queries.len(), 0.0);
        let of_layer = number * shape.page_numbers()..(number + 1) * shape.page_numbers();
        let mut row = 0;
        for span in spans {
            let (first, count) = (span.positions.length(), span.tokens.len());
            for at in 0..count {
                let page = &mut span.positions.page_mut(first + at)[of_layer.clone()];
                let key_range = (row + at) * key_width..(row + at + 1) * key_width;
                let (keys, values) = (&keys[key_range.clone()], &values[key_range]);
                shape.store(page, (first + at) % PAGE_POSITIONS, keys, values);
            }
            let pages: Vec<&[f32]> =
                span.positions.pages().iter().map(|page| &page[of_layer.clone()]).collect();
            let of_span = row * query_width..(row + count) * query_width;
            let (queries, attended) = (&queries[of_span.clone()], &mut attended[of_span]);
            self.kernels.attend(shape, queries, first, &pages, scores, attended);
            row += count;
        }
        self.multiply(&layer.attended, attended, quantised, false, delta);
        self.kernels.add(stream, delta);
    }

    fn think(&self, number: usize, scratch: &mut Scratch) {
        let layer = &self.layers[number];
        let Scratch { stream, normalised, gates, ups, delta, quantised, .. } = scratch;
        self.normalise(stream, &layer.inner_norm, normalised);
        self.multiply(&layer.gate, normalised, quantised, false, gates);
        self.multiply(&layer.up, normalised, quantised, layer.gate.is_quantised(), ups);
        self.kernels.gate(gates, ups);
        self.multiply(&layer.down, gates, quantised, false, delta);
        self.kernels.add(stream, delta);
    }

    fn score(
        &self,
        spans: &[Span<'_>],
        scratch: &mut Scratch,
        told: &mut impl FnMut(usize, usize, &mut [f32]),
    ) {
        let Scratch { stream, normalised, logits, quantised, .. } = scratch;
        let width = self.shape.width;
        let mut wanted = Vec::new();
        let mut row = 0;
        for (number, span) in spans.iter().enumerate() {
            let count = span.tokens.len();
            let unscored = count - span.scored.min(count);
            wanted.extend((unscored..count).map(|token| (number, token, row + token)));
            row += count;
        }
        let head = self.head.as_ref().unwrap_or(&self.embeddings);
        for wanted in wanted.chunks(SCORED_ROWS_MAX) {
            normalised.resize(wanted.len() * width, 0.0);
            for ((_, _, row), to) in wanted.iter().zip(normalised.chunks_exact_mut(width)) {
                let row = &stream[row * width..(row + 1) * width];
                self.kernels.normalise(row, &self.norm, self.shape.epsilon, to);
            }
            self.multiply(head, normalised, quantised, false, logits);
            for ((span, token, _), logits) in
                wanted.iter().zip(logits.chunks_exact_mut(self.shape.vocabulary))
            {
                told(*span, *token, logits);
            }
        }
    }
}
