//! The traits, each implemented once in memory, and one job that goes through all of them.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use ashlar_compute_api::inference::{
    Classifications, Classify, Embeddings, Generate, Inference, InferenceError, Message, Model, Piece,
    Prompt, Role, Sampling,
};
use ashlar_compute_api::jobs::{
    Job, JobEvent, JobRefusal, JobSpec, JobState, Jobs, JobsError, Kind, Limits, Output, QueryStage,
    StageError, Statement, Submitted, Unit, UnitEnd, UnitEvent, UnitInput, UnitResult, UnitState, input_root,
};
use ashlar_compute_api::terms::Shard;
use ashlar_compute_api::transcript::{Event, FinishReason, Transcript};
use ashlar_compute_api::{Address, ContentRoot, JobId, LockId};
use async_trait::async_trait;
use futures::StreamExt;
use futures::executor::block_on;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;

fn root(of: impl AsRef<[u8]>) -> ContentRoot {
    ContentRoot(*blake3::hash(of.as_ref()).as_bytes())
}

/// Says back what it was told.
struct Echo(Model);

#[async_trait]
impl Inference for Echo {
    fn model(&self) -> &Model {
        &self.0
    }

    async fn units(&self, prompt: &Prompt) -> Result<u64, InferenceError> {
        Ok(u64::try_from(said(prompt).chars().count()).unwrap())
    }

    async fn generate(
        &self,
        request: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError> {
        let (units, text) = (self.units(&request.prompt).await?, said(&request.prompt));
        let maximum = self.0.context_units_max;
        if units + request.units_max > maximum {
            return Err(InferenceError::TooLong { units: units + request.units_max, maximum });
        }
        let piece = |events, text: &str| Piece { events, text: text.into(), likelihoods: Vec::new() };
        let mut pieces = vec![piece(vec![Event::Request { request_hash: request.request_hash }], "")];
        for choice in 0..request.choices {
            let mut events: Vec<Event> = text.chars().map(|scalar| Event::Text { choice, scalar }).collect();
            events.push(Event::Finish { choice, reason: FinishReason::Stop });
            pieces.push(piece(events, &text));
        }
        let usage = Event::Usage { asked: units, answered: units * u64::from(request.choices) };
        pieces.push(piece(vec![usage], ""));
        Ok(stream::iter(pieces).map(Ok).boxed())
    }

    async fn embed(&self, texts: Vec<String>) -> Result<Embeddings, InferenceError> {
        let vectors: Vec<_> = texts.iter().map(|text| vec![text.len() as f32]).collect();
        Ok(Embeddings { vectors, units: u64::try_from(texts.len()).unwrap() })
    }

    async fn classify(&self, request: Classify) -> Result<Classifications, InferenceError> {
        let score =
            |text: &String, label: &String| if text.contains(label) { 0.0 } else { f32::NEG_INFINITY };
        let scores = |text| request.labels.iter().map(|label| score(text, label)).collect();
        let log_probabilities = request.texts.iter().map(scores).collect();
        Ok(Classifications { log_probabilities, units: u64::try_from(request.texts.len()).unwrap() })
    }
}

fn said(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Chat(messages) => messages.iter().map(|message| message.text.as_str()).collect(),
        Prompt::Text(text) => text.clone(),
    }
}

/// Jobs of one process, gone with it.
#[derive(Default)]
struct MemoryJobs(Mutex<BTreeMap<JobId, Job>>);

impl MemoryJobs {
    fn change(&self, id: JobId, event: JobEvent) -> Result<Job, JobsError> {
        let mut jobs = self.0.lock();
        let job = jobs.get_mut(&id).ok_or(JobsError::NotFound { id })?;
        *job = job.apply(event, 0)?;
        Ok(job.clone())
    }
}

#[async_trait]
impl Jobs for MemoryJobs {
    async fn submit(&self, spec: JobSpec) -> Result<Submitted, JobsError> {
        spec.check()?;
        let mut jobs = self.0.lock();
        if let Some(job) = jobs.get(&spec.id()) {
            job.is_same(&spec)?;
            return Ok(Submitted { job: job.clone(), is_new: false });
        }
        let job = Job::new(spec);
        jobs.insert(job.id, job.clone());
        Ok(Submitted { job, is_new: true })
    }

    async fn job(&self, principal: &str, id: JobId) -> Result<Job, JobsError> {
        let job = self.0.lock().get(&id).cloned();
        job.filter(|job| job.spec.statement.principal == principal).ok_or(JobsError::NotFound { id })
    }

    async fn cancel(&self, principal: &str, id: JobId) -> Result<Job, JobsError> {
        self.job(principal, id).await?;
        self.change(id, JobEvent::Cancel)
    }
}

/// Rows that stand in the statement itself, one a unit.
struct Rows;

#[async_trait]
impl QueryStage for Rows {
    async fn materialise(
        &self,
        job: &Job,
    ) -> Result<BoxStream<'static, Result<UnitInput, StageError>>, StageError> {
        let rows: Vec<_> = job.spec.statement.text.split(' ').map(root).collect();
        let units = rows.into_iter().map(|content_root| Ok(UnitInput { content_root, rows: 1 }));
        Ok(stream::iter(units).boxed())
    }

    async fn publish(
        &self,
        _job: &Job,
        results: BoxStream<'static, UnitResult>,
    ) -> Result<ContentRoot, StageError> {
        let rows: Vec<UnitResult> = results.collect().await;
        let text = |row: &UnitResult| match &row.output {
            Ok(output) => format!("{} ok {output}\n", row.number),
            Err(reason) => format!("{} failed {reason}\n", row.number),
        };
        Ok(root(rows.iter().map(text).collect::<String>()))
    }
}

fn spec(text: &str) -> JobSpec {
    JobSpec {
        statement: Statement {
            kind: Kind::Inference,
            principal: "u-1".into(),
            target: "s3://out/t".into(),
            text: text.into(),
            inputs: BTreeSet::new(),
            models: BTreeSet::new(),
            options: BTreeMap::new(),
            seed: 0,
        },
        client_key: None,
        limits: Limits { deadline: None, spend_cap: 0.into(), attempts_max: 2 },
    }
}

fn echo() -> Echo {
    Echo(Model {
        root: root("echo"),
        is_claimed: false,
        determinism_class: ContentRoot::ZERO,
        context_units_max: 30,
    })
}

fn say(text: &str) -> Generate {
    Generate {
        request_hash: root(text),
        prompt: Prompt::Chat(vec![Message { role: Role::User, text: text.into() }]),
        choices: 2,
        units_max: 10,
        sampling: Sampling {
            temperature: 0.0,
            top_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        },
        stop: Vec::new(),
        log_probabilities: None,
    }
}

/// Works a unit of a row, and returns its end: provider and buyer come to the same head.
async fn work(unit: Unit, row: &str, runtime: &dyn Inference) -> Unit {
    let lease = UnitEvent::Lease { provider: Address([1; 20]), seconds: 60 };
    let (unit, _) = unit.apply(lease, 0).unwrap();
    let fence = unit.last_fence;
    let begin = || Transcript::begin(LockId([2; 32]), unit.shard.job, unit.shard.number, fence);
    let (mut sent, mut arrived) = (begin(), begin());
    let mut pieces = match runtime.generate(say(row)).await {
        Ok(pieces) => pieces,
        Err(error) => {
            let fail = UnitEvent::Fail { fence, reason: error.to_string(), is_final: true };
            return unit.apply(fail, 0).unwrap().0;
        }
    };
    let (mut text, mut usage) = (String::new(), 0);
    while let Some(piece) = pieces.next().await {
        for event in piece.unwrap().events {
            sent.push(&event).unwrap();
            match event {
                Event::Text { choice, scalar } => {
                    arrived.text(choice, &scalar.to_string()).unwrap();
                    text.push(scalar);
                }
                other => drop(arrived.push(&other).unwrap()),
            }
            if let Event::Usage { asked, answered } = event {
                usage = asked + answered;
            }
        }
    }
    assert_eq!(sent, arrived);
    let output = Output { fence, content_root: root(text), usage };
    unit.apply(UnitEvent::Finish(output), 1).unwrap().0
}

#[test]
fn a_job_goes_through_its_three_stages() {
    block_on(async {
        let (jobs, stage, runtime) = (MemoryJobs::default(), Rows, echo());
        let rows = ["one", "much-too-long-for-the-model", "three"];
        let Submitted { job, is_new } = jobs.submit(spec(&rows.join(" "))).await.unwrap();
        assert!(is_new);
        assert!(!jobs.submit(spec(&rows.join(" "))).await.unwrap().is_new, "the same job");
        jobs.change(job.id, JobEvent::Begin).unwrap();
        let units = stage.materialise(&job).await.unwrap().map(Result::unwrap);
        let units: Vec<UnitInput> = units.collect().await;
        let count = u32::try_from(units.len()).unwrap();
        let input_root = input_root(&units);
        jobs.change(job.id, JobEvent::Materialised { input_root, units: count }).unwrap();
        let mut results = Vec::new();
        for ((number, input), row) in (0..).zip(units).zip(rows) {
            assert_eq!(input.content_root, root(row));
            let unit = work(Unit::new(Shard { job: job.id, number }, input, 2), row, &runtime).await;
            let (end, output) = match unit.state {
                UnitState::Done(output) => (UnitEnd::Done, Ok(output.content_root)),
                UnitState::Failed { reason } => (UnitEnd::Failed, Err(reason)),
                other => panic!("{other:?}"),
            };
            jobs.change(job.id, JobEvent::UnitEnded(end)).unwrap();
            results.push(UnitResult { number, output });
        }
        assert!(results[1].output.is_err(), "a row that failed is a row of the result");
        let output = stage.publish(&job, stream::iter(results).boxed()).await.unwrap();
        jobs.change(job.id, JobEvent::Published { output }).unwrap();
        let job = jobs.job("u-1", job.id).await.unwrap();
        assert_eq!(job.state, JobState::Done { output });
        assert_eq!((job.progress.done, job.progress.failed), (2, 1));
        let refused = jobs.cancel("u-1", job.id).await;
        assert_eq!(refused, Err(JobsError::Refused(JobRefusal::Ended)));
    });
}

#[test]
fn strangers_see_no_job_and_a_key_is_used_once() {
    block_on(async {
        let jobs = MemoryJobs::default();
        let keyed = |text| JobSpec { client_key: Some("k".into()), ..spec(text) };
        let job = jobs.submit(keyed("a")).await.unwrap().job;
        let refused = jobs.submit(keyed("b")).await;
        assert_eq!(refused, Err(JobsError::Refused(JobRefusal::OtherStatement { id: job.id })));
        let hidden = Err(JobsError::NotFound { id: job.id });
        assert_eq!(jobs.job("u-2", job.id).await, hidden);
        assert_eq!(jobs.cancel("u-2", job.id).await, hidden);
        let cancelled = jobs.cancel("u-1", job.id).await.unwrap();
        assert!(cancelled.has_ended());
        assert!(matches!(jobs.submit(spec("")).await, Err(JobsError::Spec(_))));
    });
}

#[test]
fn a_runtime_embeds_and_classifies() {
    block_on(async {
        let runtime = echo();
        let texts = || vec!["some spam".to_owned(), "ham".to_owned()];
        assert_eq!(runtime.embed(texts()).await.unwrap().vectors, [[9.0], [3.0]]);
        let labels = vec!["ham".into(), "spam".into()];
        let request = Classify { texts: texts(), labels, instructions: None };
        let scores = runtime.classify(request).await.unwrap().log_probabilities;
        assert_eq!(scores, [[f32::NEG_INFINITY, 0.0], [0.0, f32::NEG_INFINITY]]);
        assert_eq!(runtime.model().root, root("echo"));
    });
}
