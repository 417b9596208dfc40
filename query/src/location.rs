//! Where a table's bytes lie: `s3://bucket/key`, `s3://bucket/prefix/`, or a pattern.
//!
//! Invariant: a location names objects of this store and nothing else; there is no way to write down a file, a
//! host or another store. Deliberately reads no objects.

mod glob;

use std::fmt;

use ashlar_objects::types::{BucketName, ObjectKey};

pub use self::glob::{Glob, GlobError};
use crate::error::SqlError;

/// Longest location, in bytes.
const LOCATION_BYTES_MAX: usize = 4096;

/// A location, parsed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The bucket.
    pub bucket: BucketName,
    /// Which of its objects.
    pub keys: Keys,
}

/// Which objects of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Keys {
    /// One, by its key.
    One(ObjectKey),
    /// Those below a prefix, which is empty or ends with a slash. Names that begin with `_` or `.` are left out.
    Below(String),
    /// Those that match.
    Matching(Glob),
}

impl Location {
    /// Reads `s3://bucket/…`.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        if text.len() > LOCATION_BYTES_MAX {
            return Err(SqlError::invalid(format!("a location has at most {LOCATION_BYTES_MAX} bytes")));
        }
        let rest = text.strip_prefix("s3://").ok_or_else(|| {
            SqlError::invalid(format!("{text:?} is not a location of this store"))
                .hint("write it as s3://bucket/key, s3://bucket/prefix/ or s3://bucket/prefix/*.parquet")
        })?;
        let (bucket, keys) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = BucketName::new(bucket).map_err(|e| SqlError::invalid(format!("{text:?}: {e}")))?;
        let keys = if Glob::is_pattern(keys) {
            Keys::Matching(Glob::parse(keys).map_err(|e| SqlError::invalid(format!("{text:?}: {e}")))?)
        } else if keys.is_empty() || keys.ends_with('/') {
            Keys::Below(keys.to_owned())
        } else {
            Keys::One(ObjectKey::new(keys).map_err(|e| SqlError::invalid(format!("{text:?}: {e}")))?)
        };
        Ok(Self { bucket, keys })
    }

    /// What every key of it begins with.
    pub fn prefix(&self) -> &str {
        match &self.keys {
            Keys::One(key) => key.as_str(),
            Keys::Below(prefix) => prefix,
            Keys::Matching(glob) => glob.prefix(),
        }
    }

    /// Whether a key that begins with the prefix is meant.
    pub fn wants(&self, key: &str) -> bool {
        match &self.keys {
            Keys::One(one) => one.as_str() == key,
            Keys::Below(prefix) => key
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| !rest.is_empty() && !rest.ends_with('/') && !is_hidden(rest)),
            Keys::Matching(glob) => !key.ends_with('/') && glob.matches(key),
        }
    }

    /// The part of a key in which `name=value` folders are looked for.
    pub fn folders_of<'k>(&self, key: &'k str) -> &'k str {
        let prefix = self.prefix();
        // A pattern's fixed part may end within a folder's name, which is then looked at whole.
        let start = prefix.rfind('/').map_or(0, |slash| slash + 1);
        let rest = key.get(start..).unwrap_or_default();
        rest.rfind('/').map_or("", |last| &rest[..last])
    }

    /// Whether new objects can be put below it.
    pub fn folder(&self) -> Option<&str> {
        match &self.keys {
            Keys::Below(prefix) => Some(prefix),
            Keys::One(_) | Keys::Matching(_) => None,
        }
    }
}

/// Bookkeeping of writers, as Hive and Spark have it; `_x=1` is a partition all the same.
fn is_hidden(rest: &str) -> bool {
    rest.split('/').any(|name| name.starts_with('.') || (name.starts_with('_') && !name.contains('=')))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match &self.keys {
            Keys::One(key) => key.as_str(),
            Keys::Below(prefix) => prefix,
            Keys::Matching(glob) => glob.as_str(),
        };
        write!(f, "s3://{}/{keys}", self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_store_can_be_named() {
        for text in
            ["file:///etc/passwd", "http://a/b", "/etc/passwd", "s3:/b/k", "S3://b/k", "s3://", "s3://A_B/k"]
        {
            assert!(Location::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_below_a_prefix_leaves_bookkeeping_out() {
        let below = Location::parse("s3://bucket/a/").unwrap();
        assert!(below.wants("a/x.parquet") && below.wants("a/_p=1/x.parquet") && below.wants("a/b/c"));
        for key in ["a/", "a/b/", "a/_SUCCESS", "a/_log/1.json", "a/.x", "b/x"] {
            assert!(!below.wants(key), "{key}");
        }
        assert_eq!(below.to_string(), "s3://bucket/a/");
    }

    #[test]
    fn folders_of_a_key_are_what_partitions_are_read_from() {
        let below = Location::parse("s3://bucket/a/").unwrap();
        assert_eq!(below.folders_of("a/y=1/m=2/x.csv"), "y=1/m=2");
        let pattern = Location::parse("s3://bucket/a/y=*/x.csv").unwrap();
        assert_eq!(pattern.folders_of("a/y=1/x.csv"), "y=1");
        assert_eq!(Location::parse("s3://bucket/a/y=1/x.csv").unwrap().folders_of("a/y=1/x.csv"), "");
    }
}
