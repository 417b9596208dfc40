//! What a request is about: the service, a bucket, or an object, from path and `Host`.
//!
//! Invariant: a [`Target`] holds checked names. The key is the path's bytes after percent-decoding, nothing
//! normalised: `..`, `//` and control characters are part of a key, and no file system ever sees one.

use ashlar_objects::types::{BucketName, ObjectKey};
use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;

use crate::failure::{Code, Failure};

/// The resource that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The list of buckets.
    Service,
    /// A bucket.
    Bucket(BucketName),
    /// An object.
    Object(BucketName, ObjectKey),
}

impl Target {
    pub(crate) fn bucket(&self) -> Option<&BucketName> {
        match self {
            Self::Service => None,
            Self::Bucket(bucket) | Self::Object(bucket, _) => Some(bucket),
        }
    }

    /// Reads path and host. `domains` are those under which buckets have host names of their own.
    pub(crate) fn parse(uri: &Uri, headers: &HeaderMap, domains: &[String]) -> Result<Self, Failure> {
        let path = percent_decode_str(uri.path()).decode_utf8().map_err(|_| {
            Failure::new(Code::InvalidURI, "Couldn't parse the specified URI: it is not UTF-8.")
        })?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        if !domains.is_empty()
            && let Some(bucket) = bucket_of_host(uri, headers, domains)
        {
            let bucket = BucketName::new(&bucket)?;
            return if path.is_empty() {
                Ok(Self::Bucket(bucket))
            } else {
                Ok(Self::Object(bucket, ObjectKey::new(path)?))
            };
        }
        if path.is_empty() {
            return Ok(Self::Service);
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let bucket = BucketName::new(bucket)?;
        if key.is_empty() { Ok(Self::Bucket(bucket)) } else { Ok(Self::Object(bucket, ObjectKey::new(key)?)) }
    }
}

/// The bucket before the domain in the host name, if the host is under one of the domains.
fn bucket_of_host(uri: &Uri, headers: &HeaderMap, domains: &[String]) -> Option<String> {
    let host = match headers.get(http::header::HOST) {
        Some(host) => host.to_str().ok()?,
        None => uri.host()?,
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    domains.iter().find_map(|domain| {
        let bucket = name.strip_suffix(domain.as_str())?.strip_suffix('.')?;
        (!bucket.is_empty()).then(|| bucket.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str, host: &str) -> Result<Target, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().expect("host"));
        Target::parse(&uri.parse().expect("uri"), &headers, &["s3.example.com".to_owned()])
    }

    fn object(bucket: &str, key: &str) -> Target {
        Target::Object(BucketName::new(bucket).expect("bucket"), ObjectKey::new(key).expect("key"))
    }

    #[test]
    fn path_style() {
        assert_eq!(target("/", "localhost:9000").expect("target"), Target::Service);
        let bucket = Target::Bucket(BucketName::new("abc").expect("bucket"));
        assert_eq!(target("/abc", "localhost").expect("target"), bucket);
        assert_eq!(target("/abc/", "127.0.0.1:9000").expect("target"), bucket);
        assert_eq!(target("/abc/k", "s3.example.com").expect("target"), object("abc", "k"));
    }

    #[test]
    fn keys_are_kept_byte_for_byte() {
        for (path, key) in [
            ("/abc/a/../b", "a/../b"),
            ("/abc//a//b/", "/a//b/"),
            ("/abc/a%00b%01%7f", "a\0b\u{1}\u{7f}"),
            ("/abc/%F0%9F%A6%80%20+%2B", "🦀 ++"),
            ("/abc/%2e%2e", ".."),
        ] {
            assert_eq!(target(path, "localhost").expect(path), object("abc", key));
        }
    }

    #[test]
    fn virtual_host_style() {
        assert_eq!(target("/k", "abc.s3.example.com").expect("target"), object("abc", "k"));
        assert_eq!(target("/k", "a.b.c.S3.Example.com:80").expect("target"), object("a.b.c", "k"));
        let bucket = Target::Bucket(BucketName::new("abc").expect("bucket"));
        assert_eq!(target("/", "abc.s3.example.com").expect("target"), bucket);
    }

    #[test]
    fn bad_names_have_their_codes() {
        assert_eq!(target("/A_b/k", "localhost").expect_err("name").code(), "InvalidBucketName");
        assert_eq!(target("/abc/%ff", "localhost").expect_err("text").code(), "InvalidURI");
        let long = format!("/abc/{}", "k".repeat(1025));
        assert_eq!(target(&long, "localhost").expect_err("length").code(), "KeyTooLongError");
    }
}
