//! Rows on their way to a client, and how those of a statement are cancelled.
//!
//! Invariant: a batch waits for the client, and the query behind it waits for the batch; a client that does not
//! read for too long loses its query. Types that clients may not know are sent as ones they do: views and
//! dictionaries as plain text and bytes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use ashlar_query::{SqlError, SqlState};
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::status;

/// Batches that wait for a client.
const BATCHES_AHEAD_MAX: usize = 1;

/// What goes out.
pub(super) type Answer = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send + 'static>>;

/// Statements that stream, by their number, each with its user. As many as the engine runs.
#[derive(Clone, Default)]
pub(super) struct Streaming(Arc<Mutex<HashMap<u128, (String, CancellationToken)>>>);

/// A statement's place, given back when dropped.
struct Place {
    of: Streaming,
    number: u128,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.0.lock().remove(&self.number);
    }
}

impl Streaming {
    /// Cancels a statement of a user's; whether there was one.
    pub(super) fn cancel(&self, number: u128, user: &str) -> bool {
        let streaming = self.0.lock();
        let found = streaming.get(&number).filter(|(of, _)| of == user);
        found.inspect(|(_, cancel)| cancel.cancel()).is_some()
    }

    fn enter(&self, number: u128, user: &str, cancel: &CancellationToken) -> Place {
        self.0.lock().insert(number, (user.to_owned(), cancel.clone()));
        Place { of: self.clone(), number }
    }

    /// Streams the answer of a statement.
    pub(super) fn answer(
        &self,
        tasks: &TaskTracker,
        stall_max: Duration,
        number: u128,
        user: &str,
        mut rows: SendableRecordBatchStream,
    ) -> Answer {
        let schema = plain_schema(&rows.schema());
        let to = Arc::clone(&schema);
        let cancel = CancellationToken::new();
        let place = self.enter(number, user, &cancel);
        // `None` is the end: a channel that closes without it was given up.
        let (send, mut receive) =
            mpsc::channel::<Option<Result<RecordBatch, FlightError>>>(BATCHES_AHEAD_MAX);
        tasks.spawn(async move {
            let _place = place;
            loop {
                let next = tokio::select! {
                    biased;
                    () = send.closed() => return,
                    () = cancel.cancelled() => {
                        Some(Err(SqlError::new(SqlState::QueryCanceled, "the statement was cancelled")))
                    }
                    next = rows.next() => {
                        next.map(|next| next.map_err(SqlError::from).and_then(|batch| plain(&batch, &to)))
                    }
                };
                let is_last = !matches!(next, Some(Ok(_)));
                let next =
                    next.map(|next| next.map_err(|error| FlightError::Tonic(Box::new(status::of(&error)))));
                match tokio::time::timeout(stall_max, send.send(next)).await {
                    Ok(Ok(())) if !is_last => {}
                    Ok(_) => return,
                    Err(_) => {
                        tracing::debug!(target: "ashlar_sql", "a client does not read its answer");
                        return;
                    }
                }
            }
        });
        let batches = futures::stream::poll_fn(move |cx| {
            receive.poll_recv(cx).map(|next| match next {
                Some(next) => next,
                None => Some(Err(FlightError::Tonic(Box::new(Status::aborted(
                    "the answer was given up: it was not read for too long",
                ))))),
            })
        });
        encode(schema, batches)
    }
}

/// An answer that is there whole.
pub(super) fn whole(batch: RecordBatch) -> Answer {
    encode(batch.schema(), futures::stream::iter([Ok(batch)]))
}

/// An answer without rows or columns.
pub(super) fn empty() -> Answer {
    encode(Arc::new(Schema::empty()), futures::stream::empty())
}

fn encode(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
) -> Answer {
    let encoded = FlightDataEncoderBuilder::new().with_schema(schema).build(batches);
    Box::pin(encoded.map(|data| data.map_err(Status::from)))
}

/// A schema in types that all clients know.
pub(super) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new(fields))
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let data_type = plain_type(field.data_type());
    if data_type == *field.data_type() {
        return Arc::clone(field);
    }
    let plain = Field::new(field.name(), data_type, field.is_nullable());
    Arc::new(plain.with_metadata(field.metadata().clone()))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_field(item)),
        DataType::ListView(item) => DataType::List(plain_field(item)),
        DataType::LargeListView(item) => DataType::LargeList(plain_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, is_sorted) => DataType::Map(plain_field(entries), *is_sorted),
        other => other.clone(),
    }
}

fn plain(batch: &RecordBatch, to: &SchemaRef) -> Result<RecordBatch, SqlError> {
    if batch.schema_ref() == to {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().zip(to.fields());
    let columns = columns.map(|(column, field)| match column.data_type() == field.data_type() {
        true => Ok(Arc::clone(column)),
        false => cast(column, field.data_type()),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(to), columns, &options)?)
}
