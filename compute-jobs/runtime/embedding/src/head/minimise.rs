//! L-BFGS with a line search that backtracks: the least of a smooth convex function, the same bits every time.
//!
//! Invariant: the value never rises from one step to the next. Does not know what it minimises.

use std::collections::VecDeque;

/// Steps whose curvature is remembered.
const MEMORY: usize = 10;
/// Halvings of a step before the point is taken for the least.
const HALVINGS_MAX: u32 = 40;
/// Share of the promised descent that a step has to bring.
const SUFFICIENT: f64 = 1e-4;

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// One remembered step.
struct Pair {
    moved: Vec<f64>,
    turned: Vec<f64>,
    product: f64,
}

/// A search under way.
pub(super) struct Search<F: Fn(&[f64]) -> (f64, Vec<f64>)> {
    function: F,
    pub(super) point: Vec<f64>,
    pub(super) value: f64,
    gradient: Vec<f64>,
    pairs: VecDeque<Pair>,
}

impl<F: Fn(&[f64]) -> (f64, Vec<f64>)> Search<F> {
    pub(super) fn new(function: F, point: Vec<f64>) -> Self {
        let (value, gradient) = function(&point);
        Self { function, point, value, gradient, pairs: VecDeque::new() }
    }

    /// The largest part of the gradient: zero at the least.
    pub(super) fn slope(&self) -> f64 {
        self.gradient.iter().fold(0.0, |largest, part| largest.max(part.abs()))
    }

    fn direction(&self) -> Vec<f64> {
        let mut direction = self.gradient.clone();
        let mut shares = Vec::with_capacity(self.pairs.len());
        for Pair { moved, turned, product } in self.pairs.iter().rev() {
            let share = dot(moved, &direction) / product;
            direction.iter_mut().zip(turned).for_each(|(d, y)| *d -= share * y);
            shares.push(share);
        }
        if let Some(Pair { turned, product, .. }) = self.pairs.back() {
            let scale = product / dot(turned, turned);
            direction.iter_mut().for_each(|d| *d *= scale);
        }
        for (Pair { moved, turned, product }, share) in self.pairs.iter().zip(shares.iter().rev()) {
            let more = share - dot(turned, &direction) / product;
            direction.iter_mut().zip(moved).for_each(|(d, s)| *d += more * s);
        }
        direction.iter_mut().for_each(|d| *d = -*d);
        direction
    }

    /// Goes one step down; whether there was one.
    pub(super) fn step(&mut self) -> bool {
        let mut direction = self.direction();
        let mut descent = dot(&direction, &self.gradient);
        if descent >= 0.0 {
            // Rounding has spoilt what was remembered.
            self.pairs.clear();
            direction = self.gradient.iter().map(|g| -g).collect();
            descent = dot(&direction, &self.gradient);
        }
        let mut length =
            if self.pairs.is_empty() { 1.0 / dot(&direction, &direction).sqrt().max(1.0) } else { 1.0 };
        for _ in 0..HALVINGS_MAX {
            let point: Vec<f64> = self.point.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let (value, gradient) = (self.function)(&point);
            if value <= self.value + SUFFICIENT * length * descent {
                let moved: Vec<f64> = point.iter().zip(&self.point).map(|(new, old)| new - old).collect();
                let turned: Vec<f64> =
                    gradient.iter().zip(&self.gradient).map(|(new, old)| new - old).collect();
                let product = dot(&moved, &turned);
                if product > 1e-12 * dot(&turned, &turned) {
                    self.pairs.push_back(Pair { moved, turned, product });
                    if self.pairs.len() > MEMORY {
                        self.pairs.pop_front();
                    }
                }
                (self.point, self.value, self.gradient) = (point, value, gradient);
                return true;
            }
            length /= 2.0;
        }
        false
    }
}
