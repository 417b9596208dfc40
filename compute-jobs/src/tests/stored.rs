//! Jobs over rows on a real store, worked by a runtime of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ashlar_compute_api::inference::{
    Classifications, Classify, Embeddings, Generate, Inference, InferenceError, Model, Piece, Prompt,
};
use ashlar_compute_api::jobs::{
    End, Input, Job, JobSpec, JobState, Jobs, Kind, Limits, QueryStage, Statement, UnitObjects, UnitResult,
};
use ashlar_compute_api::unit_data::{
    self, AnswerLine, AnswersHeader, Ask, Embedding, Question, QuestionsHeader,
};
use ashlar_compute_api::{Address, ContentRoot, JobId};
use ashlar_objects::access::RequestContext;
use ashlar_objects::clock::Clock;
use ashlar_objects::requests::{CreateBucket, ListObjects, ObjectName, ReadObject, Selection};
use ashlar_objects::testing::{TestStore, request_of};
use ashlar_objects::types::{BucketName, Conditions, ObjectKey};
use ashlar_objects::{Error, Store};
use ashlar_worker::Effort;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::stand_ins::MODEL;
use crate::ledger::Ledger;
use crate::publication::{as_principal, publish, published};
use crate::store_objects::body;
use crate::{
    Coordinator, CoordinatorConfig, CoordinatorParts, DurableJobs, LocalRuntime, LocalWorkers, Quotas,
    ROWS_TEXT, RowsStage, Stages, StoreObjects,
};

/// Makes vectors of lengths; texts that it was told are bad fail.
struct Lengths {
    model: Model,
    asked: Mutex<Vec<String>>,
    bad: Mutex<BTreeSet<String>>,
}

#[async_trait]
impl Inference for Lengths {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn units(&self, _: &Prompt) -> Result<u64, InferenceError> {
        Ok(1)
    }

    async fn generate(
        &self,
        _: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError> {
        Err(InferenceError::Invalid { reason: "it makes vectors".into() })
    }

    async fn embed(&self, texts: Vec<String>) -> Result<Embeddings, InferenceError> {
        if texts.iter().any(|text| self.bad.lock().contains(text)) {
            return Err(InferenceError::Failed { reason: "a bad day".into() });
        }
        let units = u64::try_from(texts.len()).unwrap();
        let vectors = texts.iter().map(|text| vec![f32::from(u16::try_from(text.len()).unwrap())]).collect();
        self.asked.lock().extend(texts);
        Ok(Embeddings { vectors, units })
    }

    async fn classify(&self, _: Classify) -> Result<Classifications, InferenceError> {
        Err(InferenceError::Invalid { reason: "it makes vectors".into() })
    }
}

struct Bench {
    test: TestStore,
    ann: RequestContext,
    ann_id: String,
    runtime: Arc<Lengths>,
    objects: Arc<dyn UnitObjects>,
    jobs: DurableJobs,
    wake: Arc<Notify>,
}

fn bucket(name: &str) -> BucketName {
    BucketName::new(name).unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

impl Bench {
    async fn new() -> Self {
        let test = TestStore::new().await;
        let user = test.store.users().add_user(&request_of("root", true), "ann").await.unwrap();
        let ann = request_of(&user.id, false);
        let request = CreateBucket {
            bucket: bucket("data"),
            acl: None,
            object_lock: false,
            ownership: None,
            location: None,
        };
        test.store.create_bucket(&ann, request).await.unwrap();
        let model = Model {
            root: MODEL,
            is_claimed: false,
            determinism_class: ContentRoot::ZERO,
            context_units_max: 100,
        };
        let runtime = Arc::new(Lengths { model, asked: Mutex::default(), bad: Mutex::default() });
        let objects: Arc<dyn UnitObjects> = Arc::new(StoreObjects::new(test.store.clone()));
        let wake = Arc::new(Notify::new());
        let jobs = DurableJobs::new(Self::ledger_of(&test), Quotas::default(), Arc::clone(&wake));
        Self { test, ann, ann_id: user.id, runtime, objects, jobs, wake }
    }

    fn ledger_of(test: &TestStore) -> Ledger {
        let seconds = || u64::try_from(Clock::System.now().0 / 1_000).unwrap();
        Ledger::new(Arc::clone(&test.kv), Arc::new(seconds))
    }

    fn stage(&self) -> Arc<RowsStage> {
        Arc::new(RowsStage::new(self.test.store.clone(), Arc::clone(&self.objects)))
    }

    fn coordinator(&self) -> Coordinator {
        let runtime = LocalRuntime {
            inference: Arc::<Lengths>::clone(&self.runtime),
            kinds: vec![Kind::Embedding],
            units_max: 2,
            effort: Effort::default(),
        };
        let runtimes = [(Address([5; 20]), runtime)];
        Coordinator::new(CoordinatorParts {
            ledger: Self::ledger_of(&self.test),
            objects: Arc::clone(&self.objects),
            workers: Arc::new(LocalWorkers::new(runtimes, Arc::clone(&self.objects), true)),
            stages: Stages::default().with("rows", self.stage()),
            rules: Arc::new(self.test.store.clone()),
            config: CoordinatorConfig { tick: Duration::from_millis(20), ..CoordinatorConfig::default() },
            wake: Arc::clone(&self.wake),
            is_alone: true,
        })
    }

    async fn put(&self, name: &str, text: String) -> ContentRoot {
        let request = crate::store_objects::put(bucket("data"), key(name), body(Bytes::from(text)));
        let written = self.test.store.put_object(&self.ann, request).await.unwrap();
        ContentRoot(written.content_root.0.0)
    }

    async fn get(&self, cx: &RequestContext, name: &str) -> Result<Vec<u8>, Error> {
        read(&self.test.store, cx, "data", name).await
    }

    async fn spec(&self, name: &str, text: String) -> JobSpec {
        let content_root = self.put(name, text).await;
        let input = Input { bucket: "data".into(), key: name.into(), version: [0; 16], content_root };
        JobSpec {
            statement: Statement {
                kind: Kind::Embedding,
                principal: self.ann_id.clone(),
                target: format!("s3://data/{name}.answers"),
                text: ROWS_TEXT.into(),
                inputs: BTreeSet::from([input]),
                models: BTreeSet::from([MODEL]),
                options: BTreeMap::new(),
                seed: 0,
            },
            client_key: None,
            limits: Limits { deadline: None, spend_cap: 0.into(), attempts_max: 2 },
        }
    }

    async fn run(&self, id: JobId) -> Job {
        let stop = CancellationToken::new();
        let coordinator = self.coordinator();
        let until_ended = async {
            loop {
                let job = self.jobs.job(&self.ann_id, id).await.unwrap();
                if job.has_ended() {
                    stop.cancel();
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (job, ()) = tokio::join!(until_ended, coordinator.run(&stop));
        job
    }
}

async fn read(store: &Store, cx: &RequestContext, from: &str, name: &str) -> Result<Vec<u8>, Error> {
    let name = ObjectName { bucket: bucket(from), key: key(name), version: None };
    let request = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
    let mut read = store.get_object(cx, request).await?;
    let mut all = Vec::new();
    while let Some(piece) = read.body.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

fn file(texts: impl IntoIterator<Item = String>) -> String {
    let header = QuestionsHeader::new(MODEL, None, Ask::Embed(Embedding {}));
    let row = |(row, text)| Question { row, input: unit_data::Input::Text(text), ask: None }.text();
    let rows: Vec<String> = (0..).zip(texts).map(row).collect();
    format!("{}\n{}\n", header.text(), rows.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_questions_becomes_a_file_of_answers() {
    let bench = Bench::new().await;
    let spec = bench.spec("q", file((0..700).map(|n| "x".repeat(n % 50 + 1)))).await;
    let submitted = bench.jobs.submit(spec.clone()).await.unwrap().job;
    let job = bench.run(submitted.id).await;
    assert!(matches!(job.state, JobState::Done { .. }), "{:?}", job.state);
    assert_eq!((job.progress.units, job.progress.done), (3, 3));
    let bytes = bench.get(&bench.ann, "q.answers").await.unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let mut lines = text.lines();
    let header = AnswersHeader::read(lines.next().unwrap().as_bytes()).unwrap();
    assert_eq!(Some(header.questions), spec.statement.inputs.first().map(|input| input.content_root));
    let rows: Vec<AnswerLine> = lines.map(|line| AnswerLine::read(line.as_bytes()).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), (0..700).collect::<Vec<_>>());
    assert!(rows.iter().all(|row| row.result.is_ok()));
    let JobState::Done { output } = job.state else { panic!("it is done") };
    assert_eq!(output.0, *blake3::hash(&bytes).as_bytes());
    // The same question is asked once a unit; the same job is the same job.
    assert_eq!(bench.runtime.asked.lock().len(), 150);
    assert_eq!(bench.jobs.submit(spec).await.unwrap().job.state, JobState::Done { output });
    let summary = bench.jobs.summary(Some(&bench.ann_id), submitted.id).await.unwrap();
    assert_eq!(summary.progress.done, 3);
    let units = bench.jobs.units(None, submitted.id, 1, 1).await.unwrap();
    assert_eq!((units.units.len(), units.next), (1, Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_or_takes_the_place_of_units() {
    let bench = Bench::new().await;
    let spec = bench.spec("q", file(["a".to_owned()])).await;
    let id = bench.jobs.submit(spec).await.unwrap().job.id;
    bench.run(id).await;
    let list = |cx: RequestContext| {
        let request = ListObjects {
            bucket: bucket("ashlar-jobs"),
            prefix: String::new(),
            delimiter: None,
            after: None,
            max: 10,
        };
        let store = bench.test.store.clone();
        async move { store.list_objects(&cx, request).await }
    };
    let page = list(crate::store_objects::system()).await.unwrap();
    assert_eq!(page.objects.len(), 3, "questions, answers and the mark of what was published");
    for cx in [bench.ann.clone(), ashlar_objects::testing::anonymous_request()] {
        assert!(matches!(list(cx.clone()).await, Err(Error::AccessDenied)));
        let found = read(&bench.test.store, &cx, "ashlar-jobs", &page.objects[0].key).await;
        assert!(matches!(found, Err(Error::AccessDenied)));
        let request = crate::store_objects::put(bucket("ashlar-jobs"), key("x"), body(Bytes::new()));
        assert!(bench.test.store.put_object(&cx, request).await.is_err());
    }
    bench.objects.forget(id).await.unwrap();
    assert!(list(crate::store_objects::system()).await.unwrap().objects.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_files_fail_the_job_with_their_line_and_errors_are_tried_again_alone() {
    let bench = Bench::new().await;
    let fails = |name: &'static str, text: String| {
        let bench = &bench;
        async move {
            let spec = bench.spec(name, text).await;
            let id = bench.jobs.submit(spec).await.unwrap().job.id;
            match bench.run(id).await.state {
                JobState::Ended(End::Failed { reason }) => reason,
                state => panic!("{state:?}"),
            }
        }
    };
    let good = file(["a".to_owned(), "b".to_owned()]);
    assert!(fails("w1", good.replace("\"row\":1", "\"row\":0")).await.starts_with("line 3: row 0 does not"));
    assert!(fails("w2", good.replace("{\"row\":1", "{ \"row\":1")).await.starts_with("line 3: not in"));
    assert_eq!(fails("w3", String::new()).await, "the file of questions is empty");
    assert_eq!(fails("w4", good.trim_end().to_owned()).await, "line 3 has no end");
    // The target's bucket is another's: the work is done, publishing is denied, and the next attempt keeps the work.
    let mut spec = bench.spec("q", file(["a".to_owned(), "b".to_owned(), "c".to_owned()])).await;
    spec.statement.target = "s3://ashlar-jobs/mine".into();
    let id = bench.jobs.submit(spec.clone()).await.unwrap().job.id;
    let job = bench.run(id).await;
    assert!(matches!(job.state, JobState::Ended(End::Failed { .. })), "{:?}", job.state);
    let asked = bench.runtime.asked.lock().len();
    assert_eq!(asked, 3);
    let again = bench.jobs.submit(spec).await.unwrap();
    assert!(again.is_new && again.job.attempt == 2);
    bench.run(again.job.id).await;
    assert_eq!(bench.runtime.asked.lock().len(), asked, "what was answered is kept");
    // Rows that failed and may be tried again are worked again alone.
    bench.runtime.bad.lock().insert("bad".into());
    let mut spec = bench.spec("r", file(["good".to_owned(), "bad".to_owned()])).await;
    spec.statement.target = "s3://ashlar-jobs/mine".into();
    let id = bench.jobs.submit(spec.clone()).await.unwrap().job.id;
    bench.run(id).await;
    bench.runtime.bad.lock().clear();
    bench.runtime.asked.lock().clear();
    let again = bench.jobs.submit(spec).await.unwrap().job.id;
    bench.run(again).await;
    assert_eq!(*bench.runtime.asked.lock(), ["bad"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_published_once_however_often_it_is_tried() {
    let bench = Bench::new().await;
    let spec = bench.spec("q", file(["a".to_owned()])).await;
    let job = Job::new(spec);
    let store = &bench.test.store;
    let cx = as_principal(store, &job).await.unwrap();
    assert_eq!(published(store, &job).await.unwrap(), None);
    let tries = (0..8_u8).map(|number| {
        let at = (bucket("data"), key("result"));
        publish(store, &cx, &job, at, body(Bytes::from(vec![number; 10])))
    });
    let roots: BTreeSet<ContentRoot> =
        futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(roots.len(), 1, "all hear of the one that was published");
    let result = bench.get(&bench.ann, "result").await.unwrap();
    assert_eq!(roots.first().unwrap().0, *blake3::hash(&result).as_bytes());
    // What became of the result since changes nothing.
    bench.put("result", "the owner wrote something else".into()).await;
    let stage = bench.stage();
    let root = stage.publish(&job, stream::iter(Vec::<UnitResult>::new()).boxed()).await.unwrap();
    assert!(roots.contains(&root));
    assert_eq!(bench.get(&bench.ann, "result").await.unwrap(), b"the owner wrote something else");
    // Who is no user any more gets nothing done.
    let root_cx = request_of("root", true);
    let request = ashlar_objects::requests::DeleteObject {
        name: ObjectName { bucket: bucket("data"), key: key("q"), version: None },
        conditions: Conditions::default(),
        bypass_governance: false,
    };
    store.delete_object(&root_cx, request).await.unwrap();
    let mut other = job.clone();
    other.spec.statement.principal = "nobody".into();
    assert!(as_principal(store, &other).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_killed_is_followed_by_another() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("q", file((0..2_000).map(|n| format!("row {n}")))).await;
    spec.limits.attempts_max = 10;
    let id = bench.jobs.submit(spec).await.unwrap().job.id;
    for killed_after in [1_u64, 5, 20, 60] {
        let stop = CancellationToken::new();
        let coordinator = bench.coordinator();
        let killed = tokio::time::timeout(Duration::from_millis(killed_after), coordinator.run(&stop));
        assert!(killed.await.is_err());
    }
    let job = bench.run(id).await;
    assert!(matches!(job.state, JobState::Done { .. }), "{:?}", job.state);
    let text = String::from_utf8(bench.get(&bench.ann, "q.answers").await.unwrap()).unwrap();
    let rows = text.lines().skip(1).map(|line| AnswerLine::read(line.as_bytes()).unwrap().row);
    assert_eq!(rows.collect::<Vec<_>>(), (0..2_000).collect::<Vec<_>>());
}
