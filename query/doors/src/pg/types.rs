//! Which PostgreSQL type stands for which of Arrow's, with its number, size and name.
//!
//! Invariant: a column is described as the type in which its values are sent. What PostgreSQL has no type for
//! (structures, maps, lists of lists) is `json`. Pure.

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

/// Digits of a parameter that a client declares as `numeric`, and those of them behind the point.
pub(super) const NUMERIC_PARAMETER: (u8, i8) = (38, 10);
/// A modifier that says nothing.
const NO_MODIFIER: i32 = -1;
/// What Arrow's extension types call a UUID.
const UUID_EXTENSION: &str = "arrow.uuid";
const EXTENSION_NAME: &str = "ARROW:extension:name";

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    Json,
}

/// A value, or an array of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PgType {
    One(Scalar),
    Array(Scalar),
}

/// Number, number of the array, size, name.
const SCALARS: [(Scalar, u32, u32, i16, &str); 16] = [
    (Scalar::Bool, 16, 1000, 1, "boolean"),
    (Scalar::Int2, 21, 1005, 2, "smallint"),
    (Scalar::Int4, 23, 1007, 4, "integer"),
    (Scalar::Int8, 20, 1016, 8, "bigint"),
    (Scalar::Float4, 700, 1021, 4, "real"),
    (Scalar::Float8, 701, 1022, 8, "double precision"),
    (Scalar::Numeric, 1700, 1231, -1, "numeric(38,10)"),
    (Scalar::Text, 25, 1009, -1, "text"),
    (Scalar::Bytea, 17, 1001, -1, "bytea"),
    (Scalar::Date, 1082, 1182, 4, "date"),
    (Scalar::Time, 1083, 1183, 8, "time"),
    (Scalar::Timestamp, 1114, 1115, 8, "timestamp"),
    (Scalar::TimestampTz, 1184, 1185, 8, "timestamp with time zone"),
    (Scalar::Interval, 1186, 1187, 16, "interval"),
    (Scalar::Uuid, 2950, 2951, 16, "text"),
    (Scalar::Json, 114, 199, -1, "text"),
];

/// Other numbers under which clients know text: `char`, `name`, `bpchar`, `varchar`, and their arrays.
const TEXTS: [(u32, u32); 4] = [(18, 1002), (19, 1003), (1042, 1014), (1043, 1015)];

impl Scalar {
    fn row(self) -> &'static (Scalar, u32, u32, i16, &'static str) {
        SCALARS.iter().find(|row| row.0 == self).expect("every scalar has a row")
    }

    /// Of Arrow's type; `None` for what is no single value.
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Self::Int2,
            DataType::Int32 | DataType::UInt16 => Self::Int4,
            DataType::Int64 | DataType::UInt32 => Self::Int8,
            DataType::Float16 | DataType::Float32 => Self::Float4,
            DataType::Float64 => Self::Float8,
            DataType::UInt64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Self::Numeric,
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytea,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::TimestampTz,
            DataType::Interval(_) | DataType::Duration(_) => Self::Interval,
            DataType::Dictionary(_, values) => return Self::of(values),
            DataType::RunEndEncoded(_, values) => return Self::of(values.data_type()),
            _ => return None,
        })
    }

    /// The one of Arrow's types in which its values are brought before they are written.
    pub(super) fn arrow(self, from: &DataType) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Numeric => match from {
                DataType::Decimal256(precision, scale) => DataType::Decimal256(*precision, *scale),
                DataType::Decimal32(precision, scale)
                | DataType::Decimal64(precision, scale)
                | DataType::Decimal128(precision, scale) => DataType::Decimal128(*precision, *scale),
                DataType::Dictionary(_, values) => self.arrow(values),
                DataType::RunEndEncoded(_, values) => self.arrow(values.data_type()),
                DataType::UInt64 => DataType::Decimal128(20, 0),
                _ => DataType::Decimal128(NUMERIC_PARAMETER.0, NUMERIC_PARAMETER.1),
            },
            Self::Text | Self::Json => DataType::LargeUtf8,
            Self::Bytea => DataType::LargeBinary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        }
    }
}

impl PgType {
    /// Of a column.
    pub(super) fn of(field: &Field) -> Self {
        let is_uuid = field.metadata().get(EXTENSION_NAME).is_some_and(|name| name == UUID_EXTENSION);
        if is_uuid && *field.data_type() == DataType::FixedSizeBinary(16) {
            return Self::One(Scalar::Uuid);
        }
        Self::of_arrow(field.data_type())
    }

    /// Of one of Arrow's types.
    pub(super) fn of_arrow(data_type: &DataType) -> Self {
        match data_type {
            DataType::List(of)
            | DataType::LargeList(of)
            | DataType::FixedSizeList(of, _)
            | DataType::ListView(of)
            | DataType::LargeListView(of) => {
                Scalar::of(of.data_type()).map_or(Self::One(Scalar::Json), Self::Array)
            }
            one => Self::One(Scalar::of(one).unwrap_or(Scalar::Json)),
        }
    }

    /// Of a number; `None`: it is none of ours, or 0, which leaves it open.
    pub(super) fn of_oid(oid: u32) -> Option<Self> {
        if let Some(row) = SCALARS.iter().find(|row| row.1 == oid) {
            return Some(Self::One(row.0));
        }
        if let Some(row) = SCALARS.iter().find(|row| row.2 == oid) {
            return Some(Self::Array(row.0));
        }
        TEXTS.iter().find_map(|(one, array)| match oid {
            _ if oid == *one => Some(Self::One(Scalar::Text)),
            _ if oid == *array => Some(Self::Array(Scalar::Text)),
            _ => None,
        })
    }

    /// Its number.
    pub(super) fn oid(self) -> u32 {
        match self {
            Self::One(scalar) => scalar.row().1,
            Self::Array(scalar) => scalar.row().2,
        }
    }

    /// Bytes of a value; -1: as many as it needs.
    pub(super) fn size(self) -> i16 {
        match self {
            Self::One(scalar) => scalar.row().3,
            Self::Array(_) => -1,
        }
    }

    /// As SQL of ours names it.
    pub(super) fn name(self) -> String {
        match self {
            Self::One(scalar) => scalar.row().4.to_owned(),
            Self::Array(scalar) => format!("{}[]", scalar.row().4),
        }
    }

    /// The modifier of a column: precision and scale of a decimal.
    pub(super) fn modifier(self, data_type: &DataType) -> i32 {
        match data_type {
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale)
                if self == Self::One(Scalar::Numeric) && *scale >= 0 =>
            {
                ((i32::from(*precision) << 16) | i32::from(*scale)) + 4
            }
            _ => NO_MODIFIER,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn numbers_lead_back_to_their_types() {
        for (scalar, oid, array, ..) in SCALARS {
            assert_eq!(PgType::of_oid(oid), Some(PgType::One(scalar)));
            assert_eq!(PgType::of_oid(array), Some(PgType::Array(scalar)));
            assert_eq!((PgType::One(scalar).oid(), PgType::Array(scalar).oid()), (oid, array));
        }
        assert_eq!(PgType::of_oid(1043), Some(PgType::One(Scalar::Text)));
        assert_eq!(PgType::of_oid(0), None);
    }

    #[test]
    fn what_has_no_type_is_json() {
        let item = |of: DataType| Arc::new(Field::new("item", of, true));
        let list = DataType::List(item(DataType::Int32));
        assert_eq!(PgType::of_arrow(&list), PgType::Array(Scalar::Int4));
        assert_eq!(PgType::of_arrow(&DataType::List(item(list))), PgType::One(Scalar::Json));
        let structure = DataType::Struct(vec![Field::new("a", DataType::Int32, true)].into());
        assert_eq!(PgType::of_arrow(&structure), PgType::One(Scalar::Json));
        let words = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        assert_eq!(PgType::of_arrow(&words), PgType::One(Scalar::Text));
        let decimal = DataType::Decimal128(12, 2);
        assert_eq!(PgType::of_arrow(&decimal).modifier(&decimal), ((12 << 16) | 2) + 4);
    }
}
