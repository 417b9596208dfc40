//! How fast a model reads, answers and classifies: `speed MODEL.gguf [rounds]`. Prints a line of JSON.
//!
//! Medians of the rounds. Reading and answering are the model alone on one thread; together and classifying go through
//! the runtime as its callers do, one thread too.

use std::time::Instant;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{Classify, Generate, Inference, Prompt, Sampling};
use ashlar_runtime::{LanguageModel, Options, Precision, Teacher};
use futures::StreamExt;
use futures::executor::block_on;
use futures::future::join_all;

const READ: usize = 512;
const ANSWER: usize = 128;
const TOGETHER: u32 = 16;
const TEXTS: usize = 1000;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn greatest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.and_then(|(token, _)| u32::try_from(token).ok()).unwrap_or(0)
}

fn say(prompt: String, choices: u32) -> Generate {
    Generate {
        request_hash: ContentRoot::ZERO,
        prompt: Prompt::Text(prompt),
        choices,
        units_max: ANSWER as u64,
        sampling: Sampling {
            temperature: 1.0,
            top_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 1,
        },
        stop: Vec::new(),
        log_probabilities: None,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().ok_or("speed MODEL.gguf [rounds]")?;
    let rounds: usize = arguments.get(1).map_or(Ok(5), |rounds| rounds.parse())?;
    let bytes = std::fs::read(path)?;

    let mut teacher = Teacher::load(&bytes, Precision::Quantised, false)?;
    let tokens = teacher.tokens(&"The quick brown fox jumps over the lazy dog. ".repeat(80))?;
    let (mut reading, mut answering) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        teacher.restart();
        let mut next = 0;
        let begin = Instant::now();
        teacher.feed(&tokens[..READ], 1, |logits| next = greatest(logits));
        reading.push(READ as f64 / begin.elapsed().as_secs_f64());
        teacher.restart();
        teacher.feed(&tokens[..16], 1, |logits| next = greatest(logits));
        let begin = Instant::now();
        for _ in 0..ANSWER {
            let token = next;
            teacher.feed(&[token], 1, |logits| next = greatest(logits));
        }
        answering.push(ANSWER as f64 / begin.elapsed().as_secs_f64());
    }
    drop(teacher);

    let options = Options { threads: 1, ..Options::default() };
    let model = LanguageModel::load(&bytes, &options)?;
    let (mut together, mut classifying) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let begin = Instant::now();
        let answers = (0..TOGETHER).map(|number| {
            let model = &model;
            async move {
                let request = say(format!("Round {round}, story {number}: once upon a time"), 1);
                let mut pieces = model.generate(request).await?;
                let mut tokens = 0usize;
                while let Some(piece) = pieces.next().await {
                    tokens += piece?.events.len();
                }
                Ok::<_, ashlar_compute_api::inference::InferenceError>(tokens)
            }
        });
        let tokens: usize = block_on(join_all(answers)).into_iter().sum::<Result<_, _>>()?;
        together.push(tokens as f64 / begin.elapsed().as_secs_f64());
    }
    let texts: Vec<String> = (0..TEXTS)
        .map(|number| {
            let what = [
                "The delivery was late",
                "I love this thing",
                "It broke on the first day",
                "Works as it should",
            ];
            format!("{} and I will tell order {number} of it.", what[number % what.len()])
        })
        .collect();
    let labels = ["positive", "negative", "neutral"].map(String::from).to_vec();
    let mut units = 0;
    for _ in 0..rounds.min(3) {
        let request = Classify { texts: texts.clone(), labels: labels.clone(), instructions: None };
        let begin = Instant::now();
        units = block_on(model.classify(request))?.units;
        classifying.push(TEXTS as f64 / begin.elapsed().as_secs_f64());
    }
    println!(
        "{{\"class\": \"{}\", \"read_tokens_per_second\": {:.1}, \"answer_tokens_per_second\": {:.1}, \
         \"answer_{TOGETHER}_together_tokens_per_second\": {:.1}, \"classified_texts_per_second\": {:.1}, \
         \"units_per_text\": {:.1}}}",
        model.determinism_class(),
        median(reading),
        median(answering),
        median(together),
        median(classifying),
        units as f64 / TEXTS as f64,
    );
    Ok(())
}
