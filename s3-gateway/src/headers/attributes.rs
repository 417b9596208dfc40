//! The headers that S3 keeps with an object, in and out.
//!
//! Invariant: what was stored comes back as it came, except `aws-chunked`, which is the transport's.
//! User metadata beyond ASCII travels as RFC 2047 encoded words.

use ashlar_objects::types::{Attributes, USER_METADATA_BYTES_MAX};
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::failure::{Code, Failure};
use crate::headers::{rfc2047, text};

/// Prefix of user metadata.
pub(crate) const META: &str = "x-amz-meta-";

const STORAGE_CLASSES: [&str; 11] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "GLACIER_IR",
    "SNOW",
    "EXPRESS_ONEZONE",
];

/// Reads what a write stores beside the bytes.
pub(crate) fn read(headers: &HeaderMap) -> Result<Attributes, Failure> {
    let owned = |name| text(headers, name).map(|value| value.map(str::to_owned));
    let mut attributes = Attributes {
        content_type: owned("content-type")?,
        cache_control: owned("cache-control")?,
        content_disposition: owned("content-disposition")?,
        content_encoding: text(headers, "content-encoding")?.and_then(without_transport),
        content_language: owned("content-language")?,
        expires: owned("expires")?,
        website_redirect: owned("x-amz-website-redirect-location")?,
        storage_class: owned("x-amz-storage-class")?,
        ..Attributes::default()
    };
    if let Some(class) = &attributes.storage_class {
        check_storage_class(class)?;
    }
    let mut bytes = 0;
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(META).filter(|key| !key.is_empty()) else { continue };
        // A name given twice is one value joined by commas, as RFC 9110 has it.
        let values: Vec<String> =
            headers.get_all(name).iter().map(|value| rfc2047::decode(value.as_bytes())).collect();
        let value = values.join(",");
        bytes += key.len() + value.len();
        attributes.user.insert(key.to_owned(), value);
    }
    if bytes > USER_METADATA_BYTES_MAX {
        return Err(ashlar_objects::error::Error::MetadataTooLarge { limit: USER_METADATA_BYTES_MAX }.into());
    }
    Ok(attributes)
}

/// S3's storage classes; all are kept and served alike here.
pub(crate) fn check_storage_class(class: &str) -> Result<(), Failure> {
    if STORAGE_CLASSES.contains(&class) {
        return Ok(());
    }
    Err(Failure::new(Code::InvalidStorageClass, "The storage class you specified is not valid")
        .element("StorageClassRequested", class))
}

/// `Content-Encoding` without the transport's `aws-chunked`.
fn without_transport(value: &str) -> Option<String> {
    if !value.to_ascii_lowercase().contains("aws-chunked") {
        return Some(value.to_owned());
    }
    let kept: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// Writes the stored attributes into an answer. A value that no header can carry is written as an encoded
/// word or, where it is not the client's own text, left out.
pub(crate) fn write(headers: &mut HeaderMap, attributes: &Attributes) {
    let mut put = |name: HeaderName, value: &Option<String>| {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok())
        {
            headers.insert(name, value);
        }
    };
    put(CACHE_CONTROL, &attributes.cache_control);
    put(CONTENT_DISPOSITION, &attributes.content_disposition);
    put(CONTENT_ENCODING, &attributes.content_encoding);
    put(CONTENT_LANGUAGE, &attributes.content_language);
    put(EXPIRES, &attributes.expires);
    put(HeaderName::from_static("x-amz-website-redirect-location"), &attributes.website_redirect);
    if attributes.storage_class.as_deref() != Some("STANDARD") {
        put(HeaderName::from_static("x-amz-storage-class"), &attributes.storage_class);
    }
    let content_type = attributes
        .content_type
        .as_deref()
        .and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok())
        .unwrap_or(HeaderValue::from_static("binary/octet-stream"));
    headers.insert(CONTENT_TYPE, content_type);
    let mut missing = 0_u32;
    for (key, value) in &attributes.user {
        let name = HeaderName::try_from(format!("{META}{key}"));
        let value = HeaderValue::try_from(rfc2047::encode(value).as_ref());
        match (name, value) {
            (Ok(name), Ok(value)) => {
                headers.insert(name, value);
            }
            _ => missing += 1,
        }
    }
    if missing > 0 {
        headers.insert("x-amz-missing-meta", HeaderValue::from(missing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_comes_back() {
        let mut given = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-encoding", "gzip, aws-chunked"),
            ("cache-control", "max-age=3"),
            ("expires", "whenever I like"),
            ("x-amz-meta-a", "=?UTF-8?B?w6k=?="),
            ("x-amz-meta-b", "plain"),
        ] {
            given.append(name, value.parse().expect("value"));
        }
        given.append("x-amz-meta-b", "twice".parse().expect("value"));
        let attributes = read(&given).expect("attributes");
        assert_eq!(attributes.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(attributes.user["a"], "é");
        assert_eq!(attributes.user["b"], "plain,twice");
        let mut answer = HeaderMap::new();
        write(&mut answer, &attributes);
        assert_eq!(answer["content-type"], "text/plain");
        assert_eq!(answer["expires"], "whenever I like");
        assert_eq!(answer["x-amz-meta-a"], "=?UTF-8?B?w6k=?=");
    }

    #[test]
    fn the_transport_is_no_encoding() {
        assert_eq!(without_transport("aws-chunked"), None);
        assert_eq!(without_transport("deflate,gzip").as_deref(), Some("deflate,gzip"));
        assert_eq!(without_transport("AWS-chunked,zstd"), Some("zstd".to_owned()));
    }

    #[test]
    fn metadata_is_bounded_and_classes_are_known() {
        let mut given = HeaderMap::new();
        given.insert("x-amz-meta-big", "x".repeat(USER_METADATA_BYTES_MAX).parse().expect("value"));
        assert_eq!(read(&given).expect_err("too large").code(), "MetadataTooLarge");
        let mut given = HeaderMap::new();
        given.insert("x-amz-storage-class", "CHEAP".parse().expect("value"));
        assert_eq!(read(&given).expect_err("class").code(), "InvalidStorageClass");
    }
}
