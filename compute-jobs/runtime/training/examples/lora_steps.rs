//! Steps of LoRA on a GGUF model with rows of tokens from a JSON list, for `ops/models/lora_reference`.
//!
//! `lora_steps MODEL.gguf ROWS.json STEPS`: each step's seconds and loss, one line each. A row is `[learnt_from, [ids…]]`.

use std::time::Instant;

use ashlar_training::{Base, Progress, Row, TrainOptions, Trainer};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, rows, steps] = arguments.as_slice() else { panic!("lora_steps MODEL.gguf ROWS.json STEPS") };
    let base =
        Base::from_gguf(&std::fs::read(model).expect("a file")).expect("a model that can be trained on");
    let rows: Vec<(usize, Vec<u32>)> =
        serde_json::from_slice(&std::fs::read(rows).expect("a file")).expect("rows of tokens");
    let row = |(at, (learnt_from, tokens))| Row { key: format!("{at}"), tokens, learnt_from };
    let rows: Vec<Row> = rows.into_iter().enumerate().map(row).collect();
    let options = TrainOptions {
        steps_max: steps.parse().expect("a number"),
        batch_rows: rows.len(),
        rows_at_once: rows.len(),
        validation_percent: 0,
        learning_rate: 1e-3,
        ..TrainOptions::default()
    };
    let mut trainer = Trainer::new(&base, vec![], rows, options).expect("a training");
    loop {
        let begun = Instant::now();
        match trainer.step().expect("a step") {
            Progress::Step(row) => {
                println!("{:.3} {:.6}", begun.elapsed().as_secs_f64(), row.values["train_loss"])
            }
            Progress::Ended => break,
        }
    }
}
