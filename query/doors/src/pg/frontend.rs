//! What clients of the PostgreSQL protocol send, parsed from bytes of theirs.
//!
//! Invariant: every count is checked against the bytes that are there before room is made, text is UTF-8, and a
//! message ends where it said. Pure.

use bytes::{Buf, Bytes};

/// A message that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// A message after the start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Query(String),
    Parse {
        name: String,
        text: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe {
        what: What,
        name: String,
    },
    Execute {
        portal: String,
        rows_max: usize,
    },
    Close {
        what: What,
        name: String,
    },
    Sync,
    Flush,
    Terminate,
    /// Of an authentication.
    Password(Bytes),
    /// Of a COPY, which is not under way.
    Copy,
    FunctionCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Statement,
    Portal,
}

/// Parameters for a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) parameter_formats: Vec<bool>,
    pub(super) parameters: Vec<Option<Bytes>>,
    pub(super) result_formats: Vec<bool>,
}

/// The first thing that a client says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// It wants TLS.
    Tls,
    /// It wants GSSAPI.
    Gss,
    /// It cancels what another connection runs.
    Cancel { process: u32, secret: u32 },
    /// It begins, with a minor version of protocol 3.
    Start { minor: u16, parameters: Vec<(String, String)> },
}

const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

impl Opening {
    /// Of what follows the length.
    pub(super) fn parse(mut body: Bytes) -> Result<Self, Malformed> {
        let code = number(&mut body)?;
        Ok(match code {
            TLS => Self::Tls,
            GSS => Self::Gss,
            CANCEL => Self::Cancel { process: number(&mut body)?, secret: number(&mut body)? },
            _ if code >> 16 == 3 => {
                let minor = u16::try_from(code & 0xffff).expect("sixteen bits were kept");
                let mut parameters = Vec::new();
                loop {
                    let name = text(&mut body)?;
                    if name.is_empty() {
                        break;
                    }
                    parameters.push((name, text(&mut body)?));
                }
                Self::Start { minor, parameters }
            }
            _ => return Err(Malformed("protocol version 3 is spoken here")),
        })
    }
}

impl Message {
    /// Of a kind and what follows the length.
    pub(super) fn parse(kind: u8, mut body: Bytes) -> Result<Self, Malformed> {
        let body = &mut body;
        let message = match kind {
            b'Q' => Self::Query(text(body)?),
            b'P' => {
                let (name, text) = (text(body)?, text(body)?);
                let count = usize::from(short(body)?);
                if body.remaining() < count * 4 {
                    return Err(Malformed("fewer types than were counted"));
                }
                Self::Parse { name, text, types: (0..count).map(|_| body.get_u32()).collect() }
            }
            b'B' => Self::Bind(bind(body)?),
            b'D' => Self::Describe { what: what(body)?, name: text(body)? },
            b'E' => {
                let portal = text(body)?;
                let rows = i32::from_be_bytes(number(body)?.to_be_bytes());
                // None and negative numbers are no limit, as PostgreSQL has it.
                let rows_max = usize::try_from(rows).ok().filter(|rows| *rows > 0).unwrap_or(usize::MAX);
                Self::Execute { portal, rows_max }
            }
            b'C' => Self::Close { what: what(body)?, name: text(body)? },
            b'S' => Self::Sync,
            b'H' => Self::Flush,
            b'X' => return Ok(Self::Terminate),
            b'p' => return Ok(Self::Password(body.split_off(0))),
            b'd' | b'c' | b'f' => return Ok(Self::Copy),
            b'F' => return Ok(Self::FunctionCall),
            _ => return Err(Malformed("there is no message of this kind")),
        };
        if body.has_remaining() {
            return Err(Malformed("a message is longer than what it says"));
        }
        Ok(message)
    }
}

fn bind(body: &mut Bytes) -> Result<Bind, Malformed> {
    let (portal, statement) = (text(body)?, text(body)?);
    let parameter_formats = formats(body)?;
    let count = usize::from(short(body)?);
    if body.remaining() < count * 4 {
        return Err(Malformed("fewer parameters than were counted"));
    }
    let mut parameters = Vec::with_capacity(count);
    for _ in 0..count {
        let length = i32::from_be_bytes(number(body)?.to_be_bytes());
        parameters.push(match usize::try_from(length) {
            Ok(length) if length <= body.remaining() => Some(body.split_to(length)),
            Ok(_) => return Err(Malformed("a parameter is longer than its message")),
            Err(_) if length == -1 => None,
            Err(_) => return Err(Malformed("a parameter has a negative length")),
        });
    }
    Ok(Bind { portal, statement, parameter_formats, parameters, result_formats: formats(body)? })
}

/// Format codes: whether binary.
fn formats(body: &mut Bytes) -> Result<Vec<bool>, Malformed> {
    let count = usize::from(short(body)?);
    if body.remaining() < count * 2 {
        return Err(Malformed("fewer formats than were counted"));
    }
    (0..count)
        .map(|_| match body.get_u16() {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a format is 0 for text or 1 for binary")),
        })
        .collect()
}

fn what(body: &mut Bytes) -> Result<What, Malformed> {
    match body.try_get_u8() {
        Ok(b'S') => Ok(What::Statement),
        Ok(b'P') => Ok(What::Portal),
        _ => Err(Malformed("neither a statement nor a portal is meant")),
    }
}

fn number(body: &mut Bytes) -> Result<u32, Malformed> {
    body.try_get_u32().map_err(|_| Malformed("a message ends early"))
}

fn short(body: &mut Bytes) -> Result<u16, Malformed> {
    body.try_get_u16().map_err(|_| Malformed("a message ends early"))
}

/// Up to a zero byte.
pub(super) fn text(body: &mut Bytes) -> Result<String, Malformed> {
    let end = body.iter().position(|byte| *byte == 0).ok_or(Malformed("a text does not end"))?;
    let text = body.split_to(end);
    body.advance(1);
    String::from_utf8(text.into()).map_err(|_| Malformed("a text is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_meant() {
        let parse = |kind: u8, body: &[u8]| Message::parse(kind, Bytes::copy_from_slice(body));
        assert_eq!(parse(b'Q', b"SELECT 1\0"), Ok(Message::Query("SELECT 1".into())));
        assert_eq!(
            parse(b'P', b"s\0SELECT $1\0\0\x01\0\0\0\x14"),
            Ok(Message::Parse { name: "s".into(), text: "SELECT $1".into(), types: vec![20] })
        );
        let bound = parse(b'B', b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0").expect("read");
        let expected = Bind {
            portal: "p".into(),
            statement: "s".into(),
            parameter_formats: vec![true],
            parameters: vec![Some(Bytes::from_static(b"x")), None],
            result_formats: vec![],
        };
        assert_eq!(bound, Message::Bind(expected));
        assert_eq!(
            parse(b'E', b"\0\xff\xff\xff\xff"),
            Ok(Message::Execute { portal: String::new(), rows_max: usize::MAX })
        );
    }

    #[test]
    fn foreign_bytes_are_errors_and_never_more_memory_than_they_have() {
        for (kind, body) in [
            (b'Q', &b"SELECT 1"[..]),
            (b'Q', b"\xff\0"),
            (b'Q', b"SELECT 1\0more"),
            (b'P', b"s\0SELECT $1\0\xff\xff"),
            (b'B', b"\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe"),
            (b'B', b"\0\0\0\x01\0\x02\0\0"),
            (b'D', b"Xa\0"),
            (b'E', b"\0"),
            (b'?', b""),
        ] {
            assert!(Message::parse(kind, Bytes::copy_from_slice(body)).is_err(), "{kind} {body:?}");
        }
        for body in [&b""[..], b"\0\x03", b"\0\x02\0\0", b"\0\x03\0\0user\0ann", b"\x04\xd2\x16\x2e"] {
            assert!(Opening::parse(Bytes::copy_from_slice(body)).is_err(), "{body:?}");
        }
        let start = Opening::parse(Bytes::from_static(b"\0\x03\0\x02user\0ann\0\0")).expect("read");
        assert_eq!(start, Opening::Start { minor: 2, parameters: vec![("user".into(), "ann".into())] });
    }
}
