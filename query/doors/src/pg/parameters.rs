//! Parameters of statements, from text or binary to values of Arrow.
//!
//! Invariant: foreign bytes make an error or the value that was meant, never another. Pure.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use ashlar_query::{SqlError, SqlState};
use bytes::{Buf, Bytes};
use datafusion::common::ScalarValue;

use super::types::{NUMERIC_PARAMETER, PgType, Scalar};

/// Most elements of an array.
const ELEMENTS_MAX: usize = 1 << 20;
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;
const DIGITS_MAX: usize = 38;

/// The value of a parameter that was described as `pg_type`, for a place where the plan has `target`.
pub(super) fn decode(
    pg_type: PgType,
    is_binary: bool,
    bytes: Option<Bytes>,
    target: &DataType,
) -> Result<ScalarValue, SqlError> {
    let Some(bytes) = bytes else {
        return ScalarValue::try_from(target).map_err(SqlError::from);
    };
    let value = match pg_type {
        PgType::One(scalar) if is_binary => of_binary(scalar, bytes)?,
        PgType::Array(scalar) if is_binary => array_of_binary(scalar, bytes)?,
        PgType::One(scalar) => of_text(scalar, text(&bytes)?)?,
        PgType::Array(scalar) => array_of_text(scalar, text(&bytes)?)?,
    };
    if value.data_type() == *target {
        return Ok(value);
    }
    Ok(value.cast_to(target)?)
}

/// Arrow's type for values that a client declares as `pg_type`.
pub(super) fn declared(pg_type: PgType) -> DataType {
    match pg_type {
        PgType::One(scalar) => natural(scalar),
        PgType::Array(scalar) => DataType::List(Arc::new(Field::new_list_field(natural(scalar), true))),
    }
}

/// What values of a type are before they are brought to where they go.
fn natural(scalar: Scalar) -> DataType {
    match scalar {
        Scalar::Text | Scalar::Json | Scalar::Uuid => DataType::Utf8,
        Scalar::Bytea => DataType::Binary,
        Scalar::Numeric => DataType::Decimal128(NUMERIC_PARAMETER.0, NUMERIC_PARAMETER.1),
        other => other.arrow(&DataType::Null),
    }
}

fn malformed(what: &str) -> SqlError {
    SqlError::new(SqlState::InvalidTextRepresentation, format!("a parameter is no value of type {what}"))
}

fn wrong_length(scalar: Scalar) -> SqlError {
    SqlError::new(
        SqlState::DataException,
        format!("a parameter has the wrong length for {}", PgType::One(scalar).name()),
    )
}

fn text(bytes: &Bytes) -> Result<&str, SqlError> {
    std::str::from_utf8(bytes)
        .map_err(|_| SqlError::new(SqlState::DataException, "a text parameter is not UTF-8"))
}

fn of_text(scalar: Scalar, text: &str) -> Result<ScalarValue, SqlError> {
    let name = || malformed(&PgType::One(scalar).name());
    Ok(match scalar {
        Scalar::Text | Scalar::Json | Scalar::Uuid => ScalarValue::Utf8(Some(text.to_owned())),
        Scalar::Bytea => ScalarValue::Binary(Some(bytea(text).ok_or_else(name)?)),
        Scalar::Numeric => number(text)?,
        Scalar::Bool => ScalarValue::Boolean(Some(match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => true,
            "f" | "false" | "n" | "no" | "off" | "0" => false,
            _ => return Err(name()),
        })),
        _ => ScalarValue::try_from_string(text.trim().to_owned(), &natural(scalar)).map_err(|_| name())?,
    })
}

/// `\x` and hex digits, or bytes with `\ooo` for some.
fn bytea(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8, radix| char::from(byte).to_digit(radix).and_then(|digit| u8::try_from(digit).ok());
    if let Some(hex) = text.strip_prefix("\\x") {
        let pairs = hex.as_bytes().chunks(2);
        return pairs
            .map(|pair| match pair {
                [high, low] => Some(digit(*high, 16)? << 4 | digit(*low, 16)?),
                _ => None,
            })
            .collect();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        match (first, more) {
            (b'\\', [b'\\', more @ ..]) => {
                out.push(b'\\');
                rest = more;
            }
            (b'\\', [a @ b'0'..=b'3', b, c, more @ ..]) => {
                out.push(digit(*a, 8)? << 6 | digit(*b, 8)? << 3 | digit(*c, 8)?);
                rest = more;
            }
            (b'\\', _) => return None,
            _ => {
                out.push(*first);
                rest = more;
            }
        }
    }
    Some(out)
}

/// A decimal of exactly the digits that were given.
fn number(text: &str) -> Result<ScalarValue, SqlError> {
    let bad = || malformed("numeric");
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (text, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{rest}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let scale = i32::try_from(rest.len()).map_err(|_| bad())?.checked_sub(exponent).ok_or_else(bad)?;
    exact(sign == "-", digits.trim_start_matches('0'), scale)
}

fn exact(is_negative: bool, digits: &str, scale: i32) -> Result<ScalarValue, SqlError> {
    let too_long = || {
        SqlError::new(
            SqlState::NumericValueOutOfRange,
            format!("a numeric parameter has more than {DIGITS_MAX} digits"),
        )
    };
    let mut digits = digits.to_owned();
    let mut scale = scale;
    if scale < 0 {
        if scale < -40 {
            return Err(too_long());
        }
        digits.extend(std::iter::repeat_n('0', usize::try_from(-scale).unwrap_or(0)));
        scale = 0;
    }
    while scale > 0 && digits.ends_with('0') {
        digits.pop();
        scale -= 1;
    }
    if digits.is_empty() {
        scale = 0;
        digits.push('0');
    }
    let scale = i8::try_from(scale).ok().filter(|scale| *scale <= 38).ok_or_else(too_long)?;
    if digits.len() > DIGITS_MAX {
        return Err(too_long());
    }
    let value: i128 = digits.parse().map_err(|_| too_long())?;
    Ok(ScalarValue::Decimal128(Some(if is_negative { -value } else { value }), 38, scale))
}

fn of_binary(scalar: Scalar, mut bytes: Bytes) -> Result<ScalarValue, SqlError> {
    let expected = usize::try_from(PgType::One(scalar).size()).ok();
    if expected.is_some_and(|expected| bytes.len() != expected) {
        return Err(wrong_length(scalar));
    }
    let out_of_range =
        || SqlError::new(SqlState::NumericValueOutOfRange, "a date parameter is outside of what can be");
    Ok(match scalar {
        Scalar::Bool => ScalarValue::Boolean(Some(bytes.get_u8() != 0)),
        Scalar::Int2 => ScalarValue::Int16(Some(bytes.get_i16())),
        Scalar::Int4 => ScalarValue::Int32(Some(bytes.get_i32())),
        Scalar::Int8 => ScalarValue::Int64(Some(bytes.get_i64())),
        Scalar::Float4 => ScalarValue::Float32(Some(bytes.get_f32())),
        Scalar::Float8 => ScalarValue::Float64(Some(bytes.get_f64())),
        Scalar::Numeric => number_of_groups(bytes)?,
        Scalar::Text | Scalar::Json => ScalarValue::Utf8(Some(text(&bytes)?.to_owned())),
        Scalar::Bytea => ScalarValue::Binary(Some(bytes.to_vec())),
        Scalar::Uuid => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            ScalarValue::Utf8(Some(parts.join("-")))
        }
        Scalar::Date => {
            ScalarValue::Date32(Some(bytes.get_i32().checked_add(EPOCH_DAYS).ok_or_else(out_of_range)?))
        }
        Scalar::Time => ScalarValue::Time64Microsecond(Some(bytes.get_i64())),
        Scalar::Timestamp | Scalar::TimestampTz => {
            let at = bytes.get_i64().checked_add(EPOCH_MICROSECONDS).ok_or_else(out_of_range)?;
            let zone = (scalar == Scalar::TimestampTz).then(|| Arc::from("UTC"));
            ScalarValue::TimestampMicrosecond(Some(at), zone)
        }
        Scalar::Interval => {
            let (microseconds, days, months) = (bytes.get_i64(), bytes.get_i32(), bytes.get_i32());
            let nanoseconds = microseconds.checked_mul(1000).ok_or_else(out_of_range)?;
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds }))
        }
    })
}

fn number_of_groups(mut bytes: Bytes) -> Result<ScalarValue, SqlError> {
    let bad = || wrong_length(Scalar::Numeric);
    let count = bytes.try_get_u16().map_err(|_| bad())?;
    let weight = bytes.try_get_i16().map_err(|_| bad())?;
    let sign = bytes.try_get_u16().map_err(|_| bad())?;
    let _shown = bytes.try_get_u16().map_err(|_| bad())?;
    if bytes.len() != usize::from(count) * 2 {
        return Err(bad());
    }
    if !matches!(sign, 0 | 0x4000) {
        return Err(SqlError::unsupported("NaN and infinity as a numeric parameter"));
    }
    let mut digits = String::new();
    for _ in 0..count {
        let group = bytes.get_u16();
        if group > 9999 {
            return Err(malformed("numeric"));
        }
        digits.push_str(&format!("{group:04}"));
    }
    let scale = 4 * (i32::from(count) - 1 - i32::from(weight));
    exact(sign == 0x4000, digits.trim_start_matches('0'), if digits.is_empty() { 0 } else { scale })
}

fn list(scalar: Scalar, values: &[ScalarValue]) -> Result<ScalarValue, SqlError> {
    let of = natural(scalar);
    let values: Result<Vec<ScalarValue>, _> =
        values.iter().map(|value| value.cast_to(&of).map_err(SqlError::from)).collect();
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values?, &of)))
}

fn array_of_binary(scalar: Scalar, mut bytes: Bytes) -> Result<ScalarValue, SqlError> {
    let bad = || SqlError::new(SqlState::DataException, "an array parameter is malformed");
    if bytes.len() < 12 {
        return Err(bad());
    }
    let (dimensions, _nulls, of) = (bytes.get_i32(), bytes.get_i32(), bytes.get_u32());
    if PgType::of_oid(of) != Some(PgType::One(scalar)) {
        return Err(bad());
    }
    if dimensions == 0 {
        return list(scalar, &[]);
    }
    if dimensions != 1 {
        return Err(SqlError::unsupported("an array of more than one dimension as a parameter"));
    }
    if bytes.len() < 8 {
        return Err(bad());
    }
    let (count, _first) = (bytes.get_i32(), bytes.get_i32());
    let count = usize::try_from(count).ok().filter(|count| *count <= ELEMENTS_MAX).ok_or_else(bad)?;
    if bytes.len() < count * 4 {
        return Err(bad());
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let length = bytes.try_get_i32().map_err(|_| bad())?;
        values.push(match usize::try_from(length) {
            Ok(length) if length <= bytes.len() => of_binary(scalar, bytes.split_to(length))?,
            Err(_) if length == -1 => ScalarValue::try_from(&natural(scalar))?,
            _ => return Err(bad()),
        });
    }
    list(scalar, &values)
}

/// `{a,"b c",NULL}`, of one dimension.
fn array_of_text(scalar: Scalar, text: &str) -> Result<ScalarValue, SqlError> {
    let bad = || malformed(&PgType::Array(scalar).name());
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(bad)?;
    let mut values = Vec::new();
    let mut chars = inner.chars().peekable();
    if inner.trim().is_empty() {
        return list(scalar, &[]);
    }
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let (mut element, mut is_quoted) = (String::new(), false);
        if chars.next_if_eq(&'"').is_some() {
            is_quoted = true;
            loop {
                match chars.next().ok_or_else(bad)? {
                    '"' => break,
                    '\\' => element.push(chars.next().ok_or_else(bad)?),
                    c => element.push(c),
                }
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                match c {
                    '{' | '}' => {
                        return Err(SqlError::unsupported(
                            "an array of more than one dimension as a parameter",
                        ));
                    }
                    '\\' => element.push(chars.next().ok_or_else(bad)?),
                    c => element.push(c),
                }
            }
        }
        values.push(match element.trim() {
            null if !is_quoted && null.eq_ignore_ascii_case("null") => {
                ScalarValue::try_from(&natural(scalar))?
            }
            "" if !is_quoted => return Err(bad()),
            plain if !is_quoted => of_text(scalar, plain)?,
            _ => of_text(scalar, &element)?,
        });
        if values.len() > ELEMENTS_MAX {
            return Err(bad());
        }
        match chars.next() {
            None => return list(scalar, &values),
            Some(',') => {}
            Some(_) => return Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scalar: Scalar, text: &str) -> Result<ScalarValue, SqlError> {
        let bytes = Some(Bytes::copy_from_slice(text.as_bytes()));
        decode(PgType::One(scalar), false, bytes, &natural(scalar))
    }

    #[test]
    fn text_is_read_by_its_type() {
        assert_eq!(of(Scalar::Int4, " 7 ").expect("read"), ScalarValue::Int32(Some(7)));
        assert_eq!(of(Scalar::Bool, "T").expect("read"), ScalarValue::Boolean(Some(true)));
        assert_eq!(of(Scalar::Bytea, "\\x00ff").expect("read"), ScalarValue::Binary(Some(vec![0, 255])));
        assert_eq!(
            of(Scalar::Bytea, "a\\\\\\001").expect("read"),
            ScalarValue::Binary(Some(b"a\\\x01".to_vec()))
        );
        assert_eq!(
            of(Scalar::Numeric, "-12.50").expect("read"),
            ScalarValue::Decimal128(Some(-125_000_000_000), 38, 10)
        );
        assert_eq!(number("1e3").expect("read"), ScalarValue::Decimal128(Some(1000), 38, 0));
        assert_eq!(
            of(Scalar::Timestamp, "2024-01-01 00:00:00.5").expect("read"),
            ScalarValue::TimestampMicrosecond(Some(1_704_067_200_500_000), None)
        );
        for (scalar, text) in [
            (Scalar::Int4, "x"),
            (Scalar::Int2, "70000"),
            (Scalar::Bool, "maybe"),
            (Scalar::Numeric, "1.2.3"),
            (Scalar::Numeric, "NaN"),
            (Scalar::Bytea, "\\x0"),
            (Scalar::Date, "soon"),
        ] {
            assert!(of(scalar, text).is_err(), "{scalar:?} {text}");
        }
    }

    #[test]
    fn arrays_in_both_formats() {
        let target = DataType::List(Arc::new(arrow::datatypes::Field::new_list_field(DataType::Utf8, true)));
        let text = Bytes::from_static(br#"{a,"b,\"c\"",NULL,"NULL"}"#);
        let value = decode(PgType::Array(Scalar::Text), false, Some(text), &target).expect("read");
        let expected: Vec<ScalarValue> = [Some("a"), Some("b,\"c\""), None, Some("NULL")]
            .map(|text| ScalarValue::Utf8(text.map(str::to_owned)))
            .to_vec();
        assert_eq!(value, list(Scalar::Text, &expected).expect("a list"));
        let binary = b"\0\0\0\x01\0\0\0\0\0\0\0\x17\0\0\0\x01\0\0\0\x01\0\0\0\x04\0\0\0\x05";
        let value = array_of_binary(Scalar::Int4, Bytes::from_static(binary)).expect("read");
        assert_eq!(value, list(Scalar::Int4, &[ScalarValue::Int32(Some(5))]).expect("a list"));
        for broken in 0..binary.len() {
            assert!(array_of_binary(Scalar::Int4, Bytes::copy_from_slice(&binary[..broken])).is_err());
        }
        for text in ["", "{", "{a,}", "{a b\"}c", "{{1},{2}}", "{\"a}"] {
            assert!(array_of_text(Scalar::Int4, text).is_err(), "{text}");
        }
    }

    #[test]
    fn binary_numbers_are_exact() {
        let groups = |words: &[u16]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            number_of_groups(Bytes::from(bytes))
        };
        assert_eq!(
            groups(&[2, 0, 0, 2, 12, 3400]).expect("read"),
            ScalarValue::Decimal128(Some(1234), 38, 2)
        );
        assert_eq!(
            groups(&[1, 0xffff, 0x4000, 1, 5000]).expect("read"),
            ScalarValue::Decimal128(Some(-5), 38, 1)
        );
        assert_eq!(groups(&[0, 0, 0, 0]).expect("read"), ScalarValue::Decimal128(Some(0), 38, 0));
        assert!(groups(&[1, 0, 0xc000, 0, 1]).is_err());
        assert!(groups(&[2, 0, 0, 0, 1]).is_err());
        assert!(groups(&[1, 30_000, 0, 0, 1]).is_err());
    }
}
