//! What clients hold between calls: a statement's text and its parameters, in the handle itself.
//!
//! Nothing is kept for a client, so a handle is good at any gateway and costs nothing when it is left behind. It
//! grants nothing: whoever brings it is authorised anew. The number is by which a running statement is cancelled.
//!
//! Invariant: foreign bytes make an error, and no more memory than they have.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_flight::{IpcMessage, SchemaAsIpc};
use ashlar_query::SqlError;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::credentials::random;

/// Longest handle.
const HANDLE_BYTES_MAX: usize = 4 << 20;

/// A statement as a client holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Handle {
    pub(super) text: String,
    /// Rows of parameters, as an Arrow stream.
    parameters: Option<Vec<u8>>,
    pub(super) number: u128,
}

impl Handle {
    pub(super) fn new(text: String) -> Result<Self, SqlError> {
        Ok(Self { text, parameters: None, number: u128::from_be_bytes(random()?) })
    }

    /// The same statement, to be run and cancelled on its own.
    pub(super) fn renewed(&self) -> Result<Self, SqlError> {
        Ok(Self { number: u128::from_be_bytes(random()?), ..self.clone() })
    }

    /// The same with parameters.
    pub(super) fn with(&self, rows: &[RecordBatch]) -> Result<Self, SqlError> {
        let Some(first) = rows.first() else { return Ok(Self { parameters: None, ..self.clone() }) };
        let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
        for batch in rows {
            writer.write(batch)?;
        }
        Ok(Self { parameters: Some(writer.into_inner()?), ..self.clone() })
    }

    pub(super) fn encode(&self) -> Result<Bytes, Status> {
        let bytes = postcard::to_stdvec(self).map_err(|error| Status::internal(error.to_string()))?;
        if bytes.len() > HANDLE_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "a statement and its parameters have at most {HANDLE_BYTES_MAX} bytes together"
            )));
        }
        Ok(bytes.into())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Status> {
        let bad = || Status::invalid_argument("not a handle of this server's");
        if bytes.len() > HANDLE_BYTES_MAX {
            return Err(bad());
        }
        postcard::from_bytes(bytes).map_err(|_| bad())
    }

    /// The parameters of the one execution that a query is.
    pub(super) fn one_row(&self) -> Result<Vec<ScalarValue>, SqlError> {
        let Some(bytes) = &self.parameters else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for batch in StreamReader::try_new(&bytes[..], None)? {
            rows.extend(of_rows(&batch?)?);
        }
        match rows.len() {
            0 => Ok(Vec::new()),
            1 => Ok(rows.swap_remove(0)),
            _ => Err(SqlError::unsupported("a query with more than one row of parameters")),
        }
    }
}

/// The parameters of each row.
pub(super) fn of_rows(batch: &RecordBatch) -> Result<Vec<Vec<ScalarValue>>, SqlError> {
    let rows = (0..batch.num_rows()).map(|row| {
        let of = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
        of.collect::<Result<Vec<_>, _>>().map_err(SqlError::from)
    });
    rows.collect()
}

/// Brings parameters to the types that the statement has for them.
pub(super) fn fitted(parameters: Vec<ScalarValue>, types: &[DataType]) -> Result<Vec<ScalarValue>, SqlError> {
    let fit = |(at, value): (usize, ScalarValue)| match types.get(at) {
        Some(target) if *target != value.data_type() => value.cast_to(target).map_err(SqlError::from),
        _ => Ok(value),
    };
    parameters.into_iter().enumerate().map(fit).collect()
}

/// A schema of parameters: `$1`, `$2`, …
pub(super) fn parameter_schema(types: &[DataType]) -> Schema {
    let fields = types.iter().enumerate();
    let fields = fields.map(|(at, data_type)| Field::new(format!("${}", at + 1), data_type.clone(), true));
    Schema::new(fields.map(Arc::new).collect::<Vec<_>>())
}

/// A schema as an IPC message.
pub(super) fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    message.map(|message| message.0).map_err(|error| Status::internal(error.to_string()))
}
