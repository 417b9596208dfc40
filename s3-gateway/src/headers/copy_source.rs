//! `x-amz-copy-source`: what a copy reads, for the copy itself, for policies, and for who expects whose bucket.
//!
//! Invariant: all three are told the same bucket, key and version, because there is one reader.

use ashlar_objects::requests::ObjectName;
use http::HeaderMap;
use s3s::dto::CopySource;

use crate::failure::Failure;
use crate::headers::text;
use crate::ops::object;

const NAME: &str = "x-amz-copy-source";

/// The source, where the request has one.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<ObjectName>, Failure> {
    let Some(text) = text(headers, NAME)? else { return Ok(None) };
    let invalid = |_| {
        Failure::argument(NAME, "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
    };
    match CopySource::parse(text).map_err(invalid)? {
        CopySource::Bucket { bucket, key, version_id } => {
            object(&bucket, &key, version_id.as_deref()).map(Some)
        }
        CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => {
            Err(Failure::not_implemented("A copy source that is an access point or outpost"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<Option<ObjectName>, Failure> {
        read(&[(NAME.parse().expect("name"), value.parse().expect("value"))].into_iter().collect())
    }

    #[test]
    fn sources_are_decoded_once() {
        for source in ["/abc/a%20b/c", "abc/a%20b/c", "abc%2Fa b/c"] {
            let name = of(source).expect("source").expect("some");
            assert_eq!((name.bucket.as_str(), name.key.as_str()), ("abc", "a b/c"), "{source}");
        }
        let name = of("//abc/k?versionId=null").map(|_| ());
        assert!(name.is_err(), "one slash is the header's");
        assert_eq!(
            of("abc/k?versionId=null").expect("source").expect("some").version.map(|v| v.to_string()),
            Some("null".into())
        );
        for bad in ["abc", "abc/", "/", "%ff/k"] {
            assert_eq!(of(bad).expect_err(bad).status(), http::StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
