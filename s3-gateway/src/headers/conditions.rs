//! `If-*` headers: of the object itself, of a copy's source, and S3's own of DELETE.
//!
//! Invariant: a malformed date is ignored, as RFC 9110 §13.1 asks; entity tags are compared as text
//! without quotes, and a weak tag never matches where a strong one is asked.

use ashlar_objects::types::{Conditions, TagMatch};
use http::HeaderMap;

use crate::failure::Failure;
use crate::headers::{number, text, time};

/// Conditions on the object that the request names.
pub(crate) fn of_object(headers: &HeaderMap) -> Result<Conditions, Failure> {
    let mut conditions = Conditions {
        if_match: text(headers, "if-match")?.map(tags),
        if_none_match: text(headers, "if-none-match")?.map(tags),
        ..Conditions::default()
    };
    conditions.if_modified_since = date(headers, "if-modified-since");
    conditions.if_unmodified_since = date(headers, "if-unmodified-since");
    Ok(conditions)
}

/// Conditions on an object to be deleted.
pub(crate) fn of_delete(headers: &HeaderMap) -> Result<Conditions, Failure> {
    let mut conditions = of_object(headers)?;
    conditions.if_match_size = number(headers, "x-amz-if-match-size")?;
    if let Some(at) = text(headers, "x-amz-if-match-last-modified-time")? {
        let seconds = time::parse_date(at).ok_or_else(|| {
            Failure::argument("x-amz-if-match-last-modified-time", "The time is not an HTTP date.")
        })?;
        conditions.if_match_last_modified = Some(seconds);
    }
    Ok(conditions)
}

/// Conditions on the source of a copy.
pub(crate) fn of_copy_source(headers: &HeaderMap) -> Result<Conditions, Failure> {
    Ok(Conditions {
        if_match: text(headers, "x-amz-copy-source-if-match")?.map(tags),
        if_none_match: text(headers, "x-amz-copy-source-if-none-match")?.map(tags),
        if_modified_since: date(headers, "x-amz-copy-source-if-modified-since"),
        if_unmodified_since: date(headers, "x-amz-copy-source-if-unmodified-since"),
        ..Conditions::default()
    })
}

fn date(headers: &HeaderMap, name: &'static str) -> Option<i64> {
    time::parse_date(headers.get(name)?.to_str().ok()?.trim())
}

/// `*`, or a list of entity tags, quoted or (as many clients send them) bare.
pub(crate) fn tags(text: &str) -> TagMatch {
    if text.trim() == "*" {
        return TagMatch::Any;
    }
    let tags = text
        .split(',')
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .map(|tag| tag.strip_prefix("W/").unwrap_or(tag))
        .map(|tag| tag.trim_matches('"').to_owned())
        .collect();
    TagMatch::OneOf(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value")))
            .collect()
    }

    #[test]
    fn tags_are_read_quoted_bare_weak_and_in_lists() {
        assert_eq!(tags("*"), TagMatch::Any);
        let want = TagMatch::OneOf(vec!["abc".into(), "def-2".into(), "x".into()]);
        assert_eq!(tags("\"abc\", def-2 ,W/\"x\","), want);
    }

    #[test]
    fn malformed_dates_are_ignored_and_good_ones_kept() {
        let map = headers(&[
            ("if-modified-since", "Wed, 21 Oct 2015 07:28:00 GMT"),
            ("if-unmodified-since", "tomorrow"),
        ]);
        let conditions = of_object(&map).expect("conditions");
        assert_eq!(conditions.if_modified_since, Some(1_445_412_480));
        assert_eq!(conditions.if_unmodified_since, None);
    }

    #[test]
    fn delete_has_two_more_and_they_are_strict() {
        let map = headers(&[("x-amz-if-match-size", "17")]);
        assert_eq!(of_delete(&map).expect("conditions").if_match_size, Some(17));
        for bad in [("x-amz-if-match-size", "-1"), ("x-amz-if-match-last-modified-time", "soon")] {
            assert_eq!(of_delete(&headers(&[bad])).expect_err("bad").code(), "InvalidArgument");
        }
    }
}
