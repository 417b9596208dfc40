//! `Range`, `x-amz-copy-source-range` and `partNumber`.
//!
//! Invariant: a `Range` of another unit, of several ranges or malformed is ignored, as S3 does; a copy's
//! range is strict, as S3 is there too.

use ashlar_objects::types::ByteRange;

use crate::failure::{Code, Failure};

/// Reads a `Range` header; `None` where it asks for nothing that a server must honour.
pub(crate) fn parse(text: &str) -> Option<ByteRange> {
    let spec = text.trim().strip_prefix("bytes=")?.trim();
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => Some(ByteRange::Suffix { length: digits(last)? }),
        (false, true) => Some(ByteRange::From { first: digits(first)?, last: None }),
        (false, false) => {
            let (first, last) = (digits(first)?, digits(last)?);
            (first <= last).then_some(ByteRange::From { first, last: Some(last) })
        }
    }
}

/// Digits alone: `u64::from_str` would take a sign.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Reads a copy's range: `bytes=first-last`, both there, inclusive.
pub(crate) fn parse_copy(text: &str) -> Result<(u64, u64), Failure> {
    match parse(text) {
        Some(ByteRange::From { first, last: Some(last) }) => Ok((first, last)),
        _ => Err(Failure::new(
            Code::InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are \
             the zero-based offsets of the first and last bytes to copy",
        )
        .element("ArgumentName", "x-amz-copy-source-range")
        .element("ArgumentValue", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_ignored() {
        assert_eq!(parse("bytes=0-0"), Some(ByteRange::From { first: 0, last: Some(0) }));
        assert_eq!(parse("bytes=5-"), Some(ByteRange::From { first: 5, last: None }));
        assert_eq!(parse("bytes=-7"), Some(ByteRange::Suffix { length: 7 }));
        assert_eq!(
            parse("bytes=0-99999999999999999999999"),
            Some(ByteRange::From { first: 0, last: Some(u64::MAX) })
        );
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "rows=0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(parse(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn copy_ranges_are_strict() {
        assert_eq!(parse_copy("bytes=3-9").expect("range"), (3, 9));
        for bad in ["bytes=3-", "bytes=-3", "3-9", "bytes=9-3", "bytes=0-1,2-3"] {
            assert_eq!(parse_copy(bad).expect_err(bad).code(), "InvalidArgument");
        }
    }
}
