//! What S3 says in headers, one family a file, translated into the words of `objects` and back.
//!
//! Invariant: these functions read a `HeaderMap` and nothing else. A header that RFC 9110 tells a server to
//! ignore when it is malformed is ignored; any other malformed header is an error, never a default.

pub(crate) mod acl;
pub(crate) mod attributes;
pub(crate) mod checksums;
pub(crate) mod conditions;
pub(crate) mod lifecycle;
pub(crate) mod lock;
pub(crate) mod range;
pub(crate) mod rfc2047;
pub(crate) mod tags;
pub(crate) mod time;
pub(crate) mod unsupported;

use http::HeaderMap;

use crate::failure::Failure;

/// A header's value as text; absent and empty are the same.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Failure> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Failure::argument(name, format!("The header {name} is not text.")))?;
    Ok(Some(text.trim()).filter(|text| !text.is_empty()))
}

/// A header's value as a number.
pub(crate) fn number<T: std::str::FromStr>(
    headers: &HeaderMap,
    name: &'static str,
) -> Result<Option<T>, Failure> {
    text(headers, name)?
        .map(|text| {
            text.parse()
                .map_err(|_| Failure::argument(name, format!("The header {name} is not a number in range.")))
        })
        .transpose()
}
