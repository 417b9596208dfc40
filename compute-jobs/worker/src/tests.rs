//! Units worked by a runtime that counts its calls and fails as it is told.

use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{
    Classifications, Classify, Embeddings, Generate, Inference, InferenceError, Model, Piece, Prompt,
};
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::transcript::{Event, FinishReason, Transcript};
use ashlar_compute_api::unit_data::{
    Answers, Ask, Classification, Embedding, Generation, Input, Question, Questions, QuestionsHeader, Value,
};
use ashlar_compute_api::{JobId, LockId};
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;

use crate::{Effort, WorkError, work};

const MODEL: ContentRoot = ContentRoot([1; 32]);
const CLASS: ContentRoot = ContentRoot([2; 32]);

/// Texts say what becomes of them: `bad` is invalid, `long` too long, `broken` fails, `busy` has no capacity at first.
struct Runtime {
    model: Model,
    calls: Mutex<Vec<Vec<String>>>,
    busy: Mutex<u32>,
}

impl Runtime {
    fn new() -> Arc<Self> {
        let model =
            Model { root: MODEL, is_claimed: false, determinism_class: CLASS, context_units_max: 100 };
        Arc::new(Self { model, calls: Mutex::default(), busy: Mutex::new(3) })
    }

    fn call(&self, texts: &[String]) -> Result<u64, InferenceError> {
        self.calls.lock().push(texts.to_vec());
        let has = |word: &str| texts.iter().any(|text| text.contains(word));
        if has("busy") && *self.busy.lock() > 0 {
            *self.busy.lock() -= 1;
            return Err(InferenceError::Busy { retry_after_seconds: 1 });
        }
        if has("bad") {
            return Err(InferenceError::Invalid { reason: "no".into() });
        }
        if has("long") {
            return Err(InferenceError::TooLong { units: 200, maximum: 100 });
        }
        if has("broken") {
            return Err(InferenceError::Failed { reason: "out of memory".into() });
        }
        Ok(texts.iter().map(|text| u64::try_from(text.len()).unwrap()).sum())
    }

    fn computed(&self) -> Vec<String> {
        let mut all: Vec<String> = self.calls.lock().iter().flatten().cloned().collect();
        all.sort();
        all
    }
}

#[async_trait]
impl Inference for Runtime {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn units(&self, _: &Prompt) -> Result<u64, InferenceError> {
        Ok(1)
    }

    async fn generate(
        &self,
        request: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError> {
        let Prompt::Text(text) = &request.prompt else { panic!("texts alone are asked here") };
        let asked = self.call(std::slice::from_ref(text))?;
        let request_hash = request.request_hash;
        let mut pieces = vec![Piece { events: vec![Event::Request { request_hash }], ..Piece::default() }];
        for choice in 0..request.choices {
            let said = format!("{text}!{choice}");
            let events = said.chars().map(|scalar| Event::Text { choice, scalar }).collect();
            pieces.push(Piece { events, text: said, likelihoods: Vec::new() });
            let reason = FinishReason::Stop;
            pieces.push(Piece { events: vec![Event::Finish { choice, reason }], ..Piece::default() });
        }
        pieces.push(Piece { events: vec![Event::Usage { asked, answered: 2 }], ..Piece::default() });
        // The first rows end last.
        let wait = Duration::from_millis(100_u64.saturating_sub(asked));
        let pieces = stream::iter(pieces).then(move |piece| async move {
            tokio::time::sleep(wait).await;
            Ok(piece)
        });
        Ok(pieces.boxed())
    }

    async fn embed(&self, texts: Vec<String>) -> Result<Embeddings, InferenceError> {
        let units = self.call(&texts)?;
        let vectors = texts.iter().map(|text| vec![f32::from(u16::try_from(text.len()).unwrap()), 0.5]);
        Ok(Embeddings { vectors: vectors.collect(), units })
    }

    async fn classify(&self, request: Classify) -> Result<Classifications, InferenceError> {
        let units = self.call(&request.texts)?;
        let of = |text: &String| request.labels.iter().map(|l| if text == l { 0.0 } else { -1.0 }).collect();
        Ok(Classifications { log_probabilities: request.texts.iter().map(of).collect(), units })
    }
}

fn questions(ask: Ask, texts: &[&str]) -> Questions {
    let row = |(row, text): (u64, &&str)| Question { row, input: Input::Text((*text).into()), ask: None };
    Questions {
        header: QuestionsHeader::new(MODEL, Some(CLASS), ask),
        rows: (5..).zip(texts).map(row).collect(),
    }
}

fn generation(choices: u32) -> Ask {
    Ask::Generate(Generation {
        choices,
        units_max: 9,
        temperature: 0,
        top_p: 1_000_000,
        presence_penalty: 0,
        frequency_penalty: 0,
        seed: 0,
        stop: Vec::new(),
    })
}

fn classification() -> Ask {
    Ask::Classify(Classification { labels: vec!["a".into(), "b".into()], instructions: None })
}

/// Works a unit, holds the answers against the questions, and the events against the rules of transcripts.
async fn worked(
    runtime: &Arc<Runtime>,
    questions: &Questions,
    given: Option<&Answers>,
) -> Result<(Answers, Vec<Event>), WorkError> {
    let inference: Arc<dyn Inference> = Arc::<Runtime>::clone(runtime);
    let root = ContentRoot(*blake3::hash(&questions.encode().unwrap()).as_bytes());
    let (mut events, mut rows) = (Vec::new(), 0);
    let effort = Effort { batch_rows_max: 4, generations_max: 3, ..Effort::default() };
    let answers = work(&inference, questions, root, given, effort, &mut |step| {
        events.extend(step.events);
        assert!(step.sheet.rows_done() > rows, "each step has more rows");
        rows = step.sheet.rows_done();
        let so_far = step.sheet.answers();
        assert_eq!(so_far.rows.len(), rows);
        so_far.judge_checkpoint(questions, root).unwrap();
    })
    .await?;
    answers.judge(questions, root).unwrap();
    assert_eq!(Answers::parse(&answers.encode().unwrap()).unwrap(), answers);
    let mut transcript = Transcript::begin(LockId::ZERO, JobId::ZERO, 0, 1);
    for event in &events {
        transcript.push(event).unwrap();
    }
    Ok((answers, events))
}

fn outcome(answers: &Answers) -> Vec<String> {
    let of = |result: &Result<(Value, _), ashlar_compute_api::unit_data::RowError>| match result {
        Ok((Value::Said(said), _)) => said.iter().map(|said| said.text.clone()).collect::<Vec<_>>().join(" "),
        Ok((Value::Vector(of) | Value::LogProbabilities(of), _)) => format!("{:?}", of.0),
        Err(error) => error.code.clone(),
    };
    answers.rows.iter().map(|row| of(&row.result)).collect()
}

#[tokio::test(start_paused = true)]
async fn one_bad_row_is_one_error_and_the_same_question_is_asked_once() {
    let runtime = Runtime::new();
    let texts = ["x", "bad", "x", "yyy", "long", "z", "x", "busy"];
    let (answers, events) =
        worked(&runtime, &questions(Ask::Embed(Embedding {}), &texts), None).await.unwrap();
    let long = "[3.0, 0.5]";
    let one = "[1.0, 0.5]";
    assert_eq!(outcome(&answers), [one, "invalid", one, long, "too_long", one, one, "[4.0, 0.5]"]);
    let usage = |row: usize| answers.rows[row].result.as_ref().map(|(_, usage)| usage.units()).unwrap_or(0);
    assert_eq!((0..8).map(usage).collect::<Vec<_>>(), [1, 0, 0, 3, 0, 1, 0, 4]);
    let told: u64 = events.iter().map(|e| if let Event::Usage { asked, .. } = e { *asked } else { 0 }).sum();
    assert_eq!(told, 9, "what is told is what the answers say");
    assert!(runtime.calls.lock().iter().all(|call| call.iter().filter(|text| *text == "x").count() < 2));
    let (answers, _) = worked(&runtime, &questions(classification(), &["b", "a", "c"]), None).await.unwrap();
    assert_eq!(outcome(&answers), ["[-1.0, 0.0]", "[0.0, -1.0]", "[-1.0, -1.0]"]);
}

#[tokio::test(start_paused = true)]
async fn generated_rows_are_told_in_their_order() {
    let runtime = Runtime::new();
    let unit = questions(generation(2), &["aaaa", "bad", "bbb", "cc", "bbb"]);
    let (answers, events) = worked(&runtime, &unit, None).await.unwrap();
    assert_eq!(outcome(&answers), ["aaaa!0 aaaa!1", "invalid", "bbb!0 bbb!1", "cc!0 cc!1", "bbb!0 bbb!1"]);
    let asked = |event: &Event| if let Event::Usage { asked, .. } = event { Some(*asked) } else { None };
    assert_eq!(events.iter().filter_map(asked).collect::<Vec<_>>(), [4, 3, 2]);
    assert_eq!(runtime.computed(), ["aaaa", "bad", "bbb", "cc"]);
    let (again, same) = worked(&Runtime::new(), &unit, None).await.unwrap();
    assert_eq!((again, same), (answers, events), "bytes and transcript are the same, whatever ended first");
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_after_a_checkpoint_computes_the_rest() {
    for ask in [Ask::Embed(Embedding {}), generation(1)] {
        let unit = questions(ask, &["a", "bb", "bad", "ccc", "bb", "dddd"]);
        let (whole, _) = worked(&Runtime::new(), &unit, None).await.unwrap();
        for kept in 0..=unit.rows.len() {
            let given = Answers { rows: whole.rows[..kept].to_vec(), ..whole.clone() };
            let runtime = Runtime::new();
            let (answers, _) = worked(&runtime, &unit, Some(&given)).await.unwrap();
            assert_eq!(answers, whole);
            let computed = runtime.computed();
            let again = unit.rows[..kept].iter().any(|row| {
                let Input::Text(text) = &row.input else { return false };
                computed.contains(text)
            });
            assert!(!again, "{kept} rows were given, and {computed:?} computed");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_fails_on_is_given_up_and_another_model_is_refused() {
    let runtime = Runtime::new();
    let broken = ["broken 1", "x", "broken 2", "y"];
    let (answers, _) = worked(&runtime, &questions(generation(1), &broken), None).await.unwrap();
    assert_eq!(outcome(&answers), ["failed", "x!0", "failed", "y!0"]);
    let broken = ["broken 1", "broken 2", "broken 3", "y"];
    let failed = worked(&runtime, &questions(generation(1), &broken), None).await;
    assert_eq!(failed.unwrap_err(), WorkError::Failed { times: 3, reason: "out of memory".into() });
    let mut other = questions(generation(1), &["x"]);
    other.header.model = CLASS;
    assert_eq!(
        worked(&runtime, &other, None).await.unwrap_err(),
        WorkError::OtherModel { asked: CLASS, runs: MODEL }
    );
    other.header.model = MODEL;
    other.header.determinism = Some(MODEL);
    assert_eq!(worked(&runtime, &other, None).await.unwrap_err(), WorkError::OtherClass);
    *runtime.busy.lock() = u32::MAX;
    for ask in [generation(1), Ask::Embed(Embedding {})] {
        let busy = worked(&runtime, &questions(ask, &["busy"]), None).await;
        assert_eq!(busy.unwrap_err(), WorkError::Busy);
    }
    assert_eq!(questions(generation(1), &[]).header.ask.kind(), Kind::Inference);
}
