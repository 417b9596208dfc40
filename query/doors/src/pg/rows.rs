//! An answer's rows on their way to the client.
//!
//! Invariant: a row is written whole or not at all; what was taken from the query and not yet written is one
//! batch at most.

use arrow::array::timezone::Tz;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use ashlar_query::{SqlError, SqlState};
use bytes::{BufMut, BytesMut};
use datafusion::execution::SendableRecordBatchStream;

use super::backend::Described;
use super::cells::Cells;
use super::copy::CopyFormat;
use super::types::PgType;
use super::{binary_format, text_format};

/// Rows whose columns are brought into form at once.
pub(super) const SLICE_ROWS_MAX: usize = 512;
/// Longest row.
const ROW_BYTES_MAX: usize = 256 << 20;
/// Most columns: their count is two bytes.
const COLUMNS_MAX: usize = 32_767;

/// Rows under way.
pub(super) struct Rows {
    pub(super) stream: SendableRecordBatchStream,
    /// What was taken from the stream and not yet written.
    pub(super) rest: Option<RecordBatch>,
    pub(super) sent: u64,
    pub(super) tag: &'static str,
    /// How they are copied, where they are.
    pub(super) copy: Option<CopyFormat>,
    columns: Vec<(PgType, bool)>,
    zone: Tz,
}

/// Rows that are ready to be written one by one.
pub(super) struct Slice<'a> {
    cells: Vec<Cells>,
    columns: &'a [(PgType, bool)],
    copy: Option<&'a CopyFormat>,
    /// Nothing was sent before.
    is_first: bool,
    zone: Tz,
    pub(super) rows: usize,
}

/// Why a row was not written.
pub(super) enum Unwritten {
    Text(text_format::OutOfRange),
    Binary(binary_format::OutOfRange),
}

impl From<text_format::OutOfRange> for Unwritten {
    fn from(error: text_format::OutOfRange) -> Self {
        Self::Text(error)
    }
}

impl From<binary_format::OutOfRange> for Unwritten {
    fn from(error: binary_format::OutOfRange) -> Self {
        Self::Binary(error)
    }
}

/// How clients are told of columns; `is_binary` is as they asked: for none, for all, or for each.
pub(super) fn describe(schema: &SchemaRef, is_binary: &[bool]) -> Result<Vec<Described>, SqlError> {
    let count = schema.fields().len();
    if count > COLUMNS_MAX {
        let message = format!("an answer has at most {COLUMNS_MAX} columns");
        return Err(SqlError::new(SqlState::ProgramLimitExceeded, message));
    }
    if is_binary.len() > 1 && is_binary.len() != count {
        return Err(SqlError::invalid(format!("{} formats were given for {count} columns", is_binary.len())));
    }
    let described = schema.fields().iter().enumerate().map(|(at, field)| {
        let pg_type = PgType::of(field);
        Described {
            name: field.name().clone(),
            oid: pg_type.oid(),
            size: pg_type.size(),
            modifier: pg_type.modifier(field.data_type()),
            is_binary: *is_binary.get(at).or(is_binary.first()).unwrap_or(&false),
        }
    });
    Ok(described.collect())
}

impl Rows {
    pub(super) fn new(
        stream: SendableRecordBatchStream,
        tag: &'static str,
        is_binary: &[bool],
        zone: Option<&str>,
    ) -> Result<Self, SqlError> {
        let schema = stream.schema();
        let described = describe(&schema, is_binary)?;
        let types = schema.fields().iter().map(|field| PgType::of(field));
        let columns = types.zip(described.iter().map(|column| column.is_binary)).collect();
        let zone =
            zone.unwrap_or("UTC").parse::<Tz>().map_err(|error| SqlError::invalid(error.to_string()))?;
        Ok(Self { stream, rest: None, sent: 0, tag, copy: None, columns, zone })
    }

    /// Brings rows into form: all of a batch of [`SLICE_ROWS_MAX`] at most.
    pub(super) fn slice(&self, batch: &RecordBatch) -> Result<Slice<'_>, ArrowError> {
        let columns = batch.columns().iter().zip(&self.columns);
        let cells = columns.map(|(column, (pg_type, _))| Cells::of(*pg_type, column));
        let cells = cells.collect::<Result<_, _>>()?;
        Ok(Slice {
            cells,
            columns: &self.columns,
            copy: self.copy.as_ref(),
            is_first: self.sent == 0,
            zone: self.zone,
            rows: batch.num_rows(),
        })
    }
}

impl Slice<'_> {
    /// Writes one row.
    pub(super) fn write(&self, row: usize, out: &mut BytesMut) -> Result<(), SqlError> {
        let begin = out.len();
        out.put_u8(if self.copy.is_some() { b'd' } else { b'D' });
        let whole = binary_format::sized(out, |out| {
            if let Some(copy) = self.copy {
                let is_first = self.is_first && row == 0;
                return copy.row(&self.cells, row, is_first, self.zone, out);
            }
            out.put_u16(u16::try_from(self.cells.len()).unwrap_or(u16::MAX));
            for (cells, (_, is_binary)) in self.cells.iter().zip(self.columns) {
                if cells.is_null(row) {
                    out.put_i32(-1);
                } else if *is_binary {
                    binary_format::sized(out, |out| binary_format::write(cells, row, out))?;
                } else {
                    binary_format::sized(out, |out| {
                        text_format::write(cells, row, self.zone, out).map_err(Unwritten::from)
                    })?;
                }
            }
            Ok::<_, Unwritten>(())
        });
        let length = out.len() - begin - 1;
        if whole.is_ok() && length <= ROW_BYTES_MAX {
            // Of a message the length counts itself.
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            out[begin + 1..begin + 5].copy_from_slice(&length.to_be_bytes());
            return Ok(());
        }
        out.truncate(begin);
        Err(match whole {
            Ok(()) => SqlError::new(
                SqlState::ProgramLimitExceeded,
                format!("a row has at most {ROW_BYTES_MAX} bytes"),
            ),
            Err(Unwritten::Text(error)) => SqlError::new(SqlState::DataException, error.to_string()),
            Err(Unwritten::Binary(error)) => SqlError::new(SqlState::DataException, error.to_string()),
        })
    }
}
