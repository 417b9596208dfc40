//! Columns of files: read from footers and samples, merged by name.
//!
//! Invariant: a column of the result can hold every value that the same column of any file holds; types that no
//! type holds both of are an error that names the column. A file that lacks a column gives NULL there.

use std::io::Read;
use std::sync::Arc;

use ashlar_objects::pinning::PinnedObject;
use datafusion::arrow::csv::reader::Format as CsvReaderFormat;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::ipc::convert::fb_to_schema;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::root_as_footer;
use datafusion::arrow::json::reader::infer_json_schema;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::parquet_to_arrow_schema;

use super::footers::Footers;
use super::format::{Format, FormatKind};
use super::lease::HeldLease;
use crate::error::{SqlError, SqlState};

/// Files whose columns are looked at, spread evenly over all.
pub(crate) const SAMPLED_FILES_MAX: usize = 256;
/// Files looked at at a time.
const FILES_AT_ONCE: usize = 16;
/// Bytes of a CSV or JSON file that are looked at, before and after unpacking.
const SAMPLE_BYTES: u64 = 1 << 20;
/// Longest first line of one.
const LINE_BYTES_MAX: u64 = SAMPLE_BYTES * 64;
/// Lines of a CSV or JSON file that are looked at.
const SAMPLE_LINES: usize = 1_000;
/// The magic that an Arrow file begins with; a stream begins otherwise.
const ARROW_MAGIC: &[u8] = b"ARROW1";
/// Length and magic at the end of an Arrow file.
const ARROW_TRAILER_BYTES: u64 = 10;
/// A footer that says it is longer is not read.
const ARROW_FOOTER_BYTES_MAX: u64 = 64 << 20;
/// Most columns of a table.
const COLUMNS_MAX: usize = 10_000;

/// The columns of all files.
pub(crate) async fn infer(
    lease: &Arc<HeldLease>,
    footers: &Footers,
    format: &Format,
    objects: &[PinnedObject],
) -> Result<SchemaRef, SqlError> {
    let step = objects.len().div_ceil(SAMPLED_FILES_MAX).max(1);
    let looks: Vec<_> =
        objects.iter().step_by(step).map(|object| of_one(lease, footers, format, object)).collect();
    let schemas: Vec<Schema> = stream::iter(looks).buffered(FILES_AT_ONCE).try_collect().await?;
    let mut merged: Option<Schema> = None;
    for schema in schemas {
        merged = Some(match merged {
            None => schema,
            Some(merged) => merge(&merged, &schema)?,
        });
    }
    let merged = merged.unwrap_or_else(Schema::empty);
    if merged.fields().len() > COLUMNS_MAX {
        return Err(SqlError::new(
            SqlState::ProgramLimitExceeded,
            format!("more than {COLUMNS_MAX} columns"),
        ));
    }
    let fields = merged.fields().iter().map(|field| as_scanned(field).with_nullable(true));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

async fn of_one(
    lease: &Arc<HeldLease>,
    footers: &Footers,
    format: &Format,
    object: &PinnedObject,
) -> Result<Schema, SqlError> {
    let named = |error: SqlError| SqlError {
        message: format!("s3://{}/{}: {}", object.bucket, object.key, error.message),
        ..error
    };
    let found = match format.kind {
        FormatKind::Parquet => of_parquet(lease, footers, object).await,
        FormatKind::Csv | FormatKind::Json => of_text(lease, format, object).await,
        FormatKind::Arrow => of_arrow(lease, object).await,
    };
    found.map_err(named)
}

async fn of_parquet(
    lease: &Arc<HeldLease>,
    footers: &Footers,
    object: &PinnedObject,
) -> Result<Schema, SqlError> {
    let footer = footers.of(lease, &object.pinned).await?;
    let file = footer.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata());
    schema.map_err(|e| SqlError::new(SqlState::DataException, format!("its columns do not read: {e}")))
}

/// The beginning of a text file, unpacked: at most so many bytes. Whether it is the whole file.
pub(crate) async fn sample(
    lease: &Arc<HeldLease>,
    format: &Format,
    object: &PinnedObject,
    bytes: u64,
) -> Result<(Vec<u8>, bool), SqlError> {
    let packed = lease.read(&object.pinned, 0..bytes).await?;
    let whole = object.pinned.head.length <= bytes;
    let mut unpacked = Vec::new();
    let reader = format.packed().convert_read(std::io::Cursor::new(packed))?;
    let read = reader.take(bytes).read_to_end(&mut unpacked);
    // A sample ends in the middle of what is packed; a whole file must not.
    if let (Err(error), true) = (&read, whole) {
        return Err(SqlError::new(SqlState::DataException, format!("it does not unpack: {error}")));
    }
    let whole = whole && u64::try_from(unpacked.len()).is_ok_and(|length| length < bytes);
    Ok((unpacked, whole))
}

async fn of_text(lease: &Arc<HeldLease>, format: &Format, object: &PinnedObject) -> Result<Schema, SqlError> {
    let mut bytes = SAMPLE_BYTES;
    let unpacked = loop {
        let (mut unpacked, whole) = sample(lease, format, object, bytes).await?;
        if whole {
            break unpacked;
        }
        // A line may be a book.
        match unpacked.iter().rposition(|byte| *byte == b'\n') {
            Some(line_end) => {
                unpacked.truncate(line_end + 1);
                break unpacked;
            }
            None if bytes < LINE_BYTES_MAX => bytes *= 8,
            None => {
                return Err(SqlError::new(
                    SqlState::DataException,
                    format!("its first line is over {LINE_BYTES_MAX} bytes long"),
                ));
            }
        }
    };
    let sample = std::io::Cursor::new(unpacked);
    let schema = match format.kind {
        FormatKind::Json => infer_json_schema(sample, Some(SAMPLE_LINES)).map(|(schema, _)| schema),
        _ => {
            let options = format.csv_options();
            let mut reader = CsvReaderFormat::default()
                .with_header(format.csv.header)
                .with_delimiter(options.delimiter)
                .with_quote(options.quote);
            if let Some(escape) = options.escape {
                reader = reader.with_escape(escape);
            }
            if let Some(null) = &options.null_regex {
                let null =
                    regex::Regex::new(null).map_err(|e| SqlError::internal("reading a NULL word", &e))?;
                reader = reader.with_null_regex(null);
            }
            reader.infer_schema(sample, Some(SAMPLE_LINES)).map(|(schema, _)| schema)
        }
    };
    schema.map_err(|e| SqlError::new(SqlState::DataException, e.to_string()))
}

async fn of_arrow(lease: &Arc<HeldLease>, object: &PinnedObject) -> Result<Schema, SqlError> {
    let bad =
        |why: &dyn std::fmt::Display| SqlError::new(SqlState::DataException, format!("no Arrow file: {why}"));
    let length = object.pinned.head.length;
    let head = lease.read(&object.pinned, 0..SAMPLE_BYTES.min(length)).await?;
    if !head.starts_with(ARROW_MAGIC) {
        let reader = StreamReader::try_new(std::io::Cursor::new(head), None);
        return reader.map(|reader| reader.schema().as_ref().clone()).map_err(|e| bad(&e));
    }
    // A file ends with its footer, the footer's length in four bytes, and the magic.
    let trailer_at = length.checked_sub(ARROW_TRAILER_BYTES).ok_or_else(|| bad(&"it is cut"))?;
    let trailer = lease.read(&object.pinned, trailer_at..length).await?;
    let size =
        trailer.first_chunk::<4>().map(|size| u64::from(u32::from_le_bytes(*size))).unwrap_or_default();
    let footer_at = trailer_at.checked_sub(size).filter(|_| size <= ARROW_FOOTER_BYTES_MAX);
    let footer_at = footer_at.ok_or_else(|| bad(&"its footer would be longer than it"))?;
    let footer = lease.read(&object.pinned, footer_at..trailer_at).await?;
    let footer = root_as_footer(&footer).map_err(|e| bad(&e))?;
    Ok(fb_to_schema(footer.schema().ok_or_else(|| bad(&"it has no columns"))?))
}

/// Text and bytes as views, which scans give without copying.
fn as_scanned(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Null => DataType::Utf8View,
        other => other.clone(),
    };
    Field::new(field.name(), data_type, field.is_nullable())
}

/// Columns of both, those of the first in its order and then the others.
pub(crate) fn merge(one: &Schema, other: &Schema) -> Result<Schema, SqlError> {
    let mut fields: Vec<Field> = one.fields().iter().map(|field| field.as_ref().clone()).collect();
    for field in other.fields() {
        match fields.iter_mut().find(|found| found.name() == field.name()) {
            None => fields.push(field.as_ref().clone()),
            Some(found) => {
                let wider = wider(found.data_type(), field.data_type()).ok_or_else(|| {
                    SqlError::new(
                        SqlState::DatatypeMismatch,
                        format!(
                            "column {:?} is {} in one file and {} in another",
                            field.name(),
                            found.data_type(),
                            field.data_type()
                        ),
                    )
                    .hint("read the files apart and CAST the column")
                })?;
                *found = Field::new(found.name(), wider, true);
            }
        }
    }
    Ok(Schema::new(fields))
}

/// Whether a file's column is the table's, text and bytes in whatever layout.
pub(crate) fn is_same(in_file: &DataType, in_table: &DataType) -> bool {
    in_file == in_table
        || as_scanned(&Field::new("", in_file.clone(), true)).data_type() == in_table
            && *in_file != DataType::Null
}

/// The type that holds all values of both, if there is one.
fn wider(one: &DataType, other: &DataType) -> Option<DataType> {
    use DataType as D;
    let width = |t: &DataType| t.primitive_width();
    let text = |t: &DataType| matches!(t, D::Utf8 | D::LargeUtf8 | D::Utf8View);
    let bytes = |t: &DataType| matches!(t, D::Binary | D::LargeBinary | D::BinaryView);
    Some(match (one, other) {
        (one, other) if one == other => one.clone(),
        (D::Null, other) => other.clone(),
        (one, D::Null) => one.clone(),
        (one, other) if text(one) && text(other) => D::Utf8View,
        (one, other) if bytes(one) && bytes(other) => D::BinaryView,
        (one, other)
            if one.is_signed_integer() && other.is_signed_integer()
                || one.is_unsigned_integer() && other.is_unsigned_integer() =>
        {
            if width(one) >= width(other) {
                one.clone()
            } else {
                other.clone()
            }
        }
        (one, other) if one.is_integer() && other.is_integer() => {
            let (signed, unsigned) = if one.is_signed_integer() { (one, other) } else { (other, one) };
            let wide_enough = match unsigned {
                D::UInt8 => D::Int16,
                D::UInt16 => D::Int32,
                D::UInt32 => D::Int64,
                _ => return None,
            };
            if width(signed) >= width(&wide_enough) { signed.clone() } else { wide_enough }
        }
        (one, other) if one.is_floating() && other.is_floating() => {
            if width(one) >= width(other) {
                one.clone()
            } else {
                other.clone()
            }
        }
        (one, other)
            if one.is_numeric() && other.is_numeric() && (one.is_floating() || other.is_floating()) =>
        {
            let integer = if one.is_floating() { other } else { one };
            // 53 bits of a double hold every 32-bit integer; JSON's numbers are doubles anyway.
            if integer.is_integer() { D::Float64 } else { return None }
        }
        (D::Timestamp(one, zone), D::Timestamp(other, zone_too)) if zone == zone_too => {
            D::Timestamp(finer(*one, *other), zone.clone())
        }
        (D::Date32, D::Date64) | (D::Date64, D::Date32) => D::Date64,
        (D::Decimal128(p, s), D::Decimal128(q, t)) => {
            let scale = (*s).max(*t);
            let whole = (i16::from(*p) - i16::from(*s)).max(i16::from(*q) - i16::from(*t));
            let precision =
                u8::try_from(whole + i16::from(scale)).ok().filter(|precision| *precision <= 38)?;
            D::Decimal128(precision, scale)
        }
        _ => return None,
    })
}

fn finer(one: TimeUnit, other: TimeUnit) -> TimeUnit {
    let order = |unit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    if order(one) >= order(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_widen_to_what_holds_both_or_not_at_all() {
        use DataType as D;
        assert_eq!(wider(&D::Int32, &D::Int64), Some(D::Int64));
        assert_eq!(wider(&D::UInt32, &D::Int8), Some(D::Int64));
        assert_eq!(wider(&D::UInt64, &D::Int64), None);
        assert_eq!(wider(&D::Int64, &D::Float32), Some(D::Float64));
        assert_eq!(wider(&D::Null, &D::Boolean), Some(D::Boolean));
        assert_eq!(wider(&D::Utf8, &D::Int64), None);
        assert_eq!(wider(&D::Decimal128(10, 2), &D::Decimal128(12, 4)), Some(D::Decimal128(12, 4)));
        assert_eq!(wider(&D::Decimal128(38, 0), &D::Decimal128(38, 10)), None);
    }

    #[test]
    fn columns_are_merged_by_name() {
        let one =
            Schema::new(vec![Field::new("a", DataType::Int32, false), Field::new("b", DataType::Utf8, true)]);
        let other = Schema::new(vec![
            Field::new("c", DataType::Date32, true),
            Field::new("a", DataType::Int64, true),
        ]);
        let merged = merge(&one, &other).unwrap();
        let names: Vec<_> = merged.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(merged.field(0).data_type(), &DataType::Int64);
        let clash = Schema::new(vec![Field::new("b", DataType::Boolean, true)]);
        assert_eq!(merge(&one, &clash).unwrap_err().state, SqlState::DatatypeMismatch);
    }
}
