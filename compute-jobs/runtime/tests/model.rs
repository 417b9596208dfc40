//! The real model, SmolLM2-135M-Instruct in Q4_1: what it says, and the same bytes in any company.
//!
//! Needs the model that `ops/models/fetch` brings, and fails without it.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::PathBuf;
use std::sync::OnceLock;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{Classify, Generate, Inference, Message, Piece, Prompt, Role, Sampling};
use ashlar_compute_api::transcript::{Event, FinishReason};
use ashlar_runtime::{LanguageModel, Options, Precision, Teacher};
use futures::executor::block_on;
use futures::future::join_all;
use futures::{FutureExt, StreamExt};

/// BLAKE3 of the file.
const ROOT: &str = "0x5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3";

fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let cache = std::env::var_os("ASHLAR_CACHE").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/ashlar");
        let folder = cache.unwrap_or_else(home).join("models/smollm2-135m-instruct");
        let path = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}: run ops/models/fetch", path.display()))
    })
}

fn load() -> LanguageModel {
    LanguageModel::load(file(), &Options::default()).unwrap()
}

fn model() -> &'static LanguageModel {
    static MODEL: OnceLock<LanguageModel> = OnceLock::new();
    MODEL.get_or_init(load)
}

fn chat(text: &str) -> Prompt {
    Prompt::Chat(vec![Message { role: Role::User, text: text.into() }])
}

fn say(prompt: Prompt, units_max: u64, temperature: f32) -> Generate {
    Generate {
        request_hash: ContentRoot([3; 32]),
        prompt,
        choices: 1,
        units_max,
        sampling: Sampling {
            temperature,
            top_p: 0.95,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 11,
        },
        stop: Vec::new(),
        log_probabilities: Some(2),
    }
}

async fn pieces(model: &LanguageModel, request: Generate) -> Vec<Piece> {
    model.generate(request).await.unwrap().map(Result::unwrap).collect().await
}

fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

#[test]
fn it_knows_its_bytes_its_form_of_conversations_and_a_capital() {
    let model = model();
    assert_eq!(model.model().root.to_string(), ROOT);
    assert_eq!(model.model().context_units_max, 8192);
    let question = chat("What is the capital of France?");
    // As many as transformers makes of the same conversation.
    assert_eq!(block_on(model.units(&question)).unwrap(), 37);
    let begun = Prompt::Text("Q: What is the capital of France?\nA: The capital of France is".into());
    let pieces = block_on(pieces(model, say(begun, 3, 0.0)));
    assert!(text(&pieces).starts_with(" Paris"), "{}", text(&pieces));
    let finish = pieces.iter().flat_map(|piece| &piece.events).rev().nth(1).unwrap();
    assert_eq!(*finish, Event::Finish { choice: 0, reason: FinishReason::Length });
}

#[test]
fn text_is_cut_as_the_model_was_taught() {
    let teacher = Teacher::load(file(), Precision::Quantised, false).unwrap();
    let cut = |text: &str| teacher.tokens(text).unwrap();
    // As transformers cuts it (`ops/models/language_reference check` compares many).
    assert_eq!(cut("Hello world, it is 2024!"), [19556, 905, 28, 357, 314, 216, 34, 32, 34, 36, 17]);
    assert_eq!(
        cut("a  b\n\n c\t1234 don't 日本語 🙂"),
        [
            81, 216, 278, 1116, 265, 197, 33, 34, 35, 36, 1326, 982, 17097, 241, 115, 40993, 179, 120, 248,
            47526
        ]
    );
    assert!(cut("").is_empty());
}

#[test]
fn the_same_bytes_alone_in_batches_and_after_prefix_reuse() {
    const UNITS: u64 = 8;
    let shared =
        "You are asked about numbers. Think of the one that is named and say something of it. ".repeat(2);
    let prompts: Vec<Prompt> =
        (0..32).map(|number| chat(&format!("{shared}The number is {number}."))).collect();
    // Each alone, on a model that has seen nothing but those before; the first two on fresh ones besides.
    let alone: Vec<_> =
        prompts.iter().map(|prompt| block_on(pieces(model(), say(prompt.clone(), UNITS, 0.9)))).collect();
    for (prompt, alone) in prompts.iter().zip(&alone).take(2) {
        assert_eq!(&block_on(pieces(&load(), say(prompt.clone(), UNITS, 0.9))), alone, "before any reuse");
    }
    for count in [2, 7, 32] {
        let fresh = load();
        let together = prompts.iter().take(count);
        let together = together.map(|prompt| pieces(&fresh, say(prompt.clone(), UNITS, 0.9)).boxed());
        for (alone, together) in alone.iter().zip(block_on(join_all(together))) {
            assert_eq!(alone, &together, "{count} together");
        }
    }
}

#[test]
fn plain_instructions_say_the_same_as_the_fastest() {
    let tokens: Vec<u32> = (0..40).map(|number| 1000 + number * 37).collect();
    let scores = |is_portable| {
        let mut teacher = Teacher::load(file(), Precision::Quantised, is_portable).unwrap();
        let mut scores = Vec::new();
        teacher.feed(&tokens, 2, |logits| scores.extend(logits.iter().map(|logit| logit.to_bits())));
        scores
    };
    assert!(scores(true) == scores(false), "scores differ in some bits");
}

#[test]
fn quantised_scores_are_near_the_full_ones() {
    let scores = |precision| {
        let mut teacher = Teacher::load(file(), precision, false).unwrap();
        let tokens = teacher.tokens("The sun rises in the east and sets in the west, and the moon").unwrap();
        let mut scores: Vec<Vec<f64>> = Vec::new();
        teacher.feed(&tokens, tokens.len(), |logits| {
            let powers: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp()).collect();
            let total: f64 = powers.iter().sum();
            scores.push(powers.into_iter().map(|power| power / total).collect());
        });
        scores
    };
    let (full, quantised) = (scores(Precision::Full), scores(Precision::Quantised));
    let divergence = |(full, quantised): (&Vec<f64>, &Vec<f64>)| -> f64 {
        full.iter().zip(quantised).map(|(p, q)| if *p > 0.0 { p * (p / q).ln() } else { 0.0 }).sum()
    };
    let mean = full.iter().zip(&quantised).map(divergence).sum::<f64>() / full.len() as f64;
    assert!(mean < 0.02, "{mean} nats");
}

#[test]
fn labels_follow_the_text() {
    let texts =
        ["I love it, this is wonderful.", "Terrible. It broke and I hate it."].map(String::from).to_vec();
    let labels = ["positive", "negative"].map(String::from).to_vec();
    let told = block_on(model().classify(Classify { texts, labels, instructions: None })).unwrap();
    let lead: Vec<f32> = told.log_probabilities.iter().map(|of| of[0] - of[1]).collect();
    assert!(lead[0] > lead[1], "{lead:?}");
}
