//! The encoder and the runtimes on a tiny model: bytes that do not depend on the batch, bounds, cancelling, heads.

use std::sync::Arc;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{
    Classify, Generate, Inference, InferenceError, Message, Prompt, Role, Sampling,
};
use ashlar_embedding::{
    ClassifyingRuntime, EmbeddingRuntime, Encoder, Example, Head, HeadError, RuntimeLimits, TEXT_BYTES_MAX,
    Tokens, TrainOptions, Workspace, train,
};
use futures::FutureExt;
use futures::executor::block_on;

use super::tiny;

fn texts(count: usize) -> Vec<String> {
    let words = ["the", "cat", "sat", "on", "a", "mat", ".", "dog", "ab", "bba", "zebra", ""];
    let text = |at: usize| {
        (0..at * 7 % 41).map(|n| words[(at * 5 + n * n) % words.len()]).collect::<Vec<_>>().join(" ")
    };
    (0..count).map(text).collect()
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|x| x.to_bits()).collect()
}

fn alone(encoder: &Encoder, text: &str) -> Vec<u32> {
    let tokens = encoder.tokens(text).unwrap();
    bits(&encoder.embed(&[tokens], &mut Workspace::default()).vectors[0])
}

#[test]
fn a_text_is_the_same_bytes_alone_and_in_any_batch() {
    let encoder = tiny::encoder();
    let texts = texts(100);
    let mut workspace = Workspace::default();
    for size in [2, 7, 32, 100] {
        for batch in texts.chunks(size) {
            let tokens: Vec<Tokens> = batch.iter().map(|text| encoder.tokens(text).unwrap()).collect();
            let embedded = encoder.embed(&tokens, &mut workspace);
            let units: usize = tokens.iter().map(Tokens::count).sum();
            assert_eq!(embedded.units, u64::try_from(units).unwrap());
            for (text, vector) in batch.iter().zip(&embedded.vectors) {
                assert_eq!(bits(vector), alone(&encoder, text), "{text:?} among {size}");
                let length: f32 = vector.iter().map(|x| x * x).sum();
                assert!((length - 1.0).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn texts_are_cut_at_the_models_maximum() {
    let encoder = tiny::encoder();
    let long = "cat ".repeat(1_000);
    assert_eq!(encoder.tokens(&long).unwrap().count(), tiny::POSITIONS);
    assert_eq!(alone(&encoder, &long), alone(&encoder, &"cat ".repeat(30)));
    assert_ne!(alone(&encoder, &long), alone(&encoder, &"cat ".repeat(29)));
    assert_eq!(encoder.tokens("").unwrap().count(), 2);
    assert!(encoder.tokens(&"x".repeat(TEXT_BYTES_MAX + 1)).is_err());
}

fn start(limits: RuntimeLimits) -> EmbeddingRuntime {
    EmbeddingRuntime::start(Arc::new(tiny::encoder()), limits).unwrap()
}

#[test]
fn a_runtime_answers_in_the_order_of_the_texts() {
    let encoder = tiny::encoder();
    let runtime = start(RuntimeLimits { threads: 3, ..RuntimeLimits::default() });
    let texts = texts(200);
    let embedded = block_on(runtime.embed(texts.clone())).unwrap();
    assert_eq!(runtime.model().root, encoder.root());
    assert_eq!(embedded.vectors.len(), 200);
    for (text, vector) in texts.iter().zip(&embedded.vectors) {
        assert_eq!(bits(vector), alone(&encoder, text));
    }
    let units =
        texts.iter().map(|text| block_on(runtime.units(&Prompt::Text(text.clone()))).unwrap()).sum::<u64>();
    assert_eq!(embedded.units, units);
}

fn is_invalid<T>(answer: Result<T, InferenceError>) -> bool {
    matches!(answer, Err(InferenceError::Invalid { .. }))
}

#[test]
fn what_such_a_model_does_not_do_is_said() {
    let runtime = start(RuntimeLimits { request_texts_max: 3, ..RuntimeLimits::default() });
    let sampling =
        Sampling { temperature: 0.0, top_p: 1.0, presence_penalty: 0.0, frequency_penalty: 0.0, seed: 0 };
    let generate = Generate {
        request_hash: ContentRoot::ZERO,
        prompt: Prompt::Text("the".into()),
        choices: 1,
        units_max: 1,
        sampling,
        stop: vec![],
        log_probabilities: None,
    };
    assert!(is_invalid(block_on(runtime.generate(generate))));
    let classify = Classify { texts: texts(1), labels: vec!["a".into(), "b".into()], instructions: None };
    assert!(is_invalid(block_on(runtime.classify(classify))));
    let chat = Prompt::Chat(vec![Message { role: Role::User, text: "the".into() }]);
    assert!(is_invalid(block_on(runtime.units(&chat))));
    assert!(is_invalid(block_on(runtime.embed(vec![]))));
    assert!(is_invalid(block_on(runtime.embed(texts(4)))));
    assert!(is_invalid(block_on(runtime.embed(vec!["x".repeat(TEXT_BYTES_MAX + 1)]))));
}

#[test]
fn a_full_queue_says_so_at_once_and_forgets_who_left() {
    let limits = RuntimeLimits { threads: 1, texts_max: 1_000, ..RuntimeLimits::default() };
    let runtime = start(limits);
    let mut first = Box::pin(runtime.embed(texts(900)));
    assert!(first.as_mut().now_or_never().is_none(), "it waits");
    let second = runtime.embed(texts(101)).now_or_never().expect("told at once");
    assert!(matches!(second, Err(InferenceError::Busy { retry_after_seconds: 1.. })), "{second:?}");
    let mut third = Box::pin(runtime.embed(texts(100)));
    assert!(third.as_mut().now_or_never().is_none(), "it fits");
    drop(first);
    assert_eq!(block_on(third).unwrap().vectors.len(), 100);
    // Behind the third, whatever was left of the first has been given up.
    assert_eq!(block_on(runtime.embed(texts(1_000))).unwrap().vectors.len(), 1_000);
}

#[test]
fn a_runtime_that_ends_fails_what_waits() {
    let runtime = start(RuntimeLimits { threads: 1, ..RuntimeLimits::default() });
    let limits = RuntimeLimits::default();
    let (ended, waiting) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut request = Box::pin(runtime.embed(texts(limits.request_texts_max)));
            let was_told = request.as_mut().now_or_never().is_some();
            drop(request);
            was_told
        });
        (true, waiting.join().unwrap())
    });
    assert!(ended && !waiting);
    // Joins its thread, which leaves the pieces that nobody waits for.
    drop(runtime);
}

#[test]
fn a_head_classifies_for_the_model_that_it_stands_on() {
    let encoder = Arc::new(tiny::encoder());
    let mut workspace = Workspace::default();
    let text = |at: usize| {
        format!("the {} sat on {}", if at.is_multiple_of(2) { "cat" } else { "dog" }, "a ".repeat(at % 9))
    };
    let examples: Vec<Example> = (0..80)
        .map(|at| {
            let tokens = encoder.tokens(&text(at)).unwrap();
            let vector = encoder.embed(&[tokens], &mut workspace).vectors.remove(0);
            Example {
                key: format!("{at}"),
                vector,
                label: if at.is_multiple_of(2) { "cat" } else { "dog" }.into(),
            }
        })
        .collect();
    let options = TrainOptions { l2: 1e-8, patience: 100, ..TrainOptions::default() };
    let trained = train(encoder.root(), vec![], &examples, &options, |_| ()).unwrap();
    assert!(trained.validation.accuracy > 0.9, "{:?}", trained.validation);
    let head = Head::from_bytes(&trained.bytes).unwrap();
    let runtime = ClassifyingRuntime::start(Arc::clone(&encoder), head, RuntimeLimits::default()).unwrap();
    assert_eq!(runtime.model().root, trained.head.root());
    let ask = |labels: &[&str], instructions: Option<&str>| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let request =
            Classify { texts: vec![text(4), text(5)], labels, instructions: instructions.map(Into::into) };
        block_on(runtime.classify(request))
    };
    let answer = ask(&["dog", "cat"], None).unwrap().log_probabilities;
    assert!(answer[0][1] > answer[0][0] && answer[1][0] > answer[1][1], "{answer:?}");
    assert!(is_invalid(ask(&["dog", "bird"], None)));
    assert!(is_invalid(ask(&["dog", "cat"], Some("Be kind."))));
    assert!(is_invalid(block_on(runtime.embed(texts(1)))));

    let foreign = train(ContentRoot([1; 32]), vec![], &examples, &TrainOptions::default(), |_| ()).unwrap();
    let refused = ClassifyingRuntime::start(encoder, foreign.head, RuntimeLimits::default());
    assert!(matches!(refused, Err(HeadError::Trained(_))));
}
