//! Values as PostgreSQL prints them.
//!
//! Invariant: what is printed reads back as the same value, with `datestyle` ISO and `intervalstyle` postgres.
//! Pure.

use std::fmt::Write;

use arrow::array::timezone::Tz;
use arrow::datatypes::{Decimal128Type, Decimal256Type, DecimalType};
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike};

use super::cells::Cells;

const MICROSECONDS: i64 = 1_000_000;

/// Why a value cannot be printed: it is outside of what dates can be.
#[derive(Debug, thiserror::Error)]
#[error("a date or time is outside of what can be shown")]
pub(super) struct OutOfRange;

/// Writes the value of a row, which is not null.
pub(super) fn write(cells: &Cells, row: usize, zone: Tz, out: &mut BytesMut) -> Result<(), OutOfRange> {
    match cells {
        Cells::Bool(of) => out.put_u8(if of.value(row) { b't' } else { b'f' }),
        Cells::Int2(of) => print(out, format_args!("{}", of.value(row))),
        Cells::Int4(of) => print(out, format_args!("{}", of.value(row))),
        Cells::Int8(of) => print(out, format_args!("{}", of.value(row))),
        Cells::Float4(of) => {
            let value = of.value(row);
            float(f64::from(value).is_finite().then(|| format!("{value:e}")), f64::from(value), 6, out);
        }
        Cells::Float8(of) => {
            let value = of.value(row);
            float(value.is_finite().then(|| format!("{value:e}")), value, 15, out);
        }
        Cells::Numeric(of) => {
            let text = Decimal128Type::format_decimal(of.value(row), of.precision(), of.scale());
            out.put_slice(text.as_bytes());
        }
        Cells::LongNumeric(of) => {
            let text = Decimal256Type::format_decimal(of.value(row), of.precision(), of.scale());
            out.put_slice(text.as_bytes());
        }
        Cells::Text(of) => out.put_slice(of.value(row).as_bytes()),
        Cells::LargeText(of) => out.put_slice(of.value(row).as_bytes()),
        Cells::TextView(of) => out.put_slice(of.value(row).as_bytes()),
        Cells::Bytea(of) => {
            out.put_slice(b"\\x");
            for byte in of.value(row) {
                print(out, format_args!("{byte:02x}"));
            }
        }
        Cells::Uuid(of) => {
            for (at, byte) in of.value(row).iter().enumerate() {
                if matches!(at, 4 | 6 | 8 | 10) {
                    out.put_u8(b'-');
                }
                print(out, format_args!("{byte:02x}"));
            }
        }
        Cells::Date(of) => date(day(i64::from(of.value(row)))?, out),
        Cells::Time(of) => {
            let value = of.value(row);
            clock(value / MICROSECONDS, value % MICROSECONDS, out);
        }
        Cells::Timestamp(of) => moment(utc(of.value(row))?.naive_utc(), None, out),
        Cells::TimestampTz(of) => {
            let there = zone.from_utc_datetime(&utc(of.value(row))?.naive_utc());
            moment(there.naive_local(), Some(there.offset().fix().local_minus_utc()), out);
        }
        Cells::Interval(of) => {
            let value = of.value(row);
            interval(value.months, value.days, value.nanoseconds / 1000, out);
        }
        Cells::List(of, _, values) => {
            let offsets = of.value_offsets();
            let (Ok(from), Ok(to)) = (usize::try_from(offsets[row]), usize::try_from(offsets[row + 1]))
            else {
                return Err(OutOfRange);
            };
            out.put_u8(b'{');
            for at in from..to {
                if at > from {
                    out.put_u8(b',');
                }
                element(values, at, zone, out)?;
            }
            out.put_u8(b'}');
        }
        Cells::Null => {}
    }
    Ok(())
}

fn print(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("room is made as it is needed");
}

/// An element of an array: quoted where it could be read as something else.
fn element(values: &Cells, at: usize, zone: Tz, out: &mut BytesMut) -> Result<(), OutOfRange> {
    if values.is_null(at) {
        out.put_slice(b"NULL");
        return Ok(());
    }
    let mut plain = BytesMut::new();
    write(values, at, zone, &mut plain)?;
    let is_special = |byte: &u8| b"{},\"\\".contains(byte) || byte.is_ascii_whitespace();
    if !plain.is_empty() && !plain.iter().any(is_special) && !plain.eq_ignore_ascii_case(b"null") {
        out.put_slice(&plain);
        return Ok(());
    }
    out.put_u8(b'"');
    for byte in plain {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
    Ok(())
}

/// The fewest digits that read back, given as `d.ddde±x`; with an exponent where PostgreSQL writes one.
fn float(scientific: Option<String>, value: f64, digits_max: i32, out: &mut BytesMut) {
    let Some(scientific) = scientific else {
        let name: &[u8] = match value {
            value if value.is_nan() => b"NaN",
            value if value > 0.0 => b"Infinity",
            _ => b"-Infinity",
        };
        return out.put_slice(name);
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    out.put_slice(sign.as_bytes());
    if !(-4..digits_max).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return print(out, format_args!("{mantissa}e{sign}{:02}", exponent.abs()));
    }
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let before = usize::try_from(exponent + 1).unwrap_or(0);
    if before == 0 {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        print(out, format_args!("0.{:0<zeros$}{digits}", ""));
    } else if digits.len() <= before {
        print(out, format_args!("{digits:0<before$}"));
    } else {
        print(out, format_args!("{}.{}", &digits[..before], &digits[before..]));
    }
}

fn utc(microseconds: i64) -> Result<DateTime<chrono::Utc>, OutOfRange> {
    DateTime::from_timestamp_micros(microseconds).ok_or(OutOfRange)
}

fn day(days: i64) -> Result<NaiveDate, OutOfRange> {
    DateTime::from_timestamp(days.checked_mul(86_400).ok_or(OutOfRange)?, 0)
        .map(|moment| moment.date_naive())
        .ok_or(OutOfRange)
}

fn date(day: NaiveDate, out: &mut BytesMut) {
    let (year, era) = if day.year() > 0 { (day.year(), "") } else { (1 - day.year(), " BC") };
    print(out, format_args!("{year:04}-{:02}-{:02}{era}", day.month(), day.day()));
}

fn clock(seconds: i64, microseconds: i64, out: &mut BytesMut) {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    print(out, format_args!("{hours:02}:{minutes:02}:{seconds:02}"));
    fraction(microseconds, out);
}

fn fraction(microseconds: i64, out: &mut BytesMut) {
    if microseconds != 0 {
        let digits = format!("{microseconds:06}");
        print(out, format_args!(".{}", digits.trim_end_matches('0')));
    }
}

fn moment(at: NaiveDateTime, offset_seconds: Option<i32>, out: &mut BytesMut) {
    let (year, era) = if at.year() > 0 { (at.year(), "") } else { (1 - at.year(), " BC") };
    print(out, format_args!("{year:04}-{:02}-{:02} ", at.month(), at.day()));
    clock(i64::from(at.num_seconds_from_midnight()), i64::from(at.nanosecond() / 1000 % 1_000_000), out);
    if let Some(offset) = offset_seconds {
        let (sign, offset) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
        print(out, format_args!("{sign}{:02}", offset / 3600));
        if offset % 3600 != 0 {
            print(out, format_args!(":{:02}", offset / 60 % 60));
        }
        if offset % 60 != 0 {
            print(out, format_args!(":{:02}", offset % 60));
        }
    }
    out.put_slice(era.as_bytes());
}

/// As `intervalstyle` postgres has it: `1 year 2 mons -3 days +04:05:06.7`.
fn interval(months: i32, days: i32, microseconds: i64, out: &mut BytesMut) {
    let mut any = false;
    // A part after a negative one says its sign, or it would be read as negative.
    let mut negative = false;
    let parts = [(months / 12, "year"), (months % 12, "mon"), (days, "day")];
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count != 0) {
        if any {
            out.put_u8(b' ');
        }
        let plus = if negative && count > 0 { "+" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        print(out, format_args!("{plus}{count} {unit}{plural}"));
        (any, negative) = (true, count < 0);
    }
    if microseconds == 0 && any {
        return;
    }
    if any {
        out.put_u8(b' ');
    }
    let sign = match microseconds {
        less if less < 0 => "-",
        _ if negative => "+",
        _ => "",
    };
    out.put_slice(sign.as_bytes());
    let total = microseconds.unsigned_abs();
    let (seconds, rest) = (total / 1_000_000, total % 1_000_000);
    print(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    fraction(i64::try_from(rest).unwrap_or(0), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn floats_as_postgresql_prints_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-1234.5, "-1234.5"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (123_456_789_012_345.6, "123456789012345.6"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e300, "1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let text = value.is_finite().then(|| format!("{value:e}"));
            assert_eq!(shown(|out| float(text, value, 15, out)), expected);
        }
        assert_eq!(shown(|out| float(Some(format!("{:e}", 1e6_f32)), 1e6, 6, out)), "1e+06");
    }

    #[test]
    fn intervals_as_postgresql_prints_them() {
        for ((months, days, microseconds), expected) in [
            ((0, 0, 0), "00:00:00"),
            ((14, 3, 14_706_700_000), "1 year 2 mons 3 days 04:05:06.7"),
            ((-1, 1, -1_000_000), "-1 mons +1 day -00:00:01"),
            ((0, -1, 1_000_000), "-1 days +00:00:01"),
            ((0, 0, 360_000_000_000), "100:00:00"),
        ] {
            assert_eq!(shown(|out| interval(months, days, microseconds, out)), expected);
        }
    }

    #[test]
    fn dates_and_moments() {
        assert_eq!(shown(|out| date(day(0).expect("a day"), out)), "1970-01-01");
        assert_eq!(shown(|out| date(day(-719_529).expect("a day"), out)), "0002-12-31 BC");
        let at = utc(1_704_067_200_120_000).expect("a moment").naive_utc();
        assert_eq!(shown(|out| moment(at, None, out)), "2024-01-01 00:00:00.12");
        assert_eq!(shown(|out| moment(at, Some(0), out)), "2024-01-01 00:00:00.12+00");
        assert_eq!(shown(|out| moment(at, Some(-12_600), out)), "2024-01-01 00:00:00.12-03:30");
    }
}
