//! Jobs over rows that the submitter wrote himself: a file of questions in, a file of answers out.
//!
//! The statement's text is [`ROWS_TEXT`], its one input the file of questions (docs/formats/unit.md, without the bounds of a
//! unit), its target `s3://bucket/key`, where the file of answers comes to lie, one line for each question in their
//! order. Invariant: the same file gives the same units; a line that is wrong fails the job with its number, before anything is
//! leased.

use std::sync::Arc;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::jobs::{Input, Job, QueryStage, StageError, UnitInput, UnitObjects, UnitResult};
use ashlar_compute_api::unit_data::{
    ANSWERS_BYTES_MAX, Answers, AnswersHeader, LINE_BYTES_MAX, Question, Questions, QuestionsHeader,
};
use ashlar_objects::Store;
use ashlar_objects::requests::{BodyError, ObjectName, ObjectRead, Payload, ReadObject, Selection};
use ashlar_objects::types::{BucketName, Conditions, ObjectKey, VersionId};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::publication::{as_principal, publish, published, stage_error};

/// The text of a statement over rows.
pub const ROWS_TEXT: &str = "ashlar rows 1";
/// Rows of a unit, and bytes at which it is full.
const UNIT_ROWS: usize = 256;
const UNIT_BYTES: usize = 1 << 20;

/// The stage of jobs over rows.
pub struct RowsStage {
    store: Store,
    objects: Arc<dyn UnitObjects>,
}

impl RowsStage {
    /// Rows of objects of this store.
    pub fn new(store: Store, objects: Arc<dyn UnitObjects>) -> Self {
        Self { store, objects }
    }

    async fn open(&self, job: &Job) -> Result<ObjectRead, StageError> {
        let cx = as_principal(&self.store, job).await?;
        let mut inputs = job.spec.statement.inputs.iter();
        let (Some(input), None) = (inputs.next(), inputs.next()) else {
            return Err(never("a job over rows has one input: the file of questions".to_owned()));
        };
        let Input { bucket, key, version, content_root } = input;
        let bucket = BucketName::new(bucket).map_err(|error| never(error.to_string()))?;
        let key = ObjectKey::new(key).map_err(|error| never(error.to_string()))?;
        let version = Some(u128::from_be_bytes(*version)).filter(|id| *id != 0).map(VersionId::Id);
        let name = ObjectName { bucket, key, version };
        let request = ReadObject { name, selection: Selection::Whole, conditions: Conditions::default() };
        let read = self.store.get_object(&cx, request).await;
        let read = read.map_err(|error| stage_error("reading the questions", &error))?;
        if read.head.content_root.0.0 != content_root.0 {
            return Err(never("the file of questions is another than was submitted".to_owned()));
        }
        Ok(read)
    }
}

fn never(reason: String) -> StageError {
    StageError::Final { reason }
}

/// A file of questions being read.
struct Reader {
    body: std::pin::Pin<Box<dyn futures::Stream<Item = Result<Bytes, ashlar_objects::Error>> + Send>>,
    bytes: BytesMut,
    has_ended: bool,
    line: u64,
}

impl Reader {
    /// The next line with its number; `None` behind the last.
    async fn line(&mut self) -> Result<Option<(u64, Bytes)>, StageError> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.bytes[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.bytes.split_to(searched + at + 1);
                line.truncate(searched + at);
                self.line += 1;
                return Ok(Some((self.line, line.freeze())));
            }
            searched = self.bytes.len();
            let line = self.line + 1;
            if searched > LINE_BYTES_MAX {
                return Err(never(format!("line {line}: more than {LINE_BYTES_MAX} bytes")));
            }
            if self.has_ended {
                return if searched == 0 { Ok(None) } else { Err(never(format!("line {line} has no end"))) };
            }
            match self.body.next().await {
                Some(piece) => {
                    let piece = piece.map_err(|error| stage_error("reading the questions", &error))?;
                    self.bytes.extend_from_slice(&piece);
                }
                None => self.has_ended = true,
            }
        }
    }

    async fn header(&mut self) -> Result<QuestionsHeader, StageError> {
        let (line, text) =
            self.line().await?.ok_or_else(|| never("the file of questions is empty".to_owned()))?;
        QuestionsHeader::read(&text).map_err(|error| never(format!("line {line}: {error}")))
    }
}

/// What is left to be cut into units.
struct Cutting {
    reader: Reader,
    header: QuestionsHeader,
    objects: Arc<dyn UnitObjects>,
    family: ashlar_compute_api::JobId,
    last: Option<u64>,
}

impl Cutting {
    /// The next unit, stored.
    async fn unit(&mut self) -> Result<Option<UnitInput>, StageError> {
        let (mut rows, mut bytes): (Vec<Question>, usize) = (Vec::new(), 0);
        while rows.len() < UNIT_ROWS && bytes < UNIT_BYTES {
            let Some((line, text)) = self.reader.line().await? else { break };
            let question = Question::read(&text, &self.header);
            let question = question.map_err(|error| never(format!("line {line}: {error}")))?;
            if let Some(before) = self.last.filter(|before| question.row <= *before) {
                let row = question.row;
                return Err(never(format!("line {line}: row {row} does not come after row {before}")));
            }
            self.last = Some(question.row);
            bytes += text.len();
            rows.push(question);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let questions = Questions { header: self.header.clone(), rows };
        let bytes = questions.encode().map_err(|error| never(error.to_string()))?;
        let put = self.objects.put(self.family, Bytes::from(bytes)).await;
        let content_root = put.map_err(|error| StageError::Again { reason: error.to_string() })?;
        Ok(Some(UnitInput { content_root, rows: count }))
    }
}

#[async_trait]
impl QueryStage for RowsStage {
    async fn materialise(
        &self,
        job: &Job,
    ) -> Result<BoxStream<'static, Result<UnitInput, StageError>>, StageError> {
        target(job)?;
        let read = self.open(job).await?;
        let mut reader = Reader { body: read.body, bytes: BytesMut::new(), has_ended: false, line: 0 };
        let header = reader.header().await?;
        if !job.spec.statement.models.contains(&header.model) {
            return Err(never("the file asks another model than the job names".to_owned()));
        }
        let (objects, family) = (Arc::clone(&self.objects), job.family());
        let cutting = Cutting { reader, header, objects, family, last: None };
        let units = stream::try_unfold(cutting, |mut cutting| async move {
            Ok(cutting.unit().await?.map(|unit| (unit, cutting)))
        });
        Ok(units.boxed())
    }

    async fn publish(
        &self,
        job: &Job,
        results: BoxStream<'static, UnitResult>,
    ) -> Result<ContentRoot, StageError> {
        if let Some(root) = published(&self.store, job).await? {
            return Ok(root);
        }
        let cx = as_principal(&self.store, job).await?;
        let read = self.open(job).await?;
        let mut reader = Reader { body: read.body, bytes: BytesMut::new(), has_ended: false, line: 0 };
        let questions = reader.header().await?;
        drop(reader);
        let input = ContentRoot(read.head.content_root.0.0);
        let header = AnswersHeader::new(input, questions.model, questions.determinism);
        let first = Bytes::from(format!("{}\n", header.text()));
        let (objects, family) = (Arc::clone(&self.objects), job.family());
        let failure: Arc<parking_lot::Mutex<Option<StageError>>> = Arc::default();
        let failed = Arc::clone(&failure);
        let units = results.then(move |result| {
            let objects = Arc::clone(&objects);
            async move { lines(&objects, family, &result).await }
        });
        let lines = stream::once(async move { Ok(first) }).chain(units);
        let stream = lines.map_err(move |error: StageError| {
            *failed.lock() = Some(error);
            BodyError::Source
        });
        let payload = Payload {
            stream: Box::pin(stream),
            length: None,
            content_md5: None,
            content_sha256: None,
            checksum: None,
            trailing_checksum: None,
        };
        let root = publish(&self.store, &cx, job, target(job)?, payload).await;
        root.map_err(|error| failure.lock().take().unwrap_or(error))
    }
}

/// The lines of a unit's answers.
async fn lines(
    objects: &Arc<dyn UnitObjects>,
    family: ashlar_compute_api::JobId,
    result: &UnitResult,
) -> Result<Bytes, StageError> {
    let root = result.output.clone().map_err(never)?;
    let bytes = objects.get(family, root, ANSWERS_BYTES_MAX).await;
    let bytes = bytes.map_err(|error| StageError::Again { reason: error.to_string() })?;
    let answers = Answers::parse(&bytes).map_err(|error| never(error.to_string()))?;
    let mut text = String::with_capacity(bytes.len());
    for row in &answers.rows {
        text.push_str(&row.text());
        text.push('\n');
    }
    Ok(Bytes::from(text))
}

/// Where the answers go.
fn target(job: &Job) -> Result<(BucketName, ObjectKey), StageError> {
    let target = &job.spec.statement.target;
    let parts = target.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
    let (bucket, key) = parts.ok_or_else(|| never(format!("{target:?} is not s3://bucket/key")))?;
    let bucket = BucketName::new(bucket).map_err(|error| never(error.to_string()))?;
    Ok((bucket, ObjectKey::new(key).map_err(|error| never(error.to_string()))?))
}
