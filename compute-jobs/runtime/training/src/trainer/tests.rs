//! Trainings learn, end, go on from checkpoints to the same bytes, and refuse what is not theirs.

use super::*;
use crate::base::testing::base;

/// Texts whose last tokens follow from their first.
fn rows(count: u32) -> Vec<Row> {
    let row = |at: u32| {
        let kind = at % 2;
        let tokens = vec![1, 10 + kind, 20 + at % 7, 30 + at % 5, 2, 4 + kind, 3];
        Row { key: format!("row-{at}"), tokens, learnt_from: 5 }
    };
    (0..count).map(row).collect()
}

fn options() -> TrainOptions {
    TrainOptions {
        learning_rate: 1e-2,
        warmup_steps: 2,
        steps_max: 12,
        validate_every: 3,
        validation_percent: 20,
        rows_at_once: 5,
        batch_rows: 16,
        ..TrainOptions::default()
    }
}

fn run(trainer: &mut Trainer<'_>, steps: u64) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    for _ in 0..steps {
        match trainer.step().unwrap() {
            Progress::Step(row) => rows.push(row),
            Progress::Ended => break,
        }
    }
    rows
}

#[test]
fn twenty_steps_on_32_rows_halve_the_loss() {
    let base = base();
    let options = TrainOptions { steps_max: 20, validation_percent: 0, batch_rows: 32, ..options() };
    let mut trainer = Trainer::new(&base, vec![], rows(32), options).unwrap();
    let told = run(&mut trainer, 100);
    let loss = |row: &MetricRow| row.values["train_loss"];
    assert_eq!(told.len(), 20);
    assert!(loss(&told[19]) < loss(&told[0]) / 2.0, "{} to {}", loss(&told[0]), loss(&told[19]));
    let words = trainer.finish().unwrap().words;
    assert_eq!(words.metrics, told);
}

#[test]
fn an_interrupted_training_ends_in_the_same_bytes() {
    let base = base();
    let data = vec![ContentRoot([8; 32])];
    let mut whole = Trainer::new(&base, data.clone(), rows(40), options()).unwrap();
    run(&mut whole, 100);
    let mut begun = Trainer::new(&base, data.clone(), rows(40), options()).unwrap();
    for at in [1, 4, 5] {
        run(&mut begun, at);
        let bytes = begun.checkpoint().unwrap();
        begun = Trainer::resume(&base, data.clone(), rows(40), options(), &bytes).unwrap();
        assert_eq!(begun.checkpoint().unwrap(), bytes);
    }
    run(&mut begun, 100);
    assert_eq!(begun.step().unwrap(), Progress::Ended);
    assert_eq!(begun.finish().unwrap(), whole.finish().unwrap());
}

#[test]
fn how_many_rows_go_at_once_changes_nothing_but_rounding() {
    let base = base();
    let gradients = |rows_at_once| {
        let options = TrainOptions { rows_at_once, ..options() };
        let trainer = Trainer::new(&base, vec![], rows(40), options).unwrap();
        trainer.pass(&trainer.batch(), true).unwrap()
    };
    let ((loss, one), (other_loss, other)) = (gradients(1), gradients(16));
    assert!((loss - other_loss).abs() < 1e-5 * loss);
    for (one, other) in one.iter().flatten().zip(other.iter().flatten()) {
        assert!((one - other).abs() < 1e-5, "{one} {other}");
    }
}

#[test]
fn what_is_held_out_is_not_learnt_from_and_ends_the_training() {
    let base = base();
    // Nothing can be learnt of rows whose ends are drawn: the loss of those held out soon rises.
    let drawn = |at: u32| {
        let end = crate::lora::numbers(3, &format!("{at}"), 1)[0];
        let end = 30 + if end > 0.0 { 1 } else { 0 } + at % 3;
        Row { key: format!("{at}"), tokens: vec![1, 5 + at % 11, end], learnt_from: 2 }
    };
    let options = TrainOptions { steps_max: 400, validate_every: 2, patience: 3, ..options() };
    let mut trainer = Trainer::new(&base, vec![], (0..48).map(drawn).collect(), options).unwrap();
    let told = run(&mut trainer, 400);
    assert!(told.len() < 400, "it never ended");
    let losses: Vec<f64> = told.iter().filter_map(|row| row.values.get("validation_loss")).copied().collect();
    let best = losses.iter().fold(f64::INFINITY, |least, loss| least.min(*loss));
    assert!(losses[losses.len() - 3..].iter().all(|loss| *loss >= best), "{losses:?}");
    let values = trainer.best.values.clone();
    trainer.adapters.set(&values).unwrap();
    let again = trainer.validation_loss().unwrap().unwrap();
    assert!((again - best).abs() < 1e-6, "kept are those of {again}, the best were {best}");
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let base = base();
    let mut trainer = Trainer::new(&base, vec![], rows(40), options()).unwrap();
    run(&mut trainer, 2);
    let bytes = trainer.checkpoint().unwrap();
    let resume =
        |data, rows, options, bytes: &[u8]| Trainer::resume(&base, data, rows, options, bytes).map(|_| ());
    resume(vec![], rows(40), options(), &bytes).unwrap();
    let other = TrainOptions { learning_rate: 2e-3, ..options() };
    let refused = [
        resume(vec![], rows(40), other, &bytes),
        resume(vec![], rows(41), options(), &bytes),
        resume(vec![ContentRoot([1; 32])], rows(40), options(), &bytes),
        resume(vec![], rows(40), options(), &trainer.finish().unwrap().bytes),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(TrainingError::Checkpoint { .. })), "{refused:?}");
    }
    assert!(matches!(resume(vec![], rows(40), options(), &bytes[..99]), Err(TrainingError::Trained(_))));
}

#[test]
fn rows_and_options_that_cannot_be_are_refused() {
    let base = base();
    let refuse = |rows, options| Trainer::new(&base, vec![], rows, options).map(|_| ()).unwrap_err();
    let with = |change: fn(&mut Row)| {
        let mut rows = rows(4);
        change(&mut rows[1]);
        rows
    };
    let wrong: [fn(&mut Row); 4] = [
        |row| row.tokens.truncate(1),
        |row| row.tokens[0] = 40,
        |row| row.learnt_from = 0,
        |row| row.learnt_from = row.tokens.len(),
    ];
    for change in wrong {
        assert!(matches!(refuse(with(change), options()), TrainingError::Row { at: 1, .. }));
    }
    assert!(matches!(refuse(vec![], options()), TrainingError::Row { .. }));
    let none = TrainOptions { batch_rows: 0, ..options() };
    assert!(matches!(refuse(rows(4), none), TrainingError::Option { name: "batch_rows", .. }));
    let rank = LoraOptions { rank: 0, ..LoraOptions::default() };
    let none = TrainOptions { lora: rank, ..options() };
    assert!(matches!(refuse(rows(4), none), TrainingError::Option { name: "rank", .. }));
}
