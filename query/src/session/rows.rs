//! Rows on their way to a front door.
//!
//! Invariant: what ends without an error is whole: a task that died, a timeout and a cancellation are errors in
//! the stream. Dropping the stream ends the work, gives memory back and lets the next statement in.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use datafusion::arrow::array::StringArray;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::memory::MemoryStream;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::DropGuard;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::interrupt::cancelled;
use crate::engine::running::Entry;
use crate::engine::{Executor, Permit};
use crate::error::SqlError;

/// Batches that wait for a slow client; each is at most 8,192 rows.
const BATCHES_AHEAD_MAX: usize = 2;

/// What comes from the query's task.
enum Piece {
    Batch(RecordBatch),
    Failed(SqlError),
    End,
}

struct Rows {
    schema: SchemaRef,
    pieces: Option<mpsc::Receiver<Piece>>,
    /// Polled by whoever takes the rows: it rings even while the query's thread computes.
    timed_out: Option<Pin<Box<Sleep>>>,
    _cancel: DropGuard,
    _task: AbortOnDropHandle<()>,
}

/// Runs a stream on the threads of SQL and gives its rows out.
pub(crate) fn stream(
    executor: &Executor,
    mut from: SendableRecordBatchStream,
    schema: SchemaRef,
    permit: Permit,
    entry: Entry,
    deadline: Option<Instant>,
) -> SendableRecordBatchStream {
    let (send, pieces) = mpsc::channel(BATCHES_AHEAD_MAX);
    let cancel = entry.statement.cancel.clone().drop_guard();
    let task = executor.start_task(async move {
        // Held while rows come: the place among those that run, and the entry that shows it.
        let (permit, entry) = (permit, entry);
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let mut late = std::pin::pin!(late);
        let stopped = loop {
            let piece = tokio::select! {
                biased;
                () = entry.statement.cancel.cancelled() => break cancelled(),
                () = &mut late => break SqlError::timed_out(),
                next = from.next() => match next {
                    Some(Ok(batch)) => Piece::Batch(batch),
                    Some(Err(error)) => break error.into(),
                    None => Piece::End,
                },
            };
            if let Piece::Batch(batch) = &piece {
                let rows = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
                entry.statement.rows.fetch_add(rows, Ordering::Relaxed);
            }
            let last = matches!(piece, Piece::End);
            // A client that takes nothing holds its place no longer than the statement may take.
            let sent = tokio::select! {
                biased;
                sent = send.send(piece) => sent,
                () = entry.statement.cancel.cancelled() => break cancelled(),
                () = &mut late => break SqlError::timed_out(),
            };
            if sent.is_err() || last {
                return;
            }
        };
        drop((from, permit, entry));
        let _gone = send.send(Piece::Failed(stopped)).await;
    });
    let timed_out = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
    Box::pin(Rows { schema, pieces: Some(pieces), timed_out, _cancel: cancel, _task: task })
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pieces.is_none() {
            return Poll::Ready(None);
        }
        if let Some(timed_out) = &mut self.timed_out
            && timed_out.as_mut().poll(cx).is_ready()
        {
            self.pieces = None;
            return Poll::Ready(Some(Err(SqlError::timed_out().into())));
        }
        let Some(pieces) = &mut self.pieces else { return Poll::Ready(None) };
        let piece = futures::ready!(pieces.poll_recv(cx));
        let item = match piece {
            Some(Piece::Batch(batch)) => return Poll::Ready(Some(Ok(batch))),
            Some(Piece::Failed(error)) => Some(Err(DataFusionError::from(error))),
            Some(Piece::End) => None,
            None => {
                let died = SqlError::internal("running a statement", &"its task ended before its rows");
                Some(Err(died.into()))
            }
        };
        self.pieces = None;
        Poll::Ready(item)
    }
}

impl RecordBatchStream for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// One column of text.
pub(crate) fn one_column(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, false)]))
}

/// One row of one column.
pub(crate) fn one_value(name: &str, value: &str) -> std::result::Result<SendableRecordBatchStream, SqlError> {
    let schema = one_column(name);
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(vec![value]))])?;
    Ok(Box::pin(MemoryStream::try_new(vec![batch], schema, None)?))
}
