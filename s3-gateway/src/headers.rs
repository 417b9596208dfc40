//! What S3 says in headers, one family a file, translated into the words of `objects` and back.
//!
//! Invariant: these functions read a `HeaderMap` and nothing else, and what policies are asked about is read by
//! the same ones as what is done. A header that RFC 9110 tells a server to
//! ignore when it is malformed is ignored; any other malformed header is an error, never a default.

pub(crate) mod acl;
pub(crate) mod attributes;
pub(crate) mod checksums;
pub(crate) mod conditions;
pub(crate) mod copy_source;
pub(crate) mod lifecycle;
pub(crate) mod lock;
pub(crate) mod range;
pub(crate) mod rfc2047;
pub(crate) mod tags;
pub(crate) mod time;
pub(crate) mod unsupported;

use ashlar_objects::access::REQUEST_KEYS;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::failure::{Code, Failure};
use crate::query::Query;

/// Makes one line of each header that came in several, joined by commas (RFC 9110 §5.2): whoever reads the
/// first line of a header then reads all of it. User metadata is decoded line by line and stays as it is.
pub(crate) fn join_repeated(headers: &mut HeaderMap) {
    if headers.len() == headers.keys_len() {
        return;
    }
    let is_repeated = |name: &&HeaderName| headers.get_all(*name).iter().nth(1).is_some();
    let joinable = headers.keys().filter(|name| !name.as_str().starts_with(attributes::META));
    let repeated: Vec<HeaderName> = joinable.filter(is_repeated).cloned().collect();
    for name in repeated {
        let lines: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        let joined =
            HeaderValue::from_bytes(&lines.join(&b","[..])).expect("commas are allowed between values");
        headers.insert(name, joined);
    }
}

/// Adds the headers that a presigned URL carries in its query; those that came as headers were signed, too, and
/// count.
pub(crate) fn add_hoisted(headers: &mut HeaderMap, query: &Query) -> Result<(), Failure> {
    let mut hoisted = HeaderMap::new();
    for (name, value) in query.hoisted() {
        let unfit =
            || Failure::new(Code::InvalidArgument, format!("The query parameter {name} cannot be a header."));
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unfit())?;
        hoisted.append(HeaderName::try_from(&name).map_err(|_| unfit())?, value);
    }
    for name in hoisted.keys().filter(|name| !headers.contains_key(*name)).cloned().collect::<Vec<_>>() {
        for value in hoisted.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    Ok(())
}

/// What policies may ask of a request, under the names of [`REQUEST_KEYS`].
pub(crate) fn condition_keys(
    headers: &HeaderMap,
    query: &Query,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut keys = Vec::new();
    for key in REQUEST_KEYS {
        let name = key.strip_prefix("s3:").unwrap_or(key);
        let value = match name {
            "x-amz-copy-source" => {
                copy_source::read(headers)?.map(|source| format!("{}/{}", source.bucket, source.key.as_str()))
            }
            header if header.starts_with("x-amz-") => text(headers, header)?.map(str::to_owned),
            parameter => query.get(parameter).map(str::to_owned),
        };
        keys.extend(value.map(|value| (*key, value)));
    }
    Ok(keys)
}

/// A header's value as text, without white space of ASCII around it; absent and empty are the same.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Failure> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Failure::argument(name, format!("The header {name} is not text.")))?;
    Ok(Some(text.trim_ascii()).filter(|text| !text.is_empty()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_headers_are_one() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-amz-acl", "private"), ("x-amz-acl", "public-read"), ("a", "b")] {
            headers.append(name, value.parse().expect("value"));
        }
        join_repeated(&mut headers);
        assert_eq!(text(&headers, "x-amz-acl").expect("text"), Some("private,public-read"));
        assert_eq!((headers.len(), text(&headers, "a").expect("text")), (2, Some("b")));
    }

    #[test]
    fn only_white_space_of_ascii_is_cut_and_what_is_not_text_is_refused() {
        let one = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-acl", HeaderValue::from_bytes(value).expect("value"));
            text(&headers, "x-amz-acl").map(|text| text.map(str::to_owned))
        };
        assert_eq!(one(b" \tprivate ").expect("text").as_deref(), Some("private"));
        assert_eq!(one("private\u{a0}".as_bytes()).expect("text").as_deref(), Some("private\u{a0}"));
        assert_eq!(one(b" ").expect("text"), None);
        assert_eq!(one(b"\xff").expect_err("no text").code(), "InvalidArgument");
    }
}
