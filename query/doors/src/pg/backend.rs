//! What the server says in the PostgreSQL protocol, written to bytes.
//!
//! Invariant: a message's length is that of what follows. Pure.

use ashlar_query::SqlError;
use ashlar_query::session::TransactionState;
use bytes::{BufMut, BytesMut};

/// A column as clients are told of it.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) oid: u32,
    pub(super) size: i16,
    pub(super) modifier: i32,
    pub(super) is_binary: bool,
}

/// How bad an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
    /// Nothing failed.
    Warning,
}

/// A message of a kind.
pub(super) fn message(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - at).expect("messages are bounded far below 4 GiB");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Up to a zero byte. What a zero byte would cut off is left out.
fn text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.put_u8(0);
}

pub(super) fn authentication(out: &mut BytesMut, code: u32, body: &[u8]) {
    message(out, b'R', |out| {
        out.put_u32(code);
        out.put_slice(body);
    });
}

/// Which mechanisms there are.
pub(super) fn mechanisms(out: &mut BytesMut, names: &[&str]) {
    let mut body = BytesMut::new();
    for name in names {
        text(&mut body, name);
    }
    body.put_u8(0);
    authentication(out, 10, &body);
}

pub(super) fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

pub(super) fn key_data(out: &mut BytesMut, process: u32, secret: u32) {
    message(out, b'K', |out| {
        out.put_u32(process);
        out.put_u32(secret);
    });
}

/// Protocol 3.0 is spoken, and these options are not known.
pub(super) fn negotiate(out: &mut BytesMut, unknown: &[String]) {
    message(out, b'v', |out| {
        out.put_u32(3 << 16);
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(0));
        for name in unknown {
            text(out, name);
        }
    });
}

pub(super) fn ready(out: &mut BytesMut, state: TransactionState) {
    message(out, b'Z', |out| {
        out.put_u8(match state {
            TransactionState::Idle => b'I',
            TransactionState::Open => b'T',
            TransactionState::Failed => b'E',
        });
    });
}

pub(super) fn complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| text(out, tag));
}

/// A message without a body: `1` parsed, `2` bound, `3` closed, `I` empty, `n` no rows, `s` suspended.
pub(super) fn plain(out: &mut BytesMut, kind: u8) {
    message(out, kind, |_| {});
}

pub(super) fn row_description(out: &mut BytesMut, columns: &[Described]) {
    message(out, b'T', |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for column in columns {
            text(out, &column.name);
            // Of no table, so without a column's number.
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(column.oid);
            out.put_i16(column.size);
            out.put_i32(column.modifier);
            out.put_u16(u16::from(column.is_binary));
        }
    });
}

pub(super) fn parameter_description(out: &mut BytesMut, oids: &[u32]) {
    message(out, b't', |out| {
        out.put_u16(u16::try_from(oids.len()).unwrap_or(u16::MAX));
        for oid in oids {
            out.put_u32(*oid);
        }
    });
}

/// An error or a warning; `position` counts characters of the statement from 1.
pub(super) fn failure(
    out: &mut BytesMut,
    severity: Severity,
    code: &str,
    error: &str,
    hint: Option<&str>,
    position: Option<usize>,
) {
    let kind = if severity == Severity::Warning { b'N' } else { b'E' };
    message(out, kind, |out| {
        let word = match severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Warning => "WARNING",
        };
        let mut field = |name: u8, value: &str| {
            out.put_u8(name);
            text(out, value);
        };
        field(b'S', word);
        field(b'V', word);
        field(b'C', code);
        field(b'M', error);
        if let Some(hint) = hint {
            field(b'H', hint);
        }
        if let Some(position) = position {
            field(b'P', &position.to_string());
        }
        out.put_u8(0);
    });
}

/// A statement's error.
pub(super) fn sql_error(out: &mut BytesMut, severity: Severity, error: &SqlError, position: Option<usize>) {
    failure(out, severity, error.state.code(), &error.message, error.hint.as_deref(), position);
}

/// From `Line: 2, Column: 5` at the end of a message to a count of characters.
pub(super) fn position(message: &str, statement: &str) -> Option<usize> {
    if message.ends_with("found: EOF") {
        return Some(statement.chars().count() + 1);
    }
    let (_, at) = message.rsplit_once("Line: ")?;
    let (line, column) = at.split_once(", Column: ")?;
    let line: usize = line.parse().ok()?;
    let digits = column.find(|c: char| !c.is_ascii_digit()).unwrap_or(column.len());
    let column: usize = column[..digits].parse().ok()?;
    let lines = statement.split('\n').take(line.checked_sub(1)?);
    Some(lines.map(|line| line.chars().count() + 1).sum::<usize>() + column).filter(|at| *at > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves_and_what_follows() {
        let mut out = BytesMut::new();
        complete(&mut out, "SELECT 1");
        assert_eq!(&out[..], b"C\0\0\0\x0dSELECT 1\0");
        out.clear();
        ready(&mut out, TransactionState::Failed);
        assert_eq!(&out[..], b"Z\0\0\0\x05E");
    }

    #[test]
    fn errors_say_where() {
        let message = "Expected: an expression, found: FROM at Line: 2, Column: 3";
        assert_eq!(position(message, "SELECT\n  FROM t"), Some(10));
        assert_eq!(position("no table", "SELECT"), None);
    }
}
