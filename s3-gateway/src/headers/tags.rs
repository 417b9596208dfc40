//! `x-amz-tagging`, and S3's rules for tags wherever they come from.
//!
//! Invariant: what leaves here keeps S3's bounds: at most 10 tags an object and 50 a bucket, keys of 1 to
//! 128 and values of up to 256 characters, no key twice, none that begins with `aws:`.

use std::collections::BTreeMap;

use ashlar_objects::types::Tags;
use http::HeaderMap;

use crate::failure::{Code, Failure};
use crate::headers::text;
use crate::query::Query;

/// Most tags of an object.
pub(crate) const OBJECT_TAGS_MAX: usize = 10;
/// Most tags of a bucket.
pub(crate) const BUCKET_TAGS_MAX: usize = 50;

/// Tags of a new object; `None` where the header is absent.
pub(crate) fn of_header(headers: &HeaderMap) -> Result<Option<Tags>, Failure> {
    let Some(encoded) = text(headers, "x-amz-tagging")? else { return Ok(None) };
    let query = Query::parse(encoded).map_err(|_| {
        Failure::new(Code::InvalidArgument, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
            .element("ArgumentName", "x-amz-tagging")
    })?;
    checked(query.into_pairs(), OBJECT_TAGS_MAX).map(Some)
}

/// Holds pairs to S3's rules.
pub(crate) fn checked(
    pairs: impl IntoIterator<Item = (String, String)>,
    most: usize,
) -> Result<Tags, Failure> {
    let mut tags = BTreeMap::new();
    for (key, value) in pairs {
        let characters = key.chars().count();
        if characters == 0 || characters > 128 {
            return Err(Failure::new(Code::InvalidTag, "The TagKey you have provided is invalid")
                .element("TagKey", key));
        }
        if value.chars().count() > 256 {
            return Err(Failure::new(Code::InvalidTag, "The TagValue you have provided is invalid")
                .element("TagKey", key)
                .element("TagValue", value));
        }
        if key.starts_with("aws:") {
            return Err(Failure::new(Code::InvalidTag, "System tags cannot be added/updated by requester")
                .element("TagKey", key));
        }
        if tags.insert(key, value).is_some() {
            return Err(Failure::new(Code::InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
        if tags.len() > most {
            let code = if most == OBJECT_TAGS_MAX { Code::InvalidTag } else { Code::InvalidRequest };
            return Err(Failure::new(code, format!("There are more than {most} tags")));
        }
    }
    Ok(Tags(tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &str) -> Result<Option<Tags>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-tagging", value.parse().expect("value"));
        of_header(&headers)
    }

    #[test]
    fn tags_are_decoded() {
        let tags = header("a=1&b%20c=d%26e&empty=&bare").expect("tags").expect("some");
        let want = [("a", "1"), ("b c", "d&e"), ("bare", ""), ("empty", "")];
        assert_eq!(tags.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), want);
    }

    #[test]
    fn rules_are_kept() {
        let long_key = "k".repeat(129);
        let long_value = format!("k={}", "v".repeat(257));
        let many = (0..11).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join("&");
        for bad in ["=v", "a=1&a=2", "aws:x=1", &long_key, &long_value, &many] {
            assert_eq!(header(bad).expect_err(bad).code(), "InvalidTag");
        }
        assert_eq!(header("a=%ff").expect_err("not UTF-8").code(), "InvalidArgument");
    }
}
