//! Gradients of every adapter beside finite differences, and the pass beside a plain one in 64 bits.

use std::collections::BTreeMap;

use super::*;
use crate::base::testing::{SHAPE, base};
use crate::lora::{LoraOptions, numbers};

const TEXTS: [Text<'static>; 3] = [
    Text { tokens: &[3, 17, 5, 9, 21, 2], learnt_from: 2 },
    Text { tokens: &[8, 1], learnt_from: 1 },
    Text { tokens: &[30, 4, 4, 12, 7, 19, 22, 11, 6], learnt_from: 1 },
];

/// Adapters with a B that is not zero, so that A has a gradient too.
fn adapters() -> Adapters {
    let options = LoraOptions { rank: 3, alpha: 4.0, ..LoraOptions::default() };
    let adapters = Adapters::new(&SHAPE, options).unwrap();
    let values = adapters
        .variables()
        .into_iter()
        .map(|(name, var)| numbers(5, &name, var.elem_count()).into_iter().map(|x| 0.4 * x).collect());
    let values: Vec<Vec<f32>> = values.collect();
    adapters.set(&values).unwrap();
    adapters
}

fn loss(adapters: &Adapters, is_learning: bool) -> Tensor {
    let total: usize = TEXTS.iter().map(Text::targets).sum();
    let total = f32::from(u16::try_from(total).unwrap());
    Forward { base: &base(), adapters }.loss(&TEXTS, total, is_learning).unwrap()
}

fn scalar(loss: &Tensor) -> f64 {
    f64::from(loss.to_scalar::<f32>().unwrap())
}

#[test]
fn every_adapter_of_every_layer_has_the_gradient_that_finite_differences_show() {
    const STEP: f32 = 0.02;
    let adapters = adapters();
    let gradients = loss(&adapters, true).backward().unwrap();
    let values = adapters.values().unwrap();
    let variables = adapters.variables();
    assert_eq!(variables.len(), SHAPE.layers * Target::ALL.len() * 2, "an adapter is missing");
    let at = |which: usize, along: &[f32], step: f32| {
        let mut moved = values.clone();
        moved[which].iter_mut().zip(along).for_each(|(x, d)| *x += step * d);
        adapters.set(&moved).unwrap();
        scalar(&loss(&adapters, false))
    };
    for (which, (name, var)) in variables.iter().enumerate() {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
        let gradient: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        let length = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        assert!(length > 1e-4, "{name}: the gradient is {length}");
        // Along the gradient, along two other directions, and along single numbers.
        let mut directions = vec![gradient.iter().map(|g| g / length).collect::<Vec<f32>>()];
        for seed in [1, 2] {
            let other = numbers(seed, name, gradient.len());
            let of_one = other.iter().map(|x| x * x).sum::<f32>().sqrt();
            directions.push(other.iter().map(|x| x / of_one).collect());
        }
        for single in [0, gradient.len() / 2, gradient.len() - 1] {
            directions.push((0..gradient.len()).map(|at| if at == single { 1.0 } else { 0.0 }).collect());
        }
        for along in directions {
            let expected: f32 = gradient.iter().zip(&along).map(|(g, d)| g * d).sum();
            let slope =
                |step: f32| (at(which, &along, step) - at(which, &along, -step)) / f64::from(2.0 * step);
            // Richardson's: the third derivative falls out.
            let found = (4.0 * slope(STEP / 2.0) - slope(STEP)) / 3.0;
            let off = (found - f64::from(expected)).abs();
            assert!(
                off < 3e-4 + 0.003 * f64::from(length),
                "{name}: {found} beside {expected}, length {length}"
            );
        }
        adapters.set(&values).unwrap();
    }
}

/// The same model in 64 bits, one number at a time.
struct Plain {
    tensors: BTreeMap<String, (usize, Vec<f64>)>,
}

impl Plain {
    fn new(adapters: &Adapters) -> Self {
        let mut tensors = BTreeMap::new();
        let base = base();
        let floats = |tensor: &Tensor| -> (usize, Vec<f64>) {
            let all: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            (tensor.dim(1).unwrap(), all.into_iter().map(f64::from).collect())
        };
        tensors.insert("words".to_owned(), floats(&base.words));
        tensors.insert("output".to_owned(), floats(&base.output));
        for (at, layer) in base.layers.iter().enumerate() {
            for (target, weight) in Target::ALL.iter().zip(&layer.linear) {
                tensors.insert(format!("blk.{at}.{}", target.name()), floats(weight));
            }
        }
        for (name, var) in adapters.variables() {
            tensors.insert(name, floats(var));
        }
        Self { tensors }
    }

    fn multiply(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (width, rows) = &self.tensors[name];
        assert_eq!(*width, x.len());
        rows.chunks(*width).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }

    fn linear(&self, layer: usize, target: Target, x: &[f64], scale: f64) -> Vec<f64> {
        let name = format!("blk.{layer}.{}", target.name());
        let adapted = self.multiply(&format!("{name}.lora_b"), &self.multiply(&format!("{name}.lora_a"), x));
        self.multiply(&name, x).iter().zip(adapted).map(|(y, more)| y + scale * more).collect()
    }

    fn norm(x: &[f64], scale: &[f32]) -> Vec<f64> {
        let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (square + f64::from(SHAPE.epsilon)).sqrt();
        x.iter().zip(scale).map(|(x, scale)| x * factor * f64::from(*scale)).collect()
    }

    fn turn(x: &mut [f64], place: usize) {
        for head in x.chunks_mut(SHAPE.head) {
            for pair in 0..SHAPE.head / 2 {
                let rate = f64::from(SHAPE.rope_base).powf(-2.0 * pair as f64 / SHAPE.head as f64);
                let (sine, cosine) = (place as f64 * rate).sin_cos();
                let (a, b) = (head[2 * pair], head[2 * pair + 1]);
                (head[2 * pair], head[2 * pair + 1]) = (a * cosine - b * sine, a * sine + b * cosine);
            }
        }
    }

    fn loss(&self, text: &Text<'_>, scale: f64) -> f64 {
        let base = base();
        let (width, words) = &self.tensors["words"];
        let word = |id: u32| words[id as usize * width..][..*width].to_vec();
        let mut rows: Vec<Vec<f64>> = text.tokens[..text.rows()].iter().map(|id| word(*id)).collect();
        for (at, layer) in base.layers.iter().enumerate() {
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (place, row) in rows.iter_mut().enumerate() {
                let normal = Self::norm(row, &layer.attention_norm);
                let mut queries = self.linear(at, Target::Query, &normal, scale);
                let mut key = self.linear(at, Target::Key, &normal, scale);
                Self::turn(&mut queries, place);
                Self::turn(&mut key, place);
                keys.push(key);
                values.push(self.linear(at, Target::Value, &normal, scale));
                let mut context = Vec::new();
                for (head, query) in queries.chunks(SHAPE.head).enumerate() {
                    let of = head / (SHAPE.heads / SHAPE.kv_heads) * SHAPE.head;
                    let scores: Vec<f64> = keys
                        .iter()
                        .map(|key| query.iter().zip(&key[of..]).map(|(q, k)| q * k).sum::<f64>())
                        .map(|score| (score / (SHAPE.head as f64).sqrt()).exp())
                        .collect();
                    let sum: f64 = scores.iter().sum();
                    for number in 0..SHAPE.head {
                        let of_all =
                            scores.iter().zip(&values).map(|(score, value)| score * value[of + number]);
                        context.push(of_all.sum::<f64>() / sum);
                    }
                }
                let more = self.linear(at, Target::Output, &context, scale);
                row.iter_mut().zip(more).for_each(|(x, more)| *x += more);
            }
            for row in &mut rows {
                let normal = Self::norm(row, &layer.feed_norm);
                let gate = self.linear(at, Target::Gate, &normal, scale);
                let up = self.linear(at, Target::Up, &normal, scale);
                let both: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                let more = self.linear(at, Target::Down, &both, scale);
                row.iter_mut().zip(more).for_each(|(x, more)| *x += more);
            }
        }
        let places = text.learnt_from..text.tokens.len();
        let of_place = |place: usize| {
            let scores = self.multiply("output", &Self::norm(&rows[place - 1], &base.norm));
            let sum: f64 = scores.iter().map(|x| x.exp()).sum();
            sum.ln() - scores[text.tokens[place] as usize]
        };
        places.map(of_place).sum()
    }
}

#[test]
fn the_pass_is_that_of_a_plain_one() {
    let adapters = adapters();
    let plain = Plain::new(&adapters);
    let total: usize = TEXTS.iter().map(Text::targets).sum();
    let expected: f64 = TEXTS.iter().map(|text| plain.loss(text, adapters.options.scale())).sum();
    let found = scalar(&loss(&adapters, false)) * total as f64;
    assert!((found - expected).abs() < 1e-4 * expected, "{found} beside {expected}");
}

#[test]
fn texts_side_by_side_are_texts_alone() {
    let (base, adapters) = (base(), adapters());
    let forward = Forward { base: &base, adapters: &adapters };
    let all = scalar(&forward.loss(&TEXTS, 1.0, false).unwrap());
    let alone: f64 = TEXTS.iter().map(|text| scalar(&forward.loss(&[*text], 1.0, false).unwrap())).sum();
    assert!((all - alone).abs() < 1e-4 * all, "{all} beside {alone}");
}
