//! Attention of rows of one sequence over its pages of keys and values.
//!
//! Invariant: a row sees its own position and those before it, page by page from the first; what a page has beyond them
//! is never part of a sum. Keys lie by dimension with the positions of a page side by side, so that scores of a page are
//! one vector; values lie by position with the dimensions side by side.

use crate::LANES;
use crate::elementwise::fold;
use crate::exponential::exponential;
use crate::instructions::for_each_set;

/// Positions of a page.
pub const PAGE_POSITIONS: usize = LANES;

/// Rows that read a page together.
const TILE_ROWS: usize = 8;

/// How queries, keys and values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Heads of a query, a multiple of `key_heads`.
    pub heads: usize,
    /// Heads of keys and of values.
    pub key_heads: usize,
    /// Numbers of a head, a multiple of 16.
    pub dimensions: usize,
}

impl AttentionShape {
    /// Numbers that one layer has in a page: keys of all heads, then values of all heads.
    pub fn page_numbers(&self) -> usize {
        2 * self.key_heads * self.dimensions * PAGE_POSITIONS
    }

    /// Writes keys and values of a position into its page.
    ///
    /// # Panics
    /// Where lengths do not fit the shape, or the position is not of a page.
    pub fn store(&self, page: &mut [f32], position: usize, keys: &[f32], values: &[f32]) {
        let numbers = self.key_heads * self.dimensions;
        assert!(page.len() == self.page_numbers() && position < PAGE_POSITIONS, "a place of a page");
        assert!(keys.len() == numbers && values.len() == numbers, "a number for each dimension of each head");
        let (to_keys, to_values) = page.split_at_mut(numbers * PAGE_POSITIONS);
        for (to, key) in to_keys.chunks_exact_mut(PAGE_POSITIONS).zip(keys) {
            to[position] = *key;
        }
        let to_values = to_values.chunks_exact_mut(self.dimensions * PAGE_POSITIONS);
        for (to, values) in to_values.zip(values.chunks_exact(self.dimensions)) {
            to[position * self.dimensions..(position + 1) * self.dimensions].copy_from_slice(values);
        }
    }
}

#[inline(always)]
fn attend(
    shape: &AttentionShape,
    queries: &[f32],
    first: usize,
    pages: &[&[f32]],
    scores: &mut Vec<f32>,
    attended: &mut [f32],
) {
    let AttentionShape { heads, key_heads, dimensions } = *shape;
    let shared = heads / key_heads;
    let row_numbers = heads * dimensions;
    let rows = queries.len() / row_numbers;
    let positions = pages.len() * PAGE_POSITIONS;
    assert!(heads == shared * key_heads && dimensions.is_multiple_of(LANES), "heads share keys evenly");
    assert!(queries.len() == attended.len() && queries.len() == rows * row_numbers, "whole rows");
    assert!(
        first + rows <= positions && pages.iter().all(|page| page.len() == shape.page_numbers()),
        "pages"
    );
    let scale = 1.0 / (dimensions as f32).sqrt();
    let head_numbers = dimensions * PAGE_POSITIONS;
    scores.resize(TILE_ROWS * shared * positions, 0.0);
    for tile in (0..rows).step_by(TILE_ROWS) {
        let tile_rows = TILE_ROWS.min(rows - tile);
        for key_head in 0..key_heads {
            let query = |row: usize, head: usize| {
                let at = (tile + row) * row_numbers + (key_head * shared + head) * dimensions;
                at..at + dimensions
            };
            for (number, page) in pages.iter().enumerate() {
                let keys = &page[key_head * head_numbers..(key_head + 1) * head_numbers];
                for row in 0..tile_rows {
                    if number * PAGE_POSITIONS > first + tile + row {
                        continue;
                    }
                    for head in 0..shared {
                        let mut lanes = [0.0f32; LANES];
                        let pairs = queries[query(row, head)].iter().zip(keys.chunks_exact(PAGE_POSITIONS));
                        for (query, keys) in pairs {
                            for lane in 0..LANES {
                                lanes[lane] = keys[lane].mul_add(*query, lanes[lane]);
                            }
                        }
                        let at = (row * shared + head) * positions + number * PAGE_POSITIONS;
                        for (score, lane) in scores[at..at + PAGE_POSITIONS].iter_mut().zip(lanes) {
                            *score = lane * scale;
                        }
                    }
                }
            }
            for row in 0..tile_rows {
                let seen = first + tile + row + 1;
                for head in 0..shared {
                    let at = (row * shared + head) * positions;
                    soften(&mut scores[at..at + seen.next_multiple_of(PAGE_POSITIONS)], seen);
                    attended[query(row, head)].fill(0.0);
                }
            }
            for (number, page) in pages.iter().enumerate() {
                let values =
                    &page[(key_heads + key_head) * head_numbers..(key_heads + key_head + 1) * head_numbers];
                for row in 0..tile_rows {
                    let seen = first + tile + row + 1;
                    let begin = number * PAGE_POSITIONS;
                    if begin >= seen {
                        continue;
                    }
                    let count = PAGE_POSITIONS.min(seen - begin);
                    for head in 0..shared {
                        let at = (row * shared + head) * positions + begin;
                        weigh(&scores[at..at + count], values, &mut attended[query(row, head)]);
                    }
                }
            }
        }
    }
}

/// Scores that are seen as shares of one, by powers of e; those beyond as nought.
#[inline(always)]
fn soften(scores: &mut [f32], seen: usize) {
    scores[seen..].fill(f32::NEG_INFINITY);
    let mut greatest = [f32::NEG_INFINITY; LANES];
    for chunk in scores.chunks_exact(LANES) {
        for lane in 0..LANES {
            greatest[lane] = if chunk[lane] > greatest[lane] { chunk[lane] } else { greatest[lane] };
        }
    }
    let greatest = fold(greatest, |a, b| if a > b { a } else { b });
    for score in scores.iter_mut() {
        *score = exponential(*score - greatest);
    }
    scores[seen..].fill(0.0);
    let mut sums = [0.0f32; LANES];
    for chunk in scores.chunks_exact(LANES) {
        for lane in 0..LANES {
            sums[lane] += chunk[lane];
        }
    }
    let share = 1.0 / fold(sums, |a, b| a + b);
    scores.iter_mut().for_each(|score| *score *= share);
}

/// Adds each position's values times its weight, position by position.
#[inline(always)]
fn weigh(weights: &[f32], values: &[f32], sums: &mut [f32]) {
    let dimensions = sums.len();
    for (at, sums) in sums.chunks_exact_mut(LANES).enumerate() {
        let mut lanes = [0.0f32; LANES];
        lanes.copy_from_slice(sums);
        for (position, weight) in weights.iter().enumerate() {
            let from = position * dimensions + at * LANES;
            let values = &values[from..from + LANES];
            for lane in 0..LANES {
                lanes[lane] = values[lane].mul_add(*weight, lanes[lane]);
            }
        }
        sums.copy_from_slice(&lanes);
    }
}

for_each_set! {
    /// What rows of queries, the first at position `first` and the others behind it, get from keys and values in `pages`.
    /// `scores` is memory for it, of any content.
    ///
    /// # Panics
    /// Where lengths do not fit the shape, or pages end before the last row.
    attend = attend, (
        shape: &AttentionShape, queries: &[f32], first: usize, pages: &[&[f32]],
        scores: &mut Vec<f32>, attended: &mut [f32]
    )
}
