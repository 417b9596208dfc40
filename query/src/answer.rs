//! Answers as bytes: JSON lines, CSV, Arrow, a table for people. For front doors that speak in text.
//!
//! Invariant: an error in the middle ends the bytes with an error, so that no part of an answer passes for the
//! whole; of JSON lines it is the last line, too. Rows are encoded as they come.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::StringArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::csv::WriterBuilder;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::json::WriterBuilder as JsonBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::SqlError;
use crate::session::Prepared;

/// Rows of a table for people; of more the first are shown, and that there are more.
const TABLE_ROWS_MAX: usize = 10_000;
/// Most memory of its rows.
const TABLE_BYTES_MAX: usize = 32 << 20;
/// How large a piece of an answer is about.
const PIECE_BYTES_AIM: usize = 1 << 20;
/// Pieces that wait for a slow client.
const PIECES_AHEAD_MAX: usize = 2;

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    JsonLines,
    /// CSV with a heading.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A table in a frame; complete before its first byte.
    Table,
}

impl Form {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Table => "text/plain; charset=utf-8",
        }
    }

    /// The form that an `Accept` header asks for, JSON lines if it leaves it open.
    pub fn of_accept(accept: &str) -> Option<Self> {
        let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
        let form = |kind: &str| match kind.to_ascii_lowercase().as_str() {
            "application/x-ndjson"
            | "application/jsonl"
            | "application/json"
            | "application/*"
            | "*/*"
            | "" => Some(Self::JsonLines),
            "text/csv" => Some(Self::Csv),
            "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
            "text/plain" => Some(Self::Table),
            _ => None,
        };
        kinds.filter_map(form).next()
    }
}

/// An error as JSON.
pub fn error_json(error: &SqlError) -> Value {
    json!({ "error": { "sqlstate": error.state.code(), "message": error.message, "hint": error.hint } })
}

/// Rows as bytes, made on the threads of SQL. What fails before the first piece is this call's error.
pub async fn encode(
    engine: &Engine,
    rows: SendableRecordBatchStream,
    form: Form,
) -> Result<BoxStream<'static, Result<Bytes, SqlError>>, SqlError> {
    let (send, mut pieces) = mpsc::channel(PIECES_AHEAD_MAX);
    let task = engine.inner.executor.start_task(async move {
        let mut encoded = match encode_here(rows, form).await {
            Ok(encoded) => encoded,
            Err(error) => stream::once(async { Err(error) }).boxed(),
        };
        while let Some(piece) = encoded.next().await {
            if send.send(Some(piece)).await.is_err() {
                return;
            }
        }
        // Only what ends with this is whole.
        let _gone = send.send(None).await;
    });
    let first = match pieces.recv().await {
        None => return Err(died()),
        Some(None) => None,
        Some(Some(piece)) => Some(piece?),
    };
    let rest = first.is_some().then_some((pieces, task));
    let rest = stream::unfold(rest, async move |state| {
        let (mut pieces, task) = state?;
        match pieces.recv().await {
            Some(None) => None,
            Some(Some(Ok(piece))) => Some((Ok(piece), Some((pieces, task)))),
            Some(Some(Err(error))) => Some((Err(error), None)),
            None => Some((Err(died()), None)),
        }
    });
    let pieces = stream::iter(first.map(Ok)).chain(rest);
    let last_words = move |error: &SqlError| match form {
        Form::JsonLines => Some(Ok(Bytes::from(format!("{}\n", error_json(error))))),
        Form::Csv | Form::Arrow | Form::Table => None,
    };
    let with_last_words = pieces.flat_map(move |piece| {
        let words = piece.as_ref().err().and_then(last_words);
        stream::iter(words.into_iter().chain([piece]))
    });
    Ok(with_last_words.boxed())
}

fn died() -> SqlError {
    SqlError::internal("encoding an answer", &"its task ended before its rows")
}

async fn encode_here(
    rows: SendableRecordBatchStream,
    form: Form,
) -> Result<BoxStream<'static, Result<Bytes, SqlError>>, SqlError> {
    let schema = rows.schema();
    Ok(match form {
        Form::Table => stream::once(table(rows)).boxed(),
        Form::JsonLines => pieces(rows, Json),
        Form::Csv => pieces(rows, Csv { schema, begun: false }),
        Form::Arrow => {
            let out = Out::default();
            let writer = StreamWriter::try_new(out.clone(), &schema)?;
            pieces(rows, Arrow { out, writer })
        }
    })
}

/// Something that makes bytes of batches.
trait Encoder: Send + 'static {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, SqlError>;
    fn end(&mut self) -> Result<Bytes, SqlError>;
}

fn pieces(
    rows: SendableRecordBatchStream,
    encoder: impl Encoder,
) -> BoxStream<'static, Result<Bytes, SqlError>> {
    let slices = rows.map_err(SqlError::from).flat_map(|batch| {
        stream::iter(match batch {
            Ok(batch) => slices(&batch).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    });
    let state = Some((Box::pin(slices), encoder));
    let encoded = stream::unfold(state, async move |state| {
        let (mut slices, mut encoder) = state?;
        let (piece, next) = match slices.next().await {
            Some(Ok(batch)) => (encoder.batch(&batch), Some((slices, encoder))),
            Some(Err(error)) => (Err(error), None),
            None => (encoder.end(), None),
        };
        let next = if piece.is_ok() { next } else { None };
        Some((piece, next))
    });
    encoded.filter(|piece| std::future::ready(!matches!(piece, Ok(bytes) if bytes.is_empty()))).boxed()
}

/// A batch in parts that are not large encoded: a row may be a book.
fn slices(batch: &RecordBatch) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let row_bytes = batch.get_array_memory_size() / rows.max(1) + 1;
    let step = (PIECE_BYTES_AIM / row_bytes).max(1);
    (0..rows).step_by(step).map(|from| batch.slice(from, step.min(rows - from))).collect()
}

struct Json;

impl Encoder for Json {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, SqlError> {
        let builder = JsonBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, LineDelimited>(Vec::new());
        writer.write(batch)?;
        writer.finish()?;
        Ok(writer.into_inner().into())
    }

    fn end(&mut self) -> Result<Bytes, SqlError> {
        Ok(Bytes::new())
    }
}

struct Csv {
    schema: datafusion::arrow::datatypes::SchemaRef,
    begun: bool,
}

impl Encoder for Csv {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, SqlError> {
        let mut writer = WriterBuilder::new().with_header(!self.begun).build(Vec::new());
        writer.write(&flat(batch)?)?;
        self.begun = true;
        Ok(writer.into_inner().into())
    }

    fn end(&mut self) -> Result<Bytes, SqlError> {
        if self.begun {
            return Ok(Bytes::new());
        }
        self.batch(&RecordBatch::new_empty(Arc::clone(&self.schema)))
    }
}

/// CSV has no lists and structs: these become text.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
    let nested = |data_type: &DataType| data_type.is_nested();
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| nested(field.data_type())) {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let flat = if nested(field.data_type()) {
            let text =
                datafusion::arrow::util::display::ArrayFormatter::try_new(column, &Default::default())?;
            let texts =
                (0..column.len()).map(|row| column.is_valid(row).then(|| text.value(row).to_string()));
            Arc::new(texts.collect::<StringArray>()) as Arc<dyn datafusion::arrow::array::Array>
        } else {
            Arc::clone(column)
        };
        Ok((field.name().clone(), flat, true))
    });
    let columns = columns.collect::<Result<Vec<_>, SqlError>>()?;
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// What a writer wrote since it was last emptied.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl Out {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Arrow {
    out: Out,
    writer: StreamWriter<Out>,
}

impl Encoder for Arrow {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, SqlError> {
        self.writer.write(batch)?;
        Ok(self.out.take())
    }

    fn end(&mut self) -> Result<Bytes, SqlError> {
        self.writer.finish()?;
        Ok(self.out.take())
    }
}

async fn table(mut rows: SendableRecordBatchStream) -> Result<Bytes, SqlError> {
    let mut batches = vec![RecordBatch::new_empty(rows.schema())];
    let (mut count, mut held, mut more) = (0, 0, false);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let left = TABLE_ROWS_MAX - count;
        more = batch.num_rows() > left;
        count += batch.num_rows().min(left);
        held += batch.get_array_memory_size();
        batches.push(batch.slice(0, batch.num_rows().min(left)));
        more |= held > TABLE_BYTES_MAX;
        if more {
            break;
        }
    }
    let end = match (more, count) {
        (true, _) => format!("the first {count} rows; another form gives all"),
        (false, 1) => "1 row".to_owned(),
        (false, count) => format!("{count} rows"),
    };
    Ok(format!("{}\n{end}\n", pretty_format_batches(&batches)?).into())
}

/// JSON values as parameters of a statement.
pub fn parameters(prepared: &Prepared, values: &[Value]) -> Result<Vec<ScalarValue>, SqlError> {
    let types = prepared.parameter_types();
    if types.len() != values.len() {
        return Err(SqlError::invalid(format!(
            "the statement has {} parameters and {} were given",
            types.len(),
            values.len()
        )));
    }
    let typed = types.iter().zip(values).enumerate().map(|(at, (wanted, value))| {
        let text = match value {
            Value::Null => return Ok(ScalarValue::try_new_null(wanted)?),
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(SqlError::invalid(format!("parameter ${} is a list or object", at + 1)));
            }
        };
        let typed = cast(&StringArray::from(vec![text]), wanted)?;
        if typed.is_null(0) {
            return Err(SqlError::new(
                crate::SqlState::InvalidTextRepresentation,
                format!("parameter ${} is no {wanted}", at + 1),
            ));
        }
        Ok(ScalarValue::try_from_array(&typed, 0)?)
    });
    typed.collect()
}
