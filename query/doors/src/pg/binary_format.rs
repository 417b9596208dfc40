//! Values as PostgreSQL sends them in binary.
//!
//! Invariant: the lengths and counts written are those of the bytes that follow. Pure.

use bytes::{BufMut, BytesMut};

use super::cells::Cells;
use super::types::PgType;

/// PostgreSQL counts from 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;
/// Digits of a group of `numeric`.
const GROUP_DIGITS: usize = 4;

/// Why a value cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("a value is outside of what its type can hold")]
pub(super) struct OutOfRange;

/// Writes the value of a row, which is not null.
pub(super) fn write(cells: &Cells, row: usize, out: &mut BytesMut) -> Result<(), OutOfRange> {
    match cells {
        Cells::Bool(of) => out.put_u8(u8::from(of.value(row))),
        Cells::Int2(of) => out.put_i16(of.value(row)),
        Cells::Int4(of) => out.put_i32(of.value(row)),
        Cells::Int8(of) => out.put_i64(of.value(row)),
        Cells::Float4(of) => out.put_f32(of.value(row)),
        Cells::Float8(of) => out.put_f64(of.value(row)),
        Cells::Numeric(of) => numeric(&of.value(row).to_string(), of.scale(), out)?,
        Cells::LongNumeric(of) => numeric(&of.value(row).to_string(), of.scale(), out)?,
        Cells::Text(of) => out.put_slice(of.value(row).as_bytes()),
        Cells::LargeText(of) => out.put_slice(of.value(row).as_bytes()),
        Cells::TextView(of) => out.put_slice(of.value(row).as_bytes()),
        Cells::Bytea(of) => out.put_slice(of.value(row)),
        Cells::Uuid(of) => out.put_slice(of.value(row)),
        Cells::Date(of) => out.put_i32(of.value(row).checked_sub(EPOCH_DAYS).ok_or(OutOfRange)?),
        Cells::Time(of) => out.put_i64(of.value(row)),
        Cells::Timestamp(of) | Cells::TimestampTz(of) => {
            out.put_i64(of.value(row).checked_sub(EPOCH_MICROSECONDS).ok_or(OutOfRange)?);
        }
        Cells::Interval(of) => {
            let value = of.value(row);
            out.put_i64(value.nanoseconds / 1000);
            out.put_i32(value.days);
            out.put_i32(value.months);
        }
        Cells::List(of, scalar, values) => {
            let offsets = of.value_offsets();
            let (Ok(from), Ok(to)) = (usize::try_from(offsets[row]), usize::try_from(offsets[row + 1]))
            else {
                return Err(OutOfRange);
            };
            array(from, to, PgType::One(*scalar), values, out)?;
        }
        Cells::Null => {}
    }
    Ok(())
}

fn array(from: usize, to: usize, of: PgType, values: &Cells, out: &mut BytesMut) -> Result<(), OutOfRange> {
    let any_null = (from..to).any(|at| values.is_null(at));
    out.put_i32(i32::from(to > from));
    out.put_i32(i32::from(any_null));
    out.put_u32(of.oid());
    if to == from {
        return Ok(());
    }
    out.put_i32(i32::try_from(to - from).map_err(|_| OutOfRange)?);
    out.put_i32(1);
    for at in from..to {
        if values.is_null(at) {
            out.put_i32(-1);
        } else {
            sized(out, |out| write(values, at, out))?;
        }
    }
    Ok(())
}

/// What is written, after its length.
pub(super) fn sized<E>(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<OutOfRange>,
{
    let at = out.len();
    out.put_i32(0);
    write(out)?;
    let length = i32::try_from(out.len() - at - 4).map_err(|_| OutOfRange)?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Groups of four digits around the point; `unscaled` is the number without one.
fn numeric(unscaled: &str, scale: i8, out: &mut BytesMut) -> Result<(), OutOfRange> {
    let (negative, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, unscaled),
    };
    let mut digits = digits.to_owned();
    let scale = if scale < 0 {
        digits.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        0
    } else {
        usize::from(scale.unsigned_abs())
    };
    if digits.len() <= scale {
        digits = format!("{digits:0>width$}", width = scale + 1);
    }
    let (whole, rest) = digits.split_at(digits.len() - scale);
    let whole_groups = whole.len().div_ceil(GROUP_DIGITS);
    let rest_groups = rest.len().div_ceil(GROUP_DIGITS);
    let whole = format!("{whole:0>width$}", width = whole_groups * GROUP_DIGITS);
    let rest = format!("{rest:0<width$}", width = rest_groups * GROUP_DIGITS);
    let groups: Vec<u16> = whole
        .as_bytes()
        .chunks(GROUP_DIGITS)
        .chain(rest.as_bytes().chunks(GROUP_DIGITS))
        .map(|group| group.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
        .collect();
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let trailing = groups.iter().rev().take_while(|group| **group == 0).count();
    let significant = groups.get(leading..groups.len().saturating_sub(trailing)).unwrap_or(&[]);
    let first = if significant.is_empty() { 0 } else { leading };
    let weight = i16::try_from(whole_groups).ok().zip(i16::try_from(first).ok());
    let weight = weight.map(|(groups, first)| groups - 1 - first).ok_or(OutOfRange)?;
    out.put_u16(u16::try_from(significant.len()).map_err(|_| OutOfRange)?);
    out.put_i16(if significant.is_empty() { 0 } else { weight });
    out.put_u16(if negative && !significant.is_empty() { 0x4000 } else { 0 });
    out.put_u16(u16::try_from(scale).map_err(|_| OutOfRange)?);
    for group in significant {
        out.put_u16(*group);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_groups_of_four_digits() {
        for (unscaled, scale, expected) in [
            ("0", 2, vec![0, 0, 0, 2]),
            ("1", 0, vec![1, 0, 0, 0, 1]),
            ("12345678", 3, vec![3, 1, 0, 3, 1, 2345, 6780]),
            ("-5", 1, vec![1, 0xffff, 0x4000, 1, 5000]),
            ("10000", 0, vec![1, 1, 0, 0, 1]),
            ("1", 8, vec![1, 0xfffe, 0, 8, 1]),
            ("12", -2, vec![1, 0, 0, 0, 1200]),
        ] {
            let mut out = BytesMut::new();
            numeric(unscaled, scale, &mut out).expect("in range");
            let words: Vec<u16> = out.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]])).collect();
            assert_eq!(words, expected, "{unscaled} {scale}");
        }
    }
}
