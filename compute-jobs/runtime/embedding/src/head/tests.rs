//! Heads learn what can be learnt, say what they are, and are refused where they are something else.

use super::*;

fn numbers(mut state: u64) -> impl FnMut() -> f32 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from(u16::try_from(state >> 48).unwrap()) / 32_768.0 - 1.0
    }
}

/// Three clouds, the first with many more examples than the others.
fn examples(noise: f32) -> Vec<Example> {
    let mut next = numbers(11);
    (0..600)
        .map(|at| {
            let label = match at % 12 {
                0 => 1,
                1 => 2,
                _ => 0,
            };
            let mut vector: Vec<f32> = (0..8).map(|_| noise * next()).collect();
            vector[label] += 1.0;
            Example { key: format!("row-{at}"), vector, label: ["ham", "news", "spam"][label].into() }
        })
        .collect()
}

fn base() -> ContentRoot {
    ContentRoot([3; 32])
}

#[test]
fn a_head_learns_and_says_how_well() {
    let mut rows = Vec::new();
    let options = TrainOptions::default();
    let trained = train(base(), vec![], &examples(0.5), &options, |row| rows.push(row.clone())).unwrap();
    assert!(trained.validation.balanced_accuracy > 0.95, "{:?}", trained.validation);
    assert_eq!(trained.head.trained().metrics, rows);
    let losses: Vec<f64> = rows.iter().map(|row| row.values["train_loss"]).collect();
    assert!(losses.windows(2).all(|pair| pair[1] <= pair[0]), "{losses:?}");
    let label = |vector: &[f32]| {
        let p = trained.head.log_probabilities(vector);
        assert!((p.iter().map(|p| f64::from(*p).exp()).sum::<f64>() - 1.0).abs() < 1e-6);
        (0..3).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap()
    };
    for at in 0..3 {
        let mut vector = vec![0.0; 8];
        vector[at] = 1.0;
        assert_eq!(label(&vector), at);
    }
    assert_eq!(trained.head.trained().labels, ["ham", "news", "spam"]);
}

#[test]
fn the_same_examples_are_the_same_bytes() {
    let train = |seed| {
        let options = TrainOptions { seed, ..TrainOptions::default() };
        train(base(), vec![ContentRoot([4; 32])], &examples(1.5), &options, |_| ()).unwrap()
    };
    assert_eq!(train(1).bytes, train(1).bytes);
    assert_ne!(train(1).bytes, train(2).bytes, "another seed holds out others");
}

#[test]
fn an_example_stays_on_its_side_whatever_else_there_is() {
    let options = TrainOptions::default();
    let held = |count: usize| {
        (0..count).filter(|at| split_of(&format!("row-{at}"), &options) == Split::Validation).count()
    };
    let share = held(10_000);
    assert!((1_800..2_200).contains(&share), "{share} of 10,000");
}

#[test]
fn training_stops_when_nothing_better_comes() {
    let options = TrainOptions { l2: 1e-9, patience: 3, epochs_max: 500, ..TrainOptions::default() };
    let trained = train(base(), vec![], &examples(3.0), &options, |_| ()).unwrap();
    let metrics = &trained.head.trained().metrics;
    assert!(metrics.len() < 500, "{} epochs", metrics.len());
    let losses: Vec<f64> = metrics.iter().map(|row| row.values["validation_loss"]).collect();
    let best = losses.iter().position(|loss| losses.iter().all(|other| loss <= other)).unwrap();
    assert!(losses.len() - 1 - best <= 3, "the best is {best} of {}", losses.len());
}

#[test]
fn weights_of_classes_help_the_rare_ones() {
    let train = |is_balanced| {
        let options = TrainOptions { is_balanced, ..TrainOptions::default() };
        train(base(), vec![], &examples(2.0), &options, |_| ()).unwrap().validation
    };
    assert!(train(true).balanced_accuracy > train(false).balanced_accuracy);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let refuse = |examples: &[Example], options: &TrainOptions| {
        train(base(), vec![], examples, options, |_| ()).unwrap_err()
    };
    let options = TrainOptions::default();
    assert_eq!(refuse(&[], &options), TrainError::Examples { count: 0 });
    let mut short = examples(0.5);
    short[7].vector.pop();
    assert_eq!(refuse(&short, &options), TrainError::Vector { at: 7, expected: 8 });
    short[7].vector.push(f32::NAN);
    assert_eq!(refuse(&short, &options), TrainError::Vector { at: 7, expected: 8 });
    let mut alone = examples(0.5);
    alone[0].label = "only once".into();
    assert!(matches!(refuse(&alone, &options), TrainError::Labels { .. }));
    let none = TrainOptions { validation_percent: 0, ..options };
    assert!(matches!(refuse(&examples(0.5), &none), TrainError::Option { name: "validation_percent", .. }));
}

#[test]
fn measures_are_those_of_the_books() {
    let pairs = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 2)];
    let found = metrics(&pairs, 4);
    assert!((found.accuracy - 4.0 / 6.0).abs() < 1e-12);
    assert!((found.balanced_accuracy - (2.0 / 3.0 + 0.5 + 1.0) / 3.0).abs() < 1e-12);
    assert!((found.macro_f1 - (2.0 / 3.0 + 0.5 + 1.0) / 3.0).abs() < 1e-12);
    assert_eq!(metrics(&[], 2), Metrics { accuracy: 0.0, balanced_accuracy: 0.0, macro_f1: 0.0 });
}

#[test]
fn a_file_that_is_no_head_is_refused() {
    let trained = train(base(), vec![], &examples(0.5), &TrainOptions::default(), |_| ()).unwrap();
    let head = Head::from_bytes(&trained.bytes).unwrap();
    assert_eq!(head, trained.head);
    let reversed: Vec<String> = head.trained().labels.iter().rev().cloned().collect();
    assert_eq!(head.order_of(&reversed), Ok(vec![2, 1, 0]));
    let refused = HeadError::Labels { expected: head.trained().labels.clone() };
    assert_eq!(head.order_of(&reversed[1..]), Err(refused.clone()));
    assert_eq!(head.order_of(&["ham".into(), "ham".into(), "spam".into()]), Err(refused));
    let mut words = head.trained().clone();
    words.labels.pop();
    let bytes = Head::to_bytes(&words, 8, vec![0.0; 24], vec![0.0; 3]).unwrap();
    assert!(matches!(Head::from_bytes(&bytes), Err(HeadError::Shape { .. })));
    words.kind = TrainedKind::Lora;
    let bytes = Head::to_bytes(&words, 8, vec![0.0; 16], vec![0.0; 2]).unwrap();
    assert!(matches!(Head::from_bytes(&bytes), Err(HeadError::Trained(TrainedError::Kind { .. }))));
}
