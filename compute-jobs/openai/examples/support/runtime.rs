//! A runtime that says back what it was told, its registry, and jobs in memory: to test the face with, and nothing else.

#![allow(dead_code, reason = "tests and the example use parts of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ashlar_compute_api::inference::{
    Classifications, Classify, Embeddings, Generate, Inference, InferenceError, LikelyToken, Model, Piece,
    Prompt, TokenLikelihood,
};
use ashlar_compute_api::jobs::{
    Job, JobEvent, JobSpec, Jobs, JobsError, StageError, Submitted, UnitEnd, input_root,
};
use ashlar_compute_api::transcript::{Event, FinishReason, Transcript};
use ashlar_compute_api::{Amount, ContentRoot, JobId, LockId};
use ashlar_openai::{BatchRunner, Caller, ModelFacts, ModelKind, ModelRefusal, Models, Price, Served};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How a model behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As it should.
    Honest,
    /// As it should, with this time before each token.
    Slow(Duration),
    /// Counts one unit more than it told.
    Inflates,
    /// Tells half of its answer and fails.
    Fails,
    /// Tells half of its answer and says no more.
    FallsSilent,
}

/// A model that runs in this process.
pub(crate) struct Echo {
    model: Model,
    manner: Manner,
    places: Arc<Semaphore>,
    /// Answers that nobody waited for until their end.
    pub(crate) given_up: Arc<AtomicUsize>,
}

/// An answer under way.
struct Telling {
    pieces: std::vec::IntoIter<Piece>,
    told: usize,
    half: usize,
    manner: Manner,
    given_up: Arc<AtomicUsize>,
    has_ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Drop for Telling {
    fn drop(&mut self) {
        if !self.has_ended {
            self.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Tokens of a text: its words, each with the space behind it.
fn words(text: &str) -> Vec<&str> {
    text.split_inclusive(' ').collect()
}

fn count(text: &str) -> u64 {
    u64::try_from(words(text).len()).unwrap_or(u64::MAX)
}

fn id(word: &str) -> u32 {
    let digest = blake3::hash(word.as_bytes());
    u32::from_be_bytes([0, digest.as_bytes()[0], digest.as_bytes()[1], digest.as_bytes()[2]])
}

fn prompt_text(prompt: &Prompt) -> &str {
    match prompt {
        Prompt::Text(text) => text,
        Prompt::Chat(messages) => messages.last().map_or("", |message| &message.text),
    }
}

/// The pieces of one choice: those of its tokens, and the one that ends it.
fn choice(request: &Generate, number: u32) -> Vec<Piece> {
    let said = prompt_text(&request.prompt);
    let whole = if number == 0 { format!("You said: {said}") } else { format!("Choice {number}: {said}") };
    let stop = request.stop.iter().filter_map(|stop| whole.find(stop).map(|at| (at, at + stop.len()))).min();
    let (mut pieces, mut at, mut reason) = (Vec::new(), 0, FinishReason::Stop);
    for word in words(&whole) {
        if u64::try_from(pieces.len()).unwrap_or(u64::MAX) == request.units_max {
            reason = FinishReason::Length;
            break;
        }
        let end = at + word.len();
        let told_end = stop.map_or(end, |(cut, _)| cut.clamp(at, end));
        let likely = |word: &str, log_probability| LikelyToken {
            id: id(word),
            bytes: word.as_bytes().to_vec(),
            log_probability,
        };
        let likelihoods = request.log_probabilities.map(|top| TokenLikelihood {
            token: likely(word, -0.5),
            likeliest: (0..top).map(|rank| likely(&format!("w{rank}"), -1.0 - f32::from(rank))).collect(),
        });
        pieces.push(Piece {
            events: vec![Event::Token { choice: number, id: id(word) }],
            text: whole[at..told_end].to_owned(),
            likelihoods: likelihoods.into_iter().collect(),
        });
        at = end;
        if stop.is_some_and(|(_, stop_end)| at >= stop_end) {
            break;
        }
    }
    let events = vec![Event::Finish { choice: number, reason }];
    pieces.push(Piece { events, ..Piece::default() });
    pieces
}

#[async_trait]
impl Inference for Echo {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn units(&self, prompt: &Prompt) -> Result<u64, InferenceError> {
        Ok(match prompt {
            Prompt::Text(text) => count(text),
            Prompt::Chat(messages) => messages.iter().map(|message| count(&message.text) + 1).sum(),
        })
    }

    async fn generate(
        &self,
        request: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| InferenceError::Busy { retry_after_seconds: 2 })?;
        let asked = self.units(&request.prompt).await?;
        let begin = Event::Request { request_hash: request.request_hash };
        let mut pieces = vec![Piece { events: vec![begin], ..Piece::default() }];
        (0..request.choices).for_each(|number| pieces.extend(choice(&request, number)));
        let is_token = |event: &&Event| matches!(event, Event::Token { .. });
        let tokens = pieces.iter().flat_map(|piece| &piece.events).filter(is_token).count();
        let answered = u64::try_from(tokens).unwrap_or(u64::MAX) + u64::from(self.manner == Manner::Inflates);
        pieces.push(Piece { events: vec![Event::Usage { asked, answered }], ..Piece::default() });
        let telling = Telling {
            half: pieces.len() / 2,
            pieces: pieces.into_iter(),
            told: 0,
            manner: self.manner,
            given_up: Arc::clone(&self.given_up),
            has_ended: false,
            _place: place,
        };
        let pieces = stream::unfold(telling, |mut telling| async move {
            telling.told += 1;
            match telling.manner {
                Manner::Slow(pause) => tokio::time::sleep(pause).await,
                Manner::Fails if telling.told > telling.half => {
                    telling.has_ended = true;
                    telling.pieces = Vec::new().into_iter();
                    telling.manner = Manner::Honest;
                    let reason = "it was told to fail".to_owned();
                    return Some((Err(InferenceError::Failed { reason }), telling));
                }
                Manner::FallsSilent if telling.told > telling.half => std::future::pending().await,
                _ => {}
            }
            let piece = telling.pieces.next();
            telling.has_ended = telling.pieces.len() == 0;
            piece.map(|piece| (Ok(piece), telling))
        });
        Ok(pieces.boxed())
    }

    async fn embed(&self, texts: Vec<String>) -> Result<Embeddings, InferenceError> {
        let _place =
            self.places.try_acquire().map_err(|_| InferenceError::Busy { retry_after_seconds: 2 })?;
        let vector = |text: &String| {
            let digest = blake3::hash(text.as_bytes());
            let numbers = digest.as_bytes()[..8].iter().map(|byte| f32::from(*byte) / 255.0);
            numbers.collect::<Vec<f32>>()
        };
        let units =
            texts.iter().map(|text| count(text)).sum::<u64>() + u64::from(self.manner == Manner::Inflates);
        Ok(Embeddings { vectors: texts.iter().map(vector).collect(), units })
    }

    async fn classify(&self, _: Classify) -> Result<Classifications, InferenceError> {
        Err(InferenceError::Invalid { reason: "it says back what it was told, and no more".to_owned() })
    }
}

/// A registry of them.
#[derive(Default)]
pub(crate) struct Registry {
    models: BTreeMap<String, (ModelFacts, Option<Arc<Echo>>)>,
}

impl Registry {
    /// Adds a model; without places it is registered and nobody runs it.
    pub(crate) fn with(mut self, name: &str, kind: ModelKind, manner: Manner, places: usize) -> Self {
        let root = |of: &str| ContentRoot(*blake3::hash(of.as_bytes()).as_bytes());
        let facts = ModelFacts {
            name: name.to_owned(),
            root: root(name),
            is_claimed: false,
            created: 1_700_000_000,
            owned_by: "ashlar".to_owned(),
            kind,
            context_units_max: 512,
            price: Price { asked: Amount::from(1), answered: Amount::from(2) },
        };
        let model = Model {
            root: facts.root,
            is_claimed: false,
            determinism_class: root("echo"),
            context_units_max: facts.context_units_max,
        };
        let places = Some(places).filter(|places| *places > 0);
        let echo = places.map(|places| {
            let (places, given_up) = (Arc::new(Semaphore::new(places)), Arc::default());
            Arc::new(Echo { model, manner, places, given_up })
        });
        self.models.insert(name.to_owned(), (facts, echo));
        self
    }

    /// The runtime of a model that has one.
    pub(crate) fn echo(&self, name: &str) -> Option<Arc<Echo>> {
        self.models.get(name).and_then(|(_, echo)| echo.clone())
    }
}

#[async_trait]
impl Models for Registry {
    async fn resolve(&self, name: &str, _: &Caller) -> Result<Served, ModelRefusal> {
        let found =
            self.models.values().find(|(facts, _)| facts.name == name || facts.root.to_string() == name);
        let (facts, echo) = found.ok_or_else(|| ModelRefusal::Unknown { name: name.to_owned() })?;
        let echo = echo.clone().ok_or(ModelRefusal::NoProvider { retry_after_seconds: 3 })?;
        let transcript = Transcript::begin(LockId::ZERO, JobId::ZERO, 0, 0);
        Ok(Served { facts: facts.clone(), inference: echo, transcript })
    }

    async fn list(&self, _: &Caller) -> Result<Vec<ModelFacts>, ModelRefusal> {
        Ok(self.models.values().map(|(facts, _)| facts.clone()).collect())
    }
}

/// Jobs of one process, gone with it; batches among them are run at once.
#[derive(Default)]
pub(crate) struct MemoryJobs {
    jobs: Mutex<BTreeMap<JobId, (Job, CancellationToken)>>,
    runner: std::sync::OnceLock<BatchRunner>,
    tasks: TaskTracker,
}

impl MemoryJobs {
    /// Says by what batches are run, once.
    pub(crate) fn run_by(&self, runner: BatchRunner) {
        assert!(self.runner.set(runner).is_ok(), "it is said once");
    }

    /// Waits for what is under way.
    pub(crate) async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    fn change(&self, id: JobId, event: JobEvent) -> Result<Job, JobsError> {
        let mut jobs = self.jobs.lock();
        let (job, _) = jobs.get_mut(&id).ok_or(JobsError::NotFound { id })?;
        *job = job.apply(event, 0)?;
        Ok(job.clone())
    }

    async fn work(&self, id: JobId, runner: BatchRunner, stop: CancellationToken) -> Result<(), JobsError> {
        self.change(id, JobEvent::Begin)?;
        let job = self.change(id, JobEvent::Materialised { input_root: input_root(&[]), units: 1 })?;
        let outcome = runner.run(&job, &stop).await;
        let end = if stop.is_cancelled() { UnitEnd::Cancelled } else { UnitEnd::Done };
        match outcome {
            Ok(output) => {
                self.change(id, JobEvent::UnitEnded(end))?;
                self.change(id, JobEvent::Published { output })?;
            }
            Err(StageError::Final { reason } | StageError::Again { reason }) => {
                self.change(id, JobEvent::Fail { reason })?;
                self.change(id, JobEvent::UnitEnded(end))?;
            }
        }
        Ok(())
    }
}

/// Jobs that are shared, because their work outlives a call.
pub(crate) struct SharedJobs(pub(crate) Arc<MemoryJobs>);

#[async_trait]
impl Jobs for SharedJobs {
    async fn submit(&self, spec: JobSpec) -> Result<Submitted, JobsError> {
        spec.check()?;
        let job = Job::new(spec);
        let (id, stop) = (job.id, CancellationToken::new());
        self.0.jobs.lock().insert(id, (job.clone(), stop.clone()));
        let jobs = Arc::clone(&self.0);
        let runner = jobs.runner.get().cloned();
        let runner =
            runner.ok_or_else(|| JobsError::Unavailable { reason: "nobody runs batches".to_owned() })?;
        self.0.tasks.spawn(async move {
            // A job that was cancelled before its work began has ended.
            drop(jobs.work(id, runner, stop).await);
        });
        Ok(Submitted { job, is_new: true })
    }

    async fn job(&self, principal: &str, id: JobId) -> Result<Job, JobsError> {
        let job = self.0.jobs.lock().get(&id).map(|(job, _)| job.clone());
        job.filter(|job| job.spec.statement.principal == principal).ok_or(JobsError::NotFound { id })
    }

    async fn cancel(&self, principal: &str, id: JobId) -> Result<Job, JobsError> {
        self.job(principal, id).await?;
        if let Some((_, stop)) = self.0.jobs.lock().get(&id) {
            stop.cancel();
        }
        self.0.change(id, JobEvent::Cancel)
    }
}
