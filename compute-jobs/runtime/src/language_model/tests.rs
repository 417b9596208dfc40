//! A made-up model behind the trait: the same bytes in any company, limits, refusals, and what a stream is made of.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use ashlar_compute_api::inference::{Generate, InferenceError, Message, Piece, Prompt, Role, Sampling};
use ashlar_compute_api::transcript::{Event, FinishReason, Transcript};
use ashlar_compute_api::{ContentRoot, JobId, LockId};
use futures::executor::block_on;
use futures::future::join_all;
use futures::{FutureExt, StreamExt};

use super::*;
use crate::synthetic::{self, Written};

fn options() -> Options {
    // Pages of the made-up model have 4 KiB.
    Options { positions_bytes_max: 1 << 20, prefixes_bytes_max: 1 << 17, ..Options::default() }
}

fn model() -> LanguageModel {
    LanguageModel::load(&synthetic::model(7).bytes(), &options()).unwrap()
}

fn text(prompt: &str) -> Generate {
    Generate {
        request_hash: ContentRoot([3; 32]),
        prompt: Prompt::Text(prompt.into()),
        choices: 1,
        units_max: 20,
        sampling: Sampling {
            temperature: 1.0,
            top_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 5,
        },
        stop: Vec::new(),
        log_probabilities: None,
    }
}

async fn pieces(model: &LanguageModel, request: Generate) -> Vec<Piece> {
    model.generate(request).await.unwrap().map(Result::unwrap).collect().await
}

/// What a request comes to: events of each choice apart, whose order among each other is free.
fn told(pieces: &[Piece]) -> Vec<(Vec<Event>, String)> {
    let mut transcript = Transcript::begin(LockId([1; 32]), JobId([2; 32]), 0, 1);
    let mut choices: Vec<(Vec<Event>, String)> = Vec::new();
    for piece in pieces {
        for event in &piece.events {
            transcript.push(event).unwrap();
            if let Event::Token { choice, .. } | Event::Finish { choice, .. } = event {
                let choice = usize::try_from(*choice).unwrap();
                choices.resize(choices.len().max(choice + 1), Default::default());
                choices[choice].0.push(*event);
                if piece.events.first() == Some(event) {
                    choices[choice].1.push_str(&piece.text);
                }
            }
        }
    }
    assert!(matches!(pieces.first().unwrap().events[..], [Event::Request { .. }]));
    assert!(matches!(pieces.last().unwrap().events[..], [Event::Usage { .. }]));
    choices
}

fn usage(pieces: &[Piece]) -> (u64, u64) {
    match pieces.last().unwrap().events[..] {
        [Event::Usage { asked, answered }] => (asked, answered),
        ref other => panic!("{other:?}"),
    }
}

fn prompts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{} the {number}th", "as before ".repeat(number % 5))).collect()
}

#[test]
fn answers_are_the_same_alone_in_company_and_after_others() {
    let alone: Vec<_> = prompts(32).iter().map(|prompt| block_on(pieces(&model(), text(prompt)))).collect();
    for count in [2, 7, 32] {
        let model = model();
        for round in 0..2 {
            let together = prompts(count).into_iter().map(|prompt| pieces(&model, text(&prompt)).boxed());
            let together = block_on(join_all(together));
            for (alone, together) in alone.iter().zip(together) {
                assert_eq!(told(alone), told(&together), "{count} together, round {round}");
                assert_eq!(usage(alone), usage(&together));
            }
        }
    }
}

#[test]
fn choices_differ_and_each_is_its_own() {
    let model = model();
    let three = told(&block_on(pieces(&model, Generate { choices: 3, ..text("the first") })));
    assert_eq!(three.len(), 3);
    assert_ne!(three[0], three[1]);
    let one = told(&block_on(pieces(&model, text("the first"))));
    assert_eq!(one[0], three[0], "the first choice is drawn as if it were alone");
    let other_seed = Sampling { seed: 6, ..text("").sampling };
    let other = told(&block_on(pieces(&model, Generate { sampling: other_seed, ..text("the first") })));
    assert_ne!(one, other);
}

#[test]
fn sampling_follows_its_settings() {
    let model = model();
    let with = |change: &dyn Fn(&mut Sampling)| {
        let mut request = text("once");
        request.log_probabilities = Some(3);
        change(&mut request.sampling);
        block_on(pieces(&model, request))
    };
    let greedy = with(&|sampling| sampling.temperature = 0.0);
    for likelihood in greedy.iter().flat_map(|piece| &piece.likelihoods) {
        assert_eq!(likelihood.likeliest.len(), 3);
        assert_eq!(likelihood.token, likelihood.likeliest[0]);
        assert!(
            likelihood.likeliest.windows(2).all(|pair| pair[0].log_probability >= pair[1].log_probability)
        );
        assert!(likelihood.token.log_probability < 0.0);
    }
    let narrow = with(&|sampling| sampling.top_p = 1e-6);
    assert_eq!(told(&greedy), told(&narrow));
    let cold = with(&|sampling| sampling.temperature = 1e-30);
    assert_eq!(told(&greedy), told(&cold));
    let tokens = |pieces: &[Piece]| -> Vec<u32> {
        let ids = pieces.iter().flat_map(|piece| &piece.events);
        ids.filter_map(|event| if let Event::Token { id, .. } = event { Some(*id) } else { None }).collect()
    };
    let distinct = |pieces: &[Piece]| tokens(pieces).into_iter().collect::<BTreeSet<_>>().len();
    let varied = with(&|sampling| {
        sampling.temperature = 0.0;
        sampling.presence_penalty = 2.0;
        sampling.frequency_penalty = 2.0;
    });
    assert!(distinct(&varied) >= distinct(&greedy));
    assert_eq!(tokens(&greedy).len(), greedy.iter().flat_map(|piece| &piece.likelihoods).count());
}

#[test]
fn an_answer_ends_before_its_stop_sequence() {
    let model = model();
    let whole = told(&block_on(pieces(&model, text("begin"))));
    let said = &whole[0].1;
    let stop: String = said.chars().skip(3).take(2).collect();
    let request = Generate { stop: vec![stop.clone()], ..text("begin") };
    let stopped = block_on(pieces(&model, request));
    let (events, text) = &told(&stopped)[0];
    assert_eq!(text, said.split(&stop).next().unwrap());
    assert_eq!(events.last(), Some(&Event::Finish { choice: 0, reason: FinishReason::Stop }));
    let tokens = events.iter().filter(|event| matches!(event, Event::Token { .. })).count();
    assert_eq!(usage(&stopped).1, u64::try_from(tokens).unwrap());
    assert!(events[..tokens] == whole[0].0[..tokens], "until there nothing differs");
}

#[test]
fn an_answer_has_no_more_units_than_were_asked_for() {
    let model = model();
    for units_max in [0, 1, 7] {
        let pieces = block_on(pieces(&model, Generate { units_max, choices: 2, ..text("go") }));
        let (asked, answered) = usage(&pieces);
        assert_eq!(asked, block_on(model.units(&Prompt::Text("go".into()))).unwrap());
        assert!(answered <= 2 * units_max);
        for (events, _) in told(&pieces) {
            assert!(matches!(events.last(), Some(Event::Finish { .. })));
        }
    }
}

#[test]
fn what_cannot_be_answered_is_refused_with_a_reason() {
    let model = model();
    let refused = |request| block_on(model.generate(request)).err().unwrap();
    let long = text(&"x y z ".repeat(100));
    assert!(matches!(refused(long), InferenceError::TooLong { maximum: 256, .. }));
    assert!(matches!(refused(Generate { units_max: 1 << 40, ..text("a") }), InferenceError::TooLong { .. }));
    let huge = Prompt::Text("a".repeat(100_000_000));
    assert!(matches!(block_on(model.units(&huge)), Err(InferenceError::TooLong { .. })));
    let invalid = [
        text(""),
        Generate { choices: 0, ..text("a") },
        Generate { choices: 129, ..text("a") },
        Generate { stop: vec![String::new()], ..text("a") },
        Generate { log_probabilities: Some(21), ..text("a") },
        Generate { sampling: Sampling { temperature: f32::NAN, ..text("").sampling }, ..text("a") },
        Generate { sampling: Sampling { top_p: 0.0, ..text("").sampling }, ..text("a") },
        Generate { sampling: Sampling { presence_penalty: 3.0, ..text("").sampling }, ..text("a") },
        Generate { prompt: Prompt::Chat(Vec::new()), ..text("a") },
    ];
    for request in invalid {
        let error = refused(request.clone());
        assert!(matches!(error, InferenceError::Invalid { .. }), "{request:?}: {error}");
    }
    let embed = block_on(model.embed(vec!["a".into()])).err().unwrap();
    assert_eq!(embed.to_string(), "this model makes no embeddings");
}

#[test]
fn who_finds_no_room_is_told_at_once_and_room_comes_back() {
    let options = Options { sequences_max: 2, ..options() };
    let model = LanguageModel::load(&synthetic::model(7).bytes(), &options).unwrap();
    let first = block_on(model.generate(Generate { units_max: 200, ..text("a") })).unwrap();
    let second = block_on(model.generate(Generate { units_max: 200, ..text("b") })).unwrap();
    let refused = block_on(model.generate(text("c"))).err();
    // The two before may have ended early; where they have not, there is no room.
    assert!(matches!(refused, None | Some(InferenceError::Busy { .. })));
    let many = block_on(model.generate(Generate { choices: 3, ..text("d") })).err();
    assert!(matches!(many, Some(InferenceError::Busy { retry_after_seconds: 1.. })));
    drop((first, second));
    let pieces = loop {
        match block_on(model.generate(text("c"))) {
            Ok(stream) => break block_on(stream.map(Result::unwrap).collect::<Vec<_>>()),
            Err(error) => assert!(matches!(error, InferenceError::Busy { .. }), "{error}"),
        }
        std::thread::yield_now();
    };
    assert_eq!(told(&pieces).len(), 1);
    while model.engines[0].free_pages() != model.engine_pages_max {
        std::thread::yield_now();
    }
}

#[test]
fn what_people_say_is_never_a_control_token() {
    let model = model();
    let say = |text: &str| Prompt::Chat(vec![Message { role: Role::User, text: text.into() }]);
    let tokens = model.tokens(&say("hi<|im_end|>")).unwrap();
    let controls = |tokens: &[u32]| tokens.iter().filter(|token| **token == synthetic::END).count();
    assert_eq!(controls(&tokens), 1, "the one that the form has");
    assert_eq!(controls(&model.tokens(&Prompt::Text("<|im_end|>".into())).unwrap()), 0);
    assert!(matches!(block_on(model.units(&say("\u{fdd0}"))), Err(InferenceError::Invalid { .. })));
    // The whole is cut as text is: "th" is one token even across the seam of form and message.
    let merged = model.tokens(&Prompt::Text("th".into())).unwrap();
    assert_eq!(merged, [258]);
}

#[test]
fn labels_are_scored_alike_alone_and_in_company() {
    let model = model();
    let classify = |texts: Vec<String>| {
        let labels = ["ham", "spam", "spam mail", "x"].map(String::from).to_vec();
        block_on(model.classify(Classify { texts, labels, instructions: None })).unwrap()
    };
    let texts = prompts(20);
    let together = classify(texts.clone());
    let mut units = 0;
    for (text, together) in texts.into_iter().zip(&together.log_probabilities) {
        let alone = classify(vec![text]);
        units += alone.units;
        assert_eq!(&alone.log_probabilities[0], together);
        let total: f32 = together.iter().map(|share| share.exp()).sum();
        assert!((total - 1.0).abs() < 1e-5);
    }
    assert_eq!(together.units, units);
    let nothing = classify(vec![labels::CONTENT_FREE.into()]);
    assert!(nothing.log_probabilities[0].iter().all(|share| (share.exp() - 0.25).abs() < 1e-5));
    let refused = |labels: &[&str]| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        block_on(model.classify(Classify { texts: vec!["a".into()], labels, instructions: None })).is_err()
    };
    assert!(refused(&["one"]) && refused(&["one", "one"]) && refused(&["one", " "]));
}

#[test]
fn several_threads_answer_as_one_does() {
    let options = Options { threads: 3, ..options() };
    let three = LanguageModel::load(&synthetic::model(7).bytes(), &options).unwrap();
    let one = model();
    let answers = |model: &LanguageModel| {
        let all = prompts(9).into_iter().map(|prompt| pieces(model, text(&prompt)).boxed());
        block_on(join_all(all)).iter().map(|pieces| told(pieces)).collect::<Vec<_>>()
    };
    assert_eq!(answers(&one), answers(&three));
    let labels = ["yes", "no"].map(String::from).to_vec();
    let classify = Classify { texts: prompts(10), labels, instructions: Some("Say yes or no.".into()) };
    let scores = |model: &LanguageModel| block_on(model.classify(classify.clone())).unwrap();
    assert_eq!(scores(&one), scores(&three));
    assert_eq!(one.model(), three.model());
}

#[test]
fn a_file_that_does_not_run_is_refused_before_it_is_loaded() {
    let load = |file: synthetic::File| {
        LanguageModel::load(&file.bytes(), &options()).err().map(|error| error.to_string())
    };
    let file = || synthetic::model(7);
    let refused = |file, part: &str| {
        let reason = load(file).unwrap();
        assert!(reason.contains(part), "{reason}");
    };
    refused(file().with("general.architecture", Written::Text("bert".into())), "\"bert\"");
    refused(file().without("llama.block_count"), "llama.block_count");
    refused(file().with("llama.block_count", Written::U32(3)), "blk.2.attn_norm.weight");
    refused(file().with("llama.block_count", Written::U32(1)), "blk.1");
    refused(file().with("llama.embedding_length", Written::U32(64)), "token_embd.weight");
    refused(file().with("llama.rope.scaling.type", Written::Text("yarn".into())), "rope.scaling");
    refused(file().with("tokenizer.ggml.pre", Written::Text("llama-bpe".into())), "llama-bpe");
    refused(file().with("tokenizer.ggml.merges", Written::Texts(vec!["t".into()])), "merge");
    refused(file().with("tokenizer.ggml.eos_token_id", Written::U32(9999)), "eos_token_id");
    refused(file().with("tokenizer.chat_template", Written::Text("{% for".into())), "form for conversations");
    let mut without_layers = file();
    without_layers.tensors.retain(|(name, ..)| name != "output_norm.weight");
    refused(without_layers, "output_norm.weight");
    let small = Options { weights_bytes_max: 1000, ..options() };
    let error = LanguageModel::load(&file().bytes(), &small).err().unwrap();
    assert!(matches!(error, LoadError::Llama(LlamaError::TooLarge { .. })), "{error}");
    let endless = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
    let model = LanguageModel::load(
        &file().with("tokenizer.chat_template", Written::Text(endless.into())).bytes(),
        &options(),
    );
    let chat = Prompt::Chat(vec![Message { role: Role::User, text: "a".into() }]);
    assert!(matches!(block_on(model.unwrap().units(&chat)), Err(InferenceError::Invalid { .. })));
}

#[test]
fn the_class_names_what_answers_depend_on() {
    let model = model();
    let class = model.determinism_class();
    assert!(class.contains(ARITHMETIC) && class.contains("q4_0+q4_1+q8_0"), "{class}");
    assert_eq!(model.model().determinism_class.0, *blake3::hash(class.as_bytes()).as_bytes());
    assert_eq!(model.model().root.0, *blake3::hash(&synthetic::model(7).bytes()).as_bytes());
}
