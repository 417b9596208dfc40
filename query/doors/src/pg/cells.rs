//! Columns of Arrow brought into the few forms that the protocol's formats are written from.
//!
//! Invariant: a value that does not fit its PostgreSQL type is an error, never another value. Pure.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, LargeBinaryArray, LargeListArray, LargeStringArray, StringArray,
    StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};

use super::types::{PgType, Scalar};

/// A column.
pub(super) enum Cells {
    Bool(BooleanArray),
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    Float4(Float32Array),
    Float8(Float64Array),
    Numeric(Decimal128Array),
    LongNumeric(Decimal256Array),
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    Bytea(LargeBinaryArray),
    Uuid(FixedSizeBinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    TimestampTz(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    List(LargeListArray, Scalar, Box<Cells>),
    Null,
}

impl Cells {
    /// Of a column that is described as `pg_type`.
    pub(super) fn of(pg_type: PgType, column: &ArrayRef) -> Result<Self, ArrowError> {
        match pg_type {
            PgType::One(scalar) => Self::of_scalar(scalar, column),
            PgType::Array(scalar) => {
                let (DataType::List(item)
                | DataType::LargeList(item)
                | DataType::FixedSizeList(item, _)
                | DataType::ListView(item)
                | DataType::LargeListView(item)) = column.data_type()
                else {
                    return Err(ArrowError::CastError("a column is no list".into()));
                };
                let item = Field::new("item", scalar.arrow(item.data_type()), true);
                let list = cast(column, &DataType::LargeList(Arc::new(item)))?.as_list::<i64>().clone();
                let values = Self::of_scalar(scalar, list.values())?;
                Ok(Self::List(list, scalar, Box::new(values)))
            }
        }
    }

    fn of_scalar(scalar: Scalar, column: &ArrayRef) -> Result<Self, ArrowError> {
        if *column.data_type() == DataType::Null {
            return Ok(Self::Null);
        }
        if scalar == Scalar::Json {
            return json(column);
        }
        // Text is not copied for being of another of its three forms.
        match column.data_type() {
            DataType::Utf8 => return Ok(Self::Text(column.as_string::<i32>().clone())),
            DataType::Utf8View => return Ok(Self::TextView(column.as_string_view().clone())),
            _ => {}
        }
        let column = cast(column, &scalar.arrow(column.data_type()))?;
        Ok(match scalar {
            Scalar::Bool => Self::Bool(column.as_boolean().clone()),
            Scalar::Int2 => Self::Int2(column.as_primitive::<Int16Type>().clone()),
            Scalar::Int4 => Self::Int4(column.as_primitive::<Int32Type>().clone()),
            Scalar::Int8 => Self::Int8(column.as_primitive::<Int64Type>().clone()),
            Scalar::Float4 => Self::Float4(column.as_primitive::<Float32Type>().clone()),
            Scalar::Float8 => Self::Float8(column.as_primitive::<Float64Type>().clone()),
            Scalar::Numeric => match column.data_type() {
                DataType::Decimal256(..) => {
                    Self::LongNumeric(column.as_primitive::<Decimal256Type>().clone())
                }
                _ => Self::Numeric(column.as_primitive::<Decimal128Type>().clone()),
            },
            Scalar::Text | Scalar::Json => Self::LargeText(column.as_string::<i64>().clone()),
            Scalar::Bytea => Self::Bytea(column.as_binary::<i64>().clone()),
            Scalar::Uuid => Self::Uuid(column.as_fixed_size_binary().clone()),
            Scalar::Date => Self::Date(column.as_primitive::<Date32Type>().clone()),
            Scalar::Time => Self::Time(column.as_primitive::<Time64MicrosecondType>().clone()),
            Scalar::Timestamp => Self::Timestamp(column.as_primitive::<TimestampMicrosecondType>().clone()),
            Scalar::TimestampTz => {
                Self::TimestampTz(column.as_primitive::<TimestampMicrosecondType>().clone())
            }
            Scalar::Interval => Self::Interval(column.as_primitive::<IntervalMonthDayNanoType>().clone()),
        })
    }

    /// Whether a row has no value.
    pub(super) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(cells) => cells.is_null(row),
            Self::Int2(cells) => cells.is_null(row),
            Self::Int4(cells) => cells.is_null(row),
            Self::Int8(cells) => cells.is_null(row),
            Self::Float4(cells) => cells.is_null(row),
            Self::Float8(cells) => cells.is_null(row),
            Self::Numeric(cells) => cells.is_null(row),
            Self::LongNumeric(cells) => cells.is_null(row),
            Self::Text(cells) => cells.is_null(row),
            Self::LargeText(cells) => cells.is_null(row),
            Self::TextView(cells) => cells.is_null(row),
            Self::Bytea(cells) => cells.is_null(row),
            Self::Uuid(cells) => cells.is_null(row),
            Self::Date(cells) => cells.is_null(row),
            Self::Time(cells) => cells.is_null(row),
            Self::Timestamp(cells) | Self::TimestampTz(cells) => cells.is_null(row),
            Self::Interval(cells) => cells.is_null(row),
            Self::List(cells, ..) => cells.is_null(row),
            Self::Null => true,
        }
    }
}

fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Structures, maps and lists of lists as JSON text.
fn json(column: &ArrayRef) -> Result<Cells, ArrowError> {
    let field = Arc::new(Field::new("value", column.data_type().clone(), true));
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, column, &options)?;
    let mut texts: Vec<Option<String>> = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        if encoder.is_null(row) {
            texts.push(None);
            continue;
        }
        let mut text = Vec::new();
        encoder.encode(row, &mut text);
        let text = String::from_utf8(text).map_err(|_| ArrowError::JsonError("JSON is UTF-8".into()))?;
        texts.push(Some(text));
    }
    Ok(Cells::Text(StringArray::from(texts)))
}
