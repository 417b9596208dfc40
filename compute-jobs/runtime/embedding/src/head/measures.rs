//! How well predictions meet truths. Labels nobody has count for nothing.

/// Measures over examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// Share of examples that were met.
    pub accuracy: f64,
    /// Mean over labels of the share of their examples that were met.
    pub balanced_accuracy: f64,
    /// Mean over labels of the harmonic mean of precision and recall.
    pub macro_f1: f64,
}

/// Measures of pairs (truth, prediction) of labels below `labels`. Of no examples all are zero.
pub fn metrics(pairs: &[(usize, usize)], labels: usize) -> Metrics {
    let (mut met, mut true_count, mut said) = (vec![0_u32; labels], vec![0_u32; labels], vec![0_u32; labels]);
    for (truth, prediction) in pairs {
        true_count[*truth] += 1;
        said[*prediction] += 1;
        if truth == prediction {
            met[*truth] += 1;
        }
    }
    let share = |part: u32, whole: u32| if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) };
    let present: Vec<usize> = (0..labels).filter(|label| true_count[*label] > 0).collect();
    let seen: Vec<usize> = (0..labels).filter(|label| true_count[*label] + said[*label] > 0).collect();
    let mean = |of: &[usize], value: &dyn Fn(usize) -> f64| {
        let count = u32::try_from(of.len()).expect("labels are at most a thousand");
        if count == 0 { 0.0 } else { of.iter().map(|label| value(*label)).sum::<f64>() / f64::from(count) }
    };
    Metrics {
        accuracy: share(met.iter().sum(), true_count.iter().sum()),
        balanced_accuracy: mean(&present, &|label| share(met[label], true_count[label])),
        macro_f1: mean(&seen, &|label| share(2 * met[label], true_count[label] + said[label])),
    }
}
